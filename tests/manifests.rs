//! What `manifests/` may and may not ask of a cluster, and that `install.yaml` is what the separate files say.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}

/// The documents of one file. A doubled key is an error.
fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("parse {}: {e}", path.display()))
}

/// The objects that the kustomization applies, in its order.
fn shipped() -> Vec<Value> {
    let list = &documents(&manifests().join("kustomization.yaml"))[0]["resources"];
    let files = list.as_array().expect("a list of files");
    files.iter().flat_map(|file| documents(&manifests().join(file.as_str().expect("a file name")))).collect()
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn name(object: &Value) -> String {
    let place = [text(object, "/kind"), text(object, "/metadata/namespace"), text(object, "/metadata/name")];
    place.join(" ")
}

fn words(list: &Value) -> String {
    let words = list.as_array().map(Vec::as_slice).unwrap_or_default();
    words.iter().map(|word| word.as_str().expect("a word")).collect::<Vec<_>>().join(",")
}

/// What is shipped for one of the two workloads.
fn of(component: &str) -> Vec<Value> {
    let label = "/metadata/labels/app.kubernetes.io~1component";
    shipped().into_iter().filter(|object| text(object, label) == component).collect()
}

/// Every right of the roles among `objects`, one line each: where, group/resource, the names it is limited to, verbs.
fn rights(objects: &[Value]) -> BTreeSet<String> {
    let mut rights = BTreeSet::new();
    for role in objects.iter().filter(|o| text(o, "/kind").ends_with("Role")) {
        let namespace = match text(role, "/kind") {
            "ClusterRole" => "*",
            _ => text(role, "/metadata/namespace"),
        };
        for rule in role["rules"].as_array().expect("rules") {
            let (groups, resources) = (words(&rule["apiGroups"]), words(&rule["resources"]));
            let (names, verbs) = (words(&rule["resourceNames"]), words(&rule["verbs"]));
            rights.insert(format!("{namespace}: {groups}/{resources}[{names}] {verbs}"));
        }
    }
    rights
}

fn agent_pod() -> Value {
    let shipped = shipped();
    let set = shipped.iter().find(|o| text(o, "/kind") == "DaemonSet").expect("a DaemonSet");
    set["spec"]["template"]["spec"].clone()
}

#[test]
fn install_yaml_holds_the_very_objects_of_the_kustomization() {
    assert_eq!(documents(&manifests().join("install.yaml")), shipped());
}

#[test]
fn nothing_is_shipped_besides_the_two_workloads_and_their_rights() {
    let names: Vec<_> = shipped().iter().map(name).collect();
    let expected = [
        "Namespace  k3s-registry-agent",
        "ServiceAccount k3s-registry-agent agent",
        "ServiceAccount k3s-registry-agent coordinator",
        "ClusterRole  k3s-registry-agent:agent",
        "ClusterRoleBinding  k3s-registry-agent:agent",
        "Role k3s-registry-agent agent",
        "RoleBinding k3s-registry-agent agent",
        "Role default k3s-registry-agent:agent",
        "RoleBinding default k3s-registry-agent:agent",
        "Role kube-node-lease k3s-registry-agent:agent",
        "RoleBinding kube-node-lease k3s-registry-agent:agent",
        "ClusterRole  k3s-registry-agent:coordinator",
        "ClusterRoleBinding  k3s-registry-agent:coordinator",
        "Role k3s-registry-agent coordinator",
        "RoleBinding k3s-registry-agent coordinator",
        "Role default k3s-registry-agent:coordinator",
        "RoleBinding default k3s-registry-agent:coordinator",
        "ValidatingAdmissionPolicy  k3s-registry-agent-agent-nodes",
        "ValidatingAdmissionPolicyBinding  k3s-registry-agent-agent-nodes",
        "ValidatingAdmissionPolicy  k3s-registry-agent-agent-events",
        "ValidatingAdmissionPolicyBinding  k3s-registry-agent-agent-events",
        "ValidatingAdmissionPolicy  k3s-registry-agent-coordinator-nodes",
        "ValidatingAdmissionPolicyBinding  k3s-registry-agent-coordinator-nodes",
        "ValidatingAdmissionPolicy  k3s-registry-agent-coordinator-lease",
        "ValidatingAdmissionPolicyBinding  k3s-registry-agent-coordinator-lease",
        "Lease k3s-registry-agent k3s-registry-agent-coordinator",
        "DaemonSet k3s-registry-agent agent",
        "Deployment k3s-registry-agent coordinator",
    ];
    // A ConfigMap above all: without one nothing on a node is touched.
    assert_eq!(names, expected);
}

#[test]
fn the_agent_has_the_rights_that_were_designed_and_no_other() {
    let expected = [
        "*: /nodes[] get,list,watch,patch",
        "k3s-registry-agent: /configmaps[] get,list,watch",
        "k3s-registry-agent: /secrets[] get,list,watch",
        "k3s-registry-agent: coordination.k8s.io/leases[k3s-registry-agent-coordinator] get",
        "default: discovery.k8s.io/endpointslices[kubernetes] get",
        "default: events.k8s.io/events[] create",
        "kube-node-lease: coordination.k8s.io/leases[] get,watch",
    ];
    assert_eq!(rights(&of("agent")), expected.map(String::from).into());
}

#[test]
fn the_coordinator_has_the_rights_that_were_designed_and_sees_no_secret() {
    let expected = [
        "*: /nodes[] get,list,watch,patch",
        "k3s-registry-agent: /configmaps[registries] get,watch",
        "k3s-registry-agent: /pods[] list,watch",
        "k3s-registry-agent: coordination.k8s.io/leases[k3s-registry-agent-coordinator] get,patch",
        "default: discovery.k8s.io/endpointslices[kubernetes] get",
    ];
    assert_eq!(rights(&of("coordinator")), expected.map(String::from).into());
}

/// What an admission policy may look at, and what lets everybody else go.
struct Judged {
    who: &'static str,
    resource: &'static str,
    names: Value,
    operations: Value,
}

/// Each policy that is shipped. Kubelets write the status of Nodes (a resource of its own), their own Leases and Events,
/// and now and then their Node: of all that only the last two are looked at, and let go by name.
fn judged(policy: &str) -> Judged {
    let update = serde_json::json!(["UPDATE"]);
    let (none, lease) = (Value::Null, serde_json::json!(["k3s-registry-agent-coordinator"]));
    match policy {
        "k3s-registry-agent-agent-nodes" => {
            Judged { who: "agent", resource: "/nodes", names: none, operations: update }
        }
        "k3s-registry-agent-agent-events" => Judged {
            who: "agent",
            resource: "events.k8s.io/events",
            names: none,
            operations: serde_json::json!(["CREATE"]),
        },
        "k3s-registry-agent-coordinator-nodes" => {
            Judged { who: "coordinator", resource: "/nodes", names: none, operations: update }
        }
        "k3s-registry-agent-coordinator-lease" => {
            Judged { who: "coordinator", resource: "coordination.k8s.io/leases", names: lease, operations: update }
        }
        other => panic!("{other} is not known here"),
    }
}

#[test]
fn an_admission_policy_judges_one_of_our_tokens_and_lets_everybody_else_go() {
    let shipped = shipped();
    let policies = shipped.iter().filter(|o| text(o, "/kind") == "ValidatingAdmissionPolicy");
    let mut count = 0;
    for policy in policies {
        count += 1;
        let id = text(policy, "/metadata/name");
        let Judged { who, resource, names, operations } = judged(id);
        let spec = &policy["spec"];
        assert_eq!(policy["apiVersion"], "admissionregistration.k8s.io/v1", "{id}");
        assert_eq!(spec["failurePolicy"], "Fail", "{id}");
        let rules = spec["matchConstraints"]["resourceRules"].as_array().expect("rules");
        assert_eq!(rules.len(), 1, "{id}");
        assert_eq!(format!("{}/{}", words(&rules[0]["apiGroups"]), words(&rules[0]["resources"])), resource, "{id}");
        assert_eq!(rules[0]["operations"], operations, "{id}");
        assert_eq!(rules[0].get("resourceNames").unwrap_or(&Value::Null), &names, "{id}");
        let user = format!("system:serviceaccount:k3s-registry-agent:{who}");
        let condition = format!("has(request.userInfo.username) && request.userInfo.username == '{user}'");
        let conditions = spec["matchConditions"].as_array().expect("conditions");
        // A condition that could break would, by failurePolicy, refuse the write of a kubelet.
        assert_eq!(conditions.len(), 1, "{id}");
        assert_eq!(conditions[0]["expression"], condition, "{id}");
        let binding = shipped
            .iter()
            .find(|o| text(o, "/kind") == "ValidatingAdmissionPolicyBinding" && text(o, "/spec/policyName") == id)
            .unwrap_or_else(|| panic!("{id} is bound"));
        assert_eq!(binding["spec"]["validationActions"], serde_json::json!(["Deny"]), "{id}");
        assert_eq!(binding["spec"].get("matchResources"), None, "{id}");
    }
    assert_eq!(count, 4);
}

#[test]
fn an_agent_may_write_the_annotations_that_its_telling_writes_and_no_other() {
    use agent_core::node::annotations::{Phase, Told};
    let told = Told {
        phase: Phase::Current,
        reason: String::new(),
        since: "1970-01-01T00:00:00Z".parse().expect("a time"),
        revision: None,
        failed: None,
        wanted: None,
        answered: None,
    };
    let shipped = shipped();
    let policy = shipped
        .iter()
        .find(|o| name(o) == "ValidatingAdmissionPolicy  k3s-registry-agent-agent-nodes")
        .expect("the policy");
    let variables = policy["spec"]["variables"].as_array().expect("variables");
    let own = variables.iter().find(|variable| variable["name"] == "own").expect("own");
    let listed: BTreeSet<_> = text(own, "/expression").split('\'').filter(|part| part.contains('/')).collect();
    let told = told.annotations();
    assert_eq!(listed, told.keys().map(String::as_str).collect());
}

#[test]
fn the_example_role_opens_one_secret_by_name_for_reading() {
    let objects = documents(&manifests().join("examples/secret-in-another-namespace.yaml"));
    let expected = ["honeydue: /secrets[gitea-credentials] get,watch"];
    assert_eq!(rights(&objects), expected.map(String::from).into());
}

#[test]
fn every_binding_gives_a_role_that_exists_to_one_workload_alone() {
    let mut objects = shipped();
    objects.extend(documents(&manifests().join("examples/secret-in-another-namespace.yaml")));
    let names: BTreeSet<_> = objects.iter().map(name).collect();
    let bindings: Vec<_> = objects.iter().filter(|o| text(o, "/kind").ends_with("RoleBinding")).collect();
    assert_eq!(bindings.len(), 8);
    for binding in bindings {
        let namespace = text(binding, "/metadata/namespace");
        let role = format!("{} {namespace} {}", text(binding, "/roleRef/kind"), text(binding, "/roleRef/name"));
        assert!(names.contains(&role), "{} names {role}", name(binding));
        let who = match text(binding, "/metadata/labels/app.kubernetes.io~1component") {
            // The example's.
            "" => "agent",
            component => component,
        };
        let subjects = serde_json::json!([
            {"kind": "ServiceAccount", "name": who, "namespace": "k3s-registry-agent"}
        ]);
        assert!(text(binding, "/roleRef/name").ends_with(who) || namespace == "honeydue", "{}", name(binding));
        assert_eq!(binding["subjects"], subjects, "{}", name(binding));
    }
}

#[test]
fn every_rule_is_preceded_by_the_call_that_needs_it() {
    for file in ["rbac-agent.yaml", "rbac-coordinator.yaml", "examples/secret-in-another-namespace.yaml"] {
        let text = fs::read_to_string(manifests().join(file)).expect("the file");
        let lines: Vec<_> = text.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.trim_start().starts_with("- apiGroups:")) {
            assert!(lines[at - 1].trim_start().starts_with('#'), "{file}:{}: {line} has no comment", at + 1);
        }
    }
}

#[test]
fn the_agent_sees_the_host_as_containerd_does() {
    let pod = agent_pod();
    for (pointer, expected) in [
        ("/hostPID", serde_json::json!(true)),
        ("/hostNetwork", serde_json::json!(true)),
        ("/dnsPolicy", serde_json::json!("Default")),
        ("/serviceAccountName", serde_json::json!("agent")),
        ("/automountServiceAccountToken", serde_json::json!(true)),
        ("/containers/0/args", serde_json::json!(["agent", "--root", "/proc/1/root", "--service", "auto"])),
        ("/containers/0/env/0/name", serde_json::json!("NODE_NAME")),
        ("/containers/0/env/0/valueFrom/fieldRef/fieldPath", serde_json::json!("spec.nodeName")),
    ] {
        assert_eq!(pod.pointer(pointer), Some(&expected), "{pointer}");
    }
    // The host is reached through PID 1: a mount of it would only hold its file systems busy.
    assert_eq!(pod.get("volumes"), None);
    assert_eq!(pod.get("hostIPC"), None);
}

#[test]
fn the_agent_runs_on_every_linux_node_that_is_not_excluded() {
    let pod = agent_pod();
    assert_eq!(pod["tolerations"], serde_json::json!([{"operator": "Exists"}]));
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    assert_eq!(pod["nodeSelector"], serde_json::json!({"kubernetes.io/os": "linux"}));
    let terms = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let exclude = serde_json::json!([
        {"matchExpressions": [{"key": "k3s-registry-agent/exclude", "operator": "NotIn", "values": ["true"]}]}
    ]);
    assert_eq!(pod.pointer(terms), Some(&exclude));
}

#[test]
fn one_container_is_privileged_and_cannot_write_its_own_root() {
    let pod = agent_pod();
    assert_eq!(pod["containers"].as_array().map(Vec::len), Some(1));
    assert_eq!(pod.get("initContainers"), None);
    let expected =
        serde_json::json!({"privileged": true, "readOnlyRootFilesystem": true, "runAsUser": 0, "runAsGroup": 0});
    assert_eq!(pod["containers"][0]["securityContext"], expected);
}

#[test]
fn the_agent_is_bounded_in_memory_and_never_throttled() {
    let resources = &agent_pod()["containers"][0]["resources"];
    assert_eq!(resources["requests"], serde_json::json!({"cpu": "5m", "memory": "16Mi"}));
    assert_eq!(resources["limits"], serde_json::json!({"memory": "256Mi"}));
}

#[test]
fn the_probes_ask_the_loopback_address_only() {
    let container = &agent_pod()["containers"][0];
    for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        let expected = serde_json::json!({"host": "127.0.0.1", "port": 9617, "path": path});
        assert_eq!(container[probe]["httpGet"], expected, "{probe}");
    }
    assert_eq!(container.get("ports"), None);
}

#[test]
fn a_held_turn_is_finished_before_the_agent_is_replaced() {
    let shipped = shipped();
    let set = shipped.iter().find(|o| text(o, "/kind") == "DaemonSet").expect("a DaemonSet");
    let update = serde_json::json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}});
    assert_eq!(set["spec"]["updateStrategy"], update);
    assert_eq!(set["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], 600);
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&set["spec"]["selector"]["matchLabels"], labels);
}

#[test]
fn the_image_is_the_one_that_image_sh_makes_and_is_not_pulled_when_there() {
    let container = &agent_pod()["containers"][0];
    assert_eq!(container["image"], format!("localhost/k3s-registry-agent:{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
}

fn coordinator() -> Value {
    let shipped = shipped();
    shipped.into_iter().find(|o| text(o, "/kind") == "Deployment").expect("a Deployment")["spec"].clone()
}

#[test]
fn the_coordinator_has_no_privilege_and_nothing_of_its_host() {
    let pod = coordinator()["template"]["spec"].clone();
    for absent in ["hostPID", "hostNetwork", "hostIPC", "volumes", "initContainers"] {
        assert_eq!(pod.get(absent), None, "{absent}");
    }
    assert_eq!(pod["serviceAccountName"], "coordinator");
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let expected = serde_json::json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}
    });
    assert_eq!(pod["containers"].as_array().map(Vec::len), Some(1));
    assert_eq!(pod["containers"][0]["securityContext"], expected);
}

#[test]
fn one_coordinator_replaces_the_other_and_runs_beside_any_agent() {
    let deployment = coordinator();
    assert_eq!((&deployment["replicas"], &deployment["strategy"]["type"]), (&1.into(), &"Recreate".into()));
    assert_eq!(&deployment["selector"]["matchLabels"], &deployment["template"]["metadata"]["labels"]);
    let pod = &deployment["template"]["spec"];
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
    let container = &pod["containers"][0];
    assert_eq!(container["image"], agent_pod()["containers"][0]["image"]);
    assert_eq!(container["args"], serde_json::json!(["coordinator", "--listen", "[::]:9617"]));
    assert_eq!(container["resources"]["limits"], serde_json::json!({"memory": "64Mi"}));
    for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"], serde_json::json!({"port": 9617, "path": path}), "{probe}");
    }
}

#[test]
fn the_lease_is_shipped_without_a_holder() {
    let shipped = shipped();
    let lease = shipped.iter().find(|o| text(o, "/kind") == "Lease").expect("a Lease");
    // With a spec, applying the manifests again would take it from its holder.
    assert_eq!((lease.get("spec"), lease["metadata"].get("annotations")), (None, None));
    let named =
        rights(&shipped).into_iter().any(|right| right.contains("leases[k3s-registry-agent-coordinator] get,patch"));
    assert!(named, "the coordinator's right names it");
}

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
fn nothing_is_shipped_besides_the_agent_and_its_rights() {
    let names: Vec<_> = shipped().iter().map(name).collect();
    let expected = [
        "Namespace  k3s-registry-agent",
        "ServiceAccount k3s-registry-agent agent",
        "ClusterRole  k3s-registry-agent:agent",
        "ClusterRoleBinding  k3s-registry-agent:agent",
        "Role k3s-registry-agent agent",
        "RoleBinding k3s-registry-agent agent",
        "Role default k3s-registry-agent:agent",
        "RoleBinding default k3s-registry-agent:agent",
        "Role kube-node-lease k3s-registry-agent:agent",
        "RoleBinding kube-node-lease k3s-registry-agent:agent",
        "DaemonSet k3s-registry-agent agent",
    ];
    // A ConfigMap above all: without one nothing on a node is touched.
    assert_eq!(names, expected);
}

#[test]
fn the_agent_has_the_rights_that_were_designed_and_no_other() {
    let expected = [
        "*: /nodes[] get,watch,patch",
        "k3s-registry-agent: /configmaps[] get,list,watch",
        "k3s-registry-agent: /secrets[] get,list,watch",
        "k3s-registry-agent: coordination.k8s.io/leases[k3s-registry-agent-coordinator] get",
        "default: discovery.k8s.io/endpointslices[kubernetes] get",
        "default: events.k8s.io/events[] create,patch",
        "kube-node-lease: coordination.k8s.io/leases[] get,watch",
    ];
    assert_eq!(rights(&shipped()), expected.map(String::from).into());
}

#[test]
fn the_example_role_opens_one_secret_by_name_for_reading() {
    let objects = documents(&manifests().join("examples/secret-in-another-namespace.yaml"));
    let expected = ["honeydue: /secrets[gitea-credentials] get,watch"];
    assert_eq!(rights(&objects), expected.map(String::from).into());
}

#[test]
fn every_binding_gives_a_role_that_exists_to_the_agent_alone() {
    let mut objects = shipped();
    objects.extend(documents(&manifests().join("examples/secret-in-another-namespace.yaml")));
    let names: BTreeSet<_> = objects.iter().map(name).collect();
    let bindings: Vec<_> = objects.iter().filter(|o| text(o, "/kind").ends_with("Binding")).collect();
    assert_eq!(bindings.len(), 5);
    for binding in bindings {
        let namespace = text(binding, "/metadata/namespace");
        let role = format!("{} {namespace} {}", text(binding, "/roleRef/kind"), text(binding, "/roleRef/name"));
        assert!(names.contains(&role), "{} names {role}", name(binding));
        let subjects = serde_json::json!([
            {"kind": "ServiceAccount", "name": "agent", "namespace": "k3s-registry-agent"}
        ]);
        assert_eq!(binding["subjects"], subjects, "{}", name(binding));
    }
}

#[test]
fn every_rule_is_preceded_by_the_call_that_needs_it() {
    for file in ["rbac-agent.yaml", "examples/secret-in-another-namespace.yaml"] {
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
    assert_eq!(resources["limits"], serde_json::json!({"memory": "32Mi"}));
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

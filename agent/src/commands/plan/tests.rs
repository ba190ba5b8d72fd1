use std::sync::Arc;

use agent_core::inputs::NAMESPACE;
use agent_core::node::annotations::NodeSeen as Annotated;

use super::*;
use crate::cluster::fake::{Answer as Reply, Counts, Fake};
use crate::cluster::operator::LEASE;
use crate::commands::session;
use crate::host::{Host, ServiceChoice};

const OURS: &str = "/api/v1/namespaces/k3s-registry-agent";
const CANARY: &str = "canary-hunter2";

fn node(fake: &Fake, name: &str, revision: &str, labels: Value) {
    let annotations = json!({"k3s-registry-agent/phase": "Current", "k3s-registry-agent/revision": revision});
    fake.put(
        &format!("/api/v1/nodes/{name}"),
        json!({"metadata": {"annotations": annotations, "labels": labels},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
    );
    fake.put(
        &format!("{OURS}/pods/agent-{name}"),
        json!({"metadata": {"labels": {"app.kubernetes.io/component": "agent"}}, "spec": {"nodeName": name},
            "status": {"phase": "Running"}}),
    );
}

fn lease() -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/k3s-registry-agent/leases/{LEASE}")
}

fn inputs(fake: &Fake, registries: &str, policy: &str) {
    fake.put(
        &format!("{OURS}/configmaps/registries"),
        json!({"data": {"registries.yaml": registries, "policy.yaml": format!("version: 1\n{policy}")}}),
    );
}

const MIRROR: &str = "mirrors: {docker.io: {endpoint: [\"https://m.example\"]}}\n";

/// A server and three workers, which have an older revision, and a Secret.
fn given() -> (Fake, Cluster) {
    let fake = Fake::default();
    let cluster = fake.cluster(Arc::new(Counts::default()));
    fake.put(&lease(), json!({}));
    inputs(&fake, MIRROR, "");
    fake.put(
        &format!("{OURS}/secrets/login"),
        json!({"metadata": {"annotations": {"k3s-registry-agent/host": "m.example"}}, "type": "kubernetes.io/basic-auth",
            "data": {"username": "dQ==", "password": "Y2FuYXJ5LWh1bnRlcjI="}}),
    );
    node(&fake, "s1", "0123456789ab", json!({"node-role.kubernetes.io/control-plane": "true"}));
    for name in ["w1", "w2", "w3"] {
        node(&fake, name, "0123456789ab", json!({}));
    }
    (fake, cluster)
}

async fn planned(cluster: &Cluster) -> Answer {
    of_cluster(cluster, Timestamp::UNIX_EPOCH).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_revision_is_the_one_that_a_node_makes_and_the_turns_come_in_order() {
    let (fake, cluster) = given();
    let answer = planned(&cluster).await;
    let wanted = answer.json["wanted"].as_str().unwrap().to_owned();
    assert_eq!((answer.code, &answer.json["turns"]), (Code::Done, &json!([["w1"], ["s1"], ["w2"], ["w3"]])));
    assert_eq!((&answer.json["restartsAtMost"], &answer.json["durationSeconds"]), (&json!(4), &Value::Null));
    let text = &answer.text;
    for part in ["have it    none\n", "turn 2     s1\n", "restarts   4 at most", "duration   unknown: ", "120 s"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    // As an agent makes it.
    let temp = tempfile::tempdir().unwrap();
    let host = Host::look(temp.path(), ServiceChoice::None).unwrap();
    let read = read_inputs(&cluster, &BTreeSet::new()).await.unwrap();
    let key = host.key().unwrap();
    let made = session::make(&host, &key, &read, NAMESPACE, &Annotated::default(), None).await.unwrap();
    let Desired::Ready(made) = made.prepared.desired else { panic!("it wants something") };
    assert_eq!(made.revision, wanted);

    node(&fake, "w1", &wanted, json!({}));
    node(&fake, "w2", "0123456789ab", json!({"k3s-registry-agent/exclude": "true"}));
    let answer = planned(&cluster).await;
    assert_eq!((&answer.json["done"], &answer.json["turns"]), (&json!(["w1"]), &json!([["s1"], ["w3"]])));
    assert_eq!(answer.json["aside"], json!({"w2": "excluded by its label"}));
    let shown = format!("{}{}", answer.text, answer.json);
    assert!(!shown.contains(CANARY) && !shown.contains("Y2FuYXJ5"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_cordoned_node_is_neither_the_canary_nor_before_the_others() {
    let (fake, cluster) = given();
    let mut cordoned = fake.object("/api/v1/nodes/w1");
    cordoned["spec"] = json!({"unschedulable": true});
    fake.put("/api/v1/nodes/w1", cordoned);
    assert_eq!(planned(&cluster).await.json["turns"], json!([["w2"], ["s1"], ["w3"], ["w1"]]));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written() {
    let (fake, cluster) = given();
    planned(&cluster).await;
    let requests = fake.requests();
    assert!(requests.iter().all(|request| request.starts_with("GET ")), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_said_before_what_follows_it() {
    let (fake, cluster) = given();
    inputs(&fake, MIRROR, "pause: true\n");
    let answer = planned(&cluster).await;
    let paused = answer.text.find("stopped    paused by the policy").expect(&answer.text);
    assert!(paused < answer.text.find("turn 1     w1\n").expect(&answer.text), "{}", answer.text);
}

#[tokio::test(start_paused = true)]
async fn what_the_coordinator_says_now_stands_above_and_a_coordinator_that_is_away_is_named() {
    let (fake, cluster) = given();
    fake.put(
        &lease(),
        json!({"metadata": {"annotations": {"k3s-registry-agent/rollout": "all is well"}},
            "spec": {"renewTime": "1969-12-31T23:00:00.000000Z"}}),
    );
    let answer = planned(&cluster).await;
    assert!(
        answer.text.contains("now        all is well\nwarning    the coordinator has not renewed"),
        "{}",
        answer.text
    );
    fake.delete(&lease());
    fake.put("/api/v1/namespaces/k3s-registry-agent", json!({}));
    let answer = planned(&cluster).await;
    assert!(answer.text.contains("now        no coordinator: "), "{}", answer.text);
    assert_eq!(answer.json["warning"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn refused_inputs_and_a_refused_policy_are_named_and_no_turn_is() {
    let (fake, cluster) = given();
    for (registries, policy, names) in
        [("mirror: {}\n", "", "key `registries.yaml`"), (MIRROR, "ordr: canary\n", "did you mean `order`?")]
    {
        inputs(&fake, registries, policy);
        let answer = planned(&cluster).await;
        assert_eq!(answer.code, Code::Refused, "{}", answer.text);
        assert!(answer.text.contains(names) && !answer.text.contains("turn 1"), "{}", answer.text);
    }
    for (registries, policy, why) in [(MIRROR, "mode: report\n", "mode report"), ("", "", "no node is touched")] {
        match registries {
            "" => fake.delete(&format!("{OURS}/configmaps/registries")),
            _ => inputs(&fake, registries, policy),
        }
        let answer = planned(&cluster).await;
        assert!(answer.code == Code::Done && answer.text.contains(why), "{}", answer.text);
        assert_eq!(answer.json["wanted"], Value::Null);
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_not_read_the_secrets_sees_what_the_nodes_ask_for() {
    let (fake, cluster) = given();
    fake.always(&format!("GET {OURS}/secrets"), Some(Reply::Status(403)));
    let answer = planned(&cluster).await;
    assert_eq!((answer.code, &answer.json["wanted"]), (Code::Fault, &Value::Null));
    assert!(answer.text.contains("the Secrets of namespace k3s-registry-agent"), "{}", answer.text);
    fake.put(
        "/api/v1/nodes/w2",
        json!({"metadata": {"annotations": {"k3s-registry-agent/phase": "Pending",
            "k3s-registry-agent/wanted": "ba9876543210/00c0ffee"}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
    );
    let answer = planned(&cluster).await;
    assert_eq!((answer.code, &answer.json["wanted"]), (Code::Done, &json!("ba9876543210")));
    assert!(answer.text.contains("what the nodes ask for; the inputs: "), "{}", answer.text);
    assert!(answer.text.contains("the defaults are supposed"), "{}", answer.text);
    assert_eq!(answer.json["policyKnown"], json!(false));
}

#[tokio::test(start_paused = true)]
async fn a_secret_elsewhere_that_the_policy_names_counts() {
    let (fake, cluster) = given();
    inputs(&fake, MIRROR, "secrets: [{namespace: team, name: pull}]\n");
    let answer = planned(&cluster).await;
    assert!(answer.code == Code::Refused && answer.text.contains("Secret team/pull"), "{}", answer.text);
    let login = json!({"auths": {"r.example": {"username": "u", "password": CANARY}}}).to_string();
    use base64::Engine as _;
    let login = base64::engine::general_purpose::STANDARD.encode(login);
    fake.put(
        "/api/v1/namespaces/team/secrets/pull",
        json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": login}}),
    );
    let answer = planned(&cluster).await;
    assert_eq!(answer.code, Code::Done, "{}", answer.text);
    assert!(!answer.text.contains(CANARY), "{}", answer.text);
}

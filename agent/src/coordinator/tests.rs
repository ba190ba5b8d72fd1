//! The loop against a fake API server: what it asks and writes, and in which order.

use agent_core::grant::Grant;
use serde_json::{Value, json};

use super::*;
use crate::cluster::fake::{Answer, Counts, Fake, until};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/k3s-registry-agent/leases/k3s-registry-agent-coordinator";
const NODES: &str = "/api/v1/nodes";
const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
const REVISION: &str = "0123456789ab";

/// A cluster of workers that all want the same.
struct World {
    fake: Fake,
    tasks: JoinSet<Result<(), CoordinatorError>>,
}

struct Running {
    metrics: Arc<FleetMetrics>,
    is_ready: Arc<AtomicBool>,
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::AbortHandle,
}

impl World {
    fn new(workers: &[&str]) -> Self {
        let fake = Fake::default();
        fake.put(LEASE, json!({}));
        for name in workers {
            fake.put(&node(name), worker("Pending", Some(&format!("{REVISION}/{}", number(name)))));
            fake.put(
                &format!("/api/v1/namespaces/k3s-registry-agent/pods/agent-{name}"),
                json!({"metadata": {"labels": {"app.kubernetes.io/name": "k3s-registry-agent",
                    "app.kubernetes.io/component": "agent"}}, "spec": {"nodeName": name}, "status": {"phase": "Running"}}),
            );
        }
        Self { fake, tasks: JoinSet::new() }
    }

    fn start(&mut self, me: &str) -> Running {
        let metrics = Arc::new(FleetMetrics::new(Arc::default()));
        let is_ready = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let coordinator = Coordinator::new(Setup {
            cluster: self.fake.cluster(Arc::new(Counts::default())),
            me: me.to_owned(),
            waits: Waits::default(),
            metrics: metrics.clone(),
            liveness: Arc::new(Liveness::new(Duration::from_secs(90))),
            is_ready: is_ready.clone(),
        });
        let task = self.tasks.spawn(coordinator.run(async move {
            // A test that keeps no handle never ends it.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        }));
        Running { metrics, is_ready, stop, task }
    }

    fn annotation(&self, path: &str, name: &str) -> Option<String> {
        let value = self.fake.object(path)["metadata"]["annotations"][format!("k3s-registry-agent/{name}")].clone();
        value.as_str().map(str::to_owned)
    }

    /// Who holds a grant that its agent has not ended, and of which epoch.
    fn grants(&self, names: &[&str]) -> Vec<(String, Grant)> {
        let grant = |name: &&str| {
            let said = |what: &str| self.annotation(&node(name), what);
            let grant: Grant = said("grant")?.parse().unwrap();
            let is_ended =
                said("phase").as_deref() == Some("Current") && said("answered").as_ref() == Some(&grant.ask.number);
            (!is_ended).then(|| ((*name).to_owned(), grant))
        };
        names.iter().filter_map(grant).collect()
    }

    fn epoch(&self) -> Option<String> {
        self.annotation(LEASE, "epoch")
    }

    fn count(&self, request: &str) -> usize {
        self.fake.requests().iter().filter(|made| *made == request).count()
    }

    /// The agent of a node says something.
    fn says(&self, name: &str, phase: &str, more: &Value) {
        let mut object = self.fake.object(&node(name));
        let annotations = object["metadata"]["annotations"].as_object_mut().unwrap();
        annotations.insert("k3s-registry-agent/phase".into(), phase.into());
        for (key, value) in more.as_object().unwrap() {
            annotations.insert(format!("k3s-registry-agent/{key}"), value.clone());
        }
        annotations.retain(|_, value| !value.is_null());
        self.fake.put(&node(name), object);
    }
}

fn node(name: &str) -> String {
    format!("{NODES}/{name}")
}

fn number(name: &str) -> String {
    format!("{:0>8}", name.trim_start_matches(|c: char| !c.is_ascii_digit()))
}

fn worker(phase: &str, wanted: Option<&str>) -> Value {
    json!({"metadata": {"annotations": {"k3s-registry-agent/phase": phase, "k3s-registry-agent/wanted": wanted}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_taken_before_the_nodes_are_listed_and_each_epoch_is_listed_anew() {
    let mut world = World::new(&["n1"]);
    let running = world.start("one");
    until(|| running.is_ready.load(Ordering::Relaxed)).await;
    let requests = world.fake.requests();
    let at = |request: String| requests.iter().position(|made| *made == request).unwrap();
    assert!(at(format!("GET {LEASE}")) < at(format!("PATCH {LEASE}")));
    assert!(at(format!("PATCH {LEASE}")) < at(format!("GET {NODES}")), "{requests:?}");
    assert_eq!(world.fake.object(LEASE)["spec"]["holderIdentity"], "one");
    // Nobody answers the grant: it is revoked by another epoch, and the Nodes are listed again.
    until(|| world.grants(&["n1"]).len() == 1).await;
    let first = world.epoch();
    until(|| world.epoch() != first).await;
    until(|| world.count(&format!("GET {NODES}")) == 2).await;
    until(|| world.grants(&["n1"]).is_empty()).await;
    until(|| world.annotation(&node("n1"), "turn").as_deref() == Some("absent")).await;
    let text = running.metrics.encode();
    assert!(text.contains("coordinator_revocations_total 1") && text.contains("coordinator_grants_total 1"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn one_worker_after_the_other_is_granted_and_a_patch_each_is_enough() {
    let names = ["n1", "n2", "n3"];
    let mut world = World::new(&names);
    world.start("one");
    for (at, name) in names.iter().enumerate() {
        until(|| !world.grants(&names).is_empty()).await;
        let grants = world.grants(&names);
        assert_eq!(grants.len(), 1, "{grants:?}");
        assert_eq!(
            (&grants[0].0, grants[0].1.to_string()),
            (&(*name).to_owned(), format!("{REVISION}/{}@{}", number(name), world.epoch().unwrap()))
        );
        world.says(name, "Applying", &json!({"answered": number(name), "wanted": null}));
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(world.grants(&names).len(), 1, "nobody beside it");
        world.says(name, "Current", &json!({"revision": REVISION}));
        assert!(world.grants(&names).is_empty(), "{at}");
    }
    tokio::time::sleep(Duration::from_secs(120)).await;
    let patches = |name: &str| world.count(&format!("PATCH {}", node(name)));
    // The word for what it waits for, once a reason, and the grant.
    assert!(names.iter().all(|name| patches(name) <= 3), "{:?}", names.map(patches));
    assert!(
        world.fake.requests().iter().all(|made| !made.starts_with(&format!("GET {NODES}/"))),
        "nothing is read twice"
    );
}

#[tokio::test(start_paused = true)]
async fn of_two_coordinators_one_decides_and_the_other_follows_when_it_dies() {
    let names = ["n1", "n2"];
    let mut world = World::new(&names);
    let one = world.start("one");
    let other = world.start("other");
    until(|| world.grants(&names).len() == 1).await;
    assert_eq!(world.count(&format!("GET {NODES}")), 1, "the one without the Lease does not even look");
    let held = |running: &Running| running.metrics.encode().contains("_lease_held 1\n");
    assert!(held(&one) != held(&other));
    assert!(other.is_ready.load(Ordering::Relaxed) && one.is_ready.load(Ordering::Relaxed));
    // Dead, not asked to end: the Lease stands until it has stood unchanged for its time.
    let first = world.epoch();
    let (died, lives) = if held(&one) { (one, other) } else { (other, one) };
    died.task.abort();
    let died_at = Instant::now();
    until(|| world.epoch() != first).await;
    // Renewed by the dead one up to ten seconds before it died, and looked at every ten seconds.
    let took = died_at.elapsed();
    assert!((50..=80).contains(&took.as_secs()), "{took:?}");
    until(|| held(&lives)).await;
    let is_new = |grant: &Grant| Some(grant.epoch.to_string()) == world.epoch();
    until(|| world.grants(&names).iter().any(|(_, grant)| is_new(grant))).await;
    assert_eq!(world.grants(&names).len(), 1, "what the dead one granted is void, and taken away");
    assert_eq!(world.count(&format!("GET {NODES}")), 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_asked_to_end_gives_the_lease_back() {
    let mut world = World::new(&["n1"]);
    let one = world.start("one");
    until(|| world.grants(&["n1"]).len() == 1).await;
    let first = world.epoch();
    one.stop.send(()).unwrap();
    world.tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(world.fake.object(LEASE)["spec"]["holderIdentity"], Value::Null);
    let begun = Instant::now();
    world.start("other");
    until(|| world.epoch() != first).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_acquisition_that_is_uncertain_is_none() {
    let mut world = World::new(&["n1"]);
    for answer in [Answer::Hang, Answer::Status(500), Answer::Text("no JSON".into())] {
        world.fake.next(&format!("PATCH {LEASE}"), answer);
    }
    world.start("one");
    until(|| world.count(&format!("PATCH {LEASE}")) == 3).await;
    assert_eq!(world.count(&format!("GET {NODES}")), 0, "nothing is looked at before the Lease is ours");
    until(|| world.count(&format!("GET {NODES}")) == 1).await;
    let requests = world.fake.requests();
    let lease: Vec<&String> = requests.iter().filter(|made| made.ends_with(LEASE)).take(8).collect();
    let alternate = [format!("GET {LEASE}"), format!("PATCH {LEASE}")];
    assert!(lease.iter().zip(alternate.iter().cycle()).all(|(made, expected)| *made == expected), "{lease:?}");
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_uncertain_counts_until_a_new_epoch() {
    let names = ["n1", "n2"];
    let mut world = World::new(&names);
    world.start("one");
    // The word for what it waits for while the coordinator settles; then the grant.
    until(|| world.annotation(&node("n1"), "turn").is_some()).await;
    world.fake.always(&format!("PATCH {}", node("n1")), Some(Answer::Hang));
    until(|| world.count(&format!("PATCH {}", node("n1"))) == 2).await;
    let first = world.epoch();
    let begun = Instant::now();
    until(|| world.epoch() != first).await;
    assert!(begun.elapsed() >= Waits::default().answer, "{:?}", begun.elapsed());
    assert_eq!(world.grants(&names), [], "the other one got nothing beside it");
    world.fake.always(&format!("PATCH {}", node("n1")), None);
    until(|| world.grants(&names).len() == 1).await;
    assert_eq!(world.grants(&names)[0].0, "n2", "the same ask is not granted twice");
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_was_refused_is_decided_anew_on_a_fresh_read() {
    let mut world = World::new(&["n1"]);
    world.start("one");
    until(|| world.annotation(&node("n1"), "turn").is_some()).await;
    let first = world.epoch();
    world.fake.next(&format!("PATCH {}", node("n1")), Answer::Status(409));
    until(|| world.grants(&["n1"]).len() == 1).await;
    let requests = world.fake.requests();
    let of_node: Vec<&String> = requests.iter().filter(|made| made.ends_with(&node("n1"))).collect();
    let expected = ["PATCH", "PATCH", "GET", "PATCH"].map(|method| format!("{method} {}", node("n1")));
    assert_eq!(of_node, expected.iter().collect::<Vec<_>>());
    assert_eq!(world.epoch(), first, "it costs no epoch");
}

#[tokio::test(start_paused = true)]
async fn one_whose_lease_was_taken_grants_nothing_more() {
    let names = ["n1", "n2"];
    let mut world = World::new(&names);
    let one = world.start("one");
    until(|| world.grants(&names).len() == 1).await;
    let mut lease = world.fake.object(LEASE);
    lease["spec"]["holderIdentity"] = "another".into();
    lease["metadata"]["annotations"]["k3s-registry-agent/epoch"] = "ffffffffffffffff".into();
    world.fake.put(LEASE, lease);
    until(|| one.metrics.encode().contains("_lease_held 0\n")).await;
    world.says("n1", "Current", &json!({"revision": REVISION, "answered": number("n1"), "wanted": null}));
    let patches = || world.fake.requests().iter().filter(|made| made.starts_with("PATCH /api/v1/nodes")).count();
    let before = patches();
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(patches(), before);
    assert_eq!(world.fake.open_watches(), 2, "pods and policy: the Nodes are not followed any more");
    // Whoever took it never renews: after its time it is ours again.
    until(|| world.epoch().as_deref() != Some("ffffffffffffffff")).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_granted_while_pods_or_policy_cannot_be_seen() {
    for path in
        ["/api/v1/namespaces/k3s-registry-agent/pods", "/api/v1/namespaces/k3s-registry-agent/configmaps/registries"]
    {
        let mut world = World::new(&["n1"]);
        world.fake.always(&format!("GET {path}"), Some(Answer::Status(403)));
        let one = world.start("one");
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert!(world.grants(&["n1"]).is_empty() && !one.is_ready.load(Ordering::Relaxed), "{path}");
        assert_eq!(world.count(&format!("PATCH {}", node("n1"))), 0, "{path}");
        world.fake.always(&format!("GET {path}"), None);
        until(|| world.grants(&["n1"]).len() == 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_for_half_a_minute_costs_no_epoch() {
    let mut world = World::new(&["n1"]);
    world.start("one");
    until(|| world.grants(&["n1"]).len() == 1).await;
    world.says("n1", "Applying", &json!({"answered": number("n1"), "wanted": null}));
    let first = world.epoch();
    for method in ["GET", "PATCH"] {
        world.fake.always(&format!("{method} {LEASE}"), Some(Answer::Status(503)));
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    for method in ["GET", "PATCH"] {
        world.fake.always(&format!("{method} {LEASE}"), None);
    }
    let renewed = world.fake.object(LEASE)["spec"]["renewTime"].clone();
    let version = world.fake.object(LEASE)["metadata"]["resourceVersion"].clone();
    until(|| world.fake.object(LEASE)["metadata"]["resourceVersion"] != version).await;
    assert!(world.fake.object(LEASE)["spec"]["renewTime"] != renewed || world.epoch() == first);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.epoch(), first);
}

#[tokio::test(start_paused = true)]
async fn a_grant_is_written_only_when_the_lease_lists_it() {
    let names = ["n1", "n2"];
    let mut world = World::new(&names);
    let one = world.start("one");
    until(|| world.annotation(&node("n1"), "turn").is_some()).await;
    let refuse = |answer| world.fake.always(&format!("PATCH {LEASE}"), answer);
    refuse(Some(Answer::Status(503)));
    tokio::time::sleep(Duration::from_secs(75)).await;
    assert_eq!(world.grants(&names), [], "the coordinator settled long ago, and cannot write the Lease");
    refuse(None);
    until(|| world.grants(&names).len() == 1).await;
    let entry = format!("n1={REVISION}/{}", number("n1"));
    assert_eq!(world.annotation(LEASE, "out"), Some(entry.clone()));
    let listed = |body: &Value| body["metadata"]["annotations"]["k3s-registry-agent/out"] == entry.as_str();
    let granted = |body: &Value| body["metadata"]["annotations"]["k3s-registry-agent/grant"].is_string();
    let (bodies, first) = (world.fake.bodies(), |of: &dyn Fn(&Value) -> bool| world.fake.bodies().iter().position(of));
    assert!(first(&listed) < first(&granted), "{bodies:#?}");
    // Deleted in its turn, and the process that granted dies: the next one grants nobody beside it.
    world.says("n1", "Applying", &json!({"answered": number("n1"), "wanted": null}));
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.fake.delete(&node("n1"));
    one.task.abort();
    world.start("other");
    let limit = Policy::default().deadline + Waits::default().away;
    tokio::time::sleep(limit).await;
    assert_eq!(world.grants(&["n2"]), []);
    assert_eq!(world.annotation(LEASE, "out"), Some(entry));
    until(|| world.grants(&["n2"]).len() == 1).await;
    assert_eq!(world.annotation(LEASE, "out"), Some(format!("n2={REVISION}/{}", number("n2"))));
}

#[tokio::test(start_paused = true)]
async fn who_is_out_costs_a_write_of_the_lease_a_turn_at_most_and_what_is_over_none() {
    let names = ["n1", "n2", "n3"];
    let mut world = World::new(&names);
    world.start("one");
    for name in names {
        until(|| world.grants(&names).iter().any(|(granted, _)| granted == name)).await;
        world.says(name, "Applying", &json!({"answered": number(name), "wanted": null}));
        tokio::time::sleep(Duration::from_secs(20)).await;
        let before = world.count(&format!("PATCH {LEASE}"));
        world.says(name, "Current", &json!({"revision": REVISION}));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let written = world.count(&format!("PATCH {LEASE}")) - before;
        assert!(written <= 1, "the end of {name}'s turn, the next grant and the sentence are one write: {written}");
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(world.annotation(LEASE, "out"), None);
}

#[tokio::test(start_paused = true)]
async fn a_grant_waits_until_no_uncertain_write_of_the_lease_can_land_any_more() {
    let names = ["n1", "n2"];
    let mut world = World::new(&names);
    let lease = format!("PATCH {LEASE}");
    world.start("one");
    until(|| world.grants(&names).len() == 1).await;
    world.says("n1", "Applying", &json!({"answered": number("n1"), "wanted": null}));
    tokio::time::sleep(Duration::from_secs(5)).await;
    // So that no renewal is due meanwhile.
    let renewed = world.count(&lease);
    until(|| world.count(&lease) > renewed).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    // The write that lists the next one is done, and its answer is lost.
    let before = world.fake.bodies().len();
    world.fake.next(&lease, Answer::Status(503));
    world.says("n1", "Current", &json!({"revision": REVISION}));
    until(|| world.fake.bodies().len() > before).await;
    let mut object = world.fake.object(LEASE);
    let written = world.fake.bodies()[before]["metadata"]["annotations"].clone();
    assert_eq!(written["k3s-registry-agent/out"], format!("n2={REVISION}/{}", number("n2")));
    for (name, value) in written.as_object().unwrap() {
        object["metadata"]["annotations"][name] = value.clone();
    }
    world.fake.put(LEASE, object);
    assert_eq!(world.grants(&names), []);
    until(|| world.grants(&names).len() == 1).await;
    let requests = world.fake.requests();
    let tail: Vec<&String> = requests.iter().rev().filter(|made| made.ends_with(LEASE)).take(2).collect();
    let granted = requests.last().unwrap();
    assert_eq!(*granted, format!("PATCH {}", node("n2")));
    assert_eq!(tail, [&lease, &format!("GET {LEASE}")], "another one might still be under way: {requests:#?}");
}

#[tokio::test(start_paused = true)]
async fn the_operators_word_on_the_lease_is_seen_at_the_next_renewal() {
    let mut world = World::new(&["n1"]);
    world.says("n1", "RolledBack", &json!({"failed": REVISION, "wanted": null}));
    world.start("one");
    until(|| world.annotation(LEASE, "halted").as_deref() == Some(REVISION)).await;
    let mut lease = world.fake.object(LEASE);
    lease["metadata"]["annotations"]["k3s-registry-agent/retry"] = "again".into();
    world.fake.put(LEASE, lease);
    until(|| world.annotation(LEASE, "halted").is_none()).await;
    assert_eq!(world.annotation(LEASE, "retry-honoured").as_deref(), Some("again"));
    assert_eq!(world.annotation(LEASE, "retry").as_deref(), Some("again"), "it is the operator's");
}

#[tokio::test(start_paused = true)]
async fn what_the_lease_keeps_stays_until_something_is_decided() {
    let mut world = World::new(&["n1"]);
    let kept = [("halted", "cafecafecafe"), ("excused", "n9=cafecafecafe"), ("retry-honoured", "t")];
    let annotations: serde_json::Map<String, Value> =
        kept.iter().map(|(name, value)| (format!("k3s-registry-agent/{name}"), (*value).into())).collect();
    world.fake.put(LEASE, json!({"metadata": {"annotations": annotations}}));
    // The Nodes are seen, and renewals go on, but without the policy nothing is decided.
    let policy = "GET /api/v1/namespaces/k3s-registry-agent/configmaps/registries";
    world.fake.always(policy, Some(Answer::Status(403)));
    world.start("one");
    tokio::time::sleep(Duration::from_secs(45)).await;
    assert!(world.count(&format!("GET {NODES}")) == 1 && world.count(&format!("PATCH {LEASE}")) > 3);
    for (name, value) in kept {
        assert_eq!(world.annotation(LEASE, name).as_deref(), Some(value), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_there_is_waited_for_and_never_made() {
    let mut world = World::new(&["n1"]);
    world.fake.delete(LEASE);
    let one = world.start("one");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(!one.is_ready.load(Ordering::Relaxed));
    assert!(world.fake.requests().iter().all(|made| !made.starts_with("PATCH") && !made.starts_with("POST")));
    assert!(world.count(&format!("GET {LEASE}")) <= 14, "it is not asked for in a tight loop");
    world.fake.put(LEASE, json!({}));
    until(|| one.is_ready.load(Ordering::Relaxed)).await;
    // Deleted and created again under us: another object, so another acquisition.
    let first = world.epoch();
    world.fake.delete(LEASE);
    world.fake.put(LEASE, json!({"metadata": {"uid": "another"}}));
    until(|| world.epoch().is_some() && world.epoch() != first).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_is_granted_only_when_the_others_answer() {
    let mut world = World::new(&[]);
    for at in 1..=2 {
        let name = format!("s{at}");
        let mut server = worker("Pending", Some(&format!("{REVISION}/{}", number(&name))));
        server["metadata"]["labels"] =
            json!({"node-role.kubernetes.io/control-plane": "true", "node-role.kubernetes.io/etcd": "true"});
        server["status"]["addresses"] = json!([{"address": format!("10.0.0.{at}")}]);
        server["status"]["conditions"] =
            json!([{"type": "Ready", "status": "True"}, {"type": "EtcdIsVoter", "status": "True", "reason": "x"}]);
        world.fake.put(&node(&name), server);
        world.fake.put(
            &format!("/api/v1/namespaces/k3s-registry-agent/pods/agent-{name}"),
            json!({"metadata": {"labels": {"app.kubernetes.io/name": "k3s-registry-agent",
                "app.kubernetes.io/component": "agent"}}, "spec": {"nodeName": name}, "status": {"phase": "Running"}}),
        );
    }
    let ready = "GET https://10.0.0.2:6443/readyz";
    world.fake.put(
        SLICE,
        json!({"endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}],
        "ports": [{"port": 6443}]}),
    );
    world.fake.always(ready, Some(Answer::Status(500)));
    world.start("one");
    until(|| world.annotation(&node("s1"), "turn").as_deref() == Some("server-gate")).await;
    until(|| world.annotation(LEASE, "rollout").is_some_and(|said| said.contains("s2 (10.0.0.2) answers 500"))).await;
    until(|| world.count(ready) >= 3).await;
    assert!(world.grants(&["s1", "s2"]).is_empty());
    world.fake.always(ready, Some(Answer::Text("ok".into())));
    until(|| world.grants(&["s1", "s2"]).len() == 1).await;
    assert_eq!(world.grants(&["s1", "s2"])[0].0, "s1");
    assert_eq!(world.count("GET https://10.0.0.1:6443/readyz"), 0, "its own address proves nothing");
    let lists = world.count(&format!("GET {NODES}"));
    assert_eq!(lists, 1, "the servers are known by the watch");
}

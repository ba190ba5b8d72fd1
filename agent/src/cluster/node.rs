//! Our own Node and its Lease: seen by watches, and told where the agent stands.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::node::annotations::{NodeSeen, PREFIX, Told};
use agent_core::node::observed::Renewed;
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;

use super::client::{Cluster, call};
use super::follow::{Sight, follow};
use super::lean;
use super::trouble::Trouble;
use crate::tally::Watch;

/// Where kubelets keep their Leases.
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// Patches that are tried for one telling; each conflict is followed by a fresh read.
const TRIES: usize = 4;

/// What is known of our own Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeView {
    /// Not seen yet since the start, and why. Ends with the first answer.
    Waiting(String),
    /// There is no such Node. Ends when kubelet registers it again.
    Absent,
    /// The Node.
    Seen(OwnNode),
}

/// Our own Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnNode {
    /// Annotations, as the core reads them.
    pub seen: NodeSeen,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `metadata.uid`: another one is another Node of the same name.
    pub uid: String,
    /// `metadata.resourceVersion`, for the next patch.
    pub resource_version: String,
    /// The condition Ready, if it is there.
    pub ready: Option<Ready>,
}

/// The condition Ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Its status is `True`.
    pub is_ready: bool,
    /// When kubelet last said so, on the node's clock.
    pub heartbeat: Option<Timestamp>,
    /// Since when it holds.
    pub since: Option<Timestamp>,
}

/// The Lease that kubelet renews.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseSeen {
    /// `renewTime`, on the node's clock.
    pub renewed: Option<Timestamp>,
    /// The last renewal that was seen to happen, with the moment it was seen. The first sight is none.
    pub seen: Option<Renewed>,
}

/// What came of [`tell`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Telling {
    /// The Node says it already. Nothing was written.
    Unchanged,
    /// It was written; the Node is now this.
    Written(OwnNode),
    /// What others say on the Node (`grant`, `turn`, `pause`, `retry`, a label) is not what was decided upon. Nothing was
    /// written: decide anew on this.
    Overtaken(OwnNode),
}

/// Why the Node could not be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TellError {
    /// The patch failed, or it is not known whether it was carried out.
    #[error("cannot write the annotations of the Node {node}")]
    Patch {
        /// The Node.
        node: String,
        /// Why.
        #[source]
        source: Trouble,
    },
    /// The Node could not be read after a conflict.
    #[error("cannot read the Node {node}")]
    Read {
        /// The Node.
        node: String,
        /// Why.
        #[source]
        source: Trouble,
    },
}

/// Follows our own Node, for ever. Drive it beside the pass.
pub async fn watch_node(cluster: Cluster, name: String, out: watch::Sender<NodeView>) -> std::convert::Infallible {
    let api = Api::<lean::Node>::all(cluster.client());
    follow(api, &name, Watch::Node, cluster.tally().clone(), |sight| {
        out.send_if_modified(|view| {
            let next = match sight {
                Sight::Seen(node) => NodeView::Seen(OwnNode::from(node)),
                Sight::Absent => NodeView::Absent,
                Sight::Trouble(trouble) => match view {
                    NodeView::Waiting(_) => NodeView::Waiting(format!("waits for its Node {name}: {trouble}")),
                    // What was seen stays: not being able to see is not absence.
                    NodeView::Absent | NodeView::Seen(_) => return false,
                },
            };
            let differs = *view != next;
            *view = next;
            differs
        });
    })
    .await
}

/// Follows the Lease of our own Node, for ever. Drive it beside the pass.
pub async fn watch_lease(
    cluster: Cluster,
    name: String,
    boot: fn() -> Duration,
    out: watch::Sender<LeaseSeen>,
) -> std::convert::Infallible {
    let api = Api::<lean::Lease>::namespaced(cluster.client(), LEASE_NAMESPACE);
    follow(api, &name, Watch::NodeLease, cluster.tally().clone(), |sight| match sight {
        Sight::Seen(lease) => {
            out.send_if_modified(|seen| {
                let renewed = lease.spec.renew_time;
                if renewed.is_none() || renewed == seen.renewed {
                    return false;
                }
                // The first sight is no renewal: it may be older than what somebody waits for.
                let is_news = seen.renewed.is_some();
                let happened = renewed.filter(|_| is_news).map(|stamp| Renewed { seen: boot(), stamp });
                *seen = LeaseSeen { renewed, seen: happened.or(seen.seen) };
                true
            });
        }
        Sight::Absent | Sight::Trouble(_) => {}
    })
    .await
}

/// Reads our own Node by a quorum read.
///
/// # Errors
///
/// Why it could not be read, [`Trouble::NotFound`] included.
pub async fn read_node(cluster: &Cluster, name: &str) -> Result<OwnNode, Trouble> {
    let api = Api::<lean::Node>::all(cluster.client());
    call(api.get(name)).await.map(OwnNode::from)
}

/// Writes what the agent says on its Node, if the Node does not say it already.
///
/// `told` was decided on `decided_on`. The patch carries its resourceVersion; after a conflict the Node is read, and
/// written again only if nothing that the decision could rest on has changed (kubelet writes the Node, too).
///
/// # Errors
///
/// Why it was not written. After [`Trouble::TimedOut`] it may have been: the next telling compares again.
pub async fn tell(cluster: &Cluster, name: &str, told: &Told, decided_on: &OwnNode) -> Result<Telling, TellError> {
    let api = Api::<lean::Node>::all(cluster.client());
    let wanted = told.annotations();
    let mut node = decided_on.clone();
    let mut last = Trouble::Conflict;
    for _ in 0..TRIES {
        let patch: BTreeMap<&String, &Option<String>> =
            wanted.iter().filter(|(name, value)| node.seen.annotations.get(*name) != value.as_ref()).collect();
        if patch.is_empty() {
            return Ok(Telling::Unchanged);
        }
        let body = json!({"metadata": {
            "resourceVersion": node.resource_version, "annotations": patch,
        }});
        match call(api.patch(name, &PatchParams::default(), &Patch::Merge(&body))).await {
            Ok(written) => return Ok(Telling::Written(OwnNode::from(written))),
            Err(Trouble::Conflict) => last = Trouble::Conflict,
            Err(source) => return Err(TellError::Patch { node: name.to_owned(), source }),
        }
        node = read_node(cluster, name).await.map_err(|source| TellError::Read { node: name.to_owned(), source })?;
        if said_by_others(&node, told) != said_by_others(decided_on, told) {
            return Ok(Telling::Overtaken(node));
        }
    }
    Err(TellError::Patch { node: name.to_owned(), source: last })
}

/// What a decision may rest on: our annotations and labels of other writers, and which Node it is.
fn said_by_others<'a>(node: &'a OwnNode, told: &Told) -> (&'a str, Vec<(&'a String, &'a String)>) {
    let own = told.annotations();
    let ours = |map: &'a BTreeMap<String, String>| map.iter().filter(|(name, _)| name.starts_with(PREFIX));
    let annotations = ours(&node.seen.annotations).filter(|(name, _)| !own.contains_key(*name));
    (&node.uid, annotations.chain(ours(&node.labels)).collect())
}

impl OwnNode {
    /// The newer of two sights of our Node: what was just written comes back by the watch a moment later. Only where both
    /// versions are numbers of one Node; else the watch is believed, and a conflict tells the truth.
    pub fn newer(watched: Self, answered: Option<&Self>) -> Self {
        let number = |node: &Self| node.resource_version.parse::<u64>().ok();
        match answered {
            Some(answered) if answered.uid == watched.uid && number(answered) > number(&watched) => answered.clone(),
            Some(_) | None => watched,
        }
    }
}

impl From<lean::Node> for OwnNode {
    fn from(node: lean::Node) -> Self {
        let lean::Node { metadata, spec: _, status } = node;
        let ready = status.conditions.iter().find(|condition| condition.kind == "Ready").map(|condition| Ready {
            is_ready: condition.status == "True",
            heartbeat: condition.last_heartbeat_time,
            since: condition.last_transition_time,
        });
        Self {
            seen: NodeSeen { annotations: metadata.annotations.unwrap_or_default() },
            labels: metadata.labels.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            ready,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use agent_core::node::annotations::Phase;
    use serde_json::Value;

    use super::*;
    use crate::cluster::fake::{Answer, Counts, Fake, until};

    const NODE: &str = "/api/v1/nodes/n1";
    const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1";

    fn node(annotations: &Value) -> Value {
        json!({
            "metadata": {"annotations": annotations, "labels": {"a": "b"}, "managedFields": [{"manager": "x"}]},
            "status": {"images": [{"names": ["x"]}], "conditions": [
                {"type": "MemoryPressure", "status": "False"},
                {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:10Z", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ]},
        })
    }

    fn told(phase: Phase) -> Told {
        Told {
            phase,
            reason: "why".into(),
            since: Timestamp::UNIX_EPOCH,
            revision: None,
            failed: None,
            wanted: Some("r/1".into()),
            answered: None,
        }
    }

    fn given() -> (Fake, Arc<Counts>, Cluster) {
        let (fake, counts) = (Fake::default(), Arc::new(Counts::default()));
        let cluster = fake.cluster(counts.clone());
        (fake, counts, cluster)
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_says_it_already_is_not_written() {
        let (fake, counts, cluster) = given();
        let applied = "kubectl.kubernetes.io/last-applied-configuration";
        fake.put(NODE, node(&json!({"other": "1", "k3s-registry-agent/failed": "old", applied: "large"})));
        let seen = read_node(&cluster, "n1").await.unwrap();
        assert_eq!(
            seen.ready,
            Some(Ready {
                is_ready: true,
                heartbeat: "2026-01-01T00:00:10Z".parse().ok(),
                since: "2026-01-01T00:00:00Z".parse().ok()
            })
        );
        let Telling::Written(after) = tell(&cluster, "n1", &told(Phase::Pending), &seen).await.unwrap() else {
            panic!("it had to be written")
        };
        let written = fake.object(NODE)["metadata"]["annotations"].clone();
        assert!(!after.seen.annotations.contains_key(applied), "it is not kept in memory");
        assert_eq!(
            written,
            json!({"other": "1", applied: "large", "k3s-registry-agent/phase": "Pending", "k3s-registry-agent/reason": "why",
                   "k3s-registry-agent/since": "1970-01-01T00:00:00Z", "k3s-registry-agent/wanted": "r/1"})
        );
        assert_eq!(tell(&cluster, "n1", &told(Phase::Pending), &after).await, Ok(Telling::Unchanged));
        assert_eq!((counts.of("patch ok"), counts.of("get ok")), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_in_between_does_not_cost_the_decision() {
        let (fake, counts, cluster) = given();
        fake.put(NODE, node(&json!({})));
        let seen = read_node(&cluster, "n1").await.unwrap();
        fake.put(NODE, node(&json!({"somebody": "else"})));
        assert!(matches!(tell(&cluster, "n1", &told(Phase::Pending), &seen).await, Ok(Telling::Written(_))));
        assert_eq!((counts.of("patch conflict"), counts.of("patch ok")), (1, 1));
        assert_eq!(fake.object(NODE)["metadata"]["annotations"]["somebody"], "else");
    }

    #[tokio::test(start_paused = true)]
    async fn a_grant_in_between_means_deciding_anew() {
        for key in ["grant", "pause", "retry", "turn"] {
            let (fake, counts, cluster) = given();
            fake.put(NODE, node(&json!({})));
            let seen = read_node(&cluster, "n1").await.unwrap();
            let key = format!("{PREFIX}{key}");
            fake.put(NODE, node(&json!({&key: "r/1@e"})));
            let Ok(Telling::Overtaken(now)) = tell(&cluster, "n1", &told(Phase::Pending), &seen).await else {
                panic!("{key} was written over")
            };
            assert_eq!(now.seen.annotations[&key], "r/1@e");
            assert_eq!(counts.of("patch ok"), 0);
        }
    }

    #[test]
    fn what_was_just_written_is_newer_than_what_the_watch_still_shows() {
        let node = |uid: &str, version: &str| OwnNode {
            seen: NodeSeen::default(),
            labels: BTreeMap::new(),
            uid: uid.into(),
            resource_version: version.into(),
            ready: None,
        };
        for (watched, answered, expected) in [
            (("a", "9"), Some(("a", "10")), "10"),
            (("a", "11"), Some(("a", "10")), "11"),
            (("b", "9"), Some(("a", "10")), "9"),
            (("a", "x9"), Some(("a", "x10")), "x9"),
            (("a", "9"), None, "9"),
        ] {
            let answered = answered.map(|(uid, version)| node(uid, version));
            let newer = OwnNode::newer(node(watched.0, watched.1), answered.as_ref());
            assert_eq!((newer.uid.as_str(), newer.resource_version.as_str()), (watched.0, expected));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_of_the_same_name_that_came_back_means_deciding_anew() {
        let (fake, _, cluster) = given();
        fake.put(NODE, node(&json!({})));
        let mut seen = read_node(&cluster, "n1").await.unwrap();
        fake.put(NODE, node(&json!({})));
        seen.uid = "another".into();
        assert!(matches!(tell(&cluster, "n1", &told(Phase::Pending), &seen).await, Ok(Telling::Overtaken(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn conflicts_without_end_and_a_silent_server_end_the_telling() {
        let (fake, counts, cluster) = given();
        fake.put(NODE, node(&json!({})));
        let seen = read_node(&cluster, "n1").await.unwrap();
        fake.always("PATCH /api/v1/nodes/n1", Some(Answer::Status(409)));
        let error = tell(&cluster, "n1", &told(Phase::Pending), &seen).await.unwrap_err();
        assert_eq!(error, TellError::Patch { node: "n1".into(), source: Trouble::Conflict });
        assert_eq!(counts.of("patch conflict"), TRIES);
        fake.always("PATCH /api/v1/nodes/n1", Some(Answer::Hang));
        let error = tell(&cluster, "n1", &told(Phase::Pending), &seen).await.unwrap_err();
        assert_eq!(error, TellError::Patch { node: "n1".into(), source: Trouble::TimedOut });
        assert_eq!(counts.of("patch abandoned"), 1);
        fake.always("PATCH /api/v1/nodes/n1", Some(Answer::Status(503)));
        let error = tell(&cluster, "n1", &told(Phase::Pending), &seen).await.unwrap_err();
        assert_eq!(
            error,
            TellError::Patch { node: "n1".into(), source: Trouble::Refused { code: 503, reason: "Told".into() } }
        );
        assert_eq!(counts.of("patch server_error"), 1, "no hidden retry");
    }

    #[tokio::test(start_paused = true)]
    async fn the_node_is_followed_through_breaks_and_its_own_absence() {
        let (fake, counts, cluster) = given();
        fake.always("GET /api/v1/nodes/n1", Some(Answer::Status(403)));
        let (sender, view) = watch::channel(NodeView::Waiting(String::new()));
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(watch_node(cluster, "n1".into(), sender));
        let waiting = NodeView::Waiting("waits for its Node n1: the API server forbids it (403)".into());
        until(|| *view.borrow() == waiting).await;
        fake.always("GET /api/v1/nodes/n1", None);
        until(|| *view.borrow() == NodeView::Absent).await;
        fake.put(NODE, node(&json!({"k": "1"})));
        let has = |value: &str| match &*view.borrow() {
            NodeView::Seen(node) => node.seen.annotations.get("k").map(String::as_str) == Some(value),
            NodeView::Waiting(_) | NodeView::Absent => false,
        };
        until(|| has("1")).await;
        // Gone, then silent, then closed: what was seen stays, and what is new is found.
        fake.end_watches(Some(410));
        fake.put(NODE, node(&json!({"k": "2"})));
        until(|| has("2")).await;
        let reads = counts.of("get ok");
        fake.next("WATCH /api/v1/nodes", Answer::Status(500));
        fake.always("GET /api/v1/nodes/n1", Some(Answer::Hang));
        fake.end_watches(Some(500));
        until(|| counts.of("get abandoned") > 1).await;
        assert!(has("2"), "not being able to see is not absence");
        fake.always("GET /api/v1/nodes/n1", None);
        fake.put(NODE, node(&json!({"k": "3"})));
        until(|| has("3")).await;
        assert!(counts.of("get ok") > reads && counts.of("reconnect node") >= 3);
        fake.delete(NODE);
        until(|| *view.borrow() == NodeView::Absent).await;
        assert!(
            fake.requests().iter().all(|request| !request.starts_with("GET /api/v1/nodes ")),
            "no list is asked for"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_nobody_changed_for_long_is_watched_all_the_same() {
        let (fake, counts, cluster) = given();
        fake.put(NODE, node(&json!({"k": "1"})));
        let (sender, view) = watch::channel(NodeView::Waiting(String::new()));
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(watch_node(cluster, "n1".into(), sender));
        until(|| fake.open_watches() == 1).await;
        // The server starts anew: of what was before its present version it knows the objects, and no changes.
        fake.put("/api/v1/nodes/n2", node(&json!({})));
        fake.end_watches(Some(410));
        until(|| fake.open_watches() == 1).await;
        let reads = counts.of("get ok");
        tokio::time::sleep(Duration::from_secs(250)).await;
        assert_eq!((counts.of("get ok"), fake.open_watches()), (reads, 1), "no poll in the place of a watch");
        let has = |value: &str| match &*view.borrow() {
            NodeView::Seen(node) => node.seen.annotations.get("k").map(String::as_str) == Some(value),
            NodeView::Waiting(_) | NodeView::Absent => false,
        };
        fake.put(NODE, node(&json!({"k": "2"})));
        until(|| has("2")).await;
        // Deleted between the read and the watch that begins with the present state.
        fake.put("/api/v1/nodes/n2", node(&json!({})));
        fake.next("GET /api/v1/nodes/n1", Answer::Text(fake.object(NODE).to_string()));
        fake.end_watches(Some(410));
        fake.delete(NODE);
        until(|| *view.borrow() == NodeView::Absent).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_is_counted_once_and_the_first_sight_is_none() {
        let (fake, counts, cluster) = given();
        let lease = |second: u32| json!({"spec": {"renewTime": format!("2026-01-01T00:00:{second:02}.000000Z")}});
        fake.put(LEASE, lease(1));
        let (sender, seen) = watch::channel(LeaseSeen::default());
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(watch_lease(cluster, "n1".into(), || Duration::from_secs(9), sender));
        until(|| seen.borrow().renewed.is_some()).await;
        assert_eq!(seen.borrow().seen, None);
        let stamp = |second: u32| format!("2026-01-01T00:00:{second:02}Z").parse().unwrap();
        let renewal = |second: u32| Some(Renewed { seen: Duration::from_secs(9), stamp: stamp(second) });
        until(|| fake.open_watches() == 1).await;
        fake.put(LEASE, lease(2));
        until(|| seen.borrow().seen == renewal(2)).await;
        // The same again, over a reconnection and by a write that renews nothing.
        fake.end_watches(Some(500));
        until(|| counts.of("reconnect node_lease") == 1 && fake.open_watches() == 1).await;
        fake.put(LEASE, lease(2));
        fake.put(LEASE, lease(1));
        until(|| seen.borrow().seen == renewal(1)).await;
        assert_eq!(seen.borrow().renewed, Some(stamp(1)), "clocks may step back");
    }
}

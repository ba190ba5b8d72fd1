//! All Nodes, as the coordinator sees and writes them; the agents' pods, and the policy.
//!
//! A Node is stripped to what decisions rest on while it is read: five thousand of them are a few megabytes.

use std::collections::BTreeMap;
use std::convert::Infallible;

use agent_core::fleet::gate::ServerSeen;
use agent_core::fleet::{self, NodeRaw, NodeSeen, NodeWrite};
use agent_core::inputs::{CONFIG_MAP, POLICY_KEY};
use agent_core::node::annotations::PREFIX;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::client::{Cluster, call};
use super::follow::{Change, Select, Sight, follow, follow_all};
use super::trouble::Trouble;
use super::{gate, lean};
use crate::tally::Watch;

/// The pods of the agent, and no others of the namespace.
const AGENTS: &str = "app.kubernetes.io/name=k3s-registry-agent,app.kubernetes.io/component=agent";

/// A Node, stripped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeNow {
    /// Its name.
    pub name: String,
    /// `metadata.resourceVersion`, for the next patch.
    pub version: String,
    /// What decisions rest on; whether an agent runs there is set by whoever watches the pods.
    pub seen: NodeSeen,
    /// What the server gate rests on.
    pub server: Option<ServerSeen>,
}

/// What is new among the Nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeNews {
    /// These, and no others: by a quorum read that began after it was asked for.
    All(Vec<NodeNow>),
    /// This one is new, or different.
    Set(Box<NodeNow>),
    /// The Node of this name is gone.
    Unset(String),
    /// They cannot be seen; what was seen before may still hold.
    Trouble(Trouble),
}

/// What is known of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyView {
    /// Not seen yet since the start, and why.
    Waiting(String),
    /// Its text; none without a ConfigMap, or without the key in it. Stays while the API server is away.
    Seen(Option<String>),
}

/// The agents' pods that run: the Node of each. None until they have been seen once.
pub type Agents = Option<BTreeMap<String, String>>;

/// Follows all Nodes, for ever. At each number that `wanted` brings it begins anew with a quorum read, and every item says by
/// which number it was asked for; at 0 it rests.
pub async fn watch_nodes(
    cluster: Cluster,
    mut wanted: watch::Receiver<u64>,
    out: mpsc::UnboundedSender<(u64, NodeNews)>,
) -> Infallible {
    loop {
        let number = *wanted.borrow_and_update();
        let followed = async {
            if number == 0 {
                std::future::pending::<Infallible>().await;
            }
            let api = Api::<lean::Node>::all(cluster.client());
            follow_all(api, Select::All, Watch::Nodes, cluster.tally().clone(), NodeNow::from, |change| {
                let item = match change {
                    Change::All(nodes) => NodeNews::All(nodes),
                    Change::Set(node) => NodeNews::Set(Box::new(node)),
                    Change::Unset(node) => NodeNews::Unset(node.name),
                    Change::Trouble(trouble) => NodeNews::Trouble(trouble),
                };
                // The receiver goes when everything goes.
                let _ = out.send((number, item));
            })
            .await
        };
        // What is dropped was asked for by an earlier number, and nobody wants it any more.
        tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    std::future::pending::<Infallible>().await;
                }
            }
            never = followed => match never {},
        }
    }
}

/// Follows the agents' pods, for ever.
pub async fn watch_agents(cluster: Cluster, out: watch::Sender<Agents>) -> Infallible {
    let api = Api::<lean::Pod>::namespaced(cluster.client(), cluster.namespace());
    let strip = |pod: lean::Pod| {
        let lean::Pod { metadata, spec, status } = pod;
        // One that is being deleted runs on, for as long as its turn takes.
        let node = spec.node_name.filter(|_| status.phase == "Running");
        (metadata.name.unwrap_or_default(), node)
    };
    follow_all(api, Select::Labels(AGENTS), Watch::Pods, cluster.tally().clone(), strip, |change| {
        out.send_if_modified(|agents| match change {
            Change::All(pods) => {
                let all = pods.into_iter().filter_map(|(name, node)| Some((name, node?))).collect();
                let differs = agents.as_ref() != Some(&all);
                *agents = Some(all);
                differs
            }
            Change::Set((name, Some(node))) => {
                let all = agents.get_or_insert_default();
                all.insert(name, node.clone()) != Some(node)
            }
            Change::Set((name, None)) | Change::Unset((name, _)) => {
                agents.as_mut().is_some_and(|all| all.remove(&name).is_some())
            }
            Change::Trouble(_) => false,
        });
    })
    .await
}

/// Follows the policy, for ever.
pub async fn watch_policy(cluster: Cluster, out: watch::Sender<PolicyView>) -> Infallible {
    let api = Api::<lean::Held<false>>::namespaced(cluster.client(), cluster.namespace());
    follow(api, CONFIG_MAP, Watch::Policy, cluster.tally().clone(), |sight| {
        out.send_if_modified(|view| {
            let next = match sight {
                Sight::Seen(held) => {
                    let lean::Fields(mut data) = held.data;
                    PolicyView::Seen(data.remove(POLICY_KEY).flatten().map(|text| text.expose().clone()))
                }
                Sight::Absent => PolicyView::Seen(None),
                Sight::Trouble(trouble) => match view {
                    PolicyView::Waiting(_) => PolicyView::Waiting(format!("waits for the policy: {trouble}")),
                    PolicyView::Seen(_) => return false,
                },
            };
            let differs = *view != next;
            *view = next;
            differs
        });
    })
    .await
}

/// Reads one Node by a quorum read.
///
/// # Errors
///
/// Why it could not be read, [`Trouble::NotFound`] included.
pub async fn read_node(cluster: &Cluster, name: &str) -> Result<NodeNow, Trouble> {
    call(Api::<lean::Node>::all(cluster.client()).get(name)).await.map(NodeNow::from)
}

/// Writes `grant` and `turn` of one Node if it is still the version that was decided on, in one request that is never
/// repeated. Gives the Node as it is then.
///
/// # Errors
///
/// Why not. Unless [`Trouble::is_refusal`] it may have been written nevertheless.
pub async fn write_node(cluster: &Cluster, write: &NodeWrite, version: &str) -> Result<NodeNow, Trouble> {
    let NodeWrite { node, uid: _, grant, turn } = write;
    let mut annotations: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut put = |name: &str, value: Option<Option<String>>| {
        if let Some(value) = value {
            annotations.insert(format!("{PREFIX}{name}"), value);
        }
    };
    put("grant", text_of(grant, ToString::to_string));
    put("turn", text_of(turn, |word| word.as_str().to_owned()));
    // The version is that of one object: another Node of the same name has another.
    let body = json!({"metadata": {"resourceVersion": version, "annotations": annotations}});
    let api = Api::<lean::Node>::all(cluster.client());
    call(api.patch(node, &PatchParams::default(), &Patch::Merge(&body))).await.map(NodeNow::from)
}

fn text_of<T>(change: &fleet::Change<T>, text: impl Fn(&T) -> String) -> Option<Option<String>> {
    match change {
        fleet::Change::Keep => None,
        fleet::Change::Remove => Some(None),
        fleet::Change::Set(value) => Some(Some(text(value))),
    }
}

impl From<lean::Node> for NodeNow {
    fn from(node: lean::Node) -> Self {
        let server = gate::server(&node);
        let lean::Node { metadata, spec, status } = node;
        let none = BTreeMap::new();
        let is_ready = |condition: &lean::Condition| condition.kind == "Ready" && condition.status == "True";
        let raw = NodeRaw {
            uid: metadata.uid.as_deref().unwrap_or_default(),
            labels: metadata.labels.as_ref().unwrap_or(&none),
            annotations: metadata.annotations.as_ref().unwrap_or(&none),
            is_ready: status.conditions.iter().any(is_ready),
            is_cordoned: spec.unschedulable,
            has_agent: false,
        };
        let seen = NodeSeen::read(raw);
        Self {
            seen,
            name: metadata.name.unwrap_or_default(),
            version: metadata.resource_version.unwrap_or_default(),
            server,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use agent_core::fleet::{Said, Word};
    use agent_core::node::annotations::Phase;
    use agent_core::node::observed::Role;
    use serde_json::Value;
    use tokio::task::JoinSet;

    use super::*;
    use crate::cluster::fake::{Answer, Counts, Fake, until};

    const NODES: &str = "/api/v1/nodes";
    const PODS: &str = "/api/v1/namespaces/k3s-registry-agent/pods";

    fn given() -> (Fake, Arc<Counts>, Cluster) {
        let (fake, counts) = (Fake::default(), Arc::new(Counts::default()));
        let cluster = fake.cluster(counts.clone());
        (fake, counts, cluster)
    }

    fn node(phase: &str) -> Value {
        json!({"metadata": {"annotations": {"k3s-registry-agent/phase": phase}}, "spec": {"unschedulable": true},
            "status": {"images": [{"names": ["x"]}], "conditions": [{"type": "Ready", "status": "True"}]}})
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_come_stripped_page_by_page_then_change_by_change() {
        let (fake, counts, cluster) = given();
        for at in 0..250 {
            fake.put(&format!("{NODES}/n{at}"), node("Pending"));
        }
        let (number, wanted) = watch::channel(7);
        let (out, mut news) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_nodes(cluster, wanted, out));
        let Some((7, NodeNews::All(all))) = news.recv().await else { panic!("a list had to come") };
        assert_eq!((all.len(), counts.of("list ok")), (250, 3), "{:?}", counts.0);
        let NodeNow { seen, server, .. } = &all[0];
        assert!(seen.is_ready && seen.is_cordoned && seen.role == Role::Agent && server.is_none());
        assert_eq!(seen.phase, Said::Is(Phase::Pending));
        until(|| fake.open_watches() == 1).await;
        fake.put(&format!("{NODES}/n3"), node("Current"));
        let Some((7, NodeNews::Set(node))) = news.recv().await else { panic!("a change had to come") };
        assert_eq!((node.name.as_str(), &node.seen.phase), ("n3", &Said::Is(Phase::Current)));
        fake.delete(&format!("{NODES}/n4"));
        assert_eq!(news.recv().await, Some((7, NodeNews::Unset("n4".into()))));

        number.send_replace(8);
        let Some((8, NodeNews::All(all))) = news.recv().await else { panic!("a new list had to come") };
        assert_eq!((all.len(), counts.of("list ok")), (249, 6), "each number begins with a quorum read");
        number.send_replace(0);
        until(|| fake.open_watches() == 0).await;
        fake.put(&format!("{NODES}/n5"), self::node("Current"));
        assert!(news.try_recv().is_err(), "at 0 it rests");
        assert_eq!(counts.of("list ok"), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_says_what_changes_and_loses_against_any_other() {
        let (fake, _, cluster) = given();
        fake.put(&format!("{NODES}/n1"), node("Pending"));
        let seen = read_node(&cluster, "n1").await.unwrap();
        let grant: agent_core::grant::Grant = "0123456789ab/00c0ffee@0123456789abcdef".parse().unwrap();
        let write = NodeWrite {
            node: "n1".into(),
            uid: seen.seen.uid.clone(),
            grant: fleet::Change::Set(grant.clone()),
            turn: fleet::Change::Remove,
        };
        let now = write_node(&cluster, &write, &seen.version).await.unwrap();
        assert_eq!(now.seen.grant, Said::Is(grant));
        assert_eq!(
            fake.bodies().pop().unwrap(),
            json!({"metadata": {"resourceVersion": seen.version, "annotations": {
                "k3s-registry-agent/grant": "0123456789ab/00c0ffee@0123456789abcdef", "k3s-registry-agent/turn": null}}})
        );
        assert_eq!(write_node(&cluster, &write, &seen.version).await, Err(Trouble::Conflict));
        let write = NodeWrite { grant: fleet::Change::Remove, turn: fleet::Change::Set(Word::ServerGate), ..write };
        write_node(&cluster, &write, &now.version).await.unwrap();
        let annotations = fake.object(&format!("{NODES}/n1"))["metadata"]["annotations"].clone();
        assert_eq!(
            annotations,
            json!({"k3s-registry-agent/phase": "Pending", "k3s-registry-agent/turn": "server-gate"})
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_is_a_pod_of_ours_that_runs() {
        let (fake, _, cluster) = given();
        let pod = |component: &str, node: &str, phase: &str| {
            json!({"metadata": {"labels": {"app.kubernetes.io/name": "k3s-registry-agent",
                "app.kubernetes.io/component": component}}, "spec": {"nodeName": node}, "status": {"phase": phase}})
        };
        fake.put(&format!("{PODS}/a1"), pod("agent", "n1", "Running"));
        fake.put(&format!("{PODS}/a2"), pod("agent", "n2", "Pending"));
        fake.put(&format!("{PODS}/c"), pod("coordinator", "n3", "Running"));
        let (out, agents) = watch::channel(None);
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_agents(cluster, out));
        let on = || {
            let agents = agents.borrow();
            agents.as_ref().map(|pods| pods.values().cloned().collect::<Vec<String>>().join(","))
        };
        until(|| on().is_some()).await;
        assert_eq!(on().as_deref(), Some("n1"));
        until(|| fake.open_watches() == 1).await;
        fake.put(&format!("{PODS}/a2"), pod("agent", "n2", "Running"));
        until(|| on().as_deref() == Some("n1,n2")).await;
        fake.put(&format!("{PODS}/a1"), pod("agent", "n1", "Failed"));
        fake.delete(&format!("{PODS}/a2"));
        until(|| on().as_deref() == Some("")).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_that_cannot_be_seen_is_not_an_absent_one() {
        let (fake, _, cluster) = given();
        let path = "/api/v1/namespaces/k3s-registry-agent/configmaps/registries";
        fake.always(&format!("GET {path}"), Some(Answer::Status(403)));
        let (out, view) = watch::channel(PolicyView::Waiting(String::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_policy(cluster, out));
        let forbidden = PolicyView::Waiting("waits for the policy: the API server forbids it (403)".into());
        until(|| *view.borrow() == forbidden).await;
        fake.always(&format!("GET {path}"), None);
        until(|| *view.borrow() == PolicyView::Seen(None)).await;
        fake.put(path, json!({"data": {"policy.yaml": "pause: true", "registries.yaml": "{}"}}));
        let paused = PolicyView::Seen(Some("pause: true".into()));
        until(|| *view.borrow() == paused).await;
        fake.always(&format!("GET {path}"), Some(Answer::Status(403)));
        fake.end_watches(Some(500));
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        assert_eq!(*view.borrow(), paused, "what was seen stays");
        fake.always(&format!("GET {path}"), None);
        fake.put(path, json!({"data": {}}));
        until(|| *view.borrow() == PolicyView::Seen(None)).await;
    }
}

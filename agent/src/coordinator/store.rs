//! The Nodes as the coordinator holds them: what decisions rest on, and what a write needs.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::fleet::NodeSeen;
use agent_core::fleet::gate::ServerSeen;

use crate::cluster::nodes::NodeNow;

/// What is kept beside the [`NodeSeen`] of each Node.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// By name: the version that was seen last.
    versions: BTreeMap<String, String>,
    /// By name: the version that we wrote and that the watch has not shown yet. What it shows before is older.
    written: BTreeMap<String, String>,
    servers: BTreeMap<String, ServerSeen>,
    agents: BTreeSet<String>,
}

impl Store {
    /// These Nodes and no others.
    pub(crate) fn replace(&mut self, nodes: &mut BTreeMap<String, NodeSeen>, all: Vec<NodeNow>) {
        let Self { versions, written, servers, agents: _ } = self;
        versions.clear();
        written.clear();
        servers.clear();
        nodes.clear();
        for node in all {
            self.put(nodes, node);
        }
    }

    /// What the watch shows. Tells whether a decision may differ.
    pub(crate) fn watched(&mut self, nodes: &mut BTreeMap<String, NodeSeen>, node: NodeNow) -> bool {
        match self.written.get(&node.name) {
            Some(written) if *written != node.version => return false,
            Some(_) => drop(self.written.remove(&node.name)),
            None => {}
        }
        self.put(nodes, node)
    }

    /// What our own write left.
    pub(crate) fn wrote(&mut self, nodes: &mut BTreeMap<String, NodeSeen>, node: NodeNow) {
        // An unchanged object keeps its version, and the watch shows nothing.
        if self.versions.get(&node.name) != Some(&node.version) {
            self.written.insert(node.name.clone(), node.version.clone());
        }
        self.put(nodes, node);
    }

    /// What a quorum read gave; the watch may show older states yet, which no decision falls for.
    pub(crate) fn put(&mut self, nodes: &mut BTreeMap<String, NodeSeen>, node: NodeNow) -> bool {
        let NodeNow { name, version, mut seen, server } = node;
        seen.has_agent = self.agents.contains(&name);
        let differs = nodes.get(&name) != Some(&seen) || self.servers.get(&name) != server.as_ref();
        match server {
            Some(server) => drop(self.servers.insert(name.clone(), server)),
            None => drop(self.servers.remove(&name)),
        }
        self.versions.insert(name.clone(), version);
        if differs {
            nodes.insert(name, seen);
        }
        differs
    }

    /// The Node is gone.
    pub(crate) fn unset(&mut self, nodes: &mut BTreeMap<String, NodeSeen>, name: &str) {
        let Self { versions, written, servers, agents: _ } = self;
        versions.remove(name);
        written.remove(name);
        servers.remove(name);
        nodes.remove(name);
    }

    /// Agents run on these Nodes.
    pub(crate) fn agents(&mut self, nodes: &mut BTreeMap<String, NodeSeen>, pods: &BTreeMap<String, String>) {
        self.agents = pods.values().cloned().collect();
        for (name, seen) in nodes {
            seen.has_agent = self.agents.contains(name);
        }
    }

    /// The version that a write of this Node is compared with.
    pub(crate) fn version(&self, name: &str) -> Option<&str> {
        self.versions.get(name).map(String::as_str)
    }

    /// The servers, of which `is_awaited` says whether a cordoned one is waited for.
    pub(crate) fn servers(&self, is_awaited: impl Fn(&str) -> bool) -> Vec<ServerSeen> {
        let counted = |server: &ServerSeen| server.is_counted || is_awaited(&server.name);
        self.servers.values().map(|server| ServerSeen { is_counted: counted(server), ..server.clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use agent_core::fleet::NodeRaw;

    use super::*;

    fn node(version: &str, phase: &str) -> NodeNow {
        let annotations = BTreeMap::from([("k3s-registry-agent/phase".to_owned(), phase.to_owned())]);
        let raw = NodeRaw {
            uid: "u",
            labels: &BTreeMap::new(),
            annotations: &annotations,
            is_ready: true,
            is_cordoned: false,
            has_agent: false,
        };
        NodeNow { name: "n1".into(), version: version.into(), seen: NodeSeen::read(raw), server: None }
    }

    #[test]
    fn what_the_watch_shows_from_before_our_own_write_is_not_taken() {
        let (mut store, mut nodes) = (Store::default(), BTreeMap::new());
        store.replace(&mut nodes, vec![node("1", "Pending")]);
        store.wrote(&mut nodes, node("3", "Current"));
        let wrote = nodes.clone();
        assert!(!store.watched(&mut nodes, node("2", "Proving")), "it is older than what we wrote");
        assert_eq!((&nodes, store.version("n1")), (&wrote, Some("3")));
        assert!(!store.watched(&mut nodes, node("3", "Current")), "our own write changes nothing");
        assert!(store.watched(&mut nodes, node("4", "Proving")));
        assert_eq!(store.version("n1"), Some("4"));
    }

    #[test]
    fn a_write_that_changed_nothing_is_not_waited_for() {
        let (mut store, mut nodes) = (Store::default(), BTreeMap::new());
        store.replace(&mut nodes, vec![node("1", "Pending")]);
        store.wrote(&mut nodes, node("1", "Pending"));
        assert!(store.watched(&mut nodes, node("2", "Current")));
    }

    #[test]
    fn a_new_list_forgets_what_was_awaited_and_who_is_gone() {
        let (mut store, mut nodes) = (Store::default(), BTreeMap::new());
        store.replace(&mut nodes, vec![node("1", "Pending"), NodeNow { name: "n2".into(), ..node("1", "Current") }]);
        store.wrote(&mut nodes, node("3", "Current"));
        store.replace(&mut nodes, vec![node("5", "Proving")]);
        assert_eq!((nodes.len(), store.version("n2")), (1, None));
        assert!(store.watched(&mut nodes, node("6", "Current")));
    }

    #[test]
    fn an_agent_is_known_whichever_is_seen_first() {
        let (mut store, mut nodes) = (Store::default(), BTreeMap::new());
        let pods = BTreeMap::from([("agent-x".to_owned(), "n1".to_owned())]);
        store.agents(&mut nodes, &pods);
        store.replace(&mut nodes, vec![node("1", "Pending")]);
        assert!(nodes["n1"].has_agent);
        store.agents(&mut nodes, &BTreeMap::new());
        assert!(!nodes["n1"].has_agent);
        store.agents(&mut nodes, &pods);
        assert!(nodes["n1"].has_agent);
        assert!(!store.watched(&mut nodes, node("2", "Pending")), "a heartbeat is no news");
        assert_eq!(store.version("n1"), Some("2"), "but the next write is compared with it");
    }
}

//! The API server: Nodes with versions, the Lease and what it keeps, what watches still have to show, and who asked how often.

use std::collections::VecDeque;

use agent_core::fleet::lease::LeaseRecord;
use agent_core::fleet::{LeaseKept, NodeSeen, Said};
use agent_core::node::observed::Role;

/// A Node as it is.
#[derive(Clone, Debug)]
pub struct Object {
    pub seen: NodeSeen,
    pub version: u64,
}

/// One thing that a watch shows.
#[derive(Clone)]
pub struct News {
    pub index: usize,
    pub node: Option<Object>,
}

/// What the operator wants, in the order of edits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub number: u64,
    /// No k3s can take it.
    pub is_bad: bool,
}

impl Wanted {
    pub fn revision(self) -> String {
        format!("{:012x}", self.number)
    }
}

/// The Lease of the coordinator.
#[derive(Clone, Debug)]
pub struct Lease {
    pub record: LeaseRecord,
    pub kept: LeaseKept,
    pub retry: Option<String>,
}

/// The cluster's memory.
pub struct Api {
    pub nodes: Vec<Option<Object>>,
    pub names: Vec<String>,
    pub lease: Option<Lease>,
    pub wanted: Wanted,
    /// `policy.yaml`.
    pub policy: String,
    pub policy_number: u64,
    pub versions: u64,
    pub drawn: u64,
    /// Requests for each node, less watches and conflicts.
    pub requests: Vec<Requests>,
    /// What the holder's watch has not shown yet.
    pub news: [Option<VecDeque<News>>; 2],
}

/// Requests for one node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Requests {
    pub agent_reads: u32,
    pub agent_writes: u32,
    pub events: u32,
    pub coordinator: u32,
}

impl Requests {
    pub const fn sum(self) -> u32 {
        self.agent_reads + self.agent_writes + self.events + self.coordinator
    }
}

impl Api {
    pub fn new() -> Self {
        let mut api = Self {
            nodes: Vec::new(),
            names: Vec::new(),
            lease: None,
            wanted: Wanted { number: 1, is_bad: false },
            policy: String::new(),
            policy_number: 1,
            versions: 0,
            drawn: 0,
            requests: Vec::new(),
            news: [None, None],
        };
        api.ship_lease();
        api
    }

    /// A number that nobody drew before.
    pub const fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    /// The Lease as the manifests have it.
    pub fn ship_lease(&mut self) {
        let uid = format!("lease-{}", self.draw());
        let record = LeaseRecord { uid, holder: None, epoch: Said::Nothing, renewed: String::new() };
        self.lease = Some(Lease { record, kept: LeaseKept::default(), retry: None });
    }

    /// A Node that kubelet registers.
    pub fn registers(&mut self, index: usize, role: Role) {
        let uid = format!("uid-{}", self.draw());
        self.set(index, Some(node(uid, role)));
    }

    /// Whatever happens to a Node gets a version, and watches will show it.
    pub fn set(&mut self, index: usize, seen: Option<NodeSeen>) {
        self.versions += 1;
        let node = seen.map(|seen| Object { seen, version: self.versions });
        for news in self.news.iter_mut().flatten() {
            news.push_back(News { index, node: node.clone() });
        }
        self.nodes[index] = node;
    }

    /// Changes a Node, if it is there and the change is one.
    pub fn change(&mut self, index: usize, change: impl FnOnce(&mut NodeSeen)) -> bool {
        let Some(object) = &self.nodes[index] else { return false };
        let mut seen = object.seen.clone();
        change(&mut seen);
        let differs = seen != object.seen;
        if differs {
            self.set(index, Some(seen));
        }
        differs
    }

    pub fn seen(&self, index: usize) -> Option<&NodeSeen> {
        self.nodes[index].as_ref().map(|object| &object.seen)
    }
}

/// A Node that nobody wrote to yet.
pub const fn node(uid: String, role: Role) -> NodeSeen {
    NodeSeen {
        uid,
        role,
        is_ready: true,
        is_cordoned: false,
        is_excluded: false,
        is_paused: false,
        has_agent: true,
        retry: None,
        phase: Said::Nothing,
        revision: Said::Nothing,
        failed: Said::Nothing,
        wanted: Said::Nothing,
        answered: Said::Nothing,
        grant: Said::Nothing,
        turn: Said::Nothing,
    }
}

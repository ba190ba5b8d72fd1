//! All nodes: who may be disturbed next, `next_turns(&Fleet, &Policy, now) -> Turns` (`design.md` 7).
//!
//! The edge that drives it, in this order:
//!
//! 1. [`lease::step`]; after every acquisition a quorum LIST of the Nodes and then [`Ledger::acquired`]. While it does not
//!    hold the Lease, [`Ledger::lost`] and nothing else.
//! 2. When Nodes changed: [`Ledger::observe`]; then [`next_turns`].
//! 3. [`Turns::revoke`]: back to 1 with a new epoch, before anything else.
//! 4. [`Turns::lease`], if it differs from what the Lease says; the writes below rest on it.
//! 5. [`Turns::writes`], one merge patch a node, with the resourceVersion of what was decided on: [`Ledger::granted`] before
//!    the patch of a grant is sent, [`Ledger::not_written`] if the API server certainly refused it.
//! 6. [`Turns::gate`]: ask the gate for that server and decide again within [`Waits::gate`].

mod busy;
mod candidate;
pub mod gate;
mod halts;
mod kept;
pub mod lease;
mod ledger;
mod memory;
mod order;
mod out;
mod seen;
mod sentence;
mod stop;
mod waits;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

pub use kept::{Failure, LeaseKept};
pub use ledger::Ledger;
pub use out::Out;
pub use seen::{NodeRaw, NodeSeen, Said, Word};
pub use waits::Waits;

use memory::Memory;

use crate::grant::Grant;
use crate::policy::Policy;

/// All that the coordinator knows when it decides.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Every Node, by name.
    pub nodes: BTreeMap<String, NodeSeen>,
    /// The Lease, if this process holds it.
    pub holding: Option<lease::Holding>,
    /// What the Lease keeps beside its holder, as read last.
    pub kept: LeaseKept,
    /// The operator's `retry` token on the Lease.
    pub retry: Option<String>,
    /// What this process remembers.
    pub ledger: Ledger,
    /// The last answer of the server gate.
    pub gate: Option<GateAnswer>,
    /// The policy that lies there is invalid, and why; the one in force is the last valid one.
    pub policy_refused: Option<String>,
    /// Wall clock, for maintenance windows only.
    pub wall: Timestamp,
    /// How long is waited for what.
    pub waits: Waits,
}

/// What the server gate said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateAnswer {
    /// The server it was asked for.
    pub target: String,
    /// When the first address was asked, on our own clock.
    pub asked_at: Duration,
    /// Why not, in one sentence that names who did not answer; none: the server may be disturbed.
    pub refusal: Option<String>,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turns {
    /// A new epoch is needed before anything else; nothing else is decided then but [`Turns::lease`].
    pub revoke: Option<Revoke>,
    /// What is to stand on the Lease.
    pub lease: LeaseKept,
    /// What is to be written on Nodes, grants first. Nothing that stands there already.
    pub writes: Vec<NodeWrite>,
    /// The server for which the gate has to be asked now.
    pub gate: Option<GateAsk>,
    /// In what time to decide again if nothing changes; none: not before something does.
    pub wake: Option<Duration>,
}

/// Why a new epoch is taken, and what may be forgotten under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoke {
    /// One sentence, which names the nodes.
    pub why: String,
    /// Nodes that are gone and count no more once the epoch is new: for [`Ledger::acquired`].
    pub forget: Vec<String>,
}

/// One patch of one Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeWrite {
    /// The Node's name.
    pub node: String,
    /// Its uid: another Node of that name is not written.
    pub uid: String,
    /// Annotation `grant`.
    pub grant: Change<Grant>,
    /// Annotation `turn`.
    pub turn: Change<Word>,
}

/// What happens to an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<T> {
    /// It stays as it is.
    Keep,
    /// It is taken away.
    Remove,
    /// It gets this value.
    Set(T),
}

/// A question for the server gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateAsk {
    /// The server that is to be disturbed.
    pub node: String,
    /// It is stuck, and what only its own failure explains does not stand in its way.
    pub is_cure: bool,
}

/// A Node and what is remembered of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) seen: &'a NodeSeen,
    pub(crate) memory: Option<&'a Memory>,
}

impl Fleet {
    /// Every Node beside what is remembered of it: joined once for a decision, since both are sorted by name.
    pub(crate) fn rows(&self) -> Vec<Row<'_>> {
        let mut known = self.ledger.all().peekable();
        let mut rows = Vec::with_capacity(self.nodes.len());
        for (name, seen) in &self.nodes {
            while known.next_if(|(other, _)| *other < name.as_str()).is_some() {}
            let memory = known.next_if(|(other, _)| *other == name.as_str()).map(|(_, memory)| memory);
            rows.push(Row { name, seen, memory });
        }
        rows
    }
}

impl Turns {
    /// The grants among the writes.
    pub fn grants(&self) -> impl Iterator<Item = (&str, &Grant)> {
        self.writes.iter().filter_map(|write| match &write.grant {
            Change::Set(grant) => Some((write.node.as_str(), grant)),
            Change::Keep | Change::Remove => None,
        })
    }
}

/// Decides who may be disturbed next. Total and pure; `now` is this process's own monotonic clock.
pub fn next_turns(fleet: &Fleet, policy: &Policy, now: Duration) -> Turns {
    order::next_turns(fleet, policy, now)
}

#[cfg(test)]
mod tests;

//! What this process remembers of the Nodes. Watch caches may lag and step back; what is remembered does not.

use std::collections::BTreeMap;
use std::time::Duration;

use super::memory::Memory;
use super::out::Out;
use super::seen::NodeSeen;
use crate::grant::{Ask, Epoch};

/// A node that is gone, with nothing open, is forgotten after this time: a list from a lagging server may lack it.
const FORGET: Duration = Duration::from_secs(10 * 60);

/// What is remembered since this process took the Lease; times of waiting also from before, since the clock is the same.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    term: Option<Term>,
    nodes: BTreeMap<String, Memory>,
    /// When an ask for a revision was first seen, while it stands.
    asked: BTreeMap<String, Duration>,
}

/// One acquisition of the Lease.
#[derive(Clone, Debug)]
struct Term {
    epoch: Epoch,
    since: Duration,
}

impl Ledger {
    /// The Lease was acquired with this new epoch, and then `nodes` were listed by a quorum read: they are the truth.
    /// Grants of earlier epochs on nodes that do not show Applying or Proving are void. `out` is what the Lease listed when it
    /// was acquired; `forget` is [`super::Revoke::forget`] of the decision that asked for the epoch, else empty.
    pub fn acquired(
        &mut self,
        epoch: Epoch,
        nodes: &BTreeMap<String, NodeSeen>,
        out: &BTreeMap<String, Out>,
        forget: &[String],
        now: Duration,
    ) {
        for name in forget {
            if let Some(memory) = self.nodes.get_mut(name) {
                memory.write_off();
            }
        }
        self.nodes.retain(|name, memory| !(memory.is_gone && forget.contains(name)));
        for (name, seen) in nodes {
            self.nodes.entry(name.clone()).or_insert_with(|| Memory::new(seen)).list(seen);
        }
        for (name, out) in out.iter().filter(|(name, _)| !forget.contains(name)) {
            // A Node that says a phase says all there is.
            let seen = nodes.get(name);
            if seen.is_none_or(|seen| seen.phase.value().is_none()) {
                let memory = self.nodes.entry(name.clone()).or_insert_with(|| Memory::gone(out));
                memory.inherit(out, seen.is_some(), now);
            }
        }
        self.term = Some(Term { epoch, since: now });
        self.observe(nodes, now);
    }

    /// The Lease is not ours any more.
    pub fn lost(&mut self) {
        self.term = None;
    }

    /// Takes up what a watch shows. It may be old: progress never moves backward.
    pub fn observe(&mut self, nodes: &BTreeMap<String, NodeSeen>, now: Duration) {
        let epoch = self.term.as_ref().map(|term| &term.epoch);
        // Both are sorted by name: walked side by side, since thousands of look-ups by name are what costs time here.
        let mut known = self.nodes.iter_mut().peekable();
        let mut new = Vec::new();
        for (name, seen) in nodes {
            while let Some((_, memory)) = known.next_if(|(other, _)| *other < name) {
                memory.miss(now);
            }
            match known.next_if(|(other, _)| *other == name) {
                Some((_, memory)) => memory.see(seen, epoch, now),
                None => {
                    let mut memory = Memory::new(seen);
                    memory.see(seen, epoch, now);
                    new.push((name.clone(), memory));
                }
            }
        }
        known.for_each(|(_, memory)| memory.miss(now));
        let is_forgotten = |memory: &Memory| {
            let is_long = memory.away.is_some_and(|since| now.saturating_sub(since) >= FORGET);
            memory.is_gone && is_long && !memory.is_engaged()
        };
        self.nodes.retain(|_, memory| !is_forgotten(memory));
        self.nodes.extend(new);
        let mut asked = BTreeMap::new();
        for ask in nodes.values().filter_map(|seen| seen.wanted.value()) {
            if !asked.contains_key(&ask.revision) {
                let since = self.asked.get(&ask.revision).copied().unwrap_or(now);
                asked.insert(ask.revision.clone(), since);
            }
        }
        self.asked = asked;
    }

    /// A grant is about to be written; whatever comes of it, it counts as granted.
    pub fn granted(&mut self, node: &str, ask: &Ask, now: Duration) {
        if let Some(memory) = self.nodes.get_mut(node) {
            memory.grant(ask.clone(), now);
        }
    }

    /// The API server certainly did not write that grant (it answered with a conflict, or that there is no such Node).
    pub fn not_written(&mut self, node: &str, ask: &Ask) {
        if let Some(memory) = self.nodes.get_mut(node) {
            memory.not_granted(ask);
        }
    }

    /// Tells whether a server is cordoned so lately that the others wait for it: the server gate counts it.
    pub fn is_newly_cordoned(&self, node: &str, waits: &super::Waits, now: Duration) -> bool {
        let since = self.nodes.get(node).and_then(|memory| memory.cordoned);
        since.is_some_and(|since| now.saturating_sub(since) < waits.cordoned)
    }

    /// The epoch in force.
    pub(crate) fn epoch(&self) -> Option<&Epoch> {
        self.term.as_ref().map(|term| &term.epoch)
    }

    /// When the Lease was acquired and the Nodes were listed.
    pub(crate) fn since(&self) -> Option<Duration> {
        self.term.as_ref().map(|term| term.since)
    }

    /// What is remembered of a node.
    pub(crate) fn of(&self, node: &str) -> Option<&Memory> {
        self.nodes.get(node)
    }

    /// What is remembered of all nodes.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Memory)> {
        self.nodes.iter().map(|(name, memory)| (name.as_str(), memory))
    }

    /// When an ask for this revision was first seen.
    pub(crate) fn first_asked(&self, revision: &str) -> Option<Duration> {
        self.asked.get(revision).copied()
    }
}

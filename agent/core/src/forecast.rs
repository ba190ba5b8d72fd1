//! What a rollout would do if every turn ended well: who is granted a turn, after whom. `next_turns` itself decides it, on a
//! fleet on paper.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::fleet::lease::Holding;
use crate::fleet::{Change, Fleet, GateAnswer, LeaseKept, Ledger, NodeSeen, Said, Turns, Waits, Word, next_turns};
use crate::grant::{Ask, Epoch};
use crate::node::annotations::Phase;
use crate::policy::Policy;

/// Decisions that are worked out at most: one may take milliseconds where there are thousands of nodes.
const DECISIONS: usize = 400;
/// Decisions without a grant after which nothing but a change of the cluster brings one.
const IDLE: usize = 4;
/// From one decision to the next; longer than any gathering of asks, shorter than any answer of the gate holds.
const STEP: Duration = Duration::from_secs(4);

/// What was read of a cluster.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Every Node, by name.
    pub nodes: BTreeMap<String, NodeSeen>,
    /// What the coordinator's Lease keeps.
    pub kept: LeaseKept,
    /// The operator's `retry` token on the Lease.
    pub retry: Option<String>,
    /// The moment, for maintenance windows.
    pub wall: Timestamp,
}

/// What would come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// Nodes that have it.
    pub done: Vec<String>,
    /// Nodes in whose turn something is being done right now; those with another revision are granted one more.
    pub begun: Vec<String>,
    /// Nothing is granted as things are: the coordinator's sentence on it. The turns are those that come when the pause or
    /// the closed window has ended.
    pub stopped: Option<String>,
    /// Who is granted a turn: those of one entry at the same moment, each entry after the one before has ended well.
    pub turns: Vec<Vec<String>>,
    /// Who then still waits, and for what; none: the order was not worked out so far.
    pub waiting: BTreeMap<String, Option<Word>>,
    /// The coordinator's sentence at the end, while somebody waits.
    pub sentence: Option<String>,
    /// Who takes no part, and why.
    pub aside: BTreeMap<String, String>,
}

/// Works out how this revision would reach the nodes.
pub fn forecast(listed: &Listed, policy: &Policy, revision: &str) -> Forecast {
    let mut forecast = Forecast::default();
    let mut nodes = listed.nodes.clone();
    for (at, (name, seen)) in nodes.iter_mut().enumerate() {
        let is_begun = matches!(seen.phase, Said::Is(Phase::Applying | Phase::Proving));
        if is_begun {
            forecast.begun.push(name.clone());
            end(seen, None);
        }
        let has_it = seen.revision.value().is_some_and(|proven| proven == revision);
        let has_it = has_it && !matches!(seen.phase, Said::Is(Phase::Stuck));
        if let Some(why) = aside(seen, revision) {
            forecast.aside.insert(name.clone(), why);
        } else if has_it {
            forecast.done.extend((!is_begun).then(|| name.clone()));
        } else {
            ask(seen, Ask { revision: revision.to_owned(), number: format!("{:08x}", at + 1) });
        }
    }
    let mut walk = Walk::of(listed, nodes.clone());
    walk.walk(policy);
    if walk.turns.is_empty() && !walk.waiting().is_empty() && (policy.pause || !policy.windows.is_empty()) {
        forecast.stopped = Some(walk.fleet.kept.rollout);
        walk = Walk::of(listed, nodes);
        walk.walk(&Policy { pause: false, windows: Vec::new(), ..policy.clone() });
    }
    forecast.waiting = walk.waiting();
    forecast.turns = walk.turns;
    forecast.sentence = (!forecast.waiting.is_empty()).then_some(walk.fleet.kept.rollout);
    forecast
}

/// Why it asks for nothing, whatever the others do.
fn aside(seen: &NodeSeen, revision: &str) -> Option<String> {
    match &seen.phase {
        _ if seen.is_excluded => Some("excluded by its label".to_owned()),
        _ if !seen.has_agent => Some("no agent runs here".to_owned()),
        _ if seen.failed.value().is_some_and(|failed| failed == revision) => {
            Some(format!("{revision} failed here: it is tried again after a retry"))
        }
        Said::Is(Phase::Invalid) => Some("says Invalid: whether it will ask is known there alone".to_owned()),
        Said::Is(
            Phase::Pending
            | Phase::Applying
            | Phase::Proving
            | Phase::Current
            | Phase::RolledBack
            | Phase::Stuck
            | Phase::Paused,
        )
        | Said::Nothing
        | Said::Garbage => None,
    }
}

fn ask(seen: &mut NodeSeen, ask: Ask) {
    // Not a Stuck one: who is to be cured goes first.
    if !matches!(seen.phase, Said::Is(Phase::Stuck)) {
        seen.phase = Said::Is(Phase::Pending);
    }
    seen.wanted = Said::Is(ask);
    (seen.grant, seen.turn) = (Said::Nothing, Said::Nothing);
}

/// Its turn ends well: with what it was granted, or with what it had.
fn end(seen: &mut NodeSeen, granted: Option<&Ask>) {
    let granted = granted.or(seen.grant.value().map(|grant| &grant.ask)).cloned();
    if let Some(Ask { revision, number }) = granted {
        (seen.revision, seen.answered) = (Said::Is(revision), Said::Is(number));
    }
    seen.phase = Said::Is(Phase::Current);
    (seen.failed, seen.wanted) = (Said::Nothing, Said::Nothing);
    (seen.grant, seen.turn) = (Said::Nothing, Said::Nothing);
}

/// The fleet on paper, and who was granted what.
struct Walk {
    fleet: Fleet,
    now: Duration,
    turns: Vec<Vec<String>>,
}

impl Walk {
    /// The Lease was taken long enough ago.
    fn of(listed: &Listed, nodes: BTreeMap<String, NodeSeen>) -> Self {
        let Listed { nodes: _, kept, retry, wall } = listed;
        let epoch: Epoch = "0000000000000001".parse().expect("16 hex digits are an epoch");
        let taken = Duration::from_secs(1_000);
        let waits = Waits::default();
        let now = taken + waits.settle.max(waits.silent);
        let mut fleet = Fleet {
            nodes,
            holding: Some(Holding { uid: String::new(), epoch: epoch.clone(), renewed: now }),
            kept: kept.clone(),
            retry: retry.clone(),
            ledger: Ledger::default(),
            gate: None,
            policy_refused: None,
            wall: *wall,
            waits,
        };
        fleet.ledger.acquired(epoch, &fleet.nodes, &fleet.kept.out, &[], taken);
        Self { fleet, now, turns: Vec::new() }
    }

    fn walk(&mut self, policy: &Policy) {
        let mut idle = 0;
        for _ in 0..DECISIONS {
            self.now += STEP;
            if let Some(holding) = &mut self.fleet.holding {
                holding.renewed = self.now;
            }
            self.fleet.ledger.observe(&self.fleet.nodes, self.now);
            let turns = next_turns(&self.fleet, policy, self.now);
            idle = if self.follow(turns) { 0 } else { idle + 1 };
            if idle == IDLE || self.waiting().is_empty() {
                return;
            }
        }
    }

    /// Whoever is granted a turn has ended it well before the next decision; the gate is open. Tells whether one was.
    fn follow(&mut self, turns: Turns) -> bool {
        let Turns { revoke: _, lease, writes, gate, wake: _ } = turns;
        self.fleet.gate = gate.map(|ask| GateAnswer { target: ask.node, asked_at: self.now + STEP, refusal: None });
        self.fleet.kept = lease;
        let mut granted = Vec::new();
        for write in writes {
            let Some(seen) = self.fleet.nodes.get_mut(&write.node) else { continue };
            match write.turn {
                Change::Keep => {}
                Change::Remove => seen.turn = Said::Nothing,
                Change::Set(word) => seen.turn = Said::Is(word),
            }
            if let Change::Set(grant) = write.grant {
                self.fleet.ledger.granted(&write.node, &grant.ask, self.now);
                end(seen, Some(&grant.ask));
                granted.push(write.node);
            }
        }
        let is_any = !granted.is_empty();
        self.turns.extend(is_any.then_some(granted));
        is_any
    }

    fn waiting(&self) -> BTreeMap<String, Option<Word>> {
        let asking = self.fleet.nodes.iter().filter(|(_, seen)| seen.wanted.value().is_some());
        asking.map(|(name, seen)| (name.clone(), seen.turn.value().copied())).collect()
    }
}

#[cfg(test)]
mod tests;

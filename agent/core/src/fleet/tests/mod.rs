//! A fleet on paper: agents that do what `design.md` 7 says when a test tells them to.

mod busy;
mod halts;
mod lease_steps;
mod ledger;
mod order;
mod out;
mod properties;
mod servers;

use super::lease::Holding;
use super::*;
use crate::grant::{Ask, Epoch};
use crate::node::annotations::Phase;
use crate::node::observed::Role;

pub(super) const OLD: &str = "000000000000";
pub(super) const R1: &str = "111111111111";
pub(super) const R2: &str = "222222222222";

pub(super) fn epoch(number: u64) -> Epoch {
    format!("{number:016x}").parse().expect("an epoch")
}

pub(super) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A Node that is at rest with [`OLD`].
pub(super) fn node(role: Role) -> NodeSeen {
    NodeSeen {
        uid: "uid".into(),
        role,
        is_ready: true,
        is_cordoned: false,
        is_excluded: false,
        is_paused: false,
        has_agent: true,
        retry: None,
        phase: Said::Is(Phase::Current),
        revision: Said::Is(OLD.into()),
        failed: Said::Nothing,
        wanted: Said::Nothing,
        answered: Said::Nothing,
        grant: Said::Nothing,
        turn: Said::Nothing,
    }
}

pub(super) struct World {
    pub(super) fleet: Fleet,
    pub(super) policy: Policy,
    pub(super) now: Duration,
    /// What the gate answers when it is asked.
    pub(super) refusal: Option<String>,
    drawn: u32,
    epochs: u64,
}

impl World {
    /// Nodes by name, `s…` a server, all others workers; the Lease was taken long enough ago.
    pub(super) fn of(names: &[&str]) -> Self {
        let role = |name: &str| if name.starts_with('s') { Role::Server } else { Role::Agent };
        let nodes = names.iter().map(|name| ((*name).to_owned(), node(role(name)))).collect();
        let fleet = Fleet {
            nodes,
            holding: None,
            kept: LeaseKept::default(),
            retry: None,
            ledger: Ledger::default(),
            gate: None,
            policy_refused: None,
            wall: Timestamp::UNIX_EPOCH,
            // A test asks for one node after the other; the test of the gathering itself sets it.
            waits: Waits { gather: Duration::ZERO, ..Waits::default() },
        };
        let mut world =
            Self { fleet, policy: Policy::default(), now: seconds(1_000), refusal: None, drawn: 0, epochs: 0 };
        world.take(&[]);
        world.pass(60);
        world
    }

    /// The same, with every node asking for R1.
    pub(super) fn asking(names: &[&str]) -> Self {
        let mut world = Self::of(names);
        world.ask_all(R1);
        world
    }

    pub(super) fn seen(&mut self, name: &str) -> &mut NodeSeen {
        self.fleet.nodes.get_mut(name).expect("a node")
    }

    /// Takes the Lease, lists, and remembers.
    pub(super) fn take(&mut self, forget: &[String]) {
        self.epochs += 1;
        let epoch = epoch(self.epochs);
        self.fleet.holding = Some(Holding { uid: "lease".into(), epoch: epoch.clone(), renewed: self.now });
        self.fleet.ledger.acquired(epoch, &self.fleet.nodes, &self.fleet.kept.out, forget, self.now);
    }

    /// Time passes, the Lease is renewed and the Nodes are looked at.
    pub(super) fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        if let Some(holding) = &mut self.fleet.holding {
            holding.renewed = self.now;
        }
        self.observe();
    }

    pub(super) fn observe(&mut self) {
        self.fleet.ledger.observe(&self.fleet.nodes, self.now);
    }

    pub(super) fn ask(&mut self, name: &str, revision: &str) {
        self.drawn += 1;
        let number = format!("{:08x}", self.drawn);
        let seen = self.seen(name);
        if !seen.is_stuck() {
            seen.phase = Said::Is(Phase::Pending);
        }
        seen.failed = Said::Nothing;
        seen.wanted = Said::Is(Ask { revision: revision.into(), number });
    }

    pub(super) fn ask_all(&mut self, revision: &str) {
        for name in self.fleet.nodes.keys().cloned().collect::<Vec<_>>() {
            self.ask(&name, revision);
        }
    }

    /// Decides once, and writes nothing.
    pub(super) fn turns(&mut self) -> Turns {
        self.observe();
        next_turns(&self.fleet, &self.policy, self.now)
    }

    /// Decides, asks the gate where it is to be asked, and writes; who got a turn.
    pub(super) fn decide(&mut self) -> Vec<String> {
        let mut turns = self.turns();
        if let Some(ask) = turns.gate.take() {
            self.fleet.gate = Some(GateAnswer { target: ask.node, asked_at: self.now, refusal: self.refusal.clone() });
            turns = self.turns();
            assert_eq!(turns.gate, None, "the gate was asked a moment ago");
        }
        assert_eq!(turns.revoke, None);
        self.fleet.kept = turns.lease.clone();
        assert!(self.fleet.kept.rollout.len() <= 256 && !self.fleet.kept.rollout.is_empty());
        self.write(&turns)
    }

    pub(super) fn write(&mut self, turns: &Turns) -> Vec<String> {
        let mut granted = Vec::new();
        for write in &turns.writes {
            if let Change::Set(grant) = &write.grant {
                self.fleet.ledger.granted(&write.node, &grant.ask, self.now);
                granted.push(write.node.clone());
            }
            let seen = self.seen(&write.node);
            assert_eq!(seen.uid, write.uid);
            set(&mut seen.grant, write.grant.clone());
            set(&mut seen.turn, write.turn);
        }
        assert_eq!(turns.grants().count(), granted.len());
        granted
    }

    /// The agent answers its grant and begins.
    pub(super) fn begin(&mut self, name: &str) {
        let seen = self.seen(name);
        let number = seen.grant.value().expect("a grant").ask.number.clone();
        seen.phase = Said::Is(Phase::Applying);
        seen.answered = Said::Is(number);
        seen.wanted = Said::Nothing;
        self.observe();
    }

    /// Its turn ends well.
    pub(super) fn prove(&mut self, name: &str) {
        self.begin(name);
        let seen = self.seen(name);
        let revision = seen.grant.value().expect("a grant").ask.revision.clone();
        seen.phase = Said::Is(Phase::Current);
        seen.revision = Said::Is(revision);
        self.observe();
    }

    /// Its turn ends badly, and what was before is proven.
    pub(super) fn fail(&mut self, name: &str) {
        self.begin(name);
        let seen = self.seen(name);
        let revision = seen.grant.value().expect("a grant").ask.revision.clone();
        seen.phase = Said::Is(Phase::RolledBack);
        seen.failed = Said::Is(revision);
        self.observe();
    }

    pub(super) fn word(&self, name: &str) -> Option<Word> {
        self.fleet.nodes[name].turn.value().copied()
    }

    pub(super) fn sentence(&self) -> &str {
        &self.fleet.kept.rollout
    }

    /// Goes on until nobody is granted anything; in which order they were granted, those of one decision together.
    pub(super) fn roll_out(&mut self) -> String {
        let mut order = Vec::new();
        for _ in 0..100 {
            let granted = self.decide();
            if granted.is_empty() {
                break;
            }
            for name in &granted {
                self.prove(name);
            }
            order.push(granted.join("+"));
            self.pass(10);
        }
        order.join(" ")
    }
}

fn set<T>(said: &mut Said<T>, change: Change<T>) {
    match change {
        Change::Keep => {}
        Change::Remove => *said = Said::Nothing,
        Change::Set(value) => *said = Said::Is(value),
    }
}

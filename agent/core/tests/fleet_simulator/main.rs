//! Random lives of a fleet, decided by the real `next_turns`, `Ledger` and `lease::step`; the agents are stand-ins that do
//! the steps of the exchange. Troubles: agents and coordinators that die or are cut off, late grants, watches that lag, bad
//! revisions and edits in the middle, nodes that are NotReady, cordoned or paused, a Lease deleted.
//! `FLEET_SIMULATOR_SEEDS=N` lives more of them, `FLEET_SIMULATOR_SEED=S` lives one again; a failure tells its story.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agent_core::fleet::lease::{Holding, LeaseCase, LeaseRecord, LeaseSeen, LeaseStep, step};
use agent_core::fleet::{Change, Fleet, GateAnswer, LeaseKept, Ledger, NodeSeen, Said, Waits, next_turns};
use agent_core::grant::{Ask, Epoch, Grant};
use agent_core::node::annotations::Phase;
use agent_core::node::observed::Role;
use agent_core::policy::{MaxUnavailable, Order, Policy};
use jiff::Timestamp;

const SEEDS: u64 = 1000;
const OLD: &str = "000000000000";

#[test]
fn whatever_happens_a_fleet_keeps_the_promises_and_comes_to_rest() {
    #[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("FLEET_SIMULATOR_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FLEET_SIMULATOR_SEEDS").unwrap_or(SEEDS),
    };
    std::thread::scope(|scope| {
        for first in 0..2 {
            let seeds = seeds.clone().skip(first).step_by(2);
            scope.spawn(move || seeds.for_each(|seed| Life::new(seed).live()));
        }
    });
}

/// SplitMix64: the same life from the same seed, on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn one_in(&mut self, many: u64) -> bool {
        many != 0 && self.below(many) == 0
    }
}

/// How far the living process came with a grant.
enum Step {
    Idle,
    Used(Grant, u64),
    Shown(Grant),
}

struct Agent {
    /// The Node as it is.
    node: NodeSeen,
    version: u64,
    down_until: u64,
    cut_until: u64,
    step: Step,
    /// The journal.
    used: BTreeSet<String>,
    last_used: Option<String>,
    intent: Option<(Ask, u64)>,
    proven: String,
    failed: Option<String>,
    /// The number it was told of as absent is drawn anew no more often than once a minute.
    drawn_at: u64,
    begun: BTreeSet<String>,
}

#[derive(Default)]
struct Coordinator {
    down_until: u64,
    cut_until: u64,
    lease: Option<LeaseSeen>,
    holding: Option<Holding>,
    ledger: Ledger,
    view: BTreeMap<String, (NodeSeen, u64)>,
    gate: Option<GateAnswer>,
    revoke: Option<Vec<String>>,
    granted: BTreeSet<String>,
}

struct Life {
    seed: u64,
    dice: Dice,
    now: u64,
    agents: BTreeMap<String, Agent>,
    coordinators: [Coordinator; 2],
    record: Option<LeaseRecord>,
    kept: LeaseKept,
    policy: Policy,
    revision: u64,
    /// Revisions that no k3s can take.
    bad: BTreeSet<String>,
    /// One in so many seconds brings trouble; 0: none.
    trouble: u64,
    drawn: u64,
    /// Writes of grants that timed out and land later.
    late: Vec<(u64, String, u64, Grant)>,
    story: Vec<String>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let count = 5 + dice.below(16);
        let servers = [1, 2, 3, 5][dice.below(4) as usize];
        let agents = (0..count).map(|index| {
            let role = if index < servers { Role::Server } else { Role::Agent };
            (format!("n{index:02}"), Agent::new(role, index))
        });
        let max_unavailable = match dice.below(3) {
            0 => MaxUnavailable::Number(1),
            1 => MaxUnavailable::Number(3),
            _ => MaxUnavailable::Percent(25),
        };
        let order = if dice.one_in(2) { Order::Canary } else { Order::ServersFirst };
        Self {
            seed,
            now: 100,
            agents: agents.collect(),
            coordinators: Default::default(),
            record: None,
            kept: LeaseKept::default(),
            policy: Policy { max_unavailable, order, ..Policy::default() },
            revision: 1,
            bad: BTreeSet::new(),
            trouble: 3 + dice.below(40),
            drawn: 0,
            late: Vec::new(),
            story: Vec::new(),
            dice,
        }
    }

    fn live(mut self) {
        self.record = Some(self.free_lease());
        for _ in 0..600 + self.dice.below(1800) {
            self.second();
        }
        self.tell("the trouble is over".into());
        self.trouble = 0;
        let wanted = self.wanted();
        self.bad.remove(&wanted);
        if self.agents.values().any(|agent| agent.failed.as_deref() == Some(wanted.as_str())) {
            self.revision += 1;
        }
        let until = self.now + 3 * 3600;
        while self.now < until && !self.is_done() {
            self.second();
        }
        let rollout = self.kept.rollout.clone();
        self.hold(self.is_done(), &format!("not everybody came to rest: {rollout}"));
    }

    fn second(&mut self) {
        self.now += 1;
        if self.dice.one_in(self.trouble) {
            self.happen();
        }
        let due = self.late.iter().position(|(at, ..)| *at <= self.now);
        if let Some((_, name, version, grant)) = due.map(|at| self.late.remove(at)) {
            let agent = self.agents.get_mut(&name).unwrap();
            if agent.version == version {
                agent.node.grant = Said::Is(grant);
                agent.version += 1;
                self.tell(format!("a late grant for {name} lands"));
            }
        }
        for name in self.agents.keys().cloned().collect::<Vec<_>>() {
            self.agent(&name);
            self.promises();
        }
        for index in 0..2 {
            self.coordinator(index);
        }
    }

    fn happen(&mut self) {
        let away = 1 + self.dice.below(180);
        let names: Vec<String> = self.agents.keys().cloned().collect();
        let name = names[self.dice.below(names.len() as u64) as usize].clone();
        let index = self.dice.below(2) as usize;
        let until = self.now + away;
        let kind = self.dice.below(12);
        self.tell(format!("[event {kind} {name} coordinator {index} for {away}]"));
        let agent = self.agents.get_mut(&name).unwrap();
        match kind {
            0..=2 => {
                agent.down_until = until;
                agent.step = Step::Idle;
            }
            3..=4 => agent.cut_until = until,
            5 => self.coordinators[index] = Coordinator { down_until: until, ..Coordinator::default() },
            6 => self.coordinators[index].cut_until = until,
            7 => {
                self.revision += 1;
                if self.dice.one_in(3) {
                    self.bad.insert(self.wanted());
                }
            }
            8 => agent.node.is_cordoned = !agent.node.is_cordoned && agent.node.role == Role::Agent,
            9 => self.record = self.dice.one_in(3).then(|| self.free_lease()),
            10 => agent.node.is_ready = !agent.node.is_ready,
            _ => agent.node.is_paused = !agent.node.is_paused,
        }
        let agent = self.agents.get_mut(&name).unwrap();
        agent.version += 1;
    }

    fn agent(&mut self, name: &str) {
        let wanted = self.wanted();
        let calm = self.trouble == 0;
        let epoch = self.record.as_ref().and_then(|record| record.epoch.value().cloned());
        let slow = self.dice.one_in(4);
        let takes = 3 + self.dice.below(40);
        let (now, drawn) = (self.now, self.drawn);
        let agent = self.agents.get_mut(name).unwrap();
        if calm {
            agent.node.is_ready = true;
            agent.node.is_paused = false;
        }
        if now < agent.down_until || slow {
            return;
        }
        if let Some((ask, until)) = &agent.intent
            && now >= *until
        {
            if self.bad.contains(&ask.revision) {
                agent.failed = Some(ask.revision.clone());
            } else {
                agent.proven = ask.revision.clone();
                agent.failed = None;
            }
            agent.intent = None;
        }
        if now < agent.cut_until && !calm {
            return;
        }
        let mut told = agent.node.clone();
        match std::mem::replace(&mut agent.step, Step::Idle) {
            Step::Used(grant, version) => {
                if version == agent.version {
                    agent.node.phase = Said::Is(Phase::Applying);
                    agent.node.answered = Said::Is(grant.ask.number.clone());
                    agent.version += 1;
                    agent.step = Step::Shown(grant);
                }
                return;
            }
            Step::Shown(grant) => {
                if epoch.as_ref() == Some(&grant.epoch) && grant.ask.revision == wanted {
                    let is_new = agent.begun.insert(grant.ask.number.clone());
                    agent.intent = Some((grant.ask.clone(), now + takes));
                    self.tell(format!("{name} begins {}", grant.ask));
                    self.hold(is_new, "an ask began two turns");
                    return;
                }
            }
            Step::Idle => {}
        }
        if agent.intent.is_some() {
            told.phase = Said::Is(Phase::Applying);
        } else if agent.proven == wanted {
            told.phase = Said::Is(Phase::Current);
        } else if agent.failed.as_deref() == Some(wanted.as_str()) {
            told.phase = Said::Is(Phase::RolledBack);
        } else {
            told.phase = Said::Is(Phase::Pending);
        }
        told.revision = Said::Is(agent.proven.clone());
        told.failed = agent.failed.clone().map_or(Said::Nothing, Said::Is);
        let granted = told.grant.value().filter(|grant| told.wanted.value() == Some(&grant.ask)).cloned();
        let is_pending = told.phase == Said::Is(Phase::Pending);
        let redraws = is_pending
            && told.wanted.value().is_none_or(|ask| {
                let absent = told.turn == Said::Is(agent_core::fleet::Word::Absent) && now >= agent.drawn_at + 60;
                ask.revision != wanted || agent.used.contains(&ask.number) || absent
            });
        if (redraws || !is_pending) && agent.intent.is_none() {
            if let Some(grant) = &granted {
                agent.used.insert(grant.ask.number.clone());
                agent.last_used = Some(grant.ask.number.clone());
            }
            told.wanted = Said::Nothing;
            if redraws {
                self.drawn = drawn + 1;
                agent.drawn_at = now;
                told.wanted = Said::Is(Ask { revision: wanted, number: format!("{:08x}", self.drawn) });
            }
        }
        if let Some(number) = &agent.last_used {
            told.answered = Said::Is(number.clone());
        }
        if told != agent.node {
            agent.node = told;
            agent.version += 1;
        } else if let Some(grant) = granted.filter(|grant| is_pending && !agent.used.contains(&grant.ask.number)) {
            agent.used.insert(grant.ask.number.clone());
            agent.last_used = Some(grant.ask.number.clone());
            agent.step = Step::Used(grant, agent.version);
        }
    }

    fn coordinator(&mut self, index: usize) {
        let (now, waits) = (Duration::from_secs(self.now), Waits::default());
        let calm = self.trouble == 0;
        let one = &mut self.coordinators[index];
        if self.now < one.down_until || (self.now < one.cut_until && !calm) {
            return;
        }
        if calm && self.record.is_none() {
            self.record = Some(self.free_lease());
        }
        let one = &mut self.coordinators[index];
        one.lease = self.record.clone().map(|record| LeaseSeen::next(one.lease.take(), record, now));
        self.drawn += 1;
        let dice: Epoch = format!("{:016x}", self.drawn).parse().unwrap();
        let me = format!("c{index}");
        let case = LeaseCase {
            seen: one.lease.as_ref(),
            holding: one.holding.as_ref(),
            me: &me,
            revoke: one.revoke.is_some(),
            dice: &dice,
        };
        match step(case, &waits, now) {
            LeaseStep::Acquire(epoch) => {
                let record = self.record.as_mut().unwrap();
                record.holder = Some(me);
                record.epoch = Said::Is(epoch.clone());
                record.renewed = now.as_secs().to_string();
                let uid = record.uid.clone();
                one.lease = Some(LeaseSeen { record: record.clone(), unchanged_since: now });
                one.holding = Some(Holding { uid, epoch: epoch.clone(), renewed: now });
                one.view = self.agents.iter().map(|(name, it)| (name.clone(), (it.node.clone(), it.version))).collect();
                let nodes = one.view.iter().map(|(name, (seen, _))| (name.clone(), seen.clone())).collect();
                one.ledger.acquired(epoch, &nodes, &one.revoke.take().unwrap_or_default(), now);
                self.tell(format!("c{index} takes the Lease"));
                return;
            }
            LeaseStep::Renew => {
                self.record.as_mut().unwrap().renewed = now.as_secs().to_string();
                one.holding.as_mut().unwrap().renewed = now;
            }
            LeaseStep::Wait(_) => {}
            LeaseStep::Lost(_) => {
                one.holding = None;
                one.revoke = None;
                one.ledger.lost();
                return;
            }
        }
        let may_act = one.holding.as_ref().is_some_and(|holding| holding.may_act(&waits, now));
        if may_act {
            self.decide(index);
        }
    }

    fn decide(&mut self, index: usize) {
        let now = Duration::from_secs(self.now);
        let one = &mut self.coordinators[index];
        for (name, agent) in &self.agents {
            // A watch lags; it moves forward only.
            if self.trouble == 0 || !self.dice.one_in(3) {
                one.view.insert(name.clone(), (agent.node.clone(), agent.version));
            }
        }
        let nodes: BTreeMap<String, NodeSeen> =
            one.view.iter().map(|(name, it)| (name.clone(), it.0.clone())).collect();
        one.ledger.observe(&nodes, now);
        let mut fleet = Fleet {
            nodes,
            holding: one.holding.clone(),
            kept: self.kept.clone(),
            retry: None,
            ledger: one.ledger.clone(),
            gate: one.gate.clone(),
            policy_refused: None,
            wall: Timestamp::UNIX_EPOCH,
            waits: Waits::default(),
        };
        let mut turns = next_turns(&fleet, &self.policy, now);
        if let Some(ask) = turns.gate.take() {
            let others = self.agents.iter().filter(|(name, it)| **name != ask.node && it.node.role == Role::Server);
            let away = others.filter(|(_, it)| it.intent.is_some() || !it.node.is_ready).map(|(name, _)| name).next();
            let refusal = away.map(|name| format!("{name} does not answer"));
            one.gate = Some(GateAnswer { target: ask.node, asked_at: now, refusal });
            fleet.gate = one.gate.clone();
            turns = next_turns(&fleet, &self.policy, now);
        }
        if let Some(revoke) = turns.revoke {
            one.revoke = Some(revoke.forget);
            return;
        }
        self.kept = turns.lease;
        for write in turns.writes {
            let one = &mut self.coordinators[index];
            let version = one.view[&write.node].1;
            let agent = self.agents.get_mut(&write.node).unwrap();
            let is_conflict = agent.version != version;
            let is_late = self.trouble != 0 && self.dice.one_in(8);
            if let Change::Set(grant) = &write.grant {
                one.ledger.granted(&write.node, &grant.ask, now);
                let is_new = one.granted.insert(grant.ask.number.clone()) || is_conflict;
                let gate_held = agent.node.role != Role::Server
                    || self.agents.values().filter(|it| it.node.role == Role::Server).count() == 1
                    || one.gate.as_ref().is_some_and(|gate| {
                        gate.target == write.node
                            && gate.refusal.is_none()
                            && now - gate.asked_at <= Duration::from_secs(5)
                    });
                let is_halted = self.kept.halted.contains(&grant.ask.revision);
                if is_conflict && !is_late {
                    one.ledger.not_written(&write.node, &grant.ask);
                    one.granted.remove(&grant.ask.number);
                } else if is_late {
                    let at = self.now + self.dice.below(100);
                    self.late.push((at, write.node.clone(), version, grant.clone()));
                }
                let said = format!("c{index} grants {} {grant} late {is_late} conflict {is_conflict}", write.node);
                self.tell(said);
                self.hold(is_new, "an ask was granted twice");
                self.hold(gate_held, "a server was granted without the gate");
                self.hold(!is_halted, "a halted revision was granted");
            }
            if !is_conflict && !is_late {
                let agent = self.agents.get_mut(&write.node).unwrap();
                set(&mut agent.node.grant, write.grant);
                set(&mut agent.node.turn, write.turn);
                agent.version += 1;
            }
        }
    }

    fn promises(&self) {
        let out = || self.agents.values().filter(|agent| agent.intent.is_some());
        let allowed = self.policy.max_unavailable.of(self.agents.len());
        self.hold(out().count() <= allowed, "more nodes disturbed than allowed");
        self.hold(out().filter(|agent| agent.node.role == Role::Server).count() <= 1, "two servers disturbed");
    }

    fn is_done(&self) -> bool {
        let wanted = self.wanted();
        self.agents.values().all(|agent| agent.intent.is_none() && agent.proven == wanted)
    }

    fn wanted(&self) -> String {
        format!("{:012x}", self.revision)
    }

    fn free_lease(&mut self) -> LeaseRecord {
        self.drawn += 1;
        let uid = format!("lease-{}", self.drawn);
        LeaseRecord { uid, holder: None, epoch: Said::Nothing, renewed: String::new() }
    }

    fn tell(&mut self, what: String) {
        self.story.push(format!("{:>6} {what}", self.now));
    }

    fn hold(&self, holds: bool, promise: &str) {
        assert!(holds, "seed {}: {promise} at {}\n{}", self.seed, self.now, self.story.join("\n"));
    }
}

impl Agent {
    fn new(role: Role, index: u64) -> Self {
        let node = NodeSeen {
            uid: format!("uid-{index}"),
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
        };
        Self {
            node,
            version: 1,
            down_until: 0,
            cut_until: 0,
            step: Step::Idle,
            used: BTreeSet::new(),
            last_used: None,
            intent: None,
            proven: OLD.into(),
            failed: None,
            drawn_at: 0,
            begun: BTreeSet::new(),
        }
    }
}

fn set<T>(said: &mut Said<T>, change: Change<T>) {
    match change {
        Change::Keep => {}
        Change::Remove => *said = Said::Nothing,
        Change::Set(value) => *said = Said::Is(value),
    }
}

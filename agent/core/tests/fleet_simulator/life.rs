//! The life of one fleet: seconds, each with its troubles, passes and decisions, until the trouble is over and all is at rest.

use agent_core::fleet::Said;
use agent_core::node::annotations::Phase;
use agent_core::node::observed::Role;
use agent_core::policy::Policy;

use super::api::{Api, Wanted};
use super::coordinator::{Around as Above, Coordinator, Did};
use super::dice::Dice;
use super::machine::{Around, Body, Machine};
use super::promises::Promises;
use super::real::Real;
use super::standin::StandIn;
use super::truth::gate;
use super::writes::Late;

pub struct Life {
    pub seed: u64,
    pub dice: Dice,
    pub now: u64,
    pub api: Api,
    pub machines: Vec<Machine>,
    pub coordinators: [Coordinator; 2],
    /// What lies there, or lay there last, and can be read.
    pub policy: Policy,
    /// One in so many seconds brings trouble; 0: none.
    pub trouble: u64,
    pub late: Vec<Late>,
    pub promises: Promises,
    pub pace: u64,
    /// Dice of their own for what the Lease's list is for: coordinators die between the Lease and the Node, and machines are
    /// lost in their turns with them.
    unlucky: Dice,
    story: Vec<String>,
}

/// What a fleet is made of.
pub struct Made {
    pub seed: u64,
    pub nodes: u64,
    pub servers: u64,
    pub is_real: bool,
    pub policy: String,
    pub trouble: u64,
}

impl Life {
    pub fn new(made: Made) -> Self {
        let Made { seed, nodes, servers, is_real, policy, trouble } = made;
        let mut dice = Dice::new(seed);
        let mut life = Self {
            seed,
            now: 100,
            api: Api::new(),
            machines: Vec::new(),
            coordinators: [0, 1].map(|index| Coordinator::new(index, index as u64, 0, &mut dice)),
            policy: Policy::default(),
            trouble,
            late: Vec::new(),
            promises: Promises::default(),
            pace: 1,
            unlucky: Dice::new(seed ^ 0x0bad),
            story: Vec::new(),
            dice,
        };
        life.set_policy(policy);
        for index in 0..nodes {
            let role = if index < servers { Role::Server } else { Role::Agent };
            let is_new = life.trouble != 0 && life.dice.one_in(12);
            life.joins(role, is_real, is_new);
        }
        life.edits(false);
        life
    }

    /// A machine comes into the cluster.
    pub fn joins(&mut self, role: Role, is_real: bool, is_new: bool) {
        let proven = Some(Wanted { number: 1, is_bad: false }).filter(|_| !is_new);
        let index = self.machines.len();
        let body = if is_real {
            Body::Real(Box::new(Real::new(role, proven, index, &mut self.dice)))
        } else {
            Body::StandIn(Box::new(StandIn::new(role, proven.map(Wanted::revision))))
        };
        self.machines.push(Machine::new(role, body));
        self.api.names.push(format!("n{index:04}"));
        self.api.nodes.push(None);
        self.api.requests.push(Default::default());
        self.api.registers(index, role);
    }

    /// Another configuration is wanted.
    pub fn edits(&mut self, is_bad: bool) {
        self.api.wanted = Wanted { number: self.api.wanted.number + 1, is_bad };
        self.tell(format!("wanted is {} bad {is_bad}", self.api.wanted.revision()));
        self.wake_agents();
    }

    pub fn set_policy(&mut self, text: String) {
        self.tell(format!("policy {text:?}"));
        if let Ok(policy) = Policy::parse(&text) {
            self.policy = policy;
        }
        self.api.policy = text;
        self.api.policy_number += 1;
        self.wake_agents();
    }

    fn wake_agents(&mut self) {
        for machine in &mut self.machines {
            machine.due = machine.due.min(self.now + 1);
        }
    }

    /// Troubles, an end of trouble, and rest.
    pub fn live(mut self) {
        let rough = 400 + self.dice.below(1600);
        self.live_through(rough);
    }

    /// So many seconds of trouble.
    pub fn live_through(&mut self, rough: u64) {
        for _ in 0..rough {
            self.second();
        }
        self.calms_down();
        let until = self.now + 4 * 3600;
        while self.now < until && !self.is_at_rest() {
            self.second();
        }
        self.rests();
    }

    pub fn second(&mut self) {
        self.now += 1;
        if self.dice.one_in(self.trouble) {
            self.happens();
        }
        self.late_writes();
        if let Some(epoch) = self.api.lease.as_ref().and_then(|lease| lease.record.epoch.value()) {
            self.promises.epochs.insert(epoch.clone(), self.now);
        }
        let is_alone = !self.machines.iter().any(|machine| machine.role == Role::Server && machine.up);
        for index in 0..self.machines.len() {
            if let (true, 0, Body::StandIn(agent)) = (is_alone, self.trouble, &mut self.machines[index].body) {
                // Without an API server nobody can be given a cure: a person mends the machine.
                agent.mends();
            }
            self.machine(index, is_alone);
        }
        for index in 0..2 {
            self.coordinator(index, is_alone);
        }
    }

    fn late_writes(&mut self) {
        while let Some(at) = self.late.iter().position(|late| late.at <= self.now) {
            let Late { index, version, grant, .. } = self.late.swap_remove(at);
            if self.api.nodes[index].as_ref().is_some_and(|node| node.version == version) {
                self.tell(format!("a late grant for {} lands", self.api.names[index]));
                let uid = self.api.seen(index).map(|seen| seen.uid.clone()).unwrap_or_default();
                self.holds_landed(&uid, &grant);
                self.api.change(index, |seen| seen.grant = Said::Is(grant));
                self.machines[index].due = self.now;
            }
        }
    }

    fn machine(&mut self, index: usize, is_alone: bool) {
        let now = self.now;
        let machine = &mut self.machines[index];
        machine.second(now);
        self.kubelet(index);
        let machine = &mut self.machines[index];
        if now < machine.due || now < machine.down_until || now < machine.off_until {
            return;
        }
        let has_agent = self.api.seen(index).is_none_or(|seen| seen.has_agent);
        if !has_agent && !machine.is_disturbed() {
            machine.due = now + 10;
            return;
        }
        if std::mem::replace(&mut machine.is_leaving, false) {
            if machine.is_open() {
                machine.is_leaving = true;
            } else {
                self.api.change(index, |seen| seen.has_agent = false);
                return self.machines[index].dies(now, now);
            }
        }
        for _ in 0..4 {
            if !self.pass(index, is_alone) {
                break;
            }
        }
    }

    /// One pass of an agent. Tells whether the next is due at once.
    fn pass(&mut self, index: usize, is_alone: bool) -> bool {
        let is_rough = self.trouble != 0;
        let gate = if self.machines[index].role == Role::Server { self.gate(index, false) } else { Ok(()) };
        let machine = &mut self.machines[index];
        let around = Around {
            now: self.now,
            index,
            is_cut: is_alone || self.now < machine.cut_until,
            is_alone,
            lease: self.api.lease.as_ref().map(|lease| &lease.record).cloned(),
            wanted: self.api.wanted,
            policy: &self.policy,
            gate,
            is_rough,
        };
        let slow = u64::from(is_rough && self.dice.one_in(4)) * 2;
        let passed = machine.pass(&around, &mut self.api, &mut self.dice);
        machine.due = self.now + passed.after + slow;
        if let Some(number) = passed.began {
            self.tell(format!("{} begins {number}", self.api.names[index]));
            self.holds_begun(index, &number);
            if self.is_unlucky() {
                self.loses(index);
            }
        }
        passed.after == 0 && slow == 0 && self.dice.one_in(2)
    }

    fn is_unlucky(&mut self) -> bool {
        self.trouble != 0 && self.unlucky.one_in(40)
    }

    fn coordinator(&mut self, index: usize, is_alone: bool) {
        let is_rough = self.trouble != 0;
        let is_unlucky = self.is_unlucky();
        let Self { coordinators, api, dice, machines, now, .. } = self;
        let one = &mut coordinators[index];
        let gate = |target: usize, is_cure: bool| gate(machines, target, is_cure);
        let above = Above {
            now: *now,
            is_cut: is_alone || (*now < one.cut_until && is_rough),
            is_rough,
            is_unlucky,
            pace: self.pace,
            gate: &gate,
        };
        let versions = api.versions;
        let Did { granted, late, story, has_listed, has_died } = one.second(&above, api, dice);
        let process = one.process;
        if has_died || (!late.is_empty() && self.dice.one_in(2)) {
            self.comes_at_once(index);
        }
        self.late.extend(late);
        for line in story {
            self.tell(line);
        }
        for granted in &granted {
            let name = self.api.names[granted.index].clone();
            let conflict = if granted.is_certain_conflict { " in vain" } else { "" };
            self.tell(format!("{process} grants {name} {}{conflict}", granted.decision.ask));
            self.holds_granted(granted);
            if self.machines[granted.index].role == Role::Server && is_rough && self.dice.one_in(6) {
                self.fails_beside(granted.index);
            }
        }
        if has_listed {
            self.forget(process);
        }
        if self.api.versions != versions {
            self.wakes(versions);
        }
    }

    /// Agents see what was written on their Nodes.
    fn wakes(&mut self, versions: u64) {
        for index in 0..self.machines.len() {
            let Some(node) = self.api.nodes[index].as_ref().filter(|node| node.version > versions) else { continue };
            if let Said::Is(grant) = &node.seen.grant {
                let (uid, grant) = (node.seen.uid.clone(), grant.clone());
                self.holds_landed(&uid, &grant);
            }
            let machine = &mut self.machines[index];
            machine.due = machine.due.min(self.now + 1);
        }
    }

    pub fn is_done(&self, index: usize) -> bool {
        let wanted = self.api.wanted.revision();
        let node = self.api.seen(index);
        !self.machines[index].is_open()
            && node.is_some_and(|seen| seen.phase == Said::Is(Phase::Current) && seen.revision.value() == Some(&wanted))
    }

    fn is_at_rest(&self) -> bool {
        (0..self.machines.len()).all(|index| self.is_done(index))
    }

    fn rests(&self) {
        let rollout = self.coordinators.iter().map(Coordinator::rollout).collect::<Vec<_>>().join(" / ");
        for index in 0..self.machines.len() {
            let seen = self.api.seen(index);
            self.hold(self.is_done(index), &format!("{} has no rest: {seen:?}: {rollout}", self.api.names[index]));
        }
    }

    pub fn tell(&mut self, what: String) {
        self.story.push(format!("{:>6} {what}", self.now));
    }

    pub fn hold(&self, holds: bool, promise: &str) {
        assert!(holds, "{promise}\n{}\nFLEET_SIMULATOR_SEED={}: {promise}", self.story.join("\n"), self.seed);
    }
}

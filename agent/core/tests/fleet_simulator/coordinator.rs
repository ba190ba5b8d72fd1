//! A coordinator by the real `lease::step`, `Ledger` and `next_turns`: the order of its edge, with a clock, a watch and a
//! policy of its own.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use agent_core::fleet::lease::{Holding, LeaseCase, LeaseSeen, LeaseStep, step};
use agent_core::fleet::{Fleet, LeaseKept, Ledger, Revoke, Said, Waits};
use agent_core::grant::Epoch;
use agent_core::policy::Policy;
use jiff::Timestamp;

use super::api::Api;
use super::dice::Dice;
use super::promises::Granted;
use super::writes::Late;

pub struct Coordinator {
    index: usize,
    /// Which of all processes that ever lived.
    pub process: u64,
    pub down_until: u64,
    pub cut_until: u64,
    /// Its watch shows nothing until then.
    pub blind_until: u64,
    /// Its own clock, and what the wall clock is off by.
    clock: u64,
    pub wall_off: i64,
    pub fleet: Fleet,
    pub policy: Policy,
    policy_number: u64,
    pub versions: Vec<Option<u64>>,
    lease: Option<LeaseSeen>,
    /// What is to stand on the Lease; what stands there is the fleet's.
    pub kept: LeaseKept,
    pub revoke: Option<Revoke>,
    /// The Lease was taken, and the Nodes are not listed yet.
    list_at: Option<u64>,
    pub is_dirty: bool,
    pub decide_at: Option<u64>,
}

/// What it needs of its surroundings for one second.
pub struct Around<'a> {
    pub now: u64,
    pub is_cut: bool,
    pub is_rough: bool,
    /// If it lists a grant now, it dies before it grants.
    pub is_unlucky: bool,
    /// So many seconds are between two decisions on what is new.
    pub pace: u64,
    pub gate: &'a dyn Fn(usize, bool) -> Result<(), String>,
}

/// What it did.
#[derive(Default)]
pub struct Did {
    pub granted: Vec<Granted>,
    pub late: Vec<Late>,
    pub story: Vec<String>,
    /// The Nodes were listed under a new epoch.
    pub has_listed: bool,
    /// It died, when the Lease listed a grant and the Node did not know of it.
    pub has_died: bool,
}

impl Coordinator {
    pub fn new(index: usize, process: u64, down_until: u64, dice: &mut Dice) -> Self {
        let fleet = Fleet {
            nodes: BTreeMap::new(),
            holding: None,
            kept: LeaseKept::default(),
            retry: None,
            ledger: Ledger::default(),
            gate: None,
            policy_refused: None,
            wall: Timestamp::UNIX_EPOCH,
            waits: Waits::default(),
        };
        Self {
            index,
            process,
            down_until,
            cut_until: 0,
            blind_until: 0,
            clock: dice.below(100_000),
            wall_off: dice.below(600).cast_signed() - 300,
            fleet,
            policy: Policy::default(),
            policy_number: 0,
            versions: Vec::new(),
            lease: None,
            kept: LeaseKept::default(),
            revoke: None,
            list_at: None,
            is_dirty: true,
            decide_at: None,
        }
    }

    pub fn clock(&self, now: u64) -> Duration {
        Duration::from_secs(self.clock + now)
    }

    pub fn rollout(&self) -> &str {
        &self.kept.rollout
    }

    pub fn second(&mut self, around: &Around<'_>, api: &mut Api, dice: &mut Dice) -> Did {
        let mut did = Did::default();
        self.versions.resize(api.nodes.len(), None);
        if around.now < self.down_until || around.is_cut {
            return did;
        }
        if !around.is_rough || dice.one_in(3) {
            self.sees_policy(api);
        }
        self.lease(around, api, &mut did);
        if self.list_at.is_some_and(|at| around.now >= at) {
            self.list(around, api, &mut did);
        }
        self.watch(around, api, dice);
        let clock = self.clock(around.now);
        let may_act = self.fleet.holding.as_ref().is_some_and(|holding| holding.may_act(&self.fleet.waits, clock));
        if !may_act || self.list_at.is_some() {
            return did;
        }
        // What was written is looked at again at once, as after a breath.
        for _ in 0..3 {
            let is_due = self.decide_at.is_some_and(|at| around.now >= at);
            let is_news = self.is_dirty && around.now.is_multiple_of(around.pace);
            if !is_due && !is_news {
                break;
            }
            self.decide(around, api, dice, &mut did);
            if self.revoke.is_some() {
                break;
            }
        }
        did
    }

    fn sees_policy(&mut self, api: &Api) {
        if self.policy_number != api.policy_number {
            self.policy_number = api.policy_number;
            self.is_dirty = true;
            match Policy::parse(&api.policy) {
                Ok(policy) => (self.policy, self.fleet.policy_refused) = (policy, None),
                Err(errors) => self.fleet.policy_refused = errors.first().map(ToString::to_string),
            }
        }
    }

    fn lease(&mut self, around: &Around<'_>, api: &mut Api, did: &mut Did) {
        let clock = self.clock(around.now);
        // Who holds it does not read it: a write that is refused tells.
        if self.fleet.holding.is_none() {
            self.read_lease(api, clock);
        }
        let dice: Epoch = format!("{:016x}", api.draw()).parse().unwrap();
        let mut next = self.step(&dice, clock);
        if matches!(next, LeaseStep::Renew | LeaseStep::Acquire(_)) && self.is_lease_other(api) {
            self.read_lease(api, clock);
            next = self.step(&dice, clock);
        }
        match next {
            LeaseStep::Acquire(epoch) => self.acquire(epoch, around, api, did),
            LeaseStep::Renew => {
                let Some(lease) = &mut api.lease else { return };
                lease.record.renewed = clock.as_secs().to_string();
                if self.list_at.is_none() {
                    lease.kept.clone_from(&self.kept);
                }
                self.fleet.kept.clone_from(&lease.kept);
                self.is_dirty |= self.fleet.retry != lease.retry;
                self.fleet.retry.clone_from(&lease.retry);
                if let Some(holding) = &mut self.fleet.holding {
                    holding.renewed = clock;
                }
                self.read_lease(api, clock);
            }
            LeaseStep::Wait(_) => {}
            LeaseStep::Lost(_) => self.lose(api),
        }
    }

    fn step(&self, dice: &Epoch, clock: Duration) -> LeaseStep {
        let case = LeaseCase {
            seen: self.lease.as_ref(),
            holding: self.fleet.holding.as_ref(),
            me: ["one", "two"][self.index],
            revoke: self.revoke.is_some() && self.list_at.is_none(),
            dice,
        };
        step(case, &self.fleet.waits, clock)
    }

    fn read_lease(&mut self, api: &Api, clock: Duration) {
        self.lease = api.lease.as_ref().map(|lease| LeaseSeen::next(self.lease.take(), lease.record.clone(), clock));
    }

    /// A write with the version that was read would be refused.
    fn is_lease_other(&self, api: &Api) -> bool {
        self.lease.as_ref().map(|seen| &seen.record) != api.lease.as_ref().map(|lease| &lease.record)
    }

    fn lose(&mut self, api: &mut Api) {
        self.fleet.holding = None;
        self.fleet.gate = None;
        self.fleet.ledger.lost();
        self.revoke = None;
        self.list_at = None;
        self.decide_at = None;
        api.news[self.index] = None;
    }

    fn acquire(&mut self, epoch: Epoch, around: &Around<'_>, api: &mut Api, did: &mut Did) {
        let clock = self.clock(around.now);
        let Some(lease) = &mut api.lease else { return };
        if self.fleet.holding.is_some() && self.list_at.is_none() {
            lease.kept.clone_from(&self.kept);
        }
        lease.record.holder = Some(["one", "two"][self.index].to_owned());
        lease.record.epoch = Said::Is(epoch.clone());
        lease.record.renewed = clock.as_secs().to_string();
        did.story.push(format!("{} takes the Lease at {epoch}", ["one", "two"][self.index]));
        self.fleet.holding = Some(Holding { uid: lease.record.uid.clone(), epoch, renewed: clock });
        self.fleet.kept = lease.kept.clone();
        self.kept = lease.kept.clone();
        self.fleet.retry.clone_from(&lease.retry);
        self.fleet.gate = None;
        self.read_lease(api, clock);
        self.decide_at = None;
        self.list_at = Some(around.now + u64::from(around.is_rough));
    }

    /// A quorum read, after the Lease became ours.
    fn list(&mut self, around: &Around<'_>, api: &mut Api, did: &mut Did) {
        self.list_at = None;
        api.news[self.index] = Some(VecDeque::new());
        self.fleet.nodes.clear();
        self.versions = vec![None; api.nodes.len()];
        for (index, node) in api.nodes.iter().enumerate() {
            if let Some(node) = node {
                self.fleet.nodes.insert(api.names[index].clone(), node.seen.clone());
                self.versions[index] = Some(node.version);
            }
        }
        let epoch = self.fleet.holding.as_ref().unwrap().epoch.clone();
        let forget = self.revoke.take().map(|revoke| revoke.forget).unwrap_or_default();
        let clock = self.clock(around.now);
        self.fleet.ledger.acquired(epoch, &self.fleet.nodes, &self.fleet.kept.out, &forget, clock);
        self.is_dirty = true;
        did.has_listed = true;
    }

    fn watch(&mut self, around: &Around<'_>, api: &mut Api, dice: &mut Dice) {
        if around.now < self.blind_until && around.is_rough {
            return;
        }
        let Some(news) = &mut api.news[self.index] else { return };
        let mut shown = if around.is_rough { dice.below(2 + news.len() as u64) as usize } else { news.len() };
        while let Some(next) = news.pop_front().filter(|_| shown > 0) {
            shown -= 1;
            let name = &api.names[next.index];
            match next.node {
                // Its own write was answered with a newer one.
                Some(node) if self.versions[next.index].is_some_and(|known| known > node.version) => {}
                Some(node) => {
                    self.versions[next.index] = Some(node.version);
                    self.fleet.nodes.insert(name.clone(), node.seen);
                }
                None => {
                    self.versions[next.index] = None;
                    self.fleet.nodes.remove(name);
                }
            }
            self.is_dirty = true;
        }
    }
}

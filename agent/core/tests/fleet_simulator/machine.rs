//! One machine: its agent, whether k3s runs there, and what troubles it.

use agent_core::fleet::lease::LeaseRecord;
use agent_core::node::observed::Role;
use agent_core::policy::Policy;

use super::api::{Api, Wanted};
use super::dice::Dice;
use super::real::Real;
use super::standin::StandIn;

/// Who decides there.
pub enum Body {
    /// The steps of the exchange, and no more.
    StandIn(Box<StandIn>),
    /// The agent's own `plan`.
    Real(Box<Real>),
}

pub struct Machine {
    pub role: Role,
    pub body: Body,
    /// The agent's next pass.
    pub due: u64,
    /// The agent's process is dead until then.
    pub down_until: u64,
    /// Without power until then.
    pub off_until: u64,
    /// Its network is cut until then.
    pub cut_until: u64,
    /// The pod is to end as soon as nothing is open.
    pub is_leaving: bool,
    /// k3s is seen up, or not, since.
    pub up: bool,
    pub up_since: u64,
    /// Its Node was deleted, excluded or made again in its turn, since; nobody is bound to know of the turn for ever.
    pub away_since: Option<u64>,
    /// Whoever could know of its turn waited long enough, or the Lease was deleted with its Node: the limits of the protocol
    /// that are written down.
    pub is_forgotten: bool,
    /// How many nodes might be out when it was granted last.
    pub allowed: usize,
    /// By which process.
    pub granted_by: u64,
    /// The Lease of that time.
    pub granted_under: String,
}

/// What an agent finds around it in one pass.
pub struct Around<'a> {
    pub now: u64,
    pub index: usize,
    /// The API server cannot be reached from here.
    pub is_cut: bool,
    /// No server runs.
    pub is_alone: bool,
    pub lease: Option<LeaseRecord>,
    pub wanted: Wanted,
    pub policy: &'a Policy,
    /// What the other servers answer, if this is one.
    pub gate: Result<(), String>,
    /// Troubles still happen.
    pub is_rough: bool,
}

/// What came of a pass.
#[derive(Default)]
pub struct Passed {
    /// The next is due after this many seconds.
    pub after: u64,
    /// A turn began, for this ask.
    pub began: Option<String>,
}

impl Machine {
    pub const fn new(role: Role, body: Body) -> Self {
        Self {
            role,
            body,
            due: 0,
            down_until: 0,
            off_until: 0,
            cut_until: 0,
            is_leaving: false,
            up: true,
            up_since: 0,
            away_since: None,
            is_forgotten: false,
            allowed: 0,
            granted_by: u64::MAX,
            granted_under: String::new(),
        }
    }

    pub fn pass(&mut self, around: &Around<'_>, api: &mut Api, dice: &mut Dice) -> Passed {
        match &mut self.body {
            Body::StandIn(agent) => agent.pass(around, api, dice),
            Body::Real(agent) => agent.pass(around, api, dice),
        }
    }

    /// A turn is open: the runtime is, was, or may any moment be disturbed.
    pub fn is_disturbed(&self) -> bool {
        match &self.body {
            Body::StandIn(agent) => agent.is_disturbed(),
            Body::Real(agent) => agent.is_disturbed(),
        }
    }

    /// Something is begun, if only the exchange.
    pub fn is_open(&self) -> bool {
        match &self.body {
            Body::StandIn(agent) => agent.is_open(),
            Body::Real(agent) => agent.is_open(),
        }
    }

    pub fn is_up(&self, now: u64) -> bool {
        now >= self.off_until
            && match &self.body {
                Body::StandIn(agent) => agent.is_up(now),
                Body::Real(agent) => agent.is_up(),
            }
    }

    /// The agent's process dies.
    pub fn dies(&mut self, now: u64, until: u64) {
        self.down_until = self.down_until.max(until);
        self.due = self.due.max(now + 1);
        match &mut self.body {
            Body::StandIn(agent) => agent.dies(),
            Body::Real(agent) => agent.world.die(),
        }
    }

    /// The power goes, and comes back.
    pub fn loses_power(&mut self, now: u64, until: u64) {
        self.dies(now, until + 5);
        self.off_until = self.off_until.max(until);
        match &mut self.body {
            Body::StandIn(agent) => agent.reboots(until),
            Body::Real(agent) => agent.reboots = true,
        }
    }

    /// A second passes; it is looked at whether k3s runs.
    pub fn second(&mut self, now: u64) {
        if let Body::Real(agent) = &mut self.body {
            agent.second(now >= self.off_until);
        }
        let up = self.is_up(now);
        if up != self.up {
            (self.up, self.up_since) = (up, now);
        }
    }
}

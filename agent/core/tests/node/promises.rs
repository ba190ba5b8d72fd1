//! What must hold at every step of a node's life.

use agent_core::node::annotations::{Phase, REASON_LIMIT, sentence};
use agent_core::node::journal::Rung;
use agent_core::node::plan::{Desired, Plan, Step};
use agent_core::node::turn::Reach;
use agent_core::policy::Mode;
use agent_core::registries::model::Registries;
use agent_core::runtime::auth_tables::ConfigVersion;
use agent_core::runtime::expect::expect;
use agent_core::runtime::settings::{Program, Settings};
use agent_core::tree::Tree;

use crate::world::World;

/// Part of every password.
pub const CANARY: &str = "canary";

pub struct Promises {
    seed: u64,
    original: Option<Tree>,
}

impl Promises {
    pub const fn new(seed: u64) -> Self {
        Self { seed, original: None }
    }

    /// Tells the story if it does not hold.
    pub fn hold(&self, holds: bool, world: &World, what: &str) {
        assert!(
            holds,
            "{what}\nNODE_SIMULATOR_SEED={}\nrecord: {:#?}\nstory: {}",
            self.seed,
            world.record,
            world.told()
        );
    }

    /// One pass, and everything that must be true of it.
    pub fn pass(&mut self, world: &mut World, dies_after: Option<usize>) -> Plan {
        let before = world.record.clone().unwrap_or_default();
        let loaded = world.runs_on();
        let was_set = world.wall_was_set;
        let plan = world.pass(dies_after);
        let hold = |holds: bool, what: &str| {
            if !holds {
                self.hold(holds, world, &format!("{what}: {plan:#?}"));
            }
        };
        hold(!plan.reason.is_empty() && sentence(&plan.reason).len() <= REASON_LIMIT, "a reason");
        hold(!format!("{plan:?}").contains(CANARY), "a password in a plan");
        let open = before.intent.as_ref().filter(|intent| intent.rung != Rung::Stuck);
        for step in &plan.steps {
            if let Step::Record(record) = step {
                hold(!serde_json::to_string(record).unwrap().contains(CANARY), "a password in the record");
            }
            if let Step::Restart(turn) = step {
                hold(turn.reach() == Reach::Goal || before.intent.is_some(), "a restart without a turn or an intent");
            }
            if let (Step::Record(record), None) = (step, open)
                && let Some(intent) = &record.intent
            {
                let failed = before.failed.iter().any(|failed| failed.model == intent.model);
                hold(!failed, "a failed model is tried again");
            }
        }
        if let (None, Some(loaded), Desired::Ready(wanted), Mode::Manage) =
            (open, &loaded, &world.desired, world.policy.mode)
            && !was_set
            && restarts(&plan)
        {
            let goal = goal(&plan, world).unwrap_or_else(|| wanted.registries.clone());
            hold(!same(loaded, &goal), "a restart for what is loaded already");
        }
        self.current(world, &plan);
        // Until something of ours was proven, what an administrator writes is the file from before us.
        if let (Some(original), true) = (&self.original, before.applied.is_some() || before.intent.is_some()) {
            hold(world.original.as_ref() == Some(original), "the file from before us was overwritten");
        }
        self.original = world.original.clone();
        plan
    }

    /// `Current` is never said of something that was not proven.
    fn current(&self, world: &World, plan: &Plan) {
        if plan.phase != Phase::Current || !plan.steps.is_empty() || world.policy.mode == Mode::Report {
            return;
        }
        let hold = |holds: bool, what: &str| {
            if !holds {
                self.hold(holds, world, &format!("{what}: {plan:#?}"));
            }
        };
        let record = world.record.clone().unwrap_or_default();
        let restored = world.policy.mode == Mode::Restore;
        if restored && world.original.is_none() {
            return;
        }
        let wanted = match (&world.desired, restored) {
            (_, true) => world.original.as_ref().and_then(super::world::files::meaning),
            (Desired::Ready(wanted), false) => Some(wanted.registries.clone()),
            (Desired::Waiting(_) | Desired::None | Desired::Refused(_), false) => None,
        };
        let wanted = wanted.unwrap_or_default();
        hold(world.loaded().is_some_and(|loaded| same(loaded, &wanted)), "Current, and something else is loaded");
        let applied = record.applied.as_ref();
        hold(applied.is_some_and(|applied| applied.tree == world.key().tree(&world.disk)), "Current, another file");
        hold(applied.map(|applied| &applied.revision) == plan.revision.as_ref(), "another revision");
        if restored {
            hold(world.original.as_ref() == Some(&world.disk), "restored, but not byte for byte");
        }
    }
}

fn restarts(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| matches!(step, Step::Restart(_)))
}

fn goal(plan: &Plan, _world: &World) -> Option<Registries> {
    plan.steps.iter().find_map(|step| match step {
        Step::Replace(tree) => super::world::files::meaning(tree),
        Step::Keep(..)
        | Step::Record(_)
        | Step::ArmGuard { .. }
        | Step::PushGuard { .. }
        | Step::ClaimGuard
        | Step::ClearGuard
        | Step::Restart(_) => None,
    })
}

/// Whether k3s would make the same of both.
fn same(left: &Registries, right: &Registries) -> bool {
    let settings = Settings::plain(Program::K3s);
    let (left, right) = (expect(left, &settings), expect(right, &settings));
    let bytes = |expected: &agent_core::runtime::expect::Expected| {
        let auths = expected.auths.to_bytes(ConfigVersion::V3, &settings);
        let hosts: Vec<_> =
            expected.hosts.iter().map(|(name, hosts)| (name.clone(), hosts.to_bytes(Program::K3s))).collect();
        (hosts, auths.expose().clone())
    };
    bytes(&left) == bytes(&right)
}

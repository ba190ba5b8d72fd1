//! An agent that decides by the real `plan`, on a node made of values.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::fleet::{NodeRaw, NodeSeen};
use agent_core::node::heard::{Inquiry, LeaseSeen};
use agent_core::node::journal::Rung;
use agent_core::node::observed::Role;
use agent_core::node::plan::{Plan, Wake};
use agent_core::node::turn::TurnSource;
use agent_core::policy::Adopt;
use agent_core::registries::model::Registries;
use agent_core::tree::Tree;
use jiff::SignedDuration;

use super::api::{Api, Wanted};
use super::dice::Dice;
use super::machine::{Around, Passed};
use super::world::files::model;
use super::world::{REFUSED, World};

/// A phase that lasts less long is not told.
const SHORT_PROOF: u64 = 20;

pub struct Real {
    pub world: World,
    /// The power is off.
    pub reboots: bool,
    sees: Option<Wanted>,
    /// Since when it is Proving and the Node does not say so.
    proves_since: Option<u64>,
    policy_number: u64,
    inquiry: Option<Inquiry>,
}

impl Real {
    /// A node on which `proven` was proven, or none of ours yet.
    pub fn new(role: Role, proven: Option<Wanted>, index: usize, dice: &mut Dice) -> Self {
        let mut world = World::running(Tree::default());
        world.role = role;
        world.dice = u32::try_from(index).unwrap() << 20;
        world.policy.adopt = Adopt::Replace;
        world.exec_type = dice.one_in(4);
        world.start_takes = Duration::from_secs(1 + dice.below(12));
        world.wall_set = SignedDuration::from_secs(dice.below(20_000).cast_signed() - 10_000);
        if let Some(wanted) = proven {
            // As a node without a cluster: what matters here comes after.
            world.wants(&wanted.revision(), &registries(wanted));
            world.settle(Duration::from_secs(3600));
            world.policy = agent_core::policy::Policy { adopt: Adopt::Replace, ..Default::default() };
        }
        world.die();
        world.source = TurnSource::Coordinator;
        Self { world, reboots: false, sees: None, proves_since: None, policy_number: 0, inquiry: None }
    }

    pub fn is_disturbed(&self) -> bool {
        let intent = self.world.record.as_ref().and_then(|record| record.intent.as_ref());
        intent.is_some_and(|intent| intent.rung != Rung::Stuck)
    }

    pub fn is_open(&self) -> bool {
        self.is_disturbed() || self.world.says("phase") == Some("Applying")
    }

    pub fn is_up(&self) -> bool {
        self.world.is_up()
    }

    pub fn second(&mut self, has_power: bool) {
        if has_power && std::mem::take(&mut self.reboots) {
            self.world.reboot();
        }
        if has_power {
            self.world.pass_time(Duration::from_secs(1));
        }
    }

    pub fn pass(&mut self, around: &Around<'_>, api: &mut Api, dice: &mut Dice) -> Passed {
        let index = around.index;
        self.looks(around, api, dice);
        let dies_after = (around.is_rough && dice.one_in(60)).then(|| dice.below(4) as usize);
        let before = self.begun();
        self.count(api, index);
        let plan = self.world.pass(dies_after);
        self.inquiry = plan.inquiry;
        if dies_after.is_none() {
            self.tells(&plan, around, api);
        }
        let began = self.begun().filter(|ask| before.as_ref() != Some(ask));
        let after = match plan.wake {
            _ if self.world.failed => 2,
            Wake::Now => 0,
            Wake::After(time) => time.as_secs().max(1),
        };
        Passed { after: if dies_after.is_some() { 1 + dice.below(5) } else { after }, began }
    }

    /// What the watches and the reads of this pass give.
    fn looks(&mut self, around: &Around<'_>, api: &Api, dice: &mut Dice) {
        let world = &mut self.world;
        world.supervisor_away = around.is_alone;
        world.cluster.away = around.is_cut;
        world.gate = around.gate.clone().err();
        let lags = around.is_rough && dice.one_in(5);
        let node = api.seen(around.index);
        if !around.is_cut && !lags {
            let others = node.map(others).unwrap_or_default();
            match node {
                Some(_) => others.into_iter().for_each(|(name, value)| world.annotate(name, value.as_deref())),
                None => world.node.annotations.clear(),
            }
        }
        let is_same =
            node.is_some_and(|node| others(node).iter().all(|(name, value)| world.says(name) == value.as_deref()));
        world.cluster.overtaken = !is_same;
        if !around.is_cut {
            world.cluster.lease_fails = around.lease.is_none().then(|| "there is none".to_owned());
            world.cluster.lease = around.lease.as_ref().map_or_else(LeaseSeen::default, |record| LeaseSeen {
                holder: record.holder.clone().unwrap_or_default(),
                epoch: record.epoch.value().map(ToString::to_string),
            });
            if self.policy_number != api.policy_number && !lags {
                self.policy_number = api.policy_number;
                world.policy = around.policy.clone();
                world.policy.adopt = Adopt::Replace;
            }
        }
        if self.sees != Some(around.wanted) && !around.is_cut {
            let desired = world.desired.clone();
            world.wants(&around.wanted.revision(), &registries(around.wanted));
            if lags && self.sees.is_some() {
                // The watch does not show it yet; a read past every cache would.
                world.cluster.fresh = Some(std::mem::replace(&mut world.desired, desired));
            } else {
                self.sees = Some(around.wanted);
                world.cluster.fresh = None;
            }
        }
    }

    /// What the last plan wants to know costs so many requests.
    fn count(&self, api: &mut Api, index: usize) {
        let gate = if self.world.role == Role::Server { 3 } else { 0 };
        api.requests[index].agent_reads += match self.inquiry {
            Some(Inquiry::Inputs) => 1,
            Some(Inquiry::Turn { .. }) => 1 + gate,
            Some(Inquiry::Gate) => gate,
            Some(Inquiry::Preflight | Inquiry::Others) | None => 0,
        };
    }

    /// Brings what the agent said on its Node to the API server.
    fn tells(&mut self, plan: &Plan, around: &Around<'_>, api: &mut Api) {
        use agent_core::node::annotations::Phase;
        let world = &self.world;
        if world.cluster.away || world.cluster.overtaken || world.failed {
            return;
        }
        let Some(seen) = api.seen(around.index).cloned() else { return };
        if plan.phase == Phase::Proving {
            let since = *self.proves_since.get_or_insert(around.now);
            let says_open = seen.phase.value().is_some_and(|phase| matches!(phase, Phase::Applying | Phase::Proving));
            if says_open && around.now < since + SHORT_PROOF {
                return;
            }
        } else {
            self.proves_since = None;
        }
        let told = NodeSeen::read(NodeRaw {
            uid: &seen.uid,
            labels: &BTreeMap::new(),
            annotations: &world.node.annotations,
            is_ready: true,
            is_cordoned: false,
            has_agent: true,
        });
        let phase_before = seen.phase;
        let differs = api.change(around.index, |seen| {
            let NodeSeen { phase, revision, failed, wanted, answered, .. } = told;
            (seen.phase, seen.revision, seen.failed, seen.wanted, seen.answered) =
                (phase, revision, failed, wanted, answered);
        });
        let phase_after = api.seen(around.index).map(|seen| seen.phase);
        let is_event = phase_after != Some(phase_before)
            && !matches!(plan.phase, Phase::Pending | Phase::Proving | Phase::Paused | Phase::Invalid);
        let requests = &mut api.requests[around.index];
        requests.agent_writes += u32::from(differs);
        requests.events += u32::from(is_event);
    }

    /// The ask for which something was begun.
    fn begun(&self) -> Option<String> {
        let intent = self.world.record.as_ref().and_then(|record| record.intent.as_ref());
        intent.filter(|intent| intent.rung == Rung::Goal && !intent.ask.is_empty()).map(|intent| intent.ask.clone())
    }
}

/// The annotations that others write.
fn others(seen: &NodeSeen) -> [(&'static str, Option<String>); 4] {
    [
        ("grant", seen.grant.value().map(ToString::to_string)),
        ("turn", seen.turn.value().map(|word| word.as_str().to_owned())),
        ("pause", seen.is_paused.then(|| "true".to_owned())),
        ("retry", seen.retry.clone()),
    ]
}

fn registries(wanted: Wanted) -> Registries {
    model(if wanted.is_bad { REFUSED } else { "docker.io" }, &format!("password {}", wanted.number))
}

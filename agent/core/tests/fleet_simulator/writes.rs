//! What a coordinator decides, and what becomes of its writes: done, refused, or nobody knows.

use agent_core::fleet::{Change, GateAnswer, NodeWrite, Said, next_turns};
use agent_core::grant::Grant;
use jiff::Timestamp;

use super::api::Api;
use super::coordinator::{Around, Coordinator, Did};
use super::dice::Dice;
use super::promises::{Decision, Granted};

/// A write of a grant that timed out and lands later.
pub struct Late {
    pub at: u64,
    pub index: usize,
    pub version: u64,
    pub grant: Grant,
}

impl Coordinator {
    pub fn decide(&mut self, around: &Around<'_>, api: &mut Api, dice: &mut Dice, did: &mut Did) {
        let clock = self.clock(around.now);
        if std::mem::take(&mut self.is_dirty) {
            self.fleet.ledger.observe(&self.fleet.nodes, clock);
        }
        self.fleet.wall = wall(around.now, self.wall_off);
        let mut turns = next_turns(&self.fleet, &self.policy, clock);
        if let Some(ask) = turns.gate.take() {
            let target = api.names.binary_search(&ask.node).unwrap();
            let refusal = (around.gate)(target, ask.is_cure).err();
            api.requests[target].coordinator += 1;
            self.fleet.gate = Some(GateAnswer { target: ask.node, asked_at: clock, refusal });
            turns = next_turns(&self.fleet, &self.policy, clock);
        }
        self.decide_at = turns.wake.map(|wake| around.now + wake.as_secs().max(1));
        let must_stand = !turns.lease.may_rest_on(&self.fleet.kept);
        let has_grant = turns.grants().next().is_some();
        self.kept = turns.lease;
        if let Some(revoke) = turns.revoke {
            did.story.push(revoke.why.clone());
            self.revoke = Some(revoke);
            return;
        }
        if must_stand {
            // What is halted, and who is out, stands there before anything rests on it.
            let epoch = self.fleet.holding.as_ref().map(|holding| &holding.epoch);
            let Some(lease) = api.lease.as_mut().filter(|lease| lease.record.epoch.value() == epoch) else {
                self.decide_at = None;
                return;
            };
            lease.kept.clone_from(&self.kept);
            self.fleet.kept.clone_from(&self.kept);
            if has_grant && around.is_unlucky {
                did.has_died = true;
                return;
            }
        }
        for write in turns.writes {
            self.write(write, around, api, dice, did);
        }
    }

    fn write(&mut self, write: NodeWrite, around: &Around<'_>, api: &mut Api, dice: &mut Dice, did: &mut Did) {
        let index = api.names.binary_search(&write.node).unwrap();
        let clock = self.clock(around.now);
        let Some(version) = self.versions[index] else { return };
        let is_current = api.nodes[index].as_ref().is_some_and(|node| node.version == version);
        let grant = if let Change::Set(grant) = &write.grant { Some(grant.clone()) } else { None };
        if let Some(grant) = &grant {
            self.fleet.ledger.granted(&write.node, &grant.ask, clock);
        }
        self.is_dirty = true;
        let is_uncertain = around.is_rough && dice.one_in(10);
        if let Some(grant) = &grant {
            did.granted.push(Granted {
                by: self.process,
                index,
                is_certain_conflict: !is_current && !is_uncertain,
                decision: Decision::of(&self.fleet, &self.policy, &write.node, grant, clock),
            });
        }
        if is_uncertain {
            if let Some(grant) = grant.filter(|_| !dice.one_in(3)) {
                // As late as may be, and often when another epoch has just begun to be used.
                let late = if dice.one_in(2) { dice.below(400) } else { 115 + dice.below(40) };
                let at = around.now + late;
                did.late.push(Late { at, index, version, grant });
            }
            return self.reread(index, api);
        }
        if !is_current {
            if let Some(grant) = &grant {
                self.fleet.ledger.not_written(&write.node, &grant.ask);
            }
            return self.reread(index, api);
        }
        api.requests[index].coordinator += 1;
        api.change(index, |seen| {
            set(&mut seen.grant, write.grant);
            set(&mut seen.turn, write.turn);
        });
        self.reread(index, api);
    }

    /// The answer of a write, or the read that follows a refusal.
    fn reread(&mut self, index: usize, api: &Api) {
        match &api.nodes[index] {
            Some(node) => {
                self.versions[index] = Some(node.version);
                self.fleet.nodes.insert(api.names[index].clone(), node.seen.clone());
            }
            None => {
                self.versions[index] = None;
                self.fleet.nodes.remove(&api.names[index]);
            }
        }
    }
}

/// Noon of a Monday, and on.
fn wall(now: u64, off: i64) -> Timestamp {
    Timestamp::from_second(1_767_614_400 + now.cast_signed() + off).unwrap()
}

fn set<T>(said: &mut Said<T>, change: Change<T>) {
    match change {
        Change::Keep => {}
        Change::Remove => *said = Said::Nothing,
        Change::Set(value) => *said = Said::Is(value),
    }
}

//! An agent that does the steps of the exchange and no more: for fleets in which the real decisions would be too slow.

use std::collections::BTreeSet;

use agent_core::fleet::{NodeSeen, Said, Word};
use agent_core::grant::{Ask, Grant};
use agent_core::node::annotations::Phase;
use agent_core::node::observed::Role;

use super::api::{Api, Wanted};
use super::dice::Dice;
use super::machine::{Around, Passed};

/// How far the living process came with a grant.
enum Step {
    Idle,
    Used(Grant, u64),
    Shown(Grant),
}

/// How a turn will end.
#[derive(Clone, Copy)]
enum Verdict {
    Proven,
    Failed,
    Stuck,
    Inconclusive,
}

struct Intent {
    ask: Ask,
    up_at: u64,
    until: u64,
    verdict: Verdict,
}

pub struct StandIn {
    role: Role,
    step: Step,
    used: BTreeSet<String>,
    last_used: Option<String>,
    asked: Option<Ask>,
    drawn_at: Option<u64>,
    intent: Option<Intent>,
    proven: Option<String>,
    failed: Option<String>,
    stuck: bool,
    honoured: Option<String>,
    /// What it believes to be wanted.
    sees: Option<Wanted>,
}

impl StandIn {
    pub fn new(role: Role, proven: Option<String>) -> Self {
        Self {
            role,
            step: Step::Idle,
            used: BTreeSet::new(),
            last_used: None,
            asked: None,
            drawn_at: None,
            intent: None,
            proven,
            failed: None,
            stuck: false,
            honoured: None,
            sees: None,
        }
    }

    pub const fn is_disturbed(&self) -> bool {
        self.intent.is_some()
    }

    pub const fn is_open(&self) -> bool {
        self.intent.is_some() || !matches!(self.step, Step::Idle)
    }

    pub fn is_up(&self, now: u64) -> bool {
        !self.stuck && self.intent.as_ref().is_none_or(|intent| now >= intent.up_at)
    }

    pub fn dies(&mut self) {
        self.step = Step::Idle;
    }

    /// The guard put the earlier file back.
    pub fn reboots(&mut self, until: u64) {
        if let Some(intent) = &mut self.intent {
            intent.verdict = Verdict::Inconclusive;
            (intent.up_at, intent.until) = (until + 10, until + 20);
        }
    }

    /// What kept k3s down is gone.
    pub const fn mends(&mut self) {
        self.stuck = false;
    }

    pub fn pass(&mut self, around: &Around<'_>, api: &mut Api, dice: &mut Dice) -> Passed {
        let Around { now, index, .. } = *around;
        if self.intent.as_ref().is_some_and(|intent| now >= intent.until) {
            self.ends();
        }
        let node = api.nodes[index].as_ref().filter(|_| !around.is_cut);
        let Some((seen, version)) = node.map(|node| (node.seen.clone(), node.version)) else {
            return Passed { after: 1, began: None };
        };
        if self.sees.is_none() || !around.is_rough || !dice.one_in(4) {
            self.sees = Some(around.wanted);
        }
        match std::mem::replace(&mut self.step, Step::Idle) {
            Step::Used(grant, decided_on) => {
                if decided_on == version {
                    api.requests[index].agent_writes += 1;
                    api.requests[index].events += 1;
                    api.change(index, |seen| {
                        seen.phase = Said::Is(Phase::Applying);
                        seen.answered = Said::Is(grant.ask.number.clone());
                    });
                    self.step = Step::Shown(grant);
                }
                return Passed { after: 1, began: None };
            }
            Step::Shown(grant) => {
                // The inputs past every cache, the Lease, and on a server the gate: two lists and the addresses.
                api.requests[index].agent_reads += if self.role == Role::Server { 5 } else { 2 };
                self.sees = Some(around.wanted);
                let is_held = around.lease.as_ref().is_some_and(|lease| lease.epoch.value() == Some(&grant.epoch));
                if is_held && grant.ask.revision == around.wanted.revision() && around.gate.is_ok() {
                    return self.begins(grant.ask, around, dice);
                }
            }
            Step::Idle => {}
        }
        let told = self.tells(&seen, around, api);
        if told != seen {
            let is_end = matches!(told.phase, Said::Is(Phase::Current | Phase::RolledBack | Phase::Stuck));
            api.requests[index].events += u32::from(is_end && told.phase != seen.phase);
            api.requests[index].agent_writes += 1;
            api.set(index, Some(told));
            return Passed { after: 1, began: None };
        }
        let is_rested = self.intent.is_none();
        if let Some(grant) = seen.grant.value().filter(|grant| is_rested && self.asked.as_ref() == Some(&grant.ask)) {
            self.uses(&grant.ask.number);
            self.step = Step::Used(grant.clone(), version);
            return Passed { after: 1, began: None };
        }
        let until = self.intent.as_ref().map_or(60, |intent| intent.until.saturating_sub(now));
        Passed { after: until.clamp(1, 60), began: None }
    }

    fn uses(&mut self, number: &str) {
        self.used.insert(number.to_owned());
        self.last_used = Some(number.to_owned());
    }

    fn begins(&mut self, ask: Ask, around: &Around<'_>, dice: &mut Dice) -> Passed {
        let rough = |dice: &mut Dice, many| around.is_rough && dice.one_in(many);
        let verdict = match () {
            () if around.wanted.is_bad && rough(dice, 6) => Verdict::Stuck,
            () if around.wanted.is_bad => Verdict::Failed,
            () if rough(dice, 30) => Verdict::Stuck,
            () if rough(dice, 15) => Verdict::Inconclusive,
            () => Verdict::Proven,
        };
        let slow = if rough(dice, 12) { dice.below(700) } else { 0 };
        let up_at = around.now + 2 + dice.below(15) + slow;
        let began = Some(ask.number.clone());
        self.intent = Some(Intent { ask, up_at, until: up_at + 1 + dice.below(20), verdict });
        Passed { after: 1, began }
    }

    fn ends(&mut self) {
        let Some(Intent { ask, verdict, .. }) = self.intent.take() else { return };
        match verdict {
            Verdict::Proven => {
                self.proven = Some(ask.revision);
                (self.failed, self.stuck) = (None, false);
            }
            Verdict::Failed => (self.failed, self.stuck) = (Some(ask.revision), false),
            Verdict::Stuck => (self.failed, self.stuck) = (Some(ask.revision), true),
            Verdict::Inconclusive => {}
        }
    }

    /// What is to stand on the Node now.
    fn tells(&mut self, seen: &NodeSeen, around: &Around<'_>, api: &mut Api) -> NodeSeen {
        let mut told = seen.clone();
        let wanted = self.sees.unwrap_or(around.wanted).revision();
        if seen.retry != self.honoured && self.intent.is_none() {
            self.honoured.clone_from(&seen.retry);
            (self.failed, self.stuck) = (None, false);
        }
        let has_failed = self.failed.as_ref() == Some(&wanted);
        let may_ask = self.intent.is_none() && self.proven.as_ref() != Some(&wanted) && !has_failed;
        told.phase = Said::Is(match () {
            () if self.intent.is_some() => Phase::Applying,
            () if self.stuck => Phase::Stuck,
            () if self.proven.as_ref() == Some(&wanted) => Phase::Current,
            () if has_failed => Phase::RolledBack,
            () => Phase::Pending,
        });
        told.revision = self.proven.clone().map_or(Said::Nothing, Said::Is);
        told.failed = self.failed.clone().filter(|_| self.stuck || has_failed).map_or(Said::Nothing, Said::Is);
        if self.intent.is_none() {
            self.asks(&mut told, wanted, may_ask, around.now, api);
        }
        if let Some(number) = &self.last_used {
            told.answered = Said::Is(number.clone());
        }
        told
    }

    /// The ask that stands, or a new one; a grant for any other is answered with that.
    fn asks(&mut self, told: &mut NodeSeen, wanted: String, may_ask: bool, now: u64, api: &mut Api) {
        if let Some(grant) = told.grant.value()
            && (!may_ask || self.asked.as_ref().is_none_or(|asked| *asked != grant.ask || asked.revision != wanted))
            && self.last_used.as_ref() != Some(&grant.ask.number)
        {
            self.uses(&grant.ask.number.clone());
        }
        let is_absent = told.turn == Said::Is(Word::Absent)
            && told.wanted.value() == self.asked.as_ref()
            && self.drawn_at.is_none_or(|at| now >= at + 60);
        let stands =
            |asked: &Ask| asked.revision == wanted && !self.used.contains(&asked.number) && !is_absent && may_ask;
        self.asked = self.asked.take().filter(stands);
        if self.asked.is_none() && may_ask {
            self.asked = Some(Ask { revision: wanted, number: format!("{:08x}", api.draw()) });
            self.drawn_at = Some(now);
        }
        told.wanted = self.asked.clone().map_or(Said::Nothing, Said::Is);
    }
}

//! The agent's side: it asks, uses a grant once, shows itself, reads the Lease again, works, and tells how it ended.

use super::protocol::{Change, Landing, Model};
use super::state::{Agent, Ask, Node, Object, Phase, State, Step};

/// How a turn ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    Proven,
    Failed,
    /// Inconclusive: it asks again.
    Vain,
}

/// What an agent does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    Ask(Landing),
    Tell(Landing),
    Use,
    Show(Landing),
    ReadBack,
    Verify,
    GiveUp,
    Begin,
    Finish(End),
    Restart,
    LateLands,
    LateLost,
}

impl Model {
    pub fn agent_acts(&self, state: &State, index: usize, mut may: impl FnMut(Act, bool)) {
        let Node { agent, .. } = &state.nodes()[index];
        if agent.late.is_some() {
            may(Act::LateLands, true);
            may(Act::LateLost, true);
        }
        if !agent.up {
            may(Act::Restart, true);
            return;
        }
        let lossy = state.left.losses > 0;
        let now = state.nodes()[index].now();
        match agent.step {
            Step::Idle => {}
            Step::Used(_) => {
                may(Act::Show(Landing::Heard), true);
                may(Act::Show(Landing::Unheard), false);
                may(Act::Show(Landing::Late), false);
            }
            Step::Unsure(_) => may(Act::ReadBack, true),
            Step::Shown(_) => {
                may(Act::Verify, true);
                may(Act::GiveUp, false);
            }
            Step::Verified(_) => {
                may(Act::Begin, true);
                may(Act::GiveUp, false);
            }
        }
        if agent.intent.is_some() {
            may(Act::Finish(End::Proven), true);
            may(Act::Finish(End::Failed), false);
            may(Act::Finish(End::Vain), false);
        }
        let Some(now) = now else { return };
        if matches!(agent.step, Step::Idle | Step::Shown(_) | Step::Verified(_)) {
            if self.told(state, index, now) != now {
                may(Act::Tell(Landing::Heard), true);
                if lossy {
                    may(Act::Tell(Landing::Late), false);
                }
            }
            if !agent.is_out() && self.asks(state, agent, now) {
                may(Act::Ask(Landing::Heard), true);
                if lossy {
                    may(Act::Ask(Landing::Late), false);
                }
            }
        }
        if agent.step == Step::Idle && agent.intent.is_none() && self.honours(agent, now) {
            may(Act::Use, true);
        }
    }

    /// Whether a new N is to be drawn.
    fn asks(&self, state: &State, agent: &Agent, now: Object) -> bool {
        if agent.proven == state.revision || agent.failed == state.revision {
            return false;
        }
        match now.wanted {
            None => true,
            Some(ask) => {
                let told_absent = now.absent == ask.number && self.change != Change::DeafToAbsent;
                ask.revision != state.revision || agent.is_used(ask.number) || told_absent
            }
        }
    }

    fn honours(&self, agent: &Agent, now: Object) -> bool {
        let mine = now.grant.filter(|grant| now.wanted == Some(grant.ask));
        mine.is_some_and(|grant| !agent.is_used(grant.ask.number) || self.change == Change::UsedAgain)
    }

    /// The Node's annotations as the journal has them.
    fn told(&self, state: &State, index: usize, now: Object) -> Object {
        let agent = &state.nodes()[index].agent;
        let hides =
            self.change == Change::HidesOpenTurn && agent.intent.is_some_and(|ask| ask.revision != state.revision);
        let phase = match () {
            () if agent.is_out() && !hides => Phase::Applying,
            () if agent.proven == state.revision => Phase::Current,
            () if agent.failed == state.revision => Phase::RolledBack,
            () => Phase::Pending,
        };
        let mut told = Object { phase, failed: agent.failed, ..now };
        if agent.last_used != 0 {
            told.answered = agent.last_used;
        }
        if matches!(phase, Phase::Current | Phase::RolledBack) {
            if let Some(grant) = now.open_grant() {
                told.answered = grant.ask.number;
            }
            told.wanted = None;
        }
        told
    }

    pub fn agent_does(&self, state: &mut State, index: usize, act: Act) {
        let (revision, lease) = (state.revision, state.lease);
        let now = state.nodes()[index].now();
        let agent = state.agent(index);
        match act {
            Act::Restart => agent.up = true,
            Act::LateLands => {
                if let Some(object) = agent.late.take() {
                    state.write_node(index, Some(object));
                }
            }
            Act::LateLost => agent.late = None,
            Act::Ask(landing) => {
                let Some(now) = now else { return };
                agent.drawn += 1;
                let wanted = Some(Ask { revision, number: agent.drawn });
                // Whatever was granted meanwhile is answered in the same patch, and never used.
                let replaced = now.open_grant().map(|grant| grant.ask.number);
                if let Some(number) = replaced {
                    agent.used |= 1 << number;
                    agent.last_used = number;
                }
                let answered = if agent.last_used == 0 { now.answered } else { agent.last_used };
                let object = Object { phase: Phase::Pending, failed: agent.failed, wanted, answered, ..now };
                self.patch(state, index, object, landing);
            }
            Act::Tell(landing) => {
                let Some(now) = now else { return };
                let told = self.told(state, index, now);
                let agent = state.agent(index);
                if told.answered != agent.last_used {
                    agent.used |= 1 << told.answered;
                    agent.last_used = told.answered;
                }
                self.patch(state, index, told, landing);
            }
            Act::Use => {
                let Some(grant) = now.and_then(|now| now.grant) else { return };
                agent.used |= 1 << grant.ask.number;
                agent.last_used = grant.ask.number;
                agent.step = Step::Used(grant);
            }
            Act::Show(landing) => {
                let (Step::Used(grant), Some(now)) = (agent.step, now) else { return };
                let object = Object { phase: Phase::Applying, answered: grant.ask.number, ..now };
                self.patch(state, index, object, landing);
                let agent = state.agent(index);
                agent.step = match landing {
                    Landing::Heard => Step::Shown(grant),
                    Landing::Unheard | Landing::Late => Step::Unsure(grant),
                };
            }
            Act::ReadBack => {
                let Step::Unsure(grant) = agent.step else { return };
                let stands = now.is_some_and(|now| now.phase == Phase::Applying && now.answered == grant.ask.number);
                agent.step = if stands { Step::Shown(grant) } else { Step::Idle };
            }
            Act::Verify => {
                let Step::Shown(grant) = agent.step else { return };
                let stands = lease.is_some_and(|lease| lease.epoch == grant.epoch);
                let has_turn = stands || self.change == Change::NoReread;
                agent.step =
                    if has_turn && grant.ask.revision == revision { Step::Verified(grant) } else { Step::Idle };
            }
            Act::GiveUp => {
                agent.step = Step::Idle;
                state.left.vain -= 1;
            }
            Act::Begin => {
                let Step::Verified(grant) = agent.step else { return };
                let bit = 1 << grant.ask.number;
                let twice = agent.begun & bit != 0;
                agent.begun |= bit;
                agent.intent = Some(grant.ask);
                agent.step = Step::Idle;
                state.twice |= twice;
            }
            Act::Finish(end) => {
                let Some(ask) = agent.intent.take() else { return };
                match end {
                    End::Proven => agent.proven = ask.revision,
                    End::Failed => {
                        agent.failed = ask.revision;
                        state.left.failures -= 1;
                    }
                    End::Vain => state.left.vain -= 1,
                }
            }
        }
    }

    fn patch(&self, state: &mut State, index: usize, object: Object, landing: Landing) {
        match landing {
            Landing::Heard => state.write_node(index, Some(object)),
            Landing::Unheard => {
                state.left.losses -= 1;
                state.write_node(index, Some(object));
            }
            Landing::Late => {
                state.left.losses -= 1;
                state.agent(index).late = Some(object);
            }
        }
    }
}

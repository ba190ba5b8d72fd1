//! Who may do what next: the exchange as the checker explores it, its promises, and its broken variants.

use stateright::Property;

use super::agent::{self, End};
use super::coordinator;
use super::state::{COORDINATORS, Lease, Node, Object, State, Step, Troubles};

/// What is changed in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The protocol as it is.
    Nothing,
    /// An agent that showed Applying has the turn without reading the Lease again.
    NoReread,
    /// A new leader decides on what it listed before it took the Lease.
    ListFirst,
    /// The Lease is written without a resource version, also when it is renewed.
    NoCas,
    /// Who takes the Lease from itself keeps its epoch.
    SameEpoch,
    /// An agent asks its journal for nothing.
    UsedAgain,
    /// A leader decides on its cache alone.
    NoLedger,
    /// A grant that nobody answers is forgotten, and taken away, at the same epoch.
    RevokeWithoutEpoch,
    /// The Lease is expired when its time and ours say so.
    ClockExpiry,
    /// With a newer revision an agent says what it would say without the turn that it is in.
    HidesOpenTurn,
    /// An agent whose N was revoked goes on asking with it.
    DeafToAbsent,
    /// The Lease does not list who is out.
    NoOut,
    /// It lists who is out once the grant was written.
    OutAfterGrant,
    /// Of those that it lists a new leader counts only the ones whose Nodes are gone.
    BareIsFree,
    /// A grant rests on a list that was read while an older write of it was under way.
    OutUnsettled,
}

/// How a write ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Landing {
    Heard,
    /// It landed and the answer was lost.
    Unheard,
    /// It timed out, and lands later or never.
    Late,
}

/// The exchange, with bounds.
#[derive(Clone, Debug)]
pub struct Model {
    pub nodes: usize,
    /// The first so many nodes.
    pub servers: usize,
    pub coordinators: usize,
    pub allowed: usize,
    /// Whether a death can be a coordinator's.
    pub leader_dies: bool,
    pub troubles: Troubles,
    pub change: Change,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Agent(u8, agent::Act),
    Coordinator(u8, coordinator::Act),
    CrashAgent(u8),
    CrashCoordinator(u8),
    DeleteLease,
    CreateLease,
    DeleteNode(u8),
    CreateNode(u8),
    Edit,
}

impl Model {
    /// Everything that can happen, and whether it happens without new trouble.
    pub fn may_happen(&self, state: &State, mut may: impl FnMut(Action, bool)) {
        let left = state.left;
        for index in 0..state.nodes().len() {
            let number = index as u8;
            self.agent_acts(state, index, |act, calm| {
                use agent::Act;
                let possible = match act {
                    Act::Ask(landing) | Act::Tell(landing) | Act::Show(landing) => {
                        landing == Landing::Heard || left.losses > 0
                    }
                    Act::GiveUp | Act::Finish(End::Vain) => left.vain > 0,
                    Act::Finish(End::Failed) => left.failures > 0,
                    Act::Use
                    | Act::ReadBack
                    | Act::Verify
                    | Act::Begin
                    | Act::Finish(End::Proven)
                    | Act::Restart
                    | Act::LateLands
                    | Act::LateLost => true,
                };
                if possible {
                    may(Action::Agent(number, act), calm);
                }
            });
            let Node { agent, .. } = &state.nodes()[index];
            // The death of a process that holds nothing in memory is nobody's loss.
            if left.crashes > 0 && agent.up && (agent.step != Step::Idle || agent.intent.is_some()) {
                may(Action::CrashAgent(number), false);
            }
            match state.nodes()[index].now() {
                Some(_) if left.node_deleted > 0 => may(Action::DeleteNode(number), false),
                Some(_) => {}
                None => may(Action::CreateNode(number), true),
            }
        }
        for index in 0..COORDINATORS {
            self.coordinator_acts(state, index, |act, calm| {
                use coordinator::Act;
                let possible = calm
                    || match act {
                        Act::Take(Landing::Heard) | Act::Forget(_) => left.stalls > 0,
                        Act::Take(Landing::Unheard | Landing::Late)
                        | Act::Enlist(_, _, Landing::Unheard | Landing::Late)
                        | Act::Grant(_, _, Landing::Late) => left.losses > 0,
                        Act::Grant(..) => left.stale > 0,
                        _ => true,
                    };
                if possible {
                    may(Action::Coordinator(index as u8, act), calm);
                }
            });
            let one = &state.coordinators[index];
            if self.leader_dies && left.crashes > 0 && one.up && one.holds.is_some() {
                may(Action::CrashCoordinator(index as u8), false);
            }
        }
        match state.lease {
            Some(_) if left.lease_deleted > 0 => may(Action::DeleteLease, false),
            Some(_) => {}
            None => may(Action::CreateLease, true),
        }
        if left.edits > 0 {
            may(Action::Edit, false);
        }
    }

    pub fn after(&self, before: &State, action: Action) -> State {
        let mut state = *before;
        match action {
            Action::Agent(index, act) => self.agent_does(&mut state, usize::from(index), act),
            Action::Coordinator(index, act) => self.coordinator_does(&mut state, usize::from(index), act),
            Action::CrashAgent(index) => {
                state.left.crashes -= 1;
                let agent = state.agent(usize::from(index));
                agent.up = false;
                agent.step = Step::Idle;
            }
            Action::CrashCoordinator(index) => {
                state.left.crashes -= 1;
                let one = &mut state.coordinators[usize::from(index)];
                one.up = false;
                one.forget();
                state.trim();
            }
            Action::DeleteLease => {
                state.left.lease_deleted -= 1;
                self.write_lease(&mut state, None);
            }
            Action::CreateLease => self.write_lease(&mut state, Some(Lease { holder: None, epoch: 0, out: 0 })),
            Action::DeleteNode(index) => {
                state.left.node_deleted -= 1;
                state.write_node(usize::from(index), None);
            }
            Action::CreateNode(index) => state.write_node(usize::from(index), Some(Object::BLANK)),
            Action::Edit => {
                state.left.edits -= 1;
                state.revision += 1;
            }
        }
        if state.left.stale == 0 && self.change != Change::NoCas {
            // All that is left for one that lost the Lease is to learn it.
            let lease = state.lease;
            for (index, one) in state.coordinators.iter_mut().enumerate() {
                let holds = |lease: Lease| lease.holder == Some(index as u8) && one.holds == Some(lease.epoch);
                if one.holds.is_some() && !lease.is_some_and(holds) {
                    one.forget();
                }
            }
            state.trim();
        }
        state
    }

    /// What happens once no new trouble comes.
    pub fn calm(&self, state: &State) -> Vec<Action> {
        let mut calm = Vec::new();
        self.may_happen(state, |action, is_calm| {
            if is_calm {
                calm.push(action);
            }
        });
        calm
    }
}

pub const BUDGET: &str = "never more nodes disturbed than allowed";
pub const SERVERS: &str = "never two servers disturbed";
pub const ONCE: &str = "no ask begins two turns";
pub const NO_DEAD_END: &str = "where nothing more happens, everything has ended";

impl stateright::Model for Model {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.nodes, self.coordinators, self.troubles)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.may_happen(state, |action, _| actions.push(action));
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        Some(self.after(before, action).canonical()).filter(|after| after != before)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(BUDGET, |model: &Self, state: &State| {
                state.nodes().iter().filter(|node| node.agent.is_disturbed()).count() <= model.allowed
            }),
            Property::always(SERVERS, |model: &Self, state: &State| {
                state.nodes()[..model.servers].iter().filter(|node| node.agent.is_disturbed()).count() <= 1
            }),
            Property::always(ONCE, |_: &Self, state: &State| !state.twice),
            Property::always(NO_DEAD_END, |model: &Self, state: &State| {
                state.is_ended() || !model.calm(state).is_empty()
            }),
        ]
    }
}

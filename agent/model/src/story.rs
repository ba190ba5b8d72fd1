//! A counterexample as a person reads it.

use std::fmt::Write as _;

use stateright::{Expectation, Model as _};

use super::agent::{self, End};
use super::coordinator;
use super::protocol::{Action, Landing, Model};
use super::state::{Phase, State, Step};

/// One line for each event, with what then stands where. Numbers and epochs are those drawn, not counted anew.
pub fn tell(model: &Model, actions: &[Action]) -> String {
    let mut story = String::new();
    let mut state = model.init_states()[0];
    for (number, action) in actions.iter().enumerate() {
        state = model.after(&state, *action);
        let _ = writeln!(story, "{:>4}. {:<64} {}", number + 1, said(model, *action), stands(model, &state));
    }
    story
}

/// Whether these events can happen here, and break the promise.
pub fn is_broken(model: &Model, actions: &[Action], promise: &'static str) -> bool {
    let mut state = model.init_states()[0];
    for action in actions {
        let mut possible = Vec::new();
        model.actions(&state, &mut possible);
        if !possible.contains(action) {
            return false;
        }
        state = model.after(&state, *action);
    }
    let property = model.property(promise);
    debug_assert!(matches!(property.expectation, Expectation::Always));
    !(property.condition)(model, &state)
}

fn node(model: &Model, index: usize) -> String {
    if index < model.servers {
        format!("server-{}", index + 1)
    } else {
        format!("worker-{}", index - model.servers + 1)
    }
}

fn stands(model: &Model, state: &State) -> String {
    let mut text = match state.lease {
        None => "no Lease".to_owned(),
        Some(lease) => match lease.holder {
            None => "Lease free".to_owned(),
            Some(holder) => format!("Lease {}@{}", name(holder), lease.epoch),
        },
    };
    for index in 0..state.nodes().len() {
        if state.lease.is_some_and(|lease| lease.out & (1 << index) != 0) {
            let _ = write!(text, " out {}", node(model, index));
        }
    }
    for (index, it) in state.nodes().iter().enumerate() {
        let _ = write!(text, "; {} ", node(model, index));
        match it.now() {
            None => text.push_str("has no Node"),
            Some(now) => {
                text.push_str(match now.phase {
                    Phase::None => "without phase",
                    Phase::Pending => "Pending",
                    Phase::Applying => "Applying",
                    Phase::Current => "Current",
                    Phase::RolledBack => "RolledBack",
                });
                if let Some(ask) = now.wanted {
                    let _ = write!(text, " wants {}/{}", ask.revision, ask.number);
                }
                if let Some(grant) = now.grant {
                    let _ = write!(text, " granted {}/{}@{}", grant.ask.revision, grant.ask.number, grant.epoch);
                }
                if now.answered != 0 {
                    let _ = write!(text, " answered {}", now.answered);
                }
            }
        }
        match it.agent.step {
            _ if it.agent.is_disturbed() => text.push_str(" DISTURBED"),
            Step::Idle | Step::Used(_) | Step::Unsure(_) | Step::Shown(_) | Step::Verified(_) => {}
        }
    }
    text
}

fn name(coordinator: u8) -> char {
    char::from(b'A' + coordinator)
}

fn landing(landing: Landing) -> &'static str {
    match landing {
        Landing::Heard => "",
        Landing::Unheard => ", and the answer is lost",
        Landing::Late => ", which times out under way",
    }
}

fn said(model: &Model, action: Action) -> String {
    match action {
        Action::Agent(index, act) => format!("{} {}", node(model, usize::from(index)), agent_said(act)),
        Action::Coordinator(index, act) => format!("{} {}", name(index), coordinator_said(model, act)),
        Action::CrashAgent(index) => format!("the agent of {} dies", node(model, usize::from(index))),
        Action::CrashCoordinator(index) => format!("{} dies", name(index)),
        Action::DeleteLease => "somebody deletes the Lease".into(),
        Action::CreateLease => "somebody creates the Lease again".into(),
        Action::DeleteNode(index) => format!("somebody deletes the Node {}", node(model, usize::from(index))),
        Action::CreateNode(index) => format!("the Node {} comes back", node(model, usize::from(index))),
        Action::Edit => "somebody edits the ConfigMap".into(),
    }
}

fn agent_said(act: agent::Act) -> String {
    use agent::Act;
    match act {
        Act::Ask(how) => format!("asks{}", landing(how)),
        Act::Tell(how) => format!("writes its phase{}", landing(how)),
        Act::Use => "journals the ask as used".into(),
        Act::Show(how) => format!("writes Applying{}", landing(how)),
        Act::ReadBack => "reads its Node again".into(),
        Act::Verify => "reads the Lease".into(),
        Act::GiveUp => "cannot use its turn".into(),
        Act::Begin => "begins to work".into(),
        Act::Finish(End::Proven) => "has proven it".into(),
        Act::Finish(End::Failed) => "failed, and put the file back".into(),
        Act::Finish(End::Vain) => "ends without a verdict".into(),
        Act::Restart => "has its agent again".into(),
        Act::LateLands => "'s late write lands".into(),
        Act::LateLost => "'s late write is lost".into(),
    }
}

fn coordinator_said(model: &Model, act: coordinator::Act) -> String {
    use coordinator::Act;
    let of = |index: u8| node(model, usize::from(index));
    match act {
        Act::Take(how) => format!("takes the Lease{}", landing(how)),
        Act::TakeToRevoke => "takes the Lease from itself, to revoke".into(),
        Act::Forget(index) => format!("takes its grant for {} as void", of(index)),
        Act::RenewBlindly => "renews the Lease without looking".into(),
        Act::List => "lists the Nodes".into(),
        Act::Enlist(index, _, how) => format!("lists {} as out on the Lease{}", of(index), landing(how)),
        Act::Waited(index) => format!("waited long enough for {} to say its phase", of(index)),
        Act::Grant(index, _, how) => format!("grants {}{}", of(index), landing(how)),
        Act::Clear(index) => format!("removes the dead grant of {}", of(index)),
        Act::Learn => "learns that it lost the Lease".into(),
        Act::Restart => "is there again".into(),
        Act::LateLands => "'s late grant lands".into(),
        Act::LateLost => "'s late grant is lost".into(),
        Act::LateLeaseLands => "'s late write of the Lease lands".into(),
        Act::LateLeaseLost => "'s late write of the Lease is lost".into(),
    }
}

//! `plan` for one node, from a directory.

use std::path::Path;
use std::time::Duration;

use agent_core::node::annotations::Phase;
use agent_core::node::plan::{Plan, Step};
use agent_core::registries::effect::Effect;
use serde_json::{Value, json};

use crate::args::NodeArgs;
use crate::commands::session::{self, SessionError};
use crate::commands::{Answer, diff, line};

/// What `diff` shows, and then what it costs.
pub(super) async fn of_node(inputs: &Path, node: &NodeArgs) -> Result<Answer, SessionError> {
    let looked = match diff::look(inputs, node).await? {
        Ok(looked) => looked,
        Err(refused) => return Ok(refused),
    };
    let Answer { mut text, mut json, code } = looked.answer();
    let diff::Looked { passes, policy, plan, .. } = &looked;
    let steps: Vec<&str> = plan.steps.iter().map(Step::name).collect();
    let last = session::record(passes.host())?.last_restart;
    let cost = Cost::of(plan, passes.host().has_service(), last);
    line(&mut text, "steps", &if steps.is_empty() { "none".to_owned() } else { steps.join(", ") });
    let (restart, duration) = cost.words(policy.deadline);
    line(&mut text, "restart", &restart);
    line(&mut text, "duration", &duration);
    json["steps"] = json!(steps);
    json["restart"] = json!(matches!(cost, Cost::Restart(_)));
    json["durationSeconds"] = match cost {
        Cost::Restart(Some(last)) => json!(last.as_secs()),
        Cost::Nothing | Cost::Left | Cost::Restart(None) => Value::Null,
    };
    Ok(Answer { text, json, code })
}

/// What a plan for one node comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cost {
    /// Nothing is restarted.
    Nothing,
    /// It would have to be, and nobody does it.
    Left,
    /// k3s is restarted: how long that took the last time that it was proven.
    Restart(Option<Duration>),
}

impl Cost {
    fn of(plan: &Plan, has_service: bool, last: Option<Duration>) -> Self {
        let is_due = match plan.phase {
            Phase::Pending | Phase::Applying | Phase::Proving | Phase::Current | Phase::RolledBack => true,
            Phase::Stuck | Phase::Paused | Phase::Invalid => false,
        };
        match plan.effect {
            Some(Effect::Live | Effect::Restart) if is_due && has_service => Self::Restart(last),
            Some(Effect::Live | Effect::Restart) if is_due => Self::Left,
            Some(Effect::None | Effect::Files | Effect::Live | Effect::Restart) | None => Self::Nothing,
        }
    }

    /// The restart, and how long it takes.
    fn words(self, deadline: Duration) -> (String, String) {
        let deadline = deadline.as_secs();
        let no = "no restart is waited for".to_owned();
        let one = || format!("one, undone if it is not proven in time (deadline {deadline} s)");
        match self {
            Self::Nothing => ("none".to_owned(), no),
            Self::Left => ("needed, and nobody does it (--service none)".to_owned(), no),
            Self::Restart(Some(last)) => (one(), format!("{} s, as the last proven restart here took", last.as_secs())),
            Self::Restart(None) => (one(), "unknown: no restart was proven here yet".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use agent_core::node::plan::Desired;
    use agent_core::node::turn::TurnSource;
    use agent_core::policy::Policy;

    use super::*;
    use crate::host::{Host, ServiceChoice};
    use crate::pass::{Given, Passes};

    #[tokio::test]
    async fn a_restart_is_counted_where_somebody_does_it_and_lasts_as_long_as_the_last_one() {
        let temp = tempfile::tempdir().unwrap();
        let host = Host::look(temp.path(), ServiceChoice::None).unwrap();
        let key = host.key().unwrap();
        let passes = Passes::new(host, key, TurnSource::Local);
        let mut plan = passes.plan(Given::alone(Desired::None, &Policy::default())).await.unwrap();
        let last = Some(Duration::from_secs(9));
        for (phase, effect, has_service, wanted) in [
            (Phase::Applying, Some(Effect::Restart), true, Cost::Restart(last)),
            (Phase::Pending, Some(Effect::Live), true, Cost::Restart(last)),
            (Phase::Applying, Some(Effect::Restart), false, Cost::Left),
            (Phase::Applying, Some(Effect::Files), true, Cost::Nothing),
            (Phase::Current, None, true, Cost::Nothing),
            (Phase::Invalid, Some(Effect::Restart), true, Cost::Nothing),
            (Phase::Paused, Some(Effect::Restart), false, Cost::Nothing),
        ] {
            (plan.phase, plan.effect) = (phase, effect);
            assert_eq!(Cost::of(&plan, has_service, last), wanted, "{phase} {effect:?}");
        }
        let deadline = Duration::from_secs(120);
        assert_eq!(Cost::Restart(last).words(deadline).1, "9 s, as the last proven restart here took");
        assert!(Cost::Restart(None).words(deadline).1.starts_with("unknown: "));
    }
}

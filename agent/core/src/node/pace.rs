//! The time of a rung: what counts against the deadline, and what does not.

use std::time::Duration;

use super::evidence::{Answer, Check};
use super::journal::Intent;
use super::judge::{self, Standing};
use super::observed::{GuardSeen, Role, Service};
use super::plan::{Case, Step};
use super::proving;

/// The guard is pushed on this often, and what the record says of the time is refreshed.
const REFRESH: Duration = Duration::from_secs(5);
/// More than this between two looks counts for nothing: nobody looked.
const LOOKED_LATELY: Duration = Duration::from_secs(15);

/// The API server is waited for this long once the node itself is proven.
const API_RETURNS: Duration = Duration::from_secs(900);

/// k3s reads its file when it is started, and it is not.
pub(crate) const KEPT_FROM_STARTING: &str = "k3s does not start: an ExecStartPre of its unit fails";

/// Time on a rung while somebody looked.
pub(crate) struct Spent {
    /// Time that counts against the deadline.
    pub(crate) counted: Duration,
    /// Time in which nothing could be proven, whatever the file says.
    pub(crate) hindered: Duration,
    /// When the rung would have begun, had it been looked at without a gap.
    began: Duration,
}

/// Adds up the time of this rung. Two boots cannot be compared: the time starts anew with the boot.
pub(crate) fn spent(case: &Case<'_>, intent: &Intent) -> Spent {
    let now = &case.seen.clock;
    if intent.looked.boot_id != now.boot_id || intent.rung_began.boot_id != now.boot_id {
        return Spent { counted: Duration::ZERO, hindered: Duration::ZERO, began: now.boot };
    }
    let since = now.boot.saturating_sub(intent.looked.boot);
    let began = intent.rung_began.boot.saturating_add(since.saturating_sub(LOOKED_LATELY));
    let mut hindered = intent.away;
    if hindrance(case, intent).is_some() {
        hindered = hindered.saturating_add(since.min(LOOKED_LATELY));
    }
    Spent { counted: now.boot.saturating_sub(began).saturating_sub(hindered), hindered, began }
}

/// Pushes the guard on and writes the time down, every few seconds.
pub(crate) fn refresh(case: &Case<'_>, intent: &Intent) -> Vec<Step> {
    let clock = &case.seen.clock;
    let since = clock.boot.saturating_sub(intent.looked.boot);
    if intent.looked.boot_id == clock.boot_id && since < REFRESH {
        return Vec::new();
    }
    let spent = spent(case, intent);
    let mut next = intent.clone();
    next.away = spent.hindered;
    next.looked = clock.clone();
    next.rung_began.boot = spent.began;
    next.rung_began.boot_id.clone_from(&clock.boot_id);
    let mut steps = vec![proving::record(case, next)];
    if matches!(case.host.guard, GuardSeen::Armed { .. }) {
        let limit = case.limit();
        let left = limit.saturating_sub(spent.counted).max(limit.saturating_sub(spent.hindered));
        steps.push(Step::PushGuard { acts_at: case.guard_acts_at(left) });
    }
    steps
}

/// Why nothing can be proven now, whatever the file says.
pub(crate) fn hindrance(case: &Case<'_>, intent: &Intent) -> Option<&'static str> {
    let Service::Unit(unit) = &case.host.service else { return None };
    // Our own restart has a job; an automatic one is `activating`.
    if unit.active_state == "inactive" && !unit.job_pending {
        return Some("somebody stopped k3s");
    }
    if unit.is_kept_from_starting() {
        return Some(KEPT_FROM_STARTING);
    }
    if supervisor_away(case) {
        // It is asked through k3s itself: while there is no process, silence says nothing of the server.
        let has_process = unit.main_started.is_some();
        return Some(if has_process { "the supervisor does not answer" } else { "k3s does not start" });
    }
    // Everything on the node itself is proven: no file makes an API server fail that gets so far.
    let is_only_api = judge::standing(case, &proving::demanded(intent), None).is_only_api();
    is_only_api.then_some("the node runs on the file, and the API server does not confirm it")
}

/// How long it is waited for what does not depend on the file. A server's API may be away for minutes after its own
/// restart, and nothing on the node suffers from waiting for it: an undo would be one more restart.
pub(crate) fn patience(case: &Case<'_>, standing: &Standing) -> Duration {
    let limit = case.limit();
    if standing.is_only_api() { limit.max(API_RETURNS) } else { limit }
}

/// An agent whose server does not answer looks just like one with a bad file (`k3s.md` 10).
pub(crate) fn supervisor_away(case: &Case<'_>) -> bool {
    let answer = case.host.evidence.as_ref().and_then(|evidence| evidence.get(&Check::Supervisor));
    case.host.installation.role == Role::Agent && matches!(answer, Some(Answer::Failed(_) | Answer::Unknown(_)))
}

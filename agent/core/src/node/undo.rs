//! The undo of a goal that was given up: earlier trees, rung by rung, until the evidence of one passes.

use std::time::Duration;

use super::annotations::Phase;
use super::conclude;
use super::evidence::Check;
use super::heard::Inquiry;
use super::journal::{Goal, Intent, Rung, Verdict};
use super::judge::{self, Standing};
use super::observed::{GuardSeen, Service, UnitSeen};
use super::pace;
use super::plan::{Case, Depth, Gate, PROVING, Plan, Step, Wake};
use super::proving::{
    self, RESTART_TAKES, demanded, failed_revision, is_not_restarted, order_restart, undoing, waiting,
};
use super::turn::Turn;
use super::turn::TurnSource;

/// A node that is stuck is looked at this often.
const STUCK: Duration = Duration::from_secs(10);

/// An earlier tree is to lie there.
pub(crate) fn undo(case: &Case<'_>, intent: &Intent) -> Plan {
    let Some(target) = conclude::target(case, intent.rung) else { return next_rung(case, intent) };
    if case.host.disk.tree != target {
        let mut steps = vec![Step::Replace(target)];
        if matches!(case.host.guard, GuardSeen::Armed { .. }) {
            // Only now: until the file lies there, the guard is the one who lives on if this process is killed.
            steps.push(Step::ClearGuard);
        }
        return waiting(case, intent, undoing(intent), steps, Wake::Now);
    }
    if matches!(case.host.guard, GuardSeen::Armed { .. }) {
        return waiting(case, intent, undoing(intent), vec![Step::ClearGuard], Wake::Now);
    }
    let Service::Unit(unit) = &case.host.service else { return conclude::undone(case, intent) };
    let mut demanded = demanded(intent);
    if is_not_restarted(case, intent, unit) {
        // The goal was never loaded: the runtime holds what it held before, whether or not that is what lies there.
        demanded.remove(&Check::CertsD);
        demanded.remove(&Check::AuthTables);
    }
    let standing = judge::standing(case, &demanded, intent.restart_ordered.as_ref().map(|at| (at, "")));
    if matches!(standing, Standing::Passed) {
        return conclude::undone(case, intent);
    }
    if let Some(plan) = revive(case, intent, unit).or_else(|| undo_restart(case, intent, unit, &standing)) {
        return plan;
    }
    let spent = pace::spent(case, intent);
    if standing.is_only_api() && spent.counted.saturating_add(spent.hindered) >= case.limit() {
        // The node itself is proven, and another file would not bring the API server back.
        return conclude::undone(case, intent);
    }
    if spent.counted >= case.limit() {
        return next_rung(case, intent);
    }
    let missing = standing.missing();
    waiting(case, intent, format!("{}: {missing}", undoing(intent)), pace::refresh(case, intent), Wake::After(PROVING))
}

/// A unit that systemd gave up, as after too many starts by hand, is not started by any file: it is restarted, once on each
/// rung, and again only while that restart has not taken. Nothing of k3s runs there, so nobody is disturbed: neither a
/// supervisor nor a gate is asked.
pub(crate) fn revive(case: &Case<'_>, intent: &Intent, unit: &UnitSeen) -> Option<Plan> {
    if unit.job_pending || unit.main_started.is_some() {
        return None;
    }
    let clock = &case.seen.clock;
    let is_due = match intent.restart_ordered.as_ref().filter(|at| at.boot_id == clock.boot_id) {
        None => unit.active_state == "failed",
        // The process that ordered it may have died in the middle: what systemd has forgotten to be failed is inactive, as
        // after a stop by hand. Only the invocation tells whether it was started since.
        Some(at) => {
            matches!(unit.active_state.as_str(), "failed" | "inactive")
                && intent.restarted_over.as_ref() == Some(&unit.invocation)
                && clock.boot.saturating_sub(at.boot) >= RESTART_TAKES
        }
    };
    is_due.then(|| {
        let why = "systemd has given it up, and the earlier file is back: restarting";
        order_restart(case, intent, Turn::resume(intent), why)
    })
}

/// A unit that loops on the file heals by the file alone. Only one that is active on the bad file is restarted.
fn undo_restart(case: &Case<'_>, intent: &Intent, unit: &UnitSeen, standing: &Standing) -> Option<Plan> {
    let never_loaded = is_not_restarted(case, intent, unit);
    // What k3s has not written yet is no reason: it may be starting on the good file, or still be waiting for one.
    let holds_another = standing.is_about_what_is_loaded() && judge::has_written(case, unit);
    if !unit.is_active() || unit.job_pending || never_loaded || was_restarted(case, intent, unit) || !holds_another {
        return None;
    }
    if pace::supervisor_away(case) {
        let why = format!("{}; not restarted while the supervisor does not answer", undoing(intent));
        return Some(waiting(case, intent, why, pace::refresh(case, intent), Wake::After(PROVING)));
    }
    let turn = match case.gate() {
        // An undo needs no grant, and no more than a turn may it outlast what the others answered.
        Gate::Open => Turn::resume(intent).within(case.seen.heard.gate.as_ref()),
        Gate::Shut(gate) => {
            let why = format!("{}; not restarted: {gate}", undoing(intent));
            let mut plan = waiting(case, intent, why, pace::refresh(case, intent), Wake::After(STUCK));
            plan.inquiry = asks_gate(case).then_some(Inquiry::Gate);
            return Some(plan);
        }
        Gate::Unasked if judge::serves(case, intent) => {
            let why = format!("{}; asking the other servers", undoing(intent));
            let mut plan = waiting(case, intent, why, pace::refresh(case, intent), Wake::Now);
            plan.inquiry = Some(Inquiry::Gate);
            return Some(plan);
        }
        // A server whose API does not answer serves nobody whom its restart could disturb.
        Gate::Unasked => Turn::resume(intent),
    };
    Some(order_restart(case, intent, turn, "the earlier file is back, restarting"))
}

/// Whether somebody can ask the gate.
fn asks_gate(case: &Case<'_>) -> bool {
    case.seen.source == TurnSource::Coordinator
}

/// A restart of this rung was ordered in this boot, and it took or may still take.
fn was_restarted(case: &Case<'_>, intent: &Intent, unit: &UnitSeen) -> bool {
    let clock = &case.seen.clock;
    let Some(ordered) = intent.restart_ordered.as_ref().filter(|at| at.boot_id == clock.boot_id) else { return false };
    let is_younger = unit.main_started.is_none_or(|started| started.saturating_add(judge::TICK) >= ordered.boot);
    is_younger || clock.boot.saturating_sub(ordered.boot) < RESTART_TAKES
}

/// Nothing helped: what lies there is left, and every look may find that it runs after all.
pub(crate) fn stuck(case: &Case<'_>, intent: &Intent) -> Plan {
    let standing = judge::standing(case, &demanded(intent), None);
    if matches!(standing, Standing::Passed) || standing.is_only_api() {
        return conclude::undone(case, intent);
    }
    if let Some(record) = super::idle::retried(case) {
        // Somebody says that the cause is gone: the rungs are tried again from the top.
        return start_rung(&Case { record: &record, ..*case }, intent.clone(), Rung::Previous);
    }
    if is_foreign(case, intent) && judge::model_of(&case.host.disk.tree).is_err() {
        // Somebody put a file there that k3s cannot even read: our own are better than that, and are tried again.
        return start_rung(case, intent.clone(), Rung::Previous);
    }
    let missing = standing.missing();
    let unit = &case.host.installation.unit;
    let mut plan = Plan::resting(Phase::Stuck, format!("no file helps: {missing}; look at the log of {unit}"));
    plan.wake = Wake::After(STUCK);
    plan.look = Depth::Full;
    plan.failed = failed_revision(intent);
    // A corrected configuration is the cure, and must not be kept waiting by the failure that it cures.
    super::idle::cure(case, intent, plan.of(case.record))
}

/// What lies there is no rung's tree and not the goal's.
fn is_foreign(case: &Case<'_>, intent: &Intent) -> bool {
    let lies = &case.host.disk.tree;
    let is_rung = [Rung::Previous, Rung::Original, Rung::Nothing]
        .iter()
        .any(|rung| conclude::target(case, *rung).is_some_and(|tree| tree == *lies));
    !is_rung && case.seen.key.tree(lies) != intent.tree
}

/// Gives the goal up: from here on the earlier trees are tried, the last proven one first.
pub(crate) fn give_up(case: &Case<'_>, intent: &Intent, verdict: Verdict) -> Plan {
    let mut next = intent.clone();
    next.verdict = Some(verdict);
    // A heal and a drift restore were the last proven tree themselves; it is left only if it failed.
    let first = match (&intent.goal, &next.verdict) {
        (Goal::Drift(_) | Goal::Heal(_), Some(Verdict::Failed(_))) => Rung::Original,
        (Goal::Drift(_) | Goal::Heal(_), Some(Verdict::Inconclusive(_) | Verdict::Interrupted(_)) | None)
        | (Goal::Apply(_), _) => Rung::Previous,
    };
    start_rung(case, next, first)
}

/// The rung did not help in time.
fn next_rung(case: &Case<'_>, intent: &Intent) -> Plan {
    let rung = match intent.rung {
        Rung::Goal => Rung::Previous,
        Rung::Previous => Rung::Original,
        Rung::Original => Rung::Nothing,
        Rung::Nothing | Rung::Stuck => Rung::Stuck,
    };
    start_rung(case, intent.clone(), rung)
}

fn start_rung(case: &Case<'_>, mut next: Intent, mut rung: Rung) -> Plan {
    // A rung without a tree, or with the one that just failed, is passed over.
    let lies = &case.host.disk.tree;
    while matches!(rung, Rung::Original | Rung::Nothing)
        && conclude::target(case, rung).is_none_or(|tree| tree == *lies)
    {
        rung = if rung == Rung::Original { Rung::Nothing } else { Rung::Stuck };
    }
    next.rung = rung;
    next.rung_began = case.seen.clock.clone();
    next.looked = case.seen.clock.clone();
    (next.restart_ordered, next.restarted_over) = (None, None);
    next.away = Duration::ZERO;
    let reason = undoing(&next);
    let step = proving::record(case, next.clone());
    let mut plan = waiting(case, &next, reason, vec![step], Wake::Now);
    if rung == Rung::Stuck {
        plan.phase = Phase::Stuck;
    }
    plan
}

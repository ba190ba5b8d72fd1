//! An open intent: proving what was written, or undoing it, rung by rung.

use std::collections::BTreeSet;
use std::time::Duration;

use super::annotations::Phase;
use super::conclude;
use super::evidence::{Answer, Check};
use super::heard::Inquiry;
use super::journal::{Goal, Intent, Record, Rung, Verdict};
use super::judge::{self, Standing};
use super::observed::{GuardSeen, Role, Service, UnitSeen};
use super::others::{self, Others};
use super::pace;
use super::plan::{Case, Depth, Gate, PROVING, Plan, Step, Wake};
use super::pulls;
use super::turn::{NoTurn, Reach, Turn};
use super::undo;
use crate::tree::Tree;

/// A restart that was ordered must show a job or a new invocation within this time, else it is ordered again.
pub(crate) const RESTART_TAKES: Duration = Duration::from_secs(15);

/// Plans the next step of an open intent. It beats inputs, policy, pause and newer revisions.
pub(crate) fn plan(case: &Case<'_>, intent: &Intent) -> Plan {
    if case.host.evidence.is_none() && !matches!(case.host.service, Service::None) {
        return waiting(case, intent, "looking at the node".to_owned(), Vec::new(), Wake::Now);
    }
    match intent.rung {
        Rung::Goal => goal(case, intent),
        Rung::Previous | Rung::Original | Rung::Nothing => undo::undo(case, intent),
        Rung::Stuck => undo::stuck(case, intent),
    }
}

/// The goal's own tree is to lie there.
fn goal(case: &Case<'_>, intent: &Intent) -> Plan {
    let clock = &case.seen.clock;
    let lies = case.seen.key.tree(&case.host.disk.tree) == intent.tree;
    let Service::Unit(unit) = &case.host.service else {
        // Nothing runs on these files: once they lie there, all that can be said is said.
        return if lies {
            conclude::proven(case, intent)
        } else if is_untouched(case, intent) {
            conclude::untouched(case, "broken off before the file was replaced")
        } else {
            not_there(case, intent)
        };
    };
    let mut standing = judge::standing(case, &demanded(intent), restarted(intent));
    if lies && matches!(standing, Standing::Passed) && may_have_loaded(intent, unit) {
        match pulls::missing(case, intent) {
            None => return conclude::proven(case, intent),
            // The node itself stands: only now it is worth a pull.
            Some(missing) => standing = Standing::Missing(vec![(Check::Pull, missing)]),
        }
    }
    if intent.began.boot_id != clock.boot_id {
        return undo::give_up(case, intent, Verdict::Inconclusive("the node was rebooted in the middle".into()));
    }
    if case.host.guard == GuardSeen::Fired {
        let why = "the guard put the previous file back while the agent was away";
        return undo::give_up(case, intent, Verdict::Inconclusive(why.into()));
    }
    if is_untouched(case, intent) && !matches!(intent.goal, Goal::Heal(_)) {
        return conclude::untouched(case, "broken off before the file was replaced");
    }
    if !lies {
        return not_there(case, intent);
    }
    if let Some(plan) = restart_due(case, intent, unit) {
        return plan;
    }
    if matches!(intent.goal, Goal::Heal(_))
        && let Some(plan) = undo::revive(case, intent, unit)
    {
        return plan;
    }
    match rule(case, intent, unit, &standing) {
        Ruling::Over(verdict) => undo::give_up(case, intent, verdict),
        Ruling::AskOthers => {
            let why = format!("asking the other servers, since it is not proven in time: {}", standing.missing());
            let mut plan = waiting(case, intent, why, pace::refresh(case, intent), Wake::Now);
            plan.inquiry = Some(Inquiry::Others);
            plan
        }
        Ruling::Wait => wait(case, intent, &standing),
    }
}

/// The goal's tree does not lie there, though its intent is recorded.
fn not_there(case: &Case<'_>, intent: &Intent) -> Plan {
    if let Goal::Heal(_) = intent.goal
        && let Some(tree) = goal_tree(case, intent)
    {
        // Writing the last proven tree needs no turn, and doing it twice is doing it once.
        return waiting(case, intent, "replacing the file".into(), vec![Step::Replace(tree)], Wake::Now);
    }
    let who = case.host.disk.writer.as_ref().map_or_else(String::new, |writer| format!(" by {writer}"));
    let not_restarted = match &case.host.service {
        Service::None => true,
        Service::Unit(unit) => is_not_restarted(case, intent, unit),
    };
    if not_restarted {
        // Nothing was tried: some of the files may lie there, and the disk was full at the next one.
        let why = format!("the files do not lie there as a whole, changed{who}, and nothing was restarted");
        return undo::give_up(case, intent, Verdict::Interrupted(why));
    }
    undo::give_up(case, intent, Verdict::Inconclusive(format!("the file was changed{who} while its proof was awaited")))
}

/// The tree of the goal, if it can still be had: a heal and a drift restore write the last proven one.
fn goal_tree(case: &Case<'_>, intent: &Intent) -> Option<Tree> {
    let previous = case.host.previous.clone()?;
    (case.seen.key.tree(&previous) == intent.tree).then_some(previous)
}

/// The goal needs a restart that was not ordered, or that did not take.
fn restart_due(case: &Case<'_>, intent: &Intent, unit: &UnitSeen) -> Option<Plan> {
    if !intent.restart || unit.invocation != intent.invocation_before || unit.job_pending {
        return None;
    }
    let clock = &case.seen.clock;
    if let Some(ordered) = &intent.restart_ordered
        && clock.boot.saturating_sub(ordered.boot) < RESTART_TAKES
    {
        return None;
    }
    // Only the process that took the turn may go on to a restart; after it died its journal permits proving and undo.
    let Some(held) = case.seen.held.as_ref().filter(|turn| turn.reach() == Reach::Goal) else {
        let why = "the agent was stopped between the file and the restart";
        return Some(undo::give_up(case, intent, Verdict::Interrupted(why.into())));
    };
    let not_restarted =
        |why: &str| Some(undo::give_up(case, intent, Verdict::Interrupted(format!("not restarted: {why}"))));
    let ask = || {
        let mut plan =
            waiting(case, intent, "asking for the turn again before a restart".into(), Vec::new(), Wake::Now);
        plan.inquiry = Some(Inquiry::Turn { cures: true });
        Some(plan)
    };
    let turn = match held.renewed(&case.seen.heard, clock.boot) {
        Ok(turn) => turn,
        Err(NoTurn::NotRead) => return ask(),
        Err(
            why @ (NoTurn::NotUsed | NoTurn::NotShown | NoTurn::Unreadable(_) | NoTurn::NoHolder | NoTurn::OtherEpoch),
        ) => return not_restarted(&why.to_string()),
    };
    match case.gate() {
        Gate::Open if case.host.installation.role == Role::Server => {
            let turn = turn.within(case.seen.heard.gate.as_ref());
            Some(order_restart(case, intent, turn, "restarting"))
        }
        Gate::Open => Some(order_restart(case, intent, turn, "restarting")),
        Gate::Unasked => ask(),
        Gate::Shut(why) => not_restarted(why),
    }
}

/// Records that a restart is ordered, then orders it.
pub(crate) fn order_restart(case: &Case<'_>, intent: &Intent, turn: Turn, why: &str) -> Plan {
    let mut next = intent.clone();
    next.restart_ordered = Some(case.seen.clock.clone());
    if let Service::Unit(unit) = &case.host.service {
        next.restarted_over = Some(unit.invocation.clone());
    }
    let unit = &case.host.installation.unit;
    let steps = vec![record(case, next), Step::Restart(turn)];
    waiting(case, intent, format!("{why} {unit}"), steps, Wake::After(PROVING))
}

/// What follows from what is missing.
enum Ruling {
    /// It may still come.
    Wait,
    /// Time is over, and the other servers have to be asked before it is said why.
    AskOthers,
    /// The goal has failed, or something else explains why it is not proven.
    Over(Verdict),
}

fn rule(case: &Case<'_>, intent: &Intent, unit: &UnitSeen, standing: &Standing) -> Ruling {
    let failed = |why: &str| Ruling::Over(Verdict::Failed(why.to_owned()));
    let inconclusive = |why: String| Ruling::Over(Verdict::Inconclusive(why));
    let log = &case.host.log;
    let after_restart = unit.invocation != intent.invocation_before || matches!(intent.goal, Goal::Heal(_));
    let heals = matches!(intent.goal, Goal::Heal(_));
    // The log of a healed invocation still holds the lines about the file that was there before.
    if after_restart && !heals && judge::is_down(case, unit) {
        if log.registries_error {
            return failed("k3s cannot read the file (its log names the error)");
        }
        if log.containerd_config_error {
            return failed("containerd cannot read the config.toml made of it");
        }
        if unit.restarts >= 2 && log.containerd_exited {
            return failed("containerd exits again and again with it");
        }
    }
    if after_restart && unit.is_kept_from_starting() {
        // At once: the earlier file does no harm, and should the script be one that looks at the file, it is the cure.
        return inconclusive(pace::KEPT_FROM_STARTING.to_owned());
    }
    let pulling = if standing.is_only_pull() { pulls::allowance(case, intent) } else { Duration::ZERO };
    let limit = case.limit().saturating_add(pulling);
    let spent = pace::spent(case, intent);
    if spent.hindered >= pace::patience(case, standing) {
        let why = pace::hindrance(case, intent).unwrap_or("nothing could be proven for a long time");
        return inconclusive(format!("{why}, so nothing can be proven"));
    }
    if spent.counted < limit {
        return Ruling::Wait;
    }
    if let Some(why) = explained(case, intent, unit) {
        return inconclusive(why);
    }
    // Before etcd's own words: a server that is gone says more than a leader that is missing for it.
    match others::others(case, intent) {
        Others::Unasked => return Ruling::AskOthers,
        Others::Stopped(why) => return inconclusive(why),
        Others::Answer => {}
    }
    if let Some(why) = etcd_explains(case) {
        return inconclusive(why);
    }
    let missing = standing.missing();
    failed(&format!("not proven within {} s: {missing}", limit.as_secs()))
}

/// Something other than the file that explains why the proof is missing.
fn explained(case: &Case<'_>, intent: &Intent, unit: &UnitSeen) -> Option<String> {
    if unit.version != intent.version_before {
        return Some("k3s was upgraded meanwhile".into());
    }
    if let Some(why) = pace::hindrance(case, intent) {
        return Some(why.into());
    }
    if case.host.log.waits_for_server && !unit.is_active() {
        return Some("the supervisor does not answer".into());
    }
    None
}

/// What a server's own etcd says of why it does not serve.
fn etcd_explains(case: &Case<'_>) -> Option<String> {
    // A member without a leader, or one that does not vote yet, says which.
    match case.host.evidence.as_ref().and_then(|evidence| evidence.get(&Check::EtcdLeader)) {
        Some(Answer::Failed(why)) if case.host.installation.role == Role::Server => Some(why.clone()),
        Some(Answer::Failed(_) | Answer::Passed | Answer::Unknown(_) | Answer::NotApplicable) | None => None,
    }
}

fn wait(case: &Case<'_>, intent: &Intent, standing: &Standing) -> Plan {
    let missing = standing.missing();
    let refresh = pace::refresh(case, intent);
    let mut plan = waiting(case, intent, format!("waiting for proof: {missing}"), refresh, Wake::After(PROVING));
    plan.pull = standing.is_only_pull().then(|| pulls::order(case, intent));
    plan
}

/// What has to hold after: what applied and passed before, and in any case the unit and what it loaded.
pub(crate) fn demanded(intent: &Intent) -> BTreeSet<Check> {
    let mut demanded = intent.passed_before.clone();
    demanded.extend([Check::Unit, Check::CertsD, Check::AuthTables]);
    if matches!(intent.goal, Goal::Heal(_)) {
        // Nothing passed before on a node that was down; what every node has is demanded.
        demanded.extend([Check::Containerd, Check::Kubelet]);
    }
    demanded.remove(&Check::Supervisor);
    demanded
}

fn restarted(intent: &Intent) -> Option<(&super::observed::Clock, &str)> {
    if !intent.restart {
        return None;
    }
    intent.restart_ordered.as_ref().map(|at| (at, intent.invocation_before.as_str()))
}

/// What lay there when the intent began still lies there, and the unit was not restarted since.
fn is_untouched(case: &Case<'_>, intent: &Intent) -> bool {
    let same_file = case.seen.key.tree(&case.host.disk.tree) == intent.tree_before;
    same_file
        && match &case.host.service {
            Service::None => true,
            Service::Unit(unit) => is_not_restarted(case, intent, unit) && !unit.job_pending,
        }
}

/// The unit still runs as it did when the intent began.
pub(crate) fn is_not_restarted(case: &Case<'_>, intent: &Intent, unit: &UnitSeen) -> bool {
    unit.invocation == intent.invocation_before && intent.began.boot_id == case.seen.clock.boot_id
}

/// Without an ordered restart, a goal that needs one cannot have been loaded by us; a reboot loads it all the same.
fn may_have_loaded(intent: &Intent, unit: &UnitSeen) -> bool {
    !intent.restart || unit.invocation != intent.invocation_before
}

/// The step that writes the record with this intent.
pub(crate) fn record(case: &Case<'_>, intent: Intent) -> Step {
    Step::Record(Box::new(Record { intent: Some(intent), ..case.record.clone() }))
}

pub(crate) fn undoing(intent: &Intent) -> String {
    let what = match intent.rung {
        Rung::Goal => "proving",
        Rung::Previous => "putting the last proven file back",
        Rung::Original => "putting the file from before us back",
        Rung::Nothing => "trying without any file",
        Rung::Stuck => "nothing helped",
    };
    match &intent.verdict {
        Some(Verdict::Failed(why) | Verdict::Inconclusive(why) | Verdict::Interrupted(why)) => format!("{what}: {why}"),
        None => what.to_owned(),
    }
}

/// The revision that a failed intent is about.
pub(crate) fn failed_revision(intent: &Intent) -> Option<String> {
    matches!(intent.verdict, Some(Verdict::Failed(_))).then(|| intent.goal.revision().to_owned())
}

pub(crate) fn waiting(case: &Case<'_>, intent: &Intent, reason: String, steps: Vec<Step>, wake: Wake) -> Plan {
    let mut plan = Plan::resting(Phase::Proving, reason).of(case.record);
    plan.steps = steps;
    plan.wake = wake;
    plan.look = Depth::Full;
    plan.failed = failed_revision(intent);
    plan
}

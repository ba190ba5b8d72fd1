//! No open intent: what stands between the node and what is desired.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::annotations::Phase;
use super::begin::{begin, keep_before};
use super::conclude::{self, REMEMBERED, passed, proven_by, remember};
use super::drift::{drift, heal, keep_proven};
use super::exchange::{self, Exchange};
use super::heard::PreflightSeen;
use super::journal::{Applied, Goal, Intent, Loaded, Record};
use super::judge;
use super::observed::{GuardSeen, Service, UnitSeen};
use super::plan::{Case, Depth, Desired, Gate, Kept, Plan, STEADY, Step, Wake, Wanted};
use super::pulls;
use super::remark;
use super::turn::{Turn, TurnSource};
use crate::policy::{Adopt, Mode};
use crate::registries::changes;
use crate::registries::effect::Effect;

/// Plans for a node with no open intent.
pub(crate) fn plan(case: &Case<'_>) -> Plan {
    if let Some(plan) = retry(case) {
        return plan;
    }
    let mut first = conclude::clear(case);
    first.extend(keep_proven(case));
    if let Some(sentence) = &case.host.disk.oddity {
        return Plan::resting(Phase::Invalid, sentence.clone()).of(case.record).after(first);
    }
    let managed = case.policy.mode != Mode::Report;
    if managed && let Some(plan) = heal(case) {
        return plan.after(first);
    }
    if managed && let Some(plan) = drift(case) {
        return plan.after(first);
    }
    let wanted = match wanted(case) {
        Ok(wanted) => wanted,
        Err(plan) => return plan.of(case.record).after(first),
    };
    towards(case, &wanted).of(case.record).after(first)
}

/// While stuck: a configuration that did not fail here may be granted, since it is the cure. Else `stay`.
pub(crate) fn cure(case: &Case<'_>, intent: &Intent, stay: Plan) -> Plan {
    let Ok(wanted) = wanted(case) else { return stay };
    let model = case.seen.key.model(&wanted.registries);
    if !wanted.errors.is_empty()
        || model == intent.model
        || has_failed(case.record, &model)
        || is_refused(case, &wanted)
    {
        return stay;
    }
    let goal = Goal::Apply(wanted.revision.clone());
    let request =
        Request { wanted: &wanted, goal, effect: Effect::Restart, why: "a cure for a stuck node", cures: true };
    let mut plan = turn(case, request, stay);
    if matches!(plan.phase, Phase::Paused | Phase::Invalid) {
        // Whatever the cure waits for, the node is stuck, and counts as that.
        plan.phase = Phase::Stuck;
    }
    plan
}

/// Honours a `retry` token once.
fn retry(case: &Case<'_>) -> Option<Plan> {
    let record = retried(case)?;
    let mut plan = Plan::resting(Phase::Pending, "retry asked for".to_owned()).of(&record);
    plan.steps = vec![Step::Record(Box::new(record))];
    plan.wake = Wake::Now;
    Some(plan)
}

/// The record with a `retry` token that was not honoured yet: what failed may be tried again.
pub(crate) fn retried(case: &Case<'_>) -> Option<Record> {
    let token = case.seen.node.ours("retry")?;
    if case.record.retries.iter().any(|honoured| honoured == token) {
        return None;
    }
    let mut record = case.record.clone();
    remember(&mut record.retries, token.to_owned(), REMEMBERED);
    record.failed.clear();
    record.refused = None;
    record.probe_refused = None;
    record.unused = None;
    record.inconclusive = None;
    record.restores.clear();
    Some(record)
}

/// What is to lie here, or why nothing is.
pub(crate) fn wanted(case: &Case<'_>) -> Result<Wanted, Box<Plan>> {
    if case.policy.mode == Mode::Restore {
        return original(case);
    }
    match &case.seen.desired {
        Desired::Waiting(why) => Err(rest(Phase::Pending, why.clone())),
        Desired::None => {
            let why = "no ConfigMap \"registries\" with a key \"registries.yaml\": nothing is touched";
            Err(rest(Phase::Pending, why.to_owned()))
        }
        Desired::Refused(sentences) => Err(rest(Phase::Invalid, first_of(sentences))),
        Desired::Ready(wanted) => Ok((**wanted).clone()),
    }
}

/// `mode: restore`: what lay there before us is what is wanted.
fn original(case: &Case<'_>) -> Result<Wanted, Box<Plan>> {
    let Some(tree) = case.host.original.clone() else {
        let why = "mode restore: this agent never replaced a file here, so there is nothing to put back";
        return Err(rest(Phase::Current, why.to_owned()));
    };
    let registries = judge::model_of(&tree).map_err(|why| {
        rest(Phase::Invalid, format!("mode restore: k3s could not read the file from before us: {why}"))
    })?;
    Ok(Wanted {
        revision: "restore".to_owned(),
        registries,
        tree,
        credential_sources: BTreeMap::new(),
        tls_sources: BTreeMap::new(),
        file_hosts: BTreeSet::new(),
        errors: Vec::new(),
    })
}

fn rest(phase: Phase, reason: String) -> Box<Plan> {
    Box::new(Plan::resting(phase, reason))
}

fn first_of(sentences: &[String]) -> String {
    match sentences {
        [] => "the inputs cannot be used".to_owned(),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

pub(crate) fn has_failed(record: &Record, model: &super::journal::Digest) -> bool {
    record.failed.iter().any(|failed| failed.model == *model)
}

/// From what lies and is loaded here to what is wanted.
fn towards(case: &Case<'_>, wanted: &Wanted) -> Plan {
    if !wanted.errors.is_empty() {
        return Plan::resting(Phase::Invalid, first_of(&wanted.errors));
    }
    let before = judge::model_of(&case.host.disk.tree);
    if let Some(plan) = first_contact(case, wanted, &before) {
        return plan;
    }
    let verdict = judge::effect(case, &wanted.registries, &wanted.tree);
    let mut plan = if verdict.effect == Effect::None { quiet(case, wanted) } else { loud(case, wanted, &verdict) };
    plan.effect = Some(verdict.effect);
    plan.effect_why = verdict.why;
    plan.changes = changes::changes(&before.unwrap_or_default(), &wanted.registries);
    plan
}

/// A file that is not ours is not thrown away without consent.
fn first_contact(
    case: &Case<'_>,
    wanted: &Wanted,
    before: &Result<crate::registries::model::Registries, String>,
) -> Option<Plan> {
    if case.record.applied.is_some() || case.policy.adopt == Adopt::Replace || case.policy.mode == Mode::Restore {
        return None;
    }
    match before {
        Err(why) => {
            let reason = format!("k3s cannot read the file that lies here ({why}): mend it, or set \"adopt: replace\"");
            Some(Plan::resting(Phase::Invalid, reason))
        }
        Ok(model) => {
            let lost = judge::lost_hosts(model, &wanted.registries);
            (!lost.is_empty()).then(|| {
                let hosts = lost.join(", ");
                let reason = format!(
                    "the file that lies here names {hosts}, which the ConfigMap has not: \
                     add them (see \"import\"), or set \"adopt: replace\""
                );
                Plan::resting(Phase::Invalid, reason)
            })
        }
    }
}

/// The runtime holds it already: at most the bytes on disk differ.
fn quiet(case: &Case<'_>, wanted: &Wanted) -> Plan {
    let disk = &case.host.disk;
    let differs = disk.tree != wanted.tree;
    if case.policy.mode == Mode::Report {
        let reason = if differs { "mode report: the file would be rewritten, nothing restarted" } else { "as desired" };
        return Plan::resting(if differs { Phase::Pending } else { Phase::Current }, reason.to_owned());
    }
    let model = case.seen.key.model(&wanted.registries);
    let tree = case.seen.key.tree(&wanted.tree);
    let same =
        case.record.applied.as_ref().is_some_and(|applied| {
            applied.revision == wanted.revision && applied.model == model && applied.tree == tree
        });
    let files_only = matches!(case.host.service, Service::None);
    let proof =
        case.record.applied.as_ref().filter(|_| same).and_then(|applied| Some((applied, applied.remark.as_ref()?)));
    let reason = match proof {
        Some((applied, remark)) if !files_only => remark::with(case, proven_by(&applied.evidence), Some(remark)),
        Some(_) | None => {
            let held = if files_only { "files only" } else { "loaded" };
            remark::with(case, format!("as desired ({held})"), None)
        }
    };
    let mut plan = Plan::resting(Phase::Current, reason);
    if same && !differs {
        // Started by somebody else since: what is loaded is written down while the clocks still tell it.
        let loaded = loaded(case, &model).filter(|_| judge::holds_what_lies(case));
        let mut record = Record { loaded: loaded.or_else(|| case.record.loaded.clone()), ..case.record.clone() };
        // A record of an earlier version does not know where all of it came from.
        remember_sources(&mut record, wanted);
        if record != *case.record {
            plan.steps = vec![Step::Record(Box::new(record))];
        }
        return plan;
    }
    let mut record = Record { asked: None, inconclusive: None, ..case.record.clone() };
    record.loaded = loaded(case, &model).or(record.loaded);
    record.failed.retain(|failed| failed.model != model);
    record.applied = Some(Applied {
        revision: wanted.revision.clone(),
        model,
        tree,
        evidence: if files_only { BTreeSet::new() } else { passed(case) },
        remark: None,
        at: case.seen.clock.wall,
    });
    remember_sources(&mut record, wanted);
    plan.steps = keep_before(case);
    if differs {
        plan.steps.push(Step::Replace(wanted.tree.clone()));
    }
    plan.steps.push(Step::Record(Box::new(record)));
    plan.steps.push(Step::Keep(Kept::Previous, wanted.tree.clone()));
    plan.wake = Wake::Now;
    plan.revision = Some(wanted.revision.clone());
    plan
}

/// What came from which object: what is gone later is known by it.
fn remember_sources(record: &mut Record, wanted: &Wanted) {
    record.credential_sources = wanted.credential_sources.clone();
    record.tls_sources = wanted.tls_sources.clone();
    record.file_hosts = wanted.file_hosts.clone();
}

fn loaded(case: &Case<'_>, model: &super::journal::Digest) -> Option<Loaded> {
    let Service::Unit(unit) = &case.host.service else { return None };
    Some(Loaded { model: model.clone(), invocation: unit.invocation.clone(), boot_id: case.seen.clock.boot_id.clone() })
}

/// The change disturbs the node.
fn loud(case: &Case<'_>, wanted: &Wanted, verdict: &judge::Cost) -> Plan {
    let model = case.seen.key.model(&wanted.registries);
    if let Some(failed) = case.record.failed.iter().find(|failed| failed.model == model) {
        let reason = conclude::failure("this configuration", &failed.why, case.seen.source);
        let mut plan = Plan::resting(Phase::RolledBack, reason);
        plan.failed = Some(wanted.revision.clone());
        return plan;
    }
    if let Some(refused) = case.record.refused.as_ref().filter(|_| is_refused(case, wanted)) {
        let mut plan = Plan::resting(Phase::Invalid, refused.why.clone());
        plan.failed = Some(wanted.revision.clone());
        return plan;
    }
    let why = &verdict.why;
    let rest = Plan::resting(Phase::Pending, why.clone());
    let goal = Goal::Apply(wanted.revision.clone());
    turn(case, Request { wanted, goal, effect: verdict.effect, why, cures: false }, rest)
}

/// A registry refused this revision here.
fn is_refused(case: &Case<'_>, wanted: &Wanted) -> bool {
    case.record.refused.as_ref().is_some_and(|refused| refused.revision == wanted.revision)
}

/// A change that needs a turn.
pub(crate) struct Request<'a> {
    pub(crate) wanted: &'a Wanted,
    pub(crate) goal: Goal,
    pub(crate) effect: Effect,
    pub(crate) why: &'a str,
    /// It is the cure of a stuck node, whose unit need not be active.
    pub(crate) cures: bool,
}

/// Takes the turn, or says what it waits for. `rest` is the plan for while it waits.
pub(crate) fn turn(case: &Case<'_>, request: Request<'_>, mut rest: Plan) -> Plan {
    let Request { wanted, effect, why, cures, .. } = request;
    if case.policy.mode == Mode::Report {
        rest.reason = format!("mode report, nothing is done: {why}");
        return rest;
    }
    if case.policy.pause || case.seen.node.is_paused() {
        let whose = if case.policy.pause { "the policy" } else { "this node's annotation" };
        rest.phase = Phase::Paused;
        rest.reason = format!("paused by {whose}: {why}");
        return rest;
    }
    if let Service::Unit(unit) = &case.host.service
        && !(unit.is_active() || cures || (loops(case, unit) && case.host.disk.tree != wanted.tree))
    {
        let name = &case.host.installation.unit;
        let state = &unit.active_state;
        rest.reason = format!("{name} is {state}: waiting until it runs");
        rest.wake = Wake::After(Duration::from_secs(10));
        return rest;
    }
    if let Service::Unit(unit) = &case.host.service
        && judge::is_starting(case, unit)
    {
        let name = &case.host.installation.unit;
        rest.reason = format!("{name} has just been started and has not written config.toml yet: waiting for it");
        rest.wake = Wake::After(Duration::from_secs(5));
        return rest;
    }
    // More than the whole wait is left only if the wall clock was set back.
    if let Some(again) = &case.record.inconclusive
        && again.revision == wanted.revision
        && case.seen.clock.wall < again.again_at
        && let left = again.again_at.duration_since(case.seen.clock.wall).unsigned_abs()
        && left <= conclude::again_after(again.count)
    {
        rest.reason = again.sentence();
        rest.wake = Wake::After(left.min(STEADY));
        return rest;
    }
    if case.host.guard == GuardSeen::Impossible && !matches!(case.host.service, Service::None) {
        rest.phase = Phase::Invalid;
        rest.reason = "no undo can be armed on this host (it needs systemd): nothing is written".to_owned();
        return rest;
    }
    if case.seen.ending {
        rest.reason = format!("the agent was asked to end: {why}");
        return rest;
    }
    let is_none = matches!(case.host.service, Service::None);
    if let Service::Unit(unit) = &case.host.service
        && !(cures || loops(case, unit))
        && unit.is_active()
        && judge::is_still_starting(case, unit)
    {
        let name = &case.host.installation.unit;
        rest.reason = format!("{name} is active and has no containerd yet: waiting for it");
        rest.wake = Wake::After(Duration::from_secs(10));
        rest.look = Depth::Full;
        return rest;
    }
    if super::pace::supervisor_away(case) {
        // k3s would not come up again until its server is back, whatever the file says.
        rest.reason = format!("not begun while the supervisor does not answer: {why}");
        rest.wake = Wake::After(Duration::from_secs(10));
        rest.look = Depth::Full;
        return rest;
    }
    let turn = match Turn::local(case.seen.source) {
        Some(turn) => turn,
        None => match exchange::exchange(case, &request, &rest) {
            Exchange::Turn(turn) => turn,
            Exchange::Going(plan) => return *plan,
            Exchange::None => return exchange::ask(case, wanted, None, rest),
            Exchange::Over(why) => return exchange::ask(case, wanted, Some(why), rest),
            Exchange::Refused(why) => return exchange::refused(case, wanted, why, &rest),
        },
    };
    let windows = &case.policy.windows;
    let is_local = case.seen.source == TurnSource::Local;
    if is_local && !windows.is_empty() && !windows.iter().any(|window| window.contains(case.seen.clock.wall)) {
        rest.reason = format!("outside the maintenance windows: {why}");
        return rest;
    }
    if let Gate::Shut(gate) = case.gate() {
        rest.reason = format!("not begun: {gate}");
        rest.wake = Wake::After(Duration::from_secs(10));
        return rest;
    }
    if case.host.evidence.is_none() && !is_none {
        rest.wake = Wake::Now;
        rest.look = Depth::Full;
        return rest;
    }
    if let Some(plan) = exchange::preflight(case, &request, &rest).or_else(|| pulls::before(case, &rest)) {
        return plan;
    }
    let goal = request.goal;
    let doing = match goal {
        // Who wrote it is known only now: the write below makes the file ours again.
        Goal::Drift(_) => format!("{why}: putting the last proven one back ({effect})"),
        Goal::Apply(_) | Goal::Heal(_) => {
            format!("replacing the file ({effect}); {}", preflighted(case, &goal))
        }
    };
    let mut plan = begin(case, wanted, goal, effect, turn);
    plan.reason = doing;
    plan
}

/// What the registries said before: whoever reads it must not take silence for consent.
pub(crate) fn preflighted(case: &Case<'_>, goal: &Goal) -> String {
    match case.seen.heard.preflight.as_ref().filter(|seen| seen.revision == goal.revision()) {
        Some(PreflightSeen { hosts: 1.., warnings, .. }) if warnings.is_empty() => "preflighted".to_owned(),
        Some(PreflightSeen { hosts: 1.., warnings, .. }) => format!("preflighted: {}", warnings.join("; ")),
        Some(_) | None => "not preflighted".to_owned(),
    }
}

/// The unit loops on a file that k3s or containerd cannot take.
pub(crate) fn loops(case: &Case<'_>, unit: &UnitSeen) -> bool {
    let log = &case.host.log;
    log.registries_error || log.containerd_config_error || (unit.restarts >= 2 && log.containerd_exited)
}

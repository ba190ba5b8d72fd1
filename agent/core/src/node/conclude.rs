//! The end of an intent: what is remembered when it is proven, and when it is undone.

use std::collections::BTreeSet;
use std::time::Duration;

use super::annotations::{Phase, REASON_LIMIT, part};
use super::evidence::{Answer, Check};
use super::idle::preflighted;
use super::journal::{Applied, FailedModel, Goal, Inconclusive, Intent, Loaded, Record, Rung, Verdict};
use super::judge;
use super::observed::{GuardSeen, Service};
use super::plan::{Case, Counted, Kept, Plan, Step, Wake};
use super::pulls;
use super::remark;
use super::turn::TurnSource;
use crate::tree::Tree;

/// The third inconclusive verdict for one revision is a failure.
const INCONCLUSIVE_LIMIT: u32 = 3;
/// At most this many failed models and retry tokens are remembered.
pub(crate) const REMEMBERED: usize = 16;
/// At most this many restores are remembered; that many in an hour stop them.
pub(crate) const RESTORES: usize = 3;

/// The tree of a rung of the undo; `None` if there is none.
pub(crate) fn target(case: &Case<'_>, rung: Rung) -> Option<Tree> {
    let original = case.host.original.as_ref().filter(|tree| judge::model_of(tree).is_ok());
    match rung {
        Rung::Previous => case.host.previous.as_ref().or(original).cloned(),
        Rung::Original => original.cloned(),
        Rung::Nothing => Some(Tree::default()),
        Rung::Goal | Rung::Stuck => None,
    }
}

/// The goal is proven.
pub(crate) fn proven(case: &Case<'_>, intent: &Intent) -> Plan {
    let clock = &case.seen.clock;
    let mut record = ended(case, Some(intent.model.clone()));
    let revision = intent.goal.revision().to_owned();
    let mut passed = passed(case);
    passed.extend(pulls::has_pulled(case, intent).then_some(Check::Pull));
    let remark = match remark::of_proof(case, intent) {
        None => preflighted(case, &intent.goal),
        Some(seen) => format!("{}; {seen}", preflighted(case, &intent.goal)),
    };
    match &intent.goal {
        Goal::Apply(_) => {
            record.applied = Some(Applied {
                revision: revision.clone(),
                model: intent.model.clone(),
                tree: intent.tree.clone(),
                evidence: passed.clone(),
                remark: Some(remark.clone()),
                at: clock.wall,
            });
            record.failed.retain(|failed| failed.model != intent.model);
            record.inconclusive = None;
            record.credential_sources = intent.credential_sources.clone();
            record.tls_sources = intent.tls_sources.clone();
            record.file_hosts = intent.file_hosts.clone();
        }
        Goal::Drift(_) => remember(&mut record.restores, clock.wall, RESTORES),
        Goal::Heal(_) => {}
    }
    let took = intent
        .restart_ordered
        .as_ref()
        .filter(|ordered| ordered.boot_id == clock.boot_id)
        .map(|ordered| clock.boot.saturating_sub(ordered.boot).saturating_sub(intent.away));
    record.last_restart = took.or(record.last_restart);
    let files_only = matches!(case.host.service, Service::None);
    let restart_left = files_only && intent.restart;
    let reason = match (files_only, restart_left) {
        (true, true) => "written, files only: a restart is needed and was not done".to_owned(),
        (true, false) => "written, files only".to_owned(),
        (false, _) => remark::with(case, proven_by(&passed), Some(&remark)),
    };
    let mut plan = Plan::resting(Phase::Current, reason);
    plan.revision = record.applied.as_ref().map(|applied| applied.revision.clone());
    plan.restart_left = restart_left;
    plan.counted = vec![match intent.goal {
        Goal::Apply(_) => Counted::Proven(took),
        Goal::Drift(_) => Counted::DriftRestored,
        Goal::Heal(_) => Counted::Healed,
    }];
    // The claim first: if the guard was faster, the earlier file lies there and nothing is proven.
    plan.steps = match case.host.guard {
        GuardSeen::Armed { .. } => vec![Step::ClaimGuard],
        GuardSeen::Fired | GuardSeen::Idle | GuardSeen::Impossible => clear(case),
    };
    plan.steps.push(Step::Record(Box::new(record)));
    plan.steps.push(Step::Keep(Kept::Previous, case.host.disk.tree.clone()));
    plan.wake = Wake::Now;
    plan
}

/// An earlier tree is proven again.
pub(crate) fn undone(case: &Case<'_>, intent: &Intent) -> Plan {
    let clock = &case.seen.clock;
    let model = judge::model_of(&case.host.disk.tree).ok().map(|model| case.seen.key.model(&model));
    let mut record = ended(case, model.clone().filter(|_| judge::holds_what_lies(case)));
    let revision = intent.goal.revision().to_owned();
    // Not even a node without a file ran: that says nothing against a file that was proven before.
    let unjust = intent.rung == Rung::Stuck && !matches!(intent.goal, Goal::Apply(_));
    let verdict = match &intent.verdict {
        Some(Verdict::Failed(why)) if unjust => Some(Verdict::Inconclusive(why.clone())),
        verdict => verdict.clone(),
    };
    let (phase, reason) = match &verdict {
        Some(Verdict::Failed(why)) => {
            failed(&mut record, intent, why, clock.wall);
            (Phase::RolledBack, failure(&revision, why, case.seen.source))
        }
        Some(Verdict::Inconclusive(why)) => {
            let before = record.inconclusive.take().filter(|earlier| earlier.revision == revision);
            let count = before.map_or(0, |earlier| earlier.count) + 1;
            if count >= INCONCLUSIVE_LIMIT {
                let why = format!("{why} ({count} times)");
                failed(&mut record, intent, &why, clock.wall);
                (Phase::RolledBack, failure(&revision, &why, case.seen.source))
            } else {
                let wait = again_after(count);
                let again_at = clock.wall.checked_add(wait).unwrap_or(clock.wall);
                let again = Inconclusive { revision, count, why: why.clone(), again_at };
                let told = again.sentence();
                record.inconclusive = Some(again);
                (Phase::Pending, told)
            }
        }
        Some(Verdict::Interrupted(why)) => (Phase::Pending, format!("undone: {why}; asked again")),
        None => (Phase::Pending, "the earlier file is proven again".to_owned()),
    };
    let mut plan = Plan::resting(phase, reason);
    plan.revision = record.applied.as_ref().map(|applied| applied.revision.clone());
    plan.failed = (phase == Phase::RolledBack).then(|| intent.goal.revision().to_owned());
    plan.counted.extend((phase == Phase::RolledBack).then_some(Counted::RolledBack));
    if matches!(intent.goal, Goal::Drift(_)) && phase == Phase::Pending {
        // The proven tree lies there again: a writer who is always faster than the proof must not be fought for ever.
        remember(&mut record.restores, clock.wall, RESTORES);
        plan.counted = vec![Counted::DriftRestored];
    }
    plan.steps = clear(case);
    if phase == Phase::RolledBack
        && let Some(applied) = successor(case, intent, &record, model)
    {
        plan.revision = Some(applied.revision.clone());
        record.applied = Some(applied);
        plan.steps.push(Step::Record(Box::new(record)));
        plan.steps.push(Step::Keep(Kept::Previous, case.host.disk.tree.clone()));
    } else {
        plan.steps.push(Step::Record(Box::new(record)));
    }
    plan.wake = Wake::Now;
    plan
}

/// The last proven tree failed itself, as after an upgrade of k3s: the one that runs now takes its place. Else it would be
/// taken for a foreign edit, and the failed one be put back, for ever.
fn successor(
    case: &Case<'_>,
    intent: &Intent,
    record: &Record,
    model: Option<super::journal::Digest>,
) -> Option<Applied> {
    let applied = record.applied.as_ref().filter(|_| !matches!(intent.goal, Goal::Apply(_)))?;
    let tree = case.seen.key.tree(&case.host.disk.tree);
    if applied.tree == tree {
        return None;
    }
    let is_original = case.host.original.as_ref() == Some(&case.host.disk.tree);
    let revision = if is_original { "restore" } else { "none" }.to_owned();
    let evidence = passed(case);
    Some(Applied { revision, model: model?, tree, evidence, remark: None, at: case.seen.clock.wall })
}

/// Nothing was touched: there is nothing to prove and nothing to undo.
pub(crate) fn untouched(case: &Case<'_>, why: &str) -> Plan {
    let record = Record { intent: None, asked: None, ..case.record.clone() };
    let mut plan = Plan::resting(Phase::Pending, format!("{why}; asked again")).of(case.record);
    plan.steps = clear(case);
    plan.steps.push(Step::Record(Box::new(record)));
    plan.wake = Wake::Now;
    plan
}

/// 5, 10, 20, at most 60 minutes.
pub(crate) fn again_after(count: u32) -> Duration {
    let minutes = 5u64.saturating_mul(1 << count.saturating_sub(1).min(10));
    Duration::from_secs(60 * minutes.min(60))
}

/// Remembers a value, and forgets the oldest beyond the limit.
pub(crate) fn remember<T>(list: &mut Vec<T>, value: T, limit: usize) {
    list.push(value);
    let surplus = list.len().saturating_sub(limit);
    list.drain(..surplus);
}

/// What is said of what failed here: why, and what ends it. Of a long sentence the middle is left out, since without its end
/// nobody knows what to do.
pub(crate) fn failure(what: &str, why: &str, source: TurnSource) -> String {
    let retry = match source {
        TurnSource::Coordinator => "`retry NODE`",
        TurnSource::Local => "`apply --retry`",
    };
    let head = format!("{what} failed here and was undone: ");
    let remedy = format!("; edit the ConfigMap, or {retry} once the cause is gone");
    let why = part(why, REASON_LIMIT.saturating_sub(head.len() + remedy.len()));
    format!("{head}{why}{remedy}")
}

/// Remembers that a model failed here.
pub(crate) fn failed(record: &mut Record, intent: &Intent, why: &str, at: jiff::Timestamp) {
    let revision = intent.goal.revision().to_owned();
    record.failed.retain(|failed| failed.model != intent.model);
    let failed = FailedModel { model: intent.model.clone(), revision, why: why.to_owned(), at };
    remember(&mut record.failed, failed, REMEMBERED);
    record.inconclusive = None;
}

/// The record without its intent, and with what is loaded now.
fn ended(case: &Case<'_>, model: Option<super::journal::Digest>) -> Record {
    let mut record = Record { intent: None, asked: None, ..case.record.clone() };
    record.loaded = match (&case.host.service, model) {
        (Service::Unit(unit), Some(model)) => {
            Some(Loaded { model, invocation: unit.invocation.clone(), boot_id: case.seen.clock.boot_id.clone() })
        }
        (Service::Unit(_), None) | (Service::None, _) => None,
    };
    record
}

/// Disarms a guard that has nothing to put back any more.
pub(crate) fn clear(case: &Case<'_>) -> Vec<Step> {
    match case.host.guard {
        GuardSeen::Armed { .. } | GuardSeen::Fired => vec![Step::ClearGuard],
        GuardSeen::Idle | GuardSeen::Impossible => Vec::new(),
    }
}

/// The checks that hold now.
pub(crate) fn passed(case: &Case<'_>) -> BTreeSet<Check> {
    if matches!(case.host.service, Service::None) {
        return BTreeSet::new();
    }
    let asked = case.host.evidence.iter().flatten();
    let mut passed: BTreeSet<Check> =
        asked.filter(|(_, answer)| **answer == Answer::Passed).map(|(check, _)| *check).collect();
    passed.extend([Check::Unit, Check::CertsD, Check::AuthTables]);
    passed.extend(judge::confirmed(case));
    passed
}

/// What proved it, for as long as it stands.
pub(crate) fn proven_by(checks: &BTreeSet<Check>) -> String {
    format!("proven by {}", words(checks))
}

fn words(checks: &BTreeSet<Check>) -> String {
    checks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::annotations::sentence;

    #[test]
    fn what_is_to_be_done_about_a_failure_is_said_however_long_its_cause_is() {
        let short = "this configuration failed here and was undone: k3s cannot read the file (its log names the error); \
                     edit the ConfigMap, or `retry NODE` once the cause is gone";
        let why = "k3s cannot read the file (its log names the error)";
        assert_eq!(failure("this configuration", why, TurnSource::Coordinator), short);
        let long = format!("not proven within 120 s: kubelet: {}\nend", "é".repeat(300));
        for (source, remedy) in [
            (TurnSource::Coordinator, "…; edit the ConfigMap, or `retry NODE` once the cause is gone"),
            (TurnSource::Local, "…; edit the ConfigMap, or `apply --retry` once the cause is gone"),
        ] {
            let told = failure("0123456789ab", &long, source);
            let start = "0123456789ab failed here and was undone: not proven within 120 s: kubelet: éé";
            assert!(told.starts_with(start) && told.ends_with(remedy), "{told}");
            assert!(
                (REASON_LIMIT - 1..=REASON_LIMIT).contains(&told.len()) && sentence(&told) == told,
                "{}",
                told.len()
            );
        }
    }
}

//! The file is not the last proven one any more: drift is undone, and a node that is down on it is healed.

use std::time::Duration;

use super::annotations::Phase;
use super::begin::intent;
use super::conclude::{RESTORES, remember};
use super::idle::{Request, has_failed, loops, turn, wanted};
use super::journal::Goal;
use super::judge;
use super::observed::{Disk, Service};
use super::plan::{Case, Counted, Depth, Kept, Plan, STEADY, Step, Wake, Wanted};
use super::turn::TurnSource;
use crate::policy::{Drift, Mode};
use crate::registries::changes;
use crate::registries::effect::Effect;
use jiff::Timestamp;

/// Drift that was restored this often within [`RESTORES_WITHIN`] means that another writer fights us.
const RESTORES_WITHIN: Duration = Duration::from_secs(3600);

/// Permission bits of group and others.
const OTHERS: u32 = 0o077;

/// The proven tree lies there, but `previous` still is the one before: the process died between the two.
pub(crate) fn keep_proven(case: &Case<'_>) -> Option<Step> {
    let applied = case.record.applied.as_ref()?;
    let disk = &case.host.disk.tree;
    let is_proven = case.seen.key.tree(disk) == applied.tree;
    let is_kept = case.host.previous.as_ref() == Some(disk);
    (is_proven && !is_kept).then(|| Step::Keep(Kept::Previous, disk.clone()))
}

/// A node that is down because of its file gets the last proven one, without a turn and even when paused.
pub(crate) fn heal(case: &Case<'_>) -> Option<Plan> {
    let applied = case.record.applied.as_ref()?;
    let previous = case.host.previous.as_ref()?;
    let Service::Unit(unit) = &case.host.service else { return None };
    if !judge::is_down(case, unit) || !loops(case, unit) || has_failed(case.record, &applied.model) {
        return None;
    }
    let log = &case.host.log;
    let is_foreign = case.seen.key.tree(&case.host.disk.tree) != applied.tree;
    if !is_foreign && !log.registries_error && !log.containerd_config_error {
        // containerd exits on the very file on which it ran: something else is wrong, and no other file would help.
        return None;
    }
    let model = judge::model_of(previous).ok()?;
    let mut intent = intent(case, Goal::Heal(applied.revision.clone()), previous, case.seen.key.model(&model));
    intent.credential_sources = case.record.credential_sources.clone();
    intent.tls_sources = case.record.tls_sources.clone();
    intent.file_hosts = case.record.file_hosts.clone();
    let who = case.host.disk.writer.as_ref().map_or_else(String::new, |writer| format!(", written by {writer}"));
    let unit = &case.host.installation.unit;
    let reason = format!("{unit} cannot start on the file that lies there{who}: the last proven one is put back");
    let mut plan = Plan::resting(Phase::Proving, reason).of(case.record);
    plan.steps = vec![super::proving::record(case, intent), Step::Replace(previous.clone())];
    plan.wake = Wake::Now;
    plan.look = Depth::Full;
    Some(plan)
}

/// Somebody else changed a file of ours.
pub(crate) fn drift(case: &Case<'_>) -> Option<Plan> {
    let applied = case.record.applied.as_ref()?;
    let previous = case.host.previous.as_ref()?;
    let disk = &case.host.disk;
    if case.seen.key.tree(&disk.tree) == applied.tree {
        return opened(case);
    }
    if case.seen.key.tree(previous) != applied.tree {
        return None;
    }
    let is_desired = wanted(case).is_ok_and(|wanted| wanted.tree == disk.tree);
    if is_desired || has_failed(case.record, &applied.model) {
        // Ours: the process died between the file and its record. Or the last proven one does not run here any more.
        return None;
    }
    let who = foreign(disk);
    if case.policy.drift == Drift::Report {
        let reason = format!("the file was {who}; the policy only reports it");
        return Some(Plan::resting(Phase::Invalid, reason).of(case.record));
    }
    let now = case.seen.clock.wall;
    if is_fought(case, disk) {
        let retry = match case.seen.source {
            TurnSource::Coordinator => "set the retry annotation",
            TurnSource::Local => "\"apply --retry\", or wait an hour",
        };
        let reason =
            format!("the file was {who}, after {RESTORES} restores within an hour: stop that writer, then {retry}");
        let mut plan = Plan::resting(Phase::Invalid, reason).of(case.record);
        plan.wake = Wake::After(STEADY);
        return Some(plan);
    }
    let model = judge::model_of(previous).ok()?;
    let verdict = judge::effect(case, &model, previous);
    if verdict.effect == Effect::None || (verdict.effect == Effect::Files && !case.host.disk.tree.is_absent()) {
        // The runtime still holds what is ours: only the file is foreign, and writing it disturbs nobody.
        let mut record = case.record.clone();
        remember(&mut record.restores, now, RESTORES);
        let reason = format!("the file was {who}: the last proven one was put back");
        let mut plan = Plan::resting(Phase::Pending, reason).of(&record);
        plan.steps = vec![Step::Replace(previous.clone()), Step::Record(Box::new(record))];
        plan.counted = vec![Counted::DriftRestored];
        plan.wake = Wake::Now;
        return Some(plan);
    }
    let wanted = Wanted {
        revision: applied.revision.clone(),
        registries: model,
        tree: previous.clone(),
        credential_sources: case.record.credential_sources.clone(),
        tls_sources: case.record.tls_sources.clone(),
        file_hosts: case.record.file_hosts.clone(),
        errors: Vec::new(),
    };
    if let Ok(desired) = super::idle::wanted(case)
        && desired.tree != *previous
    {
        // A newer revision replaces the foreign file as well: one restart instead of two.
        return None;
    }
    let why = format!("the file was {who} and was loaded since");
    let rest = Plan::resting(Phase::Pending, why.clone()).of(case.record);
    let goal = Goal::Drift(applied.revision.clone());
    let effect = verdict.effect;
    let mut plan = turn(case, Request { wanted: &wanted, goal, effect, why: &why, cures: false }, rest);
    plan.effect = Some(effect);
    plan.effect_why = verdict.why;
    plan.changes = changes::changes(&judge::model_of(&disk.tree).unwrap_or_default(), &wanted.registries);
    Some(plan)
}

/// The file is ours, and somebody let others read the passwords in it. What was there before us keeps its own mode.
fn opened(case: &Case<'_>) -> Option<Plan> {
    let disk = &case.host.disk;
    let mode = disk.writer.as_ref()?.mode;
    let is_ours = case.policy.mode == Mode::Manage && case.host.original.as_ref() != Some(&disk.tree);
    let is_restored = case.policy.drift == Drift::Restore && !is_fought(case, disk);
    if mode & OTHERS == 0 || !is_ours || !is_restored || disk.oddity.is_some() {
        return None;
    }
    let mut record = case.record.clone();
    remember(&mut record.restores, case.seen.clock.wall, RESTORES);
    let reason = format!("the file was open to others (mode {mode:04o}), and is closed again");
    let mut plan = Plan::resting(Phase::Pending, reason).of(&record);
    plan.steps = vec![Step::Replace(disk.tree.clone()), Step::Record(Box::new(record))];
    plan.counted = vec![Counted::DriftRestored];
    plan.wake = Wake::Now;
    Some(plan)
}

/// Three restores within an hour, and no hour without a foreign write since. Moments that a clock which was set back has
/// not reached yet count for nothing.
fn is_fought(case: &Case<'_>, disk: &Disk) -> bool {
    let now = case.seen.clock.wall;
    let hour_ago = now.checked_sub(RESTORES_WITHIN).unwrap_or(now);
    let is_recent = |at: Timestamp| at > hour_ago && at <= now;
    let restores = &case.record.restores;
    let (Some(first), Some(last)) = (restores.first(), restores.last()) else { return false };
    let within = last.duration_since(*first).unsigned_abs() <= RESTORES_WITHIN;
    let written = disk.writer.as_ref().is_some_and(|writer| is_recent(writer.modified));
    restores.len() >= RESTORES && within && (is_recent(*last) || written)
}

fn foreign(disk: &Disk) -> String {
    match (&disk.writer, disk.tree.registries.is_some()) {
        (Some(writer), true) => format!("changed by {writer}"),
        (None, true) => "changed by somebody else".to_owned(),
        (_, false) => "removed by somebody else".to_owned(),
    }
}

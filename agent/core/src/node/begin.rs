//! With the turn held: everything from what is kept up to the restart.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::annotations::Phase;
use super::conclude::{self};
use super::journal::{Goal, Intent, Record, Rung, Verdict};
use super::judge;
use super::observed::Service;
use super::plan::{Case, Depth, Kept, PROVING, Plan, Step, Wake, Wanted};
use super::pulls;
use super::turn::Turn;
use crate::registries::effect::Effect;
use crate::tree::Tree;

/// With the turn held: everything up to the restart.
pub(crate) fn begin(case: &Case<'_>, wanted: &Wanted, goal: Goal, effect: Effect, turn: Turn) -> Plan {
    let model = case.seen.key.model(&wanted.registries);
    let mut intent = intent(case, goal, &wanted.tree, model);
    intent.restart = effect >= Effect::Live;
    intent.images = pulls::worked_before(case);
    intent.others = case.others_at_gate();
    intent.credential_sources = wanted.credential_sources.clone();
    intent.tls_sources = wanted.tls_sources.clone();
    intent.file_hosts = wanted.file_hosts.clone();
    let record = cured(case, &mut intent);
    let case = &Case { record: &record, ..*case };
    let mut plan = Plan::resting(Phase::Applying, String::new());
    plan.steps = keep_before(case);
    let Service::Unit(_) = &case.host.service else {
        // No runtime to disturb: written and done, within the same pass.
        plan.steps.push(super::proving::record(case, intent));
        plan.steps.push(Step::Replace(wanted.tree.clone()));
        plan.wake = Wake::Now;
        return plan;
    };
    if intent.restart {
        intent.restart_ordered = Some(case.seen.clock.clone());
    }
    let limit = case.limit();
    // In this order: a restart that is recorded and does not come is undone; one that comes unrecorded would be lost.
    let restart = intent.restart;
    plan.steps.push(super::proving::record(case, intent));
    plan.steps.push(Step::ArmGuard { acts_at: case.guard_acts_at(limit) });
    plan.steps.push(Step::Replace(wanted.tree.clone()));
    if restart {
        plan.steps.push(Step::Restart(turn));
    }
    plan.wake = Wake::After(PROVING);
    plan.look = Depth::Full;
    plan
}

/// The record without a stuck intent whose place a cure takes: what it knew is not forgotten.
fn cured(case: &Case<'_>, intent: &mut Intent) -> Record {
    let mut record = Record { intent: None, unused: None, refused: None, ..case.record.clone() };
    if let Some(stuck) = &case.record.intent {
        intent.passed_before.extend(&stuck.passed_before);
        if let Some(Verdict::Failed(why)) = &stuck.verdict {
            conclude::failed(&mut record, stuck, why, case.seen.clock.wall);
        }
    }
    record
}

/// Before the first write: what lies there is kept, byte for byte.
pub(crate) fn keep_before(case: &Case<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    let disk = &case.host.disk.tree;
    // As long as nothing of ours was proven here, what lies here is an administrator's, also if it was written after a
    // first attempt that failed. Only absence may be a rung of ours. A record may be lost, and the trees still be there:
    // a last proven one that is not the one from before us is ours.
    let (previous, original) = (&case.host.previous, &case.host.original);
    let is_readable = original.as_ref().is_none_or(|tree| judge::model_of(tree).is_ok());
    let is_ours =
        previous.as_ref().is_some_and(|tree| original.as_ref() != Some(tree) && (is_readable || !tree.is_absent()));
    let is_never_proven = case.record.applied.is_none() && !is_ours;
    let is_theirs = is_never_proven && case.record.intent.is_none() && !disk.is_absent();
    if !case.host.original.as_ref().is_some_and(|kept| !is_theirs || kept == disk) {
        steps.push(Step::Keep(Kept::Original, disk.clone()));
    }
    // The guard must have something to put back. Where k3s cannot read what lies there, no file is better.
    let working = if judge::model_of(disk).is_ok() { disk.clone() } else { Tree::default() };
    if !case.host.previous.as_ref().is_some_and(|kept| !is_theirs || *kept == working) {
        steps.push(Step::Keep(Kept::Previous, working));
    }
    steps
}

pub(crate) fn intent(case: &Case<'_>, goal: Goal, tree: &Tree, model: super::journal::Digest) -> Intent {
    let clock = &case.seen.clock;
    let (invocation, version) = match &case.host.service {
        Service::Unit(unit) => (unit.invocation.clone(), unit.version.clone()),
        Service::None => Default::default(),
    };
    Intent {
        goal,
        ask: case.record.asked.as_ref().map(|asked| asked.number.clone()).unwrap_or_default(),
        model,
        tree: case.seen.key.tree(tree),
        tree_before: case.seen.key.tree(&case.host.disk.tree),
        restart: false,
        rung: Rung::Goal,
        passed_before: judge::passed_before(case),
        images: BTreeMap::new(),
        others: Vec::new(),
        invocation_before: invocation,
        version_before: version,
        began: clock.clone(),
        rung_began: clock.clone(),
        restart_ordered: None,
        restarted_over: None,
        away: Duration::ZERO,
        looked: clock.clone(),
        verdict: None,
        credential_sources: BTreeMap::new(),
        tls_sources: BTreeMap::new(),
        file_hosts: BTreeSet::new(),
    }
}

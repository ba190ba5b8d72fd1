//! The proof by pull: which images, when, and what their answers mean. Only what was pulled before the change must be
//! pulled after it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::evidence::{Answer, Check};
use super::journal::{Intent, Rung};
use super::observed::Service;
use super::plan::{Case, Depth, PROVING, Plan, Wake};
use crate::policy::Mode;

/// An image that could not be pulled is tried again after this, while its proof is awaited.
const AGAIN: Duration = Duration::from_secs(10);

/// Images to be pulled until the next look. What is not ordered any more is broken off and forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullOrder {
    /// Which, one after the other.
    pub images: Vec<String>,
    /// How long each may take.
    pub timeout: Duration,
    /// One that failed is tried again after this time.
    pub again: Option<Duration>,
}

/// The answers that are there, by image. One that is not among them is being pulled, or waits.
pub type Pulls = BTreeMap<String, Answer>;

/// While the answers from before the change are awaited: `rest`, with the order. `None`: they are there, or nothing is to be
/// pulled.
pub(crate) fn before(case: &Case<'_>, rest: &Plan) -> Option<Plan> {
    let Service::Unit(unit) = &case.host.service else { return None };
    let answer = case.host.evidence.as_ref().and_then(|evidence| evidence.get(&Check::Containerd));
    let images = images(case);
    // Without a containerd nothing works before, and a node that is down is not kept waiting for its cure.
    if !unit.is_active() || answer != Some(&Answer::Passed) {
        return None;
    }
    let next = images.iter().find(|image| !case.host.pulls.contains_key(*image))?;
    let mut plan = rest.clone();
    plan.reason = format!("pulling {next} to know what works before the change");
    plan.wake = Wake::After(PROVING);
    plan.look = Depth::Full;
    plan.pull = Some(PullOrder { images, timeout: case.policy.proof.timeout, again: None });
    Some(plan)
}

/// Keeps the answers from before the change while something else is asked.
pub(crate) fn keep(case: &Case<'_>) -> Option<PullOrder> {
    let order = PullOrder { images: images(case), timeout: case.policy.proof.timeout, again: None };
    (!case.host.pulls.is_empty()).then_some(order)
}

/// The images of the policy, and whether they can be pulled before the change.
pub(crate) fn worked_before(case: &Case<'_>) -> BTreeMap<String, bool> {
    if matches!(case.host.service, Service::None) {
        return BTreeMap::new();
    }
    let worked = |image: &String| case.host.pulls.get(image) == Some(&Answer::Passed);
    images(case).into_iter().map(|image| (image.clone(), worked(&image))).collect()
}

/// What is missing after the change; `None`: every image was tried, and those that worked before work.
pub(crate) fn missing(case: &Case<'_>, intent: &Intent) -> Option<String> {
    intent.images.iter().find_map(|(image, must)| match case.host.pulls.get(image) {
        None => Some(format!("pulling {image}")),
        Some(Answer::Failed(why) | Answer::Unknown(why)) if *must => Some(format!("{image}: {why}")),
        Some(Answer::Failed(_) | Answer::Unknown(_) | Answer::Passed | Answer::NotApplicable) => None,
    })
}

/// What is to be pulled after the change.
pub(crate) fn order(case: &Case<'_>, intent: &Intent) -> PullOrder {
    let images = intent.images.keys().cloned().collect();
    PullOrder { images, timeout: case.policy.proof.timeout, again: Some(AGAIN) }
}

/// How long the pulls may take, beside the deadline of the rest. Only the goal is proven by them: where a registry is down
/// no earlier tree would pull either, and the undo must not wait for it.
pub(crate) fn allowance(case: &Case<'_>, intent: &Intent) -> Duration {
    match intent.rung {
        Rung::Goal => {
            let count = u32::try_from(intent.images.len()).unwrap_or(u32::MAX);
            case.policy.proof.timeout.saturating_mul(count)
        }
        Rung::Previous | Rung::Original | Rung::Nothing | Rung::Stuck => Duration::ZERO,
    }
}

/// Whether at least one image was pulled after the change.
pub(crate) fn has_pulled(case: &Case<'_>, intent: &Intent) -> bool {
    intent.images.keys().any(|image| case.host.pulls.get(image) == Some(&Answer::Passed))
}

/// The images that cannot be pulled, and could not before either.
pub(crate) fn remarks(case: &Case<'_>, intent: &Intent) -> Vec<String> {
    let failed = intent.images.keys().filter_map(|image| match case.host.pulls.get(image) {
        Some(Answer::Failed(why) | Answer::Unknown(why)) => {
            Some(format!("{image} is not pulled, nor was before: {why}"))
        }
        Some(Answer::Passed | Answer::NotApplicable) | None => None,
    });
    failed.collect()
}

fn images(case: &Case<'_>) -> Vec<String> {
    // They prove what is desired. What lay there before us need not be able to pull them.
    let mut images = match case.policy.mode {
        Mode::Restore => Vec::new(),
        Mode::Manage | Mode::Report => case.policy.proof.images.clone(),
    };
    images.sort();
    images.dedup();
    images
}

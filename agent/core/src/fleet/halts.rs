//! Which revisions are halted: those that failed on a node, until a person says `retry`.

use std::collections::BTreeMap;

use super::Fleet;
use super::kept::{EXCUSED_LIMIT, Failure, HALTED_LIMIT, LeaseKept};
use super::seen::NodeSeen;

/// What is to be kept on the Lease now; who is out and the rollout's sentence stay as they are.
pub(crate) fn next(fleet: &Fleet) -> LeaseKept {
    let LeaseKept { mut halted, mut excused, mut honoured, out, rollout } = fleet.kept.clone();
    let failures = failures(&fleet.nodes);
    if let Some(token) = &fleet.retry
        && honoured.as_ref() != Some(token)
    {
        halted.clear();
        excused.clone_from(&failures);
        excused.truncate(EXCUSED_LIMIT);
        honoured = Some(token.clone());
    }
    // A node that told of something else in between and fails again is no old news.
    excused.retain(|failure| failures.contains(failure));
    halted.retain(|revision| !is_retried(fleet, revision));
    for failure in &failures {
        if !excused.contains(failure) && !halted.contains(&failure.revision) {
            halted.push(failure.revision.clone());
        }
    }
    let surplus = halted.len().saturating_sub(HALTED_LIMIT);
    halted.drain(..surplus);
    LeaseKept { halted, excused, honoured, out, rollout }
}

/// What Nodes tell of now. An excluded Node's agent is gone, and what it says was true once.
fn failures(nodes: &BTreeMap<String, NodeSeen>) -> Vec<Failure> {
    nodes
        .iter()
        .filter(|(_, seen)| !seen.is_excluded)
        .filter_map(|(name, seen)| {
            seen.failed.value().map(|revision| Failure { node: name.clone(), revision: revision.clone() })
        })
        .collect()
}

/// Every node that failed it got a new `retry` since and tells of it no more, and there is at least one such: that a Node
/// was deleted, or is not remembered, is nobody's consent.
fn is_retried(fleet: &Fleet, revision: &str) -> bool {
    let mut has_retried = false;
    for (name, memory) in fleet.ledger.all() {
        let Some(failed) = memory.failed.as_ref().filter(|failed| failed.revision == revision) else { continue };
        let Some(seen) = fleet.nodes.get(name).filter(|seen| !seen.is_excluded) else { continue };
        let tells = seen.failed.value().is_some_and(|told| told == revision);
        if tells || seen.retry.is_none() || seen.retry == failed.retry {
            return false;
        }
        has_retried = true;
    }
    has_retried && !failures(&fleet.nodes).iter().any(|failure| failure.revision == revision)
}

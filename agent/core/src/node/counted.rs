//! What a plan brings about, read off the change that it makes to the record.

use super::journal::{Goal, Intent, Record, Rung, Verdict};
use super::observed::{GuardSeen, HostSeen};
use super::plan::{Counted, Judged, Plan, Step, TurnEnd};

/// What is to be counted beside what the plan itself counts.
pub(crate) fn counted(host: &HostSeen, before: &Record, plan: &Plan) -> Vec<Counted> {
    let mut found = Vec::new();
    let clears = plan.steps.iter().any(|step| matches!(step, Step::ClearGuard));
    found.extend((clears && host.guard == GuardSeen::Fired).then_some(Counted::GuardFired));
    let last = plan.steps.iter().rev().find_map(|step| match step {
        Step::Record(record) => Some(record),
        _ => None,
    });
    let Some(after) = last else { return found };
    let is_unused = after.unused.is_some() && after.unused != before.unused;
    found.extend(is_unused.then_some(Counted::Turn(TurnEnd::Unused)));
    let is_refused = after.refused.is_some() && after.refused != before.refused;
    found.extend(is_refused.then_some(Counted::Turn(TurnEnd::Refused)));
    match (&before.intent, &after.intent) {
        (None, None) => {}
        (None, Some(begun)) => found.extend(taken(begun)),
        // A cure takes the place of a stuck intent.
        (Some(stuck), Some(begun)) if stuck.began != begun.began => found.extend(taken(begun)),
        (Some(before), Some(after)) => {
            found.extend(after.verdict.as_ref().filter(|_| before.verdict.is_none()).map(judged));
            found.extend((before.rung != after.rung).then_some(Counted::Rung(after.rung)));
        }
        (Some(ended), None) if ended.rung == Rung::Goal => {
            let judged = if plan.counted.is_empty() { Judged::Interrupted } else { Judged::Proven };
            found.push(Counted::Verdict(judged));
        }
        (Some(_), None) => {}
    }
    found
}

/// A heal needs no turn.
fn taken(begun: &Intent) -> Option<Counted> {
    match begun.goal {
        Goal::Apply(_) | Goal::Drift(_) => Some(Counted::Turn(TurnEnd::Taken)),
        Goal::Heal(_) => None,
    }
}

fn judged(verdict: &Verdict) -> Counted {
    Counted::Verdict(match verdict {
        Verdict::Failed(_) => Judged::Failed,
        Verdict::Inconclusive(_) => Judged::Inconclusive,
        Verdict::Interrupted(_) => Judged::Interrupted,
    })
}

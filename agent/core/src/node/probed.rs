//! What the registries said of the credentials of what runs here, kept across processes: an agent that starts anew, on
//! each node of a cluster, must not send a refused credential once more.

use super::heard::ProbeSeen;
use super::journal::{ProbeRefused, Record};
use super::plan::{Desired, Observed, Plan, Step};
use crate::digest::Key;
use crate::tree::Tree;

impl Record {
    /// Names what lies here for what is heard of it: by its revision, if it is what was proven; a file that somebody else
    /// wrote has none, and what is refused of it says nothing of ours. Nothing, where nothing was proven.
    pub fn name_of(&self, lies: &Tree, key: &Key) -> Option<String> {
        let applied = self.applied.as_ref()?;
        let lies = key.tree(lies);
        Some(if lies == applied.tree { applied.revision.clone() } else { lies.0 })
    }
}

/// Has what was heard written down with the rest of the plan, and what is no longer about anything taken out.
pub(crate) fn remember(seen: &Observed, record: &Record, mut plan: Plan) -> Plan {
    let mut is_written = false;
    for step in &mut plan.steps {
        if let Step::Record(written) = step {
            written.probe_refused = kept(seen, record, written);
            is_written = true;
        }
    }
    let now = kept(seen, record, record);
    if !is_written && now != record.probe_refused {
        plan.steps.insert(0, Step::Record(Box::new(Record { probe_refused: now, ..record.clone() })));
    }
    plan
}

/// What is to stand in a record that is written.
fn kept(seen: &Observed, before: &Record, written: &Record) -> Option<ProbeRefused> {
    if written.retries != before.retries {
        // `retry` is newer than whatever was heard.
        return None;
    }
    let known = written.probe_refused.clone();
    let refused = match &seen.heard.probe {
        Some(ProbeSeen { refused: Some(refused), .. }) => Some(refused.clone()),
        Some(ProbeSeen { refused: None, revision }) => known.filter(|known| known.revision != *revision),
        None => known,
    };
    refused.filter(|refused| is_of_interest(seen, written, &refused.revision))
}

/// Of what neither lies or runs here nor is on its way here nothing has to be known.
fn is_of_interest(seen: &Observed, record: &Record, revision: &str) -> bool {
    let is_applied = record.applied.as_ref().is_some_and(|applied| applied.revision == revision);
    let is_begun = record.intent.as_ref().is_some_and(|intent| intent.goal.revision() == revision);
    let is_wanted = match &seen.desired {
        Desired::Ready(wanted) => wanted.revision == revision,
        Desired::Waiting(_) | Desired::None | Desired::Refused(_) => false,
    };
    // Somebody else's file, for as long as it lies here.
    let lies = || match &seen.host {
        Ok(host) => seen.key.tree(&host.disk.tree).0 == revision,
        Err(_) => true,
    };
    is_applied || is_begun || is_wanted || lies()
}

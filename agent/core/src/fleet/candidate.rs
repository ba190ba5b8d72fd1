//! The nodes that ask for a turn, and what is known of the revisions that they ask for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::memory::Memory;
use super::seen::{NodeSeen, Said};
use super::{Fleet, Row};
use crate::grant::Ask;
use crate::node::observed::Role;

/// A node that asks for a turn and has none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) node: &'a str,
    pub(crate) seen: &'a NodeSeen,
    pub(crate) ask: &'a Ask,
    pub(crate) rank: Rank,
    /// It would not answer a grant: this very ask was granted before, no agent runs there, or the node is away.
    pub(crate) is_absent: bool,
    /// It is NotReady, which nothing of ours explains: it takes a place, but not by a turn.
    pub(crate) is_down: bool,
}

/// Who goes ahead of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// It is Stuck, and this may be its cure.
    Stuck,
    /// An earlier revision failed there: it tries this one for all.
    Failed,
    /// It never proved anything, and asks for what some node has proven.
    New,
    /// Any other.
    Other,
}

/// What is known of a revision that somebody asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revision<'a> {
    /// Some node has proven it.
    pub(crate) is_proven: bool,
    /// Nodes that failed an earlier one and are to try this one first.
    pub(crate) failed_before: Vec<&'a str>,
    /// Who tries it first, if nobody has to by an earlier failure.
    pub(crate) canary: Option<&'a str>,
    /// Nobody has proven it, and not every node has said yet that it wants it.
    pub(crate) is_gathering: bool,
}

impl Candidate<'_> {
    pub(crate) fn is_server(&self) -> bool {
        self.seen.role == Role::Server
    }

    pub(crate) fn is_cure(&self) -> bool {
        self.rank == Rank::Stuck
    }

    /// What the line, which is by name, is sorted by first. Those that try a new revision for all are workers first, since a bad file costs
    /// least there.
    pub(crate) fn key(&self) -> (Rank, bool, bool) {
        let is_late = match self.rank {
            Rank::Stuck | Rank::Failed => self.is_server(),
            Rank::New | Rank::Other => !self.is_server(),
        };
        (self.rank, is_late, self.seen.is_cordoned)
    }
}

impl<'a> Revision<'a> {
    /// All that somebody asks for.
    pub(crate) fn all(fleet: &'a Fleet, rows: &[Row<'a>], now: Duration) -> BTreeMap<&'a str, Self> {
        let mut all: BTreeMap<&str, Self> = BTreeMap::new();
        for ask in rows.iter().filter_map(|row| row.seen.wanted.value()) {
            all.entry(&ask.revision).or_default();
        }
        if all.is_empty() {
            return all;
        }
        let mut failed: Vec<(Row<'a>, &str)> = Vec::new();
        for row in rows {
            if let Said::Is(revision) = &row.seen.revision
                && let Some(found) = all.get_mut(revision.as_str())
            {
                found.is_proven = true;
            }
            if let Some(revision) = failure(*row) {
                failed.push((*row, revision));
            }
        }
        for (revision, found) in &mut all {
            let has_said = |said: &Said<String>| said.value().is_some_and(|said| said == revision);
            let is_owing = |(row, failed): &(Row<'a>, &str)| {
                let is_owing = failed != revision && !has_said(&row.seen.revision) && !has_said(&row.seen.failed);
                (is_owing && !is_absent(fleet, *row, now)).then_some(row.name)
            };
            found.failed_before = failed.iter().filter_map(is_owing).collect();
            if !found.is_proven {
                found.canary = canary(rows, revision);
                found.is_gathering = rows.iter().any(|Row { seen, .. }| {
                    let wants = seen.wanted.value().is_some_and(|ask| ask.revision == *revision);
                    seen.is_ours() && seen.is_ready && !seen.is_paused && !wants
                });
            }
        }
        all
    }
}

/// The revision that failed there last, if it has proven none since.
fn failure<'a>(row: Row<'a>) -> Option<&'a str> {
    let Row { seen, memory, .. } = row;
    if !seen.is_ours() {
        return None;
    }
    let remembered = || memory.and_then(|memory| memory.failed.as_ref());
    seen.failed.value().or_else(|| remembered().map(|failed| &failed.revision)).map(String::as_str)
}

/// The first by name of the Ready, uncordoned, unpaused workers that ask for it; of the servers where there are none; of
/// whoever asks where there are none of these either.
fn canary<'a>(rows: &[Row<'a>], revision: &str) -> Option<&'a str> {
    let asks = |seen: &NodeSeen| seen.wanted.value().is_some_and(|ask| ask.revision == revision);
    let candidates = rows.iter().filter(|row| {
        let seen = row.seen;
        asks(seen) && seen.is_ours() && seen.is_ready && !seen.is_paused && !seen.is_stuck() && may_answer(**row)
    });
    // The first of several, and rows are sorted by name.
    candidates
        .min_by_key(|Row { seen, .. }| {
            let is_server = seen.role == Role::Server;
            (!is_server && seen.is_cordoned, is_server, seen.is_cordoned)
        })
        .map(|row| row.name)
}

/// It did not answer a grant, or is a worker that was NotReady for long: nobody waits for it.
fn is_absent(fleet: &Fleet, row: Row<'_>, now: Duration) -> bool {
    let Row { seen, memory, .. } = row;
    let Some(memory) = memory.filter(|memory| !memory.is_engaged()) else { return false };
    let is_long = |since| now.saturating_sub(since) >= fleet.waits.not_ready;
    seen.wanted.value().is_some_and(|ask| memory.has_used(ask))
        || (seen.role == Role::Agent && memory.not_ready.is_some_and(is_long))
}

/// It would answer a grant.
fn may_answer(row: Row<'_>) -> bool {
    let Row { seen, memory, .. } = row;
    let Some(ask) = seen.wanted.value() else { return false };
    let is_used = memory.is_some_and(|memory| memory.has_used(ask)) || seen.answered.value() == Some(&ask.number);
    seen.has_agent && !is_used
}

/// The nodes that ask for a turn and have none.
pub(crate) fn candidates<'a>(
    fleet: &'a Fleet,
    rows: &[Row<'a>],
    revisions: &BTreeMap<&str, Revision<'_>>,
    now: Duration,
) -> Vec<Candidate<'a>> {
    let mut found = Vec::new();
    for row in rows {
        let Row { name: node, seen, memory } = *row;
        let Said::Is(ask) = &seen.wanted else { continue };
        if !seen.is_ours() || seen.is_working() || memory.is_none_or(Memory::is_engaged) {
            continue;
        }
        let revision = revisions.get(ask.revision.as_str());
        let is_new = seen.revision == Said::Nothing && revision.is_some_and(|revision| revision.is_proven);
        let has_failed = revision.is_some_and(|revision| revision.failed_before.contains(&node));
        let rank = match () {
            () if seen.is_stuck() => Rank::Stuck,
            () if has_failed => Rank::Failed,
            () if is_new => Rank::New,
            () => Rank::Other,
        };
        // A worker that is new may be NotReady just because it has no configuration yet, and a stuck node is down anyway.
        let may_be_down = rank == Rank::Stuck || (rank == Rank::New && seen.role == Role::Agent);
        let is_down = !seen.is_ready && !may_be_down;
        let is_absent = !may_answer(*row) || (is_down && is_absent(fleet, *row, now));
        found.push(Candidate { node, seen, ask, rank, is_absent, is_down });
    }
    found
}

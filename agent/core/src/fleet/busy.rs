//! Which nodes are disturbed, or may be; and what stands in everybody's way.

use std::collections::BTreeMap;
use std::time::Duration;

use super::memory::Memory;
use super::seen::{NodeSeen, Said};
use super::{Fleet, Revoke, Row};
use crate::node::annotations::Phase;
use crate::node::observed::Role;
use crate::policy::Policy;

/// The fleet at one moment.
#[derive(Debug)]
pub(crate) struct Survey<'a> {
    /// Nodes that count against `maxUnavailable`.
    pub(crate) busy: BTreeMap<&'a str, Busy<'a>>,
    /// Workers that were NotReady for long: named, not counted.
    pub(crate) absent: Vec<&'a str>,
    /// Servers that stop other servers although nobody disturbs them.
    pub(crate) shaky: Vec<(&'a str, Shaky)>,
    /// Turns that take too long.
    pub(crate) held: Vec<Busy<'a>>,
    /// Nodes whose agent runs and has not said where it stands.
    pub(crate) silent: Vec<&'a str>,
    /// Nodes with an agent, less the absent.
    pub(crate) counted: usize,
    /// So many nodes may be busy.
    pub(crate) allowed: usize,
    /// What needs a new epoch.
    pub(crate) revoke: Option<Revoke>,
    /// When the first of the waits above ends.
    pub(crate) wake: Wake,
}

/// A busy node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Busy<'a> {
    pub(crate) node: &'a str,
    pub(crate) role: Role,
    pub(crate) why: Why,
    /// It was deleted, excluded, or made again, in the middle.
    pub(crate) is_away: bool,
}

/// Why a node is busy, the strongest reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It was last seen Applying or Proving.
    Working(Phase),
    /// It holds a grant that it may use.
    Granted,
    /// It is Stuck.
    Stuck,
    /// It is NotReady.
    NotReady,
}

/// Why a server that is not disturbed by us stops the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shaky {
    /// It is Stuck.
    Stuck,
    /// It is NotReady.
    NotReady,
    /// Somebody cordoned it lately, and may be working on it.
    Cordoned,
}

/// The earliest of several moments that are still to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wake {
    now: Duration,
    at: Option<Duration>,
}

impl Wake {
    pub(crate) const fn new(now: Duration) -> Self {
        Self { now, at: None }
    }

    /// Tells whether a wait that began at `since` is over; if not, it counts.
    pub(crate) fn is_over(&mut self, since: Duration, wait: Duration) -> bool {
        let end = since.saturating_add(wait);
        if self.now >= end {
            return true;
        }
        self.at = Some(self.at.map_or(end, |at| at.min(end)));
        false
    }

    /// In what time.
    pub(crate) fn left(self) -> Option<Duration> {
        self.at.map(|at| at.saturating_sub(self.now))
    }
}

impl Busy<'_> {
    /// It is disturbed by us, or may be.
    pub(crate) const fn is_engaged(&self) -> bool {
        match self.why {
            Why::Working(_) | Why::Granted => true,
            Why::Stuck | Why::NotReady => false,
        }
    }
}

impl<'a> Survey<'a> {
    /// Looks at all nodes.
    pub(crate) fn of(fleet: &'a Fleet, rows: &[Row<'a>], policy: &Policy, now: Duration) -> Self {
        let mut survey = Self {
            busy: BTreeMap::new(),
            absent: Vec::new(),
            shaky: Vec::new(),
            held: Vec::new(),
            silent: Vec::new(),
            counted: 0,
            allowed: 0,
            revoke: None,
            wake: Wake::new(now),
        };
        let mut ends = Ends::default();
        for Row { name, seen, memory } in rows.iter().copied() {
            if let Some(memory) = memory.filter(|memory| memory.is_engaged()) {
                survey.engaged(fleet, policy, name, memory, &mut ends);
            }
            survey.node(fleet, name, seen, memory);
        }
        for (name, memory) in fleet.ledger.all() {
            if memory.is_gone && memory.is_engaged() {
                survey.engaged(fleet, policy, name, memory, &mut ends);
            }
        }
        survey.allowed = policy.max_unavailable.of(survey.counted);
        survey.revoke = ends.revoke();
        survey
    }

    /// A node that may be disturbed by us.
    fn engaged(&mut self, fleet: &Fleet, policy: &Policy, name: &'a str, memory: &Memory, ends: &mut Ends<'a>) {
        let waits = &fleet.waits;
        let why = memory.working.as_ref().map_or(Why::Granted, |working| Why::Working(working.phase));
        let busy = Busy { node: name, role: memory.role, why, is_away: memory.away.is_some() };
        self.busy.insert(name, busy);
        if let Some(working) = &memory.working
            && self.wake.is_over(working.since, policy.deadline.saturating_add(waits.held))
        {
            self.held.push(busy);
        }
        let is_excluded = fleet.nodes.get(name).is_some_and(|seen| seen.is_excluded);
        if let Some(since) = memory.away
            && self.wake.is_over(since, policy.deadline.saturating_add(waits.away))
        {
            ends.away.push(name);
        } else if let Some(granted) = &memory.granted
            // One that is gone, or was made again and is silent, shows in no list whether it began: only the long wait above
            // ends it, and a new epoch would be taken for nothing again and again.
            && (memory.away.is_none() || (is_excluded && !memory.is_remade))
            && !granted.is_answered
            && self.wake.is_over(granted.at, waits.answer)
        {
            ends.silent.push(name);
        }
    }

    /// What a Node shows beside that.
    fn node(&mut self, fleet: &Fleet, name: &'a str, seen: &NodeSeen, memory: Option<&Memory>) {
        let waits = &fleet.waits;
        let now = self.wake.now;
        let since = |of: fn(&Memory) -> Option<Duration>| memory.and_then(of).unwrap_or(now);
        let is_engaged = memory.is_some_and(Memory::is_engaged);
        let is_server = seen.role == Role::Server;
        let had_agent = !matches!(seen.phase, Said::Nothing);
        let mut is_absent = false;
        if seen.is_ours() {
            let why = if let (None, Said::Is(phase), true) = (memory, &seen.phase, seen.is_working()) {
                // Nobody showed it to the ledger yet.
                Some(Why::Working(*phase))
            } else if seen.is_stuck() {
                Some(Why::Stuck)
            } else if !seen.is_ready && had_agent {
                let is_long = self.wake.is_over(since(|memory| memory.not_ready), waits.not_ready);
                is_absent = is_long && !is_server && !is_engaged;
                (!is_absent).then_some(Why::NotReady)
            } else {
                None
            };
            if let Some(why) = why.filter(|_| !is_engaged) {
                self.busy.insert(name, Busy { node: name, role: seen.role, why, is_away: false });
            }
            if seen.has_agent
                && seen.phase.value().is_none()
                && !self.wake.is_over(since(|memory| memory.silent), waits.silent)
            {
                self.silent.push(name);
            }
            if is_absent {
                self.absent.push(name);
            } else {
                self.counted += 1;
            }
        }
        if is_server {
            let shaky = if seen.is_ours() && seen.is_stuck() {
                Some(Shaky::Stuck)
            } else if !seen.is_ready {
                Some(Shaky::NotReady)
            } else if seen.is_cordoned && !self.wake.is_over(since(|memory| memory.cordoned), waits.cordoned) {
                Some(Shaky::Cordoned)
            } else {
                None
            };
            self.shaky.extend(shaky.map(|shaky| (name, shaky)));
        }
    }

    /// How many nodes are busy beside this one, for a grant to it.
    pub(crate) fn others(&self, node: &str, is_cure: bool) -> usize {
        if is_cure {
            return self.busy.values().filter(|busy| busy.node != node && busy.why != Why::Stuck).count();
        }
        self.busy.len() - usize::from(self.busy.contains_key(node))
    }
}

/// What stops being counted, and needs a new epoch for that.
#[derive(Default)]
struct Ends<'a> {
    silent: Vec<&'a str>,
    away: Vec<&'a str>,
}

impl Ends<'_> {
    fn revoke(self) -> Option<Revoke> {
        let Self { silent, away } = self;
        let forget: Vec<String> = away.iter().map(|name| (*name).to_owned()).collect();
        let why = match (silent.as_slice(), away.as_slice()) {
            ([], []) => return None,
            ([first, rest @ ..], _) => format!("the grant of {first}{} was not answered in time", and_more(rest.len())),
            ([], [first, rest @ ..]) => {
                format!(
                    "{first}{} went away in the middle of its turn and is waited for no longer",
                    and_more(rest.len())
                )
            }
        };
        Some(Revoke { why: format!("{why}: what was granted before is made void"), forget })
    }
}

/// ` and 3 more`.
pub(crate) fn and_more(count: usize) -> String {
    if count == 0 { String::new() } else { format!(" and {count} more") }
}

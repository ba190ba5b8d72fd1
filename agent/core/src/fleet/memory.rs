//! What is remembered of one Node: its turn, and since when it is seen as it is. Progress never moves backward.

use std::collections::VecDeque;
use std::time::Duration;

use super::out::Out;
use super::seen::{NodeSeen, Said, Word};
use crate::grant::{Ask, Epoch};
use crate::node::annotations::Phase;
use crate::node::observed::Role;

/// Numbers of asks that are remembered for each node: a cache shows no older ones.
const NUMBERS: usize = 4;

/// What is remembered of one Node.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    uid: String,
    /// The uid before: a sight of it is an old one.
    former: Option<String>,
    pub(crate) role: Role,
    /// The last grant that may be in somebody's hands.
    pub(crate) granted: Option<Granted>,
    /// What it is, or may be, in its turn for: none if there is no turn, or it is not known for what.
    turn: Option<Ask>,
    /// Numbers that were granted: none is granted again.
    used: VecDeque<String>,
    /// The number that it had answered when it was seen last; not known before the first sight.
    latest: Option<Option<String>>,
    /// Numbers that were drawn there since, or granted: what it answers next is one of these.
    next: VecDeque<String>,
    /// It was last seen Applying or Proving.
    pub(crate) working: Option<Working>,
    /// Since when it is seen NotReady.
    pub(crate) not_ready: Option<Duration>,
    /// Since when it is seen cordoned.
    pub(crate) cordoned: Option<Duration>,
    /// Since when it is seen with a running agent and without a phase.
    pub(crate) silent: Option<Duration>,
    /// Since when it is deleted, excluded, or another Node of its name that has not said where it stands.
    pub(crate) away: Option<Duration>,
    /// It is in no list of Nodes.
    pub(crate) is_gone: bool,
    /// Another Node of its name came in the middle of its turn, and has not said where it stands.
    pub(crate) is_remade: bool,
    /// It was excluded during its turn and kept its place long enough: what its Node still says counts no more.
    is_written_off: bool,
    /// The last revision that failed there, until it has proven another, with the operator's token of that time.
    pub(crate) failed: Option<Failed>,
}

/// A grant of this process, or one that is seen with its epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) ask: Ask,
    pub(crate) at: Duration,
    pub(crate) is_answered: bool,
}

/// A turn that is being used, whoever granted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Working {
    pub(crate) since: Duration,
    pub(crate) phase: Phase,
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) revision: String,
    /// The operator's `retry` on the Node when it was first seen.
    pub(crate) retry: Option<String>,
    /// The Node still says so.
    is_told: bool,
}

impl Memory {
    pub(crate) fn new(seen: &NodeSeen) -> Self {
        Self::of(seen.uid.clone(), seen.role)
    }

    /// One whose Node is gone.
    pub(crate) fn gone(out: &Out) -> Self {
        Self { is_gone: true, ..Self::of(String::new(), out.role) }
    }

    fn of(uid: String, role: Role) -> Self {
        Self {
            uid,
            former: None,
            role,
            granted: None,
            turn: None,
            used: VecDeque::new(),
            latest: None,
            next: VecDeque::new(),
            working: None,
            not_ready: None,
            cordoned: None,
            silent: None,
            away: None,
            is_gone: false,
            is_remade: false,
            is_written_off: false,
            failed: None,
        }
    }

    /// It may be disturbed by us now.
    pub(crate) fn is_engaged(&self) -> bool {
        self.working.is_some() || self.granted.is_some()
    }

    /// What it is, or may be, in its turn for.
    pub(crate) fn turn(&self) -> Option<&Ask> {
        self.turn.as_ref().filter(|_| self.is_engaged())
    }

    /// This ask was granted before.
    pub(crate) fn has_used(&self, ask: &Ask) -> bool {
        self.used.contains(&ask.number)
    }

    /// A quorum read, after the epoch became a new one.
    pub(crate) fn list(&mut self, seen: &NodeSeen) {
        self.former = None;
        self.latest = None;
        self.next.clear();
        if let (Said::Is(Word::Absent), Said::Is(ask)) = (&seen.turn, &seen.wanted) {
            // Whoever wrote that took the grant away, and with it what told that the number was used.
            self.use_number(&ask.number);
        }
        if seen.is_working() {
            self.granted = None;
            let ask = seen.grant.value().map(|grant| &grant.ask);
            if let Some(ask) = ask.filter(|ask| seen.answered.value() == Some(&ask.number)) {
                // It may be healing itself without a turn, after this one: then it is listed in vain.
                self.turn = Some(ask.clone());
            }
            return;
        }
        if (seen.uid == self.uid && !self.is_remade) || seen.is_at_rest() {
            self.granted = None;
        }
        if seen.is_at_rest() {
            self.working = None;
        }
    }

    /// The Lease lists this turn, and the list of Nodes does not say what became of it: the Node is gone, or was made again
    /// and its agent has not written what its journal knows. It counts as one that went away under our eyes.
    pub(crate) fn inherit(&mut self, out: &Out, is_there: bool, now: Duration) {
        let Out { ask, role } = out;
        // Known and under way, or known and over: the Lease lists it until it is written next.
        let is_known = if self.is_engaged() { self.turn.as_ref() == Some(ask) } else { self.has_used(ask) };
        if is_known {
            return;
        }
        self.working = None;
        self.grant(ask.clone(), now);
        self.role = *role;
        self.is_remade = is_there;
        self.is_written_off = false;
        self.away = Some(now);
    }

    /// No sight of the Node: it was deleted, or the list is an old one.
    pub(crate) fn miss(&mut self, now: Duration) {
        self.is_gone = true;
        (self.not_ready, self.cordoned, self.silent) = (None, None, None);
        self.away.get_or_insert(now);
    }

    /// One sight of the Node, perhaps an old one.
    pub(crate) fn see(&mut self, seen: &NodeSeen, epoch: Option<&Epoch>, now: Duration) {
        if self.uid != seen.uid {
            if self.former.as_ref() == Some(&seen.uid) {
                return;
            }
            self.former = Some(std::mem::replace(&mut self.uid, seen.uid.clone()));
            self.latest = None;
            self.is_remade = self.is_engaged();
            self.away = self.is_remade.then_some(self.away.unwrap_or(now));
        }
        if self.is_remade && seen.phase.value().is_some() {
            // Whatever was open, the agent writes a new Node from its journal: what it says is all there is.
            self.is_remade = false;
            self.granted = None;
            self.working = None;
        }
        if !(self.is_remade && self.role == Role::Server) {
            // A server that registers anew is given its labels a moment later.
            self.role = seen.role;
        }
        self.is_gone = false;
        keep(&mut self.not_ready, !seen.is_ready, now);
        keep(&mut self.cordoned, seen.is_cordoned, now);
        keep(&mut self.silent, seen.has_agent && seen.phase.value().is_none(), now);
        self.is_written_off &= seen.is_excluded && seen.is_working();
        if !self.is_written_off {
            self.progress(seen, now);
        }
        if let Said::Is(grant) = &seen.grant
            && !self.used.contains(&grant.ask.number)
        {
            if epoch == Some(&grant.epoch) && seen.answered.value() != Some(&grant.ask.number) {
                // Ours by its epoch, and not in the ledger: nobody but us may write that, so it counts.
                self.grant(grant.ask.clone(), now);
            } else {
                self.use_number(&grant.ask.number);
            }
        }
        let has_returned = seen.phase.value().is_some() && !seen.is_excluded;
        let is_away = seen.is_excluded || (self.away.is_some() && !has_returned);
        keep(&mut self.away, is_away, now);
        self.remember_failure(seen);
        if !self.is_engaged() {
            self.turn = None;
        }
    }

    /// What the Node shows of its turn, unless it is old: what it has answered last can only be followed by an ask that was
    /// drawn or granted since. A Node that was made again is seen bare first: its agent then writes all that its journal
    /// knows, an open turn included, and nothing older than bare can be seen of it.
    fn progress(&mut self, seen: &NodeSeen, now: Duration) {
        let answered = seen.answered.value();
        let is_same = self.latest.as_ref().is_none_or(|latest| latest.as_ref() == answered);
        let is_first = self.latest == Some(None);
        if !is_same {
            if !answered.is_some_and(|answered| is_first || self.next.contains(answered)) {
                return;
            }
            self.next.clear();
        }
        if !is_same || self.latest.is_none() {
            self.latest = Some(answered.cloned());
        }
        if let Said::Is(ask) = &seen.wanted {
            remember(&mut self.next, &ask.number);
        }
        let answers_ours = self.granted.as_ref().is_some_and(|granted| answered == Some(&granted.ask.number));
        let Said::Is(phase) = seen.phase else { return };
        if seen.is_working() {
            let since = self.working.as_ref().filter(|_| is_same).map_or(now, |working| working.since);
            self.working = Some(Working { since, phase });
            if answers_ours && let Some(granted) = &mut self.granted {
                granted.is_answered = true;
            }
        } else {
            self.working = None;
            if answers_ours {
                self.granted = None;
            }
        }
    }

    /// This may be in its hands from now on.
    pub(crate) fn grant(&mut self, ask: Ask, now: Duration) {
        self.use_number(&ask.number);
        remember(&mut self.next, &ask.number);
        self.turn = Some(ask.clone());
        self.granted = Some(Granted { ask, at: now, is_answered: false });
    }

    /// It certainly was not written.
    pub(crate) fn not_granted(&mut self, ask: &Ask) {
        if self.granted.as_ref().is_some_and(|granted| granted.ask == *ask && !granted.is_answered) {
            self.granted = None;
            self.used.retain(|number| *number != ask.number);
        }
    }

    /// Whatever it was in the middle of is waited for no longer.
    pub(crate) fn write_off(&mut self) {
        self.granted = None;
        self.working = None;
        self.is_written_off = true;
    }

    fn use_number(&mut self, number: &str) {
        remember(&mut self.used, number);
    }

    fn remember_failure(&mut self, seen: &NodeSeen) {
        match &seen.failed {
            Said::Is(revision) => {
                if self.failed.as_ref().is_none_or(|failed| failed.revision != *revision || !failed.is_told) {
                    let retry = seen.retry.clone();
                    self.failed = Some(Failed { revision: revision.clone(), retry, is_told: true });
                }
            }
            Said::Nothing if seen.phase == Said::Is(Phase::Current) => self.failed = None,
            Said::Nothing | Said::Garbage => {
                if let Some(failed) = &mut self.failed {
                    failed.is_told = false;
                }
            }
        }
    }
}

/// Keeps the last few.
fn remember(numbers: &mut VecDeque<String>, number: &str) {
    if !numbers.iter().any(|known| known == number) {
        numbers.push_back(number.to_owned());
    }
    if numbers.len() > NUMBERS {
        numbers.pop_front();
    }
}

/// Keeps the moment at which something began, for as long as it holds.
fn keep(since: &mut Option<Duration>, holds: bool, now: Duration) {
    if holds {
        since.get_or_insert(now);
    } else {
        *since = None;
    }
}

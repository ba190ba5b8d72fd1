//! Who is next: the candidates in their order, and for each a turn or the word for what it waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::busy::{Busy, Shaky, Survey, Why};
use super::candidate::{Candidate, Rank, Revision, candidates};
use super::memory::Memory;
use super::out::{List, Out};
use super::seen::{NodeSeen, Said, Word};
use super::stop::Stop;
use super::{Change, Fleet, GateAnswer, GateAsk, LeaseKept, NodeWrite, Row, Turns, halts, sentence};
use crate::grant::{Epoch, Grant};
use crate::node::observed::Role;
use crate::policy::{Order, Policy};

/// See [`super::next_turns`].
pub(crate) fn next_turns(fleet: &Fleet, policy: &Policy, now: Duration) -> Turns {
    let nothing = Turns { revoke: None, lease: fleet.kept.clone(), writes: Vec::new(), gate: None, wake: None };
    let epoch = fleet.ledger.epoch();
    let holding = fleet.holding.as_ref().filter(|holding| holding.may_act(&fleet.waits, now));
    let (Some(epoch), Some(holding)) = (epoch, holding) else { return nothing };
    if holding.epoch != *epoch {
        return nothing;
    }
    let lease = halts::next(fleet);
    let rows = fleet.rows();
    let mut survey = Survey::of(fleet, &rows, policy, now);
    if let Some(revoke) = survey.revoke.take() {
        let out = List::of(fleet).into_all();
        let lease = LeaseKept { rollout: sentence::revoking(&revoke), out, ..lease };
        return Turns { revoke: Some(revoke), lease, ..nothing };
    }
    let stop = Stop::of(fleet, policy, &mut survey);
    let mut line = Line {
        fleet,
        policy,
        now,
        epoch,
        halted: lease.halted.iter().map(String::as_str).collect(),
        is_open: policy.is_open(fleet.wall),
        stop,
        survey,
        revisions: Revision::all(fleet, &rows, now),
        rows,
        granted: Vec::new(),
        out: List::of(fleet),
        words: BTreeMap::new(),
        has_server: false,
        servers_wait: false,
        new_servers_wait: false,
        gate: None,
    };
    line.walk();
    let rollout = sentence::rollout(&line);
    let (writes, wake) = (line.writes(), line.wake());
    let gate = line.gate;
    let lease = LeaseKept { rollout, out: line.out.into_all(), ..lease };
    Turns { revoke: None, lease, writes, gate, wake }
}

/// The line of candidates while it is walked.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    pub(crate) fleet: &'a Fleet,
    pub(crate) policy: &'a Policy,
    rows: Vec<Row<'a>>,
    now: Duration,
    epoch: &'a Epoch,
    pub(crate) halted: BTreeSet<&'a str>,
    pub(crate) is_open: bool,
    pub(crate) stop: Option<Stop<'a>>,
    pub(crate) survey: Survey<'a>,
    pub(crate) revisions: BTreeMap<&'a str, Revision<'a>>,
    /// Who gets a turn now.
    pub(crate) granted: Vec<Candidate<'a>>,
    /// Who then is out.
    out: List,
    /// What the others wait for; none: it is decided in a moment.
    pub(crate) words: BTreeMap<&'a str, Option<Word>>,
    /// A server's turn was looked at: the other servers come after it.
    has_server: bool,
    /// A server that may have a turn as far as the operator is concerned has none yet: workers come after it.
    servers_wait: bool,
    /// The same of servers that never proved anything, as at a first installation: new workers come after them.
    new_servers_wait: bool,
    pub(crate) gate: Option<GateAsk>,
}

/// What becomes of a candidate.
enum Place {
    Turn,
    Wait(Word),
    /// It will be known in a moment.
    Soon,
}

impl<'a> Line<'a> {
    fn walk(&mut self) {
        let mut line = candidates(self.fleet, &self.rows, &self.revisions, self.now);
        // Stable: names decide the rest.
        line.sort_by_key(Candidate::key);
        let engaged = || self.survey.busy.values().filter(|busy| busy.role == Role::Server && busy.is_engaged());
        let waiting = || line.iter().filter(|candidate| candidate.is_server() && self.forbidden(candidate).is_none());
        let is_new = |node: &str| self.fleet.nodes.get(node).is_some_and(|seen| seen.revision == Said::Nothing);
        let servers_wait = engaged().next().is_some() || waiting().next().is_some();
        let new_servers_wait = engaged().any(|busy| is_new(busy.node)) || waiting().any(|server| is_new(server.node));
        (self.servers_wait, self.new_servers_wait) = (servers_wait, new_servers_wait);
        for candidate in line {
            let word = match self.place(&candidate) {
                Place::Turn if self.grant(candidate) => continue,
                // The Lease has no room to list it beside those that are out.
                Place::Turn => Some(Word::Budget),
                Place::Wait(word) => Some(word),
                Place::Soon => None,
            };
            self.words.insert(candidate.node, word);
        }
    }

    /// Gives it a turn, if the Lease can list it.
    fn grant(&mut self, candidate: Candidate<'a>) -> bool {
        let Candidate { node, seen, ask, .. } = candidate;
        if !self.out.add(node, Out { ask: ask.clone(), role: seen.role }) {
            return false;
        }
        // What it was busy for before counts no more beside its turn.
        self.survey.busy.insert(node, Busy { node, role: seen.role, why: Why::Granted, is_away: false });
        self.granted.push(candidate);
        true
    }

    fn place(&mut self, candidate: &Candidate<'a>) -> Place {
        if let Some(word) = self.forbidden(candidate).or_else(|| self.behind(candidate)) {
            return Place::Wait(word);
        }
        let is_server = candidate.is_server();
        if is_server {
            if std::mem::replace(&mut self.has_server, true) {
                return Place::Wait(Word::Order);
            }
            if let Some(word) = self.beside(candidate) {
                return Place::Wait(word);
            }
        }
        if self.survey.others(candidate.node, candidate.is_cure()) >= self.survey.allowed {
            return Place::Wait(Word::Budget);
        }
        if self.stop.is_some() {
            return Place::Wait(Word::Budget);
        }
        if self.gathers(candidate) {
            return Place::Soon;
        }
        if is_server { self.ask_gate(candidate) } else { Place::Turn }
    }

    /// What the operator, a failure, or the node itself forbids, whoever else waits.
    fn forbidden(&self, candidate: &Candidate<'a>) -> Option<Word> {
        let Candidate { seen, ask, rank, .. } = candidate;
        // First of all: it is what tells the agent to draw a new number, and the next holder that this one was used.
        if candidate.is_absent {
            return Some(Word::Absent);
        }
        if seen.is_paused || self.stop.as_ref().is_some_and(Stop::is_the_operators) {
            return Some(Word::Paused);
        }
        if self.halted.contains(ask.revision.as_str()) {
            return Some(Word::Halted);
        }
        if candidate.is_down {
            return Some(Word::Budget);
        }
        (!self.is_open && *rank != Rank::New).then_some(Word::Window)
    }

    /// Who has to prove the revision first.
    fn behind(&self, candidate: &Candidate<'a>) -> Option<Word> {
        let revision = self.revisions.get(candidate.ask.revision.as_str())?;
        match candidate.rank {
            Rank::Stuck | Rank::Failed => return None,
            Rank::New | Rank::Other if !revision.failed_before.is_empty() => return Some(Word::Order),
            // Ahead of the others, and in the policy's order among themselves.
            Rank::New => return (!candidate.is_server() && self.new_servers_wait).then_some(Word::Order),
            Rank::Other => {}
        }
        let is_canary_due = match self.policy.order {
            Order::Canary => !revision.is_proven,
            Order::ServersFirst => false,
        };
        let is_behind = if is_canary_due {
            revision.canary != Some(candidate.node) || self.survey.busy.values().any(Busy::is_engaged)
        } else {
            !candidate.is_server() && self.servers_wait
        };
        is_behind.then_some(Word::Order)
    }

    /// What another server does, or does not.
    fn beside(&self, candidate: &Candidate<'a>) -> Option<Word> {
        let is_engaged = |busy: &Busy<'_>| busy.role == Role::Server && busy.is_engaged();
        if self.survey.busy.values().any(is_engaged) {
            // The word of all servers behind the first: one that changed with each turn would be written with each turn.
            return Some(Word::Order);
        }
        let blocks = self.survey.shaky.iter().any(|(node, shaky)| {
            *node != candidate.node
                && match shaky {
                    Shaky::Stuck | Shaky::NotReady => !candidate.is_cure(),
                    Shaky::Cordoned => true,
                }
        });
        blocks.then_some(Word::ServerGate)
    }

    /// Who asks a moment later may come first by name.
    fn gathers(&mut self, candidate: &Candidate<'a>) -> bool {
        let asked = self.fleet.ledger.first_asked(&candidate.ask.revision);
        let (Rank::Other, Some(asked)) = (candidate.rank, asked) else { return false };
        let is_first =
            self.revisions.get(candidate.ask.revision.as_str()).is_some_and(|revision| revision.is_gathering);
        is_first && !self.survey.wake.is_over(asked, self.fleet.waits.gather)
    }

    fn ask_gate(&mut self, candidate: &Candidate<'a>) -> Place {
        let waits = &self.fleet.waits;
        let answer = self.fleet.gate.as_ref().filter(|answer| answer.target == candidate.node);
        if let Some(GateAnswer { asked_at, refusal, .. }) = answer {
            let age = self.now.saturating_sub(*asked_at);
            match refusal {
                None if age < waits.gate => return Place::Turn,
                None => {}
                Some(_) if !self.survey.wake.is_over(*asked_at, waits.gate_again) => {
                    return Place::Wait(Word::ServerGate);
                }
                Some(_) => {}
            }
        }
        self.gate = Some(GateAsk { node: candidate.node.to_owned(), is_cure: candidate.is_cure() });
        let has_refused = answer.is_some_and(|answer| answer.refusal.is_some());
        if has_refused { Place::Wait(Word::ServerGate) } else { Place::Soon }
    }

    fn writes(&self) -> Vec<NodeWrite> {
        let mut writes: Vec<NodeWrite> = Vec::new();
        for Candidate { node, seen, ask, .. } in &self.granted {
            let grant = Grant { ask: (*ask).clone(), epoch: self.epoch.clone() };
            let turn = if seen.turn == Said::Nothing { Change::Keep } else { Change::Remove };
            let (node, uid) = ((*node).to_owned(), seen.uid.clone());
            writes.push(NodeWrite { node, uid, grant: Change::Set(grant), turn });
        }
        let granted: BTreeSet<&str> = self.granted.iter().map(|candidate| candidate.node).collect();
        for Row { name: node, seen, memory } in self.rows.iter().copied().filter(|row| !row.seen.is_excluded) {
            if granted.contains(node) {
                continue;
            }
            let word = self.words.get(node).copied();
            let turn = turn(word, seen, memory);
            let is_absent = word == Some(Some(Word::Absent));
            let grant = if is_absent && is_void(seen, self.epoch) { Change::Remove } else { Change::Keep };
            if turn != Change::Keep || grant != Change::Keep {
                writes.push(NodeWrite { node: node.to_owned(), uid: seen.uid.clone(), grant, turn });
            }
        }
        writes
    }

    fn wake(&self) -> Option<Duration> {
        // Maintenance windows are wall-clock time: looked at once a minute while somebody waits for one.
        let window = self.words.values().any(|word| *word == Some(Word::Window)).then_some(Duration::from_secs(60));
        [self.survey.wake.left(), window].into_iter().flatten().min()
    }
}

/// What is to stand in `turn`.
fn turn(word: Option<Option<Word>>, seen: &NodeSeen, memory: Option<&Memory>) -> Change<Word> {
    if memory.is_some_and(Memory::is_engaged) {
        return Change::Keep;
    }
    match word {
        Some(None) => Change::Keep,
        Some(Some(word)) if seen.turn == Said::Is(word) => Change::Keep,
        Some(Some(word)) => Change::Set(word),
        None if seen.turn == Said::Nothing => Change::Keep,
        None => Change::Remove,
    }
}

/// A grant of an earlier epoch that its node still might look at: it is taken away, so that the agent draws a new number.
fn is_void(seen: &NodeSeen, epoch: &Epoch) -> bool {
    let (Some(grant), Some(ask)) = (seen.grant.value(), seen.wanted.value()) else { return false };
    grant.epoch != *epoch && grant.ask == *ask && seen.answered.value() != Some(&ask.number) && !seen.is_working()
}

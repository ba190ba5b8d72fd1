//! The agent's side of `design.md` 7: an ask that stands, the grant that answers it, and what has to be heard before the
//! grant is a turn.

use std::time::Duration;

use super::annotations::Phase;
use super::conclude::remember;
use super::heard::{Inquiry, PreflightSeen};
use super::idle::Request;
use super::journal::{Ask, Goal, Record, Refused, Rung, Unused};
use super::observed::{Role, Service};
use super::plan::{Case, Depth, Gate, Observed, Plan, Step, Wake, Wanted};
use super::pulls;
use super::turn::{NoTurn, Turn, TurnSource};
use crate::grant::Grant;
use crate::policy::Mode;

/// So many used asks are remembered.
const ASKS_REMEMBERED: usize = 32;
/// A node that is called absent draws a new number, but not more often than this.
const ABSENT_REDRAWS: Duration = Duration::from_secs(60);
/// By then a coordinator says what an ask waits for, or grants it.
const ANSWER_EXPECTED: Duration = Duration::from_secs(30);
/// After the second grant in a row that could not be used, this long nothing is asked; doubled, at most [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Without a coordinator the registries are asked again after this, if nothing was begun meanwhile.
const PREFLIGHT_HOLDS: Duration = Duration::from_secs(300);

/// Where the exchange stands.
pub(crate) enum Exchange {
    /// The turn is held.
    Turn(Turn),
    /// It goes on: this plan does nothing but say so and ask.
    Going(Box<Plan>),
    /// There is no grant.
    None,
    /// There was one, and it cannot be used.
    Over(String),
    /// A registry refuses what is wanted.
    Refused(String),
}

/// What the grant on the Node is worth. `rest` is the plan for while nothing is granted.
pub(crate) fn exchange(case: &Case<'_>, request: &Request<'_>, rest: &Plan) -> Exchange {
    let Request { wanted, goal, cures, .. } = request;
    let record = case.record;
    let is_own = |ask: &&Ask| ask.revision == wanted.revision;
    let grant = granted(case.seen);
    let Some(asked) = record.asked.as_ref().filter(is_own) else { return Exchange::None };
    let is_used = record.asks_used.contains(&asked.number);
    let grant = match grant.filter(|grant| grant.ask == *asked) {
        Some(grant) => grant,
        None if is_used => return Exchange::Over("the grant was withdrawn".to_owned()),
        None => return Exchange::None,
    };
    if !is_used {
        // Before the Node says a word of it: whatever happens from here on, this ask is never honoured again.
        let mut used = record.clone();
        use_up(&mut used, &asked.number);
        let mut plan = going(rest, asked, Inquiry::Inputs, "granted: reading the inputs again");
        plan.steps = vec![Step::Record(Box::new(used))];
        return Exchange::Going(Box::new(plan));
    }
    let (heard, now) = (&case.seen.heard, case.seen.clock.boot);
    let turn = Turn::granted(&grant, &record.asks_used, heard, now);
    let shown = match &turn {
        // Not said, or said by a process that died: the ask is used, and that is all that is known.
        Err(why @ (NoTurn::NotUsed | NoTurn::NotShown)) => return Exchange::Over(why.to_string()),
        Ok(_) | Err(NoTurn::NotRead | NoTurn::Unreadable(_) | NoTurn::NoHolder | NoTurn::OtherEpoch) => {
            heard.shown.as_ref().map_or(Duration::MAX, |shown| shown.at)
        }
    };
    match heard.inputs.as_ref().filter(|read| read.at >= shown).map(|read| &read.answer) {
        None => return again(rest, asked, Inquiry::Inputs, "granted: reading the inputs again"),
        Some(Err(why)) => return Exchange::Over(format!("the inputs could not be read again: {why}")),
        Some(Ok(())) => {}
    }
    let asks = asks_registries(case, goal);
    match heard.preflight.as_ref().filter(|seen| asks && seen.at >= shown && seen.revision == wanted.revision) {
        None if !asks => {}
        None => return again(rest, asked, Inquiry::Preflight, "granted: asking the registries"),
        Some(PreflightSeen { refused: Some(why), .. }) => return Exchange::Refused(why.clone()),
        Some(PreflightSeen { blocked: Some(why), .. }) => return Exchange::Over(why.clone()),
        Some(PreflightSeen { refused: None, blocked: None, .. }) => {}
    }
    if let (Ok(_) | Err(NoTurn::NotRead), Some(mut plan)) = (&turn, pulls::before(case, rest)) {
        // Before the Lease is read: what is read there does not hold as long as a pull may take.
        plan.phase = Phase::Applying;
        plan.wanted = Some(asked.to_string());
        return Exchange::Going(Box::new(plan));
    }
    let exchange = match turn {
        Ok(turn) => gated(case, rest, asked, turn, *cures),
        Err(NoTurn::NotRead) => {
            again(rest, asked, Inquiry::Turn { cures: *cures }, "granted: reading the coordinator's Lease")
        }
        Err(
            why @ (NoTurn::NotUsed | NoTurn::NotShown | NoTurn::Unreadable(_) | NoTurn::NoHolder | NoTurn::OtherEpoch),
        ) => Exchange::Over(why.to_string()),
    };
    match exchange {
        Exchange::Going(mut plan) => {
            plan.pull = pulls::keep(case);
            Exchange::Going(plan)
        }
        Exchange::Turn(_) | Exchange::None | Exchange::Over(_) | Exchange::Refused(_) => exchange,
    }
}

/// Whether the registries are asked first. The last proven tree needs no registry's consent, since it has it; and whoever
/// leaves takes back what was there before us, whatever a registry thinks of it.
fn asks_registries(case: &Case<'_>, goal: &Goal) -> bool {
    matches!(goal, Goal::Apply(_)) && case.policy.mode != Mode::Restore && case.policy.preflight.is_on()
}

/// The preflight of a node without a cluster: what is still to be asked, or why the node is not disturbed. Only where a
/// service runs on the files: a directory is no node, and its registries are not to be reached from here.
pub(crate) fn preflight(case: &Case<'_>, request: &Request<'_>, rest: &Plan) -> Option<Plan> {
    let is_node = case.seen.source == TurnSource::Local && !matches!(case.host.service, Service::None);
    if !is_node || !asks_registries(case, &request.goal) {
        return None;
    }
    let mut plan = rest.clone();
    let now = case.seen.clock.boot;
    let is_held = |seen: &&PreflightSeen| {
        let is_young = now.saturating_sub(seen.at) <= PREFLIGHT_HOLDS;
        // A credential that was refused is not sent again by this process: the account might be locked.
        seen.revision == request.wanted.revision && (is_young || seen.refused.is_some())
    };
    match case.seen.heard.preflight.as_ref().filter(is_held) {
        None => {
            plan.reason = format!("asking the registries: {}", request.why);
            plan.inquiry = Some(Inquiry::Preflight);
            plan.wake = Wake::Now;
            plan.look = Depth::Full;
            plan.pull = pulls::keep(case);
        }
        Some(PreflightSeen { refused: None, blocked: None, .. }) => return None,
        Some(PreflightSeen { refused, blocked, .. }) => {
            plan.phase = Phase::Invalid;
            plan.failed = refused.as_ref().map(|_| request.wanted.revision.clone());
            plan.reason = refused.iter().chain(blocked).cloned().collect();
        }
    }
    Some(plan)
}

/// On a server the gate comes last.
fn gated(case: &Case<'_>, rest: &Plan, asked: &Ask, turn: Turn, cures: bool) -> Exchange {
    match case.gate() {
        Gate::Shut(why) => Exchange::Over(format!("not begun: {why}")),
        Gate::Unasked => again(rest, asked, Inquiry::Turn { cures }, "granted: asking the other servers"),
        Gate::Open if case.host.installation.role == Role::Server => {
            Exchange::Turn(turn.within(case.seen.heard.gate.as_ref()))
        }
        Gate::Open => Exchange::Turn(turn),
    }
}

fn again(rest: &Plan, asked: &Ask, inquiry: Inquiry, reason: &str) -> Exchange {
    Exchange::Going(Box::new(going(rest, asked, inquiry, reason)))
}

fn going(rest: &Plan, asked: &Ask, inquiry: Inquiry, reason: &str) -> Plan {
    let mut plan = rest.clone();
    plan.phase = Phase::Applying;
    plan.reason = reason.to_owned();
    plan.wanted = Some(asked.to_string());
    plan.inquiry = Some(inquiry);
    plan.wake = Wake::Now;
    // What passes now is what is demanded after.
    plan.look = Depth::Full;
    plan
}

/// Asks the coordinator; `over` says why the last grant was of no use.
pub(crate) fn ask(case: &Case<'_>, wanted: &Wanted, over: Option<String>, mut rest: Plan) -> Plan {
    let now = case.seen.clock.wall;
    let mut record = case.record.clone();
    record.unused = record.unused.filter(|unused| unused.revision == wanted.revision);
    if let Some(why) = over {
        let count = record.unused.as_ref().map_or(0, |unused| unused.count).saturating_add(1);
        record.unused = Some(Unused { revision: wanted.revision.clone(), why, count, at: now });
        record.asked = None;
    }
    let left = record.unused.as_ref().and_then(|unused| wait_left(unused, now));
    let standing = record
        .asked
        .take()
        .filter(|asked| asked.revision == wanted.revision && !record.asks_used.contains(&asked.number));
    let standing = match standing.as_ref().and_then(|asked| given_up(case, asked)) {
        None => standing,
        Some(Duration::ZERO) => None,
        Some(young) => {
            rest.wake = Wake::After(young);
            standing
        }
    };
    let why = rest.reason.clone();
    record.asked = match (standing, left) {
        (Some(asked), _) => Some(asked),
        (None, Some(left)) => {
            record.asked_at = None;
            rest.wake = Wake::After(left);
            None
        }
        (None, None) => {
            record.asked_at = Some(now);
            Some(Ask { revision: wanted.revision.clone(), number: case.seen.dice.clone() })
        }
    };
    // What it waits for stands in `turn` beside it, changes as others go on, and is not worth a write of every node.
    let is_late = record.asked_at.is_none_or(|at| now.duration_since(at).unsigned_abs() >= ANSWER_EXPECTED);
    let waits = match (&record.asked, case.seen.node.ours("turn")) {
        (None, _) => "asks for a turn again in a moment",
        (Some(_), None) if is_late => "waits for a turn, and no coordinator has answered yet",
        (Some(_), None) => {
            rest.wake = Wake::After(ANSWER_EXPECTED);
            "waits for its turn"
        }
        (Some(_), Some(_)) => "waits for its turn",
    };
    rest.reason = match &record.unused {
        Some(unused) => format!("the last grant was not used, {}; {waits}: {why}", unused.why),
        None => format!("{waits}: {why}"),
    };
    rest.wanted = record.asked.as_ref().map(ToString::to_string);
    if record != *case.record {
        rest.steps = vec![Step::Record(Box::new(record))];
    }
    rest
}

/// The plan of a node to which a registry refused the credential: R is halted, and the model is not called bad.
pub(crate) fn refused(case: &Case<'_>, wanted: &Wanted, why: String, rest: &Plan) -> Plan {
    let mut plan = rest.clone();
    plan.phase = Phase::Invalid;
    plan.reason.clone_from(&why);
    plan.failed = Some(wanted.revision.clone());
    let refused = Some(Refused { revision: wanted.revision.clone(), why });
    let record = Record { refused, asked: None, unused: None, ..case.record.clone() };
    plan.steps = vec![Step::Record(Box::new(record))];
    plan
}

/// The last word of every plan: a grant that is not taken up is answered, and an ask that was used does not stand on.
pub(crate) fn close(seen: &Observed, record: &Record, mut plan: Plan) -> Plan {
    let grant = granted(seen);
    let ends = |record: &mut Record| {
        if let Some(grant) = &grant {
            use_up(record, &grant.ask.number);
        }
        let is_open = record.intent.as_ref().is_some_and(|intent| intent.rung != Rung::Stuck);
        let is_used = record.asked.as_ref().is_some_and(|asked| record.asks_used.contains(&asked.number));
        // Whatever it was asked for is not wanted any more.
        let is_moot = match plan.phase {
            Phase::Current | Phase::RolledBack | Phase::Invalid => plan.wanted.is_none(),
            Phase::Pending | Phase::Applying | Phase::Proving | Phase::Stuck | Phase::Paused => false,
        };
        if (is_moot || (is_used && plan.phase != Phase::Applying)) && !is_open {
            record.asked = None;
        }
    };
    let mut last = None;
    for step in &mut plan.steps {
        if let Step::Record(record) = step {
            ends(record);
            last = Some((**record).clone());
        }
    }
    let last = last.unwrap_or_else(|| {
        let mut closed = record.clone();
        ends(&mut closed);
        if closed != *record {
            plan.steps.insert(0, Step::Record(Box::new(closed.clone())));
        }
        closed
    });
    plan.answered = last.asks_used.last().cloned();
    if last.intent.is_some() && plan.wanted.is_none() {
        let used = last.asked.as_ref().filter(|asked| last.asks_used.contains(&asked.number));
        plan.wanted = used.map(ToString::to_string);
    }
    plan
}

/// The grant on the Node. Whatever stands there without a coordinator is none.
fn granted(seen: &Observed) -> Option<Grant> {
    match seen.source {
        TurnSource::Local => None,
        TurnSource::Coordinator => seen.node.ours("grant")?.parse().ok(),
    }
}

/// Once only.
fn use_up(record: &mut Record, number: &str) {
    if !record.asks_used.iter().any(|used| used == number) {
        remember(&mut record.asks_used, number.to_owned(), ASKS_REMEMBERED);
    }
}

/// The coordinator gave up waiting for an answer to this very ask, and grants the same number never again: how long until
/// another may be drawn. Not at once each time, since the word stands on until the coordinator has looked.
fn given_up(case: &Case<'_>, asked: &Ask) -> Option<Duration> {
    let node = &case.seen.node;
    let is_absent = node.ours("turn") == Some("absent") && node.ours("wanted") == Some(asked.to_string().as_str());
    let age = case.record.asked_at.map(|at| case.seen.clock.wall.duration_since(at).unsigned_abs());
    is_absent.then(|| age.map_or(Duration::ZERO, |age| ABSENT_REDRAWS.saturating_sub(age)))
}

/// How long nothing is asked after grants in a row that were of no use. A clock that was set back ends it.
fn wait_left(unused: &Unused, now: jiff::Timestamp) -> Option<Duration> {
    let doublings = unused.count.checked_sub(2)?.min(10);
    let wait = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
    let passed = Duration::try_from(now.duration_since(unused.at)).ok()?;
    wait.checked_sub(passed).filter(|left| !left.is_zero())
}

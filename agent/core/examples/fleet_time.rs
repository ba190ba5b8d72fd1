//! How long a decision takes: `cargo run --release -p agent-core --example fleet_time -- 5000`.
//!
//! Takes up what a watch showed and decides, as the coordinator does after every change; many times in each of the states
//! that a fleet is in. A line a state: the decisions, and the shortest, the middle and the longest in milliseconds.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement for a person, not part of the agent"
)]

use std::time::{Duration, Instant};

use agent_core::fleet::{
    Change, Fleet, GateAnswer, LeaseKept, Ledger, NodeSeen, Said, Turns, Waits, Word, lease, next_turns,
};
use agent_core::grant::{Ask, Epoch};
use agent_core::node::annotations::Phase;
use agent_core::node::observed::Role;
use agent_core::policy::{MaxUnavailable, Policy};
use jiff::Timestamp;

const OLD: &str = "ba9876543210";
const NEW: &str = "0123456789ab";
const DECISIONS: usize = 200;

fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5_000);
    let tenth = MaxUnavailable::Percent(10);
    measure("steady", |_| proven(NEW), count, MaxUnavailable::Number(1));
    measure(
        "all pending, nobody was told yet",
        |number| pending(number, Said::Nothing),
        count,
        MaxUnavailable::Number(1),
    );
    measure("rollout half done", half_done(count), count, MaxUnavailable::Number(1));
    measure("rollout half done, a tenth at once", half_done(count), count, tenth);
}

fn half_done(count: usize) -> impl Fn(usize) -> NodeSeen {
    move |number| if number < count / 2 { proven(NEW) } else { pending(number, Said::Is(Word::Budget)) }
}

fn proven(revision: &str) -> NodeSeen {
    NodeSeen {
        uid: String::new(),
        role: Role::Agent,
        is_ready: true,
        is_cordoned: false,
        is_excluded: false,
        is_paused: false,
        has_agent: true,
        retry: None,
        phase: Said::Is(Phase::Current),
        revision: Said::Is(revision.into()),
        failed: Said::Nothing,
        wanted: Said::Nothing,
        answered: Said::Is("00c0ffee".into()),
        grant: Said::Nothing,
        turn: Said::Nothing,
    }
}

fn pending(number: usize, turn: Said<Word>) -> NodeSeen {
    let ask = Ask { revision: NEW.into(), number: format!("{number:08x}") };
    NodeSeen { phase: Said::Is(Phase::Pending), wanted: Said::Is(ask), turn, ..proven(OLD) }
}

fn measure(state: &str, node: impl Fn(usize) -> NodeSeen, count: usize, max_unavailable: MaxUnavailable) {
    let policy = Policy { max_unavailable, ..Policy::default() };
    let mut times = decide(node, count, &policy);
    times.sort();
    let at = |index: usize| times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    let (min, median, max) = (at(0), at(times.len() / 2), at(times.len().saturating_sub(1)));
    println!(
        "{count} nodes, {state}: {} decisions, min {min:.2} ms, median {median:.2} ms, max {max:.2} ms",
        times.len()
    );
}

fn decide(node: impl Fn(usize) -> NodeSeen, count: usize, policy: &Policy) -> Vec<Duration> {
    let mut now = Duration::from_secs(1_000);
    let epoch: Epoch = "0123456789abcdef".parse().expect("an epoch");
    let nodes = (0..count).map(|number| {
        let uid = format!("00000000-0000-0000-0000-{number:012}");
        // The servers are the last by name.
        let role = if number + 5 >= count { Role::Server } else { Role::Agent };
        (format!("node-{number:05}.example.com"), NodeSeen { uid, role, ..node(number) })
    });
    let mut fleet = Fleet {
        nodes: nodes.collect(),
        holding: Some(lease::Holding { uid: "lease".into(), epoch: epoch.clone(), renewed: now }),
        kept: LeaseKept::default(),
        retry: None,
        ledger: Ledger::default(),
        gate: None,
        policy_refused: None,
        wall: Timestamp::UNIX_EPOCH,
        waits: Waits::default(),
    };
    fleet.ledger.acquired(epoch, &fleet.nodes, &fleet.kept.out, &[], now);
    // Past what is waited after taking over.
    now += Duration::from_secs(60);
    let names: Vec<String> = fleet.nodes.keys().cloned().collect();
    let mut times = Vec::new();
    while times.len() < DECISIONS {
        now += Duration::from_secs(6);
        if let Some(holding) = &mut fleet.holding {
            holding.renewed = now;
        }
        // Something changed, else nothing would be decided.
        if let Some(seen) = names.get(times.len()).and_then(|name| fleet.nodes.get_mut(name)) {
            seen.is_cordoned = !seen.is_cordoned;
        }
        let began = Instant::now();
        fleet.ledger.observe(&fleet.nodes, now);
        let turns = next_turns(&fleet, policy, now);
        times.push(began.elapsed());
        follow(&mut fleet, turns, now);
    }
    times
}

/// Whoever gets a turn has used it before the next decision; words are written a handful at a time.
fn follow(fleet: &mut Fleet, turns: Turns, now: Duration) {
    fleet.gate =
        turns.gate.map(|ask| GateAnswer { target: ask.node, asked_at: now + Duration::from_secs(6), refusal: None });
    fleet.kept = turns.lease;
    for write in turns.writes.into_iter().take(8) {
        let Some(seen) = fleet.nodes.get_mut(&write.node) else { continue };
        match write.turn {
            Change::Keep => {}
            Change::Remove => seen.turn = Said::Nothing,
            Change::Set(word) => seen.turn = Said::Is(word),
        }
        if let Change::Set(grant) = write.grant {
            fleet.ledger.granted(&write.node, &grant.ask, now);
            seen.phase = Said::Is(Phase::Current);
            seen.revision = Said::Is(NEW.into());
            seen.answered = Said::Is(grant.ask.number.clone());
            seen.wanted = Said::Nothing;
            seen.grant = Said::Is(grant);
        }
    }
}

//! How long a decision takes: `cargo run --release -p agent-core --example fleet_time -- 5000`.
//!
//! A rollout over so many nodes, one answer at a time; prints the shortest, the mean and the longest of taking up a change and deciding.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement for a person, not part of the agent"
)]

use std::time::{Duration, Instant};

use agent_core::fleet::{Change, Fleet, GateAnswer, LeaseKept, Ledger, NodeSeen, Said, Waits, lease, next_turns};
use agent_core::grant::Ask;
use agent_core::node::annotations::Phase;
use agent_core::node::observed::Role;
use agent_core::policy::{MaxUnavailable, Policy};
use jiff::Timestamp;

const REVISION: &str = "0123456789ab";

fn node(number: usize) -> (String, NodeSeen) {
    let ask = Ask { revision: REVISION.into(), number: format!("{number:08x}") };
    let seen = NodeSeen {
        uid: format!("00000000-0000-0000-0000-{number:012}"),
        role: if number < 5 { Role::Server } else { Role::Agent },
        is_ready: true,
        is_cordoned: false,
        is_excluded: false,
        is_paused: false,
        has_agent: true,
        retry: None,
        phase: Said::Is(Phase::Pending),
        revision: Said::Is("ba9876543210".into()),
        failed: Said::Nothing,
        wanted: Said::Is(ask),
        answered: Said::Nothing,
        grant: Said::Nothing,
        turn: Said::Nothing,
    };
    (format!("node-{number:05}.example.com"), seen)
}

fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5_000);
    for (name, budget) in [("1", MaxUnavailable::Number(1)), ("10%", MaxUnavailable::Percent(10))] {
        let policy = Policy { max_unavailable: budget, ..Policy::default() };
        let times = roll_out(count, &policy);
        let longest = times.iter().max().copied().unwrap_or_default();
        let mean = times.iter().sum::<Duration>() / u32::try_from(times.len().max(1)).unwrap_or(u32::MAX);
        let shortest = times.iter().min().copied().unwrap_or_default();
        let number = times.len();
        println!(
            "{count} nodes, maxUnavailable {name}: {number} decisions, shortest {shortest:?}, mean {mean:?}, longest {longest:?}"
        );
    }
}

fn roll_out(count: usize, policy: &Policy) -> Vec<Duration> {
    let mut now = Duration::from_secs(1_000);
    let epoch: agent_core::grant::Epoch = "0123456789abcdef".parse().expect("an epoch");
    let mut fleet = Fleet {
        nodes: (0..count).map(node).collect(),
        holding: Some(lease::Holding { uid: "lease".into(), epoch: epoch.clone(), renewed: now }),
        kept: LeaseKept::default(),
        retry: None,
        ledger: Ledger::default(),
        gate: None,
        policy_refused: None,
        wall: Timestamp::UNIX_EPOCH,
        waits: Waits::default(),
    };
    fleet.ledger.acquired(epoch, &fleet.nodes, &[], now);
    now += Duration::from_secs(60);
    let mut times = Vec::new();
    // Enough to see every stage, and the first hundred of the workers.
    for _ in 0..150 {
        now += Duration::from_secs(6);
        if let Some(holding) = &mut fleet.holding {
            holding.renewed = now;
        }
        let began = Instant::now();
        fleet.ledger.observe(&fleet.nodes, now);
        let turns = next_turns(&fleet, policy, now);
        times.push(began.elapsed());
        fleet.gate = turns.gate.map(|ask| GateAnswer {
            target: ask.node,
            asked_at: now + Duration::from_secs(6),
            refusal: None,
        });
        fleet.kept = turns.lease;
        for write in turns.writes {
            let Some(seen) = fleet.nodes.get_mut(&write.node) else { continue };
            match write.turn {
                Change::Keep => {}
                Change::Remove => seen.turn = Said::Nothing,
                Change::Set(word) => seen.turn = Said::Is(word),
            }
            if let Change::Set(grant) = write.grant {
                fleet.ledger.granted(&write.node, &grant.ask, now);
                seen.phase = Said::Is(Phase::Current);
                seen.revision = Said::Is(REVISION.into());
                seen.answered = Said::Is(grant.ask.number.clone());
                seen.wanted = Said::Nothing;
                seen.grant = Said::Is(grant);
            }
        }
    }
    times
}

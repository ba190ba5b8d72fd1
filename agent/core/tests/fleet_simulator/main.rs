//! Random lives of a fleet, decided by the real `next_turns`, `Ledger` and `lease::step`, and in every fifth fleet by each
//! node's real `plan`; else the agents are stand-ins that do the steps of the exchange. Whatever happens, the promises hold
//! at every event, and once the trouble is over every node has what is wanted.
//!
//! Two things are left out of what is counted, by name (`truth.rs`): the turn of a node that was away for longer than its place
//! is kept, and of one whose Node and whose Lease were both deleted in it, once a leader that never saw it took over.
//!
//! `FLEET_SIMULATOR_SEEDS=N` lives more of them, `FLEET_SIMULATOR_SEED=S` lives one again; a failure tells its story.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod api;
mod coordinator;
mod dice;
mod life;
mod machine;
mod promises;
mod real;
mod requests;
mod standin;
mod trouble;
mod truth;
#[path = "../world/mod.rs"]
mod world;
mod writes;

use std::sync::atomic::{AtomicBool, Ordering};

use dice::Dice;
use life::{Life, Made};

const SEEDS: u64 = 2000;

#[test]
fn whatever_happens_a_fleet_keeps_the_promises_and_comes_to_rest() {
    #[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("FLEET_SIMULATOR_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FLEET_SIMULATOR_SEEDS").unwrap_or(SEEDS),
    };
    let is_broken = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for first in 0..2 {
            let (mut seeds, is_broken) = (seeds.clone().skip(first).step_by(2), &is_broken);
            scope.spawn(move || {
                let _ends = EndsTogether(is_broken);
                seeds.by_ref().take_while(|_| !is_broken.load(Ordering::Relaxed)).for_each(live);
            });
        }
    });
}

/// The panic of one thread is the failure of the test: the other need not go on.
struct EndsTogether<'a>(&'a AtomicBool);

impl Drop for EndsTogether<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

fn live(seed: u64) {
    let mut dice = Dice::new(seed ^ 0x5eed);
    let is_real = seed.is_multiple_of(5);
    let nodes = if is_real { 5 + dice.below(4) } else { 5 + dice.below(16) };
    let servers = dice.of(&[1, 2, 3, 3, 5]);
    let policy = trouble::policy(&mut dice, nodes as usize, false);
    let trouble = 3 + dice.below(60);
    Life::new(Made { seed, nodes, servers, is_real, policy, trouble }).live();
}

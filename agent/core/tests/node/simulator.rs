//! Random lives of one node, driven by the real `plan`: whatever happens, the promises hold at every step, and once the
//! trouble is over the node comes to rest. `NODE_SIMULATOR_SEEDS=N` lives more of them, `NODE_SIMULATOR_SEED=S` lives
//! one again and tells it.

use std::time::Duration;

use agent_core::node::journal::Rung;
use agent_core::node::observed::Role;
use agent_core::node::plan::{Desired, Wake};
use agent_core::node::turn::TurnSource;
use agent_core::policy::{Adopt, Drift, Mode};
use agent_core::registries::model::Registries;
use agent_core::tree::Tree;
use jiff::SignedDuration;

use crate::HOUR;
use crate::promises::{CANARY, Promises};
use crate::world::files::{meaning, model, text, tree};
use crate::world::{REFUSED, World};

const SEEDS: u64 = 300;

#[test]
fn whatever_happens_a_node_keeps_the_promises_and_comes_to_rest() {
    #[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("NODE_SIMULATOR_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("NODE_SIMULATOR_SEEDS").unwrap_or(SEEDS),
    };
    // Two lives at a time; the panic of one is the failure of the test.
    std::thread::scope(|scope| {
        for first in 0..2 {
            let seeds = seeds.clone().skip(first).step_by(2);
            scope.spawn(move || seeds.for_each(|seed| Life::new(seed).live()));
        }
    });
}

#[test]
fn a_stuck_node_that_gets_a_foreign_broken_file_tries_our_own_again() {
    // Found by a longer run: the broken file came during the last rung, and no rung was tried after it.
    Life::new(1572).live();
}

#[test]
fn a_slow_start_that_systemd_calls_active_is_not_begun_anew() {
    Life::new(504).live();
}

#[test]
fn an_ask_that_nobody_wants_any_more_does_not_stand_on() {
    // Found by a longer run: the mode became `restore`, and there was nothing to put back.
    Life::new(820).live();
}

/// SplitMix64: the same life from the same seed, on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

struct Life {
    dice: Dice,
    world: World,
    promises: Promises,
    revision: u32,
    tokens: u32,
    /// Chance that the agent dies in a pass: one in this many; never with zero.
    deadly: u64,
    /// The coordinator is at work.
    coordinator: bool,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let before = match dice.below(3) {
            0 => Tree::default(),
            1 => tree(&model("docker.io", &password(0))),
            _ => text("mirrors: {quay.io: {endpoint: [https://q.example.com]}} # mine\n"),
        };
        let mut world = World::running(before);
        world.policy.adopt = Adopt::Replace;
        world.role = if dice.one_in(3) { Role::Server } else { Role::Agent };
        world.exec_type = dice.one_in(4);
        // By the seed itself: the lives without a cluster stay what they were.
        if seed % 3 == 1 {
            world.joins();
        }
        Self { dice, world, promises: Promises::new(seed), revision: 0, tokens: 0, deadly: 0, coordinator: true }
    }

    fn live(mut self) {
        for events in 1..=self.dice.below(14) as u32 {
            self.event();
            let time = match self.dice.below(4) {
                0 => Duration::ZERO,
                1 => Duration::from_secs(self.dice.below(5)),
                2 => Duration::from_secs(self.dice.below(60)),
                _ => Duration::from_secs(self.dice.below(900)),
            };
            self.pass_for(time);
            self.promises.hold(self.world.restarts <= 4 * events + 4, &self.world, "a storm of restarts");
        }
        self.trouble_ends();
        let before = self.world.restarts;
        self.pass_for(3 * HOUR);
        let restarts = self.world.restarts - before;
        self.promises.hold(restarts <= 8, &self.world, "too many restarts after the trouble was over");
        self.at_rest();
        let story = self.world.story.len();
        self.pass_for(HOUR / 3);
        self.promises.hold(self.world.story.len() == story, &self.world, "a node at rest goes on acting");
    }

    /// Good, refused by k3s, crashing containerd, the same meaning again, with TLS files.
    fn wants(&mut self, kind: u64) {
        self.revision += 1;
        let registries = match kind {
            0 => model(REFUSED, &password(1)),
            1 => model("docker.io", "a\u{7}canary"),
            2 | 3 => model("docker.io", &password(2)),
            4 => Registries::default(),
            5 => model("quay.io", &password(3)),
            _ => model("docker.io", &password(kind)),
        };
        let note = format!("[wants r{} kind {kind}]", self.revision);
        self.world.story.push(note);
        let revision = format!("r{}", self.revision);
        if matches!(kind, 2 | 3) {
            self.world.wants_with_ca(&revision, &registries, &format!("ca {}", self.dice.below(3)));
        } else {
            self.world.wants(&revision, &registries);
        }
    }

    /// What only a node in a cluster meets.
    fn cluster_event(&mut self) {
        let kind = self.dice.below(7);
        let world = &mut self.world;
        world.story.push(format!("[cluster event {kind} at {}]", world.now.as_secs()));
        match kind {
            0 => world.cluster.away = !world.cluster.away,
            1 => world.revokes(),
            2 => world.takes_lease(),
            3 => world.cluster.lease_fails = world.cluster.lease_fails.take().xor(Some("forbidden (403)".into())),
            // The Node was deleted, and came back.
            4 => world.node.annotations.clear(),
            5 => self.coordinator = !self.coordinator,
            _ => world.cluster.lease.holder.clear(),
        }
    }

    fn event(&mut self) {
        if self.world.source == TurnSource::Coordinator && self.dice.one_in(3) {
            return self.cluster_event();
        }
        let kind = self.dice.below(22);
        let world = &mut self.world;
        world.story.push(format!("[event {kind} at {}]", world.now.as_secs()));
        match kind {
            0..=4 => {
                let kind = self.dice.below(9);
                self.wants(kind);
            }
            5 => {
                world.die();
                let away = Duration::from_secs(self.dice.below(1200));
                self.world.pass_time(away);
            }
            6 => self.deadly = [0, 3, 10][self.dice.below(3) as usize],
            7 => world.reboot(),
            8 => {
                world.supervisor_away = !world.supervisor_away;
            }
            9 => world.write(text("mirrors:\n\t- broken\n")),
            10 => world.write(Tree::default()),
            11 => world.write(tree(&model("quay.io", &password(4)))),
            12 => world.restart_by_hand(),
            13 => world.stop_by_hand(),
            14 => world.start_by_hand(),
            15 => world.policy.pause = !world.policy.pause,
            16 => {
                world.policy.mode = [Mode::Manage, Mode::Report, Mode::Restore][self.dice.below(3) as usize];
            }
            17 => {
                world.version = format!("v{}", self.dice.below(1000));
                world.restart_by_hand();
            }
            18 => world.start_takes = Duration::from_secs([0, 2, 20, 90, 400][self.dice.below(5) as usize]),
            19 => world.failing = 1 + self.dice.below(4) as u32,
            20 => {
                let by = SignedDuration::from_secs(self.dice.below(20_000) as i64 - 10_000);
                world.wall_set += by;
                world.wall_was_set = true;
            }
            _ => {
                if self.dice.one_in(2) {
                    world.gate = world.gate.take().xor(Some("server two does not answer".into()));
                } else {
                    self.tokens += 1;
                    let token = format!("token-{}", self.tokens);
                    world.node.annotations.insert("k3s-registry-agent/retry".into(), token);
                }
            }
        }
    }

    fn trouble_ends(&mut self) {
        let world = &mut self.world;
        world.story.push(format!("[the trouble is over at {}]", world.now.as_secs()));
        world.supervisor_away = false;
        world.start_takes = Duration::from_secs(2);
        world.failing = 0;
        world.gate = None;
        world.cluster.away = false;
        world.cluster.lease_fails = None;
        if world.source == TurnSource::Coordinator {
            world.takes_lease();
        }
        self.coordinator = true;
        world.policy.pause = false;
        world.policy.drift = Drift::Restore;
        world.start_by_hand();
        self.deadly = 0;
    }

    /// Passes as the agent does, for this long.
    fn pass_for(&mut self, time: Duration) {
        let until = self.world.now + time;
        let mut busy = 0;
        loop {
            let dies_after = (self.deadly > 0 && self.dice.one_in(self.deadly)).then(|| self.dice.below(4) as usize);
            if self.coordinator {
                self.world.coordinates();
            }
            let plan = self.promises.pass(&mut self.world, dies_after);
            let wake = if self.world.failed { Wake::After(Duration::from_secs(2)) } else { plan.wake };
            if dies_after.is_some() && !plan.steps.is_empty() {
                let away = self.dice.below(10);
                self.world.pass_time(Duration::from_secs(if away == 0 { 300 } else { away }));
            }
            match wake {
                Wake::Now => {
                    busy += 1;
                    self.promises.hold(busy < 20, &self.world, "a loop without time");
                }
                Wake::After(_) if self.world.now >= until => return,
                Wake::After(time) => {
                    busy = 0;
                    let left = until - self.world.now;
                    // An agent is not always as quick as it wants to be.
                    let late = Duration::from_millis([500, 8000][usize::from(!self.dice.one_in(5))]);
                    // Nobody needs to see every minute of a node at rest.
                    let is_long = time >= Duration::from_secs(60) && left > HOUR / 4;
                    let late = if is_long { HOUR / 12 } else { late };
                    self.world.pass_time(time.max(late).min(left).max(Duration::from_millis(500)));
                }
            }
        }
    }

    /// Where a node may stand once the trouble is over.
    fn at_rest(&mut self) {
        let plan = self.promises.pass(&mut self.world, None);
        let world = &self.world;
        let record = world.record.clone().unwrap_or_default();
        let stuck = record.intent.as_ref().is_some_and(|intent| intent.rung == Rung::Stuck);
        let hold = |holds: bool, what: &str| {
            if !holds {
                self.promises.hold(holds, world, &format!("{what}: {plan:?}"));
            }
        };
        hold(!stuck, "stuck although a node without a file runs here");
        hold(record.intent.is_none(), "an intent is still open");
        let is_asking = record.asked.is_some() || world.says("wanted").is_some();
        hold(!is_asking || plan.phase.as_str() == "Pending", "an ask still stands");
        let in_cluster = world.source == TurnSource::Coordinator;
        hold(!in_cluster || world.says("phase") == Some(plan.phase.as_str()), "the Node says something else");
        hold(world.says("answered").map(String::from).as_ref() == record.asks_used.last() || !in_cluster, "answered");
        hold(world.armed.is_none() && !world.fired, "the guard is still armed or left something");
        // A node that we never managed, or are only to report of, stays as it was found.
        let ours = record.applied.is_some() && world.policy.mode != Mode::Report;
        hold(world.is_up() || !ours, "the node is not up");
        hold(plan.steps.is_empty(), "something is still to be done");
        let promised = match (&world.policy.mode, &world.desired) {
            (Mode::Manage, Desired::Ready(_)) => ["Current", "RolledBack"].contains(&plan.phase.as_str()),
            // A file that k3s cannot read is kept and not rolled out.
            (Mode::Restore, _) if world.original.as_ref().is_some_and(|tree| meaning(tree).is_none()) => true,
            (Mode::Restore, _) => plan.phase.as_str() == "Current",
            (Mode::Report | Mode::Manage, _) => true,
        };
        hold(promised, "the desired configuration did not arrive");
        if plan.phase.as_str() == "RolledBack" {
            // Whoever failed must have had a reason, and what lies there was proven before.
            let Desired::Ready(wanted) = &world.desired else { return hold(false, "rolled back from nothing") };
            hold(record.failed.iter().any(|failed| failed.model == world.key().model(&wanted.registries)), "why");
            hold(plan.failed.as_deref() == Some(wanted.revision.as_str()), "the failed revision is not told");
        }
    }
}

/// With a canary in it, so that a leak is found.
fn password(number: u64) -> String {
    format!("{CANARY}-{number}")
}

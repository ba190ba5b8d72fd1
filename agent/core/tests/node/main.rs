//! One node, driven by the real `plan` through everything that can happen to it, alone and in a cluster.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod counted;
mod drift;
mod faults;
mod killed;
mod others;
mod preflight;
mod promises;
mod pulls;
mod rest;
mod restraint;
mod rollout;
mod simulator;
mod turns;
#[path = "../world/mod.rs"]
mod world;

use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);

//! Somebody else writes the file of a node.

use std::time::Duration;

use agent_core::node::annotations::Phase;
use agent_core::policy::{Drift, Mode};

use crate::world::World;
use crate::world::files::{first, second, text, tree};
use crate::{LONG, MINUTE};

#[test]
fn drift_that_was_not_loaded_is_restored_without_a_restart() {
    let mut world = World::managed();
    world.disk = text("mirrors: {}\n");
    let plan = world.settle(MINUTE);
    assert_eq!((plan.phase, world.restarts), (Phase::Current, 1), "{}", world.told());
    assert_eq!(world.disk, tree(&first()));
}

#[test]
fn a_file_that_somebody_opened_to_others_is_closed_without_a_restart_and_not_for_ever() {
    let mut world = World::managed();
    for restores in 1..=5 {
        world.mode = 0o644;
        let plan = world.settle(MINUTE);
        assert_eq!((plan.phase, world.restarts), (Phase::Current, 1), "{}", world.told());
        // Whoever opens it again and again wins, and it costs nothing more.
        let is_closed = restores <= 3;
        assert_eq!(world.mode, if is_closed { 0o600 } else { 0o644 }, "{restores}");
    }
    world.pass_time(120 * MINUTE);
    world.settle(MINUTE);
    assert_eq!(world.mode, 0o600);
    for (drift, mode) in [(Drift::Report, Mode::Manage), (Drift::Restore, Mode::Report)] {
        let mut world = World::managed();
        (world.policy.drift, world.policy.mode, world.mode) = (drift, mode, 0o644);
        world.settle(MINUTE);
        assert_eq!(world.mode, 0o644);
    }
}

#[test]
fn a_file_that_was_there_before_us_keeps_its_mode() {
    let mut world = World::running(tree(&first()));
    world.mode = 0o644;
    world.wants("r1", &first());
    assert_eq!(world.settle(MINUTE).phase, Phase::Current, "{}", world.told());
    assert_eq!((world.mode, world.restarts), (0o644, 0));
}

#[test]
fn drift_that_was_loaded_costs_a_turn() {
    let mut world = World::managed();
    world.disk = tree(&second());
    world.restart_by_hand();
    world.pass_time(MINUTE);
    assert_eq!(world.loaded(), Some(&second()));
    let plan = world.settle(LONG);
    assert_eq!((plan.phase, world.restarts), (Phase::Current, 2), "{}: {}", plan.reason, world.told());
    assert_eq!(world.loaded(), Some(&first()));
    world.assert_at_rest();
}

#[test]
fn drift_is_only_reported_if_the_policy_says_so() {
    let mut world = World::managed();
    world.policy.drift = Drift::Report;
    world.disk = text("mirrors: {}\n");
    let plan = world.settle(MINUTE);
    assert!(plan.reason.contains("only reports"), "{}", plan.reason);
    assert_eq!(world.disk, text("mirrors: {}\n"));
}

#[test]
fn a_writer_who_fights_us_is_named_and_not_fought_for_ever() {
    let mut world = World::managed();
    for _ in 0..3 {
        world.disk = text("mirrors: {}\n");
        assert_eq!(world.settle(MINUTE).phase, Phase::Current, "{}", world.told());
        world.pass_time(MINUTE);
    }
    world.disk = text("mirrors: {}\n");
    let plan = world.settle(MINUTE);
    assert_eq!(plan.phase, Phase::Invalid);
    assert!(plan.reason.contains("uid 0") && plan.reason.len() <= 256, "{}", plan.reason);
    world.pass_time(Duration::from_secs(3600));
    assert_eq!(world.settle(MINUTE).phase, Phase::Current, "an hour without a foreign write ends it");
}

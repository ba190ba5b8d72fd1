//! The process dies after any step: the next one ends what was begun.

use std::time::Duration;

use agent_core::node::annotations::Phase;
use agent_core::node::plan::Wake;
use agent_core::node::turn::TurnSource;

use crate::world::files::{first, model, second, text, tree};
use crate::world::{REFUSED, World};
use crate::{LONG, MINUTE};

#[test]
fn killed_after_any_step_of_a_rollout_it_ends_the_same() {
    for dies_after in 0..40 {
        let mut world = World::managed();
        let restarts = world.restarts;
        world.wants("r2", &second());
        let died = die_once(&mut world, dies_after);
        let plan = world.settle(Duration::from_secs(3600));
        assert_eq!((plan.phase, plan.revision.as_deref()), (Phase::Current, Some("r2")), "{}", world.told());
        world.assert_at_rest();
        assert_eq!(world.loaded(), Some(&second()));
        assert_eq!(world.previous, Some(tree(&second())), "{}", world.told());
        assert!(world.restarts <= restarts + 2, "too many restarts: {}", world.told());
        if !died {
            assert!(dies_after > 5, "the rollout had only {dies_after} steps");
            return;
        }
    }
    panic!("the rollout never ended");
}

#[test]
fn killed_after_any_step_of_an_undo_it_ends_the_same() {
    for dies_after in 0..60 {
        let mut world = World::managed();
        world.wants("r2", &model(REFUSED, "two"));
        let died = die_once(&mut world, dies_after);
        let plan = world.settle(Duration::from_secs(7200));
        assert_eq!(plan.phase, Phase::RolledBack, "dies after {dies_after}: {}: {}", plan.reason, world.told());
        assert_eq!((plan.revision.as_deref(), plan.failed.as_deref()), (Some("r1"), Some("r2")));
        world.assert_at_rest();
        assert!(world.is_up());
        assert_eq!(world.disk, tree(&first()), "{}", world.told());
        if !died {
            return;
        }
    }
    panic!("the undo never ended");
}

#[test]
fn a_killed_agent_that_never_comes_back_leaves_a_working_node() {
    let mut world = World::managed();
    world.wants("r2", &model(REFUSED, "two"));
    while !world.story.contains(&"replace".to_owned()) || world.is_up() {
        world.pass(None);
    }
    world.die();
    world.pass_time(LONG);
    assert!(world.is_up(), "the guard put the earlier file back: {}", world.told());
    assert_eq!(world.disk, tree(&first()));
    // And when it does come back it goes on from what it sees.
    let plan = world.settle(Duration::from_secs(7200));
    assert_eq!(plan.phase, Phase::RolledBack, "{}", plan.reason);
    world.assert_at_rest();
}

#[test]
fn killed_after_any_step_of_a_drift_restore_only_the_proven_file_is_put_back() {
    for dies_after in 0..40 {
        let mut world = World::managed();
        world.disk = tree(&second());
        world.restart_by_hand();
        world.pass_time(MINUTE);
        let died = die_once(&mut world, dies_after);
        // Somebody writes while nobody watches, too.
        if died && dies_after % 2 == 1 {
            world.disk = text("mirrors: {}\n");
        }
        for _ in 0..200 {
            let plan = world.pass(None);
            assert_ne!(plan.phase, Phase::Stuck, "dies after {dies_after}: {}", world.told());
            let original = world.original.clone().unwrap();
            assert_ne!(world.disk, original, "dies after {dies_after}: {}", world.told());
            if let Wake::After(time) = plan.wake {
                world.pass_time(time.min(Duration::from_secs(1)));
            }
        }
        let plan = world.settle(Duration::from_secs(3600));
        assert_eq!(plan.phase, Phase::Current, "dies after {dies_after}: {}: {}", plan.reason, world.told());
        assert_eq!((&world.disk, world.loaded()), (&tree(&first()), Some(&first())), "dies after {dies_after}");
        world.assert_at_rest();
        if !died {
            assert!(dies_after > 3, "the restore had only {dies_after} steps");
            return;
        }
    }
    panic!("the restore never ended");
}

#[test]
fn a_node_that_is_down_on_a_hand_edit_is_healed_without_a_turn_and_even_when_paused() {
    for dies_after in 0..12 {
        let mut world = World::managed();
        world.policy.pause = true;
        world.source = TurnSource::Coordinator;
        world.disk = text("mirrors:\n\t- broken\n");
        world.restart_by_hand();
        world.pass_time(Duration::from_secs(20));
        assert!(!world.is_up());
        die_once(&mut world, dies_after);
        let plan = world.settle(LONG);
        assert!(world.is_up(), "{}", world.told());
        assert_eq!((plan.phase, world.restarts), (Phase::Current, 1), "{}: {}", plan.reason, world.told());
        assert_eq!(world.loaded(), Some(&first()));
        world.assert_at_rest();
    }
}

/// Passes until the n-th step overall, dies there, and is away for a moment. False if there are fewer steps.
pub(crate) fn die_once(world: &mut World, dies_after: usize) -> bool {
    let mut left = dies_after;
    for _ in 0..400 {
        let before = world.story.len();
        let plan = world.pass(Some(left));
        let done = world.story.len() - before;
        if left <= plan.steps.len() && !plan.steps.is_empty() {
            world.pass_time(Duration::from_secs(3));
            return true;
        }
        left -= done;
        if let Wake::After(time) = plan.wake {
            if plan.steps.is_empty() && world.record.as_ref().unwrap().intent.is_none() {
                return false;
            }
            world.pass_time(time.min(Duration::from_secs(1)));
        }
    }
    false
}

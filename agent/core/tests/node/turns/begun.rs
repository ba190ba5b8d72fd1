//! What becomes of a turn that was begun, whatever the gate, the Lease and the API server do.

use std::time::Duration;

use agent_core::node::annotations::Phase;
use agent_core::node::heard::Inquiry;
use agent_core::node::observed::Role;
use agent_core::node::plan::Step;

use super::{asking, assert_gives_it_up, granted, until_it_asks_for};
use crate::world::REFUSED;
use crate::world::files::{first, model, second, text, tree};
use crate::{HOUR, MINUTE};

#[test]
fn a_server_is_begun_with_only_when_its_gate_was_open_a_moment_ago() {
    let mut world = asking(Role::Server);
    world.gate = Some("the API server of s2 (10.0.0.2) answers 500".into());
    world.grants();
    assert_gives_it_up(&mut world, "the API server of s2");
    world.gate = None;
    let plan = world.settle_in_cluster(HOUR);
    assert_eq!((plan.phase, world.restarts), (Phase::Current, 2), "{}: {}", plan.reason, world.told());
    // A gate that was open five seconds ago is asked again.
    let mut world = asking(Role::Server);
    world.grants();
    until_it_asks_for(&mut world, Inquiry::Turn { cures: false });
    world.failing = 1;
    world.pass(None);
    world.pass_time(Duration::from_secs(6));
    let plan = world.pass(None);
    assert_eq!((plan.inquiry, plan.steps.len()), (Some(Inquiry::Turn { cures: false }), 0), "{}", plan.reason);
}

#[test]
fn an_undo_restart_of_a_server_waits_for_its_gate_and_for_nothing_else() {
    let mut world = asking(Role::Server);
    world.grants();
    while world.restarts == 1 {
        world.pass(None);
    }
    world.pass_time(Duration::from_secs(5));
    // What is loaded must be undone by a restart.
    world.write(text("mirrors: {}\n"));
    world.gate = Some("server two does not answer".into());
    world.takes_lease();
    for _ in 0..60 {
        world.pass(None);
        world.pass_time(Duration::from_secs(1));
    }
    assert_eq!((world.restarts, &world.disk, world.says("phase")), (2, &tree(&first()), Some("Proving")));
    assert!(world.says("reason").unwrap().contains("server two"), "{:?}", world.says("reason"));
    world.gate = None;
    world.pass_time(Duration::from_secs(10));
    let steps: Vec<Step> = (0..4).flat_map(|_| world.pass(None).steps).collect();
    assert_eq!(world.restarts, 3, "the gate is open, and no Lease is asked for: {}", world.told());
    let turn = steps.iter().find_map(|step| match step {
        Step::Restart(turn) => Some(turn),
        _ => None,
    });
    let turn = turn.expect("it was ordered");
    assert!(!turn.is_over(world.now) && turn.is_over(world.now + Duration::from_secs(6)), "not for ever: {turn:?}");
}

#[test]
fn an_undo_works_with_the_api_gone_and_is_told_when_it_is_back() {
    for role in [Role::Agent, Role::Server] {
        let mut world = asking(role);
        world.wants("r2", &model(REFUSED, "two"));
        world.pass(None);
        world.grants();
        while world.restarts == 1 {
            world.pass(None);
        }
        world.cluster.away = true;
        for _ in 0..600 {
            world.pass(None);
            world.pass_time(Duration::from_secs(1));
        }
        assert!(world.is_up(), "{}", world.told());
        assert_eq!((&world.disk, world.restarts), (&tree(&first()), 2), "{}", world.told());
        assert_eq!(world.says("phase"), Some("Applying"), "nobody could be told");
        world.cluster.away = false;
        world.settle_in_cluster(MINUTE);
        assert_eq!((world.says("phase"), world.says("failed")), (Some("RolledBack"), Some("r2")), "{}", world.told());
        world.assert_at_rest();
    }
}

#[test]
fn an_api_that_is_away_for_ten_minutes_after_a_servers_restart_is_waited_for() {
    for minutes in [10, 40] {
        let mut world = asking(Role::Server);
        world.grants();
        while world.restarts == 1 {
            world.pass(None);
        }
        world.cluster.away = true;
        for _ in 0..minutes * 60 {
            world.pass(None);
            world.pass_time(Duration::from_secs(1));
        }
        let is_patient = minutes == 10;
        assert_eq!(world.disk == tree(&second()), is_patient, "{minutes}: {}", world.told());
        assert!(world.record.as_ref().unwrap().failed.is_empty(), "an absent API is no proof against a file");
        world.cluster.away = false;
        world.settle_in_cluster(HOUR);
        assert_eq!((world.says("phase"), world.says("revision")), (Some("Current"), Some("r2")), "{minutes}");
    }
}

#[test]
fn a_lease_that_was_renewed_before_the_restart_proves_nothing_after_it() {
    let mut world = granted();
    while world.restarts == 1 {
        world.pass(None);
    }
    assert!(
        world
            .record
            .as_ref()
            .unwrap()
            .intent
            .as_ref()
            .unwrap()
            .passed_before
            .iter()
            .any(|check| check.to_string() == "node Lease"),
        "it was renewed before, and is demanded after"
    );
    // Up again, but the API server hears nothing of it.
    world.cluster.away = true;
    for _ in 0..60 {
        world.pass(None);
        world.pass_time(Duration::from_millis(500));
    }
    assert!(world.is_up());
    assert!(world.record.as_ref().unwrap().intent.is_some(), "not proven yet");
    world.cluster.away = false;
    let plan = world.settle_in_cluster(MINUTE);
    assert_eq!(plan.phase, Phase::Current);
    assert!(plan.reason.starts_with("proven by"), "{}", plan.reason);
    let evidence = world.record.as_ref().unwrap().applied.clone().unwrap().evidence;
    assert!(evidence.iter().any(|check| check.to_string() == "node Ready"), "{evidence:?}");
}

#[test]
fn a_pause_does_not_reach_a_turn_that_was_begun() {
    let mut world = granted();
    while world.restarts == 1 {
        world.pass(None);
    }
    world.policy.pause = true;
    world.annotate("pause", Some("true"));
    world.ending = true;
    world.annotate("grant", None);
    world.takes_lease();
    let plan = world.pass(None);
    assert_eq!(plan.phase, Phase::Proving);
    world.settle(HOUR);
    assert_eq!((world.restarts, world.loaded()), (2, Some(&second())), "{}", world.told());
}

#[test]
fn a_node_killed_after_any_step_of_a_granted_turn_ends_the_same() {
    for role in [Role::Agent, Role::Server] {
        for dies_in in 0..30 {
            let mut world = asking(role);
            world.grants();
            for _ in 0..dies_in / 3 {
                world.pass(None);
                world.pass_time(Duration::from_millis(500));
            }
            world.pass(Some(dies_in % 3));
            world.die();
            world.pass_time(Duration::from_secs(3));
            let plan = world.settle_in_cluster(HOUR);
            assert_eq!((plan.phase, plan.revision.as_deref()), (Phase::Current, Some("r2")), "{}", world.told());
            world.assert_at_rest();
            assert!(world.restarts <= 3, "{dies_in}: {}", world.told());
            assert_eq!(world.says("wanted"), None);
        }
    }
}

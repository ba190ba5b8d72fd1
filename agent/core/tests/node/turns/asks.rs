//! What a node asks: how long an ask stands, and when it is not asked, or asked anew.

use std::time::Duration;

use agent_core::node::annotations::Phase;
use agent_core::node::observed::Role;
use agent_core::node::plan::Wake;

use super::{asking, granted, replaced};
use crate::world::files::{first, second, text, tree};
use crate::{HOUR, MINUTE};

#[test]
fn a_refused_credential_ends_the_turn_and_halts_the_revision_without_calling_the_model_bad() {
    let mut world = granted();
    world.cluster.refused = Some("m.example.com refuses the credential of u".into());
    for _ in 0..4 {
        assert!(!replaced(&world.pass(None)));
    }
    assert_eq!((world.says("phase"), world.says("failed"), world.says("wanted")), (Some("Invalid"), Some("r2"), None));
    let record = world.record.clone().unwrap();
    assert!(record.failed.is_empty() && record.asked.is_none());
    world.cluster.refused = None;
    let plan = world.settle_in_cluster(HOUR);
    assert_eq!((plan.phase, plan.failed.as_deref(), world.restarts), (Phase::Invalid, Some("r2"), 1), "no lock-out");
    world.annotate("retry", Some("again"));
    assert_eq!(world.settle_in_cluster(HOUR).phase, Phase::Current, "{}", world.told());
}

#[test]
fn a_standing_ask_survives_the_process_and_the_node_object() {
    let mut world = asking(Role::Agent);
    let wanted = world.says("wanted").unwrap().to_owned();
    let revision = world.says("revision").unwrap().to_owned();
    world.die();
    world.node.annotations.clear();
    world.pass(None);
    assert_eq!(world.says("wanted"), Some(wanted.as_str()));
    assert_eq!((world.says("revision"), world.says("phase")), (Some(revision.as_str()), Some("Pending")));
    assert!(world.says("answered").is_some(), "from the journal");
}

#[test]
fn a_node_that_was_called_absent_draws_a_new_number_once_a_minute() {
    let mut world = asking(Role::Agent);
    let number = world.says("wanted").unwrap().to_owned();
    world.grants();
    // Nobody answers in time.
    world.pass_time(MINUTE);
    world.revokes();
    world.pass(None);
    let next = world.says("wanted").unwrap().to_owned();
    assert_ne!(next, number);
    for _ in 0..50 {
        world.pass(None);
        world.pass_time(Duration::from_secs(1));
    }
    assert_eq!(world.says("wanted"), Some(next.as_str()), "and not again and again");
    // The coordinator granted and took away that one, too, and is seen only now.
    world.cluster.ledger.insert(next[3..].to_owned());
    let plan = world.pass(None);
    assert!(matches!(plan.wake, Wake::After(left) if left <= Duration::from_secs(10)), "{:?}", plan.wake);
    world.pass_time(Duration::from_secs(10));
    world.pass(None);
    assert_ne!(world.says("wanted"), Some(next.as_str()));
    assert_eq!(world.settle_in_cluster(HOUR).phase, Phase::Current);
}

#[test]
fn grants_of_no_use_are_not_asked_for_in_a_tight_loop() {
    let mut world = asking(Role::Agent);
    world.cluster.lease_fails = Some("the API server forbids it (403)".into());
    let before = world.cluster.ledger.len();
    for _ in 0..1200 {
        world.coordinates();
        world.pass(None);
        world.pass_time(Duration::from_millis(500));
    }
    let asked = world.cluster.ledger.len() - before;
    assert!((3..=8).contains(&asked), "{asked} asks in ten minutes");
    world.cluster.lease_fails = None;
    assert_eq!(world.settle_in_cluster(HOUR).phase, Phase::Current);
}

#[test]
fn a_paused_or_ending_agent_answers_a_grant_and_takes_none() {
    for is_ending in [true, false] {
        let mut world = granted();
        let number = world.says("grant").unwrap()[3..11].to_owned();
        world.ending = is_ending;
        world.policy.pause = !is_ending;
        world.pass(None);
        assert_eq!((world.says("answered"), world.says("wanted")), (Some(number.as_str()), None));
        assert_eq!(world.says("phase"), Some(if is_ending { "Pending" } else { "Paused" }));
        // And in the middle of the exchange.
        let mut world = granted();
        world.pass(None);
        assert_eq!(world.says("phase"), Some("Applying"));
        world.ending = is_ending;
        world.policy.pause = !is_ending;
        world.pass(None);
        assert_eq!(world.says("phase"), Some(if is_ending { "Pending" } else { "Paused" }));
        assert_eq!((world.record.as_ref().unwrap().asked.as_ref(), world.restarts), (None, 1));
    }
}

#[test]
fn drift_that_was_loaded_asks_for_a_turn_and_a_node_that_is_down_does_not() {
    let mut world = asking(Role::Agent);
    world.settle_in_cluster(HOUR);
    world.write(tree(&first()));
    world.restart_by_hand();
    world.pass_time(MINUTE);
    world.pass(None);
    assert!(world.says("wanted").unwrap().starts_with("r2/"), "{:?}", world.says("reason"));
    assert_eq!(world.restarts, 2);
    world.cluster.refused = Some("no".into());
    let plan = world.settle_in_cluster(HOUR);
    assert_eq!((plan.phase, world.restarts, world.loaded()), (Phase::Current, 3, Some(&second())), "{}", plan.reason);
    world.write(text("mirrors:\n\t- broken\n"));
    world.restart_by_hand();
    world.pass_time(Duration::from_secs(20));
    world.cluster.away = true;
    world.settle(HOUR);
    assert!(world.is_up() && world.restarts == 3, "{}", world.told());
    world.cluster.away = false;
    world.pass(None);
    assert_eq!((world.says("phase"), world.says("wanted")), (Some("Current"), None));
}

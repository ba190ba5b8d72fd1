//! A node in a cluster: what it asks, which grants it takes, and what it does with those that it may not use.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod world;

use std::time::Duration;

use agent_core::node::annotations::Phase;
use agent_core::node::heard::Inquiry;
use agent_core::node::observed::Role;
use agent_core::node::plan::{Desired, Plan, Step, Wake};
use agent_core::tree::Tree;
use world::files::{first, model, second, text, tree};
use world::{REFUSED, World};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A node of a cluster on which `first` is proven, and which asks for `second`.
fn asking(role: Role) -> World {
    let mut world = World::running(Tree::default());
    world.role = role;
    world.joins();
    world.wants("r1", &first());
    let plan = world.settle_in_cluster(HOUR);
    assert_eq!(
        (plan.phase, plan.revision.as_deref(), world.restarts),
        (Phase::Current, Some("r1"), 1),
        "{}",
        plan.reason
    );
    world.coordinates();
    assert_eq!((world.says("grant"), world.says("wanted")), (None, None), "nothing is left of the first turn");
    world.wants("r2", &second());
    world.pass(None);
    assert!(world.says("wanted").unwrap().starts_with("r2/"));
    world
}

fn granted() -> World {
    let mut world = asking(Role::Agent);
    assert!(world.grants());
    world
}

/// Passes until the plan wants to know something.
fn until_it_asks_for(world: &mut World, what: Inquiry) {
    for _ in 0..20 {
        if world.pass(None).inquiry == Some(what) {
            return;
        }
    }
    panic!("it never asked: {}", world.told());
}

fn replaced(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| matches!(step, Step::Replace(_) | Step::Restart(_)))
}

/// The grant that the node has is of no use: nothing is touched, the ask is used, answered, and another stands.
fn assert_gives_it_up(world: &mut World, because: &str) {
    let restarts = world.restarts;
    let used = world.says("grant").map_or_else(String::new, |grant| grant[3..11].to_owned());
    for _ in 0..6 {
        let plan = world.pass(None);
        assert!(!replaced(&plan), "{because}: {}", world.told());
        if world.says("phase") == Some("Pending") {
            break;
        }
    }
    let reason = world.says("reason").unwrap().to_owned();
    assert_eq!(world.says("phase"), Some("Pending"), "{because}: {reason}");
    assert!(reason.contains(because), "{because}: {reason}");
    let record = world.record.clone().unwrap();
    assert!(used.is_empty() || record.asks_used.contains(&used), "{because}: it stays used");
    assert!(used.is_empty() || world.says("answered") == Some(&used), "{because}: it is answered");
    let asked = record.asked.expect("a new ask follows");
    assert!(!record.asks_used.contains(&asked.number), "{because}: a new number");
    assert_eq!(world.says("wanted").map(str::to_owned), Some(asked.to_string()), "{because}: in the same patch");
    assert_eq!((world.restarts, &world.disk), (restarts, &tree(&first())), "{because}");
    // The old grant still stands there, and is looked at again and again.
    for _ in 0..5 {
        assert!(!replaced(&world.pass(None)), "{because}: {}", world.told());
        world.pass_time(Duration::from_secs(5));
    }
}

#[test]
fn a_granted_turn_is_written_down_then_said_then_asked_for_and_only_then_used() {
    let mut world = granted();
    let number = world.says("grant").unwrap()[3..11].to_owned();
    let patches = world.cluster.patches;
    let plan = world.pass(None);
    let used = |step: &Step| matches!(step, Step::Record(record) if record.asks_used.contains(&number));
    assert!(plan.steps.len() == 1 && used(&plan.steps[0]), "first the journal, and nothing else");
    assert_eq!((plan.phase, plan.inquiry), (Phase::Applying, Some(Inquiry::Inputs)));
    assert_eq!((world.says("phase"), world.says("answered")), (Some("Applying"), Some(number.as_str())));
    assert_eq!(world.cluster.patches, patches + 1);
    for inquiry in [Inquiry::Preflight, Inquiry::Turn { cures: false }] {
        let plan = world.pass(None);
        assert_eq!((plan.phase, plan.inquiry, plan.steps.len()), (Phase::Applying, Some(inquiry), 0));
    }
    let plan = world.pass(None);
    assert!(replaced(&plan), "{plan:?}");
    let intent = world.record.as_ref().unwrap().intent.clone().unwrap();
    assert_eq!(intent.ask, number);
    let plan = world.settle_in_cluster(HOUR);
    assert_eq!((plan.phase, plan.revision.as_deref(), world.restarts), (Phase::Current, Some("r2"), 2));
    assert_eq!((world.says("wanted"), world.says("answered")), (None, Some(number.as_str())), "answered stays");
    assert_eq!(world.record.as_ref().unwrap().asked, None);
    assert!(plan.reason.is_empty() || world.says("revision") == Some("r2"));
}

#[test]
fn a_used_ask_is_never_honoured_again() {
    // The process dies after it was written down; after the Node said it; after each answer that it got.
    for passes in 0..4 {
        let mut world = granted();
        if passes == 0 {
            world.pass(Some(1));
        }
        for _ in 0..passes {
            assert!(!replaced(&world.pass(None)));
        }
        world.die();
        assert!(world.says("grant").is_some(), "the grant still stands on the Node");
        assert_gives_it_up(&mut world, "the Node does not say");
        let plan = world.settle_in_cluster(HOUR);
        assert_eq!((plan.phase, world.restarts), (Phase::Current, 2), "{passes}: {}", world.told());
    }
    // Nor by a Node that came back with all that it said.
    let mut world = granted();
    let before = world.node.clone();
    world.settle_in_cluster(HOUR);
    world.wants("r3", &model("quay.io", "three"));
    world.node = before;
    for _ in 0..20 {
        world.pass(None);
        world.pass_time(Duration::from_secs(1));
    }
    assert_eq!((world.restarts, world.says("phase")), (2, Some("Pending")), "{}", world.told());
}

#[test]
fn a_grant_of_another_epoch_is_void() {
    for takes_over in [true, false] {
        let mut world = granted();
        until_it_asks_for(&mut world, Inquiry::Turn { cures: false });
        if takes_over {
            world.takes_lease();
        } else {
            world.cluster.lease.epoch = None;
        }
        assert_gives_it_up(&mut world, "another epoch");
    }
}

#[test]
fn a_lease_that_nobody_holds_or_that_cannot_be_read_is_a_no() {
    let mut world = granted();
    world.cluster.lease.holder.clear();
    assert_gives_it_up(&mut world, "nobody holds");
    let mut world = granted();
    world.cluster.lease_fails = Some("the API server forbids it (403)".into());
    assert_gives_it_up(&mut world, "cannot read the coordinator's Lease: the API server forbids it (403)");
}

#[test]
fn a_grant_for_another_revision_is_answered_and_not_taken() {
    let mut world = asking(Role::Agent);
    let number = world.says("wanted").unwrap()[3..].to_owned();
    world.annotate("grant", Some(&format!("r9/{number}@0000000000000001")));
    let plan = world.pass(None);
    assert_eq!((plan.phase, plan.answered.as_deref()), (Phase::Pending, Some(number.as_str())), "{}", plan.reason);
    world.pass(None);
    assert!(!world.says("wanted").unwrap().ends_with(&number), "another number is drawn");
    assert_eq!(world.restarts, 1);
}

#[test]
fn a_grant_that_comes_when_the_ask_is_replaced_is_answered_in_the_same_patch() {
    let mut world = granted();
    let number = world.says("grant").unwrap()[3..11].to_owned();
    world.wants("r3", &model("quay.io", "three"));
    let patches = world.cluster.patches;
    world.pass(None);
    assert_eq!(world.cluster.patches, patches + 1);
    assert_eq!((world.says("answered"), world.says("phase")), (Some(number.as_str()), Some("Pending")));
    assert!(world.says("wanted").unwrap().starts_with("r3/"), "{:?}", world.says("wanted"));
}

#[test]
fn nothing_is_asked_and_nothing_done_before_the_node_says_that_it_answered() {
    let mut world = granted();
    world.cluster.away = true;
    let plan = world.pass(None);
    assert_eq!(plan.phase, Phase::Applying);
    world.cluster.away = false;
    assert_gives_it_up(&mut world, "the Node does not say");
}

#[test]
fn inputs_that_changed_under_the_grant_are_asked_for_anew() {
    let mut world = granted();
    let newer = Desired::Ready(Box::new({
        let mut other = World::running(Tree::default());
        other.wants("r3", &model("quay.io", "three"));
        let Desired::Ready(wanted) = other.desired else { panic!("it wants something") };
        *wanted
    }));
    world.cluster.fresh = Some(newer);
    world.pass(None);
    let plan = world.pass(None);
    assert_eq!(plan.phase, Phase::Pending, "{}", plan.reason);
    assert!(world.says("wanted").unwrap().starts_with("r3/"));
    assert_eq!((world.restarts, &world.disk), (1, &tree(&first())));
    assert_eq!(world.settle_in_cluster(HOUR).revision.as_deref(), Some("r3"));
    // They cannot be read.
    let mut world = granted();
    world.pass(None);
    world.cluster.away = true;
    world.pass(None);
    world.cluster.away = false;
    assert_gives_it_up(&mut world, "the inputs could not be read again");
}

#[test]
fn a_turn_that_ran_out_is_asked_for_again() {
    let mut world = granted();
    until_it_asks_for(&mut world, Inquiry::Turn { cures: false });
    world.failing = 1;
    let plan = world.pass(None);
    assert!(world.failed && replaced(&plan), "the first step failed");
    // The process was stopped for longer than a turn holds.
    world.pass_time(Duration::from_secs(31));
    let plan = world.pass(None);
    assert_eq!((plan.inquiry, plan.steps.len()), (Some(Inquiry::Turn { cures: false }), 0), "{}", plan.reason);
    assert!(replaced(&world.pass(None)), "and given again");
    // The same, and it was withdrawn meanwhile.
    let mut world = granted();
    until_it_asks_for(&mut world, Inquiry::Turn { cures: false });
    world.failing = 1;
    world.pass(None);
    world.pass_time(Duration::from_secs(31));
    world.takes_lease();
    assert_gives_it_up(&mut world, "another epoch");
}

#[test]
fn a_restart_that_is_ordered_again_needs_the_lease_again() {
    for is_withdrawn in [false, true] {
        let mut world = granted();
        until_it_asks_for(&mut world, Inquiry::Turn { cures: false });
        world.failing_restarts = 1;
        world.pass(None);
        assert_eq!((world.restarts, &world.disk), (1, &tree(&second())), "{}", world.told());
        if is_withdrawn {
            world.takes_lease();
        }
        world.pass_time(Duration::from_secs(31));
        for _ in 0..20 {
            world.pass(None);
            world.pass_time(Duration::from_secs(1));
        }
        let (restarts, tree) = if is_withdrawn { (1, tree(&first())) } else { (2, tree(&second())) };
        assert_eq!((world.restarts, &world.disk), (restarts, &tree), "{}", world.told());
        let expected = if is_withdrawn { "Pending" } else { "Current" };
        assert_eq!(world.says("phase"), Some(expected), "{:?}", world.says("reason"));
    }
}

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
    for _ in 0..4 {
        world.pass(None);
    }
    assert_eq!(world.restarts, 3, "the gate is open, and no Lease is asked for: {}", world.told());
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

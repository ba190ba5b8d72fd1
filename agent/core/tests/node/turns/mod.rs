//! A node in a cluster: what it asks, which grants it takes, and what it does with those that it may not use.

mod asks;
mod begun;

use std::time::Duration;

use agent_core::node::annotations::Phase;
use agent_core::node::heard::Inquiry;
use agent_core::node::observed::Role;
use agent_core::node::plan::{Desired, Plan, Step};
use agent_core::tree::Tree;

use crate::HOUR;
use crate::world::World;
use crate::world::files::{first, model, second, tree};

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

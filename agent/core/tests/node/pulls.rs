//! The proof by pull, and what else is said of a proven node.

use std::time::Duration;

use agent_core::node::annotations::Phase;
use agent_core::node::evidence::Check;
use agent_core::node::turn::TurnSource;
use agent_core::policy::Mode;
use agent_core::registries::model::{Mirror, Registries};
use agent_core::tree::Tree;

use crate::LONG;
use crate::world::World;
use crate::world::files::{first, model, second, text, tree};

const A: &str = "m.example.com/a:1";
const B: &str = "m.example.com/b:1";

/// A node on which `one` is proven and `two` is wanted, with two images to pull, of which these can be pulled.
fn node(pullable: &[&str]) -> World {
    let mut world = World::managed();
    world.policy.proof.images = vec![B.into(), A.into(), A.into()];
    world.pullable = pullable.iter().map(|image| (*image).to_owned()).collect();
    world.wants("r2", &second());
    world
}

#[test]
fn images_are_pulled_before_and_after_and_prove_the_file() {
    let mut world = node(&[A, B]);
    let plan = world.settle(LONG);
    assert_eq!((plan.phase, plan.revision.as_deref(), world.restarts), (Phase::Current, Some("r2"), 2));
    assert_eq!(world.pulled, [A, B, A, B]);
    let applied = world.record.as_ref().unwrap().applied.clone().unwrap();
    assert!(applied.evidence.contains(&Check::Pull));
    assert!(plan.reason.starts_with("proven by unit") && plan.reason.contains("pull"), "{}", plan.reason);
}

#[test]
fn an_image_that_worked_before_and_not_after_undoes_the_file() {
    let mut world = node(&[A, B]);
    world.breaks.insert(A.into());
    let plan = world.settle(LONG);
    assert_eq!((plan.phase, plan.failed.as_deref()), (Phase::RolledBack, Some("r2")));
    assert!(plan.reason.contains("pull: m.example.com/a:1: the registry refuses it"), "{}", plan.reason);
    assert_eq!(world.disk, tree(&first()));
    assert!(world.pulled.iter().filter(|image| *image == A).count() > 2, "one refusal may be a moment's");
    assert!(!world.story.iter().any(|step| step == "guard"), "the guard was pushed on: {}", world.told());
    world.assert_at_rest();
}

#[test]
fn going_back_to_what_was_before_us_demands_no_pull() {
    let mut world = node(&[A, B]);
    world.settle(LONG);
    world.pulled.clear();
    world.policy.mode = Mode::Restore;
    world.breaks.insert(A.into());
    let plan = world.settle(LONG);
    assert_eq!((plan.phase, plan.revision.as_deref(), world.pulled.len()), (Phase::Current, Some("restore"), 0));
}

#[test]
fn an_image_that_did_not_work_before_is_tried_and_named_and_undoes_nothing() {
    let mut world = node(&[A]);
    let plan = world.settle(LONG);
    assert_eq!((plan.phase, plan.revision.as_deref()), (Phase::Current, Some("r2")));
    assert_eq!(world.pulled, [A, B, A, B]);
    assert!(plan.reason.contains("m.example.com/b:1 is not pulled, nor was before"), "{}", plan.reason);
}

#[test]
fn a_pull_that_hangs_is_waited_for_its_time_and_keeps_no_undo_waiting() {
    let mut world = node(&[A, B]);
    while world.restarts < 2 {
        world.pass(None);
        world.pass_time(Duration::from_millis(500));
    }
    world.pulls_end = false;
    let began = world.now;
    while world.restarts < 3 {
        assert_eq!(world.pass(None).phase, Phase::Proving);
        world.pass_time(Duration::from_millis(500));
        assert!(world.now - began < LONG, "{}", world.told());
    }
    // The deadline, and the time of two images.
    let took = (world.now - began).as_secs();
    assert!((235..=250).contains(&took), "{took}");
    assert_eq!(world.settle(LONG).phase, Phase::RolledBack);
    assert!(!world.story.iter().any(|step| step == "guard"), "{}", world.told());
}

#[test]
fn a_node_that_does_not_come_up_is_undone_as_early_as_without_images() {
    let took = |images: &[&str]| {
        let mut world = node(&[A, B]);
        world.policy.proof.images = images.iter().map(|image| (*image).to_owned()).collect();
        world.start_takes = LONG;
        while world.restarts < 2 {
            world.pass(None);
            world.pass_time(Duration::from_millis(500));
        }
        let began = world.now;
        while world.disk != tree(&first()) {
            world.pass(None);
            world.pass_time(Duration::from_millis(500));
        }
        world.now - began
    };
    assert_eq!(took(&[A, B]), took(&[]));
}

#[test]
fn nothing_is_pulled_without_a_turn_or_while_paused_or_for_a_change_that_costs_nothing() {
    let mut asking = node(&[A, B]);
    asking.source = TurnSource::Coordinator;
    let mut paused = node(&[A, B]);
    paused.policy.pause = true;
    let mut same = node(&[A, B]);
    same.wants("r3", &first());
    for mut world in [asking, paused, same] {
        world.settle(LONG);
        assert_eq!((world.pulled.len(), world.restarts), (0, 1));
    }
}

#[test]
fn with_a_grant_it_is_pulled_before_the_lease_is_read_and_the_turn_is_not_lost() {
    let mut world = node(&[A]);
    world.joins();
    let plan = world.settle_in_cluster(LONG);
    assert_eq!((plan.phase, plan.revision.as_deref()), (Phase::Current, Some("r2")), "{}", world.told());
    assert_eq!(world.pulled, [A, B, A, B], "one turn was enough: {}", world.told());
}

#[test]
fn a_heal_pulls_nothing() {
    let mut world = node(&[A, B]);
    world.wants("r1", &first());
    world.write(text("mirrors: ["));
    world.restart_by_hand();
    world.pass_time(Duration::from_secs(5));
    assert_eq!(world.settle(LONG).phase, Phase::Current);
    assert_eq!((world.disk.clone(), world.pulled.len()), (tree(&first()), 0));
}

#[test]
fn killed_after_any_step_the_answers_are_asked_for_again() {
    for dies_after in 0..8 {
        let mut world = node(&[A]);
        while !world.pulls_are_known() {
            world.pass(None);
            world.pass_time(Duration::from_millis(500));
        }
        world.pass(Some(dies_after));
        let plan = world.settle(LONG);
        assert_eq!((plan.phase, plan.revision.as_deref()), (Phase::Current, Some("r2")), "{dies_after}");
        world.assert_at_rest();
    }
}

#[test]
fn what_containerd_dropped_is_said_as_long_as_the_proof_stands() {
    let mut world = node(&[]);
    world.policy.proof.images.clear();
    world.drops = true;
    let plan = world.settle(LONG);
    assert!(plan.phase == Phase::Current && plan.reason.contains("cannot read a hosts.toml"), "{}", plan.reason);
    world.drops = false;
    world.pass_time(LONG);
    assert!(world.pass(None).reason.contains("cannot read a hosts.toml"));
    world.wants("r3", &model("docker.io", "three"));
    let plan = world.settle(LONG);
    assert!(plan.phase == Phase::Current && !plan.reason.contains("hosts.toml"), "{}", plan.reason);
}

#[test]
fn a_directory_of_somebody_else_that_hides_ours_is_said_while_it_is_there() {
    let mut world = World::running(Tree::default());
    let mut wanted = Registries::default();
    wanted.mirrors.insert(
        "m.example.com:5000".into(),
        Mirror { endpoints: vec!["https://x.example.com".into()], ..Mirror::default() },
    );
    world.wants("r1", &wanted);
    let plan = world.settle(LONG);
    assert!(plan.phase == Phase::Current && !plan.reason.contains("looks into it"), "{}", plan.reason);
    world.put_certs_d("m.example.com_5000_", b"[host]\n");
    let plan = world.pass(None);
    assert_eq!(plan.phase, Phase::Current);
    assert!(plan.reason.contains("containerd looks into it instead of m.example.com:5000"), "{}", plan.reason);
}

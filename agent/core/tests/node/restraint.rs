//! What a node does not do: without consent, a service, a turn, or while it is paused.

use agent_core::node::annotations::Phase;
use agent_core::node::plan::Desired;
use agent_core::node::turn::TurnSource;
use agent_core::policy::{Adopt, Mode};
use agent_core::registries::effect::Effect;
use agent_core::tree::Tree;

use crate::killed::die_once;
use crate::world::World;
use crate::world::files::{first, second, text, tree};
use crate::{LONG, MINUTE};

#[test]
fn a_stopped_k3s_is_not_started() {
    let mut world = World::managed();
    world.stop_by_hand();
    world.wants("r2", &second());
    let plan = world.settle(MINUTE);
    assert_eq!((plan.phase, world.restarts), (Phase::Pending, 1));
    assert!(plan.reason.contains("inactive"), "{}", plan.reason);
    assert_eq!(world.disk, tree(&first()));
}

#[test]
fn a_file_that_is_not_ours_is_not_thrown_away_without_consent() {
    let foreign = "mirrors: {quay.io: {endpoint: [https://q.example.com]}}\n";
    let mut world = World::running(text(foreign));
    world.wants("r1", &first());
    let plan = world.settle(MINUTE);
    assert_eq!(plan.phase, Phase::Invalid);
    assert!(plan.reason.contains("quay.io"), "{}", plan.reason);
    assert_eq!((world.disk.clone(), world.restarts), (text(foreign), 0));
    assert_eq!(world.told(), "", "nothing at all is done");
    world.policy.adopt = Adopt::Replace;
    assert_eq!(world.settle(LONG).phase, Phase::Current);
    assert_eq!(world.original, Some(text(foreign)));
    // And back again.
    world.policy.mode = Mode::Restore;
    let plan = world.settle(LONG);
    assert_eq!((plan.phase, plan.revision.as_deref()), (Phase::Current, Some("restore")), "{}", plan.reason);
    assert_eq!(world.disk, text(foreign), "byte for byte");
    assert!(world.loaded().unwrap().mirrors.contains_key("quay.io"));
}

#[test]
fn a_foreign_file_that_k3s_cannot_read_is_left_alone() {
    let mut world = World::running(Tree::default());
    world.disk = text("mirrors: [\n");
    world.wants("r1", &first());
    let plan = world.settle(MINUTE);
    assert_eq!((plan.phase, world.told().as_str()), (Phase::Invalid, ""), "{}", plan.reason);
    world.policy.adopt = Adopt::Replace;
    assert_eq!(world.settle(LONG).phase, Phase::Current);
    assert_eq!(world.original, Some(text("mirrors: [\n")));
}

#[test]
fn without_a_service_only_files_are_claimed() {
    for dies_after in 0..8 {
        let mut world = World::running(text("mirrors: {docker.io: {}}\n"));
        world.service = false;
        world.wants("r1", &first());
        die_once(&mut world, dies_after);
        let mut restart_left = false;
        let plan = loop {
            let plan = world.pass(None);
            restart_left |= plan.restart_left;
            if plan.steps.is_empty() {
                break plan;
            }
        };
        assert_eq!((plan.phase, world.restarts), (Phase::Current, 0), "{}", world.told());
        assert!(plan.reason.contains("files only"), "{}", plan.reason);
        let applied = world.record.as_ref().unwrap().applied.clone().unwrap();
        assert!(applied.evidence.is_empty(), "nothing is claimed to be loaded");
        assert_eq!(world.disk, tree(&first()));
        world.assert_at_rest();
        let _ = restart_left;
    }
    let mut world = World::running(Tree::default());
    world.service = false;
    world.wants("r1", &first());
    let plan = world.pass(None);
    assert_eq!(plan.effect, Some(Effect::Restart));
    assert!(world.pass(None).restart_left, "needed, and not done");
    assert_eq!(world.pass(None).effect, Some(Effect::None));
}

#[test]
fn in_a_cluster_it_waits_for_a_turn_and_says_so() {
    let mut world = World::running(Tree::default());
    world.source = TurnSource::Coordinator;
    world.wants("r1", &first());
    let plan = world.settle(MINUTE);
    assert_eq!(plan.phase, Phase::Pending);
    assert!(plan.reason.contains("no coordinator has answered"), "{}", plan.reason);
    let wanted = plan.wanted.clone().unwrap();
    assert!(wanted.starts_with("r1/") && wanted.len() == 11, "{wanted}");
    world.pass_time(MINUTE);
    assert_eq!(world.settle(MINUTE).wanted, Some(wanted), "the ask stands");
    assert_eq!((world.disk.clone(), world.restarts), (Tree::default(), 0));
    world.wants("r2", &second());
    assert!(world.settle(MINUTE).wanted.unwrap().starts_with("r2/"), "a newer revision is a new ask");
}

#[test]
fn pause_report_and_missing_inputs_write_nothing() {
    let mut world = World::managed();
    world.wants("r2", &second());
    world.policy.pause = true;
    assert_eq!(world.settle(MINUTE).phase, Phase::Paused);
    world.policy.pause = false;
    world.node.annotations.insert("k3s-registry-agent/pause".into(), "true".into());
    assert_eq!(world.settle(MINUTE).phase, Phase::Paused);
    world.node.annotations.clear();
    world.policy.mode = Mode::Report;
    assert_eq!(world.settle(MINUTE).phase, Phase::Pending);
    world.policy.mode = Mode::Manage;
    world.desired = Desired::None;
    assert_eq!(world.settle(MINUTE).phase, Phase::Pending);
    world.desired = Desired::Refused(vec!["Secret a/b: no".into(), "x".into()]);
    let plan = world.settle(MINUTE);
    assert_eq!((plan.phase, plan.reason.as_str()), (Phase::Invalid, "Secret a/b: no (and 1 more)"));
    assert_eq!((world.disk.clone(), world.restarts), (tree(&first()), 1));
}

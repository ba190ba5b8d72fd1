//! One node, driven by the real `plan` through everything that can happen to it.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod world;

use std::time::Duration;

use agent_core::node::annotations::Phase;
use agent_core::node::evidence::{Answer, Check};
use agent_core::node::observed::Role;
use agent_core::node::plan::{Desired, Wake};
use agent_core::node::turn::TurnSource;
use agent_core::policy::{Adopt, Drift, Mode};
use agent_core::registries::effect::Effect;
use agent_core::tree::Tree;
use world::files::{first, model, second, text, tree};
use world::{REFUSED, World};

const MINUTE: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(600);

#[test]
fn a_new_file_costs_one_restart_and_then_nothing() {
    let mut world = World::managed();
    assert_eq!(world.disk, tree(&first()));
    assert_eq!(world.loaded(), Some(&first()));
    let plan = world.pass(None);
    assert_eq!((plan.phase, plan.revision.as_deref(), plan.steps.len()), (Phase::Current, Some("r1"), 0));
    assert_eq!(world.original, Some(Tree::default()), "absence is remembered");
    assert_eq!(world.previous, Some(tree(&first())), "the proven tree is kept");
    world.pass_time(LONG);
    assert!(world.pass(None).steps.is_empty());
    assert_eq!(world.restarts, 1);
}

#[test]
fn a_first_install_over_a_file_that_means_the_same_restarts_nothing() {
    let same = "mirrors: {docker.io: {endpoint: [https://m.example.com]}}\n\
                configs: {m.example.com: {auth: {username: u, password: one}}}\n";
    let mut world = World::running(text(same));
    world.wants("r1", &first());
    let plan = world.settle(LONG);
    assert_eq!((plan.phase, world.restarts), (Phase::Current, 0), "{}", world.told());
    assert_eq!(world.disk, tree(&first()), "the bytes are ours now");
    assert_eq!(world.original, Some(text(same)), "what lay there is kept byte for byte");
    let applied = world.record.as_ref().unwrap().applied.clone().unwrap();
    assert!(applied.evidence.contains(&Check::AuthTables));
}

#[test]
fn the_same_content_under_a_new_revision_restarts_nothing() {
    let mut world = World::managed();
    world.wants("r2", &first());
    let plan = world.settle(LONG);
    assert_eq!((plan.phase, plan.revision.as_deref(), world.restarts), (Phase::Current, Some("r2"), 1));
}

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

/// Passes until the n-th step overall, dies there, and is away for a moment. False if there are fewer steps.
fn die_once(world: &mut World, dies_after: usize) -> bool {
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
fn a_file_that_k3s_refuses_is_undone_by_the_file_alone() {
    let mut world = World::managed();
    let restarts = world.restarts;
    world.wants("r2", &model(REFUSED, "two"));
    let plan = world.settle(LONG);
    assert_eq!(plan.phase, Phase::RolledBack);
    assert!(plan.reason.contains("k3s cannot read the file"), "{}", plan.reason);
    assert_eq!(world.restarts, restarts + 1, "a looping unit heals without a restart: {}", world.told());
    world.assert_at_rest();
    // The same content under another revision is answered at once.
    world.wants("r3", &model(REFUSED, "two"));
    let plan = world.settle(LONG);
    assert_eq!((plan.phase, plan.failed.as_deref(), world.restarts), (Phase::RolledBack, Some("r3"), restarts + 1));
    // A corrected one goes through.
    world.wants("r4", &second());
    let plan = world.settle(LONG);
    assert_eq!((plan.phase, plan.failed, world.restarts), (Phase::Current, None, restarts + 2));
}

#[test]
fn a_retry_token_is_honoured_once() {
    let mut world = World::managed();
    world.wants("r2", &model(REFUSED, "two"));
    world.settle(LONG);
    let restarts = world.restarts;
    world.node.annotations.insert("k3s-registry-agent/retry".into(), "again-1".into());
    assert_eq!(world.settle(LONG).phase, Phase::RolledBack);
    assert_eq!(world.restarts, restarts + 1, "tried once more");
    world.settle(LONG);
    assert_eq!(world.restarts, restarts + 1, "and only once");
}

#[test]
fn a_crashing_containerd_is_a_failure_and_is_undone() {
    let mut world = World::managed();
    world.wants("r2", &model("docker.io", "a\u{7}b"));
    let plan = world.settle(LONG);
    assert_eq!(plan.phase, Phase::RolledBack);
    assert!(plan.reason.contains("containerd exits"), "{}", plan.reason);
    assert!(world.is_up());
}

#[test]
fn a_supervisor_that_is_away_is_no_proof_against_a_file() {
    let mut world = World::managed();
    world.wants("r2", &second());
    world.until(|world| world.restarts == 2);
    world.supervisor_away = true;
    let plan = world.settle(LONG);
    // The agent cannot come up on any file while its server is away; nothing is concluded from that.
    assert_eq!(plan.phase, Phase::Proving, "{}", plan.reason);
    assert_eq!(world.disk, tree(&first()), "the proven file is back: {}", world.told());
    assert!(world.record.as_ref().unwrap().failed.is_empty());
    world.supervisor_away = false;
    world.pass_time(Duration::from_secs(10));
    let plan = world.settle(MINUTE);
    assert_eq!((plan.phase, plan.failed), (Phase::Pending, None), "{}", plan.reason);
    assert!(plan.reason.contains("supervisor"), "{}", plan.reason);
    world.pass_time(Duration::from_secs(300));
    assert_eq!(world.settle(LONG).phase, Phase::Current, "tried again after five minutes: {}", world.told());
}

#[test]
fn a_short_absence_of_the_supervisor_does_not_count_against_the_file() {
    let mut world = World::managed();
    world.wants("r2", &second());
    world.until(|world| world.restarts == 2);
    world.supervisor_away = true;
    for _ in 0..200 {
        world.pass(None);
        world.pass_time(Duration::from_millis(500));
    }
    world.supervisor_away = false;
    world.start_takes = Duration::from_secs(2);
    let plan = world.settle(MINUTE);
    assert_eq!(plan.phase, Phase::Current, "{}: {}", plan.reason, world.told());
    assert_eq!(world.restarts, 2);
}

#[test]
fn a_node_rebooted_in_the_middle_boots_on_the_proven_file() {
    for passes in 1..12 {
        let mut world = World::managed();
        world.wants("r2", &second());
        world.start_takes = Duration::from_secs(30);
        for _ in 0..passes {
            world.pass(None);
            world.pass_time(Duration::from_millis(500));
        }
        let was_open = world.record.as_ref().unwrap().intent.is_some();
        world.reboot();
        if was_open {
            assert_eq!(world.disk, tree(&first()), "{}", world.told());
        }
        let plan = world.settle(Duration::from_secs(7200));
        assert_eq!(plan.phase, Phase::Current, "{}: {}", plan.reason, world.told());
        assert_eq!(world.loaded(), Some(&second()));
        world.assert_at_rest();
    }
}

#[test]
fn a_member_of_etcd_without_a_vote_explains_a_missing_proof_in_its_own_words() {
    let mut world = World::managed();
    world.role = Role::Server;
    let why = "this etcd member is a learner and has no vote";
    world.etcd_leader = Some(Answer::Failed(why.into()));
    world.wants("r2", &second());
    world.until(|world| world.record.as_ref().unwrap().intent.is_some());
    world.start_takes = Duration::from_secs(10_000);
    world.until(|world| world.disk == tree(&first()));
    world.start_takes = Duration::from_secs(2);
    world.until(|world| world.record.as_ref().unwrap().intent.is_none());
    let inconclusive = world.record.as_ref().unwrap().inconclusive.clone();
    assert_eq!(inconclusive.map(|seen| seen.why).as_deref(), Some(why), "{}", world.told());
}

#[test]
fn three_inconclusive_verdicts_are_a_failure() {
    let mut world = World::managed();
    world.wants("r2", &second());
    for verdict in 1..=3 {
        world.until(|world| world.record.as_ref().unwrap().intent.is_some());
        // k3s is upgraded meanwhile, and takes its time.
        world.version = format!("v{}", verdict + 1);
        world.start_takes = Duration::from_secs(10_000);
        world.until(|world| world.disk == tree(&first()));
        world.start_takes = Duration::from_secs(2);
        world.until(|world| world.record.as_ref().unwrap().intent.is_none());
        let inconclusive = world.record.as_ref().unwrap().inconclusive.clone();
        assert_eq!(inconclusive.map(|seen| seen.count), (verdict < 3).then_some(verdict), "{}", world.told());
    }
    let plan = world.settle(LONG);
    assert_eq!((plan.phase, plan.failed.as_deref()), (Phase::RolledBack, Some("r2")), "{}", plan.reason);
}

#[test]
fn drift_that_was_not_loaded_is_restored_without_a_restart() {
    let mut world = World::managed();
    world.disk = text("mirrors: {}\n");
    let plan = world.settle(MINUTE);
    assert_eq!((plan.phase, world.restarts), (Phase::Current, 1), "{}", world.told());
    assert_eq!(world.disk, tree(&first()));
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

#[test]
fn an_open_intent_beats_pause_and_newer_revisions() {
    let mut world = World::managed();
    world.wants("r2", &second());
    while world.restarts == 1 {
        world.pass(None);
    }
    world.policy.pause = true;
    world.wants("r3", &model("quay.io", "three"));
    let plan = world.pass(None);
    assert_eq!(plan.phase, Phase::Proving);
    let plan = world.settle(LONG);
    assert_eq!((plan.phase, plan.revision.as_deref()), (Phase::Paused, Some("r2")), "{}", plan.reason);
}

#[test]
fn a_server_whose_gate_refuses_gets_its_file_back_but_no_second_restart() {
    let mut world = World::managed();
    world.role = Role::Server;
    world.wants("r2", &second());
    while world.restarts == 1 {
        world.pass(None);
    }
    world.pass_time(Duration::from_secs(5));
    assert!(world.is_up(), "up on the new file");
    // Somebody changes the file while the proof is awaited; what is loaded must be undone by a restart.
    world.disk = text("mirrors: {}\n");
    world.gate = Some("server two does not answer".into());
    let plan = world.settle(Duration::from_secs(60));
    assert_eq!((plan.phase, world.restarts), (Phase::Proving, 2), "{}", plan.reason);
    assert!(plan.reason.contains("server two"), "{}", plan.reason);
    assert_eq!(world.disk, tree(&first()));
    world.gate = None;
    world.settle(MINUTE);
    assert_eq!(world.restarts, 3, "{}", world.told());
    assert!(world.is_up());
}

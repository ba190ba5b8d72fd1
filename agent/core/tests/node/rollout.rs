//! A file is rolled out on one node: what it costs, what proves it, and what undoes it.

use std::time::Duration;

use agent_core::node::annotations::Phase;
use agent_core::node::evidence::{Answer, Check};
use agent_core::node::observed::Role;
use agent_core::tree::Tree;

use crate::world::files::{first, model, second, text, tree};
use crate::world::{REFUSED, World};
use crate::{LONG, MINUTE};

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
fn a_file_that_k3s_refuses_is_undone_by_the_file_alone() {
    let mut world = World::managed();
    let restarts = world.restarts;
    world.wants("r2", &model(REFUSED, "two"));
    let remedy = "; edit the ConfigMap, or `apply --retry` once the cause is gone";
    let first_told = (0..1000).find_map(|_| {
        let plan = world.pass(None);
        world.pass_time(Duration::from_millis(500));
        (plan.phase == Phase::RolledBack).then_some(plan.reason)
    });
    let first_told = first_told.unwrap_or_else(|| panic!("{}", world.told()));
    let begins = first_told.starts_with("r2 failed here and was undone: k3s cannot read the file");
    assert!(begins && first_told.ends_with(remedy), "{first_told}");
    let plan = world.settle(LONG);
    assert_eq!(plan.phase, Phase::RolledBack);
    assert!(plan.reason.contains("k3s cannot read the file") && plan.reason.ends_with(remedy), "{}", plan.reason);
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
    let mut world = World::restarting();
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
    let mut world = World::restarting();
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

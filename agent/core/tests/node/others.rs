//! A server whose proof is missing while another server is down: the file is not to blame for what took the other one away.

use std::time::Duration;

use agent_core::node::annotations::Phase;
use agent_core::node::evidence::Answer;
use agent_core::node::observed::Role;
use agent_core::node::others::OtherServer;
use agent_core::tree::Tree;

use crate::HOUR;
use crate::world::files::{first, model, second, tree};
use crate::world::{REFUSED, World};

/// A server beside these on which `second` has been begun with, and which does not come up any more.
fn begun(others: &[&str]) -> World {
    let mut world = World::running(Tree::default());
    world.role = Role::Server;
    let other = |name: &&str| OtherServer { name: (*name).into(), authority: format!("{name}.example.com:6443") };
    world.cluster.servers = others.iter().map(other).collect();
    world.joins();
    world.wants("r1", &first());
    assert_eq!(world.settle_in_cluster(HOUR).phase, Phase::Current);
    world.wants("r2", &second());
    world.start_takes = 100 * HOUR;
    until_it_is_begun(&mut world, 2);
    assert!(!world.is_up());
    world
}

fn until_it_is_begun(world: &mut World, restarts: u32) {
    for _ in 0..1000 {
        if world.restarts == restarts {
            return;
        }
        world.coordinates();
        world.pass(None);
        world.pass_time(Duration::from_millis(500));
    }
    panic!("it is not begun: {}", world.told());
}

/// Until it is undone, which works; gives the phase and the reason.
fn undone(world: &mut World) -> (Phase, String) {
    world.until(|world| world.disk == tree(&first()));
    world.start_takes = Duration::from_secs(2);
    world.until(|world| world.record.as_ref().unwrap().intent.is_none());
    let plan = world.pass(None);
    (plan.phase, plan.reason)
}

fn goes_away(world: &mut World, name: &str) {
    world.cluster.unwell.insert(name.into(), Answer::Failed("does not answer (connection refused)".into()));
}

#[test]
fn a_server_that_went_away_since_the_gate_explains_a_missing_proof_and_is_named() {
    let mut world = begun(&["s2", "s3"]);
    goes_away(&mut world, "s3");
    let (phase, reason) = undone(&mut world);
    let who =
        "the API server of s3 (s3.example.com:6443) does not answer (connection refused), and was well at the gate";
    assert_eq!(phase, Phase::Pending);
    assert!(reason.starts_with(&format!("not proven and undone: {who}; tried again at ")), "{reason}");
    assert!(world.record.as_ref().unwrap().failed.is_empty());
    assert_eq!(world.cluster.others_asked, 1, "at the time of the verdict, and not at every pass");
}

#[test]
fn when_all_others_answer_the_configuration_has_failed() {
    let mut world = begun(&["s2", "s3"]);
    // It is there, and without a quorum it knows nobody.
    world.cluster.unwell.insert("s2".into(), Answer::Unknown("refuses our token (401)".into()));
    let (phase, reason) = undone(&mut world);
    assert_eq!(phase, Phase::RolledBack, "{reason}");
    assert!(reason.starts_with("this configuration failed here and was undone: not proven within 120 s"), "{reason}");
    assert!(reason.ends_with("; edit the ConfigMap, or `retry NODE` once the cause is gone"), "{reason}");
    assert_eq!(world.cluster.others_asked, 1);
}

#[test]
fn nobody_is_asked_where_the_failure_is_certain() {
    let mut world = begun(&["s2", "s3"]);
    world.start_takes = Duration::from_secs(2);
    world.until(|world| world.record.as_ref().unwrap().intent.is_none());
    world.wants("r3", &model(REFUSED, "three"));
    goes_away(&mut world, "s3");
    let plan = world.settle_in_cluster(HOUR);
    assert_eq!((plan.phase, plan.failed.as_deref()), (Phase::RolledBack, Some("r3")), "{}", plan.reason);
    assert_eq!(world.cluster.others_asked, 0);
}

#[test]
fn a_process_that_was_restarted_in_the_middle_still_knows_whom_to_ask() {
    let mut world = begun(&["s2", "s3"]);
    goes_away(&mut world, "s2");
    world.die();
    let (phase, reason) = undone(&mut world);
    assert_eq!(phase, Phase::Pending, "{reason}");
    assert!(reason.contains("the API server of s2"), "{reason}");
}

#[test]
fn where_nobody_serves_on_nobody_is_asked() {
    let mut world = begun(&[]);
    let (phase, reason) = undone(&mut world);
    assert_eq!((phase, world.cluster.others_asked), (Phase::RolledBack, 0), "{reason}");
}

#[test]
fn the_answers_of_an_earlier_verdict_count_for_no_later_one() {
    let mut world = begun(&["s2", "s3"]);
    goes_away(&mut world, "s3");
    assert_eq!(undone(&mut world).0, Phase::Pending);
    world.cluster.unwell.clear();
    world.pass_time(Duration::from_secs(301));
    world.start_takes = 100 * HOUR;
    until_it_is_begun(&mut world, 3);
    let (phase, reason) = undone(&mut world);
    assert_eq!((phase, world.cluster.others_asked), (Phase::RolledBack, 2), "{reason}");
}

//! A node at rest: whatever it rests in, time alone changes nothing that it says.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::node::annotations::Phase;
use agent_core::node::observed::Role;
use agent_core::node::plan::Desired;
use agent_core::policy::{Drift, Mode};
use agent_core::tree::Tree;

use crate::HOUR;
use crate::world::files::{first, second, text};
use crate::world::{REFUSED, World};

/// A node of a cluster on which `first` is proven.
fn proven(role: Role) -> World {
    let mut world = World::running(Tree::default());
    world.role = role;
    world.joins();
    world.wants("r1", &first());
    assert_eq!(world.settle_in_cluster(HOUR).phase, Phase::Current);
    world.coordinates();
    world
}

/// Passes that nothing has brought about but time: by the timer, and now and then by a write of kubelet's on the Node.
fn rests(mut world: World, expected: Phase, hours: u32, what: &str) {
    let told = |world: &World| world.node.annotations.clone();
    world.pass(None);
    let (before, record, requests) = (told(&world), world.record.clone(), world.cluster.requests);
    assert_eq!(world.says("phase"), Some(expected.as_str()), "{what}: {:?}", world.says("reason"));
    let until = world.now + hours * HOUR;
    for pass in 0_u64.. {
        world.pass_time(Duration::from_secs(1 + pass * 7919 % 60));
        if world.now >= until {
            break;
        }
        let plan = world.pass(None);
        assert!(plan.steps.is_empty() && plan.inquiry.is_none(), "{what}: {:?}", plan.reason);
        assert_eq!(told(&world), before, "{what}, {:?} later", world.now + hours * HOUR - until);
    }
    assert_eq!((world.cluster.requests, world.record), (requests, record), "{what}");
}

/// A second attempt is undone since something else explains that it is not proven: it is tried again in ten minutes.
fn inconclusive(role: Role) -> World {
    let mut world = proven(role);
    world.wants("r2", &second());
    for version in 2..=3 {
        while world.record.as_ref().unwrap().intent.is_none() {
            world.coordinates();
            world.pass(None);
            world.pass_time(Duration::from_secs(1));
        }
        world.version = format!("v{version}");
        world.start_takes = 100 * HOUR;
        world.until(|world| world.disk == crate::world::files::tree(&first()));
        world.start_takes = Duration::from_secs(2);
        world.until(|world| world.record.as_ref().unwrap().intent.is_none());
    }
    world
}

fn until_stuck(world: &mut World) {
    while world.says("phase") != Some("Stuck") {
        world.coordinates();
        world.pass(None);
        world.pass_time(Duration::from_secs(1));
    }
}

#[test]
fn time_alone_changes_nothing_that_a_node_at_rest_says() {
    for role in [Role::Server, Role::Agent] {
        rests(proven(role), Phase::Current, 3, "proven");

        let mut world = proven(role);
        world.drops = true;
        world.put_certs_d("_default", b"server = \"https://x.example.com\"\n");
        rests(world, Phase::Current, 3, "with a remark");

        let mut world = proven(role);
        world.wants("r2", &second());
        world.pass(None);
        world.annotate("turn", Some("order"));
        rests(world, Phase::Pending, 3, "waits for its turn");

        let mut world = proven(role);
        world.wants("r2", &second());
        world.pass(None);
        world.pass_time(Duration::from_secs(60));
        rests(world, Phase::Pending, 3, "no coordinator answers");

        let mut world = proven(role);
        world.wants("r2", &crate::world::files::model(REFUSED, "refused"));
        assert_eq!(world.settle_in_cluster(HOUR).phase, Phase::RolledBack);
        rests(world, Phase::RolledBack, 3, "rolled back");

        let mut world = proven(role);
        world.annotate("pause", Some("true"));
        world.wants("r2", &second());
        rests(world, Phase::Paused, 3, "paused");

        let mut world = proven(role);
        world.wants("r2", &second());
        world.policy.mode = Mode::Report;
        rests(world, Phase::Pending, 3, "mode report");

        let mut world = proven(role);
        world.write(text("mirrors: {}\n"));
        world.policy.drift = Drift::Report;
        rests(world, Phase::Invalid, 3, "drift that is only reported");

        let mut world = proven(role);
        world.cluster.refused = Some("m.example.com refuses the credential of u".into());
        world.wants("r2", &second());
        assert_eq!(world.settle_in_cluster(HOUR).phase, Phase::Invalid);
        rests(world, Phase::Invalid, 3, "refused");
    }
}

#[test]
fn a_node_that_tries_again_later_says_when_and_not_how_long_from_now() {
    for role in [Role::Server, Role::Agent] {
        let mut world = inconclusive(role);
        let again_at = world.record.as_ref().unwrap().inconclusive.clone().unwrap().again_at;
        let at = again_at.round(jiff::Unit::Second).unwrap().to_string();
        let told = world.says("reason").unwrap().to_owned();
        assert!(told.ends_with(&format!("tried again at {at}")), "{told}");
        let patches = world.cluster.patches;
        while world.clock().wall < again_at {
            world.pass(None);
            assert_eq!(world.says("reason"), Some(told.as_str()));
            world.pass_time(Duration::from_secs(17));
        }
        assert_eq!(world.cluster.patches, patches, "{role:?}");
    }
}

#[test]
fn a_stuck_node_whose_unit_tries_again_and_again_does_not_write_each_try() {
    for role in [Role::Server, Role::Agent] {
        let mut world = proven(role);
        world.start_takes = 100 * HOUR;
        world.wants("r2", &second());
        until_stuck(&mut world);
        world.pass_time(Duration::from_secs(60));
        world.pass(None);
        let patches = world.cluster.patches;
        world.flaps = true;
        for _ in 0..360 {
            world.pass(None);
            world.pass_time(Duration::from_secs(10));
        }
        assert_eq!(world.cluster.patches, patches, "{:?}", world.says("reason"));
    }
}

#[test]
fn where_certificates_came_from_is_known_from_their_proof_on_and_learned_once_where_an_earlier_version_proved_them() {
    let sources: BTreeMap<_, _> =
        [("m.example.com/ca.crt".to_owned(), "ConfigMap k3s-registry-agent/ca".to_owned())].into();
    let mut world = World::running(Tree::default());
    world.wants_with_ca("r1", &first(), "ca");
    let Desired::Ready(wanted) = &mut world.desired else { panic!("it is wanted") };
    wanted.tls_sources.clone_from(&sources);
    world.until(|world| world.record.as_ref().is_some_and(|record| record.applied.is_some()));
    let known = |world: &World| world.record.as_ref().unwrap().tls_sources.clone();
    assert_eq!(known(&world), sources);
    assert_eq!(world.settle(HOUR).phase, Phase::Current);
    world.record.as_mut().unwrap().tls_sources.clear();
    let plan = world.pass(None);
    assert_eq!((plan.phase, plan.steps.len(), known(&world)), (Phase::Current, 1, sources.clone()), "{}", plan.reason);
    assert_eq!(world.pass(None).steps, []);
    // A heal and drift that is put back change nothing of it, nor does what is not proven.
    world.disk = text("mirrors: {}\n");
    world.restart_by_hand();
    world.settle(HOUR);
    world.write(text("mirrors: ["));
    world.restart_by_hand();
    assert_eq!(world.settle(HOUR).phase, Phase::Current, "{}", world.told());
    world.wants("r2", &crate::world::files::model(REFUSED, "refused"));
    assert_eq!(world.settle(HOUR).phase, Phase::RolledBack, "{}", world.told());
    assert_eq!(known(&world), sources);
    world.wants("r3", &second());
    assert_eq!(world.settle(HOUR).phase, Phase::Current, "{}", world.told());
    assert_eq!(known(&world), BTreeMap::new());
}

#[test]
fn a_unit_that_systemd_starts_again_and_again_is_said_to_be_one() {
    let mut world = proven(Role::Agent);
    world.wants("r2", &second());
    world.containerd_sick = true;
    until_stuck(&mut world);
    world.pass_time(Duration::from_secs(60));
    world.pass(None);
    let reason = world.says("reason").unwrap();
    assert!(reason.contains("does not come up: systemd starts it again and again"), "{reason}");
}

//! What the registries say before a node is disturbed, and what follows from it.

use agent_core::node::annotations::Phase;
use agent_core::node::heard::{Inquiry, ProbeSeen};
use agent_core::node::journal::ProbeRefused;
use agent_core::node::plan::Desired;
use agent_core::policy::{Drift, Enforcement, Mode, Preflight};
use agent_core::registries::model::Registries;
use agent_core::tree::Tree;

use crate::world::World;
use crate::world::files::{model, tree};
use crate::{HOUR, MINUTE};

fn first() -> Registries {
    model("docker.io", "one")
}

fn second() -> Registries {
    model("docker.io", "two")
}

/// A node without a cluster, on which `first` is proven.
fn managed() -> World {
    let mut world = World::running(Tree::default());
    world.wants("r1", &first());
    assert_eq!(world.settle(HOUR).phase, Phase::Current, "{}", world.told());
    world
}

/// A node of a cluster that asks for `second`.
fn asking() -> World {
    let mut world = World::running(Tree::default());
    world.joins();
    world.wants("r1", &first());
    assert_eq!(world.settle_in_cluster(HOUR).phase, Phase::Current, "{}", world.told());
    world.wants("r2", &second());
    world.pass(None);
    world
}

/// The same, with its turn granted.
fn granted() -> World {
    let mut world = asking();
    world.grants();
    world
}

#[test]
fn what_is_enforced_and_may_pass_gives_the_turn_back_and_halts_nothing() {
    let mut world = granted();
    world.cluster.blocked = Some("m.example.com: nothing listens there".into());
    for _ in 0..4 {
        world.pass(None);
    }
    assert_eq!((world.says("phase"), world.says("failed"), world.restarts), (Some("Pending"), None, 1));
    assert!(world.says("reason").unwrap().contains("nothing listens there"), "{:?}", world.says("reason"));
    assert!(world.says("wanted").is_some() && world.disk == tree(&first()), "asked for again");
    world.cluster.blocked = None;
    let plan = world.settle_in_cluster(HOUR);
    assert_eq!((plan.phase, world.restarts), (Phase::Current, 2), "{}", world.told());
}

#[test]
fn with_every_stage_off_and_for_who_leaves_no_registry_is_asked() {
    let off = |world: &mut World| {
        use Enforcement::Off;
        world.policy.preflight = Preflight { credential: Off, tls: Off, name: Off, route: Off, realm: Off, api: Off };
    };
    let leaves = |world: &mut World| world.policy.mode = Mode::Restore;
    for (case, change) in [("off", &off as &dyn Fn(&mut World)), ("restore", &leaves)] {
        let mut world = asking();
        let before = world.cluster.preflights;
        change(&mut world);
        world.cluster.refused = Some("no".into());
        let plan = world.settle_in_cluster(HOUR);
        assert_eq!((plan.phase, world.cluster.preflights), (Phase::Current, before), "{case}: {}", world.told());
        assert_eq!(world.restarts, 2, "{case}: {}", world.told());
    }
}

#[test]
fn a_preflight_of_other_inputs_counts_for_nothing() {
    let mut world = granted();
    for _ in 0..2 {
        world.pass(None);
    }
    // What the registries said was said of what is not wanted any more.
    world.wants("r9", &model("quay.io", "nine"));
    world.inquire();
    world.wants("r2", &second());
    assert_eq!(world.pass(None).inquiry, Some(Inquiry::Preflight));
}

#[test]
fn alone_the_registries_are_asked_before_the_file_and_a_refused_credential_is_sent_once() {
    let mut world = managed();
    let before = world.cluster.preflights;
    world.cluster.refused = Some("m.example.com refuses the credential".into());
    world.wants("r2", &second());
    let plan = world.settle(HOUR);
    assert_eq!((plan.phase, plan.failed.as_deref()), (Phase::Invalid, Some("r2")), "{}", world.told());
    assert_eq!((world.cluster.preflights, world.restarts, &world.disk), (before + 1, 1, &tree(&first())));
    world.pass_time(HOUR);
    assert_eq!(world.settle(HOUR).phase, Phase::Invalid);
    assert_eq!(world.cluster.preflights, before + 1, "not again: the account might be locked");
    // Other inputs; or the same, and a person who starts it again.
    world.cluster.refused = None;
    for asked in [2, 3] {
        if asked == 2 {
            world.die()
        } else {
            world.wants("r3", &model("quay.io", "three"))
        };
        assert_eq!(world.settle(HOUR).phase, Phase::Current, "{}", world.told());
        assert_eq!(world.cluster.preflights, before + asked);
    }
}

#[test]
fn alone_what_is_enforced_and_may_pass_is_asked_again_after_five_minutes() {
    let mut world = managed();
    world.cluster.blocked = Some("m.example.com: nothing listens there".into());
    world.wants("r2", &second());
    let plan = world.settle(MINUTE);
    assert_eq!((plan.phase, plan.failed.as_deref()), (Phase::Invalid, None), "{}", world.told());
    let asked = world.cluster.preflights;
    world.pass_time(4 * MINUTE);
    world.settle(MINUTE);
    assert_eq!((world.cluster.preflights, &world.disk), (asked, &tree(&first())));
    world.cluster.blocked = None;
    world.pass_time(5 * MINUTE);
    assert_eq!(world.settle(HOUR).phase, Phase::Current, "{}", world.told());
    assert_eq!(world.cluster.preflights, asked + 1);
}

#[test]
fn a_credential_that_a_probe_saw_refused_is_kept_until_the_inputs_are_others() {
    let refused = |revision: &str| {
        let urls = vec!["https://m.example.com/v2/".to_owned()];
        ProbeRefused { revision: revision.to_owned(), urls, at: "2026-11-21T00:00:00Z".parse().unwrap() }
    };
    let seen = |revision: &str, refused| ProbeSeen { revision: revision.to_owned(), refused };
    let kept = |world: &World| world.record.as_ref().unwrap().probe_refused.as_ref().map(|kept| kept.revision.clone());
    let mut world = managed();
    world.hears(seen("r1", Some(refused("r1"))));
    assert_eq!(world.settle(HOUR).phase, Phase::Current);
    assert_eq!(kept(&world).as_deref(), Some("r1"));
    for _ in 0..3 {
        world.die();
        world.settle(HOUR);
        assert_eq!(kept(&world).as_deref(), Some("r1"), "an agent that starts anew knows it");
    }
    world.hears(seen("r9", None));
    assert_eq!(kept(&world).as_deref(), Some("r1"), "that was said of something else");
    world.hears(seen("r1", None));
    assert_eq!(kept(&world), None, "it is taken now");
    world.hears(seen("r9", Some(refused("r9"))));
    assert_eq!(kept(&world), None, "of what neither runs here nor is wanted nothing is kept");
    world.hears(seen("r1", Some(refused("r1"))));
    world.desired = Desired::Waiting("not read yet".to_owned());
    world.settle(HOUR);
    assert_eq!(kept(&world).as_deref(), Some("r1"), "not to see the inputs is no change of them");
    world.wants("r2", &second());
    world.pass(None);
    // The policy lets a refusal pass: it is known before the file is there, and through the whole turn.
    world.hears(seen("r2", Some(refused("r2"))));
    assert_eq!(world.settle(HOUR).phase, Phase::Current, "{}", world.told());
    assert_eq!(kept(&world).as_deref(), Some("r2"));
    world.wants("r3", &first());
    assert_eq!(world.settle(HOUR).phase, Phase::Current, "{}", world.told());
    assert_eq!(kept(&world), None);
}

#[test]
fn what_was_refused_of_somebody_elses_file_is_kept_of_that_file_while_it_lies_there() {
    let mut world = managed();
    world.policy.drift = Drift::Report;
    let name = |world: &World| world.record.as_ref().unwrap().name_of(&world.disk, &world.key()).unwrap();
    let kept = |world: &World| world.record.as_ref().unwrap().probe_refused.as_ref().map(|kept| kept.revision.clone());
    assert_eq!(name(&world), "r1");
    let ours = world.disk.clone();
    let refused = |world: &mut World| {
        let (revision, urls) = (name(world), vec!["https://m.example.com/v2/".to_owned()]);
        let refused = ProbeRefused { revision: revision.clone(), urls, at: "2026-11-21T00:00:00Z".parse().unwrap() };
        world.hears(ProbeSeen { revision: revision.clone(), refused: Some(refused) });
        revision
    };
    world.write(tree(&model("docker.io", "theirs")));
    let theirs = refused(&mut world);
    assert_ne!(theirs, "r1");
    for _ in 0..3 {
        world.die();
        assert_eq!(world.settle(HOUR).phase, Phase::Invalid, "{}", world.told());
        assert_eq!(kept(&world).as_ref(), Some(&theirs));
    }
    world.write(tree(&model("docker.io", "another")));
    world.settle(HOUR);
    assert_eq!(kept(&world), None, "it lies there no more");
    refused(&mut world);
    assert!(kept(&world).is_some());
    world.write(ours);
    assert_eq!(world.settle(HOUR).phase, Phase::Current, "{}", world.told());
    assert_eq!(kept(&world), None, "nothing is known against ours");
}

#[test]
fn a_directory_contacts_no_registry() {
    let mut world = World::running(Tree::default());
    world.service = false;
    world.cluster.refused = Some("no".into());
    world.wants("r2", &model("ghcr.io", "two"));
    assert_eq!(world.settle(HOUR).phase, Phase::Current, "{}", world.told());
    assert_eq!(world.cluster.preflights, 0);
}

//! What the plans of a node have counted.

use std::time::Duration;

use agent_core::node::journal::Rung;
use agent_core::node::plan::Counted::{self, GuardFired, Proven, RolledBack, Turn, Verdict};
use agent_core::node::plan::{Judged, Step, TurnEnd};
use agent_core::tree::Tree;

use crate::world::files::model;
use crate::world::{REFUSED, World};

/// Five minutes of passes.
fn counted(world: &mut World) -> Vec<Counted> {
    let mut all = Vec::new();
    for _ in 0..300 {
        all.extend(world.pass(None).counted.into_iter().map(|counted| match counted {
            Proven(Some(_)) => Proven(Some(Duration::ZERO)),
            other => other,
        }));
        world.pass_time(Duration::from_secs(1));
    }
    all
}

fn managed() -> World {
    let mut world = World::running(Tree::default());
    world.wants("r1", &model("docker.io", "one"));
    counted(&mut world);
    world
}

#[test]
fn a_turn_its_verdict_and_every_rung_are_counted_once() {
    let mut world = managed();
    world.wants("r2", &model("docker.io", "two"));
    let proven = [Turn(TurnEnd::Taken), Proven(Some(Duration::ZERO)), Verdict(Judged::Proven)];
    assert_eq!(counted(&mut world), proven);
    world.wants("r3", &model(REFUSED, "three"));
    let failed = [Turn(TurnEnd::Taken), Verdict(Judged::Failed), Counted::Rung(Rung::Previous), RolledBack];
    assert_eq!(counted(&mut world), failed);
}

#[test]
fn a_guard_that_acted_is_counted() {
    let mut world = managed();
    world.wants("r2", &model(REFUSED, "two"));
    loop {
        let plan = world.pass(None);
        if plan.steps.iter().any(|step| matches!(step, Step::Restart(_))) {
            break;
        }
    }
    world.die();
    world.pass_time(Duration::from_secs(600));
    let all = counted(&mut world);
    assert_eq!(all.iter().filter(|counted| **counted == GuardFired).count(), 1, "{all:?}");
    assert!(all.contains(&Verdict(Judged::Inconclusive)), "{all:?}");
}

type Change = fn(&mut World);

#[test]
fn a_grant_that_is_of_no_use_is_counted_for_what_it_was() {
    let ends: [(Change, Counted); 2] = [
        (|world| world.cluster.lease_fails = Some("forbidden".into()), Turn(TurnEnd::Unused)),
        (|world| world.cluster.refused = Some("no".into()), Turn(TurnEnd::Refused)),
    ];
    for (change, end) in ends {
        let mut world = World::running(Tree::default());
        world.joins();
        world.wants("r1", &model("docker.io", "one"));
        world.pass(None);
        world.grants();
        change(&mut world);
        assert_eq!(counted(&mut world), [end]);
    }
}

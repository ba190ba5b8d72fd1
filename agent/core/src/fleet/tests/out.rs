use super::*;
use crate::policy::{MaxUnavailable, Order};

/// Another process takes the Lease: it remembers nothing, and reads what the Lease says.
fn take_over(world: &mut World) {
    world.fleet.ledger = Ledger::default();
    world.take(&[]);
}

/// kubelet registers the Node again, and no agent has written it.
fn registers_again(world: &mut World, name: &str) {
    let bare = NodeSeen { uid: "new".into(), phase: Said::Nothing, revision: Said::Nothing, ..node(Role::Agent) };
    world.fleet.nodes.insert(name.into(), bare);
}

fn out(world: &World) -> Vec<&str> {
    world.fleet.kept.out.keys().map(String::as_str).collect()
}

#[test]
fn a_grant_is_decided_together_with_the_entry_that_is_to_stand_first() {
    let mut world = World::asking(&["w1", "w2"]);
    let turns = world.turns();
    let ask = world.fleet.nodes["w1"].wanted.value().cloned().expect("an ask");
    assert_eq!(turns.grants().map(|(node, _)| node).collect::<Vec<_>>(), ["w1"]);
    assert_eq!(turns.lease.out, [("w1".to_owned(), Out { ask, role: Role::Agent })].into());
    assert!(!turns.lease.may_rest_on(&world.fleet.kept), "the Lease is written first");
    world.decide();
    world.begin("w1");
    assert!(world.turns().lease.may_rest_on(&world.fleet.kept), "and once");
    assert_eq!(world.turns().lease.out.len(), 1, "for as long as the turn lasts");
    world.prove("w1");
    world.seen("w2").wanted = Said::Nothing;
    let over = world.turns().lease;
    assert!(over.out.is_empty() && over.may_rest_on(&world.fleet.kept), "what is over waits for the next write");
}

#[test]
fn a_node_deleted_in_its_turn_is_remembered_by_the_next_leader_until_its_limit() {
    for has_begun in [true, false] {
        let mut world = World::asking(&["w1", "w2"]);
        world.decide();
        if has_begun {
            world.begin("w1");
        }
        world.fleet.nodes.remove("w1");
        take_over(&mut world);
        world.pass(60);
        assert_eq!(world.decide(), [""; 0]);
        assert!(world.sentence().contains("w1 (deleted or excluded in its turn"), "{}", world.sentence());
        assert_eq!(out(&world), ["w1"], "and by the one after it");
        take_over(&mut world);
        world.pass(120 + 600 - 1);
        assert_eq!((world.turns().revoke, world.decide().len()), (None, 0), "its limit begins anew");
        world.pass(1);
        let turns = world.turns();
        assert_eq!(turns.lease.out, world.fleet.kept.out, "listed until the epoch is new");
        let revoke = turns.revoke.expect("a new epoch");
        assert_eq!(revoke.forget, ["w1"]);
        world.take(&revoke.forget);
        world.pass(60);
        assert_eq!(world.decide(), ["w2"], "it was deleted for good");
        assert_eq!(out(&world), ["w2"]);
    }
}

#[test]
fn a_node_that_came_back_bare_is_busy_for_the_next_leader_until_it_says_how_it_stands() {
    let mut world = World::asking(&["w1", "w2"]);
    world.decide();
    world.begin("w1");
    let working = world.fleet.nodes["w1"].clone();
    registers_again(&mut world, "w1");
    take_over(&mut world);
    // The wait for a silent agent is long over.
    world.pass(300);
    assert_eq!(world.decide(), [""; 0]);
    *world.seen("w1") = NodeSeen { uid: "new".into(), grant: Said::Nothing, ..working };
    world.pass(1);
    assert_eq!(world.decide(), [""; 0], "it is at work");
    assert_eq!(out(&world), ["w1"]);
    world.fleet.nodes.remove("w1");
    take_over(&mut world);
    world.pass(60);
    assert_eq!(world.decide(), [""; 0], "deleted once more");
    registers_again(&mut world, "w1");
    world.pass(1);
    world.seen("w1").phase = Said::Is(Phase::Current);
    world.pass(1);
    assert_eq!(world.decide(), ["w2"]);
}

#[test]
fn no_server_is_granted_beside_one_that_the_lease_alone_knows() {
    for is_back in [false, true] {
        let mut world = World::asking(&["s1", "s2", "w1", "w2"]);
        world.policy.order = Order::ServersFirst;
        world.policy.max_unavailable = MaxUnavailable::Number(3);
        assert_eq!(world.decide(), ["s1"]);
        world.begin("s1");
        world.fleet.nodes.remove("s1");
        if is_back {
            // Its labels come later than its Node.
            registers_again(&mut world, "s1");
        }
        take_over(&mut world);
        world.pass(60);
        assert_eq!(world.decide(), [""; 0], "{is_back}");
        assert_eq!(world.word("s2"), Some(Word::Order));
        assert_eq!(world.fleet.kept.out["s1"].role, Role::Server);
    }
}

#[test]
fn what_is_listed_of_a_node_that_says_a_phase_is_nothing() {
    let mut world = World::asking(&["w1", "w2"]);
    let turns = world.turns();
    // The Lease was written, and the process died before the grant was.
    world.fleet.kept = turns.lease;
    take_over(&mut world);
    world.pass(60);
    assert_eq!(world.decide(), ["w1"], "its ask is as good as before");
    world.prove("w1");
    take_over(&mut world);
    world.pass(60);
    assert_eq!(world.decide(), ["w2"], "its turn was over, and still listed");
    assert_eq!(out(&world), ["w2"]);
}

#[test]
fn a_turn_whose_end_was_seen_is_over_although_its_node_is_deleted_and_still_listed() {
    let mut world = World::asking(&["w1", "w2"]);
    world.decide();
    world.prove("w1");
    world.fleet.nodes.remove("w1");
    // A new epoch of the same process.
    world.take(&[]);
    world.pass(60);
    assert_eq!(world.decide(), ["w2"]);
}

#[test]
fn a_leader_that_knew_an_older_turn_of_a_node_takes_the_newer_from_the_lease() {
    let mut world = World::asking(&["w1", "w2"]);
    world.decide();
    world.fleet.nodes.remove("w1");
    world.pass(1);
    world.pass(700);
    // Meanwhile another one held the Lease, saw the Node come back, granted, and died; the Node is gone again.
    let ask = Ask { revision: R1.into(), number: "0000beef".into() };
    world.fleet.kept.out = [("w1".to_owned(), Out { ask, role: Role::Agent })].into();
    world.take(&[]);
    world.pass(719);
    assert_eq!((world.turns().revoke, world.decide().len()), (None, 0));
    world.pass(1);
    assert_eq!(world.turns().revoke.expect("a new epoch").forget, ["w1"]);
}

#[test]
fn a_lease_made_again_is_told_anew_who_is_out() {
    let mut world = World::asking(&["w1", "w2", "w3"]);
    world.policy.order = Order::ServersFirst;
    world.policy.max_unavailable = MaxUnavailable::Number(2);
    assert_eq!(world.decide(), ["w1", "w2"]);
    world.begin("w1");
    world.begin("w2");
    world.fleet.nodes.remove("w2");
    world.pass(1);
    // The process lives on: what it remembers of a Node that is gone is all there is.
    world.fleet.kept = LeaseKept::default();
    world.take(&[]);
    assert!(!world.turns().lease.may_rest_on(&world.fleet.kept));
    world.decide();
    assert_eq!(out(&world), ["w1", "w2"]);
    // Another one knows of whoever still says so.
    world.fleet.kept = LeaseKept::default();
    take_over(&mut world);
    world.decide();
    assert_eq!(out(&world), ["w1"]);
}

#[test]
fn a_heal_without_a_turn_is_not_listed() {
    let mut world = World::asking(&["w1", "w2"]);
    world.decide();
    world.prove("w1");
    world.seen("w2").wanted = Said::Nothing;
    world.decide();
    world.seen("w1").phase = Said::Is(Phase::Applying);
    world.decide();
    assert_eq!(out(&world), [""; 0], "nobody granted it, and the Lease need not be written for it");
}

#[test]
fn nobody_is_granted_whom_the_lease_has_no_room_to_list() {
    let names: Vec<String> = (0..500).map(|number| format!("w{number:0>252}")).collect();
    let mut world = World::asking(&names.iter().map(String::as_str).collect::<Vec<_>>());
    world.policy.order = Order::ServersFirst;
    world.policy.max_unavailable = MaxUnavailable::Percent(100);
    let granted = world.decide();
    assert!((450..490).contains(&granted.len()), "{}", granted.len());
    let text = world.fleet.kept.annotations().remove("k3s-registry-agent/out").flatten().expect("a list");
    assert!(text.len() <= 128 * 1024, "{}", text.len());
    assert_eq!(world.word(&names[499]), Some(Word::Budget));
    assert_eq!(world.decide(), [""; 0]);
    world.prove(&names[7]);
    assert_eq!(world.decide().len(), 1, "there is room again");
}

#[test]
fn one_excluded_and_made_again_in_its_turn_takes_no_epoch_after_the_other() {
    let mut world = World::asking(&["w1", "w2"]);
    world.decide();
    registers_again(&mut world, "w1");
    world.seen("w1").is_excluded = true;
    world.seen("w1").has_agent = false;
    world.pass(1);
    world.pass(100);
    assert_eq!(world.turns().revoke, None, "no list would show more than this one");
    assert_eq!(world.decide(), [""; 0]);
    world.pass(620);
    let revoke = world.turns().revoke.expect("a new epoch");
    assert_eq!(revoke.forget, ["w1"]);
    world.take(&revoke.forget);
    world.pass(60);
    assert_eq!(world.decide(), ["w2"]);
}

use super::*;

#[test]
fn an_old_sight_moves_no_progress_backward() {
    let mut world = World::asking(&["w1", "w2"]);
    let before = world.fleet.nodes["w1"].clone();
    world.decide();
    let granted = world.fleet.nodes["w1"].clone();
    world.begin("w1");
    let working = world.fleet.nodes["w1"].clone();
    for old in [&before, &granted] {
        *world.seen("w1") = old.clone();
        world.pass(1);
        assert_eq!(world.decide(), [""; 0], "it was seen Applying");
    }
    *world.seen("w1") = working;
    world.seen("w1").phase = Said::Is(Phase::Current);
    world.pass(1);
    let proven = world.fleet.nodes["w1"].clone();
    for old in [&before, &granted] {
        *world.seen("w1") = old.clone();
        world.pass(1);
        assert!(!world.decide().contains(&"w1".to_owned()), "its ask was granted before");
    }
    *world.seen("w1") = proven;
    world.pass(61);
    assert!(world.turns().revoke.is_none_or(|revoke| !revoke.why.contains("w1")), "it was answered");
}

#[test]
fn what_another_holder_granted_is_not_lost_by_an_old_sight() {
    let mut world = World::asking(&["w1", "w2"]);
    let before = world.fleet.nodes["w1"].clone();
    world.decide();
    world.begin("w1");
    world.fleet.ledger = Ledger::default();
    world.take(&[]);
    world.pass(60);
    *world.seen("w1") = before;
    world.pass(1);
    assert_eq!(world.decide(), [""; 0], "it was listed as Applying");
}

#[test]
fn a_grant_counts_before_it_is_written_and_unless_it_certainly_was_not() {
    let mut world = World::asking(&["w1", "w2"]);
    let turns = world.turns();
    let (name, grant) = turns.grants().next().map(|(name, grant)| (name.to_owned(), grant.clone())).expect("a grant");
    let now = world.now;
    world.fleet.ledger.granted(&name, &grant.ask, now);
    assert_eq!(world.turns().grants().count(), 0, "nobody knows whether it arrived");
    world.fleet.ledger.not_written(&name, &grant.ask);
    assert_eq!(world.turns().grants().next(), Some((name.as_str(), &grant)));
    world.fleet.ledger.granted(&name, &grant.ask, now);
    world.seen(&name).grant = Said::Is(grant.clone());
    world.begin(&name);
    world.fleet.ledger.not_written(&name, &grant.ask);
    assert_eq!(world.turns().grants().count(), 0, "it was answered, whatever the edge believes");
}

#[test]
fn a_grant_of_this_epoch_that_the_ledger_does_not_know_counts() {
    let mut world = World::asking(&["w1", "w2"]);
    let ask = world.fleet.nodes["w2"].wanted.value().expect("an ask").clone();
    world.seen("w2").grant = Said::Is(Grant { ask, epoch: epoch(1) });
    assert_eq!(world.decide(), [""; 0]);
    world.pass(60);
    assert!(world.turns().revoke.is_some());
}

#[test]
fn grants_of_an_earlier_epoch_are_void_unless_they_are_being_used() {
    let mut world = World::asking(&["w1", "w2", "w3"]);
    world.policy.order = crate::policy::Order::ServersFirst;
    world.policy.max_unavailable = crate::policy::MaxUnavailable::Number(2);
    assert_eq!(world.decide(), ["w1", "w2"]);
    world.begin("w2");
    world.fleet.ledger = Ledger::default();
    world.take(&[]);
    world.pass(60);
    assert_eq!(world.decide(), ["w3"], "w1 counts no more, w2 does");
    assert_eq!(world.fleet.nodes["w1"].grant, Said::Nothing, "so that its agent draws a new number");
    assert_eq!(world.word("w1"), Some(Word::Absent));
    assert!(world.fleet.nodes["w2"].grant != Said::Nothing);
}

#[test]
fn a_number_that_was_used_up_is_known_to_every_later_holder() {
    let mut world = World::asking(&["w1"]);
    world.decide();
    for _ in 0..3 {
        world.fleet.ledger = Ledger::default();
        world.take(&[]);
        world.pass(60);
        assert_eq!(world.decide(), [""; 0]);
        assert_eq!((&world.fleet.nodes["w1"].grant, world.word("w1")), (&Said::Nothing, Some(Word::Absent)));
    }
    world.ask("w1", R1);
    assert_eq!(world.decide(), ["w1"]);
}

#[test]
fn an_old_sight_of_an_earlier_turn_does_not_hide_the_end_of_this_one() {
    let mut world = World::asking(&["w1", "w2"]);
    world.decide();
    world.begin("w1");
    let old = world.fleet.nodes["w1"].clone();
    world.prove("w1");
    world.ask("w1", R2);
    world.decide();
    world.begin("w1");
    let present = std::mem::replace(world.seen("w1"), old);
    world.pass(1);
    *world.seen("w1") = present;
    world.seen("w1").phase = Said::Is(Phase::Current);
    world.ask("w2", OLD);
    assert_eq!(world.decide(), ["w2"]);
}

#[test]
fn an_answered_grant_of_an_earlier_epoch_is_left_where_it_is() {
    let mut world = World::asking(&["w1"]);
    world.decide();
    world.prove("w1");
    world.take(&[]);
    world.pass(60);
    assert_eq!(world.turns().writes, [], "5,000 nodes would cost 5,000 requests");
}

#[test]
fn an_old_sight_of_a_deleted_node_is_no_new_node() {
    let mut world = World::asking(&["w1", "w2"]);
    let before = world.fleet.nodes["w1"].clone();
    let ask = before.wanted.clone();
    *world.seen("w1") =
        NodeSeen { uid: "new".into(), wanted: ask, phase: Said::Is(Phase::Pending), ..node(Role::Agent) };
    world.pass(1);
    assert_eq!(world.decide(), ["w1"]);
    *world.seen("w1") = before;
    world.pass(1);
    assert_eq!(world.decide(), [""; 0], "the grant of the new one is still out");
}

#[test]
fn a_heal_without_a_turn_is_busy_while_it_lasts() {
    let mut world = World::asking(&["w1", "w2"]);
    world.decide();
    world.prove("w1");
    world.seen("w1").phase = Said::Is(Phase::Applying);
    assert_eq!(world.decide(), [""; 0]);
    world.seen("w1").phase = Said::Is(Phase::Current);
    assert_eq!(world.decide(), ["w2"]);
}

#[test]
fn a_node_that_is_gone_is_forgotten() {
    let mut world = World::of(&["w1", "w2"]);
    world.fleet.nodes.remove("w1");
    world.pass(1);
    assert!(world.fleet.ledger.of("w1").is_some(), "a list may lack it by lag");
    world.pass(600);
    assert!(world.fleet.ledger.of("w1").is_none());
}

#[test]
fn a_node_is_read_strictly_and_garbage_is_named() {
    let labels = [("node-role.kubernetes.io/control-plane", "true"), ("k3s-registry-agent/exclude", "true")];
    let said = [
        ("phase", "current"),
        ("revision", "0123456789ab"),
        ("failed", "x"),
        ("wanted", "0123456789ab/00c0ffee"),
        ("answered", "00C0FFEE"),
        ("grant", "0123456789ab/00c0ffee@0123456789abcdef"),
        ("turn", "server-gate"),
        ("pause", "yes"),
        ("retry", "t"),
    ];
    let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let annotations =
        said.into_iter().map(|(key, value)| (format!("k3s-registry-agent/{key}"), value.to_owned())).collect();
    let raw = NodeRaw {
        uid: "u",
        labels: &labels,
        annotations: &annotations,
        is_ready: true,
        is_cordoned: false,
        has_agent: true,
    };
    let seen = NodeSeen::read(raw);
    assert_eq!((seen.role, seen.is_excluded, seen.is_paused), (Role::Server, true, false));
    assert_eq!((&seen.phase, &seen.failed, &seen.answered), (&Said::Garbage, &Said::Garbage, &Said::Garbage));
    assert_eq!(seen.garbage(), Some("phase"));
    assert_eq!(seen.revision, Said::Is("0123456789ab".into()));
    assert_eq!(seen.grant.value().map(|grant| grant.epoch.to_string()).as_deref(), Some("0123456789abcdef"));
    assert_eq!(seen.wanted.value(), seen.grant.value().map(|grant| &grant.ask));
    assert_eq!((seen.turn, seen.retry.as_deref()), (Said::Is(Word::ServerGate), Some("t")));
    // Written by hand: nobody is granted what is no revision, and the Lease could not list it.
    let grant = ("k3s-registry-agent/grant".to_owned(), "abc/00c0ffee@0123456789abcdef".to_owned());
    let annotations = BTreeMap::from([grant]);
    assert_eq!(NodeSeen::read(NodeRaw { annotations: &annotations, ..raw }).grant, Said::Garbage);
}

#[test]
fn a_node_made_again_in_its_turn_that_was_seen_bare_first_is_at_work() {
    // kubelet registers the Node before the agent writes it: a first sight without a word, then all that the journal knows.
    for is_other_leader in [false, true] {
        let mut world = World::asking(&["w1", "w2"]);
        assert_eq!(world.decide(), ["w1"]);
        world.begin("w1");
        let working = world.fleet.nodes["w1"].clone();
        *world.seen("w1") = NodeSeen { uid: "new".into(), phase: Said::Nothing, ..node(Role::Agent) };
        if is_other_leader {
            world.fleet.ledger = Ledger::default();
            world.take(&[]);
        }
        world.pass(1);
        assert_eq!(world.decide(), [""; 0], "its agent has said nothing yet");
        *world.seen("w1") = NodeSeen { uid: "new".into(), grant: Said::Nothing, ..working };
        world.pass(100);
        assert_eq!(world.decide(), [""; 0], "it says that it is at work");
        world.seen("w1").phase = Said::Is(Phase::Current);
        world.seen("w1").revision = Said::Is(R1.into());
        world.pass(1);
        assert_eq!(world.decide(), ["w2"]);
    }
}

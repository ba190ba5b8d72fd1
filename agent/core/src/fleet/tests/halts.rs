use super::*;

#[test]
fn a_failure_halts_that_revision_for_everybody_and_no_other() {
    let mut world = World::asking(&["s1", "w1", "w2"]);
    assert_eq!(world.decide(), ["w1"]);
    world.fail("w1");
    assert_eq!(world.decide(), [""; 0]);
    assert_eq!(world.fleet.kept.halted, [R1]);
    assert_eq!((world.word("s1"), world.word("w2")), (Some(Word::Halted), Some(Word::Halted)));
    assert!(
        world.sentence().starts_with(&format!("halted: {R1} failed on w1: see its reason")),
        "{}",
        world.sentence()
    );
    world.ask_all(R2);
    assert_eq!(world.roll_out(), "w1 s1 w2", "the node that failed tries the next one for all");
    assert_eq!(world.fleet.kept.halted, [R1], "it stays, since its text may come back");
}

#[test]
fn what_is_refused_before_anything_is_touched_halts_too() {
    let mut world = World::asking(&["w1", "w2"]);
    world.decide();
    world.begin("w1");
    world.seen("w1").phase = Said::Is(Phase::Invalid);
    world.seen("w1").failed = Said::Is(R1.into());
    assert_eq!(world.decide(), [""; 0]);
    assert_eq!(world.word("w2"), Some(Word::Halted));
}

#[test]
fn a_halt_outlives_the_coordinator_and_the_node() {
    let mut world = World::asking(&["w1", "w2"]);
    world.decide();
    world.fail("w1");
    world.decide();
    world.fleet.ledger = Ledger::default();
    world.fleet.nodes.remove("w1");
    world.take(&[]);
    world.pass(60);
    assert_eq!(world.decide(), [""; 0]);
    assert_eq!(world.word("w2"), Some(Word::Halted));
    assert!(world.sentence().contains("a node that tells of it no more"), "{}", world.sentence());
}

#[test]
fn a_retry_on_every_node_that_failed_ends_the_halt() {
    let mut world = World::asking(&["w1", "w2", "w3"]);
    world.policy.order = crate::policy::Order::ServersFirst;
    world.policy.max_unavailable = crate::policy::MaxUnavailable::Number(2);
    assert_eq!(world.decide(), ["w1", "w2"]);
    world.seen("w2").retry = Some("old".into());
    world.fail("w1");
    world.fail("w2");
    world.decide();
    world.ask("w1", R1);
    world.decide();
    assert_eq!(world.fleet.kept.halted, [R1], "an ask alone is no retry: an agent may have been restarted");
    world.seen("w1").retry = Some("token".into());
    world.ask("w2", R1);
    world.decide();
    assert_eq!(world.fleet.kept.halted, [R1], "the token of w2 was there before it failed");
    world.seen("w2").retry = Some("token".into());
    assert_eq!(world.decide(), ["w1", "w2"]);
    assert_eq!(world.fleet.kept.halted, [""; 0]);
    world.fail("w1");
    world.decide();
    assert_eq!(world.fleet.kept.halted, [R1], "a second failure halts again");
    world.ask("w1", R1);
    world.decide();
    assert_eq!(world.fleet.kept.halted, [R1], "the token was used up by the first");
}

#[test]
fn a_retry_on_the_lease_is_honoured_once() {
    let mut world = World::asking(&["w1", "w2"]);
    world.decide();
    world.fail("w1");
    world.decide();
    world.fleet.retry = Some("a".into());
    assert_eq!(world.decide(), ["w2"], "w1 still tells of its failure, and is excused");
    assert_eq!(world.fleet.kept.honoured.as_deref(), Some("a"));
    assert_eq!(world.fleet.kept.excused, [Failure { node: "w1".into(), revision: R1.into() }]);
    world.begin("w2");
    world.fleet.ledger = Ledger::default();
    world.take(&[]);
    world.decide();
    assert_eq!(world.fleet.kept.halted, [""; 0], "for the next holder, too");
    world.fail("w2");
    world.decide();
    assert_eq!(world.fleet.kept.halted, [R1], "another node's failure is a new one, and the token is used up");
    world.fleet.retry = Some("b".into());
    world.decide();
    assert_eq!(world.fleet.kept.halted, [""; 0]);
    world.ask("w1", R1);
    world.decide();
    world.seen("w1").failed = Said::Is(R1.into());
    world.decide();
    assert_eq!(world.fleet.kept.halted, [R1], "it asked in between, so it failed again");
}

#[test]
fn only_the_last_sixteen_halts_are_kept() {
    let mut world = World::of(&["w1"]);
    world.fleet.kept.halted = (0..16).map(|number| format!("{number:012x}")).collect();
    world.seen("w1").failed = Said::Is(R1.into());
    world.decide();
    assert_eq!(world.fleet.kept.halted.len(), 16);
    assert_eq!(world.fleet.kept.halted.first().map(String::as_str), Some("000000000001"));
    assert_eq!(world.fleet.kept.halted.last().map(String::as_str), Some(R1));
}

#[test]
fn the_nodes_that_failed_an_earlier_revision_are_the_canaries_of_the_next() {
    let mut world = World::asking(&["s1", "w1", "w2", "w3"]);
    world.policy.order = crate::policy::Order::ServersFirst;
    assert_eq!(world.decide(), ["s1"]);
    world.fail("s1");
    world.decide();
    world.ask_all(R2);
    world.seen("s1").is_paused = true;
    assert_eq!(world.decide(), [""; 0], "granted to nobody else");
    assert_eq!((world.word("s1"), world.word("w1")), (Some(Word::Paused), Some(Word::Order)));
    assert!(
        world.sentence().contains("an earlier revision failed on s1, which is to try this one first and is paused"),
        "{}",
        world.sentence()
    );
    world.seen("s1").is_paused = false;
    world.seen("s1").phase = Said::Is(Phase::Stuck);
    assert_eq!(world.decide(), ["s1"]);
    world.begin("s1");
    assert_eq!(world.decide(), [""; 0]);
    world.prove("s1");
    assert_eq!(world.decide(), ["w1"]);
}

#[test]
fn a_canary_by_failure_that_is_absent_is_not_waited_for() {
    let mut world = World::asking(&["w1", "w2", "w3"]);
    world.decide();
    world.fail("w1");
    world.ask_all(R2);
    world.seen("w1").is_ready = false;
    world.pass(1);
    world.pass(599);
    assert_eq!(world.decide(), [""; 0]);
    world.pass(1);
    assert_eq!(world.decide(), ["w2"]);
    assert!(world.sentence().ends_with("absent: w1"), "{}", world.sentence());
}

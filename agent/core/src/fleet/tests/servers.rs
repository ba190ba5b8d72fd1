use super::*;

#[test]
fn a_server_is_granted_only_on_a_fresh_answer_of_its_own_gate() {
    let mut world = World::asking(&["s1", "s2", "s3"]);
    let turns = world.turns();
    assert_eq!(turns.gate, Some(GateAsk { node: "s1".into(), is_cure: false }));
    assert_eq!(turns.grants().count(), 0);
    let answer = |target: &str, asked_at, refusal| Some(GateAnswer { target: target.into(), asked_at, refusal });
    world.fleet.gate = answer("s2", world.now, None);
    assert_eq!(world.turns().grants().count(), 0, "the answer is another server's");
    world.fleet.gate = answer("s1", world.now - seconds(5), None);
    let turns = world.turns();
    assert_eq!((turns.grants().count(), turns.gate.is_some()), (0, true), "it is too old");
    world.fleet.gate = answer("s1", world.now - Duration::from_millis(4_999), None);
    let turns = world.turns();
    assert_eq!((turns.grants().count(), turns.gate), (1, None));
}

#[test]
fn a_gate_that_refuses_is_asked_again_after_ten_seconds() {
    let mut world = World::asking(&["s1", "s2", "w1"]);
    assert_eq!(world.decide(), ["w1"]);
    world.prove("w1");
    world.refusal = Some("https://10.0.0.2:6443/readyz answers 500".into());
    assert_eq!(world.decide(), [""; 0]);
    assert_eq!((world.word("s1"), world.word("s2")), (Some(Word::ServerGate), Some(Word::Order)));
    assert!(world.sentence().contains("server s1 waits: https://10.0.0.2:6443/readyz answers 500"));
    world.pass(9);
    let turns = world.turns();
    assert_eq!((turns.gate, turns.wake), (None, Some(seconds(1))));
    world.pass(1);
    let turns = world.turns();
    assert_eq!(turns.gate, Some(GateAsk { node: "s1".into(), is_cure: false }));
    assert_eq!(turns.writes, [], "its word stays while the gate is asked");
    world.refusal = None;
    assert_eq!(world.decide(), ["s1"]);
}

#[test]
fn the_gate_is_not_asked_while_the_turn_could_not_be_given() {
    let mut world = World::asking(&["s1", "w1"]);
    world.decide();
    world.begin("w1");
    assert_eq!(world.turns().gate, None);
    world.prove("w1");
    world.policy.pause = true;
    assert_eq!(world.turns().gate, None);
}

#[test]
fn a_stuck_or_notready_server_stops_other_servers() {
    type Change = fn(&mut World);
    let stuck: Change = |world| world.seen("s2").phase = Said::Is(Phase::Stuck);
    let down: Change = |world| world.seen("s2").is_ready = false;
    let bare: Change = |world| {
        *world.seen("s2") = NodeSeen { is_ready: false, has_agent: false, phase: Said::Nothing, ..node(Role::Server) };
    };
    for change in [stuck, down, bare] {
        let mut world = World::asking(&["s1", "s2", "s3"]);
        world.policy.max_unavailable = crate::policy::MaxUnavailable::Number(3);
        world.seen("s2").wanted = Said::Nothing;
        change(&mut world);
        for _ in 0..3 {
            assert_eq!(world.decide(), [""; 0]);
            assert_eq!(world.word("s1"), Some(Word::ServerGate));
            assert!(world.sentence().contains("since server s2 is"), "{}", world.sentence());
            world.pass(3_600);
        }
    }
}

#[test]
fn a_newly_cordoned_server_stops_other_servers_for_an_hour_and_is_named() {
    let mut world = World::asking(&["s1", "s2"]);
    world.seen("s1").is_cordoned = true;
    assert_eq!(world.decide(), [""; 0], "s2 goes first, since s1 is cordoned, and waits for s1");
    assert_eq!(world.word("s2"), Some(Word::ServerGate));
    assert!(world.sentence().contains("server s1 was cordoned within the last hour"), "{}", world.sentence());
    assert!(world.fleet.ledger.is_newly_cordoned("s1", &world.fleet.waits, world.now));
    world.pass(3_599);
    assert_eq!(world.decide(), [""; 0]);
    world.pass(1);
    assert!(!world.fleet.ledger.is_newly_cordoned("s1", &world.fleet.waits, world.now));
    assert_eq!(world.decide(), ["s2"], "it counts no more");
}

#[test]
fn a_stuck_server_gets_its_cure_when_all_others_answer() {
    let mut world = World::asking(&["s1", "s2", "s3"]);
    world.seen("s3").phase = Said::Is(Phase::Stuck);
    world.seen("s3").is_ready = false;
    world.seen("s2").phase = Said::Is(Phase::Stuck);
    world.refusal = Some("10.0.0.3 does not answer".into());
    assert_eq!(world.decide(), [""; 0]);
    assert_eq!((world.word("s2"), world.word("s3")), (Some(Word::ServerGate), Some(Word::Order)));
    world.refusal = None;
    world.pass(10);
    assert_eq!(world.turns().gate, Some(GateAsk { node: "s2".into(), is_cure: true }));
    assert_eq!(world.decide(), ["s2"]);
    world.begin("s2");
    assert_eq!(world.decide(), [""; 0], "never two servers, stuck or not");
    world.prove("s2");
    assert_eq!(world.decide(), ["s3"]);
}

#[test]
fn workers_wait_for_servers_that_may_and_for_no_others() {
    let mut world = World::asking(&["s1", "w1", "w2"]);
    world.policy.max_unavailable = crate::policy::MaxUnavailable::Number(3);
    assert_eq!(world.decide(), ["w1"]);
    world.prove("w1");
    assert_eq!(world.decide(), ["s1"]);
    assert_eq!(world.word("w2"), Some(Word::Order));
    world.begin("s1");
    assert_eq!(world.decide(), [""; 0]);
    world.prove("s1");
    assert_eq!(world.decide(), ["w2"]);
}

#[test]
fn that_the_api_stops_with_the_only_server_is_said_before_it_does() {
    let mut world = World::asking(&["s1", "w1"]);
    assert_eq!(world.decide(), ["w1"]);
    assert!(!world.sentence().contains("API stops"), "{}", world.sentence());
    world.prove("w1");
    assert_eq!(world.decide(), ["s1"]);
    let said = "in turn: s1 (granted its turn), the only server: the API stops while k3s restarts there";
    assert!(world.sentence().contains(said), "{}", world.sentence());
    let mut world = World::asking(&["s1", "s2"]);
    assert_eq!(world.decide(), ["s1"]);
    assert!(!world.sentence().contains("API stops"), "with two it depends on their datastore: {}", world.sentence());
}

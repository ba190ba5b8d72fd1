use super::*;
use crate::policy::MaxUnavailable;

#[test]
fn what_disturbs_a_node_takes_a_place() {
    type Change = fn(&mut NodeSeen);
    let cases: [(&str, Change, bool); 8] = [
        ("at rest", |_| (), false),
        ("Applying", |seen| seen.phase = Said::Is(Phase::Applying), true),
        ("Proving", |seen| seen.phase = Said::Is(Phase::Proving), true),
        ("Stuck", |seen| seen.phase = Said::Is(Phase::Stuck), true),
        ("NotReady", |seen| seen.is_ready = false, true),
        ("RolledBack", |seen| seen.phase = Said::Is(Phase::RolledBack), false),
        ("Invalid", |seen| seen.phase = Said::Is(Phase::Invalid), false),
        (
            "NotReady, never an agent",
            |seen| {
                *seen = NodeSeen { is_ready: false, has_agent: false, phase: Said::Nothing, ..node(Role::Agent) };
            },
            false,
        ),
    ];
    for (name, change, is_busy) in cases {
        let mut world = World::of(&["w1", "w2"]);
        world.ask("w2", R1);
        change(world.seen("w1"));
        world.pass(1);
        assert_eq!(world.decide().is_empty(), is_busy, "{name}: {}", world.sentence());
    }
}

#[test]
fn a_worker_that_was_notready_for_ten_minutes_is_absent_and_a_server_is_not() {
    for (name, ends) in [("w1", true), ("s1", false)] {
        let mut world = World::of(&[name, "w2", "w3"]);
        world.policy.max_unavailable = MaxUnavailable::Number(1);
        world.ask("w2", R1);
        world.seen(name).is_ready = false;
        world.pass(1);
        world.pass(599);
        assert_eq!(world.decide(), [""; 0]);
        assert_eq!(world.word("w2"), Some(Word::Budget));
        assert!(world.sentence().contains(&format!("{name} is NotReady")), "{}", world.sentence());
        world.pass(1);
        assert_eq!(world.decide().len(), usize::from(ends), "{name}");
        assert_eq!(world.sentence().ends_with(&format!("absent: {name}")), ends, "{}", world.sentence());
    }
}

#[test]
fn per_cents_are_of_nodes_that_are_not_absent() {
    let mut world = World::of(&["w1", "w2", "w3", "w4"]);
    world.policy.max_unavailable = MaxUnavailable::Percent(50);
    for name in ["w2", "w3", "w4"] {
        world.ask(name, OLD);
    }
    world.seen("w1").is_ready = false;
    world.pass(1);
    assert_eq!(world.decide(), ["w2"], "two of four, and w1 is one of them");
    world.prove("w2");
    world.pass(600);
    assert_eq!(world.decide(), ["w3"], "one of three");
}

#[test]
fn a_stuck_node_goes_first_and_other_stuck_nodes_do_not_stop_its_cure() {
    let mut world = World::asking(&["w1", "w2", "w3", "w4"]);
    for name in ["w2", "w3"] {
        world.seen(name).phase = Said::Is(Phase::Stuck);
    }
    assert_eq!(world.decide(), ["w2"], "without a canary");
    assert_eq!((world.word("w1"), world.word("w3")), (Some(Word::Order), Some(Word::Budget)), "one cure at a time");
    world.prove("w2");
    assert_eq!(world.decide(), ["w3"]);
    world.prove("w3");
    assert_eq!(world.decide(), ["w1"]);
}

#[test]
fn a_stuck_node_takes_a_place_from_the_others() {
    let mut world = World::asking(&["w1", "w2"]);
    world.seen("w2").phase = Said::Is(Phase::Stuck);
    world.seen("w2").wanted = Said::Nothing;
    assert_eq!(world.decide(), [""; 0]);
    assert!(world.sentence().ends_with("1 node may be out, and w2 is Stuck (see its reason)"), "{}", world.sentence());
    world.policy.max_unavailable = MaxUnavailable::Number(2);
    assert_eq!(world.decide(), ["w1"]);
}

#[test]
fn a_turn_beyond_its_limit_holds_the_rollout_and_says_what_to_do() {
    let mut world = World::asking(&["w1", "w2", "w3", "w4"]);
    world.policy.max_unavailable = MaxUnavailable::Number(3);
    world.decide();
    world.prove("w1");
    assert_eq!(world.decide(), ["w2", "w3", "w4"]);
    world.begin("w2");
    world.prove("w3");
    world.prove("w4");
    world.ask("w3", R2);
    world.pass(120 + 300 - 1);
    assert!(!world.turns().lease.rollout.contains("held"));
    world.pass(1);
    assert_eq!(world.decide(), [""; 0]);
    assert!(world.sentence().starts_with("held: w2 is Applying for longer"), "{}", world.sentence());
    assert!(world.sentence().contains("delete its Node"));
    assert_eq!(world.word("w3"), Some(Word::Order));
    world.seen("w2").phase = Said::Is(Phase::Current);
    assert_eq!(world.decide(), ["w3"], "not a halt");
}

#[test]
fn an_unanswered_grant_ends_by_a_new_epoch_and_by_nothing_else() {
    let mut world = World::asking(&["w1", "w2"]);
    assert_eq!(world.decide(), ["w1"]);
    world.seen("w1").is_ready = false;
    world.pass(59);
    assert_eq!(world.decide(), [""; 0]);
    world.pass(1);
    let turns = world.turns();
    let revoke = turns.revoke.expect("a new epoch");
    assert_eq!(revoke.forget, [""; 0]);
    assert_eq!(turns.lease.rollout, "the grant of w1 was not answered in time: what was granted before is made void");
    assert_eq!((turns.writes.len(), turns.gate), (0, None), "nothing else before it");
    world.seen("w1").is_ready = true;
    assert!(world.turns().revoke.is_some(), "nothing but an answer or an epoch ends it");
    world.take(&revoke.forget);
    assert_eq!(world.decide(), [""; 0]);
    assert_eq!((&world.fleet.nodes["w1"].grant, world.word("w1")), (&Said::Nothing, Some(Word::Absent)));
    world.pass(60);
    assert_eq!(world.decide(), ["w2"]);
    world.prove("w2");
    assert_eq!(world.decide(), [""; 0], "the same number is never granted twice");
    assert!(world.sentence().contains("w1 asked and does not answer"), "{}", world.sentence());
    world.ask("w1", R1);
    assert_eq!(world.decide(), ["w1"], "a new number is");
}

#[test]
fn a_grant_that_is_answered_in_the_last_moment_is_not_void() {
    let mut world = World::asking(&["w1", "w2"]);
    world.decide();
    world.pass(60);
    let revoke = world.turns().revoke.expect("a new epoch");
    world.begin("w1");
    world.take(&revoke.forget);
    world.pass(60);
    assert_eq!(world.decide(), [""; 0], "it may have read the Lease before");
    assert_eq!(world.turns().revoke, None);
    assert!(world.fleet.nodes["w1"].grant != Said::Nothing);
    world.seen("w1").phase = Said::Is(Phase::Pending);
    world.ask("w1", R1);
    assert_eq!(world.decide(), ["w1"]);
}

#[test]
fn one_deleted_in_its_turn_keeps_its_place_until_a_new_epoch_after_its_limit() {
    for has_begun in [true, false] {
        let mut world = World::asking(&["w1", "w2"]);
        world.decide();
        if has_begun {
            world.begin("w1");
        }
        world.fleet.nodes.remove("w1");
        world.pass(1);
        world.pass(120 + 600 - 1);
        assert_eq!(world.turns().revoke, None, "{has_begun}: not by the shorter wait for an answer");
        assert_eq!(world.decide(), [""; 0]);
        assert!(world.sentence().contains("w1"), "{}", world.sentence());
        world.pass(1);
        let revoke = world.turns().revoke.expect("a new epoch");
        assert_eq!(revoke.forget, ["w1"]);
        world.take(&[]);
        assert!(world.turns().revoke.is_some(), "an epoch of somebody else's wish does not end it");
        world.take(&revoke.forget);
        world.pass(60);
        assert_eq!(world.decide(), ["w2"]);
    }
}

#[test]
fn one_excluded_in_its_turn_keeps_its_place_until_it_ends_or_its_limit() {
    let mut world = World::asking(&["w1", "w2"]);
    world.decide();
    world.begin("w1");
    world.seen("w1").is_excluded = true;
    world.pass(1);
    assert_eq!(world.decide(), [""; 0]);
    let ended = {
        world.seen("w1").phase = Said::Is(Phase::Current);
        world.decide()
    };
    assert_eq!(ended, ["w2"]);
    let mut world = World::asking(&["w1", "w2"]);
    world.decide();
    world.begin("w1");
    world.seen("w1").is_excluded = true;
    world.pass(1);
    world.pass(720);
    let revoke = world.turns().revoke.expect("a new epoch");
    world.take(&revoke.forget);
    world.pass(60);
    assert_eq!(world.decide(), ["w2"], "its Node says Applying for ever");
    assert_eq!(world.turns().revoke, None);
}

#[test]
fn a_node_that_came_back_under_its_name_is_busy_until_it_says_otherwise() {
    let mut world = World::asking(&["w1", "w2"]);
    world.decide();
    world.begin("w1");
    *world.seen("w1") = NodeSeen { uid: "new".into(), phase: Said::Nothing, has_agent: false, ..node(Role::Agent) };
    world.pass(200);
    assert_eq!(world.decide(), [""; 0], "k3s registered it again, its agent has not spoken");
    world.seen("w1").phase = Said::Is(Phase::Proving);
    assert_eq!(world.decide(), [""; 0]);
    world.seen("w1").phase = Said::Is(Phase::Current);
    assert_eq!(world.decide(), ["w2"]);
}

#[test]
fn an_agent_that_has_not_said_where_it_stands_stops_everybody_for_a_minute() {
    let mut world = World::of(&["w1", "w2", "w3"]);
    world.policy.max_unavailable = MaxUnavailable::Number(3);
    world.ask("w2", OLD);
    for phase in [Said::Nothing, Said::Garbage] {
        world.fleet.nodes.remove("x1");
        world.pass(1_000);
        world.fleet.nodes.insert("x1".into(), NodeSeen { phase, ..node(Role::Agent) });
        world.pass(0);
        assert_eq!(world.decide(), [""; 0]);
        assert!(world.sentence().contains("the agent on x1 has not said"), "{}", world.sentence());
        world.pass(59);
        assert_eq!(world.decide(), [""; 0]);
        assert_eq!(world.turns().wake, Some(seconds(1)));
    }
    assert!(world.sentence().ends_with("annotation phase of x1 is none that we write"), "{}", world.sentence());
    world.pass(1);
    assert_eq!(world.decide(), ["w2"]);
    world.prove("w2");
    world.ask("w3", OLD);
    world.seen("x1").phase = Said::Nothing;
    world.seen("x1").has_agent = false;
    assert_eq!(world.decide(), ["w3"], "without an agent there is nobody to speak");
}

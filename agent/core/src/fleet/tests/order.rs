use super::*;
use crate::policy::{MaxUnavailable, Mode, Order};

fn rolls_out(names: &[&str], change: impl Fn(&mut World)) -> String {
    let mut world = World::asking(names);
    change(&mut world);
    world.roll_out()
}

#[test]
fn one_worker_then_servers_then_workers() {
    let five = ["s1", "s2", "s3", "w1", "w2"];
    assert_eq!(rolls_out(&five, |_| ()), "w1 s1 s2 s3 w2");
    assert_eq!(rolls_out(&five, |world| world.policy.order = Order::ServersFirst), "s1 s2 s3 w1 w2");
    assert_eq!(rolls_out(&five, |world| world.seen("w1").is_cordoned = true), "w2 s1 s2 s3 w1", "cordoned ones last");
    assert_eq!(rolls_out(&five, |world| world.seen("w1").is_paused = true), "w2 s1 s2 s3", "a paused one is no canary");
    assert_eq!(rolls_out(&["s1", "s2", "s3"], |_| ()), "s1 s2 s3", "a server is the canary where there is no worker");
    assert_eq!(rolls_out(&["s1"], |_| ()), "s1", "a cluster of one");
    assert_eq!(rolls_out(&["s1", "s2"], |_| ()), "s1 s2");
    assert_eq!(rolls_out(&["s1", "w1"], |_| ()), "w1 s1");
    let cordoned = |world: &mut World| world.fleet.nodes.values_mut().for_each(|seen| seen.is_cordoned = true);
    assert_eq!(rolls_out(&["w1", "w2"], cordoned), "w1 w2", "better a cordoned one than none");
}

#[test]
fn at_a_first_installation_where_nobody_proved_anything_the_order_is_the_policys() {
    let five = ["s1", "s2", "s3", "w1", "w2"];
    let fresh = |world: &mut World| world.fleet.nodes.values_mut().for_each(|seen| seen.revision = Said::Nothing);
    assert_eq!(rolls_out(&five, fresh), "w1 s1 s2 s3 w2");
    let servers_first = |world: &mut World| {
        fresh(world);
        world.policy.order = Order::ServersFirst;
    };
    assert_eq!(rolls_out(&five, servers_first), "s1 s2 s3 w1 w2");
    // Also while the gate has not answered yet, or says no: a worker does not slip in between.
    let mut world = World::asking(&five);
    servers_first(&mut world);
    assert_eq!(world.decide(), ["s1"]);
    world.prove("s1");
    let turns = world.turns();
    assert_eq!((turns.grants().count(), turns.gate.map(|ask| ask.node)), (0, Some("s2".to_owned())));
    world.refusal = Some("s1 does not answer".to_owned());
    assert_eq!(world.decide(), [""; 0]);
    assert_eq!(world.word("w1"), Some(Word::Order));
    world.refusal = None;
}

#[test]
fn the_budget_is_a_number_or_per_cent_and_never_two_servers() {
    let names = ["s1", "s2", "w1", "w2", "w3", "w4", "w5", "w6"];
    let with = |budget| rolls_out(&names, move |world| world.policy.max_unavailable = budget);
    assert_eq!(with(MaxUnavailable::Number(3)), "w1 s1 s2 w2+w3+w4 w5+w6");
    assert_eq!(with(MaxUnavailable::Percent(25)), "w1 s1 s2 w2+w3 w4+w5 w6");
    assert_eq!(with(MaxUnavailable::Percent(1)), "w1 s1 s2 w2 w3 w4 w5 w6", "at least one");
    let few = |world: &mut World| {
        world.policy.max_unavailable = MaxUnavailable::Percent(25);
        world.seen("w6").is_excluded = true;
    };
    assert_eq!(rolls_out(&names, few), "w1 s1 s2 w2 w3 w4 w5", "of nodes with an agent");
}

#[test]
fn while_the_canary_tries_it_every_other_node_says_order_and_then_budget() {
    let mut world = World::asking(&["w1", "w2", "w3"]);
    assert_eq!(world.decide(), ["w1"]);
    assert_eq!((world.word("w1"), world.word("w2"), world.word("w3")), (None, Some(Word::Order), Some(Word::Order)));
    assert_eq!(world.sentence(), format!("{R1}: 0 of 3 nodes have proven it; in turn: w1 (granted its turn); 2 wait"));
    world.prove("w1");
    assert_eq!(world.decide(), ["w2"]);
    assert_eq!((world.word("w2"), world.word("w3")), (None, Some(Word::Budget)), "a grant takes the word away");
    let turns = world.turns();
    assert_eq!(turns.writes, [], "what stands there already is not written again");
    world.begin("w2");
    assert_eq!(world.decide(), [""; 0]);
    assert_eq!(world.sentence(), format!("{R1}: 1 of 3 nodes have proven it; in turn: w2 (Applying); 1 wait"));
}

#[test]
fn one_that_asks_no_more_loses_its_word() {
    let mut world = World::asking(&["w1", "w2"]);
    world.decide();
    world.seen("w2").wanted = Said::Nothing;
    world.seen("w2").phase = Said::Is(Phase::Invalid);
    assert_eq!(world.turns().writes.len(), 1);
    world.decide();
    assert_eq!(world.word("w2"), None);
}

#[test]
fn asks_are_gathered_for_a_moment_so_that_names_decide() {
    let mut world = World::of(&["w1", "w2", "w3"]);
    world.fleet.waits = Waits::default();
    world.ask("w2", R1);
    let turns = world.turns();
    assert_eq!((turns.writes.len(), turns.wake), (0, Some(Duration::from_millis(300))));
    world.ask("w1", R1);
    world.now += Duration::from_millis(299);
    assert_eq!(world.decide(), [""; 0]);
    world.now += Duration::from_millis(1);
    assert_eq!(world.decide(), ["w1"], "w3 has nothing to ask for and is not waited for longer");
}

#[test]
fn a_new_node_goes_ahead_and_outside_windows_with_what_another_has_proven() {
    let mut world = World::asking(&["w1", "w2", "w9"]);
    world.seen("w9").revision = Said::Nothing;
    assert_eq!(world.decide(), ["w1"], "nobody has proven it: it is no canary by being new");
    world.prove("w1");
    assert_eq!(world.decide(), ["w9"], "ahead of w2");
    world.prove("w9");
    world.policy =
        Policy::parse("windows: [{days: [], start: \"02:00\", end: \"03:00\", zone: UTC}]").expect("a policy");
    assert_eq!(world.decide(), [""; 0]);
    assert_eq!(world.word("w2"), Some(Word::Window));
    assert!(world.sentence().ends_with("w2 wait for a maintenance window"), "{}", world.sentence());
    assert_eq!(world.turns().wake, Some(seconds(60)), "windows are looked at without any event");
    world.fleet.nodes.insert("x1".into(), NodeSeen { revision: Said::Nothing, is_ready: false, ..node(Role::Agent) });
    world.ask("x1", R1);
    assert_eq!(world.decide(), ["x1"], "it may be NotReady just because it has no configuration");
    world.prove("x1");
    world.seen("x1").is_ready = true;
    world.ask("x1", R2);
    world.decide();
    assert_eq!(world.word("x1"), Some(Word::Window), "it has proven something now");
    world.fleet.wall = "2026-01-10T02:30:00Z".parse().expect("a time");
    world.ask("x1", R1);
    assert_eq!(world.decide(), ["w2"]);
}

#[test]
fn pause_report_and_an_invalid_policy_grant_nothing_and_take_nothing_away() {
    type Change = fn(&mut World);
    let pause: Change = |world| world.policy.pause = true;
    let report: Change = |world| world.policy.mode = Mode::Report;
    let invalid: Change = |world| world.fleet.policy_refused = Some("line 3: unknown key".into());
    for (change, words) in [(pause, "paused by the policy"), (report, "mode report"), (invalid, "line 3: unknown key")]
    {
        let mut world = World::asking(&["w1", "w2"]);
        world.decide();
        world.begin("w1");
        change(&mut world);
        assert_eq!(world.decide(), [""; 0]);
        assert_eq!((world.word("w1"), world.word("w2")), (None, Some(Word::Paused)));
        assert!(world.sentence().contains(words), "{}", world.sentence());
        assert!(world.fleet.nodes["w1"].grant != Said::Nothing, "what was begun goes on");
        world.prove("w1");
        assert_eq!(world.decide(), [""; 0]);
    }
}

#[test]
fn a_paused_node_waits_alone() {
    let mut world = World::asking(&["s1", "w1", "w2"]);
    world.seen("s1").is_paused = true;
    assert_eq!(world.roll_out(), "w1 w2", "workers do not wait for a server that may not");
    assert_eq!(world.word("s1"), Some(Word::Paused));
    assert!(world.sentence().contains("paused on s1"), "{}", world.sentence());
}

#[test]
fn restore_is_a_revision_like_any_other() {
    let mut world = World::of(&["s1", "w1", "w2"]);
    world.ask_all("restore");
    assert_eq!(world.roll_out(), "w1 s1 w2");
}

#[test]
fn excluded_and_agentless_nodes_are_left_alone() {
    let mut world = World::asking(&["w1", "w2", "w3"]);
    world.seen("w1").is_excluded = true;
    world.seen("w2").has_agent = false;
    assert_eq!(world.roll_out(), "w3");
    assert_eq!((world.word("w1"), world.word("w2")), (None, Some(Word::Absent)));
    let mut world = World::of(&["w1"]);
    *world.seen("w1") = NodeSeen { has_agent: false, phase: Said::Nothing, is_ready: false, ..node(Role::Agent) };
    assert_eq!(world.decide(), [""; 0]);
    assert_eq!(world.sentence(), "no node runs an agent");
}

#[test]
fn without_the_lease_nothing_is_decided() {
    let mut world = World::asking(&["w1"]);
    world.now += seconds(40);
    let kept = world.fleet.kept.clone();
    let nothing = Turns { revoke: None, lease: kept, writes: Vec::new(), gate: None, wake: None };
    assert_eq!(world.turns(), nothing, "40 s after the last renewal began");
    world.pass(0);
    world.fleet.holding.as_mut().expect("held").epoch = epoch(77);
    assert_eq!(world.turns(), nothing, "Nodes were not listed since this epoch was taken");
    world.fleet.holding = None;
    assert_eq!(world.turns(), nothing);
    world.take(&[]);
    assert_eq!(world.decide(), [""; 0]);
    assert!(world.sentence().contains("has just taken over"));
    assert_eq!(world.word("w1"), Some(Word::Budget), "whoever waits says for what");
    assert_eq!(world.turns().wake, Some(seconds(60)));
    world.pass(59);
    assert_eq!(world.decide(), [""; 0]);
    world.pass(1);
    assert_eq!(world.decide(), ["w1"]);
}

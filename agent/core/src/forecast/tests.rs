use proptest::prelude::*;

use super::*;
use crate::node::observed::Role;
use crate::policy::{MaxUnavailable, Order};

const OLD: &str = "000000000000";
const NEW: &str = "111111111111";

fn node(role: Role) -> NodeSeen {
    NodeSeen {
        uid: String::new(),
        role,
        is_ready: true,
        is_cordoned: false,
        is_excluded: false,
        is_paused: false,
        has_agent: true,
        retry: None,
        phase: Said::Is(Phase::Current),
        revision: Said::Is(OLD.into()),
        failed: Said::Nothing,
        wanted: Said::Nothing,
        answered: Said::Nothing,
        grant: Said::Nothing,
        turn: Said::Nothing,
    }
}

/// Nodes at rest with [`OLD`]; `s…` is a server.
fn listed(names: &[&str]) -> Listed {
    let role = |name: &str| if name.starts_with('s') { Role::Server } else { Role::Agent };
    Listed {
        nodes: names.iter().map(|name| ((*name).to_owned(), node(role(name)))).collect(),
        kept: LeaseKept::default(),
        retry: None,
        wall: Timestamp::UNIX_EPOCH,
    }
}

fn change(listed: &mut Listed, name: &str, change: impl FnOnce(&mut NodeSeen)) {
    change(listed.nodes.get_mut(name).expect("a node"));
}

fn order(forecast: &Forecast) -> String {
    forecast.turns.iter().map(|turn| turn.join("+")).collect::<Vec<_>>().join(" ")
}

#[test]
fn turns_come_in_the_order_that_the_policy_names() {
    let listed = listed(&["a", "b", "c", "s1", "s2"]);
    let canary = Policy::default();
    let first = Policy { order: Order::ServersFirst, ..Policy::default() };
    let two = Policy { max_unavailable: MaxUnavailable::Number(2), ..Policy::default() };
    for (policy, wanted) in [(canary, "a s1 s2 b c"), (first, "s1 s2 a b c"), (two, "a s1 s2 b+c")] {
        let found = forecast(&listed, &policy, NEW);
        assert_eq!((order(&found).as_str(), found.waiting.len(), &found.sentence), (wanted, 0, &None));
    }
}

#[test]
fn who_has_it_takes_no_turn_and_who_cannot_have_it_is_named() {
    let mut listed = listed(&["a", "b", "c", "d", "e", "f"]);
    change(&mut listed, "a", |seen| seen.revision = Said::Is(NEW.into()));
    change(&mut listed, "b", |seen| seen.is_excluded = true);
    change(&mut listed, "c", |seen| seen.has_agent = false);
    change(&mut listed, "d", |seen| seen.phase = Said::Is(Phase::Invalid));
    change(&mut listed, "e", |seen| seen.is_paused = true);
    let found = forecast(&listed, &Policy::default(), NEW);
    assert_eq!((found.done.join(" "), order(&found)), ("a".into(), "f".into()));
    assert_eq!(found.aside.keys().map(String::as_str).collect::<Vec<_>>(), ["b", "c", "d"]);
    assert_eq!(found.waiting, BTreeMap::from([("e".into(), Some(Word::Paused))]));
    assert!(found.stopped.is_none());
}

#[test]
fn what_is_begun_ends_first_and_a_stuck_node_is_cured_first() {
    let mut listed = listed(&["a", "b", "c", "d"]);
    for (name, revision) in [("b", OLD), ("d", NEW)] {
        change(&mut listed, name, |seen| {
            let grant = format!("{revision}/00c0ffee@0000000000000007").parse().expect("a grant");
            (seen.phase, seen.grant) = (Said::Is(Phase::Proving), Said::Is(grant));
        });
    }
    change(&mut listed, "c", |seen| seen.phase = Said::Is(Phase::Stuck));
    let found = forecast(&listed, &Policy::default(), NEW);
    assert!(found.done.is_empty());
    assert_eq!((found.begun.join(" "), order(&found)), ("b d".into(), "c a b".into()));
}

#[test]
fn a_pause_and_a_closed_window_are_said_and_looked_past() {
    let listed = listed(&["a", "s1"]);
    let paused = Policy { pause: true, ..Policy::default() };
    let found = forecast(&listed, &paused, NEW);
    assert_eq!(order(&found), "a s1");
    assert!(found.stopped.is_some_and(|why| why.starts_with("paused by the policy")));
    // 1970-01-01 was a Thursday.
    let windows = "version: 1\nwindows: [{days: [Sat], start: \"02:00\", end: \"03:00\", zone: UTC}]\n";
    let found = forecast(&listed, &Policy::parse(windows).expect("a policy"), NEW);
    assert_eq!(order(&found), "a s1");
    assert!(found.stopped.is_some_and(|why| why.contains("window")));
}

#[test]
fn a_halted_revision_reaches_nobody_until_a_retry() {
    let mut listed = listed(&["a", "b"]);
    change(&mut listed, "a", |seen| (seen.phase, seen.failed) = (Said::Is(Phase::RolledBack), Said::Is(NEW.into())));
    let found = forecast(&listed, &Policy::default(), NEW);
    assert_eq!((order(&found), found.waiting), (String::new(), BTreeMap::from([("b".into(), Some(Word::Halted))])));
    assert!(found.sentence.is_some_and(|why| why.starts_with("halted")));
    assert!(found.aside["a"].contains("failed here"));
    // Another revision is tried first where the last one failed.
    assert_eq!(order(&forecast(&listed, &Policy::default(), "222222222222")), "a b");
}

#[test]
fn a_node_that_is_down_holds_the_others_up() {
    let mut listed = listed(&["a", "b"]);
    change(&mut listed, "b", |seen| seen.is_ready = false);
    let found = forecast(&listed, &Policy::default(), NEW);
    assert_eq!((order(&found), found.waiting.len()), (String::new(), 2));
    assert!(found.sentence.is_some());
}

#[test]
fn a_large_fleet_is_worked_out_so_far_and_no_further() {
    let names: Vec<String> = (0..DECISIONS + 100).map(|at| format!("n{at:04}")).collect();
    let found = forecast(&listed(&names.iter().map(String::as_str).collect::<Vec<_>>()), &Policy::default(), NEW);
    assert_eq!(found.turns.iter().flatten().count() + found.waiting.len(), names.len());
    assert!(found.waiting.len() >= 100 && found.turns.len() > DECISIONS / 4, "{}", found.turns.len());
}

fn any_node() -> impl Strategy<Value = NodeSeen> {
    let phase = prop::sample::select(Phase::ALL.to_vec());
    let revision = prop::sample::select(vec![Said::Nothing, Said::Is(OLD.to_owned()), Said::Is(NEW.to_owned())]);
    let failed =
        prop::sample::select(vec![Said::Nothing, Said::Nothing, Said::Is(OLD.to_owned()), Said::Is(NEW.to_owned())]);
    (phase, revision, failed, any::<[bool; 6]>()).prop_map(|(phase, revision, failed, flags)| {
        let [is_server, is_down, is_cordoned, is_excluded, is_paused, is_silent] = flags;
        NodeSeen {
            is_ready: !is_down,
            is_cordoned,
            is_excluded,
            is_paused,
            has_agent: !is_silent,
            phase: Said::Is(phase),
            revision,
            failed,
            ..node(if is_server { Role::Server } else { Role::Agent })
        }
    })
}

proptest! {
    #[test]
    fn every_node_has_one_place_and_nobody_two_turns(
        nodes in prop::collection::btree_map("[a-d]{1,2}", any_node(), 0..8),
        number in 1u32..4,
    ) {
        let listed = Listed { nodes, ..listed(&[]) };
        let policy = Policy { max_unavailable: MaxUnavailable::Number(number), ..Policy::default() };
        let Forecast { done, begun, turns, waiting, aside, .. } = forecast(&listed, &policy, NEW);
        let places = done.iter().chain(turns.iter().flatten()).chain(waiting.keys()).chain(aside.keys());
        let mut places: Vec<&String> = places.collect();
        // Whose turn goes on may be granted another, or none.
        places.extend(begun.iter().filter(|name| !places.contains(name)).collect::<Vec<_>>());
        places.sort();
        prop_assert_eq!(places, listed.nodes.keys().collect::<Vec<_>>());
        let servers = |turn: &Vec<String>| turn.iter().filter(|name| listed.nodes[*name].role == Role::Server).count();
        prop_assert!(turns.iter().all(|turn| !turn.is_empty() && servers(turn) <= 1), "{:?}", turns);
    }
}

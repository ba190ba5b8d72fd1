//! The exchange of turns: every interleaving of agents, coordinators and an API server within bounds,
//! with late and lost writes, caches that lag, deaths at any point, and objects that are deleted and come back.
//!
//! What it leaves to the simulator of the fleet: Stuck, pause, windows, order, the server gate, and time itself. Whoever
//! waits waits for any time at all; the protocol may rely on nothing but what it reads. Two waits are believed, because they
//! are all that is known: a living agent writes the phase of a Node that came back before anybody is granted next to it, and
//! a leader that lost the Lease learns it after a while.
//!
//! A package of its own, because it uses nothing of the product and is worth optimising, which the product's tests are not.
#![cfg(test)]

mod agent;
mod canonical;
mod coordinator;
mod endings;
mod listed;
mod protocol;
mod state;
mod story;

use std::time::Instant;

use protocol::{Action, BUDGET, Change, Model, NO_DEAD_END, ONCE, SERVERS};
use state::Troubles;
use stateright::{Checker, HasDiscoveries, Model as _};

const NONE: Troubles = Troubles {
    crashes: 0,
    losses: 0,
    stalls: 0,
    stale: 0,
    lease_deleted: 0,
    node_deleted: 0,
    edits: 0,
    vain: 0,
    failures: 0,
};

/// A server and a worker, one at a time, two coordinators.
fn two(troubles: Troubles) -> Model {
    Model { nodes: 2, servers: 1, coordinators: 2, allowed: 1, leader_dies: true, troubles, change: Change::Nothing }
}

/// Two servers and a worker, two at a time, one coordinator.
fn three(troubles: Troubles) -> Model {
    Model { nodes: 3, servers: 2, coordinators: 1, allowed: 2, leader_dies: true, troubles, change: Change::Nothing }
}

#[expect(clippy::disallowed_methods, reason = "how long it takes is part of the report")]
fn now() -> Instant {
    Instant::now()
}

/// Explores all of it; a broken promise is told as a story.
fn holds(name: &str, model: Model) {
    let start = now();
    let checker = model.clone().checker().threads(2).spawn_bfs().join();
    let (states, depth, time) = (checker.unique_state_count(), checker.max_depth(), start.elapsed());
    eprintln!("{name}: {states} states, depth {depth}, {time:.1?}");
    if let Some((promise, path)) = checker.discoveries().into_iter().next() {
        panic!("{name}: broken: {promise}\n{}", story::tell(&model, &path.into_actions()));
    }
    assert!(checker.is_done());
}

/// The broken protocol breaks this promise, by events that break nothing or cannot happen under the protocol as it is.
fn breaks(change: Change, model: Model, promise: &'static str) {
    let actions = breaks_as_it_is(Model { change, ..model.clone() }, promise);
    assert!(!story::is_broken(&model, &actions, promise));
}

/// Gives the shortest events that break it.
fn breaks_as_it_is(model: Model, promise: &'static str) -> Vec<Action> {
    let found = HasDiscoveries::AnyOf([promise].into());
    let checker = model.clone().checker().finish_when(found).spawn_bfs().join();
    let states = checker.unique_state_count();
    let path = checker.discovery(promise);
    let path = path.unwrap_or_else(|| panic!("{:?} is not found in {states} states", model.change));
    let actions = path.into_actions();
    eprintln!("{:?}, after {states} states broken: {promise}\n{}", model.change, story::tell(&model, &actions));
    actions
}

#[test]
fn the_exchange_holds_with_two_coordinators_and_a_lease_in_trouble() {
    holds("leaders that stall and die", two(Troubles { crashes: 1, stalls: 1, stale: 1, ..NONE }));
    holds("two deaths", two(Troubles { crashes: 2, stalls: 1, ..NONE }));
    holds("Lease deleted", two(Troubles { lease_deleted: 1, stalls: 1, stale: 1, ..NONE }));
}

#[test]
fn the_exchange_holds_when_writes_are_late_or_lost() {
    holds("late writes", two(Troubles { losses: 1, stalls: 1, stale: 1, ..NONE }));
    holds("late writes and deaths", two(Troubles { losses: 1, crashes: 1, ..NONE }));
    holds("two late writes", two(Troubles { losses: 2, ..NONE }));
}

#[test]
fn the_exchange_holds_for_two_servers_and_a_worker_two_at_a_time() {
    holds("three nodes", three(Troubles { crashes: 1, vain: 1, failures: 1, ..NONE }));
    holds("three nodes, edits", three(Troubles { edits: 1, ..NONE }));
}

#[test]
fn the_exchange_holds_when_the_revision_changes_under_two_coordinators() {
    holds("edits, leaders that stall and die", two(Troubles { edits: 1, stalls: 1, crashes: 1, ..NONE }));
    holds("edits and late writes", two(Troubles { edits: 1, losses: 1, ..NONE }));
}

#[test]
fn the_exchange_holds_for_three_nodes_under_two_coordinators() {
    let many = |troubles| Model { coordinators: 2, ..three(troubles) };
    let one = |troubles| Model { allowed: 1, ..many(troubles) };
    holds("three nodes, leaders that stall and die", one(Troubles { stalls: 1, crashes: 1, ..NONE }));
    holds("three nodes, two deaths", one(Troubles { crashes: 2, ..NONE }));
    holds("three nodes, edits and a death", one(Troubles { edits: 1, crashes: 1, ..NONE }));
    holds("two at a time, leaders that stall", many(Troubles { stalls: 1, ..NONE }));
    holds("two at a time, a death", many(Troubles { crashes: 1, ..NONE }));
}

#[test]
fn the_exchange_holds_when_a_node_is_deleted_and_comes_back_under_one_leader() {
    let one = |troubles| Model { coordinators: 1, leader_dies: false, ..two(troubles) };
    holds("Node deleted, late writes", one(Troubles { node_deleted: 1, losses: 1, stalls: 1, ..NONE }));
    holds("Node deleted, agents die", one(Troubles { node_deleted: 1, crashes: 2, stalls: 1, ..NONE }));
}

#[test]
fn every_run_without_new_trouble_ends() {
    for (name, model) in [
        ("deaths", two(Troubles { crashes: 1, stalls: 1, stale: 1, ..NONE })),
        ("late writes", two(Troubles { losses: 1, stalls: 1, ..NONE })),
        ("Lease deleted, edits", two(Troubles { lease_deleted: 1, edits: 1, vain: 1, failures: 1, ..NONE })),
        ("Node deleted", two(Troubles { node_deleted: 1, crashes: 1, ..NONE })),
    ] {
        let start = now();
        match endings::every_calm_run_ends(&model) {
            Ok(states) => eprintln!("{name}: every run from {states} states ends, {:.1?}", start.elapsed()),
            Err(actions) => panic!("{name}: a run without an end\n{}", story::tell(&model, &actions)),
        }
    }
}

#[test]
fn without_the_second_look_at_the_lease_two_deciders_put_two_nodes_out() {
    breaks(Change::NoReread, two(Troubles { stalls: 1, ..NONE }), BUDGET);
}

#[test]
fn a_list_from_before_the_lease_was_taken_misses_a_turn() {
    breaks(Change::ListFirst, two(Troubles { stalls: 1, ..NONE }), BUDGET);
}

#[test]
fn a_lease_written_without_resource_version_brings_a_dead_epoch_back() {
    breaks(Change::NoCas, two(Troubles { stalls: 1, ..NONE }), BUDGET);
}

#[test]
fn an_epoch_kept_by_the_same_holder_lets_a_late_grant_live() {
    breaks(Change::SameEpoch, two(Troubles { crashes: 1, losses: 1, ..NONE }), BUDGET);
}

#[test]
fn an_ask_that_is_honoured_again_is_a_turn_that_nobody_counts() {
    breaks(Change::UsedAgain, two(Troubles { vain: 1, ..NONE }), BUDGET);
    breaks(Change::UsedAgain, two(Troubles { vain: 1, ..NONE }), ONCE);
}

#[test]
fn a_cache_without_a_ledger_forgets_what_was_just_granted() {
    breaks(Change::NoLedger, two(NONE), BUDGET);
    breaks(Change::NoLedger, three(NONE), SERVERS);
}

#[test]
fn a_grant_that_is_only_forgotten_is_still_a_grant() {
    breaks(Change::RevokeWithoutEpoch, two(Troubles { stalls: 1, losses: 1, ..NONE }), BUDGET);
}

#[test]
fn a_clock_that_is_ahead_leaves_the_lease_to_the_dead() {
    breaks(Change::ClockExpiry, two(Troubles { crashes: 1, ..NONE }), NO_DEAD_END);
}

#[test]
fn a_phase_that_hides_an_open_turn_puts_a_second_node_out() {
    breaks(Change::HidesOpenTurn, two(Troubles { edits: 1, ..NONE }), BUDGET);
}

#[test]
fn an_ask_that_is_never_drawn_anew_waits_for_ever() {
    breaks(Change::DeafToAbsent, two(Troubles { losses: 1, ..NONE }), NO_DEAD_END);
}

#[test]
fn a_node_deleted_in_its_turn_is_remembered_by_the_next_leader() {
    holds("Node deleted, leaders change", two(Troubles { node_deleted: 1, stalls: 1, crashes: 1, ..NONE }));
    holds("Node deleted, leaders change, late writes", two(Troubles { node_deleted: 1, stalls: 1, losses: 1, ..NONE }));
}

#[test]
fn a_lease_that_does_not_list_who_is_out_before_the_grant_forgets_a_turn() {
    breaks(Change::NoOut, two(Troubles { node_deleted: 1, stalls: 1, ..NONE }), BUDGET);
    breaks(Change::OutAfterGrant, two(Troubles { node_deleted: 1, stalls: 1, ..NONE }), BUDGET);
}

#[test]
fn a_node_that_came_back_bare_is_not_free() {
    breaks(Change::BareIsFree, two(Troubles { node_deleted: 1, crashes: 1, stalls: 1, ..NONE }), BUDGET);
}

#[test]
fn a_grant_on_a_list_that_a_late_write_can_still_shorten_is_forgotten() {
    breaks(Change::OutUnsettled, two(Troubles { node_deleted: 1, stalls: 1, losses: 1, ..NONE }), BUDGET);
}

#[test]
fn a_lease_deleted_with_a_node_in_its_turn_forgets_it() {
    // A limit of the protocol, not a promise: nothing but the Node, the Lease and the leader's memory knows of a turn, and all
    // three are gone. It is written down here so that nobody believes otherwise.
    breaks_as_it_is(two(Troubles { node_deleted: 1, lease_deleted: 1, ..NONE }), BUDGET);
}

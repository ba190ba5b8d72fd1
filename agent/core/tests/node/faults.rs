//! What once went wrong on one node, or would have: each test is one of these stories.

use std::time::Duration;

use agent_core::node::annotations::Phase;
use agent_core::node::journal::Rung;
use agent_core::node::observed::Role;
use agent_core::node::turn::TurnSource;
use agent_core::policy::{Adopt, Mode};
use agent_core::tree::Tree;
use jiff::SignedDuration;

use crate::world::files::{first, model, second, text, tree};
use crate::world::{REFUSED, World};
use crate::{HOUR, MINUTE};

fn rung(world: &World) -> Option<Rung> {
    world.record.as_ref().unwrap().intent.as_ref().map(|intent| intent.rung)
}

#[test]
fn an_undo_that_a_reboot_interrupts_restarts_at_most_once_more() {
    let mut world = World::managed();
    world.exec_type = true;
    world.wants("r2", &second());
    world.until(|world| world.restarts == 2);
    world.start_takes = Duration::from_secs(10_000);
    world.until(|world| rung(world) == Some(Rung::Previous) && world.disk == tree(&first()));
    world.reboot();
    let before = world.restarts;
    for _ in 0..100 {
        world.pass(None);
        world.pass_time(Duration::from_millis(500));
    }
    assert!(world.restarts <= before + 1, "{}", world.told());
}

#[test]
fn an_undo_whose_restart_did_not_take_orders_it_again() {
    for fails in [true, false] {
        let mut world = World::restarting();
        world.pass_time(Duration::from_secs(5));
        // What is loaded must be undone by a restart: somebody changed the file while the proof was awaited.
        world.write(text("mirrors: {}\n"));
        world.until(|world| world.disk == tree(&first()));
        // The record says that it was ordered; then the order fails, or the agent dies.
        if fails {
            world.pass(Some(1));
            world.die();
        } else {
            world.failing_restarts = 1;
            world.pass(None);
        }
        world.until(|world| rung(world).is_none());
        assert_eq!((world.restarts, world.loaded()), (3, Some(&first())), "{}", world.told());
        assert_eq!(world.disk, tree(&first()), "no other rung was tried");
    }
}

#[test]
fn an_upgrade_that_refuses_the_proven_file_does_not_swing_for_ever() {
    let mut world = World::managed();
    world.refuses.insert("docker.io".into());
    world.version = "v2".into();
    world.restart_by_hand();
    world.pass_time(Duration::from_secs(20));
    let plan = world.settle(6 * HOUR);
    assert!(world.is_up(), "{}", world.told());
    assert_eq!((plan.phase, plan.failed.as_deref()), (Phase::RolledBack, Some("r1")), "{}", plan.reason);
    assert_eq!(world.disk, Tree::default());
    assert!(world.restarts <= 2, "{}", world.told());
    world.assert_at_rest();
    let story = world.story.len();
    world.settle(6 * HOUR);
    assert_eq!(world.story.len(), story, "{}", world.told());
    // And a guard of the next attempt would put back what runs now.
    assert_eq!(world.previous, Some(Tree::default()));
    world.wants("r2", &model("quay.io", "two"));
    assert_eq!(world.settle(HOUR).phase, Phase::Current, "{}", world.told());
}

#[test]
fn an_inconclusive_heal_keeps_the_last_proven_file() {
    let mut world = World::managed();
    world.write(text("mirrors:\n\t- broken\n"));
    world.restart_by_hand();
    world.pass_time(Duration::from_secs(20));
    world.until(|world| rung(world).is_some());
    world.supervisor_away = true;
    world.restart_by_hand();
    for _ in 0..3000 {
        world.pass(None);
        world.pass_time(Duration::from_millis(500));
        assert_ne!(world.disk, Tree::default(), "a proven file is not given up for a server that is away");
    }
    world.supervisor_away = false;
    world.settle(HOUR);
    assert_eq!((world.loaded(), &world.disk), (Some(&first()), &tree(&first())), "{}", world.told());
    world.assert_at_rest();
}

#[test]
fn a_k3s_that_somebody_stopped_is_no_proof_against_a_file() {
    let mut world = World::restarting();
    world.stop_by_hand();
    let plan = world.settle(HOUR);
    assert_eq!(plan.phase, Phase::Proving, "{}", plan.reason);
    assert_eq!(world.disk, tree(&first()), "the proven file waits for the next start: {}", world.told());
    assert!(world.record.as_ref().unwrap().failed.is_empty());
    world.start_by_hand();
    let plan = world.settle(HOUR);
    assert_eq!((plan.phase, plan.revision.as_deref()), (Phase::Current, Some("r2")), "{}", plan.reason);
}

#[test]
fn a_unit_that_systemd_gave_up_on_the_bad_file_is_restarted_on_the_good_one() {
    for role in [Role::Agent, Role::Server] {
        let mut world = World::managed();
        world.role = role;
        world.start_takes = HOUR;
        world.wants("r2", &second());
        world.until(|world| world.restarts == 2);
        world.pass_time(Duration::from_secs(3));
        world.is_given_up();
        world.until(|world| rung(world) == Some(Rung::Previous));
        world.start_takes = Duration::from_secs(2);
        world.until(|world| rung(world).is_none());
        assert!(world.is_up() && world.disk == tree(&first()), "{}", world.told());
        assert_eq!(world.restarts, 3, "once: {}", world.told());
        // The same on a file by hand that nobody can read, without a turn.
        let mut world = World::managed();
        world.role = role;
        world.write(text("mirrors: ["));
        world.restart_by_hand();
        world.pass_time(Duration::from_secs(3));
        world.is_given_up();
        world.until(World::is_up);
        world.until(|world| rung(world).is_none());
        assert_eq!((world.restarts, &world.disk), (2, &tree(&first())), "{}", world.told());
    }
}

#[test]
fn a_given_up_unit_whose_restart_did_not_take_is_restarted_again_and_one_that_was_stopped_since_is_not() {
    for (role, is_forgotten) in [(Role::Agent, false), (Role::Agent, true), (Role::Server, false), (Role::Server, true)]
    {
        let mut world = World::managed();
        world.role = role;
        world.start_takes = HOUR;
        world.wants("r2", &second());
        world.until(|world| world.restarts == 2);
        world.pass_time(Duration::from_secs(3));
        world.is_given_up();
        world.failing_restarts = 1;
        world.until(|world| world.failing_restarts == 0);
        if is_forgotten {
            // The process died after systemd had forgotten that the unit failed, and before it was started.
            world.stop_by_hand();
        }
        world.until(|world| world.restarts == 3);
        assert_eq!(world.disk, tree(&first()), "{role:?}: {}", world.told());
        world.pass_time(Duration::from_secs(1));
        world.stop_by_hand();
        let until = world.now + 2 * MINUTE;
        world.until(|world| world.now >= until);
        assert_eq!(world.restarts, 3, "what somebody stops stays stopped: {role:?}: {}", world.told());
        world.start_takes = Duration::from_secs(2);
        world.start_by_hand();
        world.until(|world| rung(world).is_none());
        assert!(world.is_up() && world.disk == tree(&first()), "{role:?}: {}", world.told());
    }
}

#[test]
fn a_k3s_that_nothing_can_start_is_no_proof_against_a_file_and_its_server_is_not_blamed() {
    for role in [Role::Agent, Role::Server] {
        let mut world = World::managed();
        world.role = role;
        world.wants("r2", &second());
        world.until(|world| world.restarts == 2);
        world.pre_fails = true;
        let begun = world.now;
        world.until(|world| rung(world) == Some(Rung::Previous));
        assert!(world.now - begun < Duration::from_secs(15), "it is certain after the second try: {role:?}");
        assert_eq!(world.settle(HOUR).phase, Phase::Proving, "{}", world.told());
        assert_eq!(world.disk, tree(&first()), "the proven file waits for the next start: {}", world.told());
        world.pre_fails = false;
        world.until(|world| rung(world).is_none());
        let plan = world.pass(None);
        assert_eq!((plan.phase, plan.failed), (Phase::Pending, None), "{}", plan.reason);
        assert!(plan.reason.contains("k3s does not start: an ExecStartPre of its unit fails"), "{}", plan.reason);
        assert_eq!(world.settle(HOUR).phase, Phase::Current, "{}", world.told());
    }
}

#[test]
fn a_disk_that_was_full_three_times_is_no_proof_against_a_file() {
    let mut world = World::managed();
    let mut wanted = second();
    wanted.mirrors.insert("quay.io".into(), second().mirrors["docker.io"].clone());
    world.wants_with_ca("r2", &wanted, "ca");
    for _ in 0..4 {
        world.until(|world| rung(world).is_none());
        // Half of the files lie there when the disk is full.
        world.failing_replaces = 1;
        world.until(|world| world.failing_replaces == 0);
    }
    let plan = world.settle(6 * HOUR);
    assert_eq!((plan.phase, plan.revision.as_deref()), (Phase::Current, Some("r2")), "{}", plan.reason);
}

#[test]
fn a_wall_clock_that_was_set_back_does_not_postpone_the_next_attempt() {
    let mut world = World::restarting();
    world.reboot();
    world.until(|world| world.record.as_ref().unwrap().inconclusive.is_some());
    world.wall_set = SignedDuration::from_hours(-24 * 365);
    let plan = world.settle(HOUR);
    assert_eq!(plan.phase, Phase::Current, "{}: {}", plan.reason, world.told());
}

#[test]
fn a_unit_that_is_active_before_k3s_wrote_anything_is_waited_for() {
    let mut world = World::managed();
    world.exec_type = true;
    world.start_takes = Duration::from_secs(30);
    world.pass_time(MINUTE);
    world.restart_by_hand();
    let before = world.restarts;
    let plan = world.settle(MINUTE / 3);
    assert_eq!(plan.phase, Phase::Pending, "{}", plan.reason);
    let plan = world.settle(HOUR);
    assert_eq!((plan.phase, world.restarts), (Phase::Current, before), "{}", world.told());
}

#[test]
fn a_unit_that_is_called_active_while_it_loops_on_a_hand_edit_is_healed_without_a_turn_and_even_when_paused() {
    for agent_dies in [false, true] {
        let mut world = World::managed();
        world.exec_type = true;
        world.policy.pause = true;
        world.source = TurnSource::Coordinator;
        world.pass_time(MINUTE);
        world.write(text("mirrors:\n\t- broken\n"));
        world.restart_by_hand();
        world.pass_time(20 * MINUTE);
        assert!(!world.is_up());
        if agent_dies {
            world.pass(Some(1));
        }
        let plan = world.settle(HOUR);
        assert!(world.is_up(), "{}: {}", plan.reason, world.told());
        assert_eq!((plan.phase, world.restarts), (Phase::Current, 1), "{}: {}", plan.reason, world.told());
        assert_eq!((world.loaded(), &world.disk), (Some(&first()), &tree(&first())));
        world.assert_at_rest();
    }
}

#[test]
fn a_unit_that_is_called_active_while_it_loops_on_our_file_is_undone_at_once_and_by_the_file_alone() {
    let mut world = World::managed();
    world.exec_type = true;
    world.pass_time(MINUTE);
    world.wants("r2", &model(REFUSED, "two"));
    let plan = world.settle(MINUTE);
    assert_eq!((plan.phase, plan.failed.as_deref()), (Phase::RolledBack, Some("r2")), "{}", plan.reason);
    assert!(plan.reason.contains("k3s cannot read the file"), "{}", plan.reason);
    assert_eq!((world.restarts, world.loaded()), (2, Some(&first())), "{}", world.told());
    world.assert_at_rest();
}

#[test]
fn a_wall_clock_that_was_set_on_after_a_start_by_hand_costs_no_restart() {
    let mut world = World::managed();
    world.restart_by_hand();
    world.pass_time(MINUTE);
    world.settle(MINUTE);
    world.wall_set = SignedDuration::from_hours(24);
    let before = world.restarts;
    let plan = world.settle(HOUR);
    assert_eq!((plan.phase, world.restarts), (Phase::Current, before), "{}", world.told());
}

#[test]
fn a_wall_clock_that_was_set_on_in_a_start_makes_no_proof_of_an_older_config_toml() {
    let mut world = World::managed();
    world.exec_type = true;
    world.start_takes = Duration::from_secs(60);
    world.wants("r2", &second());
    let before = world.restarts;
    world.until(|world| world.restarts > before);
    world.wall_set = SignedDuration::from_hours(24);
    world.pass_time(Duration::from_secs(5));
    let plan = world.pass(None);
    assert!(plan.reason.contains("has not written config.toml"), "{}", plan.reason);
    let plan = world.settle(HOUR);
    assert_eq!((plan.phase, world.restarts), (Phase::Current, before + 1), "{}", world.told());
}

#[test]
fn a_crash_between_a_quiet_rewrite_and_its_record_is_no_foreign_edit() {
    let mut world = World::managed();
    let same = text(
        "mirrors: {docker.io: {endpoint: [https://m.example.com]}}\n\
                     configs: {m.example.com: {auth: {username: u, password: one}}}\n",
    );
    world.wants("r2", &first());
    world.wants_tree(same.clone());
    // After the file, before the record.
    world.pass(Some(1));
    assert_eq!(world.disk, same);
    let plan = world.settle(HOUR);
    assert_eq!((plan.phase, plan.revision.as_deref()), (Phase::Current, Some("r2")));
    assert!(world.record.as_ref().unwrap().restores.is_empty(), "{}", world.told());
    assert_eq!(world.disk, same);
}

#[test]
fn a_file_that_was_mended_by_hand_after_a_failed_attempt_is_the_one_that_is_kept() {
    let mut world = World::running(text("mirrors: {docker.io: {}}\n"));
    world.policy.adopt = Adopt::Replace;
    world.wants("r1", &model(REFUSED, "one"));
    assert_eq!(world.settle(HOUR).phase, Phase::RolledBack);
    // Nothing of ours was ever proven here, so what an administrator writes is what was there before us.
    let mended = text("mirrors: {docker.io: {endpoint: [https://m.example.com]}} # mine\n");
    world.write(mended.clone());
    world.restart_by_hand();
    world.pass_time(MINUTE);
    world.wants("r2", &second());
    assert_eq!(world.settle(HOUR).phase, Phase::Current);
    world.policy.mode = Mode::Restore;
    assert_eq!(world.settle(HOUR).phase, Phase::Current);
    assert_eq!(world.disk, mended);
}

#[test]
fn a_writer_is_trusted_again_only_after_an_hour_without_a_write() {
    let mut world = World::managed();
    for _ in 0..3 {
        world.write(text("mirrors: {}\n"));
        assert_eq!(world.settle(MINUTE).phase, Phase::Current, "{}", world.told());
        world.pass_time(15 * MINUTE);
    }
    for _ in 0..4 {
        world.write(text("mirrors: {}\n"));
        let plan = world.settle(MINUTE);
        assert_eq!(plan.phase, Phase::Invalid, "{}", world.told());
        world.pass_time(20 * MINUTE);
    }
    world.pass_time(HOUR);
    assert_eq!(world.settle(MINUTE).phase, Phase::Current);
}

#[test]
fn a_server_whose_gate_refuses_is_not_begun_with() {
    let mut world = World::managed();
    world.role = Role::Server;
    world.gate = Some("server two does not answer".into());
    world.wants("r2", &second());
    let plan = world.settle(MINUTE);
    assert_eq!((plan.phase, world.restarts), (Phase::Pending, 1), "{}", world.told());
    assert!(plan.reason.contains("server two"), "{}", plan.reason);
    assert_eq!(world.disk, tree(&first()));
}

#[test]
fn a_stuck_node_stays_stuck_while_it_is_paused_and_remembers_what_failed() {
    let mut world = World::managed();
    world.start_takes = 100 * HOUR;
    world.wants("r2", &second());
    world.until(|world| rung(world) == Some(Rung::Stuck));
    world.policy.pause = true;
    world.wants("r3", &model("quay.io", "three"));
    assert_eq!(world.pass(None).phase, Phase::Stuck, "a pause does not hide it");
    world.policy.pause = false;
    world.start_takes = Duration::from_secs(2);
    world.until(|world| rung(world).is_none());
    assert!(world.is_up());
    let restarts = world.restarts;
    world.wants("r4", &second());
    let plan = world.settle(HOUR);
    assert_eq!((plan.phase, world.restarts), (Phase::RolledBack, restarts), "{}", world.told());
}

#[test]
fn a_containerd_that_crashes_on_an_unchanged_file_costs_no_file() {
    let mut world = World::managed();
    world.containerd_sick = true;
    world.restart_by_hand();
    world.pass_time(5 * MINUTE);
    let plan = world.settle(HOUR);
    assert_eq!((plan.phase, &world.disk), (Phase::Pending, &tree(&first())), "{}", world.told());
    world.containerd_sick = false;
    assert_eq!(world.settle(HOUR).phase, Phase::Current);
}

#[test]
fn nothing_in_a_record_makes_the_plan_panic() {
    let mut world = World::managed();
    world.record.as_mut().unwrap().last_restart = Some(Duration::MAX);
    world.policy.deadline = Duration::MAX;
    world.wants("r2", &second());
    // Looks closely, asks the registries, begins.
    for _ in 0..3 {
        world.pass(None);
    }
    assert!(world.armed.is_some());
    world.record.as_mut().unwrap().intent.as_mut().unwrap().away = Duration::MAX;
    world.supervisor_away = true;
    world.pass_time(MINUTE);
    world.pass(None);
}

#[test]
fn an_agent_whose_supervisor_is_away_is_not_begun_with() {
    let mut world = World::managed();
    world.supervisor_away = true;
    world.wants("r2", &second());
    let plan = world.settle(MINUTE);
    assert_eq!((plan.phase, world.restarts, world.is_up()), (Phase::Pending, 1, true), "{}", world.told());
    assert!(plan.reason.contains("supervisor"), "{}", plan.reason);
    world.supervisor_away = false;
    assert_eq!(world.settle(HOUR).phase, Phase::Current);
}

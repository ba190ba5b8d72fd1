//! Whether everything that can end does end.
//!
//! Stateright's *eventually* looks at one path to each state and takes a cycle for an end, so it is not used. Instead: from
//! every reachable state, follow all events that need no new trouble. That graph must have no cycle, so each such run is
//! finite; and where none is left (`NO_DEAD_END`), everything has ended.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use stateright::Model as _;

use super::protocol::{Action, Model};
use super::state::State;

struct Run {
    state: State,
    hash: u64,
    by: Option<Action>,
    left: Vec<Action>,
}

/// Gives how many states were begun from, or the events up to the second visit of a state or to a dead end.
pub fn every_calm_run_ends(model: &Model) -> Result<usize, Vec<Action>> {
    let mut parents: HashMap<u64, Option<(u64, Action)>> = HashMap::new();
    let mut ended = HashSet::new();
    let mut reached: Vec<(State, u64)> = Vec::new();
    for state in model.init_states() {
        let hash = hash(&state);
        parents.insert(hash, None);
        reached.push((state, hash));
    }
    while let Some((state, of)) = reached.pop() {
        follow(model, state, &mut ended)
            .map_err(|run| path(&parents, of).into_iter().chain(run).collect::<Vec<_>>())?;
        let mut actions = Vec::new();
        model.actions(&state, &mut actions);
        for action in actions {
            let Some(next) = model.next_state(&state, action) else { continue };
            let next_hash = hash(&next);
            if let std::collections::hash_map::Entry::Vacant(free) = parents.entry(next_hash) {
                free.insert(Some((of, action)));
                reached.push((next, next_hash));
            }
        }
    }
    Ok(parents.len())
}

/// All calm runs from here, depth first.
fn follow(model: &Model, state: State, ended: &mut HashSet<u64>) -> Result<(), Vec<Action>> {
    let run = |state: State, by| Run { hash: hash(&state), left: model.calm(&state), state, by };
    let mut open = HashSet::new();
    let first = run(state, None);
    if ended.contains(&first.hash) {
        return Ok(());
    }
    open.insert(first.hash);
    let mut stack = vec![first];
    while let Some(top) = stack.last_mut() {
        let Some(action) = top.left.pop() else {
            open.remove(&top.hash);
            ended.insert(top.hash);
            stack.pop();
            continue;
        };
        let Some(next) = model.next_state(&top.state, action) else { continue };
        let next = run(next, Some(action));
        if open.contains(&next.hash) || (next.left.is_empty() && !next.state.is_ended()) {
            return Err(stack.iter().chain([&next]).filter_map(|run| run.by).collect());
        }
        if !ended.contains(&next.hash) {
            open.insert(next.hash);
            stack.push(next);
        }
    }
    Ok(())
}

fn path(parents: &HashMap<u64, Option<(u64, Action)>>, mut of: u64) -> Vec<Action> {
    let mut actions = Vec::new();
    while let Some(Some((parent, action))) = parents.get(&of) {
        actions.push(*action);
        of = *parent;
    }
    actions.reverse();
    actions
}

fn hash(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

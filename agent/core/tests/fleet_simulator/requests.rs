//! What a rollout costs, requests by node, whatever the number of nodes; and thousands of nodes in trouble.

use super::life::{Life, Made};

/// Of agent and coordinator for one node, less watches, conflicts and the questions to other API servers. The inputs are read
/// again as one request: each Secret among them is one more.
const BOUND: u32 = 15;

/// A rollout to all without trouble: most and mean requests by node.
fn rollout(nodes: u64, is_real: bool) -> (u32, f64) {
    let policy = "maxUnavailable: 20%\n".to_owned();
    let mut life = Life::new(Made { seed: nodes, nodes, servers: 3, is_real, policy, trouble: 0 });
    life.pace = 1 + nodes / 1000;
    // Everybody first says where it stands.
    let until = life.now + 4 * 3600;
    while life.now < until && !(0..life.machines.len()).all(|index| life.is_done(index)) {
        life.second();
    }
    let begun = life.now;
    life.api.requests.fill(Default::default());
    life.edits(false);
    while life.now < until && !(0..life.machines.len()).all(|index| life.is_done(index)) {
        life.second();
    }
    life.hold((0..life.machines.len()).all(|index| life.is_done(index)), "the rollout does not end");
    let sums: Vec<u32> = life.api.requests.iter().map(|requests| requests.sum()).collect();
    let (most, all) = (*sums.iter().max().unwrap(), sums.iter().sum::<u32>());
    let mean = f64::from(all) / f64::from(u32::try_from(sums.len()).unwrap());
    let kind = if is_real { "real agents" } else { "stand-ins" };
    let dearest = life.api.requests.iter().max_by_key(|requests| requests.sum()).unwrap();
    eprintln!(
        "{nodes} nodes, {kind}: {mean:.1} requests a node, at most {most} ({dearest:?}), in {} s",
        life.now - begun
    );
    (most, mean)
}

#[test]
fn a_rollout_costs_each_node_the_same_few_requests_however_many_there_are() {
    let (most, few) = rollout(50, true);
    assert!(most <= BOUND, "{most}");
    for nodes in [50, 500, 5000] {
        let (most, mean) = rollout(nodes, false);
        assert!(most <= BOUND, "{nodes}: {most}");
        assert!(mean <= few + 2.0, "{nodes}: {mean} a node, and {few} with real agents");
    }
}

#[test]
fn thousands_of_nodes_keep_the_promises_and_come_to_rest() {
    std::thread::scope(|scope| {
        for seed in [5001, 5002] {
            scope.spawn(move || {
                let policy = "maxUnavailable: 10%\norder: servers-first\n".to_owned();
                let mut life = Life::new(Made { seed, nodes: 5000, servers: 5, is_real: false, policy, trouble: 5 });
                life.pace = 3;
                life.live_through(300);
            });
        }
    });
}

//! What a rollout costs the API server, by node: whole nodes that pass by the real `plan`, turns by the real `next_turns`.
//!
//! Counted are the requests of the agent and of the coordinator for one node, less watches, readyz of the gate and
//! conflicts, of which there are none here. The Lease is written for the rollout's sentence and renewed, which is nobody's
//! request; but so often as it is written more because it lists who is out, that is. `FLEET_REQUESTS_NODES=500` counts another fleet, best in an optimized build.
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agent_core::fleet::{
    Change, Fleet, GateAnswer, LeaseKept, Ledger, NodeRaw, NodeSeen, NodeWrite, Waits, lease, next_turns,
};
use agent_core::node::annotations::Phase;
use agent_core::node::observed::Role;
use agent_core::node::plan::Wake;
use agent_core::policy::{MaxUnavailable, Order, Policy};
use agent_core::tree::Tree;
use jiff::Timestamp;
use world::World;
use world::files::model;

/// What a worker may cost, in whatever order things happen.
const WORKER_BOUND: u32 = 11;
/// What a server may cost, in whatever order: its gate is asked by the coordinator (one) and by its own agent (three).
const SERVER_BOUND: u32 = 14;
/// A node that takes so long that its proof is told of before its end costs one more.
const SLOW: u32 = 1;
/// What no node may ever cost (`design.md` 12).
const BOUND: u32 = 15;
const OLD: &str = "000000000001";
const NEW: &str = "000000000002";
const SERVERS: usize = 3;
const TICK: Duration = Duration::from_millis(500);
/// So many Nodes are written before it is decided anew: for about a second, eight at a time.
const BREATH: usize = 400;
/// The Lease is renewed so often.
const RENEW: Duration = Duration::from_secs(10);
/// A sentence that differs waits so long for company.
const SENTENCE: Duration = Duration::from_secs(2);

#[test]
fn a_rollout_costs_a_node_no_more_requests_in_a_large_fleet_than_in_a_small_one() {
    #[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
    let asked = std::env::var("FLEET_REQUESTS_NODES").ok().and_then(|text| text.parse().ok());
    for (name, max_unavailable) in [("1", MaxUnavailable::Number(1)), ("10%", MaxUnavailable::Percent(10))] {
        let mut means = Vec::new();
        for size in asked.map_or(vec![5, 50], |size| vec![size]) {
            let (counts, [listing, saying]) = Rollout::of(Made { size, max_unavailable, ..Made::default() }).run();
            // Which node's it is cannot be told: such a write takes along what is new of others.
            let more = listing.saturating_sub(saying);
            let mean = f64::from(counts.values().map(|(_, count)| *count).sum::<u32>() + more) / size as f64;
            let (servers, workers) = (most(&counts, Role::Server), most(&counts, Role::Agent));
            eprintln!(
                "{size} nodes, maxUnavailable {name}: mean {mean:.1}, worker at most {workers}, server at most {servers}; the \
                 Lease written {listing} times, and {saying} times if it did not list who is out"
            );
            assert!(
                workers <= WORKER_BOUND && servers <= SERVER_BOUND,
                "{size} nodes, maxUnavailable {name}: {counts:?}"
            );
            assert!(listing as usize <= 2 * size, "its grant and how it goes on, for each turn: {listing}");
            means.push(mean);
        }
        assert!(means.is_sorted_by(|fewer, more| fewer >= more), "{means:?}");
    }
}

#[test]
fn in_whatever_order_nodes_ask_a_server_costs_no_more() {
    let mut dearest = (0, 0);
    for shuffle in 0..24 {
        for order in [Order::Canary, Order::ServersFirst] {
            let (counts, _) = Rollout::of(Made { shuffle, order, ..Made::default() }).run();
            let (servers, workers) = (most(&counts, Role::Server), most(&counts, Role::Agent));
            assert!(workers <= WORKER_BOUND && servers <= SERVER_BOUND, "{order:?}, {shuffle}: {counts:?}");
            dearest = dearest.max((servers, workers));
        }
    }
    assert_eq!(dearest, (SERVER_BOUND, WORKER_BOUND), "the bounds are what is counted");
}

#[test]
fn nodes_that_take_long_cost_one_request_more_and_never_more_than_the_bound() {
    let takes = (Duration::from_secs(45), Duration::from_secs(30));
    let (counts, _) = Rollout::of(Made { takes, ..Made::default() }).run();
    let (servers, workers) = (most(&counts, Role::Server), most(&counts, Role::Agent));
    assert_eq!(servers, SERVER_BOUND + SLOW, "{counts:?}");
    assert!(workers <= WORKER_BOUND + SLOW, "{counts:?}");
    const { assert!(SERVER_BOUND + SLOW <= BOUND && WORKER_BOUND + SLOW <= BOUND) };
}

/// The most that a node of this role cost.
fn most(counts: &BTreeMap<String, (Role, u32)>, wanted: Role) -> u32 {
    counts.values().filter(|(role, _)| *role == wanted).map(|(_, count)| *count).max().unwrap()
}

/// What a rollout is made of.
struct Made {
    size: usize,
    max_unavailable: MaxUnavailable,
    order: Order,
    /// Which nodes see the edit earlier than others.
    shuffle: u32,
    /// How long a server and a worker take to start.
    takes: (Duration, Duration),
}

impl Default for Made {
    fn default() -> Self {
        Self {
            size: 5,
            max_unavailable: MaxUnavailable::Number(1),
            order: Order::Canary,
            shuffle: 0,
            // As on the test bed.
            takes: (Duration::from_secs(12), Duration::from_secs(4)),
        }
    }
}

/// When the coordinator's edge writes the Lease.
struct Writes {
    stands: LeaseKept,
    at: Duration,
    differs_since: Option<Duration>,
    count: u32,
}

impl Writes {
    fn new(now: Duration) -> Self {
        Self { stands: LeaseKept::default(), at: now, differs_since: None, count: 0 }
    }

    fn look(&mut self, kept: &LeaseKept, now: Duration) {
        let differs = *kept != self.stands;
        let since = *self.differs_since.get_or_insert(now);
        let is_due = differs && now >= since + SENTENCE;
        if !kept.may_rest_on(&self.stands) || is_due || now >= self.at + RENEW {
            *self = Self { stands: kept.clone(), at: now, differs_since: None, count: self.count + 1 };
        } else if !differs {
            self.differs_since = None;
        }
    }
}

struct Rollout {
    worlds: BTreeMap<String, World>,
    fleet: Fleet,
    policy: Policy,
    shuffle: u32,
    now: Duration,
    /// Nodes that something happened to, or that are in the middle of something.
    awake: BTreeSet<String>,
    /// Requests of the coordinator for a node.
    requests: BTreeMap<String, u32>,
    /// Of the Lease: as they are, and as they would be if it did not list who is out.
    writes: [Writes; 2],
    is_dirty: bool,
    decide_at: Option<Duration>,
}

impl Rollout {
    /// A fleet at rest on the old revision.
    fn of(made: Made) -> Self {
        let Made { size, max_unavailable, order, shuffle, takes } = made;
        let mut worlds: BTreeMap<String, World> = (0..size)
            .map(|number| {
                let mut world = World::running(Tree::default());
                (world.role, world.start_takes) = match number {
                    0..SERVERS => (Role::Server, takes.0),
                    _ => (Role::Agent, takes.1),
                };
                world.joins();
                world.wants(OLD, &model("docker.io", "one"));
                world.settle_in_cluster(Duration::from_secs(3600));
                world.coordinates();
                (format!("node-{number:05}"), world)
            })
            .collect();
        let now = worlds.values().map(|world| world.now).max().unwrap() + Duration::from_secs(60);
        for world in worlds.values_mut() {
            world.now = now;
            world.pass(None);
            assert_eq!(world.says("revision"), Some(OLD));
            world.cluster.requests = 0;
        }
        let epoch: agent_core::grant::Epoch =
            worlds["node-00000"].cluster.lease.epoch.clone().unwrap().parse().unwrap();
        let mut fleet = Fleet {
            nodes: worlds.iter().map(|(name, world)| (name.clone(), seen(name, world))).collect(),
            holding: Some(lease::Holding { uid: "lease".into(), epoch: epoch.clone(), renewed: now }),
            kept: LeaseKept::default(),
            retry: None,
            ledger: Ledger::default(),
            gate: None,
            policy_refused: None,
            wall: Timestamp::UNIX_EPOCH,
            waits: Waits::default(),
        };
        fleet.ledger.acquired(epoch, &fleet.nodes, &fleet.kept.out, &[], now - Duration::from_secs(60));
        Self {
            worlds,
            fleet,
            policy: Policy { max_unavailable, order, ..Policy::default() },
            shuffle,
            now,
            awake: BTreeSet::new(),
            requests: BTreeMap::new(),
            writes: [Writes::new(now), Writes::new(now)],
            is_dirty: false,
            decide_at: None,
        }
    }

    /// The inputs change, and all nodes prove them. Gives each node's role and requests, and the writes of the Lease.
    fn run(mut self) -> (BTreeMap<String, (Role, u32)>, [u32; 2]) {
        let edited = self.now;
        let names: Vec<String> = self.worlds.keys().cloned().collect();
        let limit = self.now + Duration::from_secs(60 * names.len() as u64 + 600);
        while !self.is_done() {
            assert!(self.now < limit, "it does not end: {}", self.fleet.kept.rollout);
            self.now += TICK;
            // Not all agents see the edit in the same moment.
            for (number, name) in names.iter().enumerate().filter(|_| self.now < edited + 5 * TICK) {
                let number = number as u32;
                let later = number + self.shuffle * (number + 1) + self.shuffle / 4 * (number ^ 2);
                if self.now == edited + TICK * (1 + later % 4) {
                    self.worlds.get_mut(name).unwrap().wants(NEW, &model("docker.io", "two"));
                    self.awake.insert(name.clone());
                }
            }
            for name in std::mem::take(&mut self.awake) {
                self.agent(&name);
            }
            self.coordinator();
            self.writes_lease();
        }
        let (requests, writes) = (self.requests, self.writes.map(|writes| writes.count));
        let count = |name: &str, world: &World| world.cluster.requests + requests.get(name).copied().unwrap_or(0);
        (self.worlds.iter().map(|(name, world)| (name.clone(), (world.role, count(name, world)))).collect(), writes)
    }

    fn is_done(&self) -> bool {
        let is_proven = |world: &World| (world.says("revision"), world.says("phase")) == (Some(NEW), Some("Current"));
        self.awake.is_empty() && !self.is_dirty && self.worlds.values().all(is_proven)
    }

    /// Passes until there is nothing to do at once. Its timer is left out while it only waits: such a pass tells nothing new.
    fn agent(&mut self, name: &str) {
        let world = self.worlds.get_mut(name).unwrap();
        if world.record.as_ref().is_some_and(|record| record.intent.is_some()) {
            world.pass_time(TICK);
        }
        world.now = self.now;
        let mut passes = 0;
        let plan = loop {
            let plan = world.pass(None);
            passes += 1;
            assert!(passes < 50, "a loop without time: {}", world.told());
            if plan.wake != Wake::Now {
                break plan;
            }
        };
        let is_open = world.record.as_ref().is_some_and(|record| record.intent.is_some());
        if is_open || matches!(plan.phase, Phase::Applying | Phase::Proving) {
            self.awake.insert(name.to_owned());
        }
        let seen = seen(name, world);
        if self.fleet.nodes.insert(name.to_owned(), seen.clone()) != Some(seen) {
            self.is_dirty = true;
        }
    }

    fn coordinator(&mut self) {
        if !self.is_dirty && self.decide_at.is_none_or(|at| self.now < at) {
            return;
        }
        self.is_dirty = false;
        if let Some(holding) = &mut self.fleet.holding {
            holding.renewed = self.now;
        }
        self.fleet.ledger.observe(&self.fleet.nodes, self.now);
        let mut turns = next_turns(&self.fleet, &self.policy, self.now);
        if let Some(ask) = turns.gate.take() {
            // The addresses of the API servers: their readyz does not count.
            *self.requests.entry(ask.node.clone()).or_default() += 1;
            self.fleet.gate = Some(GateAnswer { target: ask.node, asked_at: self.now, refusal: None });
            turns = next_turns(&self.fleet, &self.policy, self.now);
        }
        assert_eq!(turns.revoke, None, "nothing goes wrong here");
        self.fleet.kept = turns.lease;
        self.writes_lease();
        self.decide_at = turns.wake.map(|wake| self.now + wake);
        self.is_dirty = turns.writes.len() > BREATH;
        for write in turns.writes.into_iter().take(BREATH) {
            self.write(write);
        }
    }

    fn writes_lease(&mut self) {
        let [listing, saying] = &mut self.writes;
        listing.look(&self.fleet.kept, self.now);
        saying.look(&LeaseKept { out: BTreeMap::new(), ..self.fleet.kept.clone() }, self.now);
    }

    fn write(&mut self, write: NodeWrite) {
        let NodeWrite { node, uid: _, grant, turn } = write;
        *self.requests.entry(node.clone()).or_default() += 1;
        let world = self.worlds.get_mut(&node).unwrap();
        match turn {
            Change::Keep => {}
            Change::Remove => world.annotate("turn", None),
            Change::Set(word) => world.annotate("turn", Some(word.as_str())),
        }
        match grant {
            Change::Keep => {}
            Change::Remove => world.annotate("grant", None),
            Change::Set(grant) => {
                self.fleet.ledger.granted(&node, &grant.ask, self.now);
                world.annotate("grant", Some(&grant.to_string()));
            }
        }
        let seen = seen(&node, world);
        self.fleet.nodes.insert(node.clone(), seen);
        self.awake.insert(node);
    }
}

/// As the coordinator sees it.
fn seen(name: &str, world: &World) -> NodeSeen {
    let label = ("node-role.kubernetes.io/control-plane".to_owned(), "true".to_owned());
    NodeSeen::read(NodeRaw {
        uid: name,
        labels: &BTreeMap::from_iter((world.role == Role::Server).then_some(label)),
        annotations: &world.node.annotations,
        is_ready: true,
        is_cordoned: false,
        has_agent: true,
    })
}

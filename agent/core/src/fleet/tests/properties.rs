//! Random fleets, and random histories with lagging watches, uncertain writes and changes of holder.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::policy::{MaxUnavailable, Order};

fn revision() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just(OLD), Just(R1), Just(R2)]
}

fn said<T: Clone + std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Said<T>> {
    prop_oneof![3 => Just(None), 1 => Just(Some(None)), 4 => value.prop_map(|value| Some(Some(value)))].prop_map(
        |said| match said {
            None => Said::Nothing,
            Some(None) => Said::Garbage,
            Some(Some(value)) => Said::Is(value),
        },
    )
}

fn any_node() -> impl Strategy<Value = NodeSeen> {
    let phase = prop_oneof![
        20 => Just(Phase::Pending), 6 => Just(Phase::Current), 1 => Just(Phase::Applying), 1 => Just(Phase::Proving),
        1 => Just(Phase::Stuck), 1 => Just(Phase::RolledBack), 1 => Just(Phase::Invalid), 1 => Just(Phase::Paused),
    ];
    let phase = prop_oneof![40 => phase.prop_map(Said::Is), 1 => Just(Said::Nothing), 1 => Just(Said::Garbage)];
    let number = || (0..6_u32).prop_map(|number| format!("{number:08x}"));
    let ask = || (revision(), number()).prop_map(|(revision, number)| Ask { revision: revision.into(), number });
    let flags = prop::array::uniform6(prop::bool::weighted(0.1));
    let wanted = prop_oneof![4 => ask().prop_map(Said::Is), 1 => said(ask())];
    let grant = (ask(), 1..3_u64).prop_map(|(ask, number)| Grant { ask, epoch: epoch(number) });
    let grant = prop_oneof![6 => Just(Said::Nothing), 1 => said(grant)];
    let failed = prop_oneof![8 => Just(Said::Nothing), 1 => said(revision().prop_map(str::to_owned))];
    let revision = said(revision().prop_map(str::to_owned));
    (flags, phase, revision, failed, wanted, said(number()), grant).prop_map(
        |(flags, phase, revision, failed, wanted, answered, grant)| {
            let [is_down, is_cordoned, is_excluded, is_paused, is_bare, is_server] = flags;
            NodeSeen {
                is_ready: !is_down,
                is_cordoned,
                is_excluded,
                is_paused,
                has_agent: !is_bare,
                phase,
                revision,
                failed,
                wanted,
                answered,
                grant,
                ..node(if is_server { Role::Server } else { Role::Agent })
            }
        },
    )
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let budget =
        prop_oneof![(1..5_u32).prop_map(MaxUnavailable::Number), (1..=100_u8).prop_map(MaxUnavailable::Percent)];
    let order = prop_oneof![Just(Order::Canary), Just(Order::ServersFirst)];
    (budget, order).prop_map(|(max_unavailable, order)| Policy { max_unavailable, order, ..Policy::default() })
}

/// Counted without the code under test: what the Nodes show, and what was granted.
fn is_out(seen: &NodeSeen, is_granted: bool) -> bool {
    let open = matches!(seen.phase, Said::Is(Phase::Applying | Phase::Proving));
    let stuck = seen.phase == Said::Is(Phase::Stuck) && !seen.is_excluded;
    let down = !seen.is_ready && !seen.is_excluded && seen.phase != Said::Nothing;
    open || is_granted || stuck || down
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn whatever_the_nodes_show_no_more_are_out_than_allowed(
        nodes in prop::collection::vec(any_node(), 1..9),
        policy in any_policy(),
        halted in prop::collection::vec(revision().prop_map(str::to_owned), 0..2),
    ) {
        let mut world = World::of(&[]);
        world.fleet.nodes =
            nodes.into_iter().enumerate().map(|(number, node)| (format!("n{number}"), node)).collect();
        world.policy = policy;
        world.fleet.kept.halted = halted;
        world.take(&[]);
        world.pass(60);
        let counted = world.fleet.nodes.values()
            .filter(|seen| !seen.is_excluded && (seen.has_agent || seen.phase != Said::Nothing)).count();
        let allowed = world.policy.max_unavailable.of(counted);
        for _ in 0..4 {
            // Granted to before, by the ledger's words: those are still out.
            let live: BTreeSet<String> = world.fleet.ledger.all()
                .filter(|(_, memory)| memory.is_engaged()).map(|(name, _)| name.to_owned()).collect();
            let failed: Vec<String> = world.fleet.nodes.values()
                .filter(|seen| !seen.is_excluded).filter_map(|seen| seen.failed.value().cloned()).collect();
            let before = world.fleet.nodes.clone();
            let granted: BTreeSet<String> = if world.turns().revoke.is_some() {
                BTreeSet::new()
            } else {
                world.decide().into_iter().collect()
            };
            let out = |name: &String| is_out(&before[name], live.contains(name) || granted.contains(name));
            for name in &granted {
                let seen = &before[name];
                let ask = seen.wanted.value().expect("it asked");
                prop_assert!(!seen.is_paused && !seen.is_excluded && seen.has_agent && !live.contains(name));
                prop_assert!(!failed.contains(&ask.revision) && !world.fleet.kept.halted.contains(&ask.revision));
                prop_assert!(seen.grant.value().is_none_or(|grant| grant.ask.number != ask.number), "the same again");
                let is_cure = seen.phase == Said::Is(Phase::Stuck);
                let others = before.keys().filter(|other| *other != name && out(other)).filter(|other| {
                    let is_only_stuck = before[*other].phase == Said::Is(Phase::Stuck)
                        && !live.contains(*other) && !granted.contains(*other);
                    !(is_cure && is_only_stuck)
                });
                prop_assert!(others.count() < allowed, "{name} beside too many of {allowed}");
                if seen.role == Role::Server {
                    let engaged = |other: &String| live.contains(other) || granted.contains(other)
                        || matches!(before[other].phase, Said::Is(Phase::Applying | Phase::Proving));
                    let other = before.keys().find(|other| {
                        *other != name && before[*other].role == Role::Server
                            && (engaged(other) || (!is_cure && !before[*other].is_ready))
                    });
                    prop_assert_eq!(other, None, "two servers");
                }
            }
            let is_revoking = world.turns().revoke.is_some();
            for (name, seen) in &world.fleet.nodes {
                let is_engaged = world.fleet.ledger.of(name).is_some_and(|memory| memory.is_engaged());
                let asks = seen.wanted.value().is_some() && !is_engaged && !seen.is_excluded && !seen.is_working()
                    && (seen.has_agent || seen.phase != Said::Nothing);
                prop_assert!(!asks || seen.turn.value().is_some() || is_revoking, "{name} waits for nothing");
            }
            world.pass(5);
        }
    }
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The operator writes another revision, and a node sees it.
    Ask(usize, &'static str),
    /// The agent does the next step of the protocol.
    Step(usize),
    /// The watch shows the Node as it is.
    Sync(usize),
    /// The watch shows the Node as it once was.
    Stale(usize, usize),
    /// The coordinator decides; of the grants that it writes the answer is lost.
    Decide { is_uncertain: bool },
    /// Another process takes the Lease, and remembers nothing.
    TakeOver,
    /// Time passes.
    Pass(u64),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0..5_usize, revision()).prop_map(|(node, revision)| Event::Ask(node, revision)),
        8 => (0..5_usize).prop_map(Event::Step),
        8 => (0..5_usize).prop_map(Event::Sync),
        1 => (0..5_usize, 0..9_usize).prop_map(|(node, age)| Event::Stale(node, age)),
        8 => any::<bool>().prop_map(|is_uncertain| Event::Decide { is_uncertain }),
        1 => Just(Event::TakeOver),
        4 => (0..70_u64).prop_map(Event::Pass),
    ]
}

/// Nodes as they are, beside what the coordinator's watch shows of them.
struct Bed {
    world: World,
    truth: Vec<(String, NodeSeen)>,
    past: Vec<Vec<NodeSeen>>,
    /// Agents that have read the Lease in step 4 and work.
    turns: BTreeSet<usize>,
    /// What this holder granted, whether it arrived or not.
    granted: BTreeSet<String>,
    /// What arrived, of all holders.
    written: BTreeSet<String>,
    lease: Epoch,
}

impl Bed {
    fn new() -> Self {
        let world = World::of(&["s1", "s2", "w1", "w2", "w3"]);
        let truth: Vec<_> = world.fleet.nodes.clone().into_iter().collect();
        let past = truth.iter().map(|(_, seen)| vec![seen.clone()]).collect();
        Self {
            world,
            truth,
            past,
            turns: BTreeSet::new(),
            granted: BTreeSet::new(),
            written: BTreeSet::new(),
            lease: epoch(1),
        }
    }

    fn take(&mut self, forget: &[String]) {
        self.world.fleet.nodes = self.truth.iter().cloned().collect();
        self.world.take(forget);
        self.lease = epoch(self.world.epochs);
    }

    fn ask(&mut self, node: usize, revision: &str) {
        self.world.drawn += 1;
        let number = format!("{:08x}", self.world.drawn);
        let seen = &mut self.truth[node].1;
        if seen.is_working() {
            return;
        }
        if let Some(grant) = seen.grant.value() {
            // An ask is replaced only in a patch that also answers what was granted meanwhile.
            seen.answered = Said::Is(grant.ask.number.clone());
        }
        seen.phase = Said::Is(Phase::Pending);
        seen.wanted = Said::Is(Ask { revision: revision.into(), number });
    }

    fn step(&mut self, node: usize) {
        let seen = &mut self.truth[node].1;
        let Some(grant) = seen.grant.value().cloned() else { return };
        if seen.wanted == Said::Is(grant.ask.clone()) && seen.answered != Said::Is(grant.ask.number.clone()) {
            seen.phase = Said::Is(Phase::Applying);
            seen.answered = Said::Is(grant.ask.number);
            seen.wanted = Said::Nothing;
        } else if seen.is_working() && self.turns.remove(&node) {
            seen.phase = Said::Is(Phase::Current);
            seen.revision = Said::Is(grant.ask.revision);
        } else if seen.is_working() && grant.epoch == self.lease {
            self.turns.insert(node);
        } else if seen.is_working() {
            seen.phase = Said::Is(Phase::Pending);
            let revision = grant.ask.revision;
            self.ask(node, &revision);
        }
    }

    fn decide(&mut self, is_uncertain: bool) {
        let turns = self.world.turns();
        if let Some(ask) = turns.gate {
            self.world.fleet.gate = Some(GateAnswer { target: ask.node, asked_at: self.world.now, refusal: None });
        }
        if let Some(revoke) = self.world.turns().revoke {
            return self.take(&revoke.forget);
        }
        for NodeWrite { node, grant, turn, .. } in self.world.turns().writes {
            let view = self.world.fleet.nodes[&node].clone();
            let at = self.truth.iter().position(|(name, _)| *name == node).expect("a node");
            let is_conflict = self.truth[at].1 != view;
            if let Change::Set(grant) = &grant {
                let number = &grant.ask.number;
                self.world.fleet.ledger.granted(&node, &grant.ask, self.world.now);
                // The old resourceVersion stops a grant on an old sight, but its holder may not learn that.
                if is_conflict && !is_uncertain {
                    self.world.fleet.ledger.not_written(&node, &grant.ask);
                } else {
                    assert!(self.granted.insert(number.clone()), "{number} granted twice");
                    assert!(is_conflict || self.written.insert(number.clone()), "{number} written twice");
                }
            }
            if !is_conflict {
                set(&mut self.truth[at].1.grant, grant);
                set(&mut self.truth[at].1.turn, turn);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Ask(node, revision) => self.ask(node, revision),
            Event::Step(node) => self.step(node),
            Event::Sync(node) => {
                let (name, seen) = self.truth[node].clone();
                self.past[node].push(seen.clone());
                self.world.fleet.nodes.insert(name, seen);
            }
            Event::Stale(node, age) => {
                let past = &self.past[node];
                let seen = past[past.len().saturating_sub(1 + age)].clone();
                self.world.fleet.nodes.insert(self.truth[node].0.clone(), seen);
            }
            Event::Decide { is_uncertain } => self.decide(is_uncertain),
            Event::TakeOver => {
                self.world.fleet.ledger = Ledger::default();
                self.granted.clear();
                self.take(&[]);
            }
            Event::Pass(seconds) => self.world.pass(seconds),
        }
        self.world.observe();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn by_old_sights_lost_answers_and_new_holders_nobody_goes_out_beside_another(
        events in prop::collection::vec(any_event(), 1..200),
        budget in 1..3_u32,
    ) {
        let mut bed = Bed::new();
        bed.world.policy.max_unavailable = MaxUnavailable::Number(budget);
        for event in events {
            bed.happen(event);
            prop_assert!(bed.turns.len() <= budget as usize, "{:?} are out", bed.turns);
            prop_assert!(!(bed.turns.contains(&0) && bed.turns.contains(&1)), "two servers");
        }
        // Everything that can end does: what is seen and told from now on is true, and all get their turn.
        let is_done = |bed: &Bed| bed.truth.iter().all(|(_, seen)| seen.revision == Said::Is(R1.into()));
        for _ in 0..200 {
            if is_done(&bed) {
                break;
            }
            for node in 0..5 {
                let seen = &bed.truth[node].1;
                let is_asking = |ask: &Ask| ask.revision == R1 && seen.turn != Said::Is(Word::Absent);
                if seen.revision != Said::Is(R1.into()) && !seen.wanted.value().is_some_and(is_asking) {
                    bed.ask(node, R1);
                }
                bed.happen(Event::Step(node));
                bed.happen(Event::Sync(node));
                bed.happen(Event::Decide { is_uncertain: false });
                prop_assert!(bed.turns.len() <= budget as usize, "{:?} are out", bed.turns);
            }
            bed.happen(Event::Pass(5));
        }
        prop_assert!(is_done(&bed), "{:#?}", bed.truth);
    }
}

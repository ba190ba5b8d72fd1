//! What must hold, judged by itself: of each grant by what its coordinator saw, of each begun turn by what is true.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agent_core::fleet::{Fleet, NodeSeen, Said};
use agent_core::grant::{Ask, Epoch, Grant};
use agent_core::node::annotations::Phase;
use agent_core::node::observed::Role;
use agent_core::policy::{Mode, Policy};

use super::life::Life;

/// Seconds for which a turn holds after the Lease was read.
const TURN_HOLDS: u64 = 30;

/// A grant that a coordinator wrote, or tried to.
pub struct Granted {
    /// Which process.
    pub by: u64,
    pub index: usize,
    /// The API server certainly refused it.
    pub is_certain_conflict: bool,
    pub decision: Decision,
}

/// A decision to grant, and what speaks against it in what was seen.
pub struct Decision {
    pub ask: Ask,
    pub allowed: usize,
    pub broken: Option<&'static str>,
}

impl Decision {
    pub fn of(fleet: &Fleet, policy: &Policy, name: &str, grant: &Grant, clock: Duration) -> Self {
        let ask = grant.ask.clone();
        let ours = |seen: &&NodeSeen| !seen.is_excluded && (seen.has_agent || seen.phase != Said::Nothing);
        let allowed = policy.max_unavailable.of(fleet.nodes.values().filter(ours).count());
        let broken = broken(fleet, policy, name, &ask, (clock, allowed));
        Self { ask, allowed, broken }
    }
}

fn broken(
    fleet: &Fleet,
    policy: &Policy,
    name: &str,
    ask: &Ask,
    (clock, allowed): (Duration, usize),
) -> Option<&'static str> {
    let seen = &fleet.nodes[name];
    let is_stuck = seen.phase == Said::Is(Phase::Stuck);
    let is_server = seen.role == Role::Server;
    let others = || fleet.nodes.iter().filter(|(other, it)| *other != name && !it.is_excluded).map(|(_, it)| it);
    let is_out = |it: &&NodeSeen| match it.phase {
        Said::Is(Phase::Applying | Phase::Proving) => true,
        Said::Is(Phase::Stuck) => !is_stuck,
        Said::Is(Phase::Current | Phase::Pending | Phase::RolledBack | Phase::Invalid | Phase::Paused)
        | Said::Nothing
        | Said::Garbage => false,
    };
    let is_shaky = |it: &&NodeSeen| it.role == Role::Server && (is_out(it) || (!is_stuck && !it.is_ready));
    let is_gated = fleet.gate.as_ref().is_some_and(|gate| {
        gate.target == name && gate.refusal.is_none() && clock.saturating_sub(gate.asked_at) < Duration::from_secs(5)
    });
    let is_used = seen.answered.value() == Some(&ask.number)
        || seen.grant.value().is_some_and(|standing| standing.ask.number == ask.number);
    let is_stopped = policy.pause || policy.mode == Mode::Report || fleet.policy_refused.is_some();
    match () {
        () if seen.wanted.value() != Some(ask) => Some("nobody asked for what was granted"),
        () if is_used => Some("a used ask was granted again"),
        () if is_stopped || seen.is_paused => Some("granted although paused"),
        () if seen.is_excluded => Some("an excluded node was granted"),
        () if fleet.kept.halted.contains(&ask.revision) => Some("a halted revision was granted"),
        () if is_server && !is_gated => Some("a server was granted without its gate"),
        () if is_server && others().any(|it| is_shaky(&it)) => Some("a server was granted beside another that is down"),
        () if others().filter(is_out).count() >= allowed => Some("granted beyond what is allowed"),
        () if seen.revision != Said::Nothing && !policy.is_open(fleet.wall) => Some("granted outside the windows"),
        () => None,
    }
}

/// What was ever granted and begun.
#[derive(Default)]
pub struct Promises {
    granted: BTreeSet<(u64, String)>,
    landed: BTreeMap<(String, String), Epoch>,
    begun: BTreeSet<String>,
    /// When the Lease had each epoch last.
    pub epochs: BTreeMap<Epoch, u64>,
    /// A person let failures pass: from then on only the Lease says what is halted.
    pub is_retried: bool,
}

impl Life {
    /// A grant was decided.
    pub fn holds_granted(&mut self, granted: &Granted) {
        let Granted { by, index, is_certain_conflict, decision: Decision { ask, allowed, broken } } = granted;
        self.hold(broken.is_none(), broken.unwrap_or_default());
        let key = (*by, ask.number.clone());
        self.hold(!self.promises.granted.contains(&key), "one process granted a number twice");
        let failed = self.api.nodes.iter().flatten().any(|node| {
            !node.seen.is_excluded && node.seen.failed.value() == Some(&ask.revision) && self.knows_failure(&node.seen)
        });
        self.hold(self.promises.is_retried || !failed, "what failed elsewhere was granted");
        if !is_certain_conflict {
            self.promises.granted.insert(key);
            self.machines[*index].allowed = *allowed;
            self.machines[*index].granted_by = *by;
            let lease = self.api.lease.as_ref();
            self.machines[*index].granted_under = lease.map(|lease| lease.record.uid.clone()).unwrap_or_default();
        }
    }

    /// It stood there before the holder could have listed or seen it.
    fn knows_failure(&self, seen: &NodeSeen) -> bool {
        let halted = self.api.lease.as_ref().map(|lease| &lease.kept.halted);
        seen.failed.value().is_some_and(|failed| halted.is_some_and(|halted| halted.contains(failed)))
    }

    /// A grant stands on a Node now. One that stood there, and was taken away, does not come back.
    pub fn holds_landed(&mut self, uid: &str, grant: &Grant) {
        let key = (uid.to_owned(), grant.ask.number.clone());
        let epoch = self.promises.landed.entry(key).or_insert_with(|| grant.epoch.clone());
        let is_same = *epoch == grant.epoch;
        self.hold(is_same, "a number that stood on the Node was granted again");
    }

    /// A turn began.
    pub fn holds_begun(&mut self, index: usize, number: &str) {
        let is_new = self.promises.begun.insert(number.to_owned());
        self.hold(is_new, "an ask began two turns");
        let uid = self.api.seen(index).map(|seen| seen.uid.clone()).unwrap_or_default();
        let epoch = self.promises.landed.get(&(uid, number.to_owned()));
        let is_in_force = |epoch| self.promises.epochs.get(epoch).is_some_and(|at| self.now <= at + TURN_HOLDS);
        self.hold(epoch.is_none_or(is_in_force), "a turn began by a grant of a dead epoch");
        let out: Vec<usize> = (0..self.machines.len())
            .filter(|other| self.machines[*other].is_disturbed() && !self.machines[*other].is_forgotten)
            .collect();
        let allowed = out.iter().map(|other| self.machines[*other].allowed).max().unwrap_or(0);
        let names = || out.iter().map(|other| self.api.names[*other].as_str()).collect::<Vec<_>>().join(", ");
        let crowd = format!("more than {allowed} out: {}", names());
        self.hold(out.len() <= allowed.max(1), &crowd);
        let servers = out.iter().filter(|other| self.machines[**other].role == Role::Server).count();
        self.hold(servers <= 1, &format!("two servers out: {}", names()));
        let is_server = self.machines[index].role == Role::Server;
        self.hold(!is_server || self.gate(index, true).is_ok(), "a server began although another API server is down");
    }
}

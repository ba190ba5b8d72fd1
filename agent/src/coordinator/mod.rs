//! The coordinator's loop: holds the Lease, sees the Nodes, decides by the core, and writes what was decided.
//!
//! It decides nothing itself. What keeps it safe is an order: the Lease before the list, the ledger before the write, what
//! is uncertain counts as done, and nothing is decided while it is not known whose the Lease is.

mod store;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_core::fleet::gate::{Purpose, interruption, judge};
use agent_core::fleet::lease::{Holding, LeaseCase, LeaseSeen, LeaseStep, step};
use agent_core::fleet::{
    Change, Fleet, GateAnswer, GateAsk, LeaseKept, Ledger, NodeWrite, Revoke, Turns, Waits, next_turns,
};
use agent_core::grant::Epoch;
use agent_core::policy::{Mode, Policy};
use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use crate::cluster::client::Cluster;
use crate::cluster::gate::ask_addresses;
use crate::cluster::lease::{self, LeaseNow, Write, Writing};
use crate::cluster::nodes::{
    Agents, NodeNews, PolicyView, read_node, watch_agents, watch_nodes, watch_policy, write_node,
};
use crate::cluster::trouble::Trouble;
use crate::host::clock::clock;
use crate::http::Liveness;
use crate::metrics::fleet::FleetMetrics;
use crate::pass::Chain;
use crate::random;
use store::Store;

/// Nodes that are written at once.
const HANDFUL: usize = 8;
/// After a fault nothing is written for so long; and so long it is written before the Lease, and what is new, are looked at.
const BREATH: Duration = Duration::from_secs(1);
/// A sentence that differs, and whose turn is over, wait so long for a write that takes them along: a renewal, or one that a
/// grant needs.
const SENTENCE: Duration = Duration::from_secs(2);

/// Why the coordinator cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// A task that runs for ever ended.
    #[error("a task of the coordinator ended")]
    Task,
}

/// What the loop is given.
#[derive(Debug)]
pub struct Setup {
    /// The API server.
    pub cluster: Cluster,
    /// Our identity: one that no other process has at the same time.
    pub me: String,
    /// How long is waited for what.
    pub waits: Waits,
    /// What is counted.
    pub metrics: Arc<FleetMetrics>,
    /// Ticks whenever the loop comes round.
    pub liveness: Arc<Liveness>,
    /// Set while it sees all that it needs, or another one holds the Lease.
    pub is_ready: Arc<AtomicBool>,
}

/// The coordinator.
#[derive(Debug)]
pub struct Coordinator {
    setup: Setup,
    /// Our own clock begins here.
    origin: Instant,
    fleet: Fleet,
    /// The last valid one.
    policy: Policy,
    is_policy_seen: bool,
    are_agents_seen: bool,
    store: Store,
    lease: Option<LeaseNow>,
    lease_seen: Option<LeaseSeen>,
    /// What we know of the Lease is what was read or written last, and no write since then is uncertain.
    is_lease_known: bool,
    /// A write of the Lease is uncertain, and may land until another one has succeeded.
    is_lease_late: bool,
    /// Since when something else is to stand on the Lease.
    differs_since: Option<Duration>,
    lease_due: Duration,
    /// What is to stand on the Lease.
    kept: LeaseKept,
    revoking: Option<Revoke>,
    /// Counts acquisitions: what the watch shows under an earlier number is of no use.
    number: u64,
    wanted: watch::Sender<u64>,
    /// The Nodes were listed since the last acquisition.
    is_listed: bool,
    /// Nodes that are to be read before they are written again.
    reread: BTreeSet<String>,
    is_dirty: bool,
    decide_at: Option<Duration>,
    /// Nothing is written before.
    not_before: Duration,
    /// What a restart of the server that the gate was asked for interrupts.
    interruption: Option<String>,
    said: String,
}

impl Coordinator {
    /// Sets it up. Nothing is asked yet.
    pub fn new(setup: Setup) -> Self {
        let fleet = Fleet {
            nodes: BTreeMap::new(),
            holding: None,
            kept: LeaseKept::default(),
            retry: None,
            ledger: Ledger::default(),
            gate: None,
            policy_refused: None,
            wall: Timestamp::UNIX_EPOCH,
            waits: setup.waits,
        };
        Self {
            setup,
            origin: Instant::now(),
            fleet,
            // Until a valid policy was seen nothing is begun.
            policy: Policy { mode: Mode::Report, ..Policy::default() },
            is_policy_seen: false,
            are_agents_seen: false,
            store: Store::default(),
            lease: None,
            lease_seen: None,
            is_lease_known: false,
            is_lease_late: false,
            differs_since: None,
            lease_due: Duration::ZERO,
            kept: LeaseKept::default(),
            revoking: None,
            number: 0,
            wanted: watch::Sender::new(0),
            is_listed: false,
            reread: BTreeSet::new(),
            is_dirty: false,
            decide_at: None,
            not_before: Duration::ZERO,
            interruption: None,
            said: String::new(),
        }
    }

    /// Runs until `stop`, and gives the Lease back then.
    ///
    /// # Errors
    ///
    /// [`CoordinatorError`]: it is blind, and has to be started anew.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), CoordinatorError> {
        let mut stop = pin!(stop);
        let mut tasks = JoinSet::new();
        let (nodes_out, mut news) = mpsc::unbounded_channel();
        let (agents_out, mut agents) = watch::channel(Agents::None);
        let (policy_out, mut policy) = watch::channel(PolicyView::Waiting("the policy was not read yet".to_owned()));
        let cluster = self.setup.cluster.clone();
        let wanted = self.wanted.subscribe();
        tasks.spawn(async move { match watch_nodes(cluster, wanted, nodes_out).await {} });
        let cluster = self.setup.cluster.clone();
        tasks.spawn(async move { match watch_agents(cluster, agents_out).await {} });
        let cluster = self.setup.cluster.clone();
        tasks.spawn(async move { match watch_policy(cluster, policy_out).await {} });
        loop {
            self.setup.liveness.tick();
            if self.now() >= self.lease_due {
                self.look_at_lease().await;
            }
            self.act().await;
            self.setup.is_ready.store(self.is_ready(), Ordering::Relaxed);
            let (lease_due, decide_at) = (self.instant(self.lease_due), self.decide_at.map(|at| self.instant(at)));
            // No arm does anything: what they waited for is looked at afterwards. A timer and a future that is kept lose
            // nothing when dropped; recv, join_next and changed take nothing unless they are chosen.
            tokio::select! {
                biased;
                () = sleep_until(lease_due) => {}
                () = &mut stop => {
                    self.release().await;
                    return Ok(());
                }
                // One that ended, or panicked, leaves us blind: better to start anew.
                _ = tasks.join_next() => return Err(CoordinatorError::Task),
                item = news.recv() => {
                    self.take(item);
                    // Many at once are one change.
                    while let Ok(item) = news.try_recv() {
                        self.take(Some(item));
                    }
                }
                // An error means that the task ended, which its own arm finds.
                _ = agents.changed() => self.take_agents(&agents.borrow_and_update()),
                _ = policy.changed() => self.take_policy(&policy.borrow_and_update()),
                () = at(decide_at) => {}
            }
        }
    }

    /// Our own clock. It only ever differs from another's, and is never compared with one.
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn instant(&self, at: Duration) -> Instant {
        self.origin + at
    }

    fn is_ready(&self) -> bool {
        let sees_all = self.is_listed && self.are_agents_seen && self.is_policy_seen;
        self.lease.is_some() && (self.fleet.holding.is_none() || sees_all)
    }

    /// What stands in the way of deciding anything.
    fn waiting(&self) -> Option<&'static str> {
        match () {
            () if self.fleet.holding.is_none() => Some("does not hold the Lease"),
            () if !self.is_lease_known => Some("does not know whose the Lease is"),
            () if !self.is_listed => Some("waits for the list of Nodes"),
            () if !self.are_agents_seen => Some("waits for the list of the agents' pods"),
            () if !self.is_policy_seen => Some("waits for the policy"),
            () => None,
        }
    }

    fn take(&mut self, item: Option<(u64, NodeNews)>) {
        let Some((number, item)) = item.filter(|(number, _)| *number == self.number) else { return };
        let now = self.now();
        match item {
            NodeNews::All(all) => {
                self.store.replace(&mut self.fleet.nodes, all);
                self.reread.clear();
                self.is_dirty = true;
                if let Some(holding) = self.fleet.holding.as_ref().filter(|_| !self.is_listed) {
                    self.is_listed = true;
                    let forget = self.revoking.take().map(|revoke| revoke.forget).unwrap_or_default();
                    let epoch = holding.epoch.clone();
                    let Fleet { ledger, nodes, kept, .. } = &mut self.fleet;
                    ledger.acquired(epoch, nodes, &kept.out, &forget, now);
                    info!(nodes = self.fleet.nodes.len(), number, "nodes listed");
                }
            }
            NodeNews::Set(node) => self.is_dirty |= self.store.watched(&mut self.fleet.nodes, *node),
            NodeNews::Unset(name) => {
                self.store.unset(&mut self.fleet.nodes, &name);
                self.is_dirty = true;
            }
            NodeNews::Trouble(trouble) => debug!(%trouble, "nodes not seen"),
        }
    }

    fn take_agents(&mut self, agents: &Agents) {
        if let Some(pods) = agents {
            self.are_agents_seen = true;
            self.store.agents(&mut self.fleet.nodes, pods);
            self.is_dirty = true;
        }
    }

    fn take_policy(&mut self, view: &PolicyView) {
        let text = match view {
            PolicyView::Waiting(why) => return debug!(why, "policy not seen"),
            PolicyView::Seen(text) => text,
        };
        self.is_policy_seen = true;
        self.is_dirty = true;
        match text.as_deref().map_or_else(|| Ok(Policy::default()), Policy::parse) {
            Ok(policy) => {
                self.policy = policy;
                self.fleet.policy_refused = None;
            }
            Err(errors) => {
                let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                let why = errors.join("; ");
                warn!(why, "policy refused: nothing is granted");
                self.fleet.policy_refused = Some(why);
            }
        }
    }

    /// Reads the Lease if it must, and does what is to be done about it.
    async fn look_at_lease(&mut self) {
        // Whatever comes of it, it is not looked at in a tight loop.
        self.lease_due = self.now() + BREATH.min(self.fleet.waits.renew);
        if !self.is_lease_known || self.fleet.holding.is_none() {
            match lease::read(&self.setup.cluster).await {
                Ok(Some(found)) => self.saw(found),
                Ok(None) => {
                    self.say("the Lease is not there: apply the manifests");
                    (self.lease, self.lease_seen, self.is_lease_known) = (None, None, true);
                }
                Err(trouble) => {
                    self.is_lease_known = false;
                    return self.say(&format!("the Lease cannot be read: {trouble}"));
                }
            }
        }
        let Ok(dice) = random::epoch() else { return self.say("the kernel gives no randomness: no epoch is drawn") };
        match self.lease_step(&dice) {
            LeaseStep::Lost(why) => {
                self.lose(why);
                // What stands there now may be free.
                self.is_lease_known = false;
                self.lease_due = self.now();
            }
            LeaseStep::Acquire(epoch) => self.acquire(epoch).await,
            LeaseStep::Renew => {
                self.renew().await;
            }
            LeaseStep::Wait(until) => {
                // Held, nobody else writes it; not held, it is read again as often as its holder renews it.
                let again =
                    if self.fleet.holding.is_some() { until } else { until.min(self.now() + self.fleet.waits.renew) };
                self.lease_due = again.max(self.lease_due);
                if self.fleet.holding.is_none() {
                    let holder = self.lease.as_ref().and_then(|lease| lease.record.holder.clone());
                    self.say(&format!("waits for the Lease, held by {}", holder.as_deref().unwrap_or("nobody")));
                }
            }
        }
    }

    fn lease_step(&self, dice: &Epoch) -> LeaseStep {
        let case = LeaseCase {
            seen: self.lease_seen.as_ref(),
            holding: self.fleet.holding.as_ref(),
            me: &self.setup.me,
            revoke: self.revoking.is_some(),
            dice,
        };
        step(case, &self.fleet.waits, self.now())
    }

    fn saw(&mut self, found: LeaseNow) {
        let now = self.now();
        self.lease_seen = Some(LeaseSeen::next(self.lease_seen.take(), found.record.clone(), now));
        self.is_dirty |= self.fleet.retry != found.retry || self.fleet.kept != found.kept;
        self.fleet.retry.clone_from(&found.retry);
        self.fleet.kept.clone_from(&found.kept);
        self.lease = Some(found);
        self.is_lease_known = true;
    }

    async fn acquire(&mut self, epoch: Epoch) {
        let began = self.now();
        let is_again = self.fleet.holding.is_some();
        if !self.write_lease(Write::Acquire(&epoch)).await {
            return;
        }
        let Some(lease) = &self.lease else { return };
        // What stands there stays until we have decided something else, which may be many renewals later.
        self.kept.clone_from(&lease.kept);
        self.fleet.holding = Some(Holding { uid: lease.record.uid.clone(), epoch, renewed: began });
        // The list begins now, after the Lease became ours: either it shows that a node is at work, or that node's agent
        // finds the new epoch.
        self.is_listed = false;
        self.fleet.gate = None;
        self.number += 1;
        self.wanted.send_replace(self.number);
        self.lease_due = began + self.fleet.waits.renew;
        let why = self.revoking.as_ref().map_or("the Lease was free", |revoke| revoke.why.as_str());
        info!(me = self.setup.me, why, "new epoch");
        self.setup.metrics.acquired(is_again);
    }

    async fn renew(&mut self) -> bool {
        let began = self.now();
        let is_written = self.write_lease(Write::Renew).await;
        if let Some(holding) = self.fleet.holding.as_mut().filter(|_| is_written) {
            holding.renewed = began;
            self.lease_due = began + self.fleet.waits.renew;
            // Also when nothing happens: that it decides at all can be watched.
            self.decide_at = Some(began);
        }
        is_written
    }

    /// Writes the Lease and what is to be kept there. What is known of it is what came back, or nothing.
    async fn write_lease(&mut self, what: Write<'_>) -> bool {
        let Some(on) = &self.lease else { return false };
        let kept = if self.is_listed { &self.kept } else { &on.kept };
        let Setup { cluster, me, .. } = &self.setup;
        let writing =
            Writing { me, at: wall().unwrap_or(self.fleet.wall), seconds: self.fleet.waits.expire.as_secs(), kept };
        match lease::write(cluster, on, what, writing).await {
            Ok(found) => {
                (self.is_lease_late, self.differs_since) = (false, None);
                self.saw(found);
                true
            }
            Err(trouble) => {
                self.is_lease_known = false;
                self.is_lease_late |= !trouble.is_refusal();
                let soon = if trouble == Trouble::Conflict { Duration::ZERO } else { BREATH };
                self.lease_due = self.now() + soon.min(self.fleet.waits.renew);
                if !trouble.is_refusal() {
                    self.setup.metrics.uncertain();
                }
                if trouble != Trouble::Conflict {
                    self.say(&format!("the Lease cannot be written: {trouble}"));
                }
                false
            }
        }
    }

    fn lose(&mut self, why: &str) {
        warn!(why, "lease lost: nothing is granted");
        self.fleet.holding = None;
        self.fleet.ledger.lost();
        self.fleet.gate = None;
        self.revoking = None;
        self.is_listed = false;
        self.decide_at = None;
        self.number += 1;
        self.wanted.send_replace(0);
        self.setup.metrics.lost();
    }

    async fn release(&mut self) {
        if self.fleet.holding.is_some() && self.is_lease_known && self.write_lease(Write::Release).await {
            info!("lease given back");
        }
    }

    /// Decides if something is new, and does a handful of what was decided.
    async fn act(&mut self) {
        let now = self.now();
        if let Some(why) = self.waiting() {
            self.decide_at = None;
            return debug!(why, "nothing decided");
        }
        if !self.is_dirty && self.decide_at.is_none_or(|at| now < at) {
            return;
        }
        if now < self.not_before {
            self.decide_at = Some(self.not_before);
            return;
        }
        self.read_again().await;
        let turns = self.decide();
        self.decide_at = turns.wake.map(|wake| self.now() + wake);
        let Turns { revoke, lease, writes, gate, wake: _ } = turns;
        let has_grant = writes.iter().any(|write| matches!(write.grant, Change::Set(_)));
        // A grant rests on what stands there to stay: what is under way yet may be older than what was read.
        let must_stand = !lease.may_rest_on(&self.fleet.kept) || (has_grant && self.is_lease_late);
        let differs_since = (lease != self.fleet.kept).then(|| self.differs_since.unwrap_or(now));
        self.differs_since = differs_since;
        if self.kept.rollout != lease.rollout {
            info!(rollout = lease.rollout, "rollout");
        }
        self.kept = lease;
        if let Some(revoke) = revoke {
            self.revoking = Some(revoke);
            self.is_dirty = true;
            return self.look_at_lease().await;
        }
        let due = differs_since.map(|since| since + SENTENCE.min(self.fleet.waits.renew));
        // The writes below rest on what is halted and on who is listed as out; all else can wait a little for company.
        if must_stand || due.is_some_and(|due| self.now() >= due) {
            self.is_dirty |= !self.renew().await;
            if !self.is_lease_known {
                return;
            }
        } else if let Some(due) = due {
            self.wake_at(due);
        }
        if !writes.is_empty() {
            let pause = if self.write(writes).await { Duration::ZERO } else { BREATH };
            self.wake_at(self.now() + pause);
        }
        if let Some(ask) = gate {
            self.ask(&ask).await;
            self.wake_at(self.now());
        }
    }

    fn wake_at(&mut self, at: Duration) {
        self.decide_at = Some(self.decide_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn decide(&mut self) -> Turns {
        let (now, begun) = (self.now(), Instant::now());
        if std::mem::take(&mut self.is_dirty) {
            self.fleet.ledger.observe(&self.fleet.nodes, now);
            self.setup.metrics.phases(self.fleet.nodes.values().map(|node| node.phase.value().copied()));
        }
        self.fleet.wall = wall().unwrap_or(self.fleet.wall);
        let turns = next_turns(&self.fleet, &self.policy, now);
        self.setup.metrics.decided(begun.elapsed(), self.fleet.wall);
        self.setup.metrics.halted(turns.lease.halted.len());
        turns
    }

    /// Reads the Nodes of which the last write was refused or is uncertain.
    async fn read_again(&mut self) {
        let names: Vec<String> = self.reread.iter().take(HANDFUL).cloned().collect();
        let cluster = &self.setup.cluster;
        let read = join_all(names.iter().map(|name| read_node(cluster, name))).await;
        for (name, found) in names.into_iter().zip(read) {
            match found {
                Ok(node) => self.is_dirty |= self.store.put(&mut self.fleet.nodes, node),
                Err(Trouble::NotFound) => {
                    self.store.unset(&mut self.fleet.nodes, &name);
                    self.is_dirty = true;
                }
                Err(trouble) => {
                    self.fault(&name, &trouble);
                    continue;
                }
            }
            self.reread.remove(&name);
        }
    }

    /// Writes handful by handful, for a breath; the others follow from the next decision. Tells whether anything was sent.
    async fn write(&mut self, writes: Vec<NodeWrite>) -> bool {
        let began = self.now();
        if !self.fleet.holding.as_ref().is_some_and(|holding| holding.may_act(&self.fleet.waits, began)) {
            return false;
        }
        let writable = writes.into_iter().filter(|write| !self.reread.contains(&write.node));
        let writable: Vec<(NodeWrite, String)> = writable
            .filter_map(|write| self.store.version(&write.node).map(str::to_owned).map(|version| (write, version)))
            .collect();
        for handful in writable.chunks(HANDFUL) {
            let now = self.now();
            if now >= began + BREATH || self.not_before > now {
                break;
            }
            // Before they are sent: whatever comes of them, they count.
            for (write, _) in handful {
                if let Change::Set(grant) = &write.grant {
                    self.fleet.ledger.granted(&write.node, &grant.ask, now);
                }
            }
            let cluster = &self.setup.cluster;
            let written = join_all(handful.iter().map(|(write, version)| write_node(cluster, write, version))).await;
            self.is_dirty = true;
            for ((write, _), written) in handful.iter().zip(written) {
                self.written(write, written);
            }
        }
        !writable.is_empty()
    }

    fn written(&mut self, write: &NodeWrite, written: Result<crate::cluster::nodes::NodeNow, Trouble>) {
        let grant = match &write.grant {
            Change::Set(grant) => Some(grant),
            Change::Keep | Change::Remove => None,
        };
        let name = &write.node;
        match written {
            Ok(node) => {
                self.store.wrote(&mut self.fleet.nodes, node);
                if let Some(grant) = grant {
                    let note = self.interruption.take().unwrap_or_default();
                    info!(node = name, ask = %grant.ask, note, "granted");
                    self.setup.metrics.granted();
                }
            }
            Err(trouble) if trouble.is_refusal() => {
                if let Some(grant) = grant {
                    self.fleet.ledger.not_written(name, &grant.ask);
                }
                self.reread.insert(name.clone());
                if !matches!(trouble, Trouble::Conflict | Trouble::NotFound) {
                    self.fault(name, &trouble);
                }
            }
            Err(trouble) => {
                self.setup.metrics.uncertain();
                if grant.is_some() {
                    self.setup.metrics.granted();
                }
                self.reread.insert(name.clone());
                self.fault(name, &trouble);
            }
        }
    }

    fn fault(&mut self, node: &str, trouble: &Trouble) {
        warn!(node, %trouble, "node neither read nor written");
        self.not_before = self.now() + BREATH;
    }

    async fn ask(&mut self, ask: &GateAsk) {
        let GateAsk { node, is_cure } = ask;
        let asked_at = self.now();
        let Fleet { ledger, waits, .. } = &self.fleet;
        let servers = self.store.servers(|name| ledger.is_newly_cordoned(name, waits, asked_at));
        let purpose = if *is_cure { Purpose::Cure } else { Purpose::Change };
        let seen = ask_addresses(&self.setup.cluster, node, servers).await;
        let refusal = match &seen {
            Ok(seen) => judge(seen, node, purpose).err(),
            Err(error) => Some(format!("{:#}", Chain(error))),
        };
        self.interruption = seen.ok().and_then(|seen| interruption(&seen, node));
        debug!(node, refusal, "server gate asked");
        self.fleet.gate = Some(GateAnswer { target: node.clone(), asked_at, refusal });
    }

    /// Says where it stands with the Lease, once.
    fn say(&mut self, what: &str) {
        if self.said != what {
            info!(what, "lease");
            what.clone_into(&mut self.said);
        }
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The wall clock, for windows and for people.
fn wall() -> Option<Timestamp> {
    clock().ok().map(|clock| clock.wall)
}

//! The coordinator's loop: holds the Lease, sees the Nodes, decides by the core, and writes what was decided.
//!
//! It decides nothing itself. What keeps it safe is an order: the Lease before the list, the ledger before the write, what
//! is uncertain counts as done, and nothing is decided while it is not known whose the Lease is.

mod holding;
mod news;
mod store;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_core::fleet::lease::LeaseSeen;
use agent_core::fleet::{Change, Fleet, LeaseKept, Ledger, Revoke, Turns, Waits, next_turns};
use agent_core::policy::{Mode, Policy};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use crate::cluster::client::Cluster;
use crate::cluster::lease::LeaseNow;
use crate::cluster::nodes::{Agents, PolicyView, watch_agents, watch_nodes, watch_policy};
use crate::host::clock::clock;
use crate::http::Liveness;
use crate::metrics::fleet::FleetMetrics;
use store::Store;

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

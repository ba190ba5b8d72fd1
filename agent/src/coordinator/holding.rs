//! The coordinator's side of the Lease: it is taken, renewed with what is to stand there, lost, and given back.

use std::time::Duration;

use agent_core::fleet::lease::{Holding, LeaseCase, LeaseSeen, LeaseStep, step};
use agent_core::grant::Epoch;
use tracing::{info, warn};

use super::{BREATH, Coordinator, Setup, wall};
use crate::cluster::lease::{self, LeaseNow, Write, Writing};
use crate::cluster::trouble::Trouble;
use crate::random;

impl Coordinator {
    /// Reads the Lease if it must, and does what is to be done about it.
    pub(super) async fn look_at_lease(&mut self) {
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

    pub(super) async fn renew(&mut self) -> bool {
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

    pub(super) fn lose(&mut self, why: &str) {
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

    pub(super) async fn release(&mut self) {
        if self.fleet.holding.is_some() && self.is_lease_known && self.write_lease(Write::Release).await {
            info!("lease given back");
        }
    }

    /// Says where it stands with the Lease, once.
    pub(super) fn say(&mut self, what: &str) {
        if self.said != what {
            info!(what, "lease");
            what.clone_into(&mut self.said);
        }
    }
}

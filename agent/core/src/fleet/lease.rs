//! The Lease of the coordinator: who holds it, and what to do about it now (`design.md` 7).
//!
//! Expiry is judged by how long the record stood unchanged on our own clock; no two clocks are ever compared.

use std::time::Duration;

use super::seen::Said;
use super::waits::Waits;
use crate::grant::Epoch;

/// The Lease as it was read last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSeen {
    /// What it says.
    pub record: LeaseRecord,
    /// Since when we see exactly this record, on our own clock.
    pub unchanged_since: Duration,
}

/// What the Lease says of its holder. Compared for equality only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRecord {
    /// `metadata.uid`: another one is another Lease.
    pub uid: String,
    /// `spec.holderIdentity`; none if absent or empty.
    pub holder: Option<String>,
    /// Annotation `k3s-registry-agent/epoch`.
    pub epoch: Said<Epoch>,
    /// `spec.renewTime` as it is written, on the holder's clock: only whether it changes says something.
    pub renewed: String,
}

/// The Lease, held by this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The Lease that was taken.
    pub uid: String,
    /// The epoch that was drawn for it.
    pub epoch: Epoch,
    /// When the last write that succeeded began: the acquisition, or a renewal.
    pub renewed: Duration,
}

/// What to do about the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseStep {
    /// Write holder and this epoch in one compare-and-swap, whoever held it before; then list Nodes by a quorum read.
    Acquire(Epoch),
    /// Write the time of renewal, with the resourceVersion that was read.
    Renew,
    /// Nothing, until this moment of our own clock or until the record changes.
    Wait(Duration),
    /// It is not ours any more, for this reason: forget the holding, grant nothing.
    Lost(&'static str),
}

impl LeaseSeen {
    /// Takes up what was read now.
    pub fn next(earlier: Option<Self>, record: LeaseRecord, now: Duration) -> Self {
        match earlier {
            Some(earlier) if earlier.record == record => earlier,
            Some(_) | None => Self { record, unchanged_since: now },
        }
    }
}

impl Holding {
    /// Tells whether anything may still be decided or written under it.
    pub fn may_act(&self, waits: &Waits, now: Duration) -> bool {
        now.saturating_sub(self.renewed) < waits.act
    }
}

/// What is known when the Lease is looked at.
#[derive(Clone, Copy, Debug)]
pub struct LeaseCase<'a> {
    /// The Lease; none if there is no such object. It is never created: it is shipped.
    pub seen: Option<&'a LeaseSeen>,
    /// What this process holds.
    pub holding: Option<&'a Holding>,
    /// Our identity.
    pub me: &'a str,
    /// A new epoch is needed before anything else ([`super::Turns::revoke`]).
    pub revoke: bool,
    /// An epoch drawn for this step.
    pub dice: &'a Epoch,
}

/// Decides what to do about the Lease.
pub fn step(case: LeaseCase<'_>, waits: &Waits, now: Duration) -> LeaseStep {
    let LeaseCase { seen, holding, me, revoke, dice } = case;
    let Some(LeaseSeen { record, unchanged_since }) = seen else {
        return match holding {
            Some(_) => LeaseStep::Lost("the Lease is gone"),
            None => LeaseStep::Wait(now.saturating_add(waits.renew)),
        };
    };
    let is_fresh = record.epoch.value() != Some(dice);
    let acquire = || if is_fresh { LeaseStep::Acquire(dice.clone()) } else { LeaseStep::Wait(now) };
    if let Some(holding) = holding {
        return match loss(record, holding, me) {
            Some(why) => LeaseStep::Lost(why),
            None if revoke => acquire(),
            None => {
                let due = holding.renewed.saturating_add(waits.renew);
                // Late is not lost: until somebody takes it, the record and its epoch stand.
                if now >= due { LeaseStep::Renew } else { LeaseStep::Wait(due) }
            }
        };
    }
    let expires = unchanged_since.saturating_add(waits.expire);
    match (&record.holder, &record.epoch) {
        // Shipped empty, released, or made again without what we write: nobody can act under it.
        (None, _) | (Some(_), Said::Nothing | Said::Garbage) => acquire(),
        // We died and came back under the same name; what the dead one granted is void by the new epoch.
        (Some(holder), Said::Is(_)) if holder == me => acquire(),
        (Some(_), Said::Is(_)) if now >= expires => acquire(),
        (Some(_), Said::Is(_)) => LeaseStep::Wait(expires),
    }
}

/// Why the record is not that of our holding.
fn loss(record: &LeaseRecord, holding: &Holding, me: &str) -> Option<&'static str> {
    let LeaseRecord { uid, holder, epoch, renewed: _ } = record;
    if *uid != holding.uid {
        return Some("the Lease was deleted and created again");
    }
    if holder.as_deref() != Some(me) {
        return Some("another holder has the Lease");
    }
    (epoch.value() != Some(&holding.epoch)).then_some("the Lease has another epoch")
}

//! What stops every grant, whoever is next.

use super::Fleet;
use super::busy::{Busy, Survey};
use crate::policy::{Mode, Policy};

/// Why nothing is granted to anybody.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop<'a> {
    /// The policy that lies there is invalid: why. Ends when it is mended.
    Refused(&'a str),
    /// The policy says `mode: report`.
    Report,
    /// The policy says `pause: true`.
    Paused,
    /// A turn takes longer than its limit and more. Ends when that node says another phase, or is given up.
    Held(Busy<'a>),
    /// An agent runs there and has not said where it stands: it may be in the middle of a turn. Ends by itself.
    Silent(&'a str),
    /// The Lease was acquired just now. Ends by itself.
    Settling,
}

impl<'a> Stop<'a> {
    /// The first that applies.
    pub(crate) fn of(fleet: &'a Fleet, policy: &Policy, survey: &mut Survey<'a>) -> Option<Self> {
        let settles = fleet.ledger.since().is_some_and(|since| !survey.wake.is_over(since, fleet.waits.settle));
        if let Some(why) = &fleet.policy_refused {
            return Some(Self::Refused(why));
        }
        if policy.mode == Mode::Report {
            return Some(Self::Report);
        }
        if policy.pause {
            return Some(Self::Paused);
        }
        if let Some(held) = survey.held.first() {
            return Some(Self::Held(*held));
        }
        if let Some(node) = survey.silent.first() {
            return Some(Self::Silent(node));
        }
        settles.then_some(Self::Settling)
    }

    /// A person said so, and a person ends it.
    pub(crate) const fn is_the_operators(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Report | Self::Paused => true,
            Self::Held(_) | Self::Silent(_) | Self::Settling => false,
        }
    }
}

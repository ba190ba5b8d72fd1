//! The right to disturb this node.

use std::time::Duration;

use super::heard::{Heard, LeaseSeen, Read};
use crate::grant::{Epoch, Grant};
use crate::node::annotations::Phase;

/// How long a turn holds after the Lease was asked for.
pub const TURN_HOLDS: Duration = Duration::from_secs(30);
/// How old the answer of the server gate may be at a restart.
pub const GATE_HOLDS: Duration = Duration::from_secs(5);

/// Where turns come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnSource {
    /// There is no cluster: this node is all there is, and a turn is free.
    Local,
    /// The coordinator grants them.
    Coordinator,
}

/// The right to replace a working file and to restart the unit. It has no public constructor but those below, so that
/// *no turn, no restart* is a compile error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    reach: Reach,
    /// What a granted turn rests on.
    epoch: Option<Epoch>,
    /// On the boot-time clock of the process that took it.
    until: Option<Duration>,
}

/// How far a turn reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A new configuration.
    Goal,
    /// Only proving and undo: what an open intent in the journal permits.
    Undo,
}

/// Why a grant gives no turn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTurn {
    /// The journal does not call the ask used.
    #[error("the grant was not written down as used")]
    NotUsed,
    /// The Node does not say yet that it works on it.
    #[error("the Node does not say that it answered the grant")]
    NotShown,
    /// The Lease was not asked for since then, or too long ago: it has to be asked for.
    #[error("the coordinator's Lease was not read since")]
    NotRead,
    /// It could not be read.
    #[error("cannot read the coordinator's Lease: {0}")]
    Unreadable(String),
    /// Nobody holds the Lease.
    #[error("nobody holds the coordinator's Lease")]
    NoHolder,
    /// It has another epoch, or none: the grant was withdrawn, or another coordinator decides.
    #[error("the grant is of another epoch than the coordinator's Lease")]
    OtherEpoch,
}

impl Turn {
    /// The turn of a node without a cluster.
    pub const fn local(source: TurnSource) -> Option<Self> {
        match source {
            TurnSource::Local => Some(Self { reach: Reach::Goal, epoch: None, until: None }),
            TurnSource::Coordinator => None,
        }
    }

    /// The turn that a grant gives: its ask is written down as used, after that the Node said so, and after that the
    /// Lease still had the grant's epoch.
    pub(crate) fn granted(grant: &Grant, used: &[String], heard: &Heard, now: Duration) -> Result<Self, NoTurn> {
        let number = &grant.ask.number;
        if !used.contains(number) {
            return Err(NoTurn::NotUsed);
        }
        let shown = heard.shown.as_ref().filter(|shown| is_answer(shown.phase));
        let Some(shown) = shown.filter(|shown| shown.answered.as_ref() == Some(number)) else {
            return Err(NoTurn::NotShown);
        };
        let until = holds(&grant.epoch, heard.lease.as_ref(), shown.at, now)?;
        Ok(Self { reach: Reach::Goal, epoch: Some(grant.epoch.clone()), until: Some(until) })
    }

    /// The same turn, for as long as the Lease that was read since says.
    pub(crate) fn renewed(&self, heard: &Heard, now: Duration) -> Result<Self, NoTurn> {
        let Some(epoch) = &self.epoch else { return Ok(self.clone()) };
        let until = holds(epoch, heard.lease.as_ref(), Duration::ZERO, now)?;
        Ok(Self { reach: self.reach, epoch: Some(epoch.clone()), until: Some(until) })
    }

    /// The same turn, but not for longer than the gate's answer holds: an undo's, too, which else has no end.
    pub(crate) fn within<T>(mut self, gate: Option<&Read<T>>) -> Self {
        if let Some(gate) = gate {
            let until = gate.at.saturating_add(GATE_HOLDS);
            self.until = Some(self.until.map_or(until, |turn| turn.min(until)));
        }
        self
    }

    /// What an open intent permits after its process died.
    pub(crate) const fn resume(_: &super::journal::Intent) -> Self {
        Self { reach: Reach::Undo, epoch: None, until: None }
    }

    /// How far it reaches.
    pub const fn reach(&self) -> Reach {
        self.reach
    }

    /// Whether its time is over: whoever is to disturb the node with it has to ask anew.
    pub fn is_over(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now > until)
    }
}

/// Phases that say that the node may be disturbed: whoever sees one of them grants nothing next to it.
const fn is_answer(phase: Phase) -> bool {
    match phase {
        Phase::Applying => true,
        Phase::Current
        | Phase::Pending
        | Phase::Proving
        | Phase::RolledBack
        | Phase::Stuck
        | Phase::Invalid
        | Phase::Paused => false,
    }
}

/// Until when the turn holds.
fn holds(epoch: &Epoch, lease: Option<&Read<LeaseSeen>>, after: Duration, now: Duration) -> Result<Duration, NoTurn> {
    let read = lease.ok_or(NoTurn::NotRead)?;
    let until = read.at.saturating_add(TURN_HOLDS);
    if read.at < after || now > until {
        return Err(NoTurn::NotRead);
    }
    let lease = read.answer.as_ref().map_err(|why| NoTurn::Unreadable(why.clone()))?;
    if lease.holder.is_empty() {
        return Err(NoTurn::NoHolder);
    }
    if lease.epoch.as_deref() != Some(epoch.as_str()) {
        return Err(NoTurn::OtherEpoch);
    }
    Ok(until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::heard::Shown;

    const N: &str = "00c0ffee";

    fn heard(phase: Phase, answered: &str, lease_at: u64, epoch: &str) -> Heard {
        let shown = Shown { phase, answered: Some(answered.to_owned()), at: Duration::from_secs(100) };
        let lease = LeaseSeen { holder: "c".into(), epoch: Some(epoch.into()) };
        let lease = Some(Read { at: Duration::from_secs(lease_at), answer: Ok(lease) });
        Heard { shown: Some(shown), lease, ..Heard::default() }
    }

    #[test]
    fn a_grant_is_a_turn_only_if_used_then_said_then_asked_for_in_this_order() {
        let grant: Grant = format!("r1/{N}@0123456789abcdef").parse().unwrap();
        let e = "0123456789abcdef";
        for (used, heard, now, expected) in [
            (N, heard(Phase::Applying, N, 100, e), 100, Ok(130)),
            (N, heard(Phase::Applying, N, 101, e), 131, Ok(131)),
            ("other", heard(Phase::Applying, N, 101, e), 101, Err(NoTurn::NotUsed)),
            (N, heard(Phase::Applying, "other", 101, e), 101, Err(NoTurn::NotShown)),
            // Another coordinator would not count the node as busy.
            (N, heard(Phase::Pending, N, 101, e), 101, Err(NoTurn::NotShown)),
            (N, Heard { shown: None, ..heard(Phase::Applying, N, 101, e) }, 101, Err(NoTurn::NotShown)),
            // Read before the Node said it: a new leader may have listed the Nodes in between.
            (N, heard(Phase::Applying, N, 99, e), 101, Err(NoTurn::NotRead)),
            (N, heard(Phase::Applying, N, 101, e), 132, Err(NoTurn::NotRead)),
            (N, Heard { lease: None, ..heard(Phase::Applying, N, 101, e) }, 101, Err(NoTurn::NotRead)),
            (N, heard(Phase::Applying, N, 101, "0123456789abcdee"), 101, Err(NoTurn::OtherEpoch)),
        ] {
            let now = Duration::from_secs(now);
            let turn = Turn::granted(&grant, &[used.to_owned()], &heard, now);
            assert_eq!(turn.as_ref().map(|_| ()).map_err(Clone::clone), expected.clone().map(|_| ()), "{heard:?}");
            if let (Ok(turn), Ok(until)) = (turn, expected) {
                assert!(!turn.is_over(Duration::from_secs(until)) && turn.reach() == Reach::Goal);
                assert!(turn.is_over(Duration::from_secs(until + 1)), "not for ever");
            }
        }
    }

    #[test]
    fn on_a_server_a_turn_lasts_as_long_as_the_answer_of_its_gate() {
        let grant: Grant = format!("r1/{N}@0123456789abcdef").parse().unwrap();
        let heard = heard(Phase::Applying, N, 101, "0123456789abcdef");
        let turn = Turn::granted(&grant, &[N.to_owned()], &heard, Duration::from_secs(102)).unwrap();
        let gate = Read { at: Duration::from_secs(103), answer: Ok(()) };
        let turn = turn.within(Some(&gate));
        assert!(!turn.is_over(Duration::from_secs(108)) && turn.is_over(Duration::from_secs(109)));
    }
}

//! How long the coordinator waits for what (`design.md` 7 and 12).

use std::time::Duration;

/// Every wait of the coordinator; [`Waits::default`] is what holds outside tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// The Lease is renewed so often.
    pub renew: Duration,
    /// The Lease is acted on until so long after its last renewal began.
    pub act: Duration,
    /// A record of another holder that stood unchanged so long has expired.
    pub expire: Duration,
    /// Nothing is granted so long after an acquisition.
    pub settle: Duration,
    /// A Node without a phase, but with a running agent, stops every grant so long.
    pub silent: Duration,
    /// A grant that nobody answered within this time is revoked.
    pub answer: Duration,
    /// A NotReady node is busy so long; then a worker is absent.
    pub not_ready: Duration,
    /// A newly cordoned server stops the other servers so long.
    pub cordoned: Duration,
    /// A turn that takes so much longer than its limit holds the rollout.
    pub held: Duration,
    /// A node that was deleted or excluded during its turn keeps its place so much longer than its limit.
    pub away: Duration,
    /// Asks for a revision that nobody has proven are gathered so long, so that the order is that of names and not of the
    /// network.
    pub gather: Duration,
    /// An answer of the server gate holds so long.
    pub gate: Duration,
    /// A gate that refused is asked again after this time.
    pub gate_again: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            renew: Duration::from_secs(10),
            act: Duration::from_secs(40),
            expire: Duration::from_secs(60),
            settle: Duration::from_secs(60),
            silent: Duration::from_secs(60),
            answer: Duration::from_secs(60),
            not_ready: Duration::from_secs(10 * 60),
            cordoned: Duration::from_secs(60 * 60),
            held: Duration::from_secs(5 * 60),
            away: Duration::from_secs(10 * 60),
            gather: Duration::from_millis(300),
            gate: Duration::from_secs(5),
            gate_again: Duration::from_secs(10),
        }
    }
}

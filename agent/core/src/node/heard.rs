//! What one process of the agent heard while it exchanged an ask for a turn, each with the moment it was asked at. Facts
//! only: what follows from them is decided in `exchange`. Nothing of it outlives the process.

use std::time::Duration;

use super::annotations::Phase;
use super::journal::ProbeRefused;
use super::others::{OtherServer, OthersSeen};
use crate::policy::Preflight;
use crate::preflight::{Judgement, Kind, Report, judge};
use jiff::Timestamp;

/// Everything that was heard. `Default` is a process that heard nothing yet, or has no cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// What the Node says since a write of this process that succeeded.
    pub shown: Option<Shown>,
    /// The inputs, read again past every cache; what is desired was made from them.
    pub inputs: Option<Read<()>>,
    /// What the registries said to this node.
    pub preflight: Option<PreflightSeen>,
    /// What was heard of the credentials of what runs here, and is not in the journal yet.
    pub probe: Option<ProbeSeen>,
    /// The coordinator's Lease, by a quorum read.
    pub lease: Option<Read<LeaseSeen>>,
    /// The server gate: who answered there, if it is open. An error is a refusal, too.
    pub gate: Option<Read<Vec<OtherServer>>>,
    /// What those who answered at the gate answer later.
    pub others: Option<OthersSeen>,
}

/// What the Node is known to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The phase.
    pub phase: Phase,
    /// The last ask answered.
    pub answered: Option<String>,
    /// When the API server had first confirmed both, on the boot-time clock.
    pub at: Duration,
}

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<T> {
    /// When it was asked, on the boot-time clock: the answer is at least that new.
    pub at: Duration,
    /// The answer, or one sentence that says what could not be asked.
    pub answer: Result<T, String>,
}

/// The coordinator's Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseSeen {
    /// `spec.holderIdentity`; empty if nobody holds it.
    pub holder: String,
    /// Annotation `k3s-registry-agent/epoch`.
    pub epoch: Option<String>,
}

/// What was asked of the registries from this node, before anything is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreflightSeen {
    /// When it began, on the boot-time clock.
    pub at: Duration,
    /// With which inputs.
    pub revision: String,
    /// How many hosts were asked; none: nothing is claimed of it.
    pub hosts: usize,
    /// A registry refuses a credential, and the policy enforces that: one sentence, no secret. No other node may try it.
    pub refused: Option<String>,
    /// Something else that the policy enforces is not as it should be: it may be so on this node alone, and pass.
    pub blocked: Option<String>,
    /// What else is to be said.
    pub warnings: Vec<String>,
}

impl PreflightSeen {
    /// What follows from a report under a policy.
    pub fn of(report: &Report, policy: &Preflight, revision: &str, at: Duration) -> Self {
        let Judgement { blocked, credential_refused, warnings } = judge(report, policy);
        let (refused, blocked) = if credential_refused { (blocked, None) } else { (None, blocked) };
        Self { at, revision: revision.to_owned(), hosts: report.hosts.len(), refused, blocked, warnings }
    }
}

/// What was heard of the credentials of one revision. Facts alone: none refused is a fact, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSeen {
    /// The revision.
    pub revision: String,
    /// Who refused, if anybody did.
    pub refused: Option<ProbeRefused>,
}

impl ProbeSeen {
    /// What a report says of it. `at` is the wall clock's.
    pub fn of(report: &Report, revision: &str, at: Timestamp) -> Self {
        let refusing = report.hosts.iter().filter(|host| host.verdict.kind == Kind::CredentialRefused);
        let urls: Vec<String> = refusing.map(|host| host.url.to_string()).collect();
        let revision = revision.to_owned();
        let refused = (!urls.is_empty()).then(|| ProbeRefused { revision: revision.clone(), urls, at });
        Self { revision, refused }
    }
}

/// What is to be asked before the next plan is made, since this one cannot go on without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inquiry {
    /// The inputs, past every cache; but only after the Node says what this plan says.
    Inputs,
    /// The registries, with the inputs that were just read.
    Preflight,
    /// The Lease, and on a server the gate after it: the last thing before the plan.
    Turn {
        /// The node does not work as it should, and is to be cured by its restart.
        cures: bool,
    },
    /// The gate alone: an undo needs no turn.
    Gate,
    /// Those who answered at the gate, each at its own address: something is not proven in time, and they may be why.
    Others,
}

//! What came of asking all hosts of a configuration.

use std::time::Duration;

use super::target::Place;
use super::url::Url;
use super::verdict::{Kind, Outcome, Verdict};

/// What came of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order of the targets.
    pub hosts: Vec<HostReport>,
    /// How long it took.
    pub took: Duration,
}

/// What came of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostReport {
    /// What was asked first.
    pub url: Url,
    /// Whose images are pulled from there.
    pub images: Vec<String>,
    /// What it is to them.
    pub place: Place,
    /// What came of it.
    pub verdict: Verdict,
    /// How far it went.
    pub stops: Vec<Stop>,
    /// How long it took.
    pub took: Duration,
}

/// One step of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// `resolve`, `connect`, `tls`, or the request.
    pub step: &'static str,
    /// With whom.
    pub at: String,
    /// Status of an answer.
    pub status: Option<u16>,
    /// How it ended.
    pub end: End,
    /// How long it took.
    pub took: Duration,
}

/// How a step of a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It went on from there.
    Passed,
    /// It was done, and did not lead on.
    Failed,
    /// It was not done: it would have carried the credential to where that is not to go.
    Withheld,
    /// It was not done: containerd would do it through a proxy.
    Proxied,
}

impl End {
    /// In one word, for JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Withheld => "withheld",
            Self::Proxied => "proxied",
        }
    }
}

impl Report {
    /// Whether a host refused the credential it was sent: nothing sends it again before the inputs change.
    pub fn has_refusal(&self) -> bool {
        self.hosts.iter().any(|host| host.verdict.kind == Kind::CredentialRefused)
    }

    /// Whether pulls will fail: a default endpoint behind mirrors does not count, since it is only asked when they fail.
    pub fn has_fault(&self) -> bool {
        self.hosts.iter().any(|host| host.counts() && host.verdict.outcome() == Outcome::Fault)
    }
}

impl HostReport {
    /// Whether pulls depend on it. What was configured for a place must hold wherever it stands.
    pub fn counts(&self) -> bool {
        match self.place {
            Place::Endpoint | Place::Registry => true,
            Place::Fallback => self.verdict.kind == Kind::CredentialRefused,
        }
    }
}

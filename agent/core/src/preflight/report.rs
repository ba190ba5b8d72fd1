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
    /// Whether it went on from there.
    pub is_passed: bool,
    /// How long it took.
    pub took: Duration,
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

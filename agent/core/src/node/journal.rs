//! The record that outlives the process: `record.json` in `/var/lib/k3s-registry-agent`. Facts only; a phase is computed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::evidence::Check;
use super::observed::Clock;
use super::others::OtherServer;
pub use crate::grant::Ask;

/// The schema this version writes. A newer one is refused, not overwritten.
pub const SCHEMA: u32 = 1;

/// HMAC-SHA256, in hex, by the journal's random key: what names a model or a tree in the record. It never leaves the node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub String);

/// What the journal directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalSeen {
    /// Nothing yet: every file is foreign.
    Missing,
    /// A record of a schema we know.
    Found(Box<Record>),
    /// A record of a newer schema: this version must not touch it.
    Newer(u32),
    /// A record that cannot be read; the sentence names the file and the fault.
    Damaged(String),
}

/// Everything that is remembered about this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The configuration that was last proven here.
    pub applied: Option<Applied>,
    /// What the runtime holds, as of this invocation and boot.
    pub loaded: Option<Loaded>,
    /// An intent without an end.
    pub intent: Option<Intent>,
    /// The ask that stands: it is kept so that a Node object that was deleted and came back says the same.
    pub asked: Option<Ask>,
    /// When it was drawn, on the wall clock.
    pub asked_at: Option<Timestamp>,
    /// The last asks that were used; an ask is honoured once. At most 32, oldest first.
    pub asks_used: Vec<String>,
    /// Why the last grant could not be used.
    pub unused: Option<Unused>,
    /// What the preflight refused: it is not asked for again until other inputs come, or `retry`.
    pub refused: Option<Refused>,
    /// A credential of what runs here that a registry refused: it is not sent again until the inputs change, or `retry`,
    /// however often the agent starts anew.
    pub probe_refused: Option<ProbeRefused>,
    /// Models that failed here; at most 16, oldest first.
    pub failed: Vec<FailedModel>,
    /// The `retry` tokens that were honoured; at most 16, oldest first.
    pub retries: Vec<String>,
    /// Inconclusive verdicts for one revision.
    pub inconclusive: Option<Inconclusive>,
    /// Moments at which drift was undone; at most the last three.
    pub restores: Vec<Timestamp>,
    /// Hosts whose credential came from a Secret, and which one.
    pub credential_sources: BTreeMap<String, String>,
    /// TLS files that came from an object (`HOST/ca.crt`), and which one. Unknown in a record of an earlier version, until
    /// the next pass over a node that is as desired.
    pub tls_sources: BTreeMap<String, String>,
    /// Hosts that the ConfigMap named then: a credential or a certificate may go when its host has left the file.
    pub file_hosts: BTreeSet<String>,
    /// How long the last proven restart took, from the command to the proof.
    pub last_restart: Option<Duration>,
}

/// A proven configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Its revision.
    pub revision: String,
    /// Digest of its model.
    pub model: Digest,
    /// Digest of its tree's bytes.
    pub tree: Digest,
    /// The checks that proved it; empty means *files only*.
    pub evidence: BTreeSet<Check>,
    /// What else was seen then that somebody should know, in one sentence.
    #[serde(default)]
    pub remark: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// What the runtime is known to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Loaded {
    /// Digest of the model.
    pub model: Digest,
    /// The invocation that loaded it.
    pub invocation: String,
    /// The boot it belongs to.
    pub boot_id: String,
}

/// A model that failed on this node: it is not tried again until `retry`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedModel {
    /// Digest of the model.
    pub model: Digest,
    /// The revision under which it failed first.
    pub revision: String,
    /// Why, in one sentence.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

/// Grants in a row, for one revision, that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unused {
    /// The revision.
    pub revision: String,
    /// Why not the last one, in one sentence.
    pub why: String,
    /// How many.
    pub count: u32,
    /// When the last one was given up.
    pub at: Timestamp,
}

/// A revision whose credential a registry refused to this node before anything was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// The revision.
    pub revision: String,
    /// Why, in one sentence.
    pub why: String,
}

/// Registries that refused their credential to this node, for one revision. Neither the credential nor a digest of it
/// is kept: the revision says when there is another one, and of somebody else's file the digest of its tree, which like
/// all of them never leaves the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeRefused {
    /// The revision, or the digest of a tree: [`Record::name_of`].
    pub revision: String,
    /// What was asked, as it is shown: without user part and query.
    pub urls: Vec<String>,
    /// When.
    pub at: Timestamp,
}

/// Verdicts that something else explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inconclusive {
    /// The revision.
    pub revision: String,
    /// How many; the third is a failure.
    pub count: u32,
    /// What explained the last one.
    pub why: String,
    /// When it may be tried again, on the wall clock (it has to outlive a reboot).
    pub again_at: Timestamp,
}

impl Inconclusive {
    /// What is said while it waits. It names a moment and not how long it is until then, which would be another sentence
    /// each minute, and a write of the Node.
    pub(crate) fn sentence(&self) -> String {
        let Self { revision: _, count: _, why, again_at } = self;
        let at = again_at.round(jiff::Unit::Second).unwrap_or(*again_at);
        format!("not proven and undone: {why}; tried again at {at}")
    }
}

/// What is being done to this node. It is written before anything is touched and taken out after the proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// What for.
    pub goal: Goal,
    /// The ask that it uses; empty for a local turn or a heal.
    pub ask: String,
    /// Digest of the goal's model.
    pub model: Digest,
    /// Digest of the goal's tree.
    pub tree: Digest,
    /// Digest of the tree that lay there when it began: while it still does, nothing was touched.
    pub tree_before: Digest,
    /// Whether the unit has to be restarted for the goal.
    pub restart: bool,
    /// Which tree is to lie there now.
    pub rung: Rung,
    /// The checks that passed before; only these are demanded after.
    pub passed_before: BTreeSet<Check>,
    /// The policy's images then, and whether they could be pulled before: only those must be pulled after.
    #[serde(default)]
    pub images: BTreeMap<String, bool>,
    /// The other API servers that answered when it began; only where they serve on while this one is down.
    #[serde(default)]
    pub others: Vec<OtherServer>,
    /// The unit's invocation before.
    pub invocation_before: String,
    /// The unit's version before.
    pub version_before: String,
    /// When it began.
    pub began: Clock,
    /// When the present rung began.
    pub rung_began: Clock,
    /// When the restart of the present rung was ordered.
    pub restart_ordered: Option<Clock>,
    /// The unit's invocation when that was ordered: while it is the same, the restart has not taken.
    #[serde(default)]
    pub restarted_over: Option<String>,
    /// How long, on this rung, the supervisor was away: this time does not count against the deadline.
    pub away: Duration,
    /// When the last observation of this rung was made, to add up `away`.
    pub looked: Clock,
    /// Why the goal was given up; absent while it is being proven.
    pub verdict: Option<Verdict>,
    /// Hosts whose credential comes from a Secret, recorded when the goal is proven.
    pub credential_sources: BTreeMap<String, String>,
    /// TLS files and the objects they come from, recorded when the goal is proven.
    #[serde(default)]
    pub tls_sources: BTreeMap<String, String>,
    /// Hosts that the ConfigMap names, recorded when the goal is proven.
    pub file_hosts: BTreeSet<String>,
}

/// What an intent is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "revision")]
pub enum Goal {
    /// The desired configuration of this revision.
    Apply(String),
    /// The last proven tree over a foreign edit.
    Drift(String),
    /// The last proven tree over a file that k3s cannot take, on a node that is already down.
    Heal(String),
}

impl Goal {
    /// The revision it is about.
    pub fn revision(&self) -> &str {
        match self {
            Self::Apply(revision) | Self::Drift(revision) | Self::Heal(revision) => revision,
        }
    }
}

/// Which tree is to lie there: the ladder of the undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// The goal's.
    Goal,
    /// The last proven one.
    Previous,
    /// The one before us.
    Original,
    /// None.
    Nothing,
    /// Nothing helped; a person is needed. What lies there is left.
    Stuck,
}

/// Why a goal was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "why")]
pub enum Verdict {
    /// The configuration does not work here.
    Failed(String),
    /// Something else explains it; it is tried again later.
    Inconclusive(String),
    /// It was not tried: the agent was stopped before the restart.
    Interrupted(String),
}

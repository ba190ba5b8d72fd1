//! What is to be done to one node next: `plan(&Observed, &Policy) -> Plan`, total and pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::annotations::{NodeSeen, Phase};
use super::heard::{Heard, Inquiry};
use super::journal::{JournalSeen, Record, Rung};
use super::observed::{ApiSeen, Clock, HostSeen, Role, Unsupported};
use super::others::OtherServer;
use super::pulls::PullOrder;
use super::turn::{GATE_HOLDS, Turn, TurnSource};
use crate::digest::Key;
use crate::policy::Policy;
use crate::registries::changes::Change;
use crate::registries::effect::Effect;
use crate::registries::model::Registries;
use crate::tree::Tree;

/// Everything that is seen at the top of a pass.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The moment.
    pub clock: Clock,
    /// What the operator wants.
    pub desired: Desired,
    /// What lies and runs here.
    pub host: Result<HostSeen, Unsupported>,
    /// What is remembered.
    pub journal: JournalSeen,
    /// The journal's key.
    pub key: Key,
    /// This node's annotations; empty without a cluster.
    pub node: NodeSeen,
    /// Where turns come from.
    pub source: TurnSource,
    /// The turn that this very process took, while its intent is open.
    pub held: Option<Turn>,
    /// What this process heard while it exchanged an ask for a turn.
    pub heard: Heard,
    /// What the API server says of this node.
    pub api: ApiSeen,
    /// The process was asked to end: nothing new is begun.
    pub ending: bool,
    /// Eight random hex digits, in case an ask is drawn in this pass.
    pub dice: String,
}

/// What the operator wants, after merge and lint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Desired {
    /// Inputs were not read yet, or do not stand still: the sentence says which.
    Waiting(String),
    /// There is no ConfigMap, or no `registries.yaml` in it: nothing is touched.
    None,
    /// Inputs cannot be used: one sentence each, with object, key, line and remedy.
    Refused(Vec<String>),
    /// A configuration.
    Ready(Box<Wanted>),
}

/// A configuration that may be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Names the inputs.
    pub revision: String,
    /// What it means.
    pub registries: Registries,
    /// What is to lie on disk.
    pub tree: Tree,
    /// Hosts whose credential comes from a Secret, and which.
    pub credential_sources: BTreeMap<String, String>,
    /// TLS files that come from an object, and which.
    pub tls_sources: BTreeMap<String, String>,
    /// Hosts that the ConfigMap names.
    pub file_hosts: BTreeSet<String>,
    /// Lint errors: while one stands, nothing is written.
    pub errors: Vec<String>,
}

/// How closely the host has to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Files and the unit.
    Steady,
    /// All checks: something is open, or is about to be.
    Full,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where the node stands when the steps are done.
    pub phase: Phase,
    /// Why, in one sentence.
    pub reason: String,
    /// What to do, in this order; the first that fails ends the pass.
    pub steps: Vec<Step>,
    /// When to look again if nothing happens.
    pub wake: Wake,
    /// How closely to look then.
    pub look: Depth,
    /// What is pulled until then; nothing in a plan that rests.
    pub pull: Option<PullOrder>,
    /// The revision proven here.
    pub revision: Option<String>,
    /// The revision that failed here.
    pub failed: Option<String>,
    /// The ask that stands.
    pub wanted: Option<String>,
    /// The last ask answered.
    pub answered: Option<String>,
    /// What has to be asked before the next plan: of no use unless the Node says what this plan says.
    pub inquiry: Option<Inquiry>,
    /// What the desired change costs, where there is one.
    pub effect: Option<Effect>,
    /// Why it costs that.
    pub effect_why: String,
    /// The desired change, redacted.
    pub changes: Vec<Change>,
    /// The runtime would have to be restarted and nobody does it (`--service none`).
    pub restart_left: bool,
    /// What is counted once the steps are done.
    pub counted: Vec<Counted>,
}

/// What a plan brings about, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// What became of a turn that was given.
    Turn(TurnEnd),
    /// How it was judged.
    Verdict(Judged),
    /// The undo came to this rung.
    Rung(Rung),
    /// The guard acted while the agent was away.
    GuardFired,
    /// A goal was proven; with a restart, how long it took from the command to the proof.
    Proven(Option<Duration>),
    /// A goal failed and an earlier tree is proven again.
    RolledBack,
    /// A node that was down on its file got the last proven one.
    Healed,
    /// A foreign edit was undone.
    DriftRestored,
}

/// What becomes of a turn that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnEnd {
    /// Something was begun with it.
    Taken,
    /// It could not be used, and is asked for again.
    Unused,
    /// A registry refused the credential.
    Refused,
}

impl TurnEnd {
    /// All.
    pub const ALL: [Self; 3] = [Self::Taken, Self::Unused, Self::Refused];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Unused => "unused",
            Self::Refused => "refused",
        }
    }
}

/// How what was begun is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// Proven.
    Proven,
    /// Failed.
    Failed,
    /// Something else explains why it is not proven.
    Inconclusive,
    /// It was broken off before it was tried.
    Interrupted,
}

impl Judged {
    /// All.
    pub const ALL: [Self; 4] = [Self::Proven, Self::Failed, Self::Inconclusive, Self::Interrupted];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Failed => "failed",
            Self::Inconclusive => "inconclusive",
            Self::Interrupted => "interrupted",
        }
    }
}

/// When the next pass is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// At once: what was done has to be looked at.
    Now,
    /// After this time, or earlier when something changes.
    After(Duration),
}

/// One thing to do. Each is idempotent: doing it twice is doing it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Keeps a tree in the journal.
    Keep(Kept, Tree),
    /// Writes the record.
    Record(Box<Record>),
    /// Arms the guard: unless it is pushed on or disarmed, it puts `previous` back at this moment of the boot-time clock.
    ArmGuard {
        /// When it acts.
        acts_at: Duration,
    },
    /// Pushes an armed guard on.
    PushGuard {
        /// When it acts.
        acts_at: Duration,
    },
    /// Claims the guard's marker. Fails if the guard was faster: then the earlier file lies there.
    ClaimGuard,
    /// Disarms the guard and sweeps what it left, whoever acted: the earlier file lies there and is meant to.
    ClearGuard,
    /// Replaces the files.
    Replace(Tree),
    /// Orders a restart of the unit and does not wait for it.
    Restart(Turn),
}

impl Step {
    /// Its name, for logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Keep(Kept::Previous, _) => "keep-previous",
            Self::Keep(Kept::Original, _) => "keep-original",
            Self::Record(_) => "record",
            Self::ArmGuard { .. } => "arm-guard",
            Self::PushGuard { .. } => "push-guard",
            Self::ClaimGuard => "claim-guard",
            Self::ClearGuard => "clear-guard",
            Self::Replace(_) => "replace",
            Self::Restart(_) => "restart",
        }
    }
}

/// The trees that the journal keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The last proven one.
    Previous,
    /// The one before us.
    Original,
}

/// How often a steady node is looked at, if nothing happens: file events can be lost.
pub const STEADY: Duration = Duration::from_secs(60);
/// How often an open intent is looked at.
pub const PROVING: Duration = Duration::from_millis(500);

/// Decides what to do next. Total: for every observation there is a plan, and it never panics.
pub fn plan(seen: &Observed, policy: &Policy) -> Plan {
    let record = match &seen.journal {
        JournalSeen::Missing => Record { schema: super::journal::SCHEMA, ..Record::default() },
        JournalSeen::Found(record) => (**record).clone(),
        JournalSeen::Newer(schema) => {
            let ours = super::journal::SCHEMA;
            return Plan::resting(
                Phase::Invalid,
                format!("the journal has schema {schema}, this version knows {ours}: install the newer version again"),
            );
        }
        JournalSeen::Damaged(sentence) => return Plan::resting(Phase::Invalid, sentence.clone()),
    };
    let host = match &seen.host {
        Ok(host) => host,
        Err(Unsupported(sentence)) => {
            // What is open is shown, whatever happens.
            let phase = match &record.intent {
                None => Phase::Invalid,
                Some(intent) if intent.rung == Rung::Stuck => Phase::Stuck,
                Some(_) => Phase::Proving,
            };
            let plan = Plan::resting(phase, sentence.clone()).of(&record);
            return super::probed::remember(seen, &record, super::exchange::close(seen, &record, plan));
        }
    };
    let case = Case { seen, policy, host, record: &record };
    let plan = match &record.intent {
        Some(intent) => super::proving::plan(&case, intent),
        None => super::idle::plan(&case),
    };
    let plan = super::exchange::close(seen, &record, plan);
    let mut plan = super::probed::remember(seen, &record, plan);
    let ends = super::counted::counted(host, &record, &plan);
    plan.counted.extend(ends);
    plan
}

/// What every part of the plan looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case<'a> {
    pub(crate) seen: &'a Observed,
    pub(crate) policy: &'a Policy,
    pub(crate) host: &'a HostSeen,
    pub(crate) record: &'a Record,
}

/// What the server gate says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gate<'a> {
    /// It is open, or there is none.
    Open,
    /// It has to be asked.
    Unasked,
    /// It refuses, or could not be asked.
    Shut(&'a str),
}

impl Case<'_> {
    /// The longest time a proof may take: a node whose restarts are slow gets three times its own measure.
    pub(crate) fn limit(&self) -> Duration {
        self.policy.deadline.max(self.record.last_restart.unwrap_or_default().saturating_mul(3))
    }

    /// Why a server may not be restarted now; the gate has to be asked first where nothing is known.
    pub(crate) fn gate(&self) -> Gate<'_> {
        let asked = self.seen.heard.gate.as_ref();
        let fresh = asked.filter(|read| self.seen.clock.boot.saturating_sub(read.at) <= GATE_HOLDS);
        let has_gate = self.seen.source == TurnSource::Coordinator && self.host.installation.role == Role::Server;
        match fresh.map(|read| &read.answer) {
            Some(Err(why)) => Gate::Shut(why),
            Some(Ok(_)) => Gate::Open,
            None if has_gate => Gate::Unasked,
            None => Gate::Open,
        }
    }

    /// Who answered at the gate that has just been asked.
    pub(crate) fn others_at_gate(&self) -> Vec<OtherServer> {
        let asked = self.seen.heard.gate.as_ref().filter(|_| self.host.installation.role == Role::Server);
        asked.and_then(|read| read.answer.clone().ok()).unwrap_or_default()
    }

    /// When an armed guard acts: after the verdict must have fallen.
    pub(crate) fn guard_acts_at(&self, limit: Duration) -> Duration {
        self.seen.clock.boot.saturating_add(limit).saturating_add(Duration::from_secs(30))
    }
}

impl Plan {
    /// A plan that does nothing.
    pub(crate) fn resting(phase: Phase, reason: String) -> Self {
        Self {
            phase,
            reason,
            steps: Vec::new(),
            wake: Wake::After(STEADY),
            look: Depth::Steady,
            pull: None,
            revision: None,
            failed: None,
            wanted: None,
            answered: None,
            inquiry: None,
            effect: None,
            effect_why: String::new(),
            changes: Vec::new(),
            restart_left: false,
            counted: Vec::new(),
        }
    }

    /// Fills in what is remembered: the proven revision.
    pub(crate) fn of(mut self, record: &Record) -> Self {
        self.revision = record.applied.as_ref().map(|applied| applied.revision.clone());
        self
    }

    /// Adds steps in front.
    pub(crate) fn after(mut self, mut first: Vec<Step>) -> Self {
        if !first.is_empty() {
            first.append(&mut self.steps);
            self.steps = first;
        }
        self
    }
}

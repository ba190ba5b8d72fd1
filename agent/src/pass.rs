//! One pass over the node: observe, plan, execute, report. It wires; what is decided is decided in the core.

use std::time::Duration;

use agent_core::digest::Key;
use agent_core::node::annotations::{NodeSeen, Phase, Told, sentence};
use agent_core::node::discovery::Hints;
use agent_core::node::evidence::Check;
use agent_core::node::heard::{Heard, Inquiry, PreflightSeen, ProbeSeen};
use agent_core::node::journal::{JournalSeen, ProbeRefused};
use agent_core::node::observed::{ApiSeen, Role};
use agent_core::node::plan::{Depth, Desired, Observed, Plan, Step, plan};
use agent_core::node::turn::{Reach, Turn, TurnSource};
use agent_core::policy::Policy;
use agent_core::preflight::{Report, Scope};
use jiff::Timestamp;
use tracing::{info, warn};

use crate::asking::Asking;
use crate::cluster::hearing::Hearing;
use crate::execute::{FailureKind, StepFailed, execute};
use crate::host::clock::clock;
use crate::host::{Host, HostError};

/// After a failing pass the next one waits this long, doubled each time, at most [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What a pass is given beside the node itself.
#[derive(Debug)]
pub struct Given<'a> {
    /// What the operator wants.
    pub desired: Desired,
    /// Under which policy.
    pub policy: &'a Policy,
    /// This node's annotations; empty without a cluster.
    pub node: NodeSeen,
    /// What the API server says of this node.
    pub api: ApiSeen,
    /// The process was asked to end: nothing new is begun.
    pub ending: bool,
    /// Who asks the cluster what a plan wants to know; none without one.
    pub hearing: Option<&'a mut Hearing>,
}

impl<'a> Given<'a> {
    /// What a pass without a cluster is given.
    pub fn alone(desired: Desired, policy: &'a Policy) -> Self {
        Self { desired, policy, node: NodeSeen::default(), api: ApiSeen::default(), ending: false, hearing: None }
    }
}

/// What came of a pass.
#[derive(Debug)]
pub struct Passed {
    /// The plan, of which every step was done.
    pub plan: Plan,
    /// What is said on the Node.
    pub told: Told,
    /// The pass before said something else.
    pub is_news: bool,
}

/// Why a pass could not be ended. The next one observes afresh.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The node could not be looked at.
    #[error("cannot look at the node")]
    Observe(#[source] HostError),
    /// A step failed.
    #[error("cannot finish the pass")]
    Step(#[from] StepFailed),
}

impl PassError {
    /// Whether a person has to do something.
    pub fn is_for_operator(&self) -> bool {
        match self {
            Self::Observe(_) => false,
            Self::Step(failed) => failed.failure.kind == FailureKind::Operator,
        }
    }
}

/// The passes of one process on one node.
#[derive(Debug)]
pub struct Passes {
    host: Host,
    key: Key,
    source: TurnSource,
    held: Option<Turn>,
    look: Depth,
    /// What the last plan wants to know before the next.
    inquiry: Option<Inquiry>,
    /// What the registries said when they were asked last.
    preflight: Option<PreflightSeen>,
    /// What was heard of credentials and is not in the journal yet.
    probe: Option<ProbeSeen>,
    told: Option<Told>,
    failures: u32,
    /// Passes in a row that could not be ended, for whatever reason.
    failing: u32,
}

impl Passes {
    /// Starts with what the journal remembers; nothing else outlives a process.
    pub const fn new(host: Host, key: Key, source: TurnSource) -> Self {
        Self {
            host,
            key,
            source,
            held: None,
            look: Depth::Steady,
            inquiry: None,
            preflight: None,
            probe: None,
            told: None,
            failures: 0,
            failing: 0,
        }
    }

    /// The node's host.
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// The journal's key.
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Whether an intent is open: a process that is asked to end waits for it.
    pub fn is_open(&self) -> bool {
        matches!(self.host.record(), Ok(JournalSeen::Found(record)) if record.intent.is_some())
    }

    /// Whether something was begun that has an end of its own: an intent, or an exchange for a turn.
    pub fn is_busy(&self) -> bool {
        self.is_open() || self.told.as_ref().is_some_and(|told| told.phase == Phase::Applying)
    }

    /// Whether the registries of what runs here are asked now and then: not for a directory, which is no node.
    pub fn is_node(&self) -> bool {
        self.host.has_service() || self.source == TurnSource::Coordinator
    }

    /// What has to be asked before the next pass, since its inputs depend on it.
    pub const fn inquiry(&self) -> Option<Inquiry> {
        self.inquiry
    }

    /// Asks the registries with what is wanted, if that is what the last plan wants to know. Never longer than a minute.
    pub async fn preflight(
        &mut self,
        desired: &Desired,
        policy: &Policy,
        node: &NodeSeen,
    ) -> Option<(PreflightSeen, Report)> {
        let Desired::Ready(wanted) = desired else { return None };
        // With a grant in hand: for its revision, and no other.
        let asked = self.told.as_ref().and_then(|told| told.wanted.as_deref()?.split('/').next());
        if self.inquiry != Some(Inquiry::Preflight) || asked.is_some_and(|asked| asked != wanted.revision) {
            return None;
        }
        let installation = self.host.installation(&Hints::of(node, &policy.unit)).await.ok()?.ok()?;
        let now = clock().ok()?;
        let scope = Scope::from(&policy.preflight);
        let root = self.host.root();
        let report = Asking::new(&wanted.registries, &wanted.tree, &installation, root, scope).run().await;
        let seen = PreflightSeen::of(&report, &policy.preflight, &wanted.revision, now.boot);
        if seen.refused.is_none() && report.has_refusal() {
            // The policy lets it pass: what will run here is known to be refused, and not asked again for that.
            self.probe = Some(ProbeSeen::of(&report, &wanted.revision, now.wall));
        }
        self.preflight = Some(seen.clone());
        Some((seen, report))
    }

    /// Takes note of what the registries said of what runs here; the next pass writes it down.
    pub fn probed(&mut self, seen: ProbeSeen) {
        self.probe = Some(seen);
    }

    /// Who refused a credential of what runs here, to this process or to an earlier one: nobody is sent it again.
    pub fn probe_refused(&self) -> Option<ProbeRefused> {
        if let Some(ProbeSeen { refused: Some(refused), .. }) = &self.probe {
            return Some(refused.clone());
        }
        match self.host.record() {
            Ok(JournalSeen::Found(record)) => record.probe_refused,
            Ok(JournalSeen::Missing | JournalSeen::Newer(_) | JournalSeen::Damaged(_)) | Err(_) => None,
        }
    }

    /// The `retry` token that was honoured last, by this process or by an earlier one.
    pub fn retried(&self) -> Option<String> {
        match self.host.record() {
            Ok(JournalSeen::Found(record)) => record.retries.last().cloned(),
            Ok(JournalSeen::Missing | JournalSeen::Newer(_) | JournalSeen::Damaged(_)) | Err(_) => None,
        }
    }

    /// Names what lies here, if something was proven here: by its revision, or as somebody else's.
    pub fn lies(&self) -> Option<String> {
        let record = match self.host.record() {
            Ok(JournalSeen::Found(record)) => record,
            Ok(JournalSeen::Missing | JournalSeen::Newer(_) | JournalSeen::Damaged(_)) | Err(_) => return None,
        };
        record.name_of(&self.host.tree().ok()?, &self.key)
    }

    /// Does one pass.
    pub async fn pass(&mut self, given: Given<'_>) -> Result<Passed, PassError> {
        let now = clock().map_err(|source| PassError::Observe(HostError::Clock(source)))?.wall;
        let plan = self.plan(given).await.map_err(PassError::Observe)?;
        self.look = plan.look;
        self.inquiry = plan.inquiry;
        self.host.pull(plan.pull.as_ref());
        if let Some(Step::Restart(turn)) = plan.steps.iter().find(|step| matches!(step, Step::Restart(_)))
            && turn.reach() == Reach::Goal
        {
            self.held = Some(turn.clone());
        }
        if let Err(failed) = execute(&self.host, &plan.steps).await {
            self.failures += 1;
            self.look = Depth::Steady;
            self.inquiry = None;
            return Err(failed.into());
        }
        (self.failures, self.failing) = (0, 0);
        self.probe = None;
        if !self.is_open() {
            self.held = None;
        }
        Ok(self.report(plan, now))
    }

    /// What would be done now. Nothing is.
    pub async fn plan(&self, given: Given<'_>) -> Result<Plan, HostError> {
        let Given { desired, policy, node, api, ending, hearing } = given;
        let before = self.host.clock().map_err(HostError::Clock)?;
        let journal = self.host.record()?;
        let mut host = self.host.observe(self.look, &Hints::of(&node, &policy.unit), &before).await?;
        let mut heard = Heard::default();
        if let Some(hearing) = hearing {
            if let Ok(seen) = &mut host {
                let role = seen.installation.role;
                if let (Role::Server, Some(evidence)) = (role, &mut seen.evidence) {
                    evidence.insert(Check::Api, hearing.own_api().await);
                }
                // Last: what a turn rests on is to be as new as can be.
                if let Some(inquiry) = self.inquiry {
                    let others = match &journal {
                        JournalSeen::Found(record) => record.intent.as_ref().map(|intent| intent.others.as_slice()),
                        JournalSeen::Missing | JournalSeen::Newer(_) | JournalSeen::Damaged(_) => None,
                    };
                    hearing.ask(inquiry, role, others.unwrap_or_default()).await;
                }
            }
            heard = hearing.heard().clone();
        }
        heard.preflight.clone_from(&self.preflight);
        heard.probe.clone_from(&self.probe);
        let clock = self.host.clock().map_err(HostError::Clock)?;
        if let Ok(seen) = &host {
            tracing::trace!(?seen.service, ?seen.guard, ?seen.evidence, "observed");
        }
        let seen = Observed {
            clock,
            desired,
            host,
            journal,
            key: self.key.clone(),
            node,
            source: self.source,
            held: self.held.clone(),
            heard,
            api,
            ending,
            dice: crate::random::dice(),
        };
        Ok(plan(&seen, policy))
    }

    fn report(&mut self, plan: Plan, now: Timestamp) -> Passed {
        let reason = sentence(&plan.reason);
        let since = match &self.told {
            Some(told) if told.phase == plan.phase => told.since,
            Some(_) | None => now,
        };
        let is_news = self.told.as_ref().is_none_or(|told| (told.phase, &told.reason) != (plan.phase, &reason));
        if is_news {
            info!(phase = %plan.phase, %reason, revision = plan.revision.as_deref(), "pass done");
        }
        let told = Told {
            phase: plan.phase,
            reason,
            since,
            revision: plan.revision.clone(),
            failed: plan.failed.clone(),
            wanted: plan.wanted.clone(),
            answered: plan.answered.clone(),
        };
        self.told = Some(told.clone());
        Passed { plan, told, is_news }
    }

    /// How long to wait after a failing pass. Jitter keeps nodes that failed together apart.
    pub fn wait_after_failure(&self) -> Duration {
        let doubled = FIRST_WAIT.saturating_mul(1 << self.failures.saturating_sub(1).min(8)).min(LONGEST_WAIT);
        let jitter = u32::from_str_radix(&crate::random::dice(), 16).unwrap_or_default() % 250;
        doubled + doubled.mul_f64(f64::from(jitter) / 1000.0)
    }

    /// Takes note of a failure, and logs it once with its whole chain.
    pub fn say(&mut self, error: &PassError) {
        self.failing += 1;
        let chain = format!("{:#}", Chain(error));
        if self.told.as_ref().is_none_or(|told| told.reason != sentence(&chain)) {
            warn!(error = %chain, "pass failed");
        }
        // Before the first pass that ends nothing was said yet, and there is no phase to put this under.
        if let Some(told) = &mut self.told {
            told.reason = sentence(&chain);
        }
    }

    /// What is said on the Node while passes fail: what was said before, and why it does not go on. Nothing after the
    /// first in a row: on a busy host a command may be late now and then, and each time would be two writes of the Node.
    pub fn told(&self) -> Option<Told> {
        self.told.clone().filter(|_| self.failing > 1)
    }
}

/// An error with its causes, in one line.
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl std::fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use agent_core::policy::Policy;

    use super::*;
    use crate::host::ServiceChoice;

    #[tokio::test]
    async fn a_pass_that_fails_once_is_not_told_and_one_that_goes_on_failing_is() {
        let temp = tempfile::tempdir().unwrap();
        let host = Host::open(temp.path(), ServiceChoice::None).unwrap();
        let key = host.key().unwrap();
        let mut passes = Passes::new(host, key, TurnSource::Local);
        let policy = Policy::default();
        let late = || PassError::Observe(HostError::Clock(std::io::Error::from(std::io::ErrorKind::TimedOut)));
        passes.pass(Given::alone(Desired::None, &policy)).await.unwrap();
        for _ in 0..3 {
            passes.say(&late());
            assert_eq!(passes.told(), None, "it may be well again in a second");
            passes.say(&late());
            let told = passes.told().unwrap();
            assert!(told.phase == Phase::Pending && told.reason.contains("cannot look at the node"), "{told:?}");
            let passed = passes.pass(Given::alone(Desired::None, &policy)).await.unwrap();
            assert!(passed.is_news && passed.told.reason.contains("nothing is touched"), "{:?}", passed.told);
        }
    }
}

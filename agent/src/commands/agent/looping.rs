//! The agent's loop: what wakes it, and one round of it.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_core::desired::expiry;
use agent_core::node::annotations::{NodeSeen, Phase, sentence};
use agent_core::node::discovery::Hints;
use agent_core::node::heard::Inquiry;
use agent_core::node::plan::{Desired, Plan, Step, Wake};
use agent_core::policy::{Mode, Policy};
use agent_core::registries::finding::Severity;
use tokio::signal::unix::Signal;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::{AgentError, Fresh, Loop};
use crate::cluster::node::OwnNode;
use crate::commands::probing::Probed;
use crate::commands::session::{self, Made};
use crate::commands::sources::InCluster;
use crate::host::clock::clock;
use crate::inputs::cluster::ExtraSecret;
use crate::metrics::FaultKind;
use crate::pass::{Chain, Given, Passed};

/// Inputs in a directory are read again this often, whatever the watcher says.
pub(super) const READ_AGAIN: Duration = Duration::from_secs(60);
/// Inputs of which no policy is known yet must stand still this long.
const SETTLE: Duration = Duration::from_secs(2);

impl Loop {
    pub(super) async fn run(
        mut self,
        mut term: Signal,
        mut int: Signal,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), AgentError> {
        let mut ending = false;
        let mut read_again = Instant::now() + READ_AGAIN;
        self.look_at_inputs();
        loop {
            self.liveness.tick();
            if ending && !self.passes.is_busy() {
                info!("ended: no turn is held");
                return Ok(());
            }
            let next = self.turn_of_the_loop(ending).await;
            if ending && !self.passes.is_busy() {
                if let Some(cluster) = &mut self.sources.cluster {
                    cluster.told().await;
                }
                continue;
            }
            let mut wake = next.min(read_again);
            if let Some(fresh) = &self.fresh {
                wake = wake.min(fresh.counts_at);
            }
            // Every arm only waits: what it waited for is looked at above, so a dropped arm loses nothing.
            tokio::select! {
                biased;
                _ = term.recv(), if !ending => ending = self.end(),
                _ = int.recv(), if !ending => ending = self.end(),
                // One that ended, or panicked, leaves the agent blind: better to start anew.
                _ = tasks.join_next(), if !tasks.is_empty() => return Err(AgentError::Task),
                () = self.sources.changed() => self.look_at_inputs(),
                () = self.file.changed() => {}
                probed = self.probing.done() => self.probed(&probed?),
                () = sleep_until(wake) => {}
            }
            if Instant::now() >= read_again {
                read_again = Instant::now() + READ_AGAIN;
                self.look_at_inputs();
            }
        }
    }

    fn end(&self) -> bool {
        info!(turn = self.passes.is_open(), "asked to end; a held turn is ended first");
        true
    }

    /// Takes note of the inputs as they are now.
    pub(super) fn look_at_inputs(&mut self) {
        let now = self.sources.read();
        let latest = self.fresh.as_ref().map(|fresh| &fresh.inputs).or(self.settled.as_ref());
        if latest == Some(&now) {
            return;
        }
        let settle = self.last_policy.as_ref().map_or(SETTLE, |policy| policy.settle);
        self.fresh = Some(Fresh { inputs: now, counts_at: Instant::now() + settle });
    }

    /// Makes what is wanted and does a pass. Gives when the next is due.
    pub(super) async fn turn_of_the_loop(&mut self, ending: bool) -> Instant {
        if let Some(fresh) = self.fresh.take_if(|fresh| Instant::now() >= fresh.counts_at) {
            self.settled = Some(fresh.inputs);
        }
        if let Some(cluster) = &mut self.sources.cluster
            && let Some(inputs) = cluster.inquire(self.passes.inquiry()).await
        {
            self.settled = Some(Ok(inputs));
            self.fresh = None;
        }
        let decided_on = self.sources.own_node();
        let node = decided_on.as_ref().map(|node| node.seen.clone()).unwrap_or_default();
        let made = self.make(&node).await;
        let (desired, policy, suffix) = match made {
            Ok(made) => self.consider(made),
            Err(waiting) => (Desired::Waiting(waiting), self.policy_before(), None),
        };
        if !ending {
            // A minute at most, and the loop has to come round in three.
            self.liveness.tick();
            if let Some((seen, report)) = self.passes.preflight(&desired, &policy, &node).await {
                self.heard(&Probed { revision: seen.revision, at: seen.at, report });
            }
            self.liveness.tick();
        }
        let api = self.sources.cluster.as_ref().map(InCluster::api).unwrap_or_default();
        let hearing = self.sources.cluster.as_mut().map(|cluster| &mut cluster.hearing);
        let hints = Hints::of(&node, &policy.unit);
        let given = Given { desired, policy: &policy, node, api, ending, hearing };
        match self.passes.pass(given).await {
            Ok(passed) => {
                let seen = self.settled.is_some() && (self.sources.cluster.is_none() || decided_on.is_some());
                self.is_ready.store(seen, Ordering::Relaxed);
                self.count(&passed.plan);
                let next = next_of(&passed.plan).min(self.probe(&passed.plan, &policy, &hints).await);
                let inquiry = passed.plan.inquiry;
                self.tell(passed, suffix, decided_on);
                if let (Some(Inquiry::Inputs), Some(cluster)) = (inquiry, &mut self.sources.cluster) {
                    // What follows counts only if the Node says it first. No intent is open: nothing local waits.
                    cluster.told().await;
                }
                next
            }
            Err(error) => {
                self.metrics.failure(if error.is_for_operator() { FaultKind::Operator } else { FaultKind::Retry });
                self.passes.say(&error);
                if let (Some(cluster), Some(node)) = (&mut self.sources.cluster, decided_on)
                    && let Some(told) = self.passes.told()
                {
                    cluster.tell(told, node);
                }
                Instant::now() + self.passes.wait_after_failure()
            }
        }
    }

    fn policy_before(&self) -> Policy {
        self.last_policy.clone().unwrap_or_else(|| Policy { mode: Mode::Report, ..Policy::default() })
    }

    async fn make(&mut self, node: &NodeSeen) -> Result<Made, String> {
        let inputs = match &self.settled {
            Some(Ok(inputs)) => inputs,
            Some(Err(why)) => return Err(why.clone()),
            None => return Err("the inputs are being read".to_owned()),
        };
        let host = self.passes.host();
        session::make(host, &self.key, inputs, &self.namespace, node, self.last_policy.as_ref())
            .await
            .map_err(|error| format!("{:#}", Chain(&error)))
    }

    /// What was made, the policy, and what is to be added to the reason.
    fn consider(&mut self, made: Made) -> (Desired, Policy, Option<String>) {
        let Made { policy, policy_refused, prepared, expiries } = made;
        self.metrics.certificates(expiries.iter().map(|expiry| expiry.not_after).min());
        let remark = clock().ok().and_then(|now| expiry::remark(&expiries, now.wall));
        if let Some(remark) = remark.as_ref().filter(|_| self.remark != remark) {
            warn!(%remark, "certificate to be renewed");
        }
        self.remark = remark;
        if policy_refused.is_empty() {
            self.last_policy = Some(policy.clone());
        }
        if let Some(cluster) = &self.sources.cluster {
            let named = policy.secrets.iter();
            let wanted: BTreeSet<ExtraSecret> = named
                .map(|secret| ExtraSecret { namespace: secret.namespace.clone(), name: secret.name.clone() })
                .collect();
            cluster.names(wanted);
        }
        for severity in [Severity::Warning, Severity::Error] {
            let count = prepared.findings.iter().filter(|finding| finding.severity == severity).count();
            self.metrics.findings(severity, count);
        }
        let suffix =
            policy_refused.first().map(|first| format!("the policy is not valid, the last valid one holds: {first}"));
        (prepared.desired, policy, suffix)
    }

    fn count(&self, plan: &Plan) {
        let Ok(now) = clock().map(|clock| clock.wall) else { return };
        self.metrics.pass(plan.phase, now);
        if !plan.steps.is_empty() {
            self.metrics.change(now);
        }
        if plan.steps.iter().any(|step| matches!(step, Step::Restart(_))) {
            self.metrics.restart();
        }
        for counted in &plan.counted {
            self.metrics.counted(*counted);
        }
    }

    /// Has said on the Node what came of the pass.
    fn tell(&mut self, passed: Passed, suffix: Option<String>, decided_on: Option<OwnNode>) {
        let mut told = passed.told;
        if let Some(suffix) = suffix {
            if passed.is_news {
                warn!(reason = %suffix, "policy refused");
            }
            told.reason = sentence(&format!("{suffix}; {}", told.reason));
        }
        if let Some(remark) = self.remark.as_ref().filter(|_| told.phase == Phase::Current) {
            told.reason = sentence(&format!("{}; {remark}", told.reason));
        }
        let Some((node, cluster)) = decided_on.zip(self.sources.cluster.as_mut()) else { return };
        if self.settled.is_none() && told.phase == Phase::Pending {
            // A process that has just been started knows nothing yet: what the Node says stands until it does.
            return;
        }
        cluster.tell(told, node);
    }
}

fn next_of(plan: &Plan) -> Instant {
    match plan.wake {
        Wake::Now => Instant::now(),
        Wake::After(time) => Instant::now() + time,
    }
}

//! `agent`: passes whenever something changes, for ever.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_core::desired::expiry;
use agent_core::digest::Key;
use agent_core::inputs::Inputs;
use agent_core::node::annotations::{NodeSeen, Phase, sentence};
use agent_core::node::discovery::Hints;
use agent_core::node::heard::Inquiry;
use agent_core::node::plan::{Desired, Plan, Step, Wake};
use agent_core::node::turn::TurnSource;
use agent_core::policy::{Mode, Policy};
use agent_core::preflight::{News, Scope, Wait};
use agent_core::registries::finding::Severity;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::probing::{Probed, Probing};
use super::session::{self, Made, SessionError};
use super::sources::{InCluster, Sources};
use crate::args::{AgentArgs, Listen};
use crate::asking::Asking;
use crate::cluster::client::ConnectError;
use crate::cluster::events::{EventKind, Happening};
use crate::cluster::node::OwnNode;
use crate::host::watch::{self as watching, Watch};
use crate::host::{Host, HostError, clock::clock};
use crate::http::{Health, Liveness, serve};
use crate::inputs::cluster::ExtraSecret;
use crate::logging::Lossy;
use crate::metrics::{CONTENT_TYPE, FaultKind, Metrics};
use crate::pass::{Chain, Given, Passed, Passes};

/// The loop comes round at least this often, or the process is taken for dead.
const ALIVE: Duration = Duration::from_secs(180);
/// Inputs in a directory are read again this often, whatever the watcher says.
const READ_AGAIN: Duration = Duration::from_secs(60);
/// Inputs of which no policy is known yet must stand still this long.
const SETTLE: Duration = Duration::from_secs(2);

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The host or the inputs.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The cluster.
    #[error("cannot set up the connection to the cluster")]
    Connect(#[from] ConnectError),
    /// The HTTP server.
    #[error("cannot listen on {at}")]
    Listen {
        /// Where.
        at: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Signals.
    #[error("cannot wait for signals")]
    Signals(#[source] std::io::Error),
    /// A task that runs for ever ended.
    #[error("a task of the agent ended")]
    Task,
}

impl From<HostError> for AgentError {
    fn from(error: HostError) -> Self {
        Self::Session(error.into())
    }
}

/// Runs until SIGTERM or SIGINT; a turn that is held is ended first.
pub async fn agent(args: &AgentArgs, lossy: &Lossy) -> Result<(), AgentError> {
    let metrics = Arc::new(Metrics::new(lossy.dropped()));
    let liveness = Arc::new(Liveness::new(ALIVE));
    let is_ready = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    if let Listen::At(at) = args.listen {
        let listener = TcpListener::bind(at).await.map_err(|source| AgentError::Listen { at, source })?;
        let text = metrics.clone();
        let health = Health {
            liveness: liveness.clone(),
            is_ready: is_ready.clone(),
            metrics: Arc::new(move || text.encode()),
            metrics_type: CONTENT_TYPE,
        };
        tasks.spawn(serve(listener, health, std::future::pending()));
    }
    let host = Host::open(&args.node.root, session::service_of(&args.node))?;
    // While it waits for another process it is alive, and must not be restarted for it.
    let lock = {
        let beat = async {
            loop {
                liveness.tick();
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
        };
        tokio::select! {
            lock = session::lock(&host) => lock?,
            () = beat => unreachable!("it beats for ever"),
        }
    };
    host.sweep(&lock)?;
    let key = host.key()?;
    let sources = Sources::start(args, &metrics, &mut tasks).await?;
    let file = watching::directory(host.root(), &host.directory());
    let source = if sources.cluster.is_some() { TurnSource::Coordinator } else { TurnSource::Local };
    let looping = Loop {
        namespace: args.namespace.clone(),
        passes: Passes::new(host, key.clone(), source),
        key,
        sources,
        file,
        metrics,
        liveness,
        is_ready,
        settled: None,
        fresh: None,
        last_policy: None,
        probing: Probing::new(),
        remark: None,
    };
    let term = signal(SignalKind::terminate()).map_err(AgentError::Signals)?;
    let int = signal(SignalKind::interrupt()).map_err(AgentError::Signals)?;
    looping.run(term, int, &mut tasks).await
}

/// Inputs that changed and have to stand still before they count.
struct Fresh {
    inputs: Result<Inputs, String>,
    counts_at: Instant,
}

struct Loop {
    namespace: String,
    passes: Passes,
    key: Key,
    sources: Sources,
    file: Watch,
    metrics: Arc<Metrics>,
    liveness: Arc<Liveness>,
    is_ready: Arc<AtomicBool>,
    settled: Option<Result<Inputs, String>>,
    fresh: Option<Fresh>,
    last_policy: Option<Policy>,
    probing: Probing,
    /// A certificate that ends soon.
    remark: Option<String>,
}

impl Loop {
    async fn run(mut self, mut term: Signal, mut int: Signal, tasks: &mut JoinSet<()>) -> Result<(), AgentError> {
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
                probed = self.probing.done() => self.heard(&probed?),
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
    fn look_at_inputs(&mut self) {
        let now = self.sources.read();
        let latest = self.fresh.as_ref().map(|fresh| &fresh.inputs).or(self.settled.as_ref());
        if latest == Some(&now) {
            return;
        }
        let settle = self.last_policy.as_ref().map_or(SETTLE, |policy| policy.settle);
        self.fresh = Some(Fresh { inputs: now, counts_at: Instant::now() + settle });
    }

    /// Makes what is wanted and does a pass. Gives when the next is due.
    async fn turn_of_the_loop(&mut self, ending: bool) -> Instant {
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

    /// Asks the registries in the background if it is time to. Gives when to look again.
    async fn probe(&mut self, plan: &Plan, policy: &Policy, hints: &Hints) -> Instant {
        let later = Instant::now() + READ_AGAIN;
        let is_busy = plan.inquiry.is_some() || plan.pull.is_some() || self.passes.is_busy();
        if is_busy {
            self.probing.stop();
        }
        let is_wanted = !is_busy && self.passes.is_node() && policy.mode == Mode::Manage && policy.preflight.is_on();
        let (Some(revision), Ok(now)) = (plan.revision.as_ref().filter(|_| is_wanted), clock()) else { return later };
        match self.probing.due(revision, now.boot) {
            Wait::Until(due) => return Instant::now() + due.saturating_sub(now.boot),
            Wait::ForInputs => return later,
            Wait::Now => {}
        }
        let host = self.passes.host();
        let Ok(Ok(installation)) = host.installation(hints).await else { return later };
        let scope = Scope::from(&policy.preflight);
        // What lies here, which containerd sends anyway: nothing new is tried without a turn.
        if let Some(asking) = Asking::of_node(&installation, host.root(), scope) {
            self.probing.begin(revision.clone(), now.boot, asking);
        }
        later
    }

    /// Counts what the registries said, and makes known what changed.
    fn heard(&mut self, probed: &Probed) {
        if let Ok(now) = clock() {
            self.metrics.asked(&probed.report, now.wall);
        }
        let Some(News { is_bad, text }) = self.probing.heard(probed) else { return };
        let (kind, reason) = if is_bad {
            warn!(%text, "registries are not as they should be");
            (EventKind::Warning, "RegistryFault")
        } else {
            info!(%text, "registries are well again");
            (EventKind::Normal, "RegistryWell")
        };
        let what = Happening { kind, reason, action: "Probe", note: text };
        if let Some(event) = self.sources.cluster.as_ref().and_then(|cluster| cluster.happened(what)) {
            self.probing.beside(event);
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

#[cfg(test)]
mod tests;

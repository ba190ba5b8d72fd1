//! Where the agent's inputs and its Node come from, a directory or a cluster, and who says what came of its passes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_core::inputs::Inputs;
use agent_core::node::annotations::{Phase, Told};
use agent_core::node::heard::Inquiry;
use agent_core::node::observed::ApiSeen;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::agent::AgentError;
use super::session;
use crate::args::AgentArgs;
use crate::cluster::client::{Cluster, Source};
use crate::cluster::events::{Happening, publish};
use crate::cluster::hearing::Hearing;
use crate::cluster::node::{LeaseSeen, NodeView, OwnNode, watch_lease, watch_node};
use crate::cluster::teller::{Clocks, Outcome, Say, teller};
use crate::host::HostError;
use crate::host::clock::clock;
use crate::host::root::Root;
use crate::host::watch::{self as watching, Watch};
use crate::inputs::cluster::{ExtraSecret, InputsView, read_inputs, watch_inputs};
use crate::metrics::Metrics;
use crate::pass::Chain;

/// How long it is waited for that the Node says what a turn rests on.
const TOLD: Duration = Duration::from_secs(8);

/// Where inputs and the Node come from.
pub(super) struct Sources {
    directory: Option<(PathBuf, Watch)>,
    pub(super) cluster: Option<InCluster>,
}

pub(super) struct InCluster {
    cluster: Cluster,
    name: String,
    inputs: watch::Receiver<InputsView>,
    extras: watch::Sender<BTreeSet<ExtraSecret>>,
    node: watch::Receiver<NodeView>,
    lease: watch::Receiver<LeaseSeen>,
    pub(super) hearing: Hearing,
    say: watch::Sender<Option<Say>>,
    outcome: watch::Receiver<Outcome>,
    /// The number of the last [`Say`].
    said: u64,
    /// When the reason on the Node was written last.
    reason_at: Option<Instant>,
    /// The phase, and since when this process says it.
    phase: Option<(Phase, Instant)>,
}

impl Sources {
    /// A cluster that is connected already.
    #[cfg(test)]
    pub(super) const fn of(cluster: InCluster) -> Self {
        Self { directory: None, cluster: Some(cluster) }
    }

    pub(super) async fn start(
        args: &AgentArgs,
        metrics: &Arc<Metrics>,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, AgentError> {
        if let Some(path) = &args.inputs {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            let root = Root::open("/").map_err(|source| HostError::Root { path: "/".into(), source })?;
            let watch = watching::directory(&root, &path.to_string_lossy());
            return Ok(Self { directory: Some((path, watch)), cluster: None });
        }
        let name = args.node_name.clone().unwrap_or_default();
        let source = match &args.kubeconfig {
            Some(path) => Source::Kubeconfig(Some(path.clone())),
            None => Source::InCluster,
        };
        let cluster = Cluster::connect(&source, &args.namespace, metrics.clone()).await?;
        Ok(Self { directory: None, cluster: Some(InCluster::start(cluster, name, tasks)) })
    }

    /// The inputs as they are now; the sentence says why there are none yet.
    pub(super) fn read(&mut self) -> Result<Inputs, String> {
        if let Some((path, _)) = &self.directory {
            return session::read_inputs(path).map_err(|error| format!("{:#}", Chain(&error)));
        }
        match self.cluster.as_mut().map(|cluster| cluster.inputs.borrow_and_update().clone()) {
            Some(InputsView::Seen(inputs)) => Ok(inputs),
            Some(InputsView::Waiting(why)) => Err(why),
            None => Err("there are no inputs".to_owned()),
        }
    }

    /// Waits until inputs or the Node may have changed. Cancel-safe: a signal that was not taken stays in its channel.
    pub(super) async fn changed(&mut self) {
        match (&mut self.directory, &mut self.cluster) {
            (Some((_, watch)), _) => watch.changed().await,
            (None, Some(cluster)) => {
                let ended = tokio::select! {
                    changed = cluster.inputs.changed() => changed.is_err(),
                    changed = cluster.node.changed() => changed.is_err(),
                };
                if ended {
                    std::future::pending::<()>().await;
                }
            }
            (None, None) => std::future::pending().await,
        }
    }

    /// The Node as it is known now.
    pub(super) fn own_node(&self) -> Option<OwnNode> {
        self.cluster.as_ref().and_then(InCluster::own_node)
    }
}

impl InCluster {
    /// Starts the watches and the teller, which run for ever.
    pub(super) fn start(cluster: Cluster, name: String, tasks: &mut JoinSet<()>) -> Self {
        let (extras, wanted) = watch::channel(BTreeSet::new());
        let (inputs_out, inputs) = watch::channel(InputsView::Waiting("the inputs were not read yet".to_owned()));
        let (node_out, node) = watch::channel(NodeView::Waiting("its Node was not read yet".to_owned()));
        let watched = cluster.clone();
        tasks.spawn(async move {
            watch_inputs(watched, wanted, inputs_out).await;
        });
        let (watched, watched_name) = (cluster.clone(), name.clone());
        tasks.spawn(async move {
            watch_node(watched, watched_name, node_out).await;
        });
        let (lease_out, lease) = watch::channel(LeaseSeen::default());
        let (watched, watched_name) = (cluster.clone(), name.clone());
        tasks.spawn(async move {
            watch_lease(watched, watched_name, boot, lease_out).await;
        });
        let (say, to_say) = watch::channel(None);
        let (outcome_out, outcome) = watch::channel(Outcome::Not { number: 0, node: None });
        let (told, told_name) = (cluster.clone(), name.clone());
        tasks.spawn(async move {
            teller(told, told_name, Clocks { boot, wall }, to_say, outcome_out).await;
        });
        let hearing = Hearing::new(cluster.clone(), name.clone(), boot);
        Self {
            cluster,
            name,
            inputs,
            extras,
            node,
            lease,
            hearing,
            say,
            outcome,
            said: 0,
            reason_at: None,
            phase: None,
        }
    }

    /// What the watch shows, or what an answer of the API server showed since.
    pub(super) fn own_node(&self) -> Option<OwnNode> {
        match self.node.borrow().clone() {
            NodeView::Seen(node) => Some(OwnNode::newer(node, self.outcome.borrow().node())),
            NodeView::Waiting(_) | NodeView::Absent => None,
        }
    }

    /// What the API server says of the node itself.
    pub(super) fn api(&self) -> ApiSeen {
        let ready = self.own_node().and_then(|node| node.ready);
        ApiSeen { renewed: self.lease.borrow().seen, is_ready: ready.map(|ready| ready.is_ready) }
    }

    /// Writes an Event about the Node; to be awaited beside the passes.
    pub(super) fn happened(&self, what: Happening) -> Option<impl Future<Output = ()> + Send + use<>> {
        let uid = self.own_node()?.uid;
        let (cluster, name) = (self.cluster.clone(), self.name.clone());
        Some(async move { publish(&cluster, &name, &uid, &what, wall()).await })
    }

    /// Has it said on the Node, beside the passes.
    pub(super) fn tell(&mut self, told: Told, decided_on: OwnNode) {
        let now = Instant::now();
        let lasts = match self.phase {
            Some((phase, since)) if phase == told.phase => now - since,
            Some(_) | None => {
                self.phase = Some((told.phase, now));
                Duration::ZERO
            }
        };
        let since_reason = self.reason_at.map_or(Duration::MAX, |at| now - at);
        let told = told.paced(&decided_on.seen, lasts, since_reason);
        if decided_on.seen.ours("reason") != Some(&told.reason) {
            self.reason_at = Some(now);
        }
        self.said += 1;
        self.say.send_replace(Some(Say { number: self.said, told, decided_on }));
    }

    /// Waits until the last of it was said, or could not be.
    pub(super) async fn told(&mut self) {
        let number = self.said;
        let outcome = self.outcome.wait_for(|outcome| outcome.number() >= number);
        // Without an answer nothing is confirmed, and the plan will say so.
        let _ = tokio::time::timeout(TOLD, outcome).await;
    }

    /// Takes note of what the API server confirmed, and asks what the inputs of the next pass depend on. Gives the inputs
    /// where they were read anew.
    pub(super) async fn inquire(&mut self, what: Option<Inquiry>) -> Option<Inputs> {
        if let Outcome::Said(said) = &*self.outcome.borrow() {
            self.hearing.said(said);
        }
        let at = self.hearing.now();
        match what {
            // The registries are asked with what is made of the inputs; the others are the last thing before the plan.
            None | Some(Inquiry::Preflight | Inquiry::Turn { .. } | Inquiry::Gate | Inquiry::Others) => None,
            Some(Inquiry::Inputs) => {
                let extras = self.extras.borrow().clone();
                let read = read_inputs(&self.cluster, &extras).await;
                self.hearing.inputs(at, read.as_ref().map(drop).map_err(Clone::clone));
                read.ok()
            }
        }
    }

    /// Tells the watch which Secrets elsewhere are inputs.
    pub(super) fn names(&self, wanted: BTreeSet<ExtraSecret>) {
        self.extras.send_if_modified(|extras| {
            let differs = *extras != wanted;
            *extras = wanted;
            differs
        });
    }
}

/// The boot-time clock.
fn boot() -> Duration {
    clock().map(|clock| clock.boot).unwrap_or_default()
}

/// The wall clock, for people.
fn wall() -> Timestamp {
    clock().map(|clock| clock.wall).unwrap_or_default()
}

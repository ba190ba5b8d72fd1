//! `agent`: passes whenever something changes, for ever.

mod looping;
mod registries;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use agent_core::digest::Key;
use agent_core::inputs::Inputs;
use agent_core::node::turn::TurnSource;
use agent_core::policy::Policy;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::probing::Probing;
use super::session::{self, SessionError};
use super::sources::Sources;
use crate::args::{AgentArgs, Listen};
use crate::cluster::client::ConnectError;
use crate::host::watch::{self as watching, Watch};
use crate::host::{Host, HostError};
use crate::http::{Health, Liveness, serve};
use crate::logging::Lossy;
use crate::metrics::{CONTENT_TYPE, Metrics};
use crate::pass::Passes;

/// The loop comes round at least this often, or the process is taken for dead.
const ALIVE: Duration = Duration::from_secs(180);
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
    host.sweep(&lock).await?;
    let key = host.key()?;
    let sources = Sources::start(args, &metrics, &mut tasks).await?;
    let file = watching::directory(host.root(), &host.directory());
    let source = if sources.cluster.is_some() { TurnSource::Coordinator } else { TurnSource::Local };
    let passes = Passes::new(host, key.clone(), source);
    let probing = remembered(&passes, &metrics);
    let looping = Loop {
        namespace: args.namespace.clone(),
        passes,
        key,
        sources,
        file,
        metrics,
        liveness,
        is_ready,
        settled: None,
        fresh: None,
        last_policy: None,
        probing,
        remark: None,
    };
    let term = signal(SignalKind::terminate()).map_err(AgentError::Signals)?;
    let int = signal(SignalKind::interrupt()).map_err(AgentError::Signals)?;
    looping.run(term, int, &mut tasks).await
}

/// The probe of a new process: what an earlier one heard is known, and shown, without asking anybody.
fn remembered(passes: &Passes, metrics: &Metrics) -> Probing {
    let retry = passes.retried();
    match passes.probe_refused() {
        Some(refused) => {
            metrics.refused_before(refused.urls.len(), refused.at);
            Probing::new(&refused.urls, retry)
        }
        None => Probing::new(&[], retry),
    }
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

#[cfg(test)]
mod tests;

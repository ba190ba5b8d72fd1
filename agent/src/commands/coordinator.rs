//! `coordinator`: decides whose turn it is, for ever.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::args::{CoordinatorArgs, Listen};
use crate::cluster::client::{Cluster, ConnectError, Source};
use crate::coordinator::{Coordinator, CoordinatorError, Setup};
use crate::http::{Health, Liveness, serve};
use crate::logging::Lossy;
use crate::metrics::CONTENT_TYPE;
use crate::metrics::fleet::FleetMetrics;
use crate::random;

/// The loop comes round at least this often, or the process is taken for dead: every request of it has a limit.
const ALIVE: Duration = Duration::from_secs(90);

/// Why the coordinator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorFault {
    /// The cluster.
    #[error("cannot set up the connection to the cluster")]
    Connect(#[from] ConnectError),
    /// The HTTP server.
    #[error("cannot listen on {at}")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Signals.
    #[error("cannot wait for signals")]
    Signals(#[source] std::io::Error),
    /// The loop ended.
    #[error(transparent)]
    Loop(#[from] CoordinatorError),
    /// The HTTP server ended.
    #[error("the HTTP server ended")]
    Serving,
}

/// Runs until SIGTERM or SIGINT, and gives the Lease back then.
///
/// # Errors
///
/// [`CoordinatorFault`]: it has to be started anew.
pub async fn coordinator(args: &CoordinatorArgs, lossy: &Lossy) -> Result<(), CoordinatorFault> {
    let CoordinatorArgs { identity, namespace, kubeconfig, listen, waits } = args;
    let metrics = Arc::new(FleetMetrics::new(lossy.dropped()));
    let liveness = Arc::new(Liveness::new(ALIVE));
    let is_ready = Arc::new(AtomicBool::new(false));
    let text = metrics.clone();
    let health = Health {
        liveness: liveness.clone(),
        is_ready: is_ready.clone(),
        metrics: Arc::new(move || text.encode()),
        metrics_type: CONTENT_TYPE,
    };
    let serving = async {
        match listen {
            Listen::Off => std::future::pending().await,
            Listen::At(at) => {
                let bound = bind(*at).await.map_err(|source| CoordinatorFault::Listen { at: *at, source });
                match bound {
                    Ok(listener) => {
                        serve(listener, health, std::future::pending()).await;
                        CoordinatorFault::Serving
                    }
                    Err(fault) => fault,
                }
            }
        }
    };
    let source = match kubeconfig {
        Some(path) => Source::Kubeconfig(Some(path.clone())),
        None => Source::InCluster,
    };
    let cluster = Cluster::connect(&source, namespace, metrics.clone()).await?;
    let me =
        identity.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| format!("coordinator-{}", random::dice()));
    let mut term = signal(SignalKind::terminate()).map_err(CoordinatorFault::Signals)?;
    let mut int = signal(SignalKind::interrupt()).map_err(CoordinatorFault::Signals)?;
    let stop = async {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        info!("asked to end");
    };
    let running = Coordinator::new(Setup { cluster, me, waits: *waits, metrics, liveness, is_ready }).run(stop);
    // Neither is polled again after the other ended.
    tokio::select! {
        biased;
        ended = running => Ok(ended?),
        fault = serving => Err(fault),
    }
}

/// Listens; where the kernel has no IPv6, `[::]` means all of IPv4.
async fn bind(at: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(at).await {
        Err(_) if at.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, at.port())).await
        }
        bound => bound,
    }
}

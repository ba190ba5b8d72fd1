//! Makes the connection to the API server: in the cluster or from a kubeconfig, with limits, and with every request counted.

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{Layer, Service};

use super::trouble::Trouble;
use crate::tally::{Outcome, Tally, Verb};

/// How long a request may take that is not a watch.
pub const CALL_LIMIT: Duration = Duration::from_secs(5);

/// Where the address and the credentials of the API server come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The pod's ServiceAccount.
    InCluster,
    /// A kubeconfig; without a path the usual places (`KUBECONFIG`, `~/.kube/config`).
    Kubeconfig(Option<PathBuf>),
}

/// Why no connection could be set up.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not in a pod, or its token or CA cannot be read.
    #[error("cannot read the pod's ServiceAccount")]
    InCluster(#[source] kube::config::InClusterError),
    /// The kubeconfig cannot be read.
    #[error("cannot read the kubeconfig")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// The client cannot be built from it.
    #[error("cannot build a client")]
    Build(#[source] kube::Error),
}

/// The API server, and the namespace of the product. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: Arc<str>,
    tally: Arc<dyn Tally>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Reads the set-up. Asks the server nothing yet.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: what could not be read or built.
    pub async fn connect(source: &Source, namespace: &str, tally: Arc<dyn Tally>) -> Result<Self, ConnectError> {
        let mut config = match source {
            Source::InCluster => Config::incluster().map_err(ConnectError::InCluster)?,
            Source::Kubeconfig(path) => {
                let options = KubeConfigOptions::default();
                match path {
                    Some(path) => {
                        let file = Kubeconfig::read_from(path).map_err(ConnectError::Kubeconfig)?;
                        Config::from_custom_kubeconfig(file, &options).await
                    }
                    None => Config::from_kubeconfig(&options).await,
                }
                .map_err(ConnectError::Kubeconfig)?
            }
        };
        config.connect_timeout = Some(CALL_LIMIT);
        config.write_timeout = Some(CALL_LIMIT);
        // A hidden retry of a write is a second write, and one of a read outlives the decision that asked for it.
        // Watches have a backoff of their own.
        config.default_retry = false;
        let layer = Counting { tally: tally.clone() };
        let client = ClientBuilder::try_from(config).map_err(ConnectError::Build)?.with_layer(&layer).build();
        Ok(Self { client, namespace: namespace.into(), tally })
    }

    /// Wraps a client that exists.
    pub fn with_client(client: Client, namespace: &str, tally: Arc<dyn Tally>) -> Self {
        Self { client, namespace: namespace.into(), tally }
    }

    /// The namespace of the product.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    pub(crate) fn tally(&self) -> &Arc<dyn Tally> {
        &self.tally
    }
}

/// Gives a request its limit, and its error the words that are safe to say.
pub(crate) async fn call<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Trouble> {
    match tokio::time::timeout(CALL_LIMIT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Trouble::from(&error)),
        Err(_) => Err(Trouble::TimedOut),
    }
}

/// Counts requests by verb and outcome.
#[derive(Clone, Debug)]
pub(crate) struct Counting {
    pub(crate) tally: Arc<dyn Tally>,
}

impl<S> Layer<S> for Counting {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, tally: self.tally.clone() }
    }
}

/// A service with its requests counted.
#[derive(Clone, Debug)]
pub(crate) struct Counted<S> {
    inner: S,
    tally: Arc<dyn Tally>,
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut open = Open { verb: verb(&request), outcome: Outcome::Abandoned, tally: self.tally.clone() };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            open.outcome = match &answer {
                Ok(response) => Outcome::of_status(response.status().as_u16()),
                Err(_) => Outcome::Unreachable,
            };
            drop(open);
            answer
        })
    }
}

/// A request under way; counted when it ends, also by being dropped.
struct Open {
    verb: Verb,
    outcome: Outcome,
    tally: Arc<dyn Tally>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.tally.request(self.verb, self.outcome);
    }
}

fn verb(request: &Request<Body>) -> Verb {
    let is_watch =
        || request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("watch=")));
    // kube names the call in an extension; a path alone does not tell a list from a get.
    let is_list = || request.extensions().get::<&'static str>().is_some_and(|name| name.starts_with("list"));
    match *request.method() {
        Method::POST => Verb::Create,
        Method::PATCH => Verb::Patch,
        Method::PUT => Verb::Update,
        Method::DELETE => Verb::Delete,
        _ if is_watch() => Verb::Watch,
        _ if is_list() => Verb::List,
        _ => Verb::Get,
    }
}

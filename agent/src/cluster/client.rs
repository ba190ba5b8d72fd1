//! Makes the connection to the API server: in the cluster or from a kubeconfig, with limits, and with every request counted.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request, Response};
use kube::client::{AuthError, Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
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
    /// A person's: that file or else the first of the usual places that is there, k3s's own and a pod's included; and of
    /// its contexts this one.
    Person {
        /// The file.
        kubeconfig: Option<PathBuf>,
        /// The context; without one the current one.
        context: Option<String>,
    },
}

/// k3s's own kubeconfig, on its servers.
const K3S_KUBECONFIG: &str = "/etc/rancher/k3s/k3s.yaml";

/// Why no connection could be set up.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not in a pod, or its token or CA cannot be read.
    #[error("cannot read the pod's ServiceAccount")]
    InCluster(#[source] kube::config::InClusterError),
    /// The kubeconfig cannot be read.
    #[error("cannot read the kubeconfig")]
    Kubeconfig(#[source] KubeconfigError),
    /// The kubeconfig is not what one is. The reader's own words are not shown: they quote the lines, tokens included.
    #[error(
        "cannot read the kubeconfig: it is no valid YAML, or has the wrong kind of value, at line {line}, column {column}"
    )]
    Malformed {
        /// Line.
        line: u64,
        /// Column.
        column: u64,
    },
    /// There is none in any of the usual places.
    #[error(
        "no kubeconfig: not in KUBECONFIG, ~/.kube/config or {K3S_KUBECONFIG}, nor in a pod; name one by --kubeconfig"
    )]
    NoKubeconfig,
    /// k3s's own is there and may not be read.
    #[error("{K3S_KUBECONFIG} is not for this user: use sudo, or name another by --kubeconfig")]
    Unreadable,
    /// The client cannot be built from it. Most of kube's own words are not shown: they quote what a credential plugin
    /// wrote, a token included, and the user part of a proxy's URL.
    #[error("cannot build a client: {0}")]
    Build(String),
}

impl ConnectError {
    fn of_kubeconfig(error: KubeconfigError) -> Self {
        let KubeconfigError::Parse(parse) = error else { return Self::Kubeconfig(error) };
        let at = parse.location();
        Self::Malformed { line: at.map_or(1, |at| at.line()), column: at.map_or(1, |at| at.column()) }
    }

    fn of_client(error: &kube::Error) -> Self {
        Self::Build(match error {
            kube::Error::ProxyProtocolDisabled { .. } | kube::Error::ProxyProtocolUnsupported { .. } => {
                "a proxy is set (proxy-url in the kubeconfig, or HTTPS_PROXY), and this program uses none: unset it"
                    .to_owned()
            }
            kube::Error::Auth(AuthError::AuthExecStart(cause)) => {
                format!("the kubeconfig's credential plugin cannot be started: {cause}")
            }
            kube::Error::Auth(AuthError::AuthExecRun { out, .. }) => {
                format!("the kubeconfig's credential plugin failed ({})", out.status)
            }
            kube::Error::Auth(AuthError::AuthExecParse(_)) => {
                "the kubeconfig's credential plugin wrote no ExecCredential".to_owned()
            }
            kube::Error::Auth(AuthError::ReadTokenFile(cause, path)) => {
                format!("cannot read the token file {}: {cause}", path.display())
            }
            kube::Error::Auth(_) => "the credentials of the kubeconfig cannot be used".to_owned(),
            kube::Error::RustlsTls(cause) => cause.to_string(),
            _ => "its address or its certificates cannot be used".to_owned(),
        })
    }
}

/// The API server, and the namespace of the product. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// What the client was made of; none if it was given.
    config: Option<Arc<Config>>,
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
                        let file = Kubeconfig::read_from(path).map_err(ConnectError::of_kubeconfig)?;
                        Config::from_custom_kubeconfig(file, &options).await
                    }
                    None => Config::from_kubeconfig(&options).await,
                }
                .map_err(ConnectError::of_kubeconfig)?
            }
            Source::Person { kubeconfig, context } => {
                let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
                match persons(kubeconfig.as_deref())? {
                    Some(file) => {
                        Config::from_custom_kubeconfig(file, &options).await.map_err(ConnectError::of_kubeconfig)?
                    }
                    None => Config::incluster().map_err(|_| ConnectError::NoKubeconfig)?,
                }
            }
        };
        config.connect_timeout = Some(CALL_LIMIT);
        config.write_timeout = Some(CALL_LIMIT);
        // A hidden retry of a write is a second write, and one of a read outlives the decision that asked for it.
        // Watches have a backoff of their own.
        config.default_retry = false;
        let layer = Counting { tally: tally.clone() };
        let builder = ClientBuilder::try_from(config.clone()).map_err(|error| ConnectError::of_client(&error))?;
        let client = builder.with_layer(&layer).build();
        Ok(Self { client, config: Some(Arc::new(config)), namespace: namespace.into(), tally })
    }

    /// Wraps a client that exists.
    pub fn with_client(client: Client, namespace: &str, tally: Arc<dyn Tally>) -> Self {
        Self { client, config: None, namespace: namespace.into(), tally }
    }

    /// Asks one API server itself, at its own address and with our credentials, and gives the status that it answers.
    ///
    /// Its certificate must be of the cluster's CA and for that very address. A client of its own, made for this one
    /// request: it reads the pod's token and CA anew, and no connection is open already that would prove nothing.
    pub(crate) async fn ask_at(&self, authority: &str, path: &str) -> Result<u16, Trouble> {
        let (client, uri) = match &self.config {
            Some(config) => {
                let mut config = Config::clone(config);
                let url = format!("https://{authority}");
                config.cluster_url = url.parse().map_err(|_| Trouble::Malformed)?;
                config.tls_server_name = None;
                config.accept_invalid_certs = false;
                config.proxy_url = None;
                let client = ClientBuilder::try_from(config).map_err(|error| Trouble::from(&error))?;
                (client.build(), path.to_owned())
            }
            None => (self.client.clone(), format!("https://{authority}{path}")),
        };
        let request = Request::get(uri).body(Body::empty()).map_err(|_| Trouble::Malformed)?;
        let response = client.send(request).await.map_err(|error| Trouble::from(&error))?;
        Ok(response.status().as_u16())
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

/// A person's kubeconfig, where kubectl looks for it and where k3s writes it; none if there is none.
fn persons(named: Option<&Path>) -> Result<Option<Kubeconfig>, ConnectError> {
    if let Some(path) = named {
        return Kubeconfig::read_from(path).map(Some).map_err(ConnectError::of_kubeconfig);
    }
    if let Some(file) = Kubeconfig::from_env().map_err(ConnectError::of_kubeconfig)? {
        return Ok(Some(file));
    }
    let own = std::env::home_dir().map(|home| home.join(".kube/config"));
    for path in own.into_iter().chain([PathBuf::from(K3S_KUBECONFIG)]) {
        match Kubeconfig::read_from(&path) {
            Ok(file) => return Ok(Some(file)),
            Err(KubeconfigError::ReadConfig(error, _)) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => {}
                ErrorKind::PermissionDenied if path == Path::new(K3S_KUBECONFIG) => {
                    return Err(ConnectError::Unreadable);
                }
                _ => return Err(ConnectError::Kubeconfig(KubeconfigError::ReadConfig(error, path))),
            },
            Err(error) => return Err(ConnectError::of_kubeconfig(error)),
        }
    }
    Ok(None)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::{PipeReader, Read, Write};
    use std::net::SocketAddr;

    use serde_json::json;
    use tokio::sync::watch;
    use tokio::task::JoinSet;

    use super::*;
    use crate::cluster::fake::{Answer, Counts, Fake, until};
    use crate::cluster::node::{NodeView, read_node, watch_node};
    use crate::inputs::cluster::{ExtraSecret, InputsView, watch_inputs};
    use crate::logging::{Format, Lossy, subscriber};

    const CANARY: &str = "canary-hunter2";
    const PACKED: &str = "Y2FuYXJ5LWh1bnRlcjI=";
    const OURS: &str = "/api/v1/namespaces/k3s-registry-agent";

    async fn connected(address: SocketAddr, tally: Arc<dyn Tally>) -> Cluster {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "u", "user": {"token": CANARY}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        file.write_all(config.to_string().as_bytes()).unwrap();
        let source = Source::Kubeconfig(Some(file.path().to_owned()));
        Cluster::connect(&source, "k3s-registry-agent", tally).await.unwrap()
    }

    fn collected(mut reader: PipeReader) -> std::thread::JoinHandle<String> {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let mut buffer = [0; 65536];
            while !text.ends_with(b"that is all\n") {
                let length = reader.read(&mut buffer).unwrap();
                text.extend_from_slice(&buffer[..length]);
            }
            String::from_utf8(text).unwrap()
        })
    }

    /// A Secret as a person's mistake, a proxy or a fault may give it; each way its body is decoded is met.
    #[tokio::test]
    async fn no_password_is_logged_at_trace_whatever_the_server_answers() {
        let (reader, writer) = std::io::pipe().unwrap();
        let text = collected(reader);
        let mut lossy = Lossy::start(Format::Text, writer).unwrap();
        // With one subscriber alone, tracing asks the thread that meets a line first, for all; and that may be another
        // test's, which has none.
        let _second = tracing::Dispatch::new(subscriber(&lossy, "off").unwrap());
        let _guard = tracing::subscriber::set_default(subscriber(&lossy, "trace,kube_client=trace").unwrap());

        let secret = json!({"type": "Opaque", "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": CANARY}},
            "data": {"password": PACKED}});
        let broken = json!({"kind": "SecretList", "metadata": {"resourceVersion": "1"},
            "items": [{"metadata": {"labels": CANARY}, "data": {"password": PACKED}}]});
        let fake = Fake::default();
        fake.put(&format!("{OURS}/secrets/one"), secret.clone());
        fake.put("/api/v1/namespaces/team/secrets/pull", secret.clone());
        fake.put("/api/v1/nodes/n1", json!({"metadata": {"annotations": {"a": CANARY}}}));
        fake.next(&format!("GET {OURS}/secrets"), Answer::Text(broken.to_string()));
        fake.next("GET /api/v1/namespaces/team/secrets/pull", Answer::Text(format!("{{\"metadata\": \"{CANARY}\"}}")));
        fake.next("GET /api/v1/nodes/n1", Answer::Text(CANARY.to_owned()));
        fake.next(
            &format!("WATCH {OURS}/secrets"),
            Answer::Text(format!("{{\"type\":\"ADDED\",\"object\":\"{CANARY}\"}}\n")),
        );
        let mut tasks = JoinSet::new();
        let address = fake.serve(&mut tasks).await;
        let counts = Arc::new(Counts::default());
        let cluster = connected(address, counts.clone()).await;

        let extras = BTreeSet::from([ExtraSecret { namespace: "team".into(), name: "pull".into() }]);
        let (_extras, receiver) = watch::channel(extras);
        let (sender, inputs) = watch::channel(InputsView::Waiting(String::new()));
        let mut watches = JoinSet::new();
        watches.spawn(watch_inputs(cluster.clone(), receiver, sender));
        let (sender, node) = watch::channel(NodeView::Waiting(String::new()));
        watches.spawn(watch_node(cluster.clone(), "n1".into(), sender));
        let objects = || match &*inputs.borrow() {
            InputsView::Seen(inputs) => inputs.objects.len(),
            InputsView::Waiting(_) => 0,
        };
        until(|| objects() == 2 && matches!(&*node.borrow(), NodeView::Seen(_))).await;
        // The one watch that gave nonsense is behind us, and what comes now comes by watch.
        until(|| counts.of("reconnect secrets") == 2 && fake.open_watches() == 4).await;
        fake.put(&format!("{OURS}/secrets/two"), secret.clone());
        fake.put(&format!("{OURS}/secrets/three"), json!({"data": {"password": CANARY}}));
        until(|| objects() == 3).await;
        tracing::trace!(inputs = ?*inputs.borrow(), ?cluster, "what our own types show");
        assert!(counts.of("reconnect extra_secret") == 1 && counts.of("reconnect node") == 1);
        fake.next("GET /api/v1/nodes/n1", Answer::Status(500));
        assert!(read_node(&cluster, "n1").await.is_err());

        lossy.write_all(b"that is all\n").unwrap();
        let text = text.join().unwrap();
        assert_eq!(lossy.dropped().load(std::sync::atomic::Ordering::Relaxed), 0, "all was looked at");
        for hint in [CANARY, PACKED, "99, 97, 110, 97, 114, 121"] {
            assert!(!text.contains(hint), "{hint} in\n{text}");
        }
        assert!(text.contains("watch broke"), "something was logged at all");
    }

    #[tokio::test]
    async fn a_connection_has_no_hidden_retry_and_counts_by_verb() {
        let fake = Fake::default();
        let mut tasks = JoinSet::new();
        let address = fake.serve(&mut tasks).await;
        let counts = Arc::new(Counts::default());
        let cluster = connected(address, counts.clone()).await;
        for code in [429, 503, 504, 404, 401, 410] {
            fake.next("GET /api/v1/nodes/n1", Answer::Status(code));
            assert!(read_node(&cluster, "n1").await.is_err());
        }
        let counted = counts.0.lock().unwrap().clone();
        assert_eq!(
            counted,
            ["get throttled", "get server_error", "get server_error", "get not_found", "get forbidden", "get gone"]
        );
    }

    #[tokio::test]
    async fn an_api_server_that_is_not_there_is_said_in_the_words_of_the_system() {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let cluster = connected(address, counts.clone()).await;
        let trouble = read_node(&cluster, "n1").await.unwrap_err();
        assert!(trouble.to_string().contains("Connection refused"), "{trouble}");
        assert_eq!(counts.of("get unreachable"), 1);
    }
}

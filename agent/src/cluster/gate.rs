//! Asks what the server gate is judged by: the server Nodes, the addresses of the API servers, and each of these itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agent_core::fleet::gate::{AddressSeen, CONTROL_PLANE_LABEL, ETCD_LABEL, GateSeen, NodeRead, ServerSeen};
use agent_core::node::evidence::Answer;
use agent_core::node::others::{OtherServer, authority};
use futures::future::{join_all, join3};
use kube::api::{Api, ListParams};
use tokio::time::{Instant, timeout_at};

use super::client::Cluster;
use super::lean::{self, EndpointSlice};
use super::trouble::Trouble;

/// How long all of it may take: what was seen before that is too old.
const LIMIT: Duration = Duration::from_secs(5);

/// Where the API servers' own addresses stand.
const SLICE: (&str, &str) = ("default", "kubernetes");

/// Why the gate could not be asked. It stays shut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// The Nodes.
    #[error("the server gate is shut: cannot list the server Nodes")]
    Nodes(#[source] Trouble),
    /// The EndpointSlice.
    #[error("the server gate is shut: cannot read EndpointSlice default/kubernetes")]
    Addresses(#[source] Trouble),
}

/// Asks everything, of the API server and of each address: what the server's own agent does before every restart. Gives the
/// API servers' port with it.
///
/// Three requests that are counted (a label selector knows no "or": API servers and members of etcd are two lists).
///
/// # Errors
///
/// What could not be asked. An address that does not answer is no error but an answer.
pub async fn ask(cluster: &Cluster, target: &str) -> Result<(GateSeen, u16), GateError> {
    let deadline = Instant::now() + LIMIT;
    let (control_plane, etcd, slice) = join3(
        list(cluster, CONTROL_PLANE_LABEL, deadline),
        list(cluster, ETCD_LABEL, deadline),
        addresses(cluster, deadline),
    )
    .await;
    let nodes = control_plane.map_err(GateError::Nodes)?.into_iter().chain(etcd.map_err(GateError::Nodes)?);
    let servers: BTreeMap<String, ServerSeen> =
        nodes.filter_map(|node| server(&node)).map(|server| (server.name.clone(), server)).collect();
    let (servers, slice) = (servers.into_values().collect(), slice?);
    let port = slice.1;
    Ok((answered(cluster, target, servers, slice, deadline).await, port))
}

/// Asks each address, for servers that are known already: what the coordinator does, which watches the Nodes.
///
/// # Errors
///
/// The EndpointSlice could not be read.
pub async fn ask_addresses(cluster: &Cluster, target: &str, servers: Vec<ServerSeen>) -> Result<GateSeen, GateError> {
    let deadline = Instant::now() + LIMIT;
    let slice = addresses(cluster, deadline).await?;
    Ok(answered(cluster, target, servers, slice, deadline).await)
}

/// Asks each of these again, all at once, and nobody else: the API may be away with one of them.
pub async fn ask_others(cluster: &Cluster, others: &[OtherServer]) -> Vec<(OtherServer, Answer)> {
    let deadline = Instant::now() + LIMIT;
    let asked = others.iter().map(|other| async move {
        let answer = match readyz(cluster, &other.authority, deadline).await {
            Ok(()) => Answer::Passed,
            Err(Unwell::Refuses(why)) => Answer::Unknown(why),
            Err(Unwell::Fails(why)) => Answer::Failed(why),
        };
        (other.clone(), answer)
    });
    join_all(asked).await
}

/// A server as the gate sees it; none if the Node is none.
pub(crate) fn server(node: &lean::Node) -> Option<ServerSeen> {
    let lean::Node { metadata, spec, status } = node;
    let empty = BTreeMap::new();
    ServerSeen::read(NodeRead {
        name: metadata.name.as_deref().unwrap_or_default(),
        labels: metadata.labels.as_ref().unwrap_or(&empty),
        annotations: metadata.annotations.as_ref().unwrap_or(&empty),
        addresses: status.addresses.iter().map(|address| address.address.clone()).collect(),
        conditions: status
            .conditions
            .iter()
            .map(|condition| (condition.kind.as_str(), condition.status.as_str(), condition.reason.as_str()))
            .collect(),
        is_cordoned: spec.unschedulable,
    })
}

async fn list(cluster: &Cluster, label: &str, deadline: Instant) -> Result<Vec<lean::Node>, Trouble> {
    let api = Api::<lean::Node>::all(cluster.client());
    // Unpaged: servers are few. Without a version it is a quorum read.
    let params = ListParams::default().labels(label);
    Ok(within(deadline, api.list(&params)).await?.items)
}

/// The addresses of the API servers, and their port.
async fn addresses(cluster: &Cluster, deadline: Instant) -> Result<(BTreeSet<String>, u16), GateError> {
    let (namespace, name) = SLICE;
    let api = Api::<EndpointSlice>::namespaced(cluster.client(), namespace);
    let EndpointSlice { metadata: _, endpoints, ports } =
        within(deadline, api.get(name)).await.map_err(GateError::Addresses)?;
    let port = ports.iter().find_map(|port| port.port).ok_or(GateError::Addresses(Trouble::Malformed))?;
    Ok((endpoints.into_iter().flat_map(|endpoint| endpoint.addresses).collect(), port))
}

/// Asks all addresses at once but the target's own, which proves nothing and may be the one that hangs.
async fn answered(
    cluster: &Cluster,
    target: &str,
    servers: Vec<ServerSeen>,
    (addresses, port): (BTreeSet<String>, u16),
    deadline: Instant,
) -> GateSeen {
    let own = servers.iter().find(|server| server.name == target);
    let (own, others): (Vec<String>, Vec<String>) =
        addresses.into_iter().partition(|address| own.is_some_and(|own| own.addresses.contains(address)));
    let asked = others.into_iter().map(|address| async move {
        let answer = readyz(cluster, &authority(&address, port), deadline).await;
        AddressSeen { address, answer: answer.map_err(Unwell::into_words) }
    });
    let mut answers = join_all(asked).await;
    let unasked = |address| AddressSeen { address, answer: Err("was not asked".to_owned()) };
    answers.extend(own.into_iter().map(unasked));
    GateSeen { servers, answers }
}

/// What an API server does instead of being well.
enum Unwell {
    /// It is there, and does not know us.
    Refuses(String),
    /// It is not well, or not there.
    Fails(String),
}

impl Unwell {
    fn into_words(self) -> String {
        match self {
            Self::Refuses(why) | Self::Fails(why) => why,
        }
    }
}

async fn readyz(cluster: &Cluster, authority: &str, deadline: Instant) -> Result<(), Unwell> {
    match timeout_at(deadline, cluster.ask_at(authority, "/readyz")).await {
        Ok(Ok(200)) => Ok(()),
        Ok(Ok(status @ (401 | 403))) => Err(Unwell::Refuses(format!("refuses our token ({status})"))),
        Ok(Ok(status)) => Err(Unwell::Fails(format!("answers {status} to /readyz"))),
        Ok(Err(Trouble::Unreachable(why))) => Err(Unwell::Fails(format!("does not answer ({why})"))),
        Ok(Err(trouble)) => Err(Unwell::Fails(format!("does not answer ({trouble})"))),
        Err(_) => Err(Unwell::Fails("does not answer in time".to_owned())),
    }
}

async fn within<T>(deadline: Instant, request: impl Future<Output = kube::Result<T>>) -> Result<T, Trouble> {
    match timeout_at(deadline, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Trouble::from(&error)),
        Err(_) => Err(Trouble::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};

    use agent_core::fleet::gate::{Purpose, judge};
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

    use super::*;
    use crate::cluster::client::Source;
    use crate::cluster::fake::{Answer as Answers, Counts, Fake};

    const SLICE_PATH: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";

    fn node(address: &str, labels: &[&str]) -> Value {
        let labels: BTreeMap<&str, &str> = labels.iter().map(|label| (*label, "true")).collect();
        json!({"metadata": {"labels": labels}, "status": {
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": "x"}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"},
                {"type": "EtcdIsVoter", "status": "True", "reason": "MemberNotLearner"}]}})
    }

    fn slice(addresses: &[&str], port: u16) -> Value {
        let endpoints: Vec<Value> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
        json!({"addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "https", "port": port}]})
    }

    /// s1 to s3, and a worker.
    fn three() -> (Fake, Arc<Counts>, Cluster) {
        let (fake, counts) = (Fake::default(), Arc::new(Counts::default()));
        for at in 1..=3 {
            let labels = [CONTROL_PLANE_LABEL, ETCD_LABEL];
            fake.put(&format!("/api/v1/nodes/s{at}"), node(&format!("10.0.0.{at}"), &labels));
            fake.always(&format!("GET https://10.0.0.{at}:6443/readyz"), Some(Answers::Text("ok".into())));
        }
        fake.put("/api/v1/nodes/w1", node("10.0.0.9", &[]));
        fake.put(SLICE_PATH, slice(&["10.0.0.1", "10.0.0.2", "10.0.0.3"], 6443));
        let cluster = fake.cluster(counts.clone());
        (fake, counts, cluster)
    }

    async fn asked(cluster: &Cluster) -> Result<(), String> {
        judge(&ask(cluster, "s1").await.map_err(|error| error.to_string())?.0, "s1", Purpose::Change)
    }

    #[tokio::test(start_paused = true)]
    async fn three_requests_and_each_other_address_once() {
        let (fake, _, cluster) = three();
        assert_eq!(asked(&cluster).await, Ok(()));
        let mut requests = fake.requests();
        requests.sort();
        let expected = [
            "GET /api/v1/nodes",
            "GET /api/v1/nodes",
            &format!("GET {SLICE_PATH}"),
            "GET https://10.0.0.2:6443/readyz",
            "GET https://10.0.0.3:6443/readyz",
        ];
        assert_eq!(requests, expected, "its own address is not asked");
    }

    #[tokio::test(start_paused = true)]
    async fn an_etcd_member_without_an_api_server_is_seen_and_a_worker_is_not() {
        let (fake, _, cluster) = three();
        fake.put("/api/v1/nodes/e1", node("10.0.0.7", &[ETCD_LABEL]));
        let (seen, port) = ask(&cluster, "s1").await.unwrap();
        assert_eq!(port, 6443);
        let names: Vec<&str> = seen.servers.iter().map(|server| server.name.as_str()).collect();
        assert_eq!(names, ["e1", "s1", "s2", "s3"]);
        assert!(!seen.servers[0].is_control_plane && seen.servers[1].is_control_plane);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_asked_is_no_consent() {
        for (request, answer) in [
            ("GET /api/v1/nodes".to_owned(), Answers::Status(403)),
            ("GET /api/v1/nodes".to_owned(), Answers::Hang),
            (format!("GET {SLICE_PATH}"), Answers::Status(404)),
            (format!("GET {SLICE_PATH}"), Answers::Text(json!({"metadata": {}, "endpoints": []}).to_string())),
            ("GET https://10.0.0.3:6443/readyz".to_owned(), Answers::Status(500)),
            ("GET https://10.0.0.3:6443/readyz".to_owned(), Answers::Status(401)),
            ("GET https://10.0.0.3:6443/readyz".to_owned(), Answers::Hang),
        ] {
            let (fake, _, cluster) = three();
            fake.always(&request, Some(answer.clone()));
            let begun = Instant::now();
            let why = asked(&cluster).await.unwrap_err();
            assert!(begun.elapsed() <= LIMIT, "{:?}", begun.elapsed());
            assert!(why.contains("cannot") || why.contains("s3 (10.0.0.3)"), "{request} {answer:?}: {why}");
            assert!(fake.requests().iter().filter(|asked| **asked == request).count() <= 2, "it was asked again");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_coordinator_asks_for_the_addresses_alone() {
        let (fake, _, cluster) = three();
        let known = ask(&cluster, "s2").await.unwrap().0.servers;
        let before = fake.requests().len();
        let seen = ask_addresses(&cluster, "s2", known).await.unwrap();
        assert_eq!(judge(&seen, "s2", Purpose::Change), Ok(()));
        assert_eq!(fake.requests().len() - before, 3, "the slice and two addresses");
    }

    #[tokio::test(start_paused = true)]
    async fn the_others_are_asked_again_at_their_own_addresses_and_nobody_else_is() {
        let (fake, _, cluster) = three();
        let other = |name: &str, at: u8| OtherServer { name: name.into(), authority: format!("10.0.0.{at}:6443") };
        let others = [other("s1", 1), other("s2", 2), other("s3", 3), other("", 4)];
        fake.always("GET https://10.0.0.1:6443/readyz", Some(Answers::Status(500)));
        fake.always("GET https://10.0.0.2:6443/readyz", Some(Answers::Hang));
        fake.always("GET https://10.0.0.3:6443/readyz", Some(Answers::Status(401)));
        fake.always("GET https://10.0.0.4:6443/readyz", Some(Answers::Text("ok".into())));
        let begun = Instant::now();
        let answers = ask_others(&cluster, &others).await;
        assert!(begun.elapsed() <= LIMIT);
        assert_eq!(answers.iter().map(|(other, _)| other).collect::<Vec<_>>(), others.iter().collect::<Vec<_>>());
        let answers: Vec<Answer> = answers.into_iter().map(|(_, answer)| answer).collect();
        let expected = [
            Answer::Failed("answers 500 to /readyz".into()),
            Answer::Failed("does not answer in time".into()),
            Answer::Unknown("refuses our token (401)".into()),
            Answer::Passed,
        ];
        assert_eq!(answers, expected);
        assert!(fake.requests().iter().all(|request| request.ends_with("/readyz")), "{:?}", fake.requests());
    }

    type Ca = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Ca {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// An API server at this address, with a certificate of this authority for that name. Notes the tokens it was shown.
    async fn serve(
        tasks: &mut JoinSet<()>,
        at: SocketAddr,
        name: &str,
        ca: &Ca,
        seen: &Arc<Mutex<Vec<String>>>,
    ) -> u16 {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, ca).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(at).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = seen.clone();
        tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client that does not trust us ends the handshake.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let token = request.lines().find_map(|line| line.strip_prefix("authorization: Bearer "));
                seen.lock().unwrap().push(token.unwrap_or("none").to_owned());
                assert!(request.starts_with("GET /readyz HTTP/1.1\r\n"), "{request}");
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                let _ = stream.shutdown().await;
            }
        });
        port
    }

    #[tokio::test]
    async fn a_server_is_believed_only_with_a_certificate_of_the_clusters_authority_for_its_own_address() {
        let (ca, stranger) = (authority(), authority());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let port = serve(&mut tasks, "127.0.0.1:0".parse().unwrap(), "127.0.0.1", &ca, &seen).await;
        let at = |address: &str| SocketAddr::new(address.parse().unwrap(), port);
        serve(&mut tasks, at("127.0.0.2"), "127.0.0.2", &stranger, &seen).await;
        serve(&mut tasks, at("127.0.0.3"), "127.0.0.1", &ca, &seen).await;

        let fake = Fake::default();
        fake.put(SLICE_PATH, slice(&["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"], port));
        let address = fake.serve(&mut tasks).await;
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            let mut file = tempfile::NamedTempFile::new_in(directory.path()).unwrap();
            std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
            file.persist(&path).unwrap();
            path
        };
        let token = write("token", "first");
        let config = write(
            "config",
            &json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "c",
                "clusters": [{"name": "c", "cluster": {
                    "server": format!("http://{address}"), "certificate-authority": write("ca", &ca.pem())}}],
                "users": [{"name": "u", "user": {"tokenFile": token}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            })
            .to_string(),
        );
        let source = Source::Kubeconfig(Some(config));
        let cluster = Cluster::connect(&source, "k3s-registry-agent", Arc::new(Counts::default())).await.unwrap();

        let answers = ask_addresses(&cluster, "s1", Vec::new()).await.unwrap().answers;
        let words: Vec<_> = answers.iter().map(|seen| seen.answer.clone().err().unwrap_or_default()).collect();
        assert_eq!(words[0], "");
        assert!(words[1].contains("invalid peer certificate"), "{words:?}");
        assert!(words[2].contains("invalid peer certificate"), "{words:?}");
        assert!(words[3].contains("refused"), "{words:?}");
        assert_eq!(*seen.lock().unwrap(), ["first"], "nobody else was shown the token");

        write("token", "second");
        ask_addresses(&cluster, "s1", Vec::new()).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), ["first", "second"], "a rotated token is read anew");
    }
}

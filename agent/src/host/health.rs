//! The checks that a node answers by itself: containerd, kubelet, etcd, and on an agent its supervisor.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use agent_core::node::evidence::Answer;
use agent_core::node::evidence::Check;
use agent_core::node::evidence::Evidence;
use agent_core::node::observed::Installation;
use agent_core::node::observed::Role;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::command::Commands;
use super::crictl::Crictl;
use super::crictl::KILLED;
use super::root::Root;

const LIMIT: Duration = Duration::from_secs(3);
const CRICTL: Duration = Duration::from_secs(8);
const ETCD: &str = "127.0.0.1:2381";
const LONGEST: u64 = 4 << 20;

/// Asks all of them at once; each has its own short deadline.
pub async fn evidence(root: &Root, commands: &Commands, installation: &Installation) -> Evidence {
    let (containerd, kubelet, etcd, leader, supervisor) = tokio::join!(
        containerd(root, commands, installation),
        kubelet("127.0.0.1:10248"),
        async {
            match installation.has_etcd {
                true => etcd(ETCD).await,
                false => Answer::NotApplicable,
            }
        },
        async {
            match installation.has_etcd {
                true => etcd_leader(ETCD).await,
                false => Answer::NotApplicable,
            }
        },
        async {
            match installation.role {
                Role::Agent => supervisor(root, &installation.data_dir, "127.0.0.1:6444").await,
                Role::Server => Answer::NotApplicable,
            }
        },
    );
    Evidence::from([
        (Check::Containerd, containerd),
        (Check::Kubelet, kubelet),
        (Check::Etcd, etcd),
        (Check::EtcdLeader, leader),
        (Check::Supervisor, supervisor),
    ])
}

async fn containerd(root: &Root, commands: &Commands, installation: &Installation) -> Answer {
    let crictl = match Crictl::find(root, commands, installation) {
        Ok(crictl) => crictl,
        Err(why) => return Answer::Unknown(why),
    };
    match crictl.ask(&["version"], CRICTL).await {
        Ok(output) if output.code == Some(0) => Answer::Passed,
        Ok(output) if output.was_killed() => Answer::Unknown(KILLED.to_owned()),
        Ok(_) => Answer::Failed("containerd does not answer crictl".to_owned()),
        Err(error) => Answer::Unknown(error.to_string()),
    }
}

async fn kubelet(address: &str) -> Answer {
    match get(address, "/healthz").await {
        Ok((200, _)) => Answer::Passed,
        Ok((status, _)) => Answer::Failed(format!("kubelet answers {status}")),
        Err(error) => Answer::Failed(format!("kubelet does not answer on {address}: {error}")),
    }
}

async fn etcd(address: &str) -> Answer {
    match get(address, "/health").await {
        Ok((200, body)) if says_healthy(&body) => Answer::Passed,
        Ok((200, _)) => Answer::Failed("etcd says that it is not healthy".to_owned()),
        Ok((status, _)) => Answer::Failed(format!("etcd answers {status}")),
        Err(error) => Answer::Failed(format!("etcd does not answer on {address}: {error}")),
    }
}

/// `{"health":"true","reason":""}`.
fn says_healthy(body: &str) -> bool {
    let answer: Option<serde_json::Value> = serde_json::from_str(body).ok();
    answer.is_some_and(|answer| answer["health"] == "true" || answer["health"] == true)
}

/// A member that does not answer may have a leader or not: that is unknown, and [`Check::Etcd`] has failed by then.
async fn etcd_leader(address: &str) -> Answer {
    match get(address, "/metrics").await {
        Ok((200, text)) => member(&text),
        Ok((status, _)) => Answer::Unknown(format!("etcd's metrics answer {status}")),
        Err(error) => Answer::Unknown(format!("etcd's metrics do not answer: {error}")),
    }
}

/// What etcd's metrics say of its place in the cluster.
fn member(metrics: &str) -> Answer {
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse::<f64>().ok())
    };
    match (value("etcd_server_has_leader"), value("etcd_server_is_learner")) {
        (None, _) => Answer::Unknown("etcd does not say whether it has a leader".to_owned()),
        (Some(leader), _) if leader < 1.0 => Answer::Failed("etcd has no leader".to_owned()),
        (Some(_), Some(learner)) if learner >= 1.0 => {
            Answer::Failed("this etcd member is a learner and has no vote".to_owned())
        }
        (Some(_), _) => Answer::Passed,
    }
}

async fn supervisor(root: &Root, data_dir: &str, address: &str) -> Answer {
    let path = format!("{data_dir}/agent/server-ca.crt");
    let config = match root.read(&path, LONGEST) {
        Ok(Some(pem)) => trust(&pem),
        Ok(None) => return Answer::Unknown(format!("there is no {path} to verify the supervisor with")),
        Err(error) => return Answer::Unknown(format!("{path} cannot be read: {error}")),
    };
    let Some(config) = config else { return Answer::Unknown(format!("{path} holds no certificate")) };
    match tokio::time::timeout(LIMIT, get_tls(config, address, "/ping")).await {
        Ok(Ok((200, _))) => Answer::Passed,
        Ok(Ok((status, _))) => Answer::Failed(format!("the supervisor answers {status}")),
        Ok(Err(error)) => Answer::Failed(format!("the supervisor does not answer: {error}")),
        Err(_) => Answer::Failed("the supervisor does not answer in time".to_owned()),
    }
}

fn trust(pem: &[u8]) -> Option<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(Result::ok));
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().ok()?;
    (added > 0).then(|| builder.with_root_certificates(roots).with_no_client_auth())
}

async fn get_tls(config: ClientConfig, address: &str, path: &str) -> io::Result<(u16, String)> {
    let stream = TcpStream::connect(address).await?;
    let name = address.rsplit_once(':').map_or(address, |(host, _)| host).to_owned();
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    request(TlsConnector::from(Arc::new(config)).connect(name, stream).await?, address, path).await
}

async fn get(address: &str, path: &str) -> io::Result<(u16, String)> {
    let asked = async { request(TcpStream::connect(address).await?, address, path).await };
    tokio::time::timeout(LIMIT, asked).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// HTTP/1.0, so that the answer ends with the connection and never comes in chunks.
async fn request(mut stream: impl AsyncRead + AsyncWrite + Unpin, host: &str, path: &str) -> io::Result<(u16, String)> {
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    let read = stream.take(LONGEST).read_to_end(&mut answer).await;
    // Some servers close a TLS connection without saying so; what came is the whole answer then.
    if let Err(error) = read
        && error.kind() != io::ErrorKind::UnexpectedEof
    {
        return Err(error);
    }
    let text = String::from_utf8_lossy(&answer);
    let status = text.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    let status = status.filter(|_| text.starts_with("HTTP/")).ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, text.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use agent_core::node::discovery::without_service;
    use tokio::net::TcpListener;

    use super::*;

    async fn answering(text: &'static str, ask: impl AsyncFnOnce(String) -> Answer) -> Answer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serve = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        };
        tokio::select! { answer = ask(address) => answer, () = serve => unreachable!() }
    }

    /// A host with a k3s that is this script.
    fn host(path: &str, script: &str) -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = std::fs::OpenOptions::new();
        let mut file = file.write(true).create(true).mode(0o755).open(path).unwrap();
        std::io::Write::write_all(&mut file, format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
        temp
    }

    async fn asked(temp: &tempfile::TempDir, installation: &Installation) -> Answer {
        containerd(&Root::open(temp.path()).unwrap(), &Commands::scripted(temp.path()), installation).await
    }

    #[tokio::test]
    async fn crictl_is_that_of_the_k3s_that_the_unit_starts_and_knows_its_data_directory() {
        let script = "[ \"$K3S_DATA_DIR $1 $4\" = \"/srv/k3s crictl version\" ]";
        let temp = host("/opt/own/k3s", script);
        let mut installation = Installation { data_dir: "/srv/k3s".into(), ..without_service() };
        assert!(matches!(asked(&temp, &installation).await, Answer::Unknown(_)));
        installation.executable = "/opt/own/k3s".into();
        assert_eq!(asked(&temp, &installation).await, Answer::Passed);
        installation.data_dir = "/other".into();
        assert_eq!(asked(&temp, &installation).await, Answer::Failed("containerd does not answer crictl".to_owned()));
        // One that was replaced on the disk is looked for where k3s usually is.
        let usual = host("/usr/local/bin/k3s", "exit 0");
        assert_eq!(asked(&usual, &installation).await, Answer::Passed);
    }

    #[tokio::test]
    async fn a_crictl_that_was_killed_says_nothing_of_containerd() {
        // By itself, and below a shell, which makes a number of the signal.
        for script in ["kill -9 $$", "sh -c 'kill -9 $$'"] {
            let temp = host("/usr/local/bin/k3s", script);
            assert_eq!(asked(&temp, &without_service()).await, Answer::Unknown(KILLED.to_owned()), "{script}");
        }
        let temp = host("/usr/local/bin/k3s", "exit 1");
        assert!(matches!(asked(&temp, &without_service()).await, Answer::Failed(_)));
    }

    #[tokio::test]
    async fn a_kubelet_passes_only_with_200() {
        let ask = async |address: String| kubelet(&address).await;
        assert_eq!(answering("HTTP/1.1 200 OK\r\n\r\nok", ask).await, Answer::Passed);
        let failed = Answer::Failed("kubelet answers 500".to_owned());
        assert_eq!(answering("HTTP/1.1 500 x\r\n\r\n", async |address: String| kubelet(&address).await).await, failed);
        assert!(matches!(kubelet("127.0.0.1:1").await, Answer::Failed(_)));
    }

    #[tokio::test]
    async fn an_etcd_that_answers_health_passes_whatever_its_metrics_say() {
        let ask = async |address: String| etcd(&address).await;
        assert_eq!(
            answering("HTTP/1.1 200 OK\r\n\r\n{\"health\":\"true\",\"reason\":\"\"}", ask).await,
            Answer::Passed
        );
        let ill = Answer::Failed("etcd says that it is not healthy".to_owned());
        assert_eq!(answering("HTTP/1.1 200 OK\r\n\r\n{\"health\":\"false\"}", ask).await, ill);
        let failed = Answer::Failed("etcd answers 503".to_owned());
        assert_eq!(answering("HTTP/1.1 503 x\r\n\r\n{\"health\":\"false\"}", ask).await, failed);
        assert!(matches!(etcd("127.0.0.1:1").await, Answer::Failed(_)));
    }

    #[tokio::test]
    async fn metrics_that_do_not_answer_leave_the_leader_unknown() {
        let ask = async |address: String| etcd_leader(&address).await;
        let led = "HTTP/1.1 200 OK\r\n\r\netcd_server_has_leader 1\netcd_server_is_learner 0\n";
        assert_eq!(answering(led, ask).await, Answer::Passed);
        assert!(matches!(answering("HTTP/1.1 404 x\r\n\r\n", ask).await, Answer::Unknown(_)));
        assert!(matches!(etcd_leader("127.0.0.1:1").await, Answer::Unknown(_)));
    }

    #[test]
    fn etcd_without_a_leader_fails_and_a_learner_is_named() {
        let with =
            |leader, learner| format!("# x\netcd_server_has_leader {leader}\netcd_server_is_learner {learner}\n");
        assert_eq!(member(&with(1, 0)), Answer::Passed);
        assert_eq!(member(&with(0, 0)), Answer::Failed("etcd has no leader".to_owned()));
        let Answer::Failed(why) = member(&with(1, 1)) else { panic!("a learner has no vote") };
        assert!(why.contains("learner"), "{why}");
        assert!(matches!(member(""), Answer::Unknown(_)));
    }

    #[tokio::test]
    async fn only_an_etcd_member_is_asked_for_its_leader() {
        let temp = tempfile::tempdir().unwrap();
        let (root, commands) = (Root::open(temp.path()).unwrap(), Commands::scripted(temp.path()));
        let agent = without_service();
        let seen = evidence(&root, &commands, &agent).await;
        assert_eq!((&seen[&Check::Etcd], &seen[&Check::EtcdLeader]), (&Answer::NotApplicable, &Answer::NotApplicable));
        let server = Installation { role: Role::Server, has_etcd: true, ..agent };
        let seen = evidence(&root, &commands, &server).await;
        assert_ne!(seen[&Check::Etcd], Answer::NotApplicable);
        assert_ne!(seen[&Check::EtcdLeader], Answer::NotApplicable);
    }

    /// A supervisor behind TLS, with a certificate for the loopback address that `ca` signs; what it answers.
    async fn behind_tls(ca: &rcgen::Issuer<'_, rcgen::KeyPair>, trusted: &str, answer: &'static str) -> Answer {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("d/agent")).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test plays k3s")]
        std::fs::write(temp.path().join("d/agent/server-ca.crt"), trusted).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, ca).unwrap();
        let key = tokio_rustls::rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let builder = tokio_rustls::rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serve = async {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut asked = [0; 1024];
                let length = stream.read(&mut asked).await.unwrap();
                assert!(asked[..length].starts_with(b"GET /ping HTTP/1.0\r\n"));
                stream.write_all(answer.as_bytes()).await.unwrap();
                // The connection ends without a word, as some servers' do.
                stream.flush().await.unwrap();
            }
        };
        let root = Root::open(temp.path()).unwrap();
        tokio::select! { answer = supervisor(&root, "/d", &address) => answer, () = serve => unreachable!() }
    }

    #[tokio::test]
    async fn a_supervisor_passes_only_behind_the_clusters_own_certificate() {
        let ca = || {
            let mut params = rcgen::CertificateParams::default();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let key = rcgen::KeyPair::generate().unwrap();
            let pem = params.self_signed(&key).unwrap().pem();
            (rcgen::Issuer::new(params, key), pem)
        };
        let ((ours, our_pem), (other, _)) = (ca(), ca());
        let pong = "HTTP/1.0 200 OK\r\n\r\npong";
        assert_eq!(behind_tls(&ours, &our_pem, pong).await, Answer::Passed);
        let failed = Answer::Failed("the supervisor answers 503".to_owned());
        assert_eq!(behind_tls(&ours, &our_pem, "HTTP/1.0 503 x\r\n\r\n").await, failed);
        let Answer::Failed(why) = behind_tls(&other, &our_pem, pong).await else { panic!("it is trusted") };
        assert!(why.starts_with("the supervisor does not answer: "), "{why}");
    }

    #[tokio::test]
    async fn a_supervisor_that_cannot_be_verified_is_unknown() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::open(temp.path()).unwrap();
        assert!(matches!(supervisor(&root, "/d", "127.0.0.1:1").await, Answer::Unknown(_)));
    }
}

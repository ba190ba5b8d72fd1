use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;

use agent_core::preflight::{Kind, Proxy, targets};
use agent_core::registries::on_disk::{self, OnDisk};
use agent_core::runtime::settings::{Program, Settings};
use agent_core::secret::Secret;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::*;

const USER: &str = "canary-user";
const PASSWORD: &str = "canary-pass-word";
const API: &str = "Docker-Distribution-Api-Version: registry/2.0\r\n";

/// PEM of a certificate and its key.
#[derive(Clone)]
struct Pair {
    certificate: String,
    key: String,
}

/// A CA.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    fn plain(&self) -> Pair {
        self.sign(|_| {})
    }
}

fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Pair {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    Pair { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

fn acceptor(pair: &Pair, clients: Option<&str>) -> TlsAcceptor {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
}

/// What a server answers to a request's text; `None` is silence.
type Script = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Servers on loopback, which live as long as this.
#[derive(Default)]
struct Servers {
    tasks: JoinSet<()>,
}

/// One of them, and what it was asked.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Servers {
    async fn add(
        &mut self,
        tls: Option<TlsAcceptor>,
        script: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let (asked, script): (_, Script) = (server.asked.clone(), Arc::new(script));
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, asked, script) = (tls.clone(), asked.clone(), script.clone());
                connections.spawn(async move {
                    match tls {
                        None => converse(stream, &asked, &script).await,
                        Some(tls) => {
                            match tls.accept(stream).into_fallible().await {
                                Ok(stream) => converse(stream, &asked, &script).await,
                                // Closed only when the other side has read the alert: unread data would reset.
                                Err((_, mut stream)) => {
                                    let _ = stream.shutdown().await;
                                    while matches!(stream.read(&mut [0; 999]).await, Ok(1..)) {}
                                }
                            }
                        }
                    }
                });
            }
        });
        server
    }
}

async fn converse(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, asked: &Mutex<Vec<String>>, script: &Script) {
    let mut read = Vec::new();
    let mut piece = [0; 4096];
    let request = loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0_usize) {
                break text;
            }
        }
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(count) => read.extend_from_slice(&piece[..count]),
        }
    };
    asked.lock().unwrap().push(request.clone());
    match script(&request) {
        Some(answer) => {
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        None => std::future::pending().await,
    }
}

fn answer(status: &str, headers: &str, body: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()))
}

fn open(_: &str) -> Option<String> {
    answer("200 OK", API, "{}")
}

fn is_right(request: &str) -> bool {
    // base64 of canary-user:canary-pass-word
    request.contains("Y2FuYXJ5LXVzZXI6Y2FuYXJ5LXBhc3Mtd29yZA==")
}

/// A registry that takes user and password.
fn basic(request: &str) -> Option<String> {
    match is_right(request) {
        true => answer("200 OK", API, "{}"),
        false => answer("401 Unauthorized", &format!("WWW-Authenticate: Basic realm=\"x\"\r\n{API}"), ""),
    }
}

/// What one run shows, in every way in which it can be shown.
struct Shown {
    report: Report,
    logs: String,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn probe_within(text: &str, files: &[(&str, &str)], limits: &Limits, ground: &Ground) -> Shown {
    let OnDisk::Read(document) = on_disk::read(text.as_bytes()) else { panic!("{text}") };
    let files: BTreeMap<_, _> = files.iter().copied().collect();
    let file = |path: &str| files.get(path).map(|text| Secret::new(text.as_bytes().to_vec()));
    let settings = Settings { disable_default_endpoint: true, ..Settings::plain(Program::K3s) };
    let targets = targets(&document.registries, &settings, &file);
    let log = Log::default();
    let subscriber = {
        let log = log.clone();
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || log.clone()).finish()
    };
    let guard = tracing::subscriber::set_default(subscriber);
    let debug = format!("{targets:?}");
    let report = run(targets, ground, Scope::WHOLE, limits).await;
    drop(guard);
    let logs = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let json = crate::commands::probe::as_json(&report);
    for shown in [&debug, &format!("{report:?}"), &logs, &json.to_string()] {
        assert!(!shown.contains("canary") && !shown.contains("Y2FuYXJ5"), "{shown}");
    }
    Shown { report, logs }
}

async fn probe(text: &str, files: &[(&str, &str)]) -> Report {
    probe_within(text, files, &Limits::default(), &Ground::new(&[], None)).await.report
}

#[track_caller]
fn is(report: &Report, kinds: &[Kind]) {
    let seen: Vec<_> = report.hosts.iter().map(|host| host.verdict.kind).collect();
    assert_eq!(seen, kinds, "{report:#?}");
}

/// A mirror to an https endpoint: the name alone, on this machine with a port, would mean http.
fn with_ca(address: SocketAddr) -> String {
    format!("mirrors: {{n: {{endpoint: ['https://{address}']}}}}\nconfigs: {{'{address}': {{tls: {{ca_file: /ca}}}}}}")
}

fn auth() -> String {
    format!("auth: {{username: {USER}, password: {PASSWORD}}}")
}

#[tokio::test]
async fn a_certificate_is_judged_as_containerd_judges_it() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let is_ca = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let sub_authority = |params: &mut CertificateParams| {
        is_ca(params);
        params.distinguished_name.push(rcgen::DnType::CommonName, "a CA below ours");
    };
    let own = self_signed(is_ca);
    let old = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2010, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    };
    let other_name = |params: &mut CertificateParams| {
        params.subject_alt_names =
            CertificateParams::new(vec!["other.example.com".to_owned()]).unwrap().subject_alt_names;
    };
    let early = |params: &mut CertificateParams| params.not_before = date_time_ymd(2090, 1, 1);
    for (pair, ca, kind) in [
        (ours.plain(), &ours.pem, Kind::Fine),
        (theirs.plain(), &ours.pem, Kind::TlsUntrusted),
        (ours.sign(other_name), &ours.pem, Kind::TlsWrongName),
        (ours.sign(old), &ours.pem, Kind::TlsExpired),
        (ours.sign(early), &ours.pem, Kind::TlsNotYetValid),
        (self_signed(|_| {}), &ours.pem, Kind::TlsUntrusted),
        // What `openssl req -x509` makes: fine for Go when it is what is trusted, and only then.
        (own.clone(), &own.certificate, Kind::Fine),
        (own.clone(), &ours.pem, Kind::TlsUntrusted),
        (ours.sign(sub_authority), &ours.pem, Kind::TlsUndecided),
    ] {
        let mut servers = Servers::default();
        let server = servers.add(Some(acceptor(&pair, None)), open).await;
        let report = probe(&with_ca(server.address), &[("/ca", ca)]).await;
        is(&report, &[kind]);
        let skips = with_ca(server.address).replace("ca_file: /ca", "insecure_skip_verify: true");
        is(&probe(&skips, &[]).await, &[Kind::Fine]);
    }
    let old_own = self_signed(|params| {
        is_ca(params);
        old(params);
    });
    let other_own = self_signed(|params| {
        is_ca(params);
        other_name(params);
    });
    for (pair, kind) in [(old_own, Kind::TlsExpired), (other_own, Kind::TlsWrongName)] {
        let mut servers = Servers::default();
        let server = servers.add(Some(acceptor(&pair, None)), open).await;
        is(&probe(&with_ca(server.address), &[("/ca", &pair.certificate)]).await, &[kind]);
    }
}

#[tokio::test]
async fn the_names_on_a_proxys_default_certificate_are_shown() {
    let theirs = Authority::new();
    let traefik = theirs.sign(|params| {
        params.subject_alt_names =
            CertificateParams::new(vec!["a1b2.traefik.default".to_owned()]).unwrap().subject_alt_names;
    });
    let mut servers = Servers::default();
    let server = servers.add(Some(acceptor(&traefik, None)), open).await;
    let text = format!(
        "configs: {{'localhost:{0}': {{tls: {{ca_file: /ca}}}}}}\nmirrors: {{n: {{endpoint: ['https://localhost:{0}']}}}}",
        server.address.port()
    );
    let report = probe(&text, &[("/ca", &Authority::new().pem)]).await;
    assert_eq!(report.hosts[0].verdict.kind, Kind::TlsUntrusted);
    assert!(report.hosts[0].verdict.what.ends_with("and is for a1b2.traefik.default"), "{:?}", report.hosts[0].verdict);
    let report = probe(&text, &[("/ca", &theirs.pem)]).await;
    let what = &report.hosts[0].verdict.what;
    assert!(what.ends_with("is for a1b2.traefik.default, not for localhost"), "{what}");
}

#[tokio::test]
async fn the_nodes_own_trust_counts_beside_a_ca() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let mut servers = Servers::default();
    let server = servers.add(Some(acceptor(&ours.plain(), None)), open).await;
    let ground = Ground::new(&[ours.pem.clone().into_bytes(), b"rubbish".to_vec()], None);
    let text = with_ca(server.address);
    let shown = probe_within(&text, &[("/ca", &theirs.pem)], &Limits::default(), &ground).await;
    is(&shown.report, &[Kind::Fine]);
    is(&probe(&text, &[("/ca", "no certificate")]).await, &[Kind::TlsMaterial]);
    is(&probe(&text, &[]).await, &[Kind::TlsMaterial]);
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_a_missing_one_is_named() {
    let (ours, clients) = (Authority::new(), Authority::new());
    let mut servers = Servers::default();
    let server = servers.add(Some(acceptor(&ours.plain(), Some(&clients.pem))), open).await;
    let client = clients.sign(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let text = with_ca(server.address).replace("/ca}", "/ca, cert_file: /c, key_file: /k}");
    let files = [("/ca", ours.pem.as_str()), ("/c", client.certificate.as_str()), ("/k", client.key.as_str())];
    is(&probe(&text, &files).await, &[Kind::Fine]);
    is(&probe(&with_ca(server.address), &files).await, &[Kind::TlsClientCertificate]);
    let stranger = Authority::new().plain();
    let files = [("/ca", ours.pem.as_str()), ("/c", stranger.certificate.as_str()), ("/k", stranger.key.as_str())];
    is(&probe(&text, &files).await, &[Kind::TlsClientCertificate]);
    let mixed = [("/ca", ours.pem.as_str()), ("/c", client.certificate.as_str()), ("/k", stranger.key.as_str())];
    is(&probe(&text, &mixed).await, &[Kind::TlsMaterial]);
}

#[tokio::test]
async fn what_is_no_registry_is_named() {
    let html = "Content-Type: text/html\r\n";
    for (status, headers, kind) in [
        ("404 Not Found", "Server: Caddy\r\n", Kind::ApiNotFound),
        ("404 Not Found", API, Kind::ApiPathUnknown),
        ("200 OK", html, Kind::ApiPage),
        ("502 Bad Gateway", "", Kind::ApiStatus),
        ("429 Too Many Requests", "Retry-After: 7\r\n", Kind::RateLimited),
    ] {
        let mut servers = Servers::default();
        let server = servers.add(None, move |_| answer(status, headers, "")).await;
        is(&probe(&format!("configs: {{'{}': {{tls: {{}}}}}}", server.address), &[]).await, &[kind]);
    }
    let mut servers = Servers::default();
    let server = servers.add(None, |_| Some("SSH-2.0-OpenSSH\r\n".to_owned())).await;
    is(&probe(&format!("configs: {{'{}': {{tls: {{}}}}}}", server.address), &[]).await, &[Kind::ApiSilent]);
}

#[tokio::test]
async fn http_on_https_is_told_apart_from_nonsense() {
    let mut servers = Servers::default();
    // Go answers a handshake in plain text; the script sees no request, so it is answered by hand.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    servers.tasks.spawn(async move {
        for words in ["HTTP/1.0 400 Bad Request\r\n\r\n", "220 mail.example.com ESMTP\r\n"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 9]).await;
            let _ = stream.write_all(words.as_bytes()).await;
            let _ = stream.shutdown().await;
            // Closed only when the other side has read: what is unread would reset the connection.
            while matches!(stream.read(&mut [0; 999]).await, Ok(1..)) {}
        }
    });
    let text = with_ca(address).replace("ca_file: /ca", "insecure_skip_verify: true");
    is(&probe(&text, &[]).await, &[Kind::TlsHttp]);
    // Go takes it for no TLS either.
    let nonsense = probe(&text, &[]).await;
    is(&nonsense, &[Kind::TlsClosed]);
    assert!(nonsense.hosts[0].verdict.what.contains("no TLS on port"), "{nonsense:?}");
}

#[tokio::test]
async fn nobody_there_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    is(&probe(&format!("configs: {{'{address}': {{tls: {{}}}}}}"), &[]).await, &[Kind::Refused]);
    is(&probe("configs: {registry.invalid: {tls: {}}}", &[]).await, &[Kind::NameUnknown]);
}

/// A registry whose realm is elsewhere.
fn bearer(realm: String) -> impl Fn(&str) -> Option<String> + Send + Sync {
    move |request: &str| match request.contains("Bearer canary-token") {
        true => answer("200 OK", API, "{}"),
        false => {
            let challenge = format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"s\"\r\n");
            answer("401 Unauthorized", &format!("{challenge}{API}"), "")
        }
    }
}

fn gitea(request: &str) -> Option<String> {
    match request {
        _ if request.starts_with("POST ") => answer("404 Not Found", "", ""),
        _ if is_right(request) => answer("200 OK", "", r#"{"token":"canary-token"}"#),
        _ => answer("401 Unauthorized", "", PASSWORD),
    }
}

#[tokio::test]
async fn a_realm_with_another_ca_needs_it_in_the_pull_hosts_bundle() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let mut servers = Servers::default();
    let realm = servers.add(Some(acceptor(&theirs.plain(), None)), gitea).await;
    let pull =
        servers.add(Some(acceptor(&ours.plain(), None)), bearer(format!("https://{}/v2/token", realm.address))).await;
    let text = with_ca(pull.address).replace("tls:", &format!("{}, tls:", auth()));
    is(&probe(&text, &[("/ca", &ours.pem)]).await, &[Kind::RealmTls]);
    assert!(realm.asked().is_empty(), "no request before the certificate is accepted");
    let both = format!("{}{}", ours.pem, theirs.pem);
    is(&probe(&text, &[("/ca", &both)]).await, &[Kind::Fine]);
    let asked = realm.asked();
    let form =
        "client_id=containerd-client&service=s&grant_type=password&username=canary-user&password=canary-pass-word";
    assert!(asked[0].starts_with("POST /v2/token HTTP/1.1\r\n") && asked[0].ends_with(form), "{asked:?}");
    assert!(asked[1].starts_with("GET /v2/token?service=s HTTP/1.1\r\n") && is_right(&asked[1]), "{asked:?}");
    assert_eq!((asked.len(), pull.asked().len()), (2, 3));
}

#[tokio::test]
async fn a_redirect_carries_no_credential_elsewhere() {
    let mut servers = Servers::default();
    let other = servers.add(None, basic).await;
    let location = format!("Location: http://{}/v2/\r\n", other.address);
    let first = {
        let location = location.clone();
        servers.add(None, move |_| answer("307 Temporary Redirect", &location, "")).await
    };
    let text = format!("configs: {{'{}': {{{}}}}}", first.address, auth());
    is(&probe(&text, &[]).await, &[Kind::CredentialNotGiven]);
    // The same after the challenge.
    let second = servers.add(None, move |request| match is_right(request) {
        true => answer("307 Temporary Redirect", &location, ""),
        false => basic(request),
    });
    let text = format!("configs: {{'{}': {{{}}}}}", second.await.address, auth());
    is(&probe(&text, &[]).await, &[Kind::ApiRedirect]);
    let asked = other.asked().join("");
    assert!(
        !asked.is_empty() && !asked.contains("Authorization") && !asked.to_lowercase().contains("authorization"),
        "{asked}"
    );
}

#[tokio::test]
async fn a_refused_credential_is_named_by_its_status() {
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let mut servers = Servers::default();
        let server = servers
            .add(None, move |request| match request.to_lowercase().contains("authorization: ") {
                true => answer(status, "", PASSWORD),
                false => basic(request),
            })
            .await;
        let report = probe(&format!("configs: {{'{}': {{{}}}}}", server.address, auth()), &[]).await;
        is(&report, &[Kind::CredentialRefused]);
        assert!(report.has_refusal() && report.has_fault());
    }
}

#[tokio::test]
async fn a_mistyped_credential_is_refused_once_and_another_is_tried() {
    let mut servers = Servers::default();
    let all = [servers.add(None, basic).await, servers.add(None, basic).await, servers.add(None, basic).await];
    let wrong = auth().replace(PASSWORD, "canary-wrong");
    let [a, b, c] = all.each_ref().map(|server| server.address);
    let text = format!("configs: {{'{a}': {{{wrong}}}, '{b}': {{{wrong}}}, '{c}': {{{}}}}}", auth());
    let report = probe(&text, &[]).await;
    let kind = |address: SocketAddr| {
        let host = report.hosts.iter().find(|host| host.url.authority() == address.to_string()).unwrap();
        host.verdict.kind
    };
    let mut kinds = [kind(a), kind(b)];
    kinds.sort();
    assert_eq!((kinds, kind(c)), ([Kind::CredentialRefused, Kind::CredentialWithheld], Kind::Fine));
    let asked = all.iter().flat_map(Server::asked).filter(|text| text.to_lowercase().contains("authorization: "));
    assert_eq!(asked.count(), 2, "one refused, one taken");
}

#[tokio::test]
async fn a_credential_that_was_taken_is_waited_for_by_nobody() {
    let mut servers = Servers::default();
    let realm = servers.add(None, |_| answer("200 OK", "", r#"{"token":"t"}"#)).await.address;
    let mut text = "configs:\n".to_owned();
    for _ in 0..4 {
        // Each has its token at once, and then falls silent.
        let challenge = format!("{API}WWW-Authenticate: Bearer realm=\"http://{realm}/token\"\r\n");
        let script = move |request: &str| match request.contains("Bearer t") {
            true => None,
            false => answer("401 Unauthorized", &challenge, ""),
        };
        text.push_str(&format!("  '{}': {{{}}}\n", servers.add(None, script).await.address, auth()));
    }
    let limits = Limits { host: Duration::from_secs(1), all: Duration::from_secs(9), at_once: 8 };
    let report = probe_within(&text, &[], &limits, &Ground::new(&[], None)).await.report;
    is(&report, &[Kind::ApiSilent; 4]);
    assert!(report.took < Duration::from_millis(2500), "{:?}", report.took);
}

#[tokio::test]
async fn one_slow_registry_delays_no_other() {
    let mut servers = Servers::default();
    let mut text = "configs:\n".to_owned();
    let mut slow = Vec::new();
    for number in 0..6 {
        let server = if number < 2 { servers.add(None, |_| None).await } else { servers.add(None, open).await };
        if number < 2 {
            slow.push(server.address.to_string());
        }
        text.push_str(&format!("  '{}': {{tls: {{}}}}\n", server.address));
    }
    let limits = Limits { host: Duration::from_millis(400), all: Duration::from_secs(5), at_once: 3 };
    let report = probe_within(&text, &[], &limits, &Ground::new(&[], None)).await.report;
    for host in &report.hosts {
        let is_slow = slow.iter().any(|address| address == host.url.authority());
        let expected = if is_slow { Kind::ApiSilent } else { Kind::Fine };
        assert_eq!(host.verdict.kind, expected, "{host:?}");
        assert_eq!(host.took < Duration::from_millis(350), !is_slow, "{host:?}");
    }
    assert!(report.took < Duration::from_millis(1200), "both slow ones at a time: {:?}", report.took);
}

#[tokio::test]
async fn the_time_for_all_is_an_end() {
    let mut servers = Servers::default();
    let mut text = "configs:\n".to_owned();
    for _ in 0..3 {
        text.push_str(&format!("  '{}': {{tls: {{}}}}\n", servers.add(None, |_| None).await.address));
    }
    let limits = Limits { host: Duration::from_secs(9), all: Duration::from_millis(300), at_once: 1 };
    let report = probe_within(&text, &[], &limits, &Ground::new(&[], None)).await.report;
    is(&report, &[Kind::NotAsked; 3]);
    assert!(report.took < Duration::from_secs(2), "{:?}", report.took);
}

#[tokio::test]
async fn behind_a_proxy_nothing_is_asked_but_what_is_exempt() {
    let mut servers = Servers::default();
    let server = servers.add(None, open).await;
    let ground = Ground::new(&[], Proxy::read(["HTTPS_PROXY=http://u:canary@proxy\nHTTP_PROXY=http://proxy"]));
    let text = format!("configs: {{r.invalid: {{tls: {{}}}}, '{}': {{tls: {{}}}}}}", server.address);
    let report = probe_within(&text, &[], &Limits::default(), &ground).await.report;
    is(&report, &[Kind::Fine, Kind::Proxy]);
    assert_eq!(server.asked().len(), 1, "this machine is never asked through a proxy");
}

#[tokio::test]
async fn an_endless_body_and_many_headers_are_survived() {
    let mut servers = Servers::default();
    let long = "x".repeat(1 << 20);
    let body = servers.add(None, move |_| answer("404 Not Found", "", &long)).await;
    let header = servers.add(None, |_| answer("200 OK", &"X: y\r\n".repeat(5000), "")).await;
    is(&probe(&format!("configs: {{'{}': {{tls: {{}}}}}}", body.address), &[]).await, &[Kind::ApiNotFound]);
    is(&probe(&format!("configs: {{'{}': {{tls: {{}}}}}}", header.address), &[]).await, &[Kind::ApiSilent]);
}

#[tokio::test]
async fn a_run_is_logged_by_host_and_verdict_alone() {
    let mut servers = Servers::default();
    let server = servers.add(None, basic).await;
    let text = format!("configs: {{'{}': {{{}}}}}", server.address, auth());
    let shown = probe_within(&text, &[], &Limits::default(), &Ground::new(&[], None)).await;
    is(&shown.report, &[Kind::Fine]);
    assert!(shown.logs.contains("probed") && shown.logs.contains("verdict=\"fine\""), "{}", shown.logs);
    assert!(is_right(&server.asked().join("")), "the canary was on its way");
}

//! `probe` against a real registry: Docker Registry 2.8 of Debian's package, on loopback.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;
use std::sync::mpsc;
use std::time::Duration;

use common::{Bed, Ran, config_map, put, secret, tool};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;

const USER: &str = "registry-user";
const PASSWORD: &str = "canary-pass-word";
/// `registry-user:canary-pass-word`.
const PACKED: &str = "cmVnaXN0cnktdXNlcjpjYW5hcnktcGFzcy13b3Jk";

/// A running registry; killed at the end.
struct Registry {
    child: Child,
    address: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    /// Starts one in a directory; `http` and `auth` are parts of its configuration.
    fn start(dir: &Path, http: &str, auth: &str) -> Self {
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: 127.0.0.1:0\n{http}{auth}",
            dir.join("storage").display()
        );
        put(&dir.join("config.yml"), text.as_bytes(), 0o600);
        let started = tool("docker-registry").arg("serve").arg(dir.join("config.yml")).spawn();
        let mut child = started.expect("docker-registry is installed (scripts/install-tools.sh docker-registry)");
        let log = BufReader::new(child.stderr.take().unwrap());
        let (said, heard) = mpsc::channel();
        // Read to its end: a full pipe would hold it.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let end = rest.find([',', '"']).unwrap_or(rest.len());
                    let _ = said.send(rest[..end].to_owned());
                }
            }
        });
        let address = heard.recv_timeout(Duration::from_secs(20)).expect("the registry listens");
        Self { child, address }
    }

    /// One that wants user and password.
    fn closed(dir: &Path, http: &str) -> Self {
        let made = tool("htpasswd").args(["-Bbn", USER, PASSWORD]).output();
        let made = made.expect("htpasswd is installed (scripts/install-tools.sh htpasswd)");
        put(&dir.join("htpasswd"), &made.stdout, 0o600);
        let auth = format!("auth: {{htpasswd: {{realm: x, path: {}}}}}\n", dir.join("htpasswd").display());
        Self::start(dir, http, &auth)
    }
}

/// A CA, and beside it in the directory a certificate of it for 127.0.0.1.
fn certificate(dir: &Path) -> String {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let server_key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let server = server.signed_by(&server_key, &Issuer::from_params(&params, &key)).unwrap();
    put(&dir.join("server.crt"), server.pem().as_bytes(), 0o600);
    put(&dir.join("server.key"), server_key.serialize_pem().as_bytes(), 0o600);
    authority
}

fn tls(dir: &Path) -> String {
    format!("  tls: {{certificate: {0}/server.crt, key: {0}/server.key}}\n", dir.display())
}

/// Probes a plain file, with everything logged that can be.
fn probe(bed: &Bed, text: &str) -> Ran {
    bed.earlier(text, 0o600);
    let ran = bed.run(&["--log", "trace", "probe", "--root", "node"]);
    ran.never_says(&["canary", PACKED]);
    let json = bed.run(&["--log", "trace", "probe", "--root", "node", "--output", "json"]);
    json.never_says(&["canary", PACKED]);
    assert_eq!(json.code, ran.code);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    for registry in json["registries"].as_array().unwrap() {
        assert!(ran.stdout.contains(registry["verdict"].as_str().unwrap()), "{registry}");
    }
    ran
}

fn auth(password: &str) -> String {
    format!("auth: {{username: {USER}, password: {password}}}")
}

#[test]
fn an_open_registry_without_tls_is_fine_by_http_and_named_by_https() {
    let bed = Bed::new();
    let registry = Registry::start(&bed.path().join("registry"), "", "");
    let at = &registry.address;
    let name = "registry.gitea.svc.cluster.local:5000";
    // The name means nothing to the node, and need not: its endpoint does.
    probe(&bed, &format!("mirrors: {{'{name}': {{endpoint: ['http://{at}']}}}}"))
        .says(0, &["asks for no credential", "away", "(fallback)"]);
    let https = format!("mirrors: {{n.invalid: {{endpoint: ['https://{at}']}}}}");
    let skips = format!("{https}\nconfigs: {{'{at}': {{tls: {{insecure_skip_verify: true}}}}}}");
    for text in [https, skips] {
        probe(&bed, &text).says(4, &["tls-http", "server gave HTTP response to HTTPS client", "does not help"]);
    }
}

#[test]
fn a_password_is_taken_or_refused_and_looked_up_by_host_and_port() {
    let bed = Bed::new();
    let registry = Registry::closed(&bed.path().join("registry"), "");
    let at = &registry.address;
    let mirror = format!("mirrors: {{n.invalid: {{endpoint: ['http://{at}']}}}}\nconfigs:");
    probe(&bed, &format!("{mirror} {{'{at}': {{{}}}}}", auth(PASSWORD))).says(0, &["fine", "takes the credential"]);
    probe(&bed, &format!("{mirror} {{'{at}': {{auth: {{auth: {PACKED}}}}}}}")).says(0, &["takes the credential"]);
    let wrong = probe(&bed, &format!("{mirror} {{'{at}': {{{}}}}}", auth("canary-wrong")));
    wrong.says(4, &["credential-refused", "401", "correct or renew it"]);
    for under in ["n.invalid", "127.0.0.1"] {
        let text = format!("{mirror} {{'{under}': {{{}}}}}", auth(PASSWORD));
        bed.earlier(&text, 0o600);
        let ran = bed.run(&["probe", "--root", "node"]);
        assert!(ran.stdout.contains("credential-not-given"), "{}", ran.stdout);
    }
}

#[test]
fn a_credential_that_was_kept_back_is_shown_as_not_sent() {
    let bed = Bed::new();
    let (one, other) = (Registry::closed(&bed.path().join("one"), ""), Registry::closed(&bed.path().join("other"), ""));
    let wrong = auth("canary-wrong");
    let text = format!(
        "mirrors: {{a.invalid: {{endpoint: ['http://{0}']}}, b.invalid: {{endpoint: ['http://{1}']}}}}\n\
         configs: {{'{0}': {{{wrong}}}, '{1}': {{{wrong}}}}}",
        one.address, other.address
    );
    let shown = probe(&bed, &text);
    shown.says(4, &["credential-refused", "credential-withheld", "has just refused the same credential"]);
    // Which of the two is asked first is nobody's promise.
    let row = shown.stdout.lines().find(|line| line.contains("credential-withheld")).unwrap();
    let kept = if row.contains(&one.address) { &one.address } else { &other.address };
    shown.says(4, &[&format!("GET /v2/ again {kept} not sent, the credential is kept back")]);
    assert!(!shown.stdout.contains("0ms failed") && !shown.stdout.contains("failed 0ms"), "{}", shown.stdout);
    let json = bed.run(&["probe", "--root", "node", "--output", "json"]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    let ends = |verdict: &str| {
        let all = json["registries"].as_array().unwrap();
        let of = all.iter().find(|registry| registry["verdict"] == verdict).unwrap();
        let last = of["steps"].as_array().unwrap().last().unwrap();
        (last["ended"].clone(), last["passed"].clone(), last["status"].clone())
    };
    assert_eq!(ends("credential-withheld"), ("withheld".into(), false.into(), Value::Null));
    assert_eq!(ends("credential-refused"), ("passed".into(), true.into(), 401.into()));
}

#[test]
fn inputs_are_probed_with_the_files_that_they_bring() {
    let bed = Bed::new();
    let dir = bed.path().join("registry");
    let authority = certificate(&dir);
    let registry = Registry::closed(&dir, &tls(&dir));
    let at = registry.address.as_str();
    bed.input("1.yaml", &config_map(&format!("mirrors: {{n.invalid: {{endpoint: ['https://{at}']}}}}")));
    let config = format!(r#"{{"auths": {{"{at}": {{"username": "{USER}", "password": "{PASSWORD}"}}}}}}"#);
    bed.input("2.yaml", &secret("login", "kubernetes.io/dockerconfigjson", None, &[(".dockerconfigjson", &config)]));
    let run = || {
        let ran = bed.run(&["--log", "trace", "probe", "--inputs", "inputs", "--root", "node"]);
        ran.never_says(&["canary", PACKED]);
        ran
    };
    run().says(4, &["tls-untrusted", "signed by unknown authority", "`ca.crt`"]);
    bed.input("3.yaml", &secret("ca", "Opaque", Some(at), &[("ca.crt", &authority)]));
    run().says(0, &["takes the credential", "GET /v2/ again"]);
    bed.input(
        "2.yaml",
        &secret(
            "login",
            "kubernetes.io/dockerconfigjson",
            None,
            &[(".dockerconfigjson", &config.replace(PASSWORD, "canary-mistyped"))],
        ),
    );
    run().says(4, &["credential-refused"]);
    assert!(!bed.file().exists(), "nothing is written");
}

#[test]
fn a_file_that_cannot_be_read_is_refused_and_nobody_is_asked() {
    let bed = Bed::new();
    bed.earlier("mirrors: [", 0o600);
    bed.run(&["probe", "--root", "node"]).says(2, &["refused", "k3s cannot read"]);
    bed.run(&["probe", "--inputs", "inputs"]).says(2, &["no ConfigMap"]);
    bed.run(&["probe", "--file", "missing.yaml", "--root", "node"]).says(1, &["cannot read missing.yaml"]);
    bed.earlier("", 0o600);
    bed.run(&["probe", "--root", "node"]).says(0, &["nobody was asked"]);
}

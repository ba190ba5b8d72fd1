use std::collections::BTreeMap;

use super::*;
use crate::preflight::{NameFault, Names, Outcome, Place, RouteFault, targets};
use crate::registries::on_disk::{self, OnDisk};
use crate::runtime::settings::{Program, Settings};

const PASSWORD: &str = "canary-pass-word";
const USER: &str = "canary-user";
const TOKEN: &str = "canary-token";
const API: (&str, &str) = ("docker-distribution-api-version", "registry/2.0");

/// What a walk meets: by host, whether its certificate is trusted with a CA of that name, and by request an answer.
#[derive(Default)]
struct World {
    /// Hosts whose certificate only their own CA vouches for, and what that is called.
    private: BTreeMap<&'static str, &'static str>,
    replies: BTreeMap<(&'static str, String), Reply>,
    /// Steps that fail, by step and host.
    faults: BTreeMap<(&'static str, &'static str), Answer>,
}

fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Reply {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Reply { status, headers, body: Secret::new(body.into()) }
}

fn key(request: &Request) -> String {
    let method = if request.form.is_some() { "POST" } else { "GET" };
    let with = match &request.authorization {
        None => "",
        Some(value) if value.expose().starts_with("Basic ") => " basic",
        Some(_) => " bearer",
    };
    format!("{method} {}{with}", request.url.request_target().expose())
}

impl World {
    fn on(mut self, host: &'static str, request: &str, reply: Reply) -> Self {
        self.replies.insert((host, request.to_owned()), reply);
        self
    }

    fn fails(mut self, step: &'static str, host: &'static str, answer: Answer) -> Self {
        self.faults.insert((step, host), answer);
        self
    }

    /// Whether a host's certificate is taken with these settings.
    fn secure(&self, host: &str, trust: &crate::preflight::Trust) -> Answer {
        let Some(authority) = self.private.get(host) else { return Answer::Secured };
        let has = trust.ca.iter().any(|bundle| String::from_utf8_lossy(bundle.expose()).contains(authority));
        match trust.skip_verify || has {
            true => Answer::Secured,
            false => Answer::NotSecured(TlsFault::Untrusted(None)),
        }
    }

    fn answer(&self, walk: &Walk) -> Option<Answer> {
        let (step, url) = match walk.step() {
            Step::Resolve(url) => ("resolve", url),
            Step::Connect(url) => ("connect", url),
            Step::Secure(url) => ("tls", url),
            Step::Send(request) => ("send", &request.url),
            Step::Done => return None,
        };
        let fault = self.faults.iter().find(|((at, host), _)| *at == step && *host == url.authority());
        if let Some((_, fault)) = fault {
            return Some(fault.clone());
        }
        Some(match walk.step() {
            Step::Resolve(_) => Answer::Resolved,
            Step::Connect(_) => Answer::Connected,
            Step::Secure(url) => self.secure(url.authority(), &walk.target().trust),
            Step::Send(request) => {
                let found =
                    self.replies.iter().find(|((host, key_), _)| *host == url.authority() && *key_ == key(request));
                Answer::Replied(found.map_or_else(
                    || panic!("nobody expected {} at {}", key(request), url.authority()),
                    |(_, reply)| reply.clone(),
                ))
            }
            Step::Done => return None,
        })
    }

    fn walk(&self, target: Target, scope: Scope) -> HostReport {
        let mut walk = Walk::new(target, scope);
        for _ in 0..60 {
            let Some(answer) = self.answer(&walk) else { return walk.finish(Duration::ZERO) };
            let debug = format!("{walk:?} {answer:?} {:?}", walk.step());
            assert!(!debug.contains("canary"), "{debug}");
            walk.answer(answer, Duration::ZERO);
        }
        panic!("the walk does not end: {walk:?}")
    }

    /// The first target that a file leads to; a CA file holds its own name.
    fn probe(&self, text: &str) -> HostReport {
        let target = target_of(text);
        self.walk(target, Scope::WHOLE)
    }
}

fn target_of(text: &str) -> Target {
    let OnDisk::Read(document) = on_disk::read(text.as_bytes()) else { panic!("{text}") };
    let file = |path: &str| (!matches!(path, "/missing" | "")).then(|| Secret::new(path.into()));
    let made = targets(&document.registries, &Settings::plain(Program::K3s), &file);
    made.into_iter().next().unwrap_or_else(|| panic!("{text}"))
}

/// A registry that is open.
fn anonymous() -> &'static str {
    "configs: {r: {tls: {}}}"
}

fn with_auth() -> String {
    format!("configs: {{r: {{auth: {{username: {USER}, password: {PASSWORD}}}}}}}")
}

fn bearer(realm: &str) -> (String, String) {
    ("www-authenticate".to_owned(), format!(r#"Bearer realm="{realm}",service="s",scope="*""#))
}

fn challenge(realm: &str) -> Reply {
    let (name, value) = bearer(realm);
    reply(401, &[(&name, &value), API], "")
}

fn token() -> Reply {
    reply(200, &[], &format!(r#"{{"token":"{TOKEN}"}}"#))
}

/// A registry whose realm takes no POST, as Gitea.
fn gitea(registry: &'static str, realm: &'static str) -> World {
    World::default()
        .on(registry, "GET /v2/", challenge(&format!("https://{realm}/v2/token")))
        .on(realm, "POST /v2/token", reply(404, &[], ""))
        .on(realm, "GET /v2/token?service=s basic", token())
        .on(realm, "GET /v2/token?service=s", token())
        .on(registry, "GET /v2/ bearer", reply(200, &[API], "{}"))
}

#[track_caller]
fn says(report: &HostReport, kind: Kind, words: &[&str]) {
    let shown = format!("{} {:?}", report.verdict, report.verdict.header);
    assert_eq!(report.verdict.kind, kind, "{shown}");
    for word in words {
        assert!(shown.contains(word), "no {word:?} in {shown}");
    }
    let all = format!("{report:?} {shown}");
    assert!(!all.contains("canary"), "{all}");
    if report.verdict.outcome() == Outcome::Fault {
        assert!(!report.verdict.remedy.is_empty(), "{shown}");
    }
}

fn steps(report: &HostReport) -> Vec<String> {
    report
        .stops
        .iter()
        .filter(|stop| stop.step.contains(' '))
        .map(|stop| format!("{} {}", stop.step, stop.at))
        .collect()
}

// Every row of "Who is asked with what": Gitea behind TLS, its realm on another host, two self-signed certificates.

fn two_hosts() -> World {
    World { private: BTreeMap::from([("pull", "CA-OF-PULL"), ("realm", "CA-OF-REALM")]), ..gitea("pull", "realm") }
}

fn auth() -> String {
    format!("auth: {{username: {USER}, password: {PASSWORD}}}")
}

#[test]
fn each_host_with_skip_verify_and_auth_works() {
    let each = format!("{{tls: {{insecure_skip_verify: true}}, {}}}", auth());
    let report =
        two_hosts().probe(&format!("configs: {{pull: {each}, realm: {each}, older: {each}}}").replace("older", "z"));
    says(&report, Kind::Fine, &["takes the credential"]);
}

#[test]
fn the_pull_host_alone_with_skip_verify_and_auth_works() {
    let report = two_hosts().probe(&format!("configs: {{pull: {{tls: {{insecure_skip_verify: true}}, {}}}}}", auth()));
    says(&report, Kind::Fine, &["takes the credential"]);
    assert_eq!(
        steps(&report),
        ["GET /v2/ pull", "POST token realm", "GET token realm", "GET /v2/ again pull"],
        "the realm is asked with the settings of the pull host"
    );
}

#[test]
fn a_credential_under_the_realms_host_alone_is_not_used() {
    let text = format!("configs: {{pull: {{tls: {{insecure_skip_verify: true}}}}, realm: {{{}}}}}", auth());
    let report = two_hosts().probe(&text);
    says(&report, Kind::Fine, &["anonymous token"]);
    assert_eq!(steps(&report)[1], "GET token realm", "no POST without a credential");
}

#[test]
fn the_pull_hosts_own_ca_does_not_vouch_for_the_realm() {
    let tls = "tls: {ca_file: /CA-OF-PULL}";
    let alone = two_hosts().probe(&format!("configs: {{pull: {{{tls}, {}}}}}", auth()));
    says(&alone, Kind::RealmTls, &["realm", "signed by unknown authority", "settings of pull", "add the realm's CA"]);
    let both = format!("configs: {{pull: {{{tls}, {}}}, realm: {{tls: {{ca_file: /CA-OF-REALM}}}}}}", auth());
    says(&two_hosts().probe(&both), Kind::RealmTls, &["settings of pull"]);
}

#[test]
fn one_bundle_with_both_cas_on_the_pull_host_works() {
    let text = format!("configs: {{pull: {{tls: {{ca_file: /CA-OF-PULL/CA-OF-REALM}}, {}}}}}", auth());
    says(&two_hosts().probe(&text), Kind::Fine, &["takes the credential"]);
}

#[test]
fn a_wrong_password_is_refused_by_the_realm() {
    let world = two_hosts().on("realm", "GET /v2/token?service=s basic", reply(401, &[], PASSWORD));
    let report = world.probe(&format!("configs: {{pull: {{tls: {{insecure_skip_verify: true}}, {}}}}}", auth()));
    says(&report, Kind::CredentialRefused, &["credential of pull is refused", "the token realm realm", "401", "renew"]);
}

#[test]
fn a_mirror_is_asked_with_its_endpoints_credential() {
    let text = format!(
        "mirrors: {{ghcr.io: {{endpoint: ['https://pull']}}}}\nconfigs: {{pull: {{tls: {{insecure_skip_verify: true}}, {}}}}}",
        auth()
    );
    let report = two_hosts().probe(&text);
    says(&report, Kind::Fine, &["takes the credential"]);
    assert_eq!(
        (report.images.as_slice(), report.place),
        (&["ghcr.io".to_owned(), "pull".to_owned()][..], Place::Endpoint)
    );
}

// The same for a registry that speaks HTTP with basic auth on 10.77.0.1:5001.

fn plain() -> World {
    let basic = reply(401, &[("www-authenticate", r#"Basic realm="Registry Realm""#), API], "");
    World::default()
        .on("10.77.0.1:5001", "GET /v2/", basic)
        .on("10.77.0.1:5001", "GET /v2/ basic", reply(200, &[API], "{}"))
        .fails("tls", "10.77.0.1:5001", Answer::NotSecured(TlsFault::HttpSpoken))
}

#[test]
fn basic_auth_is_looked_up_by_the_endpoints_host_and_port_alone() {
    let mirror = "mirrors: {NAME: {endpoint: ['http://10.77.0.1:5001']}}";
    for (under, kind) in
        [("10.77.0.1:5001", Kind::Fine), ("NAME", Kind::CredentialNotGiven), ("10.77.0.1", Kind::CredentialNotGiven)]
    {
        let report = plain().probe(&format!("{mirror}\nconfigs: {{'{under}': {{{}}}}}", auth()));
        says(&report, kind, &[]);
    }
    let itself = "mirrors: {'10.77.0.1:5001': {endpoint: ['http://10.77.0.1:5001']}}";
    says(&plain().probe(&format!("{itself}\nconfigs: {{'10.77.0.1:5001': {{{}}}}}", auth())), Kind::Fine, &[]);
    // base64 of user:password.
    let packed = "configs: {'10.77.0.1:5001': {auth: {auth: Y2FuYXJ5LXVzZXI6Y2FuYXJ5LXBhc3Mtd29yZA==}}}";
    says(&plain().probe(&format!("{itself}\n{packed}")), Kind::Fine, &["takes the credential"]);
}

#[test]
fn http_where_https_is_written_is_named_and_skip_verify_is_no_help() {
    let report = plain().probe("configs: {'10.77.0.1:5001': {tls: {insecure_skip_verify: true}}}");
    says(
        &report,
        Kind::TlsHttp,
        &["server gave HTTP response to HTTPS client", "`http://10.77.0.1:5001`", "does not help"],
    );
}

#[test]
fn an_http_endpoint_with_tls_settings_falls_back_from_https() {
    let text = format!(
        "mirrors: {{n: {{endpoint: ['http://10.77.0.1:5001']}}}}\nconfigs: {{'10.77.0.1:5001': {{tls: {{insecure_skip_verify: true}}, {}}}}}",
        auth()
    );
    let report = plain().probe(&text);
    says(&report, Kind::Fine, &["takes the credential"]);
    assert_eq!(report.stops.iter().filter(|stop| stop.step == "tls").count(), 1);
}

// Each verdict by what is met.

#[test]
fn a_step_that_fails_at_the_registry_is_named_by_its_stage() {
    let names = Names(vec!["TRAEFIK DEFAULT CERT".to_owned()]);
    for (step, answer, kind, word) in [
        ("resolve", Answer::NotResolved(NameFault::Unknown), Kind::NameUnknown, "ClusterIP"),
        ("resolve", Answer::NotResolved(NameFault::Unanswered), Kind::NameUnanswered, "resolv.conf"),
        ("resolve", Answer::TimedOut, Kind::NameUnanswered, "resolv.conf"),
        ("resolve", Answer::Proxied, Kind::Proxy, "NO_PROXY"),
        ("connect", Answer::NotConnected(RouteFault::Refused), Kind::Refused, "connection refused"),
        ("connect", Answer::NotConnected(RouteFault::Unreachable), Kind::Unreachable, "no route"),
        ("connect", Answer::NotConnected(RouteFault::Closed), Kind::Closed, "port 443"),
        ("connect", Answer::TimedOut, Kind::ConnectTimeout, "firewall"),
        ("tls", Answer::NotSecured(TlsFault::Untrusted(None)), Kind::TlsUntrusted, "ca.crt"),
        ("tls", Answer::NotSecured(TlsFault::Untrusted(Some(names.clone()))), Kind::TlsUntrusted, "TRAEFIK DEFAULT"),
        ("tls", Answer::NotSecured(TlsFault::WrongName(names)), Kind::TlsWrongName, "not for r"),
        ("tls", Answer::NotSecured(TlsFault::WrongName(Names::default())), Kind::TlsWrongName, "no name at all"),
        ("tls", Answer::NotSecured(TlsFault::Expired), Kind::TlsExpired, "renew"),
        ("tls", Answer::NotSecured(TlsFault::NotYetValid), Kind::TlsNotYetValid, "clock"),
        ("tls", Answer::NotSecured(TlsFault::ClientCertificate), Kind::TlsClientCertificate, "kubernetes.io/tls"),
        ("tls", Answer::NotSecured(TlsFault::Material("/ca".to_owned())), Kind::TlsMaterial, "every pull"),
        ("tls", Answer::NotSecured(TlsFault::Closed), Kind::TlsClosed, "closes"),
        ("tls", Answer::NotSecured(TlsFault::Undecided("x".to_owned())), Kind::TlsUndecided, "containerd may"),
        ("tls", Answer::TimedOut, Kind::TlsClosed, "within the time"),
        ("send", Answer::NotReplied(ReplyFault::Closed), Kind::ApiSilent, "without an answer"),
        ("send", Answer::NotReplied(ReplyFault::NotHttp), Kind::ApiSilent, "no HTTP"),
        ("tls", Answer::NotSecured(TlsFault::NotTls), Kind::TlsClosed, "no TLS on port 443"),
        ("send", Answer::NotReplied(ReplyFault::ClientCertificate), Kind::TlsClientCertificate, "client certificate"),
        ("send", Answer::TimedOut, Kind::ApiSilent, "within the time"),
        ("send", Answer::Secured, Kind::NotAsked, "mistake"),
    ] {
        says(&World::default().fails(step, "r", answer).probe(anonymous()), kind, &[word]);
    }
}

#[test]
fn a_step_that_fails_at_the_realm_is_the_realms() {
    for (step, answer, kind, word) in [
        ("resolve", Answer::NotResolved(NameFault::Unknown), Kind::RealmName, "host of the token realm"),
        ("resolve", Answer::NotResolved(NameFault::Unknown), Kind::RealmName, "what r says of itself"),
        ("resolve", Answer::NotResolved(NameFault::Unknown), Kind::RealmName, "(Gitea: `ROOT_URL` in app.ini; Docker"),
        ("resolve", Answer::NotResolved(NameFault::Unanswered), Kind::RealmName, "resolv.conf"),
        ("connect", Answer::NotConnected(RouteFault::Refused), Kind::RealmRoute, "the token realm t"),
        ("connect", Answer::NotConnected(RouteFault::Refused), Kind::RealmRoute, "`ROOT_URL`"),
        ("connect", Answer::TimedOut, Kind::RealmRoute, "the token realm t"),
        ("tls", Answer::NotSecured(TlsFault::Expired), Kind::RealmTls, "the token realm t"),
        ("tls", Answer::NotSecured(TlsFault::HttpSpoken), Kind::RealmTls, "set it to one that every node reaches"),
        ("tls", Answer::NotSecured(TlsFault::Undecided("x".to_owned())), Kind::RealmTlsUndecided, "realm t"),
        ("send", Answer::TimedOut, Kind::RealmStatus, "within the time"),
        ("send", Answer::Withheld { refused_by: "q".to_owned() }, Kind::CredentialWithheld, "q has just refused"),
    ] {
        says(&gitea("r", "t").fails(step, "t", answer).probe(&with_auth()), kind, &[word]);
    }
}

#[test]
fn a_credential_that_is_kept_back_is_no_step_that_failed() {
    let withheld = || Answer::Withheld { refused_by: "q".to_owned() };
    let elsewhere = |status| reply(status, &[("location", "https://else/x")], "");
    for (world, last) in [
        (gitea("r", "t").fails("resolve", "t", withheld()), ("POST token", "t")),
        (gitea("r", "t").fails("send", "t", withheld()), ("POST token", "t")),
        (World::default().on("r", "GET /v2/", challenge("http://t/token")), ("POST token", "t")),
        (gitea("r", "t").on("t", "GET /v2/token?service=s basic", elsewhere(302)), ("GET token", "else")),
        (gitea("r", "t").on("r", "GET /v2/ bearer", elsewhere(307)), ("GET /v2/ again", "else")),
    ] {
        let report = world.probe(&with_auth());
        let stop = report.stops.last().unwrap();
        assert_eq!((stop.step, stop.at.as_str(), stop.status, stop.end), (last.0, last.1, None, End::Withheld));
        assert!(report.stops.iter().all(|stop| stop.end != End::Failed), "{report:?}");
    }
    let anonymously = World::default().on("r", "GET /v2/", challenge("http://t/token")).probe(anonymous());
    says(&anonymously, Kind::RealmScheme, &["each token would cross"]);
    assert_eq!(anonymously.stops.last().unwrap().end, End::Passed, "there was nothing to be kept back");
    let proxied = World::default().fails("resolve", "r", Answer::Proxied).probe(anonymous());
    assert_eq!(proxied.stops.last().unwrap().end, End::Proxied);
    let failed = World::default().fails("resolve", "r", Answer::NotResolved(NameFault::Unknown)).probe(anonymous());
    assert_eq!(failed.stops.last().unwrap().end, End::Failed);
}

#[test]
fn the_answer_to_the_ping_tells_a_registry_from_something_else() {
    let html = ("content-type", "text/html; charset=utf-8");
    for (answer, kind, word) in [
        (reply(200, &[API], "{}"), Kind::Fine, "asks for no credential"),
        (reply(200, &[], "{}"), Kind::Fine, ""),
        (reply(200, &[html], "<html>"), Kind::ApiPage, "Gitea: `[packages] ENABLED`"),
        (
            reply(404, &[("server", "Caddy")], ""),
            Kind::ApiNotFound,
            "no Docker-Distribution-Api-Version, Server: Caddy",
        ),
        (reply(404, &[API], ""), Kind::ApiPathUnknown, "says nothing"),
        (reply(401, &[API], ""), Kind::ApiNoChallenge, "no WWW-Authenticate"),
        (reply(401, &[("www-authenticate", "Negotiate")], ""), Kind::ApiNoChallenge, "Negotiate"),
        (reply(403, &[], ""), Kind::ApiStatus, "firewall"),
        (
            reply(400, &[], "<title>400 No required SSL certificate was sent</title>"),
            Kind::TlsClientCertificate,
            "demands a client certificate",
        ),
        (reply(407, &[], ""), Kind::ApiStatus, "proxy"),
        (reply(502, &[("server", "nginx")], ""), Kind::ApiStatus, "Server: nginx"),
        (reply(500, &[], ""), Kind::ApiStatus, "log"),
        (reply(429, &[("retry-after", "60")], ""), Kind::RateLimited, "Retry-After: 60"),
        (challenge("/token"), Kind::RealmMalformed, "ROOT_URL"),
        (challenge("http://t/token"), Kind::RealmScheme, "X-Forwarded-Proto"),
        (reply(301, &[], ""), Kind::ApiRedirect, "nowhere"),
    ] {
        says(&World::default().on("r", "GET /v2/", answer).probe(anonymous()), kind, &[word]);
    }
}

#[test]
fn https_where_http_is_written_is_named() {
    let body = "Client sent an HTTP request to an HTTPS server.\n";
    let world = World::default().on("r:5000", "GET /v2/", reply(400, &[], body));
    says(&world.probe("mirrors: {n: {endpoint: ['http://r:5000']}}"), Kind::ApiHttps, &["`https://r:5000`"]);
}

#[test]
fn silence_where_http_is_written_may_be_https() {
    for fault in [ReplyFault::Closed, ReplyFault::NotHttp] {
        let world = World::default().fails("send", "r:5000", Answer::NotReplied(fault));
        says(&world.probe("mirrors: {n: {endpoint: ['http://r:5000']}}"), Kind::ApiSilent, &["write `https://`"]);
    }
}

#[test]
fn the_ca_of_where_a_registry_redirects_to_belongs_to_the_registry() {
    let moved = || World::default().on("r", "GET /v2/", reply(301, &[("location", "https://s/v2/")], ""));
    let untrusted = || Answer::NotSecured(TlsFault::Untrusted(None));
    let report = moved().fails("tls", "s", untrusted()).probe(anonymous());
    says(&report, Kind::TlsUntrusted, &["certificate of s", "settings of r where it redirects to", "`ca.crt` of r"]);
    let world = moved().on("s", "GET /v2/", challenge("https://t/v2/token")).fails("tls", "t", untrusted());
    says(&world.probe(anonymous()), Kind::RealmTls, &["settings of r for its realm", "`ca.crt` of r"]);
}

#[test]
fn a_client_certificate_without_its_key_is_named_as_that() {
    for (tls, word) in
        [("cert_file: /c", "the client's key, which is not named"), ("key_file: /k", "certificate, which")]
    {
        let report = World::default().probe(&format!("configs: {{r: {{tls: {{{tls}}}}}}}"));
        says(&report, Kind::TlsMaterial, &[word, "every pull"]);
    }
}

#[test]
fn an_unknown_prefix_that_is_not_found_says_nothing() {
    let world = World::default().on("r", "GET /artifactory/docker/", reply(404, &[], ""));
    says(
        &world.probe("mirrors: {n: {endpoint: ['https://r/artifactory/docker']}}"),
        Kind::ApiPathUnknown,
        &["try a pull"],
    );
}

#[test]
fn a_credential_that_nobody_asks_for_is_not_called_good() {
    let world = World::default().on("r", "GET /v2/", reply(200, &[API], ""));
    says(&world.probe(&with_auth()), Kind::CredentialNotAsked, &["not tried"]);
}

#[test]
fn a_realm_is_judged_by_its_answers() {
    let world = |post: Reply, get: Reply| {
        gitea("r", "t").on("t", "POST /v2/token", post).on("t", "GET /v2/token?service=s basic", get)
    };
    let never = || reply(599, &[], "");
    for (post, get, kind, word) in [
        (token(), never(), Kind::Fine, "takes the credential"),
        (reply(200, &[], r#"{"access_token":"canary-token"}"#), never(), Kind::Fine, ""),
        (reply(403, &[], ""), never(), Kind::CredentialRefused, "403"),
        (reply(429, &[], ""), never(), Kind::RateLimited, "the token realm t"),
        (reply(500, &[], ""), never(), Kind::RealmStatus, "answers 500"),
        (reply(503, &[], ""), never(), Kind::RealmStatus, "look at the log of the token service"),
        (reply(200, &[("content-type", "text/html")], "<html>"), never(), Kind::RealmStatus, "without a token"),
        (reply(200, &[], r#"{"token":"a\r\nb"}"#), never(), Kind::RealmStatus, "without a token"),
        (reply(400, &[], ""), token(), Kind::Fine, ""),
        (reply(401, &[], ""), token(), Kind::Fine, ""),
        (reply(405, &[], ""), token(), Kind::Fine, ""),
        (reply(307, &[("location", "https://elsewhere/")], ""), token(), Kind::Fine, ""),
        (reply(404, &[], ""), reply(404, &[], ""), Kind::RealmStatus, "https://t/v2/token of r answers 404"),
        (reply(404, &[], ""), reply(401, &[], ""), Kind::CredentialRefused, "401"),
        (reply(404, &[], ""), reply(403, &[], ""), Kind::CredentialRefused, "403"),
        (reply(404, &[], ""), reply(302, &[("location", "https://login/")], ""), Kind::RealmRedirect, "not sent"),
        (reply(404, &[], ""), reply(302, &[("location", "http://t/v2/token")], ""), Kind::RealmRedirect, "not sent"),
    ] {
        says(&world(post, get).probe(&with_auth()), kind, &[word]);
    }
    let anonymous_refused = gitea("r", "t").on("t", "GET /v2/token?service=s", reply(401, &[], ""));
    says(&anonymous_refused.probe(anonymous()), Kind::CredentialNotGiven, &["pull Secret"]);
}

#[test]
fn an_identity_token_is_a_refresh_token_and_nothing_for_basic() {
    let text = "configs: {r: {auth: {identity_token: canary-identity}}}";
    says(&gitea("r", "t").on("t", "POST /v2/token", token()).probe(text), Kind::Fine, &["takes the credential"]);
    says(&gitea("r", "t").on("t", "POST /v2/token", reply(405, &[], "")).probe(text), Kind::RealmStatus, &["405"]);
    let basic = reply(401, &[("www-authenticate", "Basic")], "");
    says(&World::default().on("r", "GET /v2/", basic).probe(text), Kind::CredentialUnusable, &["identity token"]);
}

#[test]
fn auth_that_cannot_be_decoded_is_named_and_not_shown() {
    let report = gitea("r", "t").probe("configs: {r: {auth: {auth: canary}}}");
    says(&report, Kind::CredentialUnusable, &["no base64"]);
}

#[test]
fn coming_back_with_a_token_or_a_password_is_judged() {
    let insufficient = ("www-authenticate", r#"Bearer realm="https://t/x",error="insufficient_scope""#);
    for (back, with_credential, kind) in [
        (reply(200, &[], ""), true, Kind::Fine),
        (reply(403, &[], ""), true, Kind::Fine),
        (reply(401, &[insufficient], ""), true, Kind::Fine),
        (reply(401, &[], ""), true, Kind::RealmTokenRefused),
        (reply(401, &[], ""), false, Kind::CredentialNotGiven),
        (reply(404, &[API], ""), true, Kind::ApiPathUnknown),
        (reply(503, &[], ""), true, Kind::ApiStatus),
        (reply(302, &[("location", "https://elsewhere/")], ""), true, Kind::ApiRedirect),
    ] {
        let text = if with_credential { with_auth() } else { anonymous().to_owned() };
        says(&gitea("r", "t").on("r", "GET /v2/ bearer", back).probe(&text), kind, &[]);
    }
    for status in [401, 403] {
        let world = plain().on("10.77.0.1:5001", "GET /v2/ basic", reply(status, &[], ""));
        let text = format!(
            "mirrors: {{n: {{endpoint: ['http://10.77.0.1:5001']}}}}\nconfigs: {{'10.77.0.1:5001': {{{}}}}}",
            auth()
        );
        says(&world.probe(&text), Kind::CredentialRefused, &["credential of 10.77.0.1:5001 is refused"]);
    }
}

#[test]
fn a_redirect_is_followed_three_times_and_who_challenges_is_looked_up() {
    let to = |location: &str| reply(301, &[("location", location)], "");
    let world = gitea("s", "t").on("r", "GET /v2/", to("https://s/v2/"));
    // The credential of r is for r: s is asked anonymously.
    let report = world.probe(&with_auth());
    says(&report, Kind::Fine, &["s answers to an anonymous token"]);
    // One for s itself is used, as containerd would.
    let text = format!("configs: {{r: {{tls: {{}}}}, s: {{{}}}}}", auth());
    says(&world.probe(&text), Kind::Fine, &["s takes the credential"]);
    let around = World::default().on("r", "GET /v2/", to("/v2/"));
    let report = around.probe(anonymous());
    says(&report, Kind::ApiRedirect, &["without end", "Location: https://r/v2/"]);
    assert_eq!(steps(&report).len(), 4);
}

#[test]
fn a_redirect_from_https_to_http_gets_no_credential() {
    let world = gitea("s", "t").on("r", "GET /v2/", reply(301, &[("location", "http://s/v2/")], ""));
    let text = format!("configs: {{r: {{tls: {{}}}}, s: {{{}}}}}", auth());
    says(&world.probe(&text), Kind::ApiRedirect, &["in clear"]);
}

#[test]
fn what_the_other_side_echoes_is_not_shown() {
    for echoed in [PASSWORD.to_owned(), USER.to_owned(), "Y2FuYXJ5LXVzZXI6Y2FuYXJ5LXBhc3Mtd29yZA==".to_owned()] {
        let world =
            gitea("r", "t").on("t", "GET /v2/token?service=s basic", reply(500, &[("server", &echoed)], &echoed));
        let report = world.probe(&with_auth());
        says(&report, Kind::RealmStatus, &["Server: …"]);
        assert!(!format!("{report:?}").contains(&echoed));
    }
    let realm = format!("https://u:{PASSWORD}@t/v2/token?key={PASSWORD}");
    let world = World::default().on("r", "GET /v2/", challenge(&realm)).fails("connect", "t", Answer::TimedOut);
    says(&world.probe(&with_auth()), Kind::RealmRoute, &[]);
    let realm = format!("http://t/{PASSWORD}");
    says(&World::default().on("r", "GET /v2/", challenge(&realm)).probe(&with_auth()), Kind::RealmScheme, &["…"]);
}

#[test]
fn a_stage_that_is_off_is_not_run() {
    let scope = Scope { realm: false, credential: true };
    let report = gitea("r", "t").walk(target_of(&with_auth()), scope);
    says(&report, Kind::Fine, &["the policy"]);
    assert_eq!(steps(&report), ["GET /v2/ r"]);
    let scope = Scope { realm: true, credential: false };
    let report = gitea("r", "t").walk(target_of(&with_auth()), scope);
    says(&report, Kind::Fine, &[]);
    assert_eq!(steps(&report), ["GET /v2/ r", "GET token t", "GET /v2/ again r"]);
    let off = Preflight { realm: Enforcement::Off, ..Preflight::default() };
    assert_eq!(Scope::from(&off), Scope { realm: false, credential: true });
    assert_eq!(Scope::from(&Preflight::default()), Scope::WHOLE);
}

#[test]
fn a_missing_file_ends_the_walk_before_it_begins() {
    let walk = Walk::new(target_of("configs: {r: {tls: {ca_file: /missing}}}"), Scope::WHOLE);
    assert!(matches!(walk.step(), Step::Done));
    says(&walk.finish(Duration::ZERO), Kind::TlsMaterial, &["/missing", "every pull"]);
}

#[test]
fn a_walk_that_is_cut_off_was_not_asked() {
    let report = Walk::new(target_of(anonymous()), Scope::WHOLE).finish(Duration::ZERO);
    says(&report, Kind::NotAsked, &["time"]);
}

proptest::proptest! {
    /// Whatever the other side answers, a walk ends, and shows nothing.
    #[test]
    fn any_server_is_survived(
        statuses in proptest::collection::vec(100u16..600, 12),
        header in proptest::sample::select(vec![
            ("www-authenticate", r#"Bearer realm="https://t/x""#),
            ("www-authenticate", "Basic"),
            ("location", "/v2/"),
            ("location", "https://q/"),
        ]),
    ) {
        let mut walk = Walk::new(target_of(&with_auth()), Scope::WHOLE);
        let mut statuses = statuses.into_iter();
        for _ in 0..60 {
            let answer = match walk.step() {
                Step::Resolve(_) => Answer::Resolved,
                Step::Connect(_) => Answer::Connected,
                Step::Secure(_) => Answer::Secured,
                Step::Send(_) => Answer::Replied(reply(statuses.next().unwrap_or(200), &[header], "canary")),
                Step::Done => break,
            };
            walk.answer(answer, Duration::ZERO);
        }
        proptest::prop_assert!(matches!(walk.step(), Step::Done));
        let report = walk.finish(Duration::ZERO);
        let shown = format!("{report:?}");
        proptest::prop_assert!(!shown.contains("canary"), "{}", shown);
    }
}

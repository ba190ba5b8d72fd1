//! The sentences of verdicts: what was seen, and what to do about it.

use super::answer::{NameFault, RouteFault, TlsFault};
use super::url::Url;
use super::verdict::{Kind, Verdict};

/// Longest text of the other side that is shown.
const LONGEST: usize = 120;

/// Whose settings and whose fault it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'w> {
    /// What was asked.
    pub url: &'w Url,
    /// Host and port of the registry, if that was its realm.
    pub realm_of: Option<&'w str>,
    /// Host and port that images are pulled from: its TLS settings hold for realms and wherever it redirects to.
    pub settings_of: &'w str,
}

impl At<'_> {
    fn kind(self, own: Kind, realm: Kind) -> Kind {
        if self.realm_of.is_some() { realm } else { own }
    }

    /// The host, with what it is.
    fn host(self) -> String {
        match self.realm_of {
            Some(_) => format!("the token realm {}", self.url.authority()),
            None => self.url.authority().to_owned(),
        }
    }
}

/// A text of the other side, fit to be shown.
pub(super) fn clean(text: &str) -> String {
    let mut shown: String = text.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    if text.chars().count() > LONGEST {
        shown.push('…');
    }
    shown
}

pub(super) fn name(at: At<'_>, fault: NameFault) -> Verdict {
    let host = at.url.name();
    let kind = at.kind(
        match fault {
            NameFault::Unknown => Kind::NameUnknown,
            NameFault::Unanswered => Kind::NameUnanswered,
        },
        Kind::RealmName,
    );
    let of = if at.realm_of.is_some() { ", the host of the token realm" } else { "" };
    let (what, remedy) = match (fault, at.realm_of) {
        (NameFault::Unknown, None) => (
            format!("the node's resolver does not know the name {host}{of}"),
            "write a name or address that the node itself resolves: cluster DNS (*.svc) means nothing to it, so for a \
             Service in the cluster make a mirror whose endpoint is its ClusterIP or NodePort"
                .to_owned(),
        ),
        (NameFault::Unknown, Some(registry)) => (
            format!("the node's resolver does not know the name {host}{of}"),
            format!(
                "{}: set it to one whose name the nodes resolve, or give their resolver this name; cluster DNS (*.svc) \
                 means nothing to them",
                realm_is(registry)
            ),
        ),
        (NameFault::Unanswered, _) => (
            format!("no nameserver of the node tells an address of {host}{of}"),
            "look at /etc/resolv.conf of the node and at the servers it names".to_owned(),
        ),
    };
    Verdict::new(kind, what, remedy)
}

/// Where the realm comes from.
fn realm_is(registry: &str) -> String {
    format!(
        "the realm's URL is what {registry} says of itself (Gitea: `ROOT_URL` in app.ini; Docker Registry: \
         `auth.token.realm`)"
    )
}

/// What to do about a realm that is not where it is said to be.
pub(super) fn correct_realm(registry: &str) -> String {
    format!("{}: set it to one that every node reaches, or make this one lead to the token service", realm_is(registry))
}

pub(super) fn route(at: At<'_>, fault: Option<RouteFault>) -> Verdict {
    let of = if at.realm_of.is_some() { "the token realm " } else { "" };
    let (host, port) = (format!("{of}{}", at.url.name()), at.url.port());
    let (kind, what, remedy) = match fault {
        Some(RouteFault::Refused) => (
            Kind::Refused,
            format!("connection refused by {host}, port {port}"),
            match at.realm_of {
                None => "check that the registry runs and listens on that port; `localhost` on a node is the node itself, so \
                         a registry in the cluster wants its NodePort there"
                    .to_owned(),
                Some(registry) => format!("{}; `localhost` on a node is the node itself", correct_realm(registry)),
            },
        ),
        Some(RouteFault::Unreachable) => (
            Kind::Unreachable,
            format!("there is no route to {host}, port {port}"),
            "check the address, and the routes and firewall of the node".to_owned(),
        ),
        Some(RouteFault::Closed) => (
            Kind::Closed,
            format!("no connection to {host}, port {port}: it was closed or failed"),
            "check what listens there, and firewalls on the way".to_owned(),
        ),
        None => (
            Kind::ConnectTimeout,
            format!("{host}, port {port}, does not answer within the time"),
            "a firewall that drops packets, or an address of a network that the node is not in".to_owned(),
        ),
    };
    Verdict::new(at.kind(kind, Kind::RealmRoute), what, remedy)
}

/// `None` is that the time was up.
pub(super) fn tls(at: At<'_>, fault: Option<&TlsFault>) -> Verdict {
    let host = at.host();
    let of = at.settings_of;
    let whose = match at.realm_of {
        Some(_) => format!(
            "containerd uses the TLS settings of {of} for its realm too, and none of the realm's own: add the realm's CA to \
             the `ca.crt` of {of}"
        ),
        None if of != at.url.authority() => format!(
            "containerd uses the TLS settings of {of} where it redirects to, too: add this CA to the `ca.crt` of {of}, or write \
             the endpoint as it is redirected to"
        ),
        None => format!("give {of} its CA by a Secret or ConfigMap with `ca.crt`, or `insecure_skip_verify`"),
    };
    let renew = "renew the certificate there".to_owned();
    let (kind, what, remedy) = match fault {
        Some(TlsFault::Untrusted(None)) => (
            Kind::TlsUntrusted,
            format!(
                "the certificate of {host} is signed by nobody that the node trusts (containerd: signed by unknown authority)"
            ),
            whose,
        ),
        Some(TlsFault::Untrusted(Some(names))) => (
            Kind::TlsUntrusted,
            format!("the certificate of {host} is signed by nobody that the node trusts, and is for {names}"),
            format!("probably a proxy's default certificate: give it one for {}; else {whose}", at.url.name()),
        ),
        Some(TlsFault::WrongName(names)) => (
            Kind::TlsWrongName,
            format!("the certificate of {host} is for {names}, not for {}", at.url.name()),
            "use a name of the certificate, or give the server one for this name; a CA does not help".to_owned(),
        ),
        Some(TlsFault::Expired) => (Kind::TlsExpired, format!("the certificate of {host} has expired"), renew),
        Some(TlsFault::NotYetValid) => (
            Kind::TlsNotYetValid,
            format!("the certificate of {host} is not valid yet"),
            "look at the node's clock first, then at the certificate".to_owned(),
        ),
        Some(TlsFault::HttpSpoken) => (
            Kind::TlsHttp,
            format!(
                "{host} answers plain http on port {} (containerd: server gave HTTP response to HTTPS client)",
                at.url.port()
            ),
            match at.realm_of {
                Some(registry) => correct_realm(registry),
                None => format!(
                    "make it a mirror's endpoint with `http://{}`, or give it TLS; `insecure_skip_verify` does not help",
                    at.url.authority()
                ),
            },
        ),
        Some(TlsFault::NotTls) => (
            Kind::TlsClosed,
            format!("{host} answers something that is no TLS on port {}", at.url.port()),
            "check that TLS is what is spoken on this port".to_owned(),
        ),
        Some(TlsFault::ClientCertificate) => (
            Kind::TlsClientCertificate,
            format!("{host} demands a client certificate, or does not take the one that is configured"),
            "give the host one by a Secret of type kubernetes.io/tls, signed by the CA that the registry trusts"
                .to_owned(),
        ),
        Some(TlsFault::Material(file)) => {
            let what = format!("the TLS file {} cannot be used: every pull of the host fails", clean(file));
            return Verdict::new(Kind::TlsMaterial, what, "put the right file there, or leave it out");
        }
        Some(TlsFault::Closed) => (
            Kind::TlsClosed,
            format!("{host} closes the connection while TLS is agreed on"),
            "check that TLS is what is spoken on this port, and that the proxy knows this name".to_owned(),
        ),
        None => (
            Kind::TlsClosed,
            format!("{host} takes the connection and does not answer TLS within the time"),
            "check that TLS is what is spoken on this port".to_owned(),
        ),
        Some(TlsFault::Undecided(why)) => {
            let what = format!("this program cannot judge the certificate or the TLS of {host} ({})", clean(why));
            let kind = at.kind(Kind::TlsUndecided, Kind::RealmTlsUndecided);
            return Verdict::new(kind, what, "containerd may well accept it: try a pull");
        }
    };
    Verdict::new(at.kind(kind, Kind::RealmTls), what, remedy)
}

pub(super) fn rate_limited(at: At<'_>, retry_after: Option<&str>) -> Verdict {
    let again = retry_after.map_or_else(String::new, |after| format!(", to be asked again after {}", clean(after)));
    let what = format!("{} has had too many requests from here{again}", at.host());
    let remedy = "wait; a credential, or a pull-through cache as mirror, raises the limit";
    Verdict::new(Kind::RateLimited, what, remedy)
        .seen(429, retry_after.map(|after| format!("Retry-After: {}", clean(after))))
}

pub(super) fn refused(at: At<'_>, status: u16, registry: &str) -> Verdict {
    let by = match at.realm_of {
        Some(_) => format!("{}, which gives the tokens of {registry},", at.host()),
        None => registry.to_owned(),
    };
    let what = format!("the credential of {registry} is refused: {by} answers {status}");
    let remedy = "correct or renew it in its Secret; nothing sends it again until the inputs change";
    Verdict::new(Kind::CredentialRefused, what, remedy).seen(status, None)
}

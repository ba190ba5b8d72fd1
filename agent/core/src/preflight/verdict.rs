//! What came of asking one host: a closed list of kinds, each with its stage and whether it is certain.

use std::fmt;

/// Whether pulls from the host will work, as far as can be seen without pulling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// They will.
    Fine,
    /// It cannot be told.
    Inconclusive,
    /// They will not.
    Fault,
}

/// The stages of `policy.preflight`, in the order in which a pull meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The host's name.
    Name,
    /// The connection.
    Route,
    /// The certificate.
    Tls,
    /// `/v2/`.
    Api,
    /// The token's realm.
    Realm,
    /// The credential.
    Credential,
}

impl Stage {
    /// As in `policy.yaml`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Route => "route",
            Self::Tls => "tls",
            Self::Api => "api",
            Self::Realm => "realm",
            Self::Credential => "credential",
        }
    }
}

/// Declares the kinds once: variant, text, stage, outcome. `docs/preflight.md` has a row for each.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal $stage:ident $outcome:ident;)*) => {
        /// Everything that can come of asking a host.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($(#[$doc])* $name),* }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// In kebab case, for metrics and JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// Where the walk ended.
            pub const fn stage(self) -> Stage {
                match self { $(Self::$name => Stage::$stage),* }
            }

            /// What it means for pulls.
            pub const fn outcome(self) -> Outcome {
                match self { $(Self::$name => Outcome::$outcome),* }
            }
        }
    };
}

kinds! {
    /// The credential was taken, or none is needed.
    Fine = "fine" Credential Fine;
    /// `/v2/` is open to all, so a credential that is configured was not asked for.
    CredentialNotAsked = "credential-not-asked" Credential Fine;
    /// A credential is wanted for some or all images, and none is configured: pull Secrets may have it.
    CredentialNotGiven = "credential-not-given" Credential Fine;

    /// The name is unknown.
    NameUnknown = "name-unknown" Name Fault;
    /// No nameserver answers.
    NameUnanswered = "name-unanswered" Name Fault;

    /// Nothing listens there.
    Refused = "refused" Route Fault;
    /// No route.
    Unreachable = "unreachable" Route Fault;
    /// The time was up before there was a connection.
    ConnectTimeout = "connect-timeout" Route Fault;
    /// The connection is closed without an answer.
    Closed = "closed" Route Fault;

    /// Nobody trusted signed the certificate.
    TlsUntrusted = "tls-untrusted" Tls Fault;
    /// It is for other names.
    TlsWrongName = "tls-wrong-name" Tls Fault;
    /// Its time is over.
    TlsExpired = "tls-expired" Tls Fault;
    /// Its time has not begun.
    TlsNotYetValid = "tls-not-yet-valid" Tls Fault;
    /// http is spoken where https is written.
    TlsHttp = "tls-http" Tls Fault;
    /// A client certificate is demanded, or not taken.
    TlsClientCertificate = "tls-client-certificate" Tls Fault;
    /// A TLS file of the configuration is missing or wrong.
    TlsMaterial = "tls-material" Tls Fault;
    /// Closed, or too slow, in the middle of TLS.
    TlsClosed = "tls-closed" Tls Fault;
    /// Refused by this program's means alone.
    TlsUndecided = "tls-undecided" Tls Inconclusive;

    /// 404 without the API's header: no registry behind this name.
    ApiNotFound = "api-not-found" Api Fault;
    /// A web page.
    ApiPage = "api-page" Api Fault;
    /// Another status than those of a registry.
    ApiStatus = "api-status" Api Fault;
    /// 401 without a challenge that containerd knows.
    ApiNoChallenge = "api-no-challenge" Api Fault;
    /// Redirects without end, or to nowhere.
    ApiRedirect = "api-redirect" Api Fault;
    /// https is spoken where http is written.
    ApiHttps = "api-https" Api Fault;
    /// What answers is no HTTP, or nothing within the time.
    ApiSilent = "api-silent" Api Fault;
    /// A path that is no API root: that it is not found says nothing.
    ApiPathUnknown = "api-path-unknown" Api Inconclusive;

    /// The challenge names no realm that can be asked.
    RealmMalformed = "realm-malformed" Realm Fault;
    /// The realm of an https registry is http.
    RealmScheme = "realm-scheme" Realm Fault;
    /// The realm's name is not resolved.
    RealmName = "realm-name" Realm Fault;
    /// The realm is not reached.
    RealmRoute = "realm-route" Realm Fault;
    /// The realm's certificate is not accepted with the pull host's settings.
    RealmTls = "realm-tls" Realm Fault;
    /// The same, by this program's means alone.
    RealmTlsUndecided = "realm-tls-undecided" Realm Inconclusive;
    /// The realm answers something else than a token.
    RealmStatus = "realm-status" Realm Fault;
    /// The realm redirects: the credential is not carried along.
    RealmRedirect = "realm-redirect" Realm Inconclusive;
    /// The registry does not take the token that its realm gave.
    RealmTokenRefused = "realm-token-refused" Realm Fault;

    /// Refused.
    CredentialRefused = "credential-refused" Credential Fault;
    /// It cannot be sent to this registry at all.
    CredentialUnusable = "credential-unusable" Credential Fault;
    /// Not sent, since another host refused the same one.
    CredentialWithheld = "credential-withheld" Credential Inconclusive;

    /// Too many requests.
    RateLimited = "rate-limited" Api Inconclusive;
    /// containerd goes through a proxy, which this program does not.
    Proxy = "proxy" Route Inconclusive;
    /// The time for all hosts was up before this one was asked, or its answer was in.
    NotAsked = "not-asked" Route Inconclusive;
}

/// What came of asking a host. Shows no secret: neither a credential nor a URL's user part or query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Which.
    pub kind: Kind,
    /// The status that told it.
    pub status: Option<u16>,
    /// The header that told it, or is missing.
    pub header: Option<String>,
    /// What was seen.
    pub what: String,
    /// What to do; empty where nothing is to be done.
    pub remedy: String,
}

impl Verdict {
    pub(super) fn new(kind: Kind, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind, status: None, header: None, what: what.into(), remedy: remedy.into() }
    }

    /// The same with the status and the header that told it.
    pub(super) fn seen(self, status: u16, header: Option<String>) -> Self {
        Self { status: Some(status), header, ..self }
    }

    /// What it means for pulls.
    pub const fn outcome(&self) -> Outcome {
        self.kind.outcome()
    }
}

/// `WHAT; REMEDY`.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind: _, status: _, header: _, what, remedy } = self;
        match remedy.is_empty() {
            true => f.write_str(what),
            false => write!(f, "{what}; {remedy}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_documentation_has_a_row_for_each_kind_and_no_other() {
        let text = include_str!("../../../../docs/preflight.md");
        let rows: BTreeSet<(String, String)> = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .filter_map(|row| {
                let (kind, rest) = row.split_once("` | ")?;
                let (stage, _) = rest.split_once(" | ")?;
                Some((kind.to_owned(), stage.to_owned()))
            })
            .collect();
        let known = Kind::ALL.iter().map(|kind| {
            let stage = match kind.outcome() {
                Outcome::Fine => "fine".to_owned(),
                Outcome::Inconclusive => "inconclusive".to_owned(),
                Outcome::Fault => kind.stage().as_str().to_owned(),
            };
            (kind.as_str().to_owned(), stage)
        });
        assert_eq!(rows, known.collect());
        assert_eq!(rows.len(), Kind::ALL.len());
    }
}

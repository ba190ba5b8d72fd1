//! The way to one registry, as containerd goes it, without doing a step: it says what is next, and is told how it ended.
//!
//! containerd never asks for `/v2/` itself; it asks for a manifest and is challenged for that. No image is known here, so
//! the walk does what `docker login` does: it asks for the root, and for a token without a scope. A scope that the
//! challenge names is left out (ghcr.io names `repository:user/image:pull`, an example that is then denied).
//!
//! The token is asked for as containerd does: POST with the credential in a form, then GET with basic auth where the realm
//! knows no POST; anonymously by GET alone; with the TLS settings and the credential of the registry, whatever host the
//! realm has (`k3s.md` 5).

mod replies;

use std::fmt;
use std::time::Duration;

use super::answer::{Answer, Reply, ReplyFault, TlsFault};
use super::credential::Credential;
use super::report::{End, HostReport, Stop};
use super::target::Target;
use super::url::{Scheme, Url};
use super::verdict::{Kind, Verdict};
use super::words::{self, At};
use crate::policy::{Enforcement, Preflight};
use crate::secret::Secret;

/// Redirects that are followed.
const REDIRECTS: u8 = 3;

/// How far a walk may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The realm is asked for a token.
    pub realm: bool,
    /// Credentials are sent.
    pub credential: bool,
}

impl Scope {
    /// All the way.
    pub const WHOLE: Self = Self { realm: true, credential: true };
}

/// A stage that is off is not run.
impl From<&Preflight> for Scope {
    fn from(policy: &Preflight) -> Self {
        Self { realm: policy.realm != Enforcement::Off, credential: policy.credential != Enforcement::Off }
    }
}

/// What is to be done next.
#[derive(Debug)]
pub enum Step<'w> {
    /// Look the URL's host up.
    Resolve(&'w Url),
    /// Connect to what was found.
    Connect(&'w Url),
    /// Agree on TLS with the target's settings.
    Secure(&'w Url),
    /// Send the request and read its answer.
    Send(&'w Request),
    /// Nothing.
    Done,
}

/// A request.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// Where to.
    pub url: Url,
    /// `Authorization`.
    pub authorization: Option<Secret<String>>,
    /// The form of a POST; a GET has none.
    pub form: Option<Secret<String>>,
    /// Whether it carries a credential, which may be refused, or nothing but a token.
    pub carries_credential: bool,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, authorization: _, form, carries_credential } = self;
        f.debug_struct("Request")
            .field("method", if form.is_some() { &"POST" } else { &"GET" })
            .field("url", url)
            .field("carries_credential", carries_credential)
            .finish_non_exhaustive()
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asking {
    /// `/v2/` without a credential.
    Ping,
    /// A token by POST.
    Post,
    /// A token by GET.
    Get,
    /// `/v2/` again, with user and password.
    BackBasic,
    /// `/v2/` again, with a token.
    BackBearer,
}

impl Asking {
    const fn name(self) -> &'static str {
        match self {
            Self::Ping => "GET /v2/",
            Self::Post => "POST token",
            Self::Get => "GET token",
            Self::BackBasic | Self::BackBearer => "GET /v2/ again",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Resolve,
    Connect,
    Secure,
    Send,
}

/// One walk.
#[derive(Clone, Debug)]
pub struct Walk {
    target: Target,
    scope: Scope,
    asking: Asking,
    phase: Phase,
    request: Request,
    redirects: u8,
    /// `/v2/` after redirects: who challenged, and where to come back to.
    root: Url,
    /// What is sent, once it is known who asks for it.
    credential: Option<Credential>,
    service: String,
    realm: Option<Url>,
    stops: Vec<Stop>,
    verdict: Option<Verdict>,
}

impl Walk {
    /// At its beginning.
    pub fn new(target: Target, scope: Scope) -> Self {
        let scheme = if target.tries_https_first { Scheme::Https } else { target.url.scheme() };
        let root = target.url.with_scheme(scheme);
        let missing = target.trust.missing.clone();
        let mut walk = Self {
            request: Request { url: root.clone(), authorization: None, form: None, carries_credential: false },
            target,
            scope,
            asking: Asking::Ping,
            phase: Phase::Resolve,
            redirects: 0,
            root,
            credential: None,
            service: String::new(),
            realm: None,
            stops: Vec::new(),
            verdict: None,
        };
        if let Some(file) = missing {
            let fault = TlsFault::Material(file);
            walk.verdict = Some(words::tls(walk.at(), Some(&fault)));
        }
        walk
    }

    /// What is to be done next.
    pub fn step(&self) -> Step<'_> {
        let url = &self.request.url;
        match (&self.verdict, self.phase) {
            (Some(_), _) => Step::Done,
            (None, Phase::Resolve) => Step::Resolve(url),
            (None, Phase::Connect) => Step::Connect(url),
            (None, Phase::Secure) => Step::Secure(url),
            (None, Phase::Send) => Step::Send(&self.request),
        }
    }

    /// The credential that the next request carries.
    pub fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref().filter(|_| self.request.carries_credential)
    }

    /// The target.
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// How the step ended, and how long it took.
    pub fn answer(&mut self, answer: Answer, took: Duration) {
        if self.verdict.is_some() {
            return;
        }
        let status = match &answer {
            Answer::Replied(reply) => Some(reply.status),
            _ => None,
        };
        let end = match &answer {
            Answer::Resolved | Answer::Connected | Answer::Secured | Answer::Replied(_) => End::Passed,
            Answer::Withheld { .. } => End::Withheld,
            Answer::Proxied => End::Proxied,
            Answer::NotResolved(_)
            | Answer::NotConnected(_)
            | Answer::NotSecured(_)
            | Answer::NotReplied(_)
            | Answer::TimedOut => End::Failed,
        };
        // What is withheld is the request, however far the way to it was gone.
        let step = if end == End::Withheld { self.asking.name() } else { self.name() };
        let at = self.request.url.authority().to_owned();
        self.stops.push(Stop { step, at, status, end, took });
        match (self.phase, answer) {
            (Phase::Resolve, Answer::Resolved) => self.phase = Phase::Connect,
            (Phase::Connect, Answer::Connected) => {
                self.phase = match self.request.url.scheme() {
                    Scheme::Https => Phase::Secure,
                    Scheme::Http => Phase::Send,
                };
            }
            (Phase::Secure, Answer::Secured) => self.phase = Phase::Send,
            (Phase::Secure, Answer::NotSecured(TlsFault::HttpSpoken)) if self.may_fall_back() => {
                let url = self.root.with_scheme(Scheme::Http);
                self.root = url.clone();
                self.ask(Asking::Ping, url, None, None);
            }
            (Phase::Send, Answer::Replied(reply)) => self.replied(&reply),
            (_, answer) => self.verdict = Some(self.ended(&answer)),
        }
    }

    /// The walk's result. One that did not come to its end was not asked in time.
    pub fn finish(self, took: Duration) -> HostReport {
        let verdict = self.verdict.unwrap_or_else(|| {
            let what = "the time for all registries was up before this one was judged";
            Verdict::new(Kind::NotAsked, what, "look at those that took long, and probe again")
        });
        let Target { url, images, place, .. } = self.target;
        HostReport { url, images, place, verdict, stops: self.stops, took }
    }

    fn name(&self) -> &'static str {
        match self.phase {
            Phase::Resolve => "resolve",
            Phase::Connect => "connect",
            Phase::Secure => "tls",
            Phase::Send => self.asking.name(),
        }
    }

    /// Takes down a request that is not made, since it would carry the credential to where that is not to go.
    fn withhold(&mut self, asking: Asking, to: &Url) {
        if self.credential.is_some() {
            let at = to.authority().to_owned();
            self.stops.push(Stop { step: asking.name(), at, status: None, end: End::Withheld, took: Duration::ZERO });
        }
    }

    /// Where the walk is.
    fn at(&self) -> At<'_> {
        let realm_of = match self.asking {
            Asking::Post | Asking::Get => Some(self.root.authority()),
            Asking::Ping | Asking::BackBasic | Asking::BackBearer => None,
        };
        At { url: &self.request.url, realm_of, settings_of: self.target.url.authority() }
    }

    fn may_fall_back(&self) -> bool {
        self.target.tries_https_first && self.asking == Asking::Ping && self.root.scheme() == Scheme::Https
    }

    /// Begins a request.
    fn ask(&mut self, asking: Asking, url: Url, authorization: Option<Secret<String>>, form: Option<Secret<String>>) {
        let carries_credential = match asking {
            Asking::Ping | Asking::BackBearer => false,
            Asking::Post | Asking::BackBasic => true,
            Asking::Get => authorization.is_some(),
        };
        self.asking = asking;
        self.request = Request { url, authorization, form, carries_credential };
        self.phase = Phase::Resolve;
    }

    /// What follows from a step that did not lead on.
    fn ended(&self, answer: &Answer) -> Verdict {
        let at = self.at();
        match answer {
            Answer::NotResolved(fault) => words::name(at, *fault),
            Answer::NotConnected(fault) => words::route(at, Some(*fault)),
            Answer::NotSecured(fault) => words::tls(at, Some(fault)),
            Answer::NotReplied(ReplyFault::ClientCertificate) => words::tls(at, Some(&TlsFault::ClientCertificate)),
            Answer::NotReplied(ReplyFault::Closed) => self.silent("closes the connection without an answer"),
            Answer::NotReplied(ReplyFault::NotHttp) => self.silent("answers something that is no HTTP"),
            Answer::TimedOut => match self.phase {
                Phase::Resolve => words::name(at, super::NameFault::Unanswered),
                Phase::Connect => words::route(at, None),
                Phase::Secure => words::tls(at, None),
                Phase::Send => self.silent("takes the request and does not answer within the time"),
            },
            Answer::Proxied => Verdict::new(
                Kind::Proxy,
                format!("k3s is started with a proxy, through which containerd asks {}", at.url.authority()),
                "try a pull; hosts of `NO_PROXY` are probed directly",
            ),
            Answer::Withheld { refused_by } => Verdict::new(
                Kind::CredentialWithheld,
                format!(
                    "{refused_by} has just refused the same credential, so it was not sent to {}",
                    at.url.authority()
                ),
                "correct it in its Secret",
            ),
            // An edge that mixes steps up proves nothing.
            Answer::Resolved | Answer::Connected | Answer::Secured | Answer::Replied(_) => {
                Verdict::new(Kind::NotAsked, "the probe lost its way", "report this as a mistake of the program")
            }
        }
    }

    fn silent(&self, how: &str) -> Verdict {
        let at = self.at();
        let url = at.url;
        match at.realm_of {
            Some(of) => {
                let what = format!("the token realm {} of {of} {how}", self.shown(&url.to_string()));
                Verdict::new(Kind::RealmStatus, what, "look at the server behind the realm")
            }
            None => {
                let what = format!("{} {how}", url.authority());
                let remedy = match (url.scheme(), &self.target.trust.client) {
                    (Scheme::Https, None) => {
                        "look at the registry and at the proxy before it, which may also want a client certificate"
                    }
                    (Scheme::Https, Some(_)) => "look at the registry and at the proxy before it",
                    (Scheme::Http, _) => {
                        "look at the registry and at the proxy before it; if https is what is spoken on this port, write \
                         `https://` in the endpoint"
                    }
                };
                Verdict::new(Kind::ApiSilent, what, remedy)
            }
        }
    }

    /// A text of the other side, which may echo what it was sent.
    fn shown(&self, text: &str) -> String {
        match &self.credential {
            Some(credential) if credential.is_in(text) => "…".to_owned(),
            Some(_) | None => words::clean(text),
        }
    }

    /// A header of an answer, as it is shown.
    fn header(&self, reply: &Reply, name: &str, shown_name: &str) -> Option<String> {
        // A challenge's realm may hold a user part or a query.
        let value = reply.header(name)?;
        let value = match name {
            "location" => self.request.url.join(value).map_or_else(String::new, |url| url.to_string()),
            _ => value.to_owned(),
        };
        Some(format!("{shown_name}: {}", self.shown(&value)))
    }
}

#[cfg(test)]
mod tests;

//! What follows from the answer to a request.

use serde_json::Value;

use super::super::answer::{Reply, TlsFault};
use super::super::challenge::{self, AuthScheme, Challenge};
use super::super::credential::{Credential, Undecodable, entry};
use super::super::url::{Scheme, Url};
use super::super::verdict::{Kind, Verdict};
use super::super::words;
use super::{Asking, REDIRECTS, Walk};
use crate::secret::Secret;

/// What a registry says of itself in every answer, also in a 401 and a 404.
const API_VERSION: &str = "docker-distribution-api-version";

impl Walk {
    /// Goes on after an answer, or ends.
    pub(super) fn replied(&mut self, reply: &Reply) {
        if reply.status == 429 {
            self.verdict = Some(words::rate_limited(self.at(), reply.header("retry-after")));
            return;
        }
        let verdict = match self.asking {
            Asking::Ping => self.pinged(reply),
            Asking::Post => self.posted(reply),
            Asking::Get => self.got(reply),
            Asking::BackBasic | Asking::BackBearer => {
                let to = reply.header("location").and_then(|location| self.request.url.join(location));
                if let (301 | 302 | 303 | 307 | 308, Some(to)) = (reply.status, to) {
                    self.withhold(self.asking, &to);
                }
                Some(self.came_back(reply))
            }
        };
        self.verdict = verdict;
    }

    fn pinged(&mut self, reply: &Reply) -> Option<Verdict> {
        match reply.status {
            200..=299 if self.is_page(reply) => {
                let header = self.header(reply, "content-type", "Content-Type");
                let what = format!("{} answers with a web page where a registry's API should be", self.request.url);
                Some(Verdict::new(Kind::ApiPage, what, self.route_remedy()).seen(reply.status, header))
            }
            200..=299 => Some(self.is_open(reply.status)),
            301 | 302 | 303 | 307 | 308 => self.redirected(reply),
            401 => {
                let challenges = challenge::parse(reply.headers_of("www-authenticate"));
                match challenge::chosen(&challenges) {
                    Some(challenge) => self.challenged(challenge, reply.status),
                    None => {
                        let what =
                            format!("{} answers 401 without a challenge that containerd knows", self.request.url);
                        let remedy = "let the proxy pass on `WWW-Authenticate: Bearer` or `Basic` of the registry";
                        let header = match reply.header("www-authenticate") {
                            // Its parameters may be anything; the scheme tells enough.
                            Some(value) => value
                                .split([' ', ','])
                                .next()
                                .map(|scheme| format!("WWW-Authenticate: {}", self.shown(scheme))),
                            None => Some("no WWW-Authenticate".to_owned()),
                        };
                        Some(Verdict::new(Kind::ApiNoChallenge, what, remedy).seen(reply.status, header))
                    }
                }
            }
            404 => Some(self.not_found(reply)),
            400 if self.request.url.scheme() == Scheme::Http && reply.says("https") => {
                let url = &self.request.url;
                let what = format!("{} speaks https on port {}, and http is written", url.authority(), url.port());
                let remedy = format!("write `https://{}` in the endpoint", url.authority());
                Some(Verdict::new(Kind::ApiHttps, what, remedy).seen(reply.status, None))
            }
            // nginx agrees on TLS first and says so only then.
            400 if reply.says("ssl certificate") => Some(words::tls(self.at(), Some(&TlsFault::ClientCertificate))),
            status => Some(self.odd_status(status, reply)),
        }
    }

    fn is_open(&self, status: u16) -> Verdict {
        let host = self.request.url.authority();
        let is_configured = match entry(&self.target.auths, host).map(|(_, auth)| Credential::of(auth)) {
            Some(Ok(Some(_)) | Err(Undecodable)) => self.scope.credential,
            Some(Ok(None)) | None => false,
        };
        if is_configured {
            let what = format!("{host} answers without asking for the credential, so that is not tried");
            return Verdict::new(Kind::CredentialNotAsked, what, "").seen(status, None);
        }
        Verdict::new(Kind::Fine, format!("{host} answers, and asks for no credential"), "").seen(status, None)
    }

    fn is_page(&self, reply: &Reply) -> bool {
        reply.header("content-type").is_some_and(|kind| kind.starts_with("text/html"))
            && reply.header(API_VERSION).is_none()
    }

    fn route_remedy(&self) -> String {
        let name = self.request.url.authority();
        format!(
            "let the proxy lead {name}/v2/ to the registry, and enable the registry there (Gitea: `[packages] ENABLED`)"
        )
    }

    fn not_found(&self, reply: &Reply) -> Verdict {
        let url = &self.request.url;
        let header = self.header(reply, "server", "Server").map_or(String::new(), |server| format!(", {server}"));
        if reply.header(API_VERSION).is_some() || !self.target.is_api_root {
            let what = format!("{url} is not found, which says nothing of the images below that path");
            let verdict = Verdict::new(Kind::ApiPathUnknown, what, "try a pull");
            return verdict.seen(404, self.header(reply, API_VERSION, "Docker-Distribution-Api-Version"));
        }
        let what =
            format!("{url} answers 404, and no registry does: it is not enabled, or the proxy does not lead there");
        let verdict = Verdict::new(Kind::ApiNotFound, what, self.route_remedy());
        verdict.seen(404, Some(format!("no Docker-Distribution-Api-Version{header}")))
    }

    fn odd_status(&self, status: u16, reply: &Reply) -> Verdict {
        let remedy = match status {
            502..=504 => "the proxy reaches no registry behind it: look at that, and at its port",
            403 => "something before the registry refuses this node: a firewall, or a list of addresses",
            407 => "an HTTP proxy is in the way and wants a credential of its own",
            _ => "look at the log of the registry and of the proxy before it",
        };
        let what = format!("{} answers {status}", self.request.url);
        Verdict::new(Kind::ApiStatus, what, remedy).seen(status, self.header(reply, "server", "Server"))
    }

    /// A challenge: from here on it is known who asks for a credential, and by which name it is looked up.
    fn challenged(&mut self, challenge: &Challenge, status: u16) -> Option<Verdict> {
        self.root = self.request.url.clone();
        let registry = self.root.authority().to_owned();
        if self.target.url.scheme() == Scheme::Https && self.root.scheme() == Scheme::Http {
            let what = format!(
                "{} redirects to {}: a credential would cross the network in clear",
                self.target.url, self.root
            );
            return Some(Verdict::new(Kind::ApiRedirect, what, "redirect to https").seen(status, None));
        }
        self.credential = match entry(&self.target.auths, &registry).map(|(_, auth)| Credential::of(auth)) {
            _ if !self.scope.credential => None,
            Some(Ok(given)) => given,
            None => None,
            Some(Err(Undecodable)) => {
                let what = format!("`auth` of {registry} is no base64 of user:password, and every pull fails by it");
                return Some(Verdict::new(Kind::CredentialUnusable, what, "give user name and password in a Secret"));
            }
        };
        match challenge.scheme {
            AuthScheme::Basic | AuthScheme::Other => self.wants_basic(&registry, status),
            AuthScheme::Bearer => self.wants_token(challenge, &registry, status),
        }
    }

    fn wants_basic(&mut self, registry: &str, status: u16) -> Option<Verdict> {
        let header = Some("WWW-Authenticate: Basic".to_owned());
        let Some(credential) = &self.credential else { return Some(self.not_given(status, header)) };
        if !credential.has_user() {
            let what = format!("{registry} wants user and password, and an identity token alone is configured");
            let verdict = Verdict::new(Kind::CredentialUnusable, what, "give user name and password in a Secret");
            return Some(verdict.seen(status, header));
        }
        let basic = credential.basic();
        self.ask(Asking::BackBasic, self.root.clone(), Some(basic), None);
        None
    }

    fn wants_token(&mut self, challenge: &Challenge, registry: &str, status: u16) -> Option<Verdict> {
        let header = |walk: &Self, realm: &str| Some(format!("WWW-Authenticate: Bearer realm={}", walk.shown(realm)));
        let realm = challenge.get("realm").and_then(Url::parse);
        let Some(realm) = realm else {
            let what = format!("{registry} wants a token and names no URL where it is to be had");
            let remedy = "correct the public URL of the registry where it is configured (Gitea: `ROOT_URL`)";
            return Some(
                Verdict::new(Kind::RealmMalformed, what, remedy)
                    .seen(status, Some("WWW-Authenticate: Bearer".to_owned())),
            );
        };
        let shown = realm.to_string();
        if self.root.scheme() == Scheme::Https && realm.scheme() == Scheme::Http {
            self.withhold(Asking::Post, &realm);
            let crosses = if self.credential.is_some() { "the credential" } else { "each token" };
            let what = format!(
                "{registry} is https and sends for tokens to {}: {crosses} would cross the network in clear",
                self.shown(&shown)
            );
            let remedy = "correct the public URL of the registry where it is configured (Gitea: `ROOT_URL`), or let the \
                          proxy pass on `X-Forwarded-Proto: https`";
            return Some(Verdict::new(Kind::RealmScheme, what, remedy).seen(status, header(self, &shown)));
        }
        if !self.scope.realm {
            let what = format!("{registry} asks for a token, as registries do; the policy says not to go on");
            return Some(Verdict::new(Kind::Fine, what, "").seen(status, header(self, &shown)));
        }
        self.service = challenge.get("service").unwrap_or_default().to_owned();
        self.realm = Some(realm.clone());
        match &self.credential {
            Some(credential) => {
                let form = credential.form(&self.service);
                self.ask(Asking::Post, realm, None, Some(form));
            }
            None => self.ask_by_get(realm),
        }
        None
    }

    fn ask_by_get(&mut self, realm: Url) {
        let url = if self.service.is_empty() { realm } else { realm.with_parameter("service", &self.service) };
        let basic = self.credential.as_ref().map(Credential::basic);
        self.ask(Asking::Get, url, basic, None);
    }

    /// The statuses after which containerd asks once more by GET.
    fn posted(&mut self, reply: &Reply) -> Option<Verdict> {
        let has_user = self.credential.as_ref().is_some_and(Credential::has_user);
        match (reply.status, self.realm.clone()) {
            (200, _) => self.took_token(reply),
            // A form is never sent to where a redirect leads.
            (400 | 401 | 404 | 301 | 302 | 303 | 307 | 308, Some(realm)) => {
                self.ask_by_get(realm);
                None
            }
            (405, Some(realm)) if has_user => {
                self.ask_by_get(realm);
                None
            }
            (403, _) => Some(words::refused(self.at(), 403, self.root.authority())),
            (status, _) => Some(self.odd_realm(status, reply)),
        }
    }

    fn got(&mut self, reply: &Reply) -> Option<Verdict> {
        match (reply.status, self.credential.is_some()) {
            (200, _) => self.took_token(reply),
            (301 | 302 | 303 | 307 | 308, _) => self.redirected(reply),
            (status @ (401 | 403), true) => Some(words::refused(self.at(), status, self.root.authority())),
            (status @ (401 | 403), false) => Some(self.not_given(status, None)),
            (status, _) => Some(self.odd_realm(status, reply)),
        }
    }

    fn took_token(&mut self, reply: &Reply) -> Option<Verdict> {
        let names = match self.asking {
            Asking::Post => ["access_token", "token"],
            _ => ["token", "access_token"],
        };
        let answer: Option<Value> = serde_json::from_slice(reply.body.expose()).ok();
        let text = |name: &str| answer.as_ref()?.get(name)?.as_str().filter(|token| !token.is_empty());
        // What cannot stand in a header is no token.
        let token =
            names.iter().find_map(|name| text(name)).filter(|token| token.bytes().all(|b| b.is_ascii_graphic()));
        let Some(token) = token else {
            let what =
                format!("the token realm {} answers 200 without a token", self.shown(&self.request.url.to_string()));
            let header = self.header(reply, "content-type", "Content-Type");
            return Some(Verdict::new(Kind::RealmStatus, what, self.realm_remedy()).seen(200, header));
        };
        let bearer = Secret::new(format!("Bearer {token}"));
        self.ask(Asking::BackBearer, self.root.clone(), Some(bearer), None);
        None
    }

    fn realm_remedy(&self) -> String {
        words::correct_realm(self.root.authority())
    }

    fn odd_realm(&self, status: u16, reply: &Reply) -> Verdict {
        let realm = self.shown(&self.request.url.to_string());
        let what = format!("the token realm {realm} of {} answers {status}", self.root.authority());
        let remedy = match status {
            500.. => "look at the log of the token service and of the proxy before it".to_owned(),
            _ => self.realm_remedy(),
        };
        Verdict::new(Kind::RealmStatus, what, remedy).seen(status, self.header(reply, "server", "Server"))
    }

    fn not_given(&self, status: u16, header: Option<String>) -> Verdict {
        let registry = self.root.authority();
        if !self.scope.credential {
            let what = format!("{registry} asks for a credential; the policy says to send none");
            return Verdict::new(Kind::Fine, what, "").seen(status, header);
        }
        let what = format!(
            "{registry} wants a credential and none is configured for it: images need a pull Secret of their own, but for \
             public ones"
        );
        Verdict::new(Kind::CredentialNotGiven, what, "").seen(status, header)
    }

    /// `/v2/` with a token or with user and password.
    fn came_back(&self, reply: &Reply) -> Verdict {
        let registry = self.root.authority();
        let is_basic = self.asking == Asking::BackBasic;
        let challenges = challenge::parse(reply.headers_of("www-authenticate"));
        let lacks_scope = || challenges.iter().any(|challenge| challenge.get("error") == Some("insufficient_scope"));
        let fine = |what: String| Verdict::new(Kind::Fine, what, "").seen(reply.status, None);
        match reply.status {
            200..=299 if self.credential.is_some() => fine(format!("{registry} takes the credential")),
            200..=299 => fine(format!("{registry} answers to an anonymous token")),
            status @ (401 | 403) if is_basic => words::refused(self.at(), status, registry),
            // A token was asked for without an image's name: that it does not show more is as it should be.
            403 => fine(format!("{registry} takes the token")),
            401 if lacks_scope() => fine(format!("{registry} takes the token")),
            401 if self.credential.is_none() => self.not_given(401, None),
            401 => {
                let realm = self.realm.as_ref().map_or_else(String::new, |realm| self.shown(&realm.to_string()));
                let what = format!("{registry} does not take the token that its realm {realm} gave");
                let remedy = "registry and realm do not belong together, or their clocks or keys differ: look at both";
                Verdict::new(Kind::RealmTokenRefused, what, remedy)
                    .seen(401, Some("WWW-Authenticate: Bearer".to_owned()))
            }
            301 | 302 | 303 | 307 | 308 => {
                let what =
                    format!("{registry} redirects a request that carries a credential, which is not carried along");
                let remedy = "write the endpoint as it is redirected to";
                Verdict::new(Kind::ApiRedirect, what, remedy)
                    .seen(reply.status, self.header(reply, "location", "Location"))
            }
            404 => self.not_found(reply),
            status => self.odd_status(status, reply),
        }
    }

    /// Follows a redirect of a request that carries no credential.
    fn redirected(&mut self, reply: &Reply) -> Option<Verdict> {
        let header = self.header(reply, "location", "Location");
        let next = reply.header("location").and_then(|location| self.request.url.join(location));
        let is_realm = self.at().realm_of.is_some();
        let from = self.shown(&self.request.url.to_string());
        let Some(next) = next.filter(|_| self.redirects < REDIRECTS) else {
            let kind = if is_realm { Kind::RealmStatus } else { Kind::ApiRedirect };
            let what = format!("{from} redirects without end, or to nowhere");
            return Some(Verdict::new(kind, what, "write the endpoint as it is meant").seen(reply.status, header));
        };
        if self.request.authorization.is_some() && !next.is_same_server(&self.request.url) {
            self.withhold(self.asking, &next);
            let what = format!("the token realm {from} redirects elsewhere, where the credential is not sent");
            return Some(Verdict::new(Kind::RealmRedirect, what, self.realm_remedy()).seen(reply.status, header));
        }
        self.redirects += 1;
        let authorization = self.request.authorization.clone();
        self.ask(self.asking, next, authorization, None);
        None
    }
}

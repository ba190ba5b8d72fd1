//! What containerd does with one image: which entry applies to it, and whom it asks in which order, how, and with which
//! credential.
//!
//! The answer is read from the very `hosts.toml` and auth tables that k3s would write, by the code that reads those of a
//! node. A pod's imagePullSecrets are not known here: where one matches, containerd uses it alone.

mod reference;
mod words;

use std::collections::{BTreeMap, BTreeSet};

pub use reference::{Object, Reference, ReferenceError};

use crate::preflight::{Credential, Scheme, Undecodable, Url, entry, percent_encoded};
use crate::registries::document::KeyPath;
use crate::registries::model::{Auth, Registries};
use crate::runtime::auth_tables::{AuthTables, canonical};
use crate::runtime::endpoint::default_host;
use crate::runtime::expect::{DEFAULT_DIR, Expected, Skipped, WILDCARD, dir_of, expect};
use crate::runtime::go::clean;
use crate::runtime::hosts_toml::{HostSeen, HostsSeen, parse};
use crate::runtime::rewrite::{Rewriting, rewrite};
use crate::runtime::settings::Settings;
use crate::secret::Secret;

/// What becomes of one image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// The entry of the file that applies: `mirrors.HOST`, `mirrors."*"`, or `configs.HOST` alone.
    pub entry: Option<KeyPath>,
    /// Whom containerd asks until one has the image; empty where that cannot be told.
    pub asked: Vec<Asked>,
    /// The default endpoint's URL, if it is not asked.
    pub untried: Option<String>,
    /// Hosts that seem to be meant and have a credential, which is sent to none of those that are asked.
    pub unsent: Vec<String>,
    /// What else is to be known.
    pub notes: Vec<String>,
}

/// One place that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The manifest's URL. Several, where several rewrite rules match: one of them, another one at each request.
    pub urls: Vec<String>,
    /// Whether it is the registry's own default endpoint.
    pub is_default: bool,
    /// What the rewrite rules do.
    pub rewriting: Rewriting,
    /// How it is spoken to.
    pub tls: Tls,
    /// What it is sent when it asks for a credential.
    pub login: Login,
}

/// How a place is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The scheme.
    pub transport: Transport,
    /// Any certificate is accepted.
    pub skip_verify: bool,
    /// CA files, beside the system's roots.
    pub ca: Vec<String>,
    /// Files of client certificate and key.
    pub client: Vec<(String, String)>,
}

/// The scheme in which a place is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Encrypted.
    Https,
    /// In clear.
    Http,
    /// https, and http where that is answered.
    HttpsThenHttp,
}

/// What is sent to a place that asks for a credential. Each but the first names the entry of `configs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Nothing: there is no credential for it.
    Anonymous,
    /// Nothing: the entry lacks user name or password.
    Incomplete(String),
    /// `auth` that containerd cannot decode: the pull fails.
    Undecodable(String),
    /// User name and password.
    Password {
        /// The entry.
        under: String,
        /// The user name. Some registries take a token there.
        user: Secret<String>,
    },
    /// An identity token.
    Token(String),
}

impl Login {
    /// The entry of `configs` that it comes from.
    pub fn under(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::Incomplete(under) | Self::Undecodable(under) | Self::Token(under) | Self::Password { under, .. } => {
                Some(under)
            }
        }
    }

    fn of(auths: &BTreeMap<String, Auth>, authority: &str) -> Self {
        let Some((under, auth)) = entry(auths, authority) else { return Self::Anonymous };
        let under = under.to_owned();
        match Credential::of(auth) {
            Ok(None) => Self::Incomplete(under),
            Err(Undecodable) => Self::Undecodable(under),
            Ok(Some(credential)) if credential.user().is_empty() => Self::Token(under),
            Ok(Some(credential)) => Self::Password { under, user: credential.user().clone() },
        }
    }
}

/// Says what containerd does with an image on a node with this file and these flags.
pub fn explain(image: &Reference, registries: &Registries, settings: &Settings) -> Explanation {
    let expected = expect(registries, settings);
    let dir = directory(&expected, &image.registry);
    let mut said = Explanation { entry: dir.and_then(|dir| entry_of(registries, dir)), ..Explanation::default() };
    let is_near = |skipped: &&Skipped| {
        let dir_of_key = skipped.path.keys().get(1).map(|key| dir_of(key));
        dir_of_key.is_some_and(|of| of == image.registry || Some(of.as_str()) == dir)
    };
    said.notes.extend(expected.skipped.iter().filter(is_near).map(words::skipped));
    if dir.is_some_and(|dir| expected.random.contains(dir)) {
        said.notes.push(words::RANDOM.to_owned());
        return said;
    }
    let own = || HostsSeen(vec![HostSeen::default_of(&image.registry)]);
    let (HostsSeen(places), has_default) = match dir.and_then(|dir| expected.hosts.get(dir)) {
        None => (own(), true),
        Some(hosts) => match parse(&hosts.to_bytes(expected.program)) {
            Ok(seen) => (seen.completed(&image.registry), hosts.has_default()),
            Err(error) => {
                said.notes.push(words::dropped(&error));
                (own(), true)
            }
        },
    };
    let AuthTables(auths) = &expected.auths;
    let last = places.len().saturating_sub(1);
    let asked = places.iter().enumerate().map(|(at, seen)| Asked::of(seen, image, auths, has_default && at == last));
    said.asked = asked.collect();
    said.untried = (!has_default).then(|| manifest(&HostSeen::default_of(&image.registry), image, &image.repository));
    said.unsent = unsent(image, auths, &places, &said.asked);
    words::add_notes(&mut said, image, registries, settings);
    said
}

impl Asked {
    fn of(seen: &HostSeen, image: &Reference, auths: &BTreeMap<String, Auth>, is_default: bool) -> Self {
        let rewriting = rewrite(&seen.rewrites, &image.repository);
        let mut urls: Vec<String> =
            rewriting.changes.iter().map(|change| manifest(seen, image, &change.repository)).collect();
        if urls.is_empty() {
            urls.push(manifest(seen, image, &image.repository));
        }
        urls.sort();
        urls.dedup();
        let transport = match (seen.tries_https_first(), seen.scheme == "http") {
            (true, _) => Transport::HttpsThenHttp,
            (false, true) => Transport::Http,
            (false, false) => Transport::Https,
        };
        let (ca, client) = (seen.ca.clone(), seen.client.clone());
        let tls = Tls { transport, skip_verify: seen.skip_verify == Some(true), ca, client };
        Self { urls, is_default, rewriting, tls, login: Login::of(auths, &seen.host) }
    }
}

/// Where containerd looks for a registry's `hosts.toml`: the first of these that is there.
fn directory<'e>(expected: &'e Expected, registry: &str) -> Option<&'e str> {
    let with_port = registry.rsplit_once(':').map(|(name, port)| format!("{name}_{port}_"));
    let dirs = with_port.into_iter().chain([registry.to_owned(), DEFAULT_DIR.to_owned()]);
    let known = |dir: String| {
        let written = expected.hosts.get_key_value(&dir).map(|(dir, _)| dir);
        written.or_else(|| expected.random.get(&dir)).map(String::as_str)
    };
    dirs.into_iter().find_map(known)
}

/// The entry that makes a directory: a mirror before the settings beside it.
fn entry_of(registries: &Registries, dir: &str) -> Option<KeyPath> {
    let Registries { mirrors, configs } = registries;
    let mirrors = mirrors.keys().map(|key| ("mirrors", key));
    let mut all = mirrors.chain(configs.keys().map(|key| ("configs", key)));
    all.find(|(_, key)| dir_of(key) == dir).map(|(part, key)| KeyPath::of([part, key]))
}

/// The manifest's URL at a place, as containerd puts it together.
fn manifest(seen: &HostSeen, image: &Reference, repository: &str) -> String {
    let Reference { registry, repository: _, object } = image;
    let scheme = if seen.tries_https_first() { "https" } else { &seen.scheme };
    let path = clean(&format!("{}/{repository}/manifests/{}", seen.path, object.as_str()));
    let is_own = seen.host == *registry || seen.host == default_host(registry);
    let query = if is_own { String::new() } else { format!("?ns={}", percent_encoded(registry)) };
    format!("{scheme}://{}/{path}{query}", seen.host)
}

/// Credentials for the image's registry, or for another spelling of a place that is asked without one, that stay unused.
fn unsent(image: &Reference, auths: &BTreeMap<String, Auth>, places: &[HostSeen], asked: &[Asked]) -> Vec<String> {
    let name = |authority: &str| Url::of(Scheme::Https, authority, "/").map(|url| url.name().to_ascii_lowercase());
    let is_anonymous = |asked: &Asked| asked.login == Login::Anonymous;
    let bare = places.iter().zip(asked).filter(|(_, asked)| is_anonymous(asked)).map(|(seen, _)| seen.host.as_str());
    let own = [image.registry.as_str(), default_host(&image.registry)];
    let hub = if image.registry == "docker.io" { Some("index.docker.io") } else { None };
    let meant: BTreeSet<String> = own.into_iter().chain(hub).chain(bare).filter_map(name).collect();
    let sent: BTreeSet<&str> = asked.iter().filter_map(|asked| asked.login.under()).collect();
    let is_meant = |host: &String| name(host).is_some_and(|name| meant.contains(&name));
    let hosts = canonical(auths).into_keys().filter(|host| is_meant(host) && !sent.contains(host.as_str()));
    let has_wildcard = auths.get(WILDCARD).is_some_and(|auth| !auth.is_empty());
    hosts.chain(has_wildcard.then(|| WILDCARD.to_owned())).collect()
}

#[cfg(test)]
mod tests;

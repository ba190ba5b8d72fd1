//! What k3s makes of the file on a node: `getHostConfigs` and `InjectMirror`, host by host.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;

use super::auth_tables::AuthTables;
use super::endpoint::Endpoint;
use super::endpoint::NO_MIRROR;
use super::endpoint::UrlError;
use super::endpoint::default_host;
use super::endpoint::is_local;
use super::endpoint::normalize;
use super::go::clean;
use super::hosts_toml::HostTable;
use super::hosts_toml::HostsToml;
use super::hosts_toml::Server;
use super::settings::Program;
use super::settings::Settings;
use crate::registries::document::KeyPath;
use crate::registries::model::HostConfig;
use crate::registries::model::Mirror;
use crate::registries::model::Registries;
use crate::registries::model::Tls;

/// The directory that containerd reads for a host without one of its own.
pub const DEFAULT_DIR: &str = "_default";
/// The key of `mirrors` and `configs` that k3s writes there.
pub const WILDCARD: &str = "*";

/// What k3s writes at its next start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Which program writes it: its name stands in each header.
    pub program: Program,
    /// Directory below `certs.d` to its `hosts.toml`. The name is the key itself, `_default` for `*`; the empty name is
    /// `certs.d` itself.
    pub hosts: BTreeMap<String, HostsToml>,
    /// The auth tables of `config.toml`.
    pub auths: AuthTables,
    /// Directories whose content Go's map order decides anew at each start (`*` and `_default` together): not in
    /// `hosts`, and unknown to whoever compares.
    pub random: BTreeSet<String>,
    /// What k3s passes over, in the order of the keys.
    pub skipped: Vec<Skipped>,
}

impl Expected {
    /// Whether k3s writes this directory, whatever into it.
    pub(crate) fn knows(&self, dir: &str) -> bool {
        self.hosts.contains_key(dir) || self.random.contains(dir)
    }
}

/// A key that has no effect on `certs.d`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Which.
    pub path: KeyPath,
    /// Why.
    pub why: SkipReason,
}

/// Why k3s passes over a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// The host cannot be made a URL: nothing of this entry is written (its auth table is).
    BadHost(UrlError),
    /// The endpoint cannot be made a URL.
    BadEndpoint(UrlError),
    /// The endpoint completes to a URL that stands before it.
    Duplicate,
    /// Neither an endpoint nor a setting is left: no directory, so containerd uses its own default for the host.
    NothingToWrite,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadHost(error) => write!(f, "not a host: {error}"),
            Self::BadEndpoint(error) => write!(f, "not a URL: {error}"),
            Self::Duplicate => f.write_str("the same URL stands before it"),
            Self::NothingToWrite => f.write_str("nothing is written for this host"),
        }
    }
}

/// What k3s makes of the file with these flags.
pub fn expect(registries: &Registries, settings: &Settings) -> Expected {
    let mirror_addr = settings.embedded.as_ref().map(|embedded| embedded.mirror_addr.as_str());
    let registries = match mirror_addr {
        Some(address) => Cow::Owned(with_embedded_registry(registries, settings, address)),
        None => Cow::Borrowed(registries),
    };
    let mut making = Making { registries: &registries, mirror_addr, hosts: BTreeMap::new(), skipped: Vec::new() };
    making.configs();
    making.mirrors(settings.disable_default_endpoint);
    let auths = registries.configs.iter().filter_map(|(host, config)| Some((host.clone(), config.auth.clone()?)));
    let auths = AuthTables(auths.collect());
    making.finish(settings.program, auths)
}

/// `InjectMirror`.
fn with_embedded_registry(registries: &Registries, settings: &Settings, address: &str) -> Registries {
    let mut registries = registries.clone();
    let Settings { program, data_dir, .. } = settings;
    let tls = Tls {
        ca_file: format!("{data_dir}/agent/server-ca.crt"),
        cert_file: format!("{data_dir}/agent/client-{program}-controller.crt"),
        key_file: format!("{data_dir}/agent/client-{program}-controller.key"),
        insecure_skip_verify: false,
    };
    registries.configs.insert(address.to_owned(), HostConfig { auth: None, tls: Some(tls) });
    let url = format!("https://{address}/v2");
    for (host, mirror) in &mut registries.mirrors {
        if !is_local(host) {
            mirror.endpoints.insert(0, url.clone());
        }
    }
    let own = Mirror { endpoints: vec![url], rewrites: BTreeMap::new() };
    registries.mirrors.insert(address.to_owned(), own);
    registries
}

/// A host while k3s puts it together.
#[derive(Clone, Default)]
struct Host {
    default: Option<DefaultEndpoint>,
    endpoints: Vec<HostTable>,
}

/// k3s's default endpoint of a host.
#[derive(Clone, Default)]
struct DefaultEndpoint {
    url: Option<String>,
    config: HostConfig,
    is_override: bool,
    has_rewrites: bool,
}

impl DefaultEndpoint {
    fn has_config(&self) -> bool {
        self.is_override || self.config.auth.is_some() || self.config.tls.is_some() || self.has_rewrites
    }
}

struct Making<'r> {
    registries: &'r Registries,
    mirror_addr: Option<&'r str>,
    /// By key, but `*` as `_default`, as in k3s.
    hosts: BTreeMap<String, Host>,
    skipped: Vec<Skipped>,
}

impl<'r> Making<'r> {
    fn skip(&mut self, path: KeyPath, why: SkipReason) {
        self.skipped.push(Skipped { path, why });
    }

    fn configs(&mut self) {
        for (key, config) in &self.registries.configs {
            match self.default_of(key, config.clone()) {
                Ok(default) => {
                    self.hosts.insert(dir_key(key).to_owned(), Host { default: Some(default), endpoints: Vec::new() });
                }
                Err(error) => self.skip(KeyPath::of(["configs", key]), SkipReason::BadHost(error)),
            }
        }
    }

    fn mirrors(&mut self, is_default_disabled: bool) {
        for (key, mirror) in &self.registries.mirrors {
            // `*` is never found here: k3s has stored it as `_default`, and so drops what `configs."*"` said.
            let host = match self.hosts.get(key) {
                Some(host) => host.clone(),
                None => match self.default_of(key, self.config_for(key).cloned().unwrap_or_default()) {
                    Ok(_) if is_default_disabled => Host::default(),
                    Ok(_) if key == WILDCARD => {
                        let default = DefaultEndpoint { url: Some(String::new()), ..DefaultEndpoint::default() };
                        Host { default: Some(default), endpoints: Vec::new() }
                    }
                    Ok(default) => Host { default: Some(default), endpoints: Vec::new() },
                    Err(error) => {
                        self.skip(KeyPath::of(["mirrors", key]), SkipReason::BadHost(error));
                        continue;
                    }
                },
            };
            let host = self.with_endpoints(host, key, mirror);
            self.hosts.insert(dir_key(key).to_owned(), host);
        }
    }

    fn with_endpoints(&mut self, mut host: Host, key: &str, mirror: &Mirror) -> Host {
        let mut seen = BTreeSet::new();
        for (position, text) in mirror.endpoints.iter().enumerate() {
            let path = || KeyPath::of(["mirrors", key, "endpoint"]).index(position);
            let Endpoint { registry, host: url_host, url, is_override } = match normalize(text, self.mirror_addr) {
                Ok(endpoint) => endpoint,
                Err(error) => {
                    self.skip(path(), SkipReason::BadEndpoint(error));
                    continue;
                }
            };
            if !seen.insert(url.clone()) {
                self.skip(path(), SkipReason::Duplicate);
                continue;
            }
            let config = self.config_for(&registry).cloned().unwrap_or_default();
            let is_embedded = url_host == self.mirror_addr.unwrap_or(NO_MIRROR);
            let rewrites = if is_embedded { BTreeMap::new() } else { mirror.rewrites.clone() };
            let is_last = position + 1 == mirror.endpoints.len();
            let default_url = host.default.as_ref().and_then(|default| default.url.as_deref()).unwrap_or_default();
            if is_last && default_url == url {
                let has_rewrites = !rewrites.is_empty();
                host.default = Some(DefaultEndpoint { url: Some(url), config, is_override, has_rewrites });
            } else {
                host.endpoints.push(HostTable { url, is_override, tls: config.tls, rewrites });
            }
        }
        host
    }

    fn default_of(&self, key: &str, config: HostConfig) -> Result<DefaultEndpoint, UrlError> {
        let endpoint = normalize(key, self.mirror_addr)?;
        let url = (key != WILDCARD).then_some(endpoint.url);
        Ok(DefaultEndpoint { url, config, is_override: false, has_rewrites: false })
    }

    /// `configForHost`: there is no wildcard, and `registry-1.docker.io` goes before `docker.io`.
    fn config_for(&self, host: &str) -> Option<&'r HostConfig> {
        let configs = &self.registries.configs;
        let default = default_host(host);
        if default != host && configs.contains_key(default) {
            return configs.get(default);
        }
        configs.get(host)
    }

    fn finish(mut self, program: Program, auths: AuthTables) -> Expected {
        let mut hosts = BTreeMap::new();
        let mut random = BTreeSet::new();
        if self.is_default_random() {
            random.insert(DEFAULT_DIR.to_owned());
        }
        for (key, host) in std::mem::take(&mut self.hosts) {
            let has_config = host.default.as_ref().is_some_and(DefaultEndpoint::has_config);
            if host.endpoints.is_empty() && !has_config {
                let key = if key == DEFAULT_DIR && !self.names(DEFAULT_DIR) { WILDCARD } else { &key };
                let part = if self.registries.mirrors.contains_key(key) { "mirrors" } else { "configs" };
                self.skip(KeyPath::of([part, key]), SkipReason::NothingToWrite);
                continue;
            }
            let server = host.default.map(|default| Server { url: default.url, tls: default.config.tls });
            let dir = clean(&key);
            if hosts.insert(dir.clone(), HostsToml { server, endpoints: host.endpoints }).is_some() {
                random.insert(dir);
            }
        }
        hosts.retain(|dir, _| !random.contains(dir));
        self.skipped.sort_by(|a, b| a.path.cmp(&b.path));
        Expected { program, hosts, auths, random, skipped: self.skipped }
    }

    fn names(&self, key: &str) -> bool {
        self.registries.mirrors.contains_key(key) || self.registries.configs.contains_key(key)
    }

    /// `*` and the literal `_default` go to one place. A mirror `*` overwrites what `configs` made, a mirror `_default`
    /// adds to it; otherwise the last one in Go's map order wins.
    fn is_default_random(&self) -> bool {
        let Registries { mirrors, configs } = self.registries;
        let has_both_mirrors = mirrors.contains_key(WILDCARD) && mirrors.contains_key(DEFAULT_DIR);
        let has_both_configs = configs.contains_key(WILDCARD) && configs.contains_key(DEFAULT_DIR);
        has_both_mirrors || (has_both_configs && !mirrors.contains_key(WILDCARD))
    }
}

/// The directory below `certs.d` that k3s writes for a key.
pub(crate) fn dir_of(key: &str) -> String {
    clean(dir_key(key))
}

/// The key that k3s keeps a host under.
fn dir_key(key: &str) -> &str {
    if key == WILDCARD { DEFAULT_DIR } else { key }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(registries: &Registries) -> Expected {
        expect(registries, &Settings::plain(Program::K3s))
    }

    fn file(mirrors: &[(&str, &[&str])], configs: &[&str]) -> Registries {
        let mirror = |endpoints: &[&str]| Mirror {
            endpoints: endpoints.iter().map(|text| (*text).to_owned()).collect(),
            rewrites: BTreeMap::new(),
        };
        let config = HostConfig { auth: None, tls: Some(Tls { insecure_skip_verify: true, ..Tls::default() }) };
        Registries {
            mirrors: mirrors.iter().map(|(host, endpoints)| ((*host).to_owned(), mirror(endpoints))).collect(),
            configs: configs.iter().map(|host| ((*host).to_owned(), config.clone())).collect(),
        }
    }

    #[test]
    fn the_wildcard_beside_its_directory_name_is_unknown() {
        let m: &[&str] = &["https://m"];
        for registries in [
            file(&[("*", m), ("_default", m)], &[]),
            file(&[], &["*", "_default"]),
            file(&[("_default", m)], &["*", "_default"]),
        ] {
            let expected = plain(&registries);
            assert_eq!(expected.random, BTreeSet::from([DEFAULT_DIR.to_owned()]));
            assert!(expected.hosts.is_empty());
        }
    }

    #[test]
    fn a_wildcard_mirror_overwrites_what_configs_made_of_either_name() {
        let expected = plain(&file(&[("*", &["https://m"])], &["*", "_default"]));
        assert!(expected.random.is_empty());
        let server = Server { url: Some(String::new()), tls: None };
        assert_eq!(expected.hosts[DEFAULT_DIR].server, Some(server));
    }

    #[test]
    fn two_keys_for_one_directory_are_unknown() {
        let expected = plain(&file(&[], &["r.example.com", "r.example.com/", ".."]));
        assert_eq!(expected.random, BTreeSet::from(["r.example.com".to_owned()]));
        assert_eq!(expected.hosts.keys().collect::<Vec<_>>(), [".."]);
    }

    #[test]
    fn what_is_passed_over_is_named() {
        let mut registries = file(&[("a", &["x", "https://x/", "%zz"]), ("b c", &["x"]), ("d", &[])], &[]);
        registries.configs.insert("e".to_owned(), HostConfig::default());
        registries.configs.insert(WILDCARD.to_owned(), HostConfig::default());
        let skipped = plain(&registries).skipped;
        let skipped: Vec<_> = skipped.iter().map(|skipped| format!("{}: {}", skipped.path, skipped.why)).collect();
        assert_eq!(
            skipped,
            [
                "configs.\"*\": nothing is written for this host",
                "configs.e: nothing is written for this host",
                "mirrors.a.endpoint[1]: the same URL stands before it",
                "mirrors.a.endpoint[2]: not a URL: a % in the URL that begins no valid escape",
                "mirrors.\"b c\": not a host: a character in the URL's host name that is not allowed there",
                "mirrors.d: nothing is written for this host",
            ]
        );
    }

    #[test]
    fn a_key_that_certs_d_skips_still_has_its_auth_table() {
        let mut registries = Registries::default();
        let auth = Some(crate::registries::model::Auth::default());
        registries.configs.insert("a b".to_owned(), HostConfig { auth, tls: None });
        let expected = plain(&registries);
        assert!(expected.hosts.is_empty());
        assert!(expected.auths.0.contains_key("a b"));
    }
}

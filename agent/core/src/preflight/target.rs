//! Who is to be asked with what: the places that containerd will go to, read from the very files that k3s will write.

use std::collections::BTreeMap;

use super::url::{Scheme, Url};
use crate::node::observed::Installation;
use crate::registries::document::without_user_part;
use crate::registries::model::{Auth, Registries};
use crate::runtime::auth_tables::AuthTables;
use crate::runtime::expect::{DEFAULT_DIR, expect};
use crate::runtime::hosts_toml::{HostSeen, HostsSeen, HostsToml, parse};
use crate::runtime::settings::Settings;
use crate::secret::Secret;
use crate::tree::Tree;

/// A place that images are pulled from, with all that containerd has for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What is asked: the API's root there.
    pub url: Url,
    /// Whether the path says that it is the API's root. Of another prefix nobody knows what it answers by itself.
    pub is_api_root: bool,
    /// https is tried first, though the URL says http: containerd does so where TLS settings are given.
    pub tries_https_first: bool,
    /// Whose images are pulled from there: keys of `mirrors` and `configs`, as they are shown, without a user part.
    pub images: Vec<String>,
    /// What it is to them.
    pub place: Place,
    /// How TLS is spoken there, and with its realm.
    pub trust: Trust,
    /// Every credential: which one is sent depends on who asks for it.
    pub auths: BTreeMap<String, Auth>,
}

/// What a place is to the images that are pulled from it; the first that is true of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// An endpoint of a mirror.
    Endpoint,
    /// The registry itself, with settings of its own and no mirror.
    Registry,
    /// The default endpoint of a registry that has mirrors: asked when these fail.
    Fallback,
}

impl Place {
    /// In one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Registry => "registry",
            Self::Fallback => "fallback",
        }
    }
}

/// TLS settings, with the content of their files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// PEM bundles, beside the node's own trust and not instead of it.
    pub ca: Vec<Secret<Vec<u8>>>,
    /// Client certificate and key.
    pub client: Option<Client>,
    /// Accept any certificate.
    pub skip_verify: bool,
    /// A file that is missing: containerd fails every pull then.
    pub missing: Option<String>,
}

/// A client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// PEM.
    pub certificate: Secret<Vec<u8>>,
    /// PEM.
    pub key: Secret<Vec<u8>>,
}

/// The places that a configuration makes containerd go to, each once. `file` gives the content of a TLS file, or `None`
/// if it is not there.
///
/// A `configs` entry for the host of an endpoint is that endpoint's, and no registry of its own: it may speak another
/// scheme or stand under another path than the name alone would mean. The embedded registry is k3s's own business.
pub fn targets(
    registries: &Registries,
    settings: &Settings,
    file: &dyn Fn(&str) -> Option<Secret<Vec<u8>>>,
) -> Vec<Target> {
    let expected = expect(registries, settings);
    let embedded = settings.embedded.as_ref().map(|embedded| embedded.mirror_addr.as_str());
    let AuthTables(auths) = &expected.auths;
    let mut found: Vec<Target> = Vec::new();
    // A nested directory is one that containerd never looks into.
    for (dir, hosts) in expected.hosts.iter().filter(|(dir, _)| !dir.is_empty() && !dir.contains('/')) {
        let images = if dir == DEFAULT_DIR { "*" } else { dir };
        let is_mirror = registries.mirrors.contains_key(images);
        let Some(HostsSeen(places)) = read(dir, hosts, settings) else { continue };
        let last = places.len().saturating_sub(1);
        let has_own = hosts.has_default();
        for (position, seen) in places.iter().enumerate() {
            let place = match (has_own && position == last, last > 0, is_mirror) {
                (true, true, _) => Place::Fallback,
                (true, false, false) => Place::Registry,
                (true, false, true) | (false, ..) => Place::Endpoint,
            };
            let is_embedded = embedded == Some(seen.host.as_str());
            let Some(target) = target(seen, place, auths, file).filter(|_| !is_embedded) else { continue };
            add(&mut found, target, images);
        }
    }
    let endpoints: Vec<String> = found.iter().filter(|target| target.place == Place::Endpoint).map(authority).collect();
    found.retain(|target| target.place != Place::Registry || !endpoints.contains(&authority(target)));
    found.sort_by_key(|target| (target.place, authority(target)));
    found
}

/// The same for a node that is to have these files: those of the tree count before those that lie on the host.
pub fn node_targets(
    registries: &Registries,
    tree: &Tree,
    installation: &Installation,
    on_host: &dyn Fn(&str) -> Option<Secret<Vec<u8>>>,
) -> Vec<Target> {
    let file = |path: &str| tree.tls_file(&installation.registries_path, path).cloned().or_else(|| on_host(path));
    targets(registries, &crate::node::judge::settings(installation), &file)
}

fn authority(target: &Target) -> String {
    target.url.authority().to_owned()
}

/// What containerd makes of the file; of one that it cannot read, the registry alone (`k3s.md` 3.2).
fn read(dir: &str, hosts: &HostsToml, settings: &Settings) -> Option<HostsSeen> {
    match parse(&hosts.to_bytes(settings.program)) {
        Ok(seen) => Some(seen),
        Err(_) if dir == DEFAULT_DIR => None,
        Err(_) => {
            let host = if dir == "docker.io" { crate::docker_config::DOCKER_HUB } else { dir };
            let own = HostSeen {
                scheme: "https".to_owned(),
                host: host.to_owned(),
                path: "/v2".to_owned(),
                ..HostSeen::default()
            };
            Some(HostsSeen(vec![own]))
        }
    }
}

fn target(
    seen: &HostSeen,
    place: Place,
    auths: &BTreeMap<String, Auth>,
    file: &dyn Fn(&str) -> Option<Secret<Vec<u8>>>,
) -> Option<Target> {
    let scheme = match seen.scheme.as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        // The lint says that containerd takes such a scheme for a host.
        _ => return None,
    };
    let (path, is_api_root) = root(&seen.path);
    let url = Url::of(scheme, &seen.host, &path)?;
    let mut trust = Trust { skip_verify: seen.skip_verify == Some(true), ..Trust::default() };
    for path in &seen.ca {
        match file(path) {
            Some(content) => trust.ca.push(content),
            None => trust.missing = Some(path.clone()),
        }
    }
    for (certificate, key) in &seen.client {
        let named = |path: &String, what: &str| match path.is_empty() {
            true => Some(format!("of the client's {what}, which is not named,")),
            false => Some(path.clone()),
        };
        match (file(certificate), file(key)) {
            (Some(certificate), Some(key)) => trust.client = Some(Client { certificate, key }),
            (None, _) => trust.missing = named(certificate, "certificate"),
            (Some(_), None) => trust.missing = named(key, "key"),
        }
    }
    let has_tls = seen.skip_verify.is_some() || !seen.ca.is_empty() || !seen.client.is_empty();
    let tries_https_first = scheme == Scheme::Http && has_tls && url.port() != 80;
    Some(Target { url, is_api_root, tries_https_first, images: Vec::new(), place, trust, auths: auths.clone() })
}

/// The API's root for a path: up to its last `v2`, which `/v2/project` of a pull-through cache has before its end.
fn root(path: &str) -> (String, bool) {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match segments.iter().rposition(|segment| *segment == "v2") {
        Some(at) => (format!("/{}/", segments[..=at].join("/")), true),
        None if segments.is_empty() => ("/".to_owned(), false),
        None => (format!("/{}/", segments.join("/")), false),
    }
}

/// One place is asked once, whoever leads there.
fn add(found: &mut Vec<Target>, target: Target, images: &str) {
    let same = found.iter_mut().find(|known| known.url == target.url && known.trust == target.trust);
    let known = match same {
        Some(known) => known,
        None => {
            found.push(target.clone());
            found.last_mut().expect("it was pushed")
        }
    };
    known.place = known.place.min(target.place);
    known.tries_https_first &= target.tries_https_first;
    known.images.push(without_user_part(images));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registries::on_disk::{self, OnDisk};
    use crate::runtime::settings::{EmbeddedRegistry, Program};

    fn made(text: &str, settings: &Settings) -> Vec<Target> {
        let OnDisk::Read(document) = on_disk::read(text.as_bytes()) else { panic!("{text}") };
        targets(&document.registries, settings, &|path| (path != "/missing").then(|| Secret::new(path.into())))
    }

    fn shown(text: &str) -> Vec<String> {
        let line =
            |target: &Target| format!("{} {} for {}", target.place.as_str(), target.url, target.images.join(" "));
        made(text, &Settings::plain(Program::K3s)).iter().map(line).collect()
    }

    #[test]
    fn every_endpoint_is_asked_and_the_default_one_where_it_is_in_force() {
        let mirror = "mirrors: {ghcr.io: {endpoint: ['https://a', 'http://b:5000/p/v2']}}";
        let endpoints = ["endpoint https://a/v2/ for ghcr.io", "endpoint http://b:5000/p/v2/ for ghcr.io"];
        assert_eq!(shown(mirror)[..2], endpoints);
        assert_eq!(shown(mirror)[2], "fallback https://ghcr.io/v2/ for ghcr.io");
        let disabled = Settings { disable_default_endpoint: true, ..Settings::plain(Program::K3s) };
        assert_eq!(made(mirror, &disabled).len(), 2);
    }

    #[test]
    fn a_registry_that_only_has_settings_is_asked_by_its_own_name() {
        for (text, asked) in [
            ("configs: {r: {auth: {username: u, password: p}}}", vec!["registry https://r/v2/ for r"]),
            ("configs: {docker.io: {tls: {}}}", vec!["registry https://registry-1.docker.io/v2/ for docker.io"]),
            ("configs: {'localhost:5000': {auth: {}}}", vec!["registry http://localhost:5000/v2/ for localhost:5000"]),
            // Nothing is configured, so there is nothing to go wrong.
            ("configs: {r: {}}", vec![]),
            ("configs: {'*': {tls: {insecure_skip_verify: true}}}", vec![]),
        ] {
            assert_eq!(shown(text), asked, "{text}");
        }
    }

    #[test]
    fn the_user_part_of_a_key_is_not_shown() {
        let text = "mirrors: {'u:canary@r': {endpoint: ['https://u:canary@m']}}\nconfigs: {'u:canary@s': {auth: {username: u, password: p}}}";
        let shown = shown(text);
        assert!(shown.contains(&"endpoint https://m/v2/ for …@r".to_owned()), "{shown:?}");
        assert!(shown.len() == 3 && !shown.concat().contains("canary"), "{shown:?}");
    }

    #[test]
    fn a_config_entry_of_an_endpoint_is_no_registry_of_its_own() {
        let text = "mirrors: {n: {endpoint: ['http://10.77.0.1:5001']}}\nconfigs: {'10.77.0.1:5001': {auth: {username: u, password: p}}}";
        assert_eq!(shown(text), ["endpoint http://10.77.0.1:5001/v2/ for n", "fallback https://n/v2/ for n"]);
    }

    #[test]
    fn a_mirror_to_itself_is_an_endpoint_and_one_place_is_asked_once() {
        let itself = "mirrors: {r: {endpoint: ['https://r']}}\nconfigs: {r: {tls: {insecure_skip_verify: true}}}";
        assert_eq!(shown(itself), ["endpoint https://r/v2/ for r"]);
        let twice = "mirrors: {a: {endpoint: ['https://m']}, '*': {endpoint: ['https://m']}}";
        assert_eq!(shown(twice), ["endpoint https://m/v2/ for * a", "fallback https://a/v2/ for a"]);
    }

    #[test]
    fn the_api_root_is_looked_for_in_the_path() {
        for (path, asked, is_root) in [
            ("/v2", "/v2/", true),
            ("/p/v2", "/p/v2/", true),
            ("/v2/project", "/v2/", true),
            ("/artifactory/docker", "/artifactory/docker/", false),
            ("", "/", false),
        ] {
            assert_eq!(root(path), (asked.to_owned(), is_root));
        }
    }

    #[test]
    fn tls_files_come_along_and_a_missing_one_is_named() {
        let text = "configs: {r: {tls: {ca_file: /ca, cert_file: /c, key_file: /k}}, s: {tls: {ca_file: /missing}}}";
        let made = made(text, &Settings::plain(Program::K3s));
        let trust = &made[0].trust;
        assert_eq!(trust.ca[0].expose(), b"/ca");
        assert_eq!(trust.client.as_ref().map(|client| client.key.expose().as_slice()), Some(&b"/k"[..]));
        assert_eq!((&trust.missing, made[1].trust.missing.as_deref()), (&None, Some("/missing")));
    }

    #[test]
    fn files_that_are_to_lie_on_the_node_count_before_those_that_do() {
        let text =
            "configs: {r: {tls: {ca_file: /etc/rancher/k3s/registry-tls/r/ca.crt}}, s: {tls: {ca_file: /own.crt}}}";
        let OnDisk::Read(document) = on_disk::read(text.as_bytes()) else { panic!("{text}") };
        let tls = BTreeMap::from([("r/ca.crt".to_owned(), Secret::new(b"new".to_vec()))]);
        let tree = Tree { registries: None, tls };
        let installation = crate::node::discovery::without_service();
        let made = node_targets(&document.registries, &tree, &installation, &|_| Some(Secret::new(b"old".to_vec())));
        assert_eq!((made[0].trust.ca[0].expose(), made[1].trust.ca[0].expose()), (&b"new".to_vec(), &b"old".to_vec()));
    }

    #[test]
    fn http_with_tls_settings_is_tried_as_https_first_but_on_its_own_port() {
        let first = |url: &str, host: &str| {
            let text = format!(
                "mirrors: {{n: {{endpoint: ['{url}']}}}}\nconfigs: {{'{host}': {{tls: {{insecure_skip_verify: true}}}}}}"
            );
            made(&text, &Settings::plain(Program::K3s))[0].tries_https_first
        };
        assert!(first("http://r:5000", "r:5000"));
        assert!(!first("http://r", "r") && !first("https://r:5000", "r:5000"));
    }

    #[test]
    fn the_embedded_registry_is_not_asked() {
        let embedded = Some(EmbeddedRegistry { mirror_addr: "127.0.0.1:6443".to_owned() });
        let settings = Settings { embedded, ..Settings::plain(Program::K3s) };
        let urls: Vec<_> = made("mirrors: {ghcr.io: }", &settings).iter().map(|t| t.url.to_string()).collect();
        assert_eq!(urls, ["https://ghcr.io/v2/"]);
    }

    #[test]
    fn a_file_that_containerd_drops_leaves_the_registry_alone() {
        let text = "mirrors: {r: {endpoint: ['https://m'], rewrite: {'^a\\.b': x}}}";
        assert_eq!(shown(text), ["endpoint https://r/v2/ for r"]);
    }
}

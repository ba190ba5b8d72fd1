//! Under which hosts a Secret's credential is placed.
//!
//! containerd looks a credential up by the host and port of the *endpoint* it talks to, never by the image's name
//! (`k3s.md` 5). A Secret names a registry as people and `docker login` do. So a credential for HOST is placed under
//! HOST, and also under an endpoint's `host:port` where that is the same registry beyond doubt:
//!
//! 1. the endpoint is HOST with its scheme's port written or left out (`r` and `https://r:443`);
//! 2. HOST names no port, and the mirror HOST leads to one other port of the same name (`http://HOST:5000`);
//! 3. HOST is a mirror whose endpoints are all one place, and
//!    - HOST means nothing to the node (`localhost:3000`, `registry.ns.svc.cluster.local:5000`), or
//!    - that place is the node itself or an address of a private network, and HOST is no registry of the public
//!      internet.
//!
//! Nothing else: a cache of `ghcr.io` is not `ghcr.io`, and a credential must not be sent to a host that its owner did
//! not mean. A place that has a credential of its own keeps it, and where two different credentials would be placed,
//! neither is. What is not placed, though it may have been meant to be, is said.

use std::collections::{BTreeMap, BTreeSet};

use super::address::{Address, addresses};
use super::fields::Fields;
use super::refusal::Source;
use super::sources::TlsFiles;
use crate::docker_config;
use crate::registries::document::KeyPath;
use crate::registries::finding::{Finding, Severity};
use crate::registries::model::{Auth, Registries};
use crate::yaml::nearest;

/// A credential from a Secret.
#[derive(Debug)]
pub(super) struct Given {
    pub host: String,
    pub auth: Auth,
    pub source: Source,
}

/// Places what [`Fields`] does not have yet and says what may be missing. `written` are the hosts that the file names.
pub(super) fn place(
    fields: &mut Fields<'_>,
    credentials: &[Given],
    tls: &[TlsFiles],
    written: &BTreeSet<String>,
) -> Vec<Finding> {
    let mut meant: BTreeMap<String, Vec<&Given>> = BTreeMap::new();
    for given in credentials {
        for place in copies(&fields.registries, &given.host) {
            if !fields.has_auth(&place) {
                meant.entry(place).or_default().push(given);
            }
        }
    }
    let mut findings = Vec::new();
    for (place, given) in meant {
        match given.as_slice() {
            [first, others @ ..] if others.iter().all(|other| other.auth == first.auth) => {
                fields.add_auth(&place, &first.auth, &first.source);
            }
            several => {
                let names: Vec<_> = several.iter().map(|given| given.host.as_str()).collect();
                let message = format!(
                    "{} lead to {place} and have different credentials, so none is sent there: give {place} one of its own in a Secret",
                    names.join(" and ")
                );
                findings.push(warning("credential-ambiguous", &place, "auth", message));
            }
        }
    }
    for files in tls {
        let Some(settings) = fields.registries.configs.get(&files.host).and_then(|config| config.tls.clone()) else {
            continue;
        };
        for place in same_place(&fields.registries, &files.host) {
            if fields.registries.configs.get(&place).is_none_or(|config| config.tls.is_none()) {
                fields.add_tls(&place, &settings, false, &files.source);
            }
        }
    }
    let hosts = credentials.iter().map(|given| (&given.host, &given.source, "auth"));
    let hosts = hosts.chain(tls.iter().map(|files| (&files.host, &files.source, "tls")));
    for (host, source, key) in hosts {
        let unused = unused(&fields.registries, host, source, key);
        findings.extend(unused.or_else(|| strange(&fields.registries, host, source, key, written)));
    }
    findings.dedup();
    findings
}

/// The hosts, besides HOST itself, under which a credential for HOST is placed if they have none.
pub(crate) fn copies(registries: &Registries, host: &str) -> Vec<String> {
    let Some(wanted) = Address::of_host(host) else { return Vec::new() };
    let mut places = same_place(registries, host);
    // Rule 2.
    if let (None, Some(mirror)) = (wanted.port, registries.mirrors.get(host)) {
        let mut namesakes = addresses(&mirror.endpoints);
        namesakes.retain(|address| address.name == wanted.name);
        if let [only] = namesakes.as_slice() {
            places.push(only.authority.clone());
        }
    }
    // Rule 3.
    if let Some(only) = only_place_of_mirror(registries, host)
        && !wanted.is_public_registry()
        && (wanted.is_unreachable_name() || only.is_private())
    {
        places.push(only.authority);
    }
    places.retain(|place| place != host);
    places.sort();
    places.dedup();
    places
}

/// Rule 1: endpoints that are HOST under another spelling of its port.
fn same_place(registries: &Registries, host: &str) -> Vec<String> {
    let Some(wanted) = Address::of_host(host) else { return Vec::new() };
    let is_same = |address: &Address| address.authority != host && wanted.is_where(address);
    let mut places: Vec<_> = endpoints(registries).filter(is_same).map(|address| address.authority).collect();
    places.sort();
    places.dedup();
    places
}

/// Where the mirror leads, if it is one place and another one.
fn only_place_of_mirror(registries: &Registries, host: &str) -> Option<Address> {
    let mut addresses = addresses(&registries.mirrors.get(host)?.endpoints);
    match (addresses.pop(), addresses.is_empty()) {
        (Some(only), true) if only.authority != host => Some(only),
        _ => None,
    }
}

/// A credential or certificate that is there and that the endpoints of its host will not use.
fn unused(registries: &Registries, host: &str, source: &Source, key: &'static str) -> Option<Finding> {
    let wanted = Address::of_host(host)?;
    let has = |place: &str| {
        registries.configs.get(place).is_some_and(|config| match key {
            "auth" => config.auth.as_ref().is_some_and(|auth| !auth.is_empty()),
            _ => config.tls.is_some(),
        })
    };
    let what = if key == "auth" { "credential" } else { "certificate" };
    let how = if key == "auth" {
        "name that host in the Secret if it is to be sent there"
    } else {
        "add that host to the annotation if it is meant for it"
    };
    let is_other = |address: &Address| {
        let is_idle = key == "tls" && address.is_plain_http();
        !wanted.is_where(address) && !has(&address.authority) && !address.is_public_registry() && !is_idle
    };
    if let Some(mirror) = registries.mirrors.get(host)
        && !wanted.is_public_registry()
        && let Some(other) = addresses(&mirror.endpoints).into_iter().find(is_other)
    {
        let rule = if key == "auth" { "credential-not-for-endpoint" } else { "certificate-not-for-endpoint" };
        let message = format!(
            "the {what} from {source} is for {host}, but images of {host} are pulled from {}, which has none: {how}",
            other.authority
        );
        return Some(warning(rule, host, key, message));
    }
    let is_named =
        registries.mirrors.contains_key(host) || endpoints(registries).any(|address| wanted.is_where(&address));
    let namesake = named(registries).find(|address| address.name == wanted.name && is_other(address))?;
    (!is_named).then(|| {
        let message = format!(
            "the {what} from {source} is for {host}, which the file does not name; {} is another port of it and has none: {how}",
            namesake.authority
        );
        warning("host-with-other-port", host, key, message)
    })
}

/// A credential or certificate for a host that the file does not name, though it names others: mistyped, perhaps, and
/// perhaps right, since images may name a registry of which nothing else has to be said.
fn strange(
    registries: &Registries,
    host: &str,
    source: &Source,
    key: &'static str,
    written: &BTreeSet<String>,
) -> Option<Finding> {
    let wanted = Address::of_host(host)?;
    let is_written = written.contains(host)
        || written.iter().filter_map(|name| Address::of_host(name)).any(|name| wanted.is_where(&name))
        || endpoints(registries).any(|endpoint| wanted.is_where(&endpoint));
    if written.is_empty() || is_written || wanted.is_public_registry() {
        return None;
    }
    let what = if key == "auth" { "credential" } else { "certificate" };
    let names: Vec<&str> = written.iter().map(String::as_str).collect();
    let near = nearest(host, &names).map_or_else(String::new, |near| format!("; the nearest name there is {near}"));
    let message = format!(
        "the {what} from {source} is for {host}, which the file names neither as mirror nor as endpoint: it serves images \
         named `{host}/…` and nothing else{near}"
    );
    Some(warning("host-not-in-file", host, key, message))
}

fn endpoints(registries: &Registries) -> impl Iterator<Item = Address> {
    registries.mirrors.values().flat_map(|mirror| addresses(&mirror.endpoints))
}

/// Every host that the model names, the Secret's own included.
fn named(registries: &Registries) -> impl Iterator<Item = Address> {
    let keys = registries.mirrors.keys().chain(registries.configs.keys());
    let keys = keys.filter_map(|key| Address::of_host(&docker_config::host(key).ok()?));
    keys.chain(endpoints(registries))
}

fn warning(rule: &'static str, host: &str, key: &str, message: String) -> Finding {
    Finding { rule, severity: Severity::Warning, path: KeyPath::of(["configs", host, key]), at: None, message }
}

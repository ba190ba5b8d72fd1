//! Which `configs` entry applies to what: containerd looks one up under the host and port of the endpoint it asks.

use std::collections::BTreeSet;

use super::Findings;
use super::placeholder;
use super::rules;
use super::view::Address;
use super::view::Endpoint;
use super::view::HUB_ENDPOINT;
use super::view::View;
use super::view::WILDCARD;
use super::view::host_and_port;
use super::view::shown;
use crate::registries::document::KeyPath;
use crate::registries::model::HostConfig;

/// First words of names that token servers have and registries have not.
const REALM_WORDS: [&str; 8] = ["auth", "token", "oauth", "oauth2", "sso", "login", "idp", "keycloak"];

pub(super) fn check(view: &View<'_>, out: &mut Findings<'_>) {
    let configs = &view.registries.configs;
    for (key, HostConfig { auth, tls }) in configs {
        let path = KeyPath::of(["configs", key]);
        if auth.is_none() && tls.is_none() {
            config_empty(view, key, path, out);
            continue;
        }
        if key == WILDCARD || key.contains('/') {
            continue;
        }
        default_endpoint_kept(view, key, &path, out);
        docker_hub(view, key, &path, tls.is_some(), out);
        if view.addresses_under(key).next().is_some() {
            continue;
        }
        if view.registries.mirrors.contains_key(key) {
            under_mirror_name(view, key, path, out);
        } else if !is_hub_name(key) || key == "auth.docker.io" {
            unused(view, key, path, out);
        }
    }
}

fn config_empty(view: &View<'_>, key: &str, path: KeyPath, out: &mut Findings<'_>) {
    let settings = &view.context.settings;
    let message = if settings.disable_default_endpoint && view.registries.mirrors.contains_key(key) {
        "the entry says nothing, and yet it keeps the upstream as default endpoint although default endpoints are \
         disabled; leave it out"
    } else {
        "the entry has neither `auth` nor `tls`, so it has no effect; indent them by two spaces more than the host, or \
         leave it out"
    };
    out.add(rules::CONFIG_EMPTY, path, message);
}

fn default_endpoint_kept(view: &View<'_>, key: &str, path: &KeyPath, out: &mut Findings<'_>) {
    if view.context.settings.disable_default_endpoint && view.addresses_of(key).next().is_some() {
        let instead = match key {
            "docker.io" => "write the entry under `registry-1.docker.io`, which has not this effect",
            _ => "move the entry to the endpoint's host and port, or leave it out",
        };
        let message = format!(
            "a mirror that also has an entry here keeps its upstream, although default endpoints are disabled: pulls may \
             go to {} itself; {instead}",
            shown(key)
        );
        out.add(rules::DEFAULT_ENDPOINT_KEPT, path.clone(), message);
    }
}

fn is_hub_name(key: &str) -> bool {
    matches!(key, "docker.io" | "index.docker.io" | HUB_ENDPOINT)
}

/// Three names for Docker Hub's credentials, two for its TLS settings.
fn docker_hub(view: &View<'_>, key: &str, path: &KeyPath, has_tls: bool, out: &mut Findings<'_>) {
    let configs = &view.registries.configs;
    let message = match key {
        "index.docker.io" if has_tls => {
            "TLS settings for Docker Hub are looked up under registry-1.docker.io, never here; write \
             `registry-1.docker.io`"
        }
        "docker.io" | "index.docker.io" if configs.get(HUB_ENDPOINT).is_some_and(|other| other.auth.is_some()) => {
            "Docker Hub also has an entry `registry-1.docker.io`, whose credentials are used before these; keep that one"
        }
        "index.docker.io" if configs.get("docker.io").is_some_and(|other| other.auth.is_some()) => {
            "Docker Hub also has an entry `docker.io`, whose credentials are used before these; keep one, under \
             `registry-1.docker.io`"
        }
        "hub.docker.com" | "docker.com" | "registry.hub.docker.com" | "https://index.docker.io/v1/" => {
            "Docker Hub's images come from registry-1.docker.io, and credentials are looked up under that name; write \
             `registry-1.docker.io`"
        }
        _ => return,
    };
    out.add(rules::CONFIG_DOCKER_HUB, path.clone(), message);
}

/// The entry stands under the name in the images while all endpoints are elsewhere. It may be meant for the upstream,
/// which is asked last; if every endpoint has its own entry it surely is.
fn under_mirror_name(view: &View<'_>, key: &str, path: KeyPath, out: &mut Findings<'_>) {
    let bare: BTreeSet<&str> = view
        .addresses_of(key)
        .filter(|address| !has_config(view, address))
        .map(|address| address.registry.as_str())
        .collect();
    if bare.is_empty() {
        return;
    }
    let hosts: Vec<String> = bare.into_iter().take(3).map(shown).collect();
    let message = format!(
        "the entry applies to {} itself, which is asked only after the mirror's endpoints, and not to them; if it is \
         meant for them, write it under the endpoint's host and port: {}",
        shown(key),
        hosts.join(", ")
    );
    out.add(rules::CONFIG_UNDER_MIRROR_NAME, path, message);
}

fn has_config(view: &View<'_>, address: &Address) -> bool {
    let configs = &view.registries.configs;
    configs.contains_key(&address.registry) || (address.registry == "docker.io" && configs.contains_key(HUB_ENDPOINT))
}

/// No endpoint and no mirror has this host. That is right for a registry whose images are pulled by its own name.
fn unused(view: &View<'_>, key: &str, path: KeyPath, out: &mut Findings<'_>) {
    if placeholder::in_address(key).is_some() {
        return;
    }
    let (host, port) = host_and_port(key);
    let first = host.split('.').next().unwrap_or_default();
    if REALM_WORDS.contains(&first) && host.contains('.') {
        out.add(rules::CONFIG_REALM_HOST, path, realm(key));
        return;
    }
    let is_near = |address: &&Address| {
        let other_first = address.host.split('.').next().unwrap_or_default();
        let is_same_host = address.host.eq_ignore_ascii_case(host);
        let is_cut = (address.host == first || other_first == host) && address.port.as_deref() == port;
        is_same_host || is_cut
    };
    let addresses = || view.endpoints.iter().filter_map(Endpoint::address);
    if let Some(near) = addresses().find(is_near) {
        let message = format!(
            "no endpoint has this host and port, and the entry must be written exactly as the endpoint's URL has it; \
             write {}",
            shown(&near.registry)
        );
        out.add(rules::CONFIG_UNUSED, path, message);
    } else if addresses().any(|address| domain(&address.host).is_some() && domain(&address.host) == domain(host)) {
        out.add(rules::CONFIG_REALM_HOST, path, realm(key));
    }
}

fn realm(key: &str) -> String {
    format!(
        "no endpoint here has this host. If it is the token server (realm) of one, the entry is never consulted: \
         containerd takes credentials and TLS settings of the registry it pulls from, whose `ca_file` must also hold the \
         realm's CA; write them there, and keep this one only for images named `{key}/…`"
    )
}

/// The last two labels of a name.
fn domain(host: &str) -> Option<&str> {
    if host.parse::<std::net::IpAddr>().is_ok() {
        return None;
    }
    let (rest, _) = host.rsplit_once('.')?;
    Some(match rest.rsplit_once('.') {
        Some((before, _)) => &host[before.len() + 1..],
        None => host,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::Case;
    use super::super::tests::file;
    use super::super::tests::run;
    use super::*;

    pub(crate) fn cases() -> Vec<Case> {
        let hub = |endpoint: &str| file().mirror("docker.io", &[endpoint]);
        vec![
            (rules::CONFIG_EMPTY, file().config("r.example.com"), file().login("r.example.com")),
            (
                rules::CONFIG_UNUSED,
                hub("https://m.example.com").login("m.example.com:5000"),
                hub("https://m.example.com:5000").login("m.example.com:5000"),
            ),
            (
                rules::CONFIG_UNUSED,
                hub("https://m.example.com:5000").login("m:5000"),
                hub("https://m.example.com:5000").login("n:5000"),
            ),
            (
                rules::CONFIG_UNUSED,
                hub("https://m.example.com:5000").login("M.example.com:5000"),
                hub("https://m.example.com").login("other.example"),
            ),
            (
                rules::CONFIG_UNDER_MIRROR_NAME,
                file().mirror("quay.io", &["https://m.example.com:9001"]).skip_verify("quay.io"),
                file()
                    .mirror("quay.io", &["https://m.example.com:9001"])
                    .skip_verify("quay.io")
                    .login("m.example.com:9001"),
            ),
            (
                rules::CONFIG_UNDER_MIRROR_NAME,
                hub("https://m.example.com").login("docker.io"),
                hub("https://registry-1.docker.io").login("docker.io"),
            ),
            (
                rules::CONFIG_REALM_HOST,
                hub("https://registry.bto.bar").login("gitea.k3s.bto.bar"),
                hub("https://registry.bto.bar").login("ghcr.io"),
            ),
            (rules::CONFIG_REALM_HOST, file().login("auth.example.com"), file().login("registry.example.com")),
            (rules::CONFIG_DOCKER_HUB, file().skip_verify("index.docker.io"), file().login("index.docker.io")),
            (
                rules::CONFIG_DOCKER_HUB,
                file().login("docker.io").login("registry-1.docker.io"),
                file().login("docker.io"),
            ),
            (rules::CONFIG_DOCKER_HUB, file().login("hub.docker.com"), file().login("registry-1.docker.io")),
            (
                rules::DEFAULT_ENDPOINT_KEPT,
                hub("https://m.example.com").login("docker.io").no_default(),
                hub("https://m.example.com").login("registry-1.docker.io").no_default(),
            ),
            (
                rules::DEFAULT_ENDPOINT_KEPT,
                hub("https://m.example.com").login("docker.io").no_default(),
                hub("https://m.example.com").login("docker.io"),
            ),
        ]
    }

    #[test]
    fn each_rule_names_its_mistake_and_not_its_near_miss() {
        run(&cases());
    }

    #[test]
    fn the_key_that_was_meant_is_named() {
        let file = file().mirror("quay.io", &["https://m.example.com:9001"]);
        let message = file.clone().login("m.example.com:5000").message(rules::CONFIG_UNUSED);
        assert!(message.ends_with("write `m.example.com:9001`"), "{message}");
        let message = file.login("quay.io").message(rules::CONFIG_UNDER_MIRROR_NAME);
        assert!(message.ends_with(": `m.example.com:9001`"), "{message}");
    }
}

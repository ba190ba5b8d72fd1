//! A document as the rules look at it: every endpoint completed as k3s completes it, and who uses which entry.

use std::collections::BTreeMap;

use crate::registries::document::Document;
use crate::registries::document::KeyPath;
use crate::registries::document::without_user_part;
use crate::registries::lint::Context;
use crate::registries::model::Mirror;
use crate::registries::model::Registries;
use crate::runtime::endpoint::Endpoint as Completed;
use crate::runtime::endpoint::UrlError;
use crate::runtime::endpoint::normalize;

/// The wildcard key.
pub(super) const WILDCARD: &str = "*";
/// Where Docker Hub's images really are.
pub(super) const HUB_ENDPOINT: &str = "registry-1.docker.io";

pub(super) struct View<'a> {
    pub document: &'a Document,
    pub registries: &'a Registries,
    pub context: &'a Context,
    /// In the order of their mirrors' keys.
    pub endpoints: Vec<Endpoint<'a>>,
    /// Positions in `endpoints` by [`lookup`] of their registries.
    by_registry: BTreeMap<String, Vec<usize>>,
}

/// One item of one `endpoint:` list.
pub(super) struct Endpoint<'a> {
    pub mirror: &'a str,
    pub position: usize,
    pub is_last: bool,
    /// As written.
    pub text: &'a str,
    /// What k3s makes of it, or why it ignores the item.
    pub address: Result<Address, UrlError>,
}

/// An endpoint as k3s completes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// The key of `configs` that applies to it (or its other Docker Hub name).
    pub registry: String,
    /// The URL as k3s writes it.
    pub url: String,
    pub scheme: String,
    /// Without port and brackets.
    pub host: String,
    pub port: Option<String>,
    pub path: String,
}

impl<'a> View<'a> {
    pub(super) fn of(document: &'a Document, context: &'a Context) -> Self {
        let registries = &document.registries;
        let mut endpoints = Vec::new();
        for (mirror, Mirror { endpoints: texts, rewrites: _ }) in &registries.mirrors {
            for (position, text) in texts.iter().enumerate() {
                let is_last = position + 1 == texts.len();
                endpoints.push(Endpoint { mirror, position, is_last, text, address: Address::of(text) });
            }
        }
        let mut by_registry: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, address) in endpoints.iter().enumerate().filter_map(|(at, e)| Some((at, e.address()?))) {
            by_registry.entry(lookup(&address.registry).to_owned()).or_default().push(at);
        }
        Self { document, registries, context, endpoints, by_registry }
    }

    /// The endpoints of one mirror that k3s accepts.
    pub(super) fn addresses_of(&self, mirror: &str) -> impl Iterator<Item = &Address> {
        let start = self.endpoints.partition_point(|endpoint| endpoint.mirror < mirror);
        let end = self.endpoints.partition_point(|endpoint| endpoint.mirror <= mirror);
        self.endpoints[start..end].iter().filter_map(Endpoint::address)
    }

    /// The endpoints to which the entry `configs.KEY` applies.
    pub(super) fn addresses_under(&self, key: &str) -> impl Iterator<Item = &Address> {
        let positions = self.by_registry.get(lookup(key)).map(Vec::as_slice).unwrap_or_default();
        positions.iter().filter_map(|at| self.endpoints[*at].address())
    }
}

impl Endpoint<'_> {
    pub(super) fn address(&self) -> Option<&Address> {
        self.address.as_ref().ok()
    }

    pub(super) fn path(&self) -> KeyPath {
        KeyPath::of(["mirrors", self.mirror, "endpoint"]).index(self.position)
    }
}

impl Address {
    pub(super) fn of(text: &str) -> Result<Self, UrlError> {
        let Completed { registry, host: _, url, is_override: _ } = normalize(text, None)?;
        let (scheme, rest) = url.split_once("://").unwrap_or(("", &url));
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let (host, port) = host_and_port(authority);
        let path = path.split(['?', '#']).next().unwrap_or_default().to_owned();
        let (scheme, host, port) = (scheme.to_owned(), host.to_owned(), port.map(str::to_owned));
        Ok(Self { scheme, host, port, path, registry, url })
    }
}

/// Cuts `host:port`; brackets of an IPv6 address are taken off. Several colons without brackets are all host.
pub(super) fn host_and_port(text: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        Some(_) | None => (text, None),
    }
}

/// The name under which k3s looks an entry up: it takes Docker Hub's two names for one.
fn lookup(registry: &str) -> &str {
    if registry == HUB_ENDPOINT { "docker.io" } else { registry }
}

/// Text of the file inside a message: no user part, no query (both may hold a token), nothing unprintable, not long.
pub(super) fn shown(text: &str) -> String {
    let text = without_user_part(text);
    let text = match text.split_once('?') {
        Some((before, _)) => format!("{before}?…"),
        None => text,
    };
    let escaped: String =
        text.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'").replace("\\\\", "\\");
    match escaped.char_indices().nth(100) {
        Some((at, _)) => format!("`{}…`", &escaped[..at]),
        None => format!("`{escaped}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_told_apart() {
        for (text, host, port) in [
            ("r.example.com", "r.example.com", None),
            ("r.example.com:5000", "r.example.com", Some("5000")),
            ("[fd00::5]:5000", "fd00::5", Some("5000")),
            ("[fd00::5]", "fd00::5", None),
            ("fd00::5", "fd00::5", None),
        ] {
            assert_eq!(host_and_port(text), (host, port), "{text}");
        }
    }

    #[test]
    fn what_is_shown_hides_user_part_and_query_and_is_short_and_printable() {
        assert_eq!(shown("https://u:canary@h/p?t=canary"), "`https://…@h/p?…`");
        assert_eq!(shown("a\u{1}\n\"'\\"), "`a\\u{1}\\n\"'\\`");
        assert_eq!(shown(&"é".repeat(200)).chars().count(), 103);
    }
}

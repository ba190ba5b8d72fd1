//! One `hosts.toml` as containerd reads it.

use std::collections::BTreeMap;

use thiserror::Error;
use toml::de::DeTable;
use toml::de::DeValue;

use crate::runtime::toml_text::Toml;
use crate::runtime::toml_text::TomlError;
use crate::runtime::toml_text::field;
use crate::runtime::toml_text::parse as parse_toml;
use crate::runtime::url::Url;
use crate::runtime::url::UrlError;
use crate::secret::Secret;

/// Where containerd looks for an image of the host, in this order. The registry itself is the last if it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostsSeen(pub Vec<HostSeen>);

/// One place to look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostSeen {
    /// `https` or `http`.
    pub scheme: String,
    /// Host and port; empty where containerd fills in the image's own host.
    pub host: String,
    /// Path, with `/v2` where containerd adds it.
    pub path: String,
    /// What it may be asked for.
    pub capabilities: Capabilities,
    /// CA files.
    pub ca: Vec<String>,
    /// Pairs of certificate and key; the key is empty where it stands in the same file.
    pub client: Vec<(String, String)>,
    /// Accept any certificate; `None` leaves containerd's default.
    pub skip_verify: Option<bool>,
    /// Pattern to replacement.
    pub rewrites: BTreeMap<String, String>,
    /// Headers sent along. Some people put credentials there.
    pub headers: BTreeMap<String, Secret<String>>,
    /// Dial timeout, as written.
    pub dial_timeout: String,
}

/// What a host may be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Manifests by digest, and layers.
    pub pull: bool,
    /// Manifests by tag.
    pub resolve: bool,
    /// Uploads.
    pub push: bool,
}

impl Capabilities {
    /// Whether it may be asked for everything.
    pub const fn is_all(self) -> bool {
        let Self { pull, resolve, push } = self;
        pull && resolve && push
    }
}

/// Why containerd does not use a `hosts.toml`: it then pulls from the host itself, without mirrors (`k3s.md` 3.2 rules
/// 3 and 4). Shows no text of the file but its own keys.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HostsError {
    /// A truncated file, for instance.
    #[error("it is empty")]
    Empty,
    /// TOML.
    #[error(transparent)]
    Toml(#[from] TomlError),
    /// A value of another type than containerd takes.
    #[error("{0} has a value of the wrong type")]
    Type(&'static str),
    /// `server` or the name of a host table.
    #[error("the URL of a server or host cannot be read")]
    Url(#[source] UrlError),
    /// Not pull, resolve or push.
    #[error("an unknown capability")]
    Capability,
    /// `dial_timeout`.
    #[error("dial_timeout is not a duration")]
    Duration,
}

/// Reads a file as containerd's `parseHostsFile` does.
pub fn parse(bytes: &[u8]) -> Result<HostsSeen, HostsError> {
    if bytes.is_empty() {
        return Err(HostsError::Empty);
    }
    let Toml { root, headers } = parse_toml(bytes)?;
    let tables = match field(&root, "host") {
        None => None,
        Some(DeValue::Table(tables)) => Some(tables),
        Some(_) => return Err(HostsError::Type("host")),
    };
    let mut by_name = BTreeMap::new();
    for (name, table) in tables.into_iter().flatten() {
        let DeValue::Table(table) = table.get_ref() else { return Err(HostsError::Type("host")) };
        by_name.insert(name.get_ref().to_string(), table);
    }
    let server = match field(&root, "server") {
        None => None,
        Some(DeValue::String(server)) => Some(server.as_ref()),
        Some(_) => return Err(HostsError::Type("server")),
    };
    let mut hosts = Vec::new();
    let mut last: Option<&str> = None;
    for header in &headers {
        let [first, name, ..] = header.as_slice() else { continue };
        if first != "host" || last == Some(name) {
            continue;
        }
        last = Some(name);
        let none = DeTable::new();
        hosts.push(host(name, by_name.get(name).copied().unwrap_or(&none))?);
    }
    // Every table is decoded, also those that only a dotted key names and that containerd then never asks.
    for table in by_name.values() {
        check_types(table)?;
    }
    let own = host(server.unwrap_or_default(), &root)?;
    if server.is_some() || hosts.is_empty() {
        hosts.push(own);
    }
    Ok(HostsSeen(hosts))
}

fn host(server: &str, table: &DeTable<'_>) -> Result<HostSeen, HostsError> {
    let mut seen = HostSeen::default();
    let is_override = boolean(table, "override_path")?.unwrap_or(false);
    if !server.is_empty() {
        let text = if server.starts_with("http") { server.to_owned() } else { format!("https://{server}") };
        let url = Url::parse(&text).map_err(HostsError::Url)?;
        seen.path = path(&String::from_utf8_lossy(&url.path), is_override);
        seen.host = String::from_utf8_lossy(&url.host).into_owned();
        seen.scheme = url.scheme;
    }
    seen.capabilities = capabilities(table)?;
    seen.skip_verify = boolean(table, "skip_verify")?;
    seen.ca = match field(table, "ca") {
        None => Vec::new(),
        Some(DeValue::String(file)) => vec![file.to_string()],
        Some(value) => strings(value, "ca")?,
    };
    seen.client = match field(table, "client") {
        None => Vec::new(),
        Some(DeValue::String(file)) => vec![(file.to_string(), String::new())],
        Some(DeValue::Array(pairs)) => {
            pairs.iter().map(|pair| client_pair(pair.get_ref())).collect::<Result<Vec<_>, HostsError>>()?
        }
        Some(_) => return Err(HostsError::Type("client")),
    };
    for (key, value) in sub_table(table, "rewrite")? {
        let DeValue::String(replacement) = value else { return Err(HostsError::Type("rewrite")) };
        seen.rewrites.insert(key.to_owned(), replacement.to_string());
    }
    for (key, value) in sub_table(table, "header")? {
        let text = match value {
            DeValue::String(text) => text.to_string(),
            value => strings(value, "header")?.join("\n"),
        };
        seen.headers.insert(key.to_owned(), Secret::new(text));
    }
    seen.dial_timeout = match field(table, "dial_timeout") {
        None => String::new(),
        Some(DeValue::String(text)) if text.is_empty() || is_duration(text) => text.to_string(),
        Some(DeValue::String(_)) => return Err(HostsError::Duration),
        Some(_) => return Err(HostsError::Type("dial_timeout")),
    };
    Ok(seen)
}

/// What go-toml itself refuses while it fills containerd's struct: the rest is looked at only for hosts that are asked.
fn check_types(table: &DeTable<'_>) -> Result<(), HostsError> {
    boolean(table, "override_path")?;
    boolean(table, "skip_verify")?;
    if let Some(value) = field(table, "capabilities") {
        strings(value, "capabilities")?;
    }
    if field(table, "dial_timeout").is_some_and(|value| !value.is_str()) {
        return Err(HostsError::Type("dial_timeout"));
    }
    for (_, value) in sub_table(table, "rewrite")? {
        value.as_str().ok_or(HostsError::Type("rewrite"))?;
    }
    sub_table(table, "header").map(drop)
}

/// containerd's path rule: `path.Clean`, then `/v2` unless it ends so or is overridden.
fn path(path: &str, is_override: bool) -> String {
    if path.is_empty() {
        return if is_override { String::new() } else { "/v2".to_owned() };
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    let path = format!("/{}", parts.join("/"));
    if is_override || path.ends_with("/v2") { path } else { format!("{path}/v2") }
}

fn capabilities(table: &DeTable<'_>) -> Result<Capabilities, HostsError> {
    let names = match field(table, "capabilities") {
        None => Vec::new(),
        Some(value) => strings(value, "capabilities")?,
    };
    if names.is_empty() {
        return Ok(Capabilities { pull: true, resolve: true, push: true });
    }
    let mut all = Capabilities::default();
    for name in names {
        match name.to_lowercase().as_str() {
            "pull" => all.pull = true,
            "resolve" => all.resolve = true,
            "push" => all.push = true,
            _ => return Err(HostsError::Capability),
        }
    }
    Ok(all)
}

fn client_pair(value: &DeValue<'_>) -> Result<(String, String), HostsError> {
    if let DeValue::String(file) = value {
        return Ok((file.to_string(), String::new()));
    }
    match strings(value, "client")?.as_slice() {
        [certificate, key] => Ok((certificate.clone(), key.clone())),
        _ => Err(HostsError::Type("client")),
    }
}

fn boolean(table: &DeTable<'_>, name: &'static str) -> Result<Option<bool>, HostsError> {
    match field(table, name) {
        None => Ok(None),
        Some(DeValue::Boolean(value)) => Ok(Some(*value)),
        Some(_) => Err(HostsError::Type(name)),
    }
}

fn strings(value: &DeValue<'_>, name: &'static str) -> Result<Vec<String>, HostsError> {
    let DeValue::Array(items) = value else { return Err(HostsError::Type(name)) };
    let text = |value: &DeValue<'_>| value.as_str().map(str::to_owned).ok_or(HostsError::Type(name));
    items.iter().map(|item| text(item.get_ref())).collect()
}

fn sub_table<'v, 't>(
    table: &'v DeTable<'t>,
    name: &'static str,
) -> Result<impl Iterator<Item = (&'v str, &'v DeValue<'t>)>, HostsError> {
    let entries = match field(table, name) {
        None => None,
        Some(DeValue::Table(entries)) => Some(entries),
        Some(_) => return Err(HostsError::Type(name)),
    };
    Ok(entries.into_iter().flatten().map(|(key, value)| (key.get_ref().as_ref(), value.get_ref())))
}

/// Go's `time.ParseDuration`: `0`, or numbers with units.
fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut count = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, after) = rest.split_at(number);
        let unit = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"].into_iter().find(|unit| {
            after
                .strip_prefix(unit)
                .is_some_and(|next| next.is_empty() || next.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
        });
        let is_number = digits.bytes().any(|b| b.is_ascii_digit()) && digits.matches('.').count() <= 1;
        let Some(unit) = unit.filter(|_| is_number) else { return false };
        rest = &after[unit.len()..];
        count += 1;
    }
    count > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::rewrite::TomlReading;
    use crate::runtime::rewrite::what_toml_makes_of;

    fn names(text: &str) -> Vec<String> {
        parse(text.as_bytes()).unwrap().0.iter().map(|host| format!("{}{}", host.host, host.path)).collect()
    }

    #[test]
    fn hosts_come_in_the_order_of_their_tables_and_the_registry_last() {
        let text = "server = \"https://r/v2\"\n[host]\n[host.\"https://b\"]\n[host.\"https://a\"]\n";
        assert_eq!(names(text), ["b/v2", "a/v2", "r/v2"]);
    }

    #[test]
    fn without_a_server_there_is_no_upstream_unless_there_is_no_host_either() {
        assert_eq!(names("[host.\"https://a\"]\n"), ["a/v2"]);
        assert_eq!(names("skip_verify = true\n[host]\n"), [""]);
        assert_eq!(names("server = \"\"\n[host.\"https://a\"]\n"), ["a/v2", ""]);
    }

    #[test]
    fn a_host_named_in_two_separated_places_is_asked_twice() {
        let text = "[host.a]\n[host.a.rewrite]\n\"x\" = \"y\"\n[host.b]\n[host.a.header]\n";
        assert_eq!(names(text), ["a/v2", "b/v2", "a/v2"]);
    }

    #[test]
    fn the_path_ends_in_v2_unless_it_is_overridden() {
        for (url, is_override, path) in [
            ("https://h", false, "/v2"),
            ("https://h/", false, "//v2"),
            ("https://h/p/../q/", false, "/q/v2"),
            ("https://h/p/v2", false, "/p/v2"),
            ("https://h/p", true, "/p"),
            ("h:5000", true, ""),
        ] {
            let text = format!("[host.\"{url}\"]\noverride_path = {is_override}\n");
            assert_eq!(parse(text.as_bytes()).unwrap().0[0].path, path, "{url}");
        }
    }

    #[test]
    fn what_makes_containerd_drop_the_file_is_an_error() {
        let rows = [
            ("", HostsError::Empty),
            ("[host.\"a\"b\"]\n", HostsError::Toml(TomlError::Syntax { line: 1 })),
            ("[host.a]\n[host.a]\n", HostsError::Toml(TomlError::Syntax { line: 2 })),
            ("capabilities = [\"fetch\"]", HostsError::Capability),
            ("capabilities = \"pull\"", HostsError::Type("capabilities")),
            ("skip_verify = \"yes\"", HostsError::Type("skip_verify")),
            ("client = [[\"/c\"]]", HostsError::Type("client")),
            ("ca = [1]", HostsError::Type("ca")),
            ("dial_timeout = \"5\"", HostsError::Duration),
            ("server = \"https://%zz\"", HostsError::Url(UrlError::Escape)),
            ("host = 1", HostsError::Type("host")),
        ];
        for (text, error) in rows {
            assert_eq!(parse(text.as_bytes()), Err(error), "{text}");
        }
    }

    #[test]
    fn the_other_fields_are_read_as_containerd_takes_them() {
        let text = "ca = \"/a\"\nclient = [\"/b\", [\"/c\", \"/k\"]]\nskip_verify = false\ndial_timeout = \"1m.5s\"\nother = 1\n\
                    [header]\nAuthorization = \"canary\"\n";
        let seen = parse(text.as_bytes()).unwrap();
        let host = &seen.0[0];
        assert_eq!(host.ca, ["/a"]);
        assert_eq!(host.client, [("/b".to_owned(), String::new()), ("/c".to_owned(), "/k".to_owned())]);
        assert_eq!(host.skip_verify, Some(false));
        assert_eq!(host.dial_timeout, "1m.5s");
        assert_eq!(host.capabilities, Capabilities { pull: true, resolve: true, push: true });
        assert!(!format!("{seen:?}").contains("canary"));
    }

    #[test]
    fn each_pattern_of_the_escape_table_is_read_as_foretold() {
        for pattern in [
            r"^a\.b", r"\d", r"\w", r"\s", r"\x41", r"\/", r"\$", r"\(", r"\-", "a\"b", r"\bfoo", r"\tfoo", r"\nfoo",
            r"\efoo", r"\u0041", r"^a\\.b", "^a[.]b",
        ] {
            let text = format!("[host.h]\n  [host.h.rewrite]\n    \"{pattern}\" = \"x\"\n");
            let read = parse(text.as_bytes()).ok().and_then(|seen| seen.0[0].rewrites.keys().next().cloned());
            let foretold = match what_toml_makes_of(pattern) {
                TomlReading::Same => Some(pattern.to_owned()),
                TomlReading::Changed(read) => Some(read),
                TomlReading::Invalid => None,
            };
            assert_eq!(read, foretold, "{pattern}");
        }
    }
}

//! How an explanation is said.

use std::fmt;

use super::{Explanation, Login, Reference, Tls, Transport};
use crate::registries::model::Registries;
use crate::runtime::expect::{Skipped, WILDCARD, dir_of};
use crate::runtime::hosts_toml::HostsError;
use crate::runtime::settings::Settings;

pub(super) const RANDOM: &str = "several keys lead to the settings of this registry, and which of them k3s writes is \
                                 decided anew at each start: keep one of them";

pub(super) fn skipped(skipped: &Skipped) -> String {
    format!("{} has no effect: {}", skipped.path, skipped.why)
}

pub(super) fn dropped(error: &HostsError) -> String {
    format!("containerd drops the hosts.toml that k3s writes for this registry ({error}), and with it every mirror")
}

/// What is worth a sentence once it is known who is asked.
pub(super) fn add_notes(said: &mut Explanation, image: &Reference, registries: &Registries, settings: &Settings) {
    let Registries { mirrors, configs } = registries;
    let keys = said.entry.as_ref().map(|path| path.keys()).unwrap_or_default();
    let (part, key) = match keys {
        [part, key] => (part.as_str(), key.as_str()),
        _ => ("", ""),
    };
    let mut notes = Vec::new();
    if part == "configs" && key != WILDCARD && mirrors.contains_key(WILDCARD) {
        let entry = said.entry.clone().unwrap_or_default();
        notes.push(format!("mirrors.\"*\" does not apply: {entry} makes k3s write a file for this registry alone"));
    }
    let has_rules = mirrors.get(key).is_some_and(|mirror| part == "mirrors" && !mirror.rewrites.is_empty());
    let has_default = said.asked.iter().any(|asked| asked.is_default);
    if has_rules && has_default {
        notes.push("no rewrite rule is applied to the default endpoint".to_owned());
    }
    if settings.disable_default_endpoint && has_default {
        let has_config = configs.keys().any(|key| dir_of(key) == image.registry);
        let why = if part == "mirrors" && has_config {
            "an entry under `configs` for the registry's own name keeps it"
        } else {
            "that works on mirrors alone"
        };
        notes.push(format!("the default endpoint is asked although default endpoints are disabled: {why}"));
    }
    for asked in &said.asked {
        for (pattern, why) in &asked.rewriting.others {
            notes.push(format!("the rewrite rule `{pattern}`: {why}"));
        }
        if asked.rewriting.changes.len() > 1 {
            notes.push("several rewrite rules match, and containerd takes another one at each request".to_owned());
        }
        if asked.tls.client.iter().any(|(certificate, key)| certificate.is_empty() || key.is_empty()) {
            notes.push(
                "a client certificate without its key, or a key alone: every pull of this registry fails".to_owned(),
            );
        }
    }
    for note in notes {
        // Each endpoint of a mirror has the same rules.
        if !said.notes.contains(&note) {
            said.notes.push(note);
        }
    }
}

impl Transport {
    /// In a word or three.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::HttpsThenHttp => "https, then http",
        }
    }
}

/// `https, verified by the system's roots and /ca.crt`.
impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, skip_verify, ca, client } = self;
        f.write_str(match transport {
            Transport::Http => return f.write_str("none: http, in clear"),
            Transport::Https => "https",
            Transport::HttpsThenHttp => "https first, then http in clear",
        })?;
        match (skip_verify, ca.as_slice()) {
            (true, _) => f.write_str(", no certificate is verified (insecure_skip_verify)")?,
            (false, []) => f.write_str(", verified by the system's roots")?,
            (false, ca) => write!(f, ", verified by the system's roots and {}", ca.join(" and "))?,
        }
        for (certificate, key) in client {
            write!(f, ", client certificate {certificate} with key {key}")?;
        }
        Ok(())
    }
}

/// `user name and password`. Never who the user is.
impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "anonymous: no credential for this host and port",
            Self::Incomplete(_) => "anonymous: the credential lacks user name or password",
            Self::Undecodable(_) => "none: `auth` is not base64 of `user:password`, and the pull fails",
            Self::Password { .. } => "user name and password",
            Self::Token(_) => "identity token",
        })
    }
}

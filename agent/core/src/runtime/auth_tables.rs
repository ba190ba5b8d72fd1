//! The auth tables of containerd's `config.toml`, as k3s writes them.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::expect::WILDCARD;
use super::go::quoted;
use super::hosts_toml::trimmed;
use super::settings::Settings;
use crate::registries::model::Auth;
use crate::registries::model::Registries;
use crate::secret::Secret;

/// The version of containerd's configuration. A user's `config.toml.tmpl` makes it 2, everything else 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigVersion {
    /// `io.containerd.grpc.v1.cri`.
    V2,
    /// `io.containerd.cri.v1.images`.
    V3,
}

/// `HOST` to its credentials: one table for each entry of `configs` with `auth`, empty or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthTables(pub BTreeMap<String, Auth>);

/// What of a file lands in containerd's credentials: the test for a restart (`k3s.md` 3.1).
pub fn auth_map(registries: &Registries) -> BTreeMap<String, Auth> {
    let all = registries.configs.iter().filter_map(|(host, config)| Some((host.clone(), config.auth.clone()?)));
    canonical(&all.collect())
}

/// The tables that have an effect: an empty one behaves as none, and `*` is never looked up.
pub(crate) fn canonical(tables: &BTreeMap<String, Auth>) -> BTreeMap<String, Auth> {
    let counting = tables.iter().filter(|(host, auth)| *host != WILDCARD && !auth.is_empty());
    counting.map(|(host, auth)| (host.clone(), auth.clone())).collect()
}

impl AuthTables {
    /// The `registry` fragment of `config.toml`: `config_path` and the auth tables. With the stargz snapshotter the
    /// same tables follow once more under its name. The host stands raw between quotes, as in k3s's template.
    pub fn to_bytes(&self, version: ConfigVersion, settings: &Settings) -> Secret<Vec<u8>> {
        let quote = match version {
            ConfigVersion::V2 => '"',
            ConfigVersion::V3 => '\'',
        };
        let plugin = match version {
            ConfigVersion::V2 => "io.containerd.grpc.v1.cri",
            ConfigVersion::V3 => "io.containerd.cri.v1.images",
        };
        let mut text = Zeroizing::new(String::new());
        let mut plugins = vec![plugin];
        if settings.snapshotter_stargz {
            plugins.push("io.containerd.snapshotter.v1.stargz");
        }
        for plugin in plugins {
            let registry = format!("plugins.{quote}{plugin}{quote}.registry");
            text.push_str(&format!("[{registry}]\n  config_path = {}\n", quoted(&settings.certs_d())));
            for (host, auth) in &self.0 {
                text.push_str(&format!("[{registry}.configs.{quote}{host}{quote}.auth]\n"));
                let Auth { username, password, auth, identity_token } = auth;
                for (name, value) in
                    [("username", username), ("password", password), ("auth", auth), ("identitytoken", identity_token)]
                {
                    if !value.is_empty() {
                        let value = Zeroizing::new(quoted(value.expose()));
                        text.push_str(&format!("  {name} = {}\n", &*value));
                    }
                }
            }
        }
        let text = Zeroizing::new(trimmed(&text));
        Secret::new(text.trim_start_matches('\n').as_bytes().to_vec())
    }
}

//! What `registries.yaml` means to k3s (`rancher/wharfie` `types.go`): the parsed model that everything compares.

use std::collections::BTreeMap;
use std::fmt;

use super::document::without_user_part;
use crate::secret::Secret;

/// The meaning of one `registries.yaml`. Two files with equal models are the same file to k3s, but for the order in
/// which Go walks its maps. Its `Debug` leaves the user parts of URLs out.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Registries {
    /// Image host (or `*`) to where it is pulled from.
    pub mirrors: BTreeMap<String, Mirror>,
    /// Host and port of an endpoint, as written in its URL, to credentials and TLS settings.
    pub configs: BTreeMap<String, HostConfig>,
}

/// `mirrors.HOST`. Its `Debug` leaves the user parts of URLs out.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Mirror {
    /// URLs tried in this order, as written: k3s completes them (`runtime::endpoint`).
    pub endpoints: Vec<String>,
    /// Go RE2 pattern to replacement, for the repository path.
    pub rewrites: BTreeMap<String, String>,
}

/// `configs.HOST`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostConfig {
    /// Present even when it is the empty map: k3s then writes an empty table.
    pub auth: Option<Auth>,
    /// Present even when it is the empty map: k3s then writes a directory for the host.
    pub tls: Option<Tls>,
}

/// `configs.HOST.auth`. An empty field is an absent one. The user name is a secret too: some registries take a token
/// there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Auth {
    /// User name.
    pub username: Secret<String>,
    /// Password or access token.
    pub password: Secret<String>,
    /// base64 of `user:password`.
    pub auth: Secret<String>,
    /// OAuth refresh token; `identity_token` in YAML.
    pub identity_token: Secret<String>,
}

/// `configs.HOST.tls`. An empty path is an absent one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tls {
    /// CA bundle on the node.
    pub ca_file: String,
    /// Client certificate on the node.
    pub cert_file: String,
    /// Client key on the node.
    pub key_file: String,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
}

impl Auth {
    /// Tells whether no field is set: such an `auth` behaves as none, though k3s writes an empty table for it.
    pub fn is_empty(&self) -> bool {
        let Self { username, password, auth, identity_token } = self;
        username.is_empty() && password.is_empty() && auth.is_empty() && identity_token.is_empty()
    }
}

impl fmt::Debug for Registries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mirrors, configs } = self;
        f.debug_struct("Registries")
            .field("mirrors", &PublicKeys(mirrors))
            .field("configs", &PublicKeys(configs))
            .finish()
    }
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoints, rewrites } = self;
        let endpoints: Vec<_> = endpoints.iter().map(|endpoint| without_user_part(endpoint)).collect();
        f.debug_struct("Mirror").field("endpoints", &endpoints).field("rewrites", rewrites).finish()
    }
}

/// A map by host, where the host may be a URL with a password in it.
struct PublicKeys<'m, V>(&'m BTreeMap<String, V>);

impl<V: fmt::Debug> fmt::Debug for PublicKeys<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(host, value)| (without_user_part(host), value))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_a_user_part() {
        let url = "https://u:canary-hunter2@r".to_owned();
        let mirror = Mirror { endpoints: vec![url.clone()], ..Mirror::default() };
        let registries = Registries {
            mirrors: BTreeMap::from([(url.clone(), mirror)]),
            configs: BTreeMap::from([(url, HostConfig::default())]),
        };
        let debug = format!("{registries:?}");
        assert!(!debug.contains("canary") && debug.matches("…@r").count() == 3, "{debug}");
    }
}

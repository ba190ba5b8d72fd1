//! The `registry` table of containerd's `config.toml`, as it lies on the node.

use std::collections::BTreeMap;

use thiserror::Error;
use toml::de::DeTable;
use toml::de::DeValue;

use super::toml_text::TomlError;
use super::toml_text::field;
use super::toml_text::parse;
use crate::registries::model::Auth;
use crate::secret::Secret;

/// Why a `config.toml` cannot be read: containerd does not start with it. Never shows a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// TOML.
    #[error(transparent)]
    Toml(#[from] TomlError),
    /// A value of another type than containerd takes.
    #[error("{0} has a value of the wrong type")]
    Type(&'static str),
}

/// What containerd is told about registries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryTable {
    /// Where it looks for `certs.d`; without it, nothing of `certs.d` has an effect.
    pub config_path: Option<String>,
    /// Host to credentials: every `configs.HOST.auth` table, empty or not.
    pub auths: BTreeMap<String, Auth>,
}

/// Reads the auth tables, version 3 or 2. `None` if there is no registry table at all: a user's template left it out.
pub fn auth_tables(bytes: &[u8]) -> Result<Option<BTreeMap<String, Auth>>, ConfigError> {
    Ok(registry_table(bytes)?.map(|table| table.auths))
}

/// Reads the registry table, version 3 or 2, whichever the file's `version` says; of a fragment without one, the one
/// that is there.
pub fn registry_table(bytes: &[u8]) -> Result<Option<RegistryTable>, ConfigError> {
    const V3: &str = "io.containerd.cri.v1.images";
    const V2: &str = "io.containerd.grpc.v1.cri";
    let toml = parse(bytes)?;
    let version = match field(&toml.root, "version") {
        None => None,
        Some(DeValue::Integer(version)) => Some(version.as_str().to_owned()),
        Some(_) => return Err(ConfigError::Type("version")),
    };
    let Some(plugins) = table(&toml.root, "plugins")? else { return Ok(None) };
    let names: &[&'static str] = match version.as_deref() {
        Some("3") => &[V3],
        Some(_) => &[V2],
        None => &[V3, V2],
    };
    for name in names {
        let Some(plugin) = table(plugins, name)? else { continue };
        let Some(registry) = table(plugin, "registry")? else { continue };
        let config_path = text(registry, "config_path")?.map(|path| path.expose().clone());
        let mut auths = BTreeMap::new();
        for (host, config) in table(registry, "configs")?.into_iter().flatten() {
            let DeValue::Table(config) = config.get_ref() else { return Err(ConfigError::Type("configs")) };
            if let Some(auth) = table(config, "auth")? {
                let auth = Auth {
                    username: text(auth, "username")?.unwrap_or_default(),
                    password: text(auth, "password")?.unwrap_or_default(),
                    auth: text(auth, "auth")?.unwrap_or_default(),
                    identity_token: text(auth, "identitytoken")?.unwrap_or_default(),
                };
                auths.insert(host.get_ref().to_string(), auth);
            }
        }
        return Ok(Some(RegistryTable { config_path, auths }));
    }
    Ok(None)
}

fn table<'v, 't>(parent: &'v DeTable<'t>, name: &'static str) -> Result<Option<&'v DeTable<'t>>, ConfigError> {
    match field(parent, name) {
        None => Ok(None),
        Some(DeValue::Table(table)) => Ok(Some(table)),
        Some(_) => Err(ConfigError::Type(name)),
    }
}

fn text(parent: &DeTable<'_>, name: &'static str) -> Result<Option<Secret<String>>, ConfigError> {
    match field(parent, name) {
        None => Ok(None),
        Some(DeValue::String(text)) => Ok(Some(Secret::new(text.to_string()))),
        Some(_) => Err(ConfigError::Type(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::auth_tables::AuthTables;
    use crate::runtime::auth_tables::ConfigVersion;
    use crate::runtime::settings::Program;
    use crate::runtime::settings::Settings;

    fn auths() -> BTreeMap<String, Auth> {
        let auth = Auth { username: "u".into(), password: "p\"w\\\\é\u{a0}\t".into(), ..Auth::default() };
        let token = Auth { identity_token: "t".into(), auth: "dTpw".into(), ..Auth::default() };
        BTreeMap::from([
            ("r.example.com:5000".to_owned(), auth),
            ("e".to_owned(), Auth::default()),
            ("s".to_owned(), token),
        ])
    }

    #[test]
    fn what_k3s_writes_is_read_back_in_both_versions() {
        for version in [ConfigVersion::V2, ConfigVersion::V3] {
            let mut settings = Settings::plain(Program::K3s);
            settings.snapshotter_stargz = true;
            let text = AuthTables(auths()).to_bytes(version, &settings);
            let table = registry_table(text.expose()).unwrap().unwrap();
            assert_eq!(table.auths, auths());
            assert_eq!(table.config_path, Some(settings.certs_d()));
        }
    }

    #[test]
    fn the_version_says_which_table_counts() {
        let both = "[plugins.'io.containerd.cri.v1.images'.registry.configs.a.auth]\n\
                    [plugins.'io.containerd.grpc.v1.cri'.registry.configs.b.auth]\n";
        for (version, host) in [("version = 3\n", "a"), ("version = 2\n", "b"), ("", "a")] {
            let table = auth_tables(format!("{version}{both}").as_bytes()).unwrap().unwrap();
            assert_eq!(table.keys().collect::<Vec<_>>(), [host]);
        }
    }

    #[test]
    fn a_template_without_auth_tables_is_none_and_not_empty() {
        assert_eq!(auth_tables(b"version = 3\n[plugins.x]\n"), Ok(None));
        assert_eq!(auth_tables(b""), Ok(None));
        let empty = auth_tables(b"[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = \"/x\"\n");
        assert_eq!(empty, Ok(Some(BTreeMap::new())));
    }

    #[test]
    fn a_control_character_in_a_password_makes_the_file_unreadable_and_stays_hidden() {
        let auth = Auth { password: "canary\u{1}".into(), ..Auth::default() };
        let tables = AuthTables(BTreeMap::from([("r".to_owned(), auth)]));
        let error =
            auth_tables(tables.to_bytes(ConfigVersion::V3, &Settings::plain(Program::K3s)).expose()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
        let error =
            auth_tables(b"[plugins.'io.containerd.cri.v1.images'.registry.configs.r]\nauth = \"canary\"").unwrap_err();
        assert_eq!(error.to_string(), "auth has a value of the wrong type");
    }
}

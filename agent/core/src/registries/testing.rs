//! Builders and generators of models, for tests.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde::Deserialize;

use super::model::{Auth, HostConfig, Mirror, Registries, Tls};
use crate::secret::Secret;

/// User and password.
pub(crate) fn auth(username: &str, password: &str) -> Auth {
    Auth { username: username.into(), password: password.into(), ..Auth::default() }
}

/// Text that YAML readers of one kind or another stumble over.
fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "yes",
            "no",
            "on",
            "~",
            "null",
            "0o17",
            "1e3",
            "<<",
            "=",
            "*x",
            "a: b",
            "#x",
            "@x",
            "\t",
            "-",
            "?",
            "%zz",
            "2001-01-01",
            "012",
            "1_000",
            "12:30:45",
            "\u{feff}",
            "\u{85}",
            "\u{2028}",
            "\\",
            "\"",
            "'",
            "é",
            "😀",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
        "[a-z]{1,8}([.][a-z]{2,5}){0,2}(:[0-9]{1,5})?",
    ]
}

fn secret() -> impl Strategy<Value = Secret<String>> {
    prop_oneof![Just(String::new()), nasty()].prop_map(Secret::new)
}

/// Any model at all, sensible or not.
pub(crate) fn registries() -> impl Strategy<Value = Registries> {
    let mirror = (vec(nasty(), 0..4), btree_map(nasty(), nasty(), 0..3))
        .prop_map(|(endpoints, rewrites)| Mirror { endpoints, rewrites });
    let auth = (secret(), secret(), secret(), secret()).prop_map(|(username, password, auth, identity_token)| Auth {
        username,
        password,
        auth,
        identity_token,
    });
    let path = || prop_oneof![Just(String::new()), nasty()];
    let tls = (path(), path(), path(), any::<bool>()).prop_map(|(ca_file, cert_file, key_file, insecure)| Tls {
        ca_file,
        cert_file,
        key_file,
        insecure_skip_verify: insecure,
    });
    let config = (option::of(auth), option::of(tls)).prop_map(|(auth, tls)| HostConfig { auth, tls });
    (btree_map(nasty(), mirror, 0..4), btree_map(nasty(), config, 0..4))
        .prop_map(|(mirrors, configs)| Registries { mirrors, configs })
}

/// Models as people write them, with hosts that have to do with each other.
pub(crate) fn plausible() -> impl Strategy<Value = Registries> {
    let host = || {
        prop::sample::select(vec![
            "docker.io",
            "registry-1.docker.io",
            "ghcr.io",
            "r.example.com",
            "r.example.com:443",
            "r.example.com:5000",
            "localhost:3000",
            "10.77.0.1:5001",
            "127.0.0.1:30080",
            "m.example.com",
            "r.ns.svc.cluster.local:5000",
        ])
        .prop_map(str::to_owned)
    };
    let endpoint = (prop::sample::select(vec!["", "http://", "https://", "https://u:canary@"]), host())
        .prop_map(|(scheme, host)| format!("{scheme}{host}"));
    let mirror = vec(endpoint, 0..3).prop_map(|endpoints| Mirror { endpoints, ..Mirror::default() });
    let auth = prop::sample::select(vec![auth("u", "canary"), auth("v", "canary"), Auth::default()]);
    let tls = any::<bool>().prop_map(|insecure| Tls { insecure_skip_verify: insecure, ..Tls::default() });
    let config = (option::of(auth), option::of(tls)).prop_map(|(auth, tls)| HostConfig { auth, tls });
    (btree_map(host(), mirror, 0..4), btree_map(host(), config, 0..4))
        .prop_map(|(mirrors, configs)| Registries { mirrors, configs })
}

/// Reads a text with serde: independent of the product's own readers, and as strict as can be.
pub(crate) fn read(text: &str) -> Result<Registries, String> {
    let mut options = serde_saphyr::Options::default();
    options.strict_booleans = true;
    options.with_snippet = false;
    let file: File = serde_saphyr::from_str_with_options::<Option<File>>(text, options)
        .map_err(|error| error.to_string())?
        .unwrap_or_default();
    let mirror = |m: FileMirror| Mirror { endpoints: m.endpoint, rewrites: m.rewrite };
    let config = |c: FileConfig| HostConfig {
        auth: c.auth.map(|a| Auth {
            username: Secret::new(a.username),
            password: Secret::new(a.password),
            auth: Secret::new(a.auth),
            identity_token: Secret::new(a.identity_token),
        }),
        tls: c.tls.map(|t| Tls {
            ca_file: t.ca_file,
            cert_file: t.cert_file,
            key_file: t.key_file,
            insecure_skip_verify: t.insecure_skip_verify,
        }),
    };
    Ok(Registries {
        mirrors: file.mirrors.into_iter().map(|(k, v)| (k, mirror(v))).collect(),
        configs: file.configs.into_iter().map(|(k, v)| (k, config(v))).collect(),
    })
}

/// What a serde reader of the file makes of it: independent of the emitter, and as strict as can be.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    mirrors: BTreeMap<String, FileMirror>,
    #[serde(default)]
    configs: BTreeMap<String, FileConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileMirror {
    #[serde(default)]
    endpoint: Vec<String>,
    #[serde(default)]
    rewrite: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileConfig {
    auth: Option<FileAuth>,
    tls: Option<FileTls>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct FileAuth {
    username: String,
    password: String,
    auth: String,
    identity_token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct FileTls {
    ca_file: String,
    cert_file: String,
    key_file: String,
    insecure_skip_verify: bool,
}

//! Builders and generators of models, for tests.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

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

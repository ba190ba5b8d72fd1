//! What k3s makes of a file, byte for byte: one directory for each case, with the file, the flags and the tree.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use agent_core::registries::model::Auth;
use agent_core::registries::model::HostConfig;
use agent_core::registries::model::Mirror;
use agent_core::registries::model::Registries;
use agent_core::registries::model::Tls;
use agent_core::runtime::auth_tables::ConfigVersion;
use agent_core::runtime::expect::expect;
use agent_core::runtime::settings::EmbeddedRegistry;
use agent_core::runtime::settings::Program;
use agent_core::runtime::settings::Settings;
use agent_core::secret::Secret;
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    mirrors: BTreeMap<String, MirrorFile>,
    configs: BTreeMap<String, ConfigFile>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct MirrorFile {
    endpoint: Vec<String>,
    rewrite: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ConfigFile {
    auth: Option<BTreeMap<String, String>>,
    tls: Option<TlsFile>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TlsFile {
    ca_file: String,
    cert_file: String,
    key_file: String,
    insecure_skip_verify: bool,
}

fn registries(text: &str) -> Registries {
    let file: File = serde_saphyr::from_str(text).unwrap();
    let mirrors = file.mirrors.into_iter();
    let configs = file.configs.into_iter();
    Registries {
        mirrors: mirrors.map(|(host, m)| (host, Mirror { endpoints: m.endpoint, rewrites: m.rewrite })).collect(),
        configs: configs
            .map(|(host, config)| {
                let auth = config.auth.map(|mut auth| {
                    let mut take = |name: &str| Secret::new(auth.remove(name).unwrap_or_default());
                    Auth {
                        username: take("username"),
                        password: take("password"),
                        auth: take("auth"),
                        identity_token: take("identity_token"),
                    }
                });
                let tls = config.tls.map(|tls| Tls {
                    ca_file: tls.ca_file,
                    cert_file: tls.cert_file,
                    key_file: tls.key_file,
                    insecure_skip_verify: tls.insecure_skip_verify,
                });
                (host, HostConfig { auth, tls })
            })
            .collect(),
    }
}

fn settings(flags: &str) -> Settings {
    let mut settings = Settings::plain(Program::K3s);
    for flag in flags.lines() {
        match flag.split_once(' ').unwrap_or((flag, "")) {
            ("rke2", "") => settings = Settings::plain(Program::Rke2),
            ("disable-default-registry-endpoint", "") => settings.disable_default_endpoint = true,
            ("embedded-registry", address) => {
                settings.embedded = Some(EmbeddedRegistry { mirror_addr: address.to_owned() });
            }
            (other, _) => panic!("unknown flag {other}"),
        }
    }
    settings
}

fn tree(dir: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let dirs = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    dirs.map(|entry| {
        let text = fs::read_to_string(entry.path().join("hosts.toml")).unwrap();
        (entry.file_name().into_string().unwrap(), text)
    })
    .collect()
}

#[test]
fn every_case_gives_the_bytes_that_k3s_writes() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/runtime");
    let mut count = 0;
    for case in fs::read_dir(cases).unwrap() {
        let case = case.unwrap().path();
        let registries = registries(&fs::read_to_string(case.join("registries.yaml")).unwrap());
        let settings = settings(&fs::read_to_string(case.join("flags")).unwrap_or_default());
        let expected = expect(&registries, &settings);
        let made: BTreeMap<_, _> = expected
            .hosts
            .iter()
            .map(|(dir, hosts)| (dir.clone(), String::from_utf8(hosts.to_bytes(settings.program)).unwrap()))
            .collect();
        assert_eq!(made, tree(&case.join("certs.d")), "{}", case.display());
        for (file, version) in [("config-v2.toml", ConfigVersion::V2), ("config-v3.toml", ConfigVersion::V3)] {
            if let Ok(text) = fs::read_to_string(case.join(file)) {
                let made = expected.auths.to_bytes(version, &settings);
                assert_eq!(String::from_utf8(made.expose().clone()).unwrap(), text, "{}", case.display());
                count += 1;
            }
        }
        count += 1;
    }
    assert_eq!(count, 18, "a case was not looked at");
}

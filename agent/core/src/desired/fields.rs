//! The model as it grows out of several sources: who gave which field, and who contradicts whom.

use std::collections::BTreeMap;

use super::refusal::{Refusal, Source};
use super::sources::TlsFiles;
use crate::docker_config;
use crate::inputs::IGNORE_LABEL;
use crate::registries::document::{Document, KeyPath};
use crate::registries::model::{Auth, Registries, Tls};
use crate::secret::Secret;
use crate::tree::TLS_DIR;

/// The model and its sources.
#[derive(Debug)]
pub(super) struct Fields<'d> {
    /// Where `registries.yaml` lies.
    directory: &'d str,
    pub registries: Registries,
    /// Files below `registry-tls/`.
    pub tls: BTreeMap<String, Secret<Vec<u8>>>,
    /// Host of each credential to the object it came from.
    pub credential_sources: BTreeMap<String, String>,
    /// Each of those files to the object it came from.
    pub tls_sources: BTreeMap<String, String>,
    pub refusals: Vec<Refusal>,
    /// Who gave a field first.
    pub origins: BTreeMap<KeyPath, Source>,
}

impl<'d> Fields<'d> {
    pub fn new(directory: &'d str) -> Self {
        Self {
            directory,
            registries: Registries::default(),
            tls: BTreeMap::new(),
            credential_sources: BTreeMap::new(),
            tls_sources: BTreeMap::new(),
            refusals: Vec::new(),
            origins: BTreeMap::new(),
        }
    }

    /// Adds the ConfigMap's file, or a part of a file.
    pub fn add_document(&mut self, document: &Document, source: &Source) {
        let Registries { mirrors, configs } = &document.registries;
        for (host, mirror) in mirrors {
            let path = KeyPath::of(["mirrors", host]);
            let Self { registries, origins, refusals, .. } = self;
            let slot = registries.mirrors.entry(host.clone()).or_default();
            if !mirror.endpoints.is_empty() {
                let path = path.child("endpoint");
                give(&mut slot.endpoints, mirror.endpoints.clone(), path, source, origins, refusals);
            }
            for (pattern, replacement) in &mirror.rewrites {
                let path = path.child("rewrite").child(pattern);
                let slot = slot.rewrites.entry(pattern.clone()).or_default();
                give(slot, replacement.clone(), path, source, origins, refusals);
            }
        }
        for (host, config) in configs {
            let slot = self.registries.configs.entry(host.clone()).or_default();
            if config.auth.is_some() {
                slot.auth.get_or_insert_default();
            }
            if let Some(tls) = &config.tls {
                slot.tls.get_or_insert_default();
                let says_insecure =
                    document.marks.contains_key(&KeyPath::of(["configs", host, "tls", "insecure_skip_verify"]));
                self.add_tls(host, tls, says_insecure, source);
            }
            if let Some(auth) = &config.auth {
                self.add_auth(host, auth, source);
            }
        }
    }

    /// Adds a credential. It is one value: user name and password of two sources would be nobody's credential.
    pub fn add_auth(&mut self, host: &str, auth: &Auth, source: &Source) {
        if auth.is_empty() {
            return;
        }
        let Self { registries, origins, refusals, credential_sources, .. } = self;
        let slot = registries.configs.entry(host.to_owned()).or_default().auth.get_or_insert_default();
        give(slot, auth.clone(), KeyPath::of(["configs", host, "auth"]), source, origins, refusals);
        credential_sources.entry(host.to_owned()).or_insert_with(|| source.object.clone());
    }

    /// Adds TLS settings; `says_insecure` tells whether a `false` is written or only the default.
    pub fn add_tls(&mut self, host: &str, tls: &Tls, says_insecure: bool, source: &Source) {
        let Tls { ca_file, cert_file, key_file, insecure_skip_verify } = tls;
        let Self { registries, origins, refusals, .. } = self;
        let slot = registries.configs.entry(host.to_owned()).or_default().tls.get_or_insert_default();
        let path = KeyPath::of(["configs", host, "tls"]);
        for (key, slot, value) in [
            ("ca_file", &mut slot.ca_file, ca_file),
            ("cert_file", &mut slot.cert_file, cert_file),
            ("key_file", &mut slot.key_file, key_file),
        ] {
            if !value.is_empty() {
                give(slot, value.clone(), path.child(key), source, origins, refusals);
            }
        }
        if *insecure_skip_verify || says_insecure {
            let path = path.child("insecure_skip_verify");
            give(&mut slot.insecure_skip_verify, *insecure_skip_verify, path, source, origins, refusals);
        }
    }

    /// Adds TLS files and the settings that point to them.
    pub fn add_tls_files(&mut self, tls: &TlsFiles) {
        let TlsFiles { host, files, source } = tls;
        let mut settings = Tls::default();
        for (name, content) in files {
            let file = format!("{host}/{name}");
            let path = format!("{}/{TLS_DIR}/{file}", self.directory);
            match *name {
                "ca.crt" => settings.ca_file = path,
                "tls.crt" => settings.cert_file = path,
                _ => settings.key_file = path,
            }
            let Self { tls, tls_sources, origins, refusals, .. } = self;
            let source = Source { key: (*name).to_owned(), ..source.clone() };
            tls_sources.entry(file.clone()).or_insert_with(|| source.object.clone());
            let slot = tls.entry(file).or_insert_with(|| content.clone());
            // Two certificates and keys that belong together may come twice, from two Secrets: each file by itself.
            give(slot, content.clone(), KeyPath::of([TLS_DIR, host, name]), &source, origins, refusals);
        }
        self.add_tls(host, &settings, false, source);
    }

    /// Tells whether the host has a credential.
    pub fn has_auth(&self, host: &str) -> bool {
        self.registries.configs.get(host).and_then(|config| config.auth.as_ref()).is_some_and(|auth| !auth.is_empty())
    }

    /// Looks at what only shows in the whole.
    pub fn check(&mut self) {
        self.check_docker_hub();
        self.check_own_directory();
    }

    /// Docker Hub's names are one registry: containerd tries them in turn, so that of two credentials one would be
    /// used and the other pass for used.
    fn check_docker_hub(&mut self) {
        let names: Vec<_> = self
            .registries
            .configs
            .iter()
            .filter(|(host, _)| docker_config::host(host).as_deref() == Ok(docker_config::DOCKER_HUB))
            .filter_map(|(host, config)| Some((host, config.auth.as_ref().filter(|auth| !auth.is_empty())?)))
            .collect();
        for pair in names.windows(2) {
            let [(host, auth), (other, other_auth)] = pair else { continue };
            let origin = |host: &str| self.origins.get(&KeyPath::of(["configs", host, "auth"]));
            let (Some(source), Some(other_source)) = (origin(host), origin(other)) else { continue };
            if auth != other_auth && source != other_source {
                let problem = format!(
                    "{other} is Docker Hub, as is {host}, for which {source} gives another credential: remove one of them"
                );
                self.refusals.push(Refusal::of(other_source, problem));
            }
        }
    }

    /// The directory of our TLS files holds what Secrets give and nothing else: another file there would be removed.
    fn check_own_directory(&mut self) {
        let own = format!("{}/{TLS_DIR}/", self.directory);
        for (host, tls) in self.registries.configs.iter().filter_map(|(host, c)| Some((host, c.tls.as_ref()?))) {
            for (key, path) in [("ca_file", &tls.ca_file), ("cert_file", &tls.cert_file), ("key_file", &tls.key_file)] {
                let Some(file) = path.strip_prefix(&own) else { continue };
                let field = KeyPath::of(["configs", host, "tls", key]);
                let Some(source) = self.origins.get(&field) else { continue };
                if !self.tls.contains_key(file) {
                    let problem = format!(
                        "{field}: {own} is kept by the agent, and no Secret gives `{file}`: give the file in a Secret with the host annotation, or keep it in another directory of the node"
                    );
                    self.refusals.push(Refusal::of(source, problem));
                }
            }
        }
    }
}

/// Writes a field, unless another source gave it another value.
fn give<T: PartialEq>(
    slot: &mut T,
    value: T,
    path: KeyPath,
    source: &Source,
    origins: &mut BTreeMap<KeyPath, Source>,
    refusals: &mut Vec<Refusal>,
) {
    match origins.get(&path) {
        None => {
            *slot = value;
            origins.insert(path, source.clone());
        }
        Some(_) if *slot == value => {}
        Some(first) => {
            let problem = format!(
                "{path}: {first} gives another value: remove one of them, or leave a Secret out with the label {IGNORE_LABEL}=true"
            );
            refusals.push(Refusal::of(source, problem));
        }
    }
}

//! From inputs to desired: one ConfigMap, Secrets and CAs become one `registries.yaml` (`design.md` 4).

mod address;
pub mod expiry;
mod fields;
mod pem;
mod placement;
mod refusal;
mod removal;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::inputs::{CONFIG_MAP, InputObject, Inputs, Kind, Origin, POLICY_KEY, REGISTRIES_KEY};
use crate::policy::Policy;
use crate::registries::document::{Document, KeyPath, without_user_part};
use crate::registries::finding::Finding;
use crate::registries::model::Registries;
use crate::registries::render::render;
use crate::revision::Revision;
use crate::secret::Secret;
use crate::tree::Tree;

use address::{Address, addresses};
use fields::Fields;
pub(crate) use placement::copies;
pub use refusal::{Refusal, Source};

/// What the merge must know besides inputs and policy.
#[derive(Clone, Copy, Debug)]
pub struct MergeContext<'a> {
    /// The agent's own namespace.
    pub namespace: &'a str,
    /// Where `registries.yaml` lies on the node (`/etc/rancher/k3s`), without a slash at the end.
    pub directory: &'a str,
    /// The journal's random key: names the inputs of a directory.
    pub journal_key: &'a Secret<Vec<u8>>,
    /// Hosts that have a credential on the node, and what it came from: [`Desired::credential_sources`] of the
    /// configuration that was proven last.
    pub known_credential_hosts: &'a BTreeMap<String, String>,
    /// TLS files that lie on the node, and what each came from: [`Desired::tls_sources`] of the same configuration.
    pub known_tls_files: &'a BTreeMap<String, String>,
    /// Hosts that the ConfigMap named then: [`Desired::file_hosts`]. A credential or a certificate may go when its host
    /// has left the file; of a host that never stood there (an object alone named it) that cannot be said.
    pub known_file_hosts: &'a BTreeSet<String>,
}

/// What the inputs say, once they can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The model of the file.
    pub registries: Registries,
    /// The files.
    pub tree: Tree,
    /// The name of these inputs.
    pub revision: Revision,
    /// The model again, with the places of what stands in the ConfigMap: for the lint.
    pub document: Document,
    /// Host of each credential to the object it came from.
    pub credential_sources: BTreeMap<String, String>,
    /// TLS file (`HOST/ca.crt`, `HOST/tls.crt`, `HOST/tls.key`) to the object it came from.
    pub tls_sources: BTreeMap<String, String>,
    /// Hosts that the ConfigMap names, as mirror, endpoint or under `configs`.
    pub file_hosts: BTreeSet<String>,
    /// What is not as it was probably meant, but does not block.
    pub notes: Vec<Finding>,
    /// The objects beside the ConfigMap, by the field that each gave.
    givers: BTreeMap<KeyPath, String>,
}

impl Desired {
    /// Names the object that gave what a finding is about. A finding's place is one of the ConfigMap's text, so what
    /// another object gave would be looked for in the wrong line, or in no line at all.
    #[must_use]
    pub fn named(&self, finding: Finding) -> Finding {
        if self.document.marks.contains_key(&finding.path) {
            return finding;
        }
        match self.giver(&finding.path) {
            Some(object) => Finding { at: None, message: format!("from {object}: {}", finding.message), ..finding },
            None => finding,
        }
    }

    /// Who gave the field at this path or above it; or everything below it.
    fn giver(&self, path: &KeyPath) -> Option<&String> {
        let mut above = path.clone();
        while !above.keys().is_empty() {
            if let Some(object) = self.givers.get(&above) {
                return Some(object);
            }
            above = above.parent();
        }
        if path.keys().is_empty() {
            return None;
        }
        let below = self.givers.range(path.clone()..).take_while(|(field, _)| field.keys().starts_with(path.keys()));
        let mut objects = below.map(|(_, object)| object);
        let first = objects.next()?;
        objects.all(|object| object == first).then_some(first)
    }
}

/// What can be said of the inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No ConfigMap, or none with the key: nothing is touched.
    NoConfigMap,
    /// Something is missing that was there, or cannot be seen: nothing is changed until it is back.
    Held(Vec<Refusal>),
    /// The inputs contradict themselves or cannot be used.
    Invalid(Vec<Refusal>),
    /// They can be used.
    Ready(Box<Desired>),
}

/// Merges the inputs. `strict` reads the text of a `registries.yaml` and refuses what k3s would ignore in silence.
///
/// Nothing that a Secret holds enters a [`Refusal`] or a [`Finding`]; hosts and names of objects and keys do.
pub fn merge<E: fmt::Display>(
    inputs: &Inputs,
    policy: &Policy,
    context: &MergeContext<'_>,
    strict: impl Fn(&str) -> Result<Document, Vec<E>>,
) -> Outcome {
    if !inputs.unreadable.is_empty() {
        return Outcome::Held(inputs.unreadable.iter().map(Refusal::sentence).collect());
    }
    let Some((source, bytes)) = config_map_key(inputs, context.namespace, REGISTRIES_KEY) else {
        return Outcome::NoConfigMap;
    };
    let Ok(text) = std::str::from_utf8(bytes.expose()) else {
        return Outcome::Invalid(vec![Refusal::of(&source, "is not UTF-8 text")]);
    };
    let file = match strict(text) {
        Ok(file) => file,
        Err(errors) => return Outcome::Invalid(errors.iter().map(|error| Refusal::of(&source, error)).collect()),
    };

    let mut refusals = credentials_in_config_map(&file, &source, context.namespace);
    let mut gathered = sources::gather(inputs, policy, context.namespace, &strict);
    refusals.append(&mut gathered.refusals);

    let mut fields = Fields::new(context.directory);
    fields.add_document(&file, &source);
    for (part, source) in &gathered.parts {
        fields.add_document(part, source);
    }
    for files in &gathered.tls {
        fields.add_tls_files(files);
    }
    for credential in &gathered.credentials {
        fields.add_auth(&credential.host, &credential.auth, &credential.source);
    }
    let file_hosts = hosts(&file.registries);
    let parts = gathered.parts.iter().flat_map(|(part, _)| hosts(&part.registries));
    // A file that names nobody leaves it to the Secrets.
    let written: BTreeSet<String> = match file_hosts.is_empty() {
        true => BTreeSet::new(),
        false => file_hosts.iter().cloned().chain(parts).collect(),
    };
    let placed = placement::place(&mut fields, &gathered.credentials, &gathered.tls, &written);
    fields.check();
    let Fields { registries, tls, credential_sources, tls_sources, refusals: conflicts, origins, .. } = fields;
    let beside = origins.into_iter().filter(|(_, giver)| giver.object != source.object);
    let givers = beside.map(|(field, giver)| (field, giver.object)).collect();
    refusals.extend(conflicts);
    if !refusals.is_empty() {
        return Outcome::Invalid(refusals);
    }

    let mut held: Vec<_> = gathered.missing.iter().map(Refusal::sentence).collect();
    if !policy.allow_removal {
        let given =
            removal::Given { registries: &registries, credentials: &credential_sources, file_hosts: &file_hosts };
        held.extend(removal::removals(context, &given, &gathered.used));
    }
    if !held.is_empty() {
        return Outcome::Held(held);
    }

    let ids: Vec<_> = gathered.used.iter().map(|object| &object.id).collect();
    let revision = match inputs.origin {
        Origin::Cluster => Revision::of_cluster(text, &ids),
        Origin::Directory => Revision::of_directory(context.journal_key, text, &gathered.used),
    };
    let Document { registries: _, marks, notes: read } = file;
    let mut notes = gathered.notes;
    notes.extend(placed);
    Outcome::Ready(Box::new(Desired {
        tree: Tree { registries: Some(render(&registries)), tls },
        revision,
        document: Document { registries: registries.clone(), marks, notes: read },
        registries,
        credential_sources,
        tls_sources,
        file_hosts,
        notes,
        givers,
    }))
}

/// Reads the policy beside the file; `None` where there is none.
pub fn policy_of(inputs: &Inputs, namespace: &str) -> Result<Option<Policy>, Vec<Refusal>> {
    let Some((source, bytes)) = config_map_key(inputs, namespace, POLICY_KEY) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| vec![Refusal::of(&source, "is not UTF-8 text")])?;
    let refuse = |error: &crate::policy::PolicyError| {
        Refusal::of(&source, format!("{}: {}", error.path, error.problem)).at(Some(error.at))
    };
    Policy::parse(text).map(Some).map_err(|errors| errors.iter().map(refuse).collect())
}

fn config_map_key<'a>(inputs: &'a Inputs, namespace: &str, key: &str) -> Option<(Source, &'a Secret<Vec<u8>>)> {
    let is_ours = |object: &&InputObject| {
        let id = &object.id;
        id.kind == Kind::ConfigMap && id.namespace == namespace && id.name == CONFIG_MAP
    };
    let object = inputs.objects.iter().find(is_ours)?;
    Some((Source::of(&object.id, key), object.data.get(key)?))
}

/// Refuses credentials in the ConfigMap, which whoever may read ConfigMaps could read.
fn credentials_in_config_map(file: &Document, source: &Source, namespace: &str) -> Vec<Refusal> {
    let Registries { mirrors, configs } = &file.registries;
    let mut refusals = Vec::new();
    let mut refuse = |path: KeyPath, what: &str, remedy: String| {
        let problem = format!("{path}: {what} must not stand in a ConfigMap: take it out and {remedy}");
        refusals.push(Refusal::of(source, problem).at(file.mark(&path)));
    };
    for (host, config) in configs {
        let path = KeyPath::of(["configs", host]);
        let Some(auth) = &config.auth else { continue };
        let user_and_password = docker_registry_secret(host, namespace);
        let part = format!(
            "put it into a Secret of type Opaque, as a part of the file: `kubectl -n {namespace} create secret generic NAME --from-file=registries.yaml`"
        );
        for (key, value, remedy) in [
            ("username", &auth.username, &user_and_password),
            ("password", &auth.password, &user_and_password),
            ("auth", &auth.auth, &user_and_password),
            ("identity_token", &auth.identity_token, &part),
        ] {
            if !value.is_empty() {
                refuse(path.child("auth").child(key), "a credential", remedy.clone());
            }
        }
    }
    let user_part = "the user part of a URL";
    for (host, mirror) in mirrors {
        let path = KeyPath::of(["mirrors", host]);
        for (position, endpoint) in mirror.endpoints.iter().enumerate() {
            if without_user_part(endpoint) != *endpoint {
                let host = Address::of_endpoint(endpoint).map_or("HOST".to_owned(), |address| address.authority);
                let remedy = docker_registry_secret(&host, namespace);
                refuse(path.child("endpoint").index(position), user_part, remedy);
            }
        }
    }
    for (section, host) in mirrors.keys().map(|host| ("mirrors", host)).chain(configs.keys().map(|h| ("configs", h))) {
        if without_user_part(host) != *host {
            let name = Address::of_endpoint(host).map_or("HOST".to_owned(), |address| address.authority);
            refuse(KeyPath::of([section, host]), user_part, docker_registry_secret(&name, namespace));
        }
    }
    refusals
}

fn docker_registry_secret(host: &str, namespace: &str) -> String {
    format!(
        "make a Secret of it: `kubectl -n {namespace} create secret docker-registry NAME --docker-server={} --docker-username=USER --docker-password=PASSWORD`",
        without_user_part(host)
    )
}

/// Every host that a file names.
fn hosts(registries: &Registries) -> BTreeSet<String> {
    let Registries { mirrors, configs } = registries;
    let endpoints = mirrors.values().flat_map(|mirror| addresses(&mirror.endpoints)).map(|address| address.authority);
    let hub = mirrors.keys().chain(configs.keys()).filter_map(|host| crate::docker_config::host(host).ok());
    mirrors.keys().chain(configs.keys()).cloned().chain(hub).chain(endpoints).collect()
}

#[cfg(test)]
mod tests;

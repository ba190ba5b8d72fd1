//! What each object gives: which Secrets and CAs are ours, and what they hold.

use std::collections::BTreeSet;
use std::fmt;

use super::pem;
use super::placement::Given;
use super::refusal::{Refusal, Source};
use crate::docker_config::{self, DockerConfig, DockerConfigError};
use crate::inputs::{CONFIG_MAP, HOST_ANNOTATION, IGNORE_LABEL, InputObject, Inputs, Kind, Origin, REGISTRIES_KEY};
use crate::policy::{Policy, SecretName};
use crate::registries::document::{Document, KeyPath};
use crate::registries::finding::{Finding, Severity};
use crate::registries::model::Auth;
use crate::secret::Secret;

/// Type of the Secrets that `kubectl create secret docker-registry` makes.
const DOCKER_CONFIG_JSON: &str = "kubernetes.io/dockerconfigjson";
/// Its key.
const DOCKER_CONFIG_JSON_KEY: &str = ".dockerconfigjson";
/// The older type.
const DOCKER_CFG: &str = "kubernetes.io/dockercfg";
/// Its key.
const DOCKER_CFG_KEY: &str = ".dockercfg";
/// User name and password.
const BASIC_AUTH: &str = "kubernetes.io/basic-auth";
/// Client certificate and key.
const TLS: &str = "kubernetes.io/tls";
/// Anything.
const OPAQUE: &str = "Opaque";

/// TLS files for one host.
#[derive(Debug)]
pub(super) struct TlsFiles {
    pub host: String,
    /// `ca.crt`, `tls.crt`, `tls.key`.
    pub files: Vec<(&'static str, Secret<Vec<u8>>)>,
    pub source: Source,
}

/// What all objects together give.
#[derive(Debug, Default)]
pub(super) struct Gathered<'a> {
    pub credentials: Vec<Given>,
    pub tls: Vec<TlsFiles>,
    pub parts: Vec<(Document, Source)>,
    /// The objects that gave something.
    pub used: Vec<&'a InputObject>,
    /// Secrets that the policy names and that are not there.
    pub missing: Vec<String>,
    pub notes: Vec<Finding>,
    pub refusals: Vec<Refusal>,
}

/// Reads the Secrets and CAs of our namespace and the Secrets that the policy names.
pub(super) fn gather<'a, E: fmt::Display>(
    inputs: &'a Inputs,
    policy: &Policy,
    namespace: &str,
    strict: impl Fn(&str) -> Result<Document, Vec<E>>,
) -> Gathered<'a> {
    let mut gathered = Gathered::default();
    let mut objects: Vec<_> = inputs.objects.iter().collect();
    objects.sort_by_key(|object| &object.id);
    for pair in objects.windows(2) {
        let [first, second] = pair else { continue };
        let name = |object: &InputObject| (object.id.kind, object.id.namespace.clone(), object.id.name.clone());
        if name(first) == name(second) {
            gathered.refusals.push(Refusal::of_object(&first.id, "stands twice in the inputs: remove one"));
        }
    }
    for object in objects {
        let id = &object.id;
        let is_named = policy.secrets.iter().any(|secret| is(object, secret));
        let is_ours = id.namespace == namespace && (id.kind == Kind::Secret || id.name != CONFIG_MAP);
        let is_ignored = object.labels.get(IGNORE_LABEL).is_some_and(|value| value == "true");
        if is_elsewhere(inputs, object) && !is_named && !is_ours && !is_ignored {
            let message = format!(
                "{id} is not used: it is in another namespace, and the policy does not name it under `secrets`; move it to \
                 {namespace}, or name it there"
            );
            let path = KeyPath::default();
            let note = Finding { rule: "secret-elsewhere", severity: Severity::Warning, path, at: None, message };
            gathered.notes.push(note);
        }
        if (is_named || is_ours) && !is_ignored {
            let mut reader = Reader { object, is_named, gathered: &mut gathered, is_used: false };
            reader.read(&strict);
            if reader.is_used {
                gathered.used.push(object);
            }
        }
    }
    let is_there = |secret: &&SecretName| inputs.objects.iter().any(|object| is(object, secret));
    gathered.missing = policy.secrets.iter().filter(|secret| !is_there(secret)).map(missing).collect();
    gathered
}

/// A Secret that would be of use. Only in a directory is it known of: in a cluster what is not granted is not seen.
fn is_elsewhere(inputs: &Inputs, object: &InputObject) -> bool {
    let is_of_use = matches!(object.secret_type.as_str(), DOCKER_CONFIG_JSON | DOCKER_CFG)
        || object.annotations.contains_key(HOST_ANNOTATION);
    inputs.origin == Origin::Directory && object.id.kind == Kind::Secret && is_of_use
}

fn is(object: &InputObject, secret: &SecretName) -> bool {
    let SecretName { namespace, name } = secret;
    object.id.kind == Kind::Secret && object.id.namespace == *namespace && object.id.name == *name
}

fn missing(secret: &SecretName) -> String {
    format!("{secret}, which the policy names, is not there: make it, or take it out of `secrets` in policy.yaml")
}

/// Reads one object.
struct Reader<'a, 'g> {
    object: &'a InputObject,
    /// The policy names it: then it must be of use.
    is_named: bool,
    gathered: &'g mut Gathered<'a>,
    is_used: bool,
}

impl Reader<'_, '_> {
    fn read<E: fmt::Display>(&mut self, strict: &impl Fn(&str) -> Result<Document, Vec<E>>) {
        match (self.object.id.kind, self.object.secret_type.as_str()) {
            (Kind::ConfigMap, _) => {
                if self.is_annotated() {
                    self.ca("a ConfigMap");
                }
            }
            (Kind::Secret, DOCKER_CONFIG_JSON) => {
                self.docker(DOCKER_CONFIG_JSON_KEY, docker_config::dockerconfigjson);
            }
            (Kind::Secret, DOCKER_CFG) => self.docker(DOCKER_CFG_KEY, docker_config::dockercfg),
            (Kind::Secret, BASIC_AUTH) => self.basic_auth(),
            (Kind::Secret, TLS) => self.tls(),
            (Kind::Secret, OPAQUE | "") => self.opaque(strict),
            (Kind::Secret, other) => {
                if self.is_annotated() {
                    self.ca(&format!("a Secret of type {other}"));
                } else if self.is_named {
                    self.refuse(format!("is of type {other}, which gives nothing here: {}", usable()));
                }
            }
        }
    }

    fn docker(&mut self, key: &'static str, read: fn(&[u8]) -> Result<DockerConfig, DockerConfigError>) {
        let Some(bytes) = self.object.data.get(key) else {
            self.refuse(format!("has no key `{key}`: make it anew with `kubectl create secret docker-registry`"));
            return;
        };
        self.is_used = true;
        let source = self.source(key);
        if self.is_annotated() {
            let message = format!("{source}: names its hosts itself; the annotation {HOST_ANNOTATION} is not used");
            self.note("host-annotation-unused", message);
        }
        match read(bytes.expose()) {
            Ok(DockerConfig { credentials, helpers }) => {
                for helper in helpers {
                    let message = format!(
                        "{source}: `{helper}` names a program on the machine where `docker login` ran; a node cannot ask it, so only what stands under `auths` is used"
                    );
                    self.note("credential-helper", message);
                }
                let given =
                    credentials.into_iter().map(|c| Given { host: c.host, auth: c.auth, source: source.clone() });
                self.gathered.credentials.extend(given);
            }
            Err(error) => self.gathered.refusals.push(Refusal::of(&source, error)),
        }
    }

    fn basic_auth(&mut self) {
        let Some(hosts) = self.hosts() else { return };
        let (Some(username), Some(password)) = (self.text("username"), self.text("password")) else { return };
        let source = self.source("password");
        for host in hosts {
            let auth = Auth { username: username.clone(), password: password.clone(), ..Auth::default() };
            self.gathered.credentials.push(Given { host, auth, source: source.clone() });
        }
        self.is_used = true;
    }

    fn tls(&mut self) {
        let Some(hosts) = self.hosts() else { return };
        let mut files = Vec::new();
        // cert-manager writes an empty ca.crt, or one without certificate and key.
        if self.has("ca.crt") {
            files.extend(self.pem("ca.crt", pem::certificates));
        }
        if self.has("tls.crt") || self.has("tls.key") || !self.has("ca.crt") {
            // A bundle of the client certificate alone: `certificates` refuses a key among them.
            let certificate = self.pem("tls.crt", pem::certificates);
            let key = self.pem("tls.key", pem::private_key);
            if let (Some((_, certificate)), Some((_, key))) = (&certificate, &key)
                && let Err(error) = pem::pair(certificate.expose(), key.expose())
            {
                let refusal = Refusal::of(&self.source("tls.key"), error);
                self.gathered.refusals.push(refusal);
            }
            files.extend(certificate);
            files.extend(key);
        }
        self.give_tls(hosts, &files);
    }

    fn opaque<E: fmt::Display>(&mut self, strict: &impl Fn(&str) -> Result<Document, Vec<E>>) {
        for (key, kind) in [(DOCKER_CONFIG_JSON_KEY, DOCKER_CONFIG_JSON), (DOCKER_CFG_KEY, DOCKER_CFG)] {
            if self.object.data.contains_key(key) {
                let remedy = "a Secret's type cannot be changed, so delete it and make it anew with `kubectl create secret docker-registry`";
                self.refuse(format!("has the key `{key}` but is of type {OPAQUE} and not {kind}: {remedy}"));
                return;
            }
        }
        let has_part = self.object.data.contains_key(REGISTRIES_KEY);
        if has_part {
            self.part(strict);
        }
        if self.is_annotated() && (!has_part || self.has("ca.crt")) {
            self.ca("an Opaque Secret");
        } else if !has_part && self.has("ca.crt") {
            self.without_host();
        } else if !has_part && self.is_named {
            self.refuse(format!("holds nothing that is of use here: {}", usable()));
        }
    }

    fn part<E: fmt::Display>(&mut self, strict: &impl Fn(&str) -> Result<Document, Vec<E>>) {
        let Some(text) = self.utf8(REGISTRIES_KEY) else { return };
        let source = self.source(REGISTRIES_KEY);
        self.is_used = true;
        match strict(text.expose()) {
            Ok(document) => self.gathered.parts.push((document, source)),
            Err(errors) => self.gathered.refusals.extend(errors.iter().map(|error| Refusal::of(&source, error))),
        }
    }

    /// A CA alone, in an object with our annotation: without `ca.crt` the annotation is a mistake.
    fn ca(&mut self, what: &str) {
        if !self.has("ca.crt") {
            let remedy = if self.has("username") || self.has("password") {
                format!("user name and password go into a Secret of type {BASIC_AUTH}")
            } else if self.has("tls.crt") || self.has("tls.key") {
                format!("a client certificate goes into a Secret of type {TLS}")
            } else {
                format!("put the CA under that key, or remove the annotation; {}", usable())
            };
            self.refuse(format!(
                "carries the annotation {HOST_ANNOTATION}, but {what} gives only `ca.crt`, which it has not: {remedy}"
            ));
            return;
        }
        let Some(hosts) = self.hosts() else { return };
        let files: Vec<_> = self.pem("ca.crt", pem::certificates).into_iter().collect();
        self.give_tls(hosts, &files);
    }

    fn give_tls(&mut self, hosts: Vec<String>, files: &[(&'static str, Secret<Vec<u8>>)]) {
        self.is_used = true;
        let Some((key, _)) = files.first() else { return };
        let source = self.source(key);
        for host in hosts {
            self.gathered.tls.push(TlsFiles { host, files: files.to_vec(), source: source.clone() });
        }
    }

    /// The hosts of the annotation; `None` if there are none or one of them is wrong, which has been said.
    fn hosts(&mut self) -> Option<Vec<String>> {
        let Some(annotation) = self.object.annotations.get(HOST_ANNOTATION) else {
            self.without_host();
            return None;
        };
        let mut hosts = BTreeSet::new();
        for written in annotation.split(',').map(str::trim).filter(|host| !host.is_empty()) {
            match docker_config::host(written) {
                Ok(host) => {
                    hosts.insert(host);
                }
                Err(problem) => {
                    let written = docker_config::shown(written);
                    self.refuse(format!("the annotation {HOST_ANNOTATION}: `{written}` {problem}"));
                    return None;
                }
            }
        }
        if hosts.is_empty() {
            self.refuse(format!(
                "the annotation {HOST_ANNOTATION} is empty: name the registry's host, or several (`a,b`)"
            ));
            return None;
        }
        Some(hosts.into_iter().collect())
    }

    /// Says that the annotation is missing: fatal only where somebody pointed at this very object.
    fn without_host(&mut self) {
        let id = &self.object.id;
        let remedy = format!(
            "`kubectl -n {} annotate {} {} {HOST_ANNOTATION}=HOST`",
            id.namespace,
            id.kind.to_string().to_lowercase(),
            id.name
        );
        let problem = format!("is not used, since no annotation says which host it is for: {remedy}");
        if self.is_named {
            self.refuse(problem);
        } else {
            self.note("secret-without-host", format!("{id} {problem}"));
        }
    }

    fn is_annotated(&self) -> bool {
        self.object.annotations.contains_key(HOST_ANNOTATION)
    }

    /// Tells whether the key has content.
    fn has(&self, key: &str) -> bool {
        self.object.data.get(key).is_some_and(|bytes| !bytes.expose().is_empty())
    }

    fn pem(
        &mut self,
        key: &'static str,
        check: fn(&[u8]) -> Result<(), pem::PemError>,
    ) -> Option<(&'static str, Secret<Vec<u8>>)> {
        let bytes = self.object.data.get(key).cloned().unwrap_or_default();
        match check(bytes.expose()) {
            Ok(()) => {
                if pem::has_broken_block(bytes.expose()) {
                    let source = self.source(key);
                    let message = format!(
                        "{source}: one of its blocks is not whole, and containerd passes over it: copy it again, from its BEGIN \
                         line to its END line"
                    );
                    self.note("pem-block-broken", message);
                }
                Some((key, bytes))
            }
            Err(error) => {
                let refusal = Refusal::of(&self.source(key), error);
                self.gathered.refusals.push(refusal);
                None
            }
        }
    }

    /// A field of `basic-auth`.
    fn text(&mut self, key: &'static str) -> Option<Secret<String>> {
        let text = self.utf8(key)?;
        let problem = if text.is_empty() {
            "is missing or empty: registries that take a token alone accept any user name beside it"
        } else if text.expose().ends_with(['\n', '\r']) {
            "ends in a line break, which would be a part of it: make it anew, with `printf %s` in place of `echo`"
        } else {
            return Some(text);
        };
        let refusal = Refusal::of(&self.source(key), problem);
        self.gathered.refusals.push(refusal);
        None
    }

    fn utf8(&mut self, key: &'static str) -> Option<Secret<String>> {
        let bytes = self.object.data.get(key).cloned().unwrap_or_default();
        let text = std::str::from_utf8(bytes.expose()).ok().map(Secret::from);
        if text.is_none() {
            let refusal = Refusal::of(&self.source(key), "is not UTF-8 text");
            self.gathered.refusals.push(refusal);
        }
        text
    }

    fn source(&self, key: &str) -> Source {
        Source::of(&self.object.id, key)
    }

    fn refuse(&mut self, problem: String) {
        self.gathered.refusals.push(Refusal::of_object(&self.object.id, problem));
    }

    fn note(&mut self, rule: &'static str, message: String) {
        let path = KeyPath::default();
        self.gathered.notes.push(Finding { rule, severity: Severity::Warning, path, at: None, message });
    }
}

fn usable() -> String {
    format!(
        "Secrets of type {DOCKER_CONFIG_JSON}, {DOCKER_CFG}, {BASIC_AUTH} and {TLS} are used, and {OPAQUE} ones with the key `ca.crt` or `{REGISTRIES_KEY}`"
    )
}

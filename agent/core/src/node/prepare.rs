//! From inputs to what this node is to have: policy, merge and lint in one.

use std::path::Path;

use super::journal::Record;
use super::judge;
use super::observed::Installation;
use super::plan::{Desired, Wanted};
use crate::desired::{self, MergeContext, Outcome, Refusal};
use crate::digest::Key;
use crate::inputs::Inputs;
use crate::policy::{Mode, Policy};
use crate::registries::finding::{Finding, Severity};
use crate::registries::lint::{self, FileFact, FileFacts, Source};
use crate::registries::model::Registries;
use crate::registries::strict;

/// What the merge and the lint must know of the node.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// The namespace of the product.
    pub namespace: &'a str,
    /// The journal's key: it names a directory of inputs.
    pub key: &'a Key,
    /// What is remembered here.
    pub record: &'a Record,
    /// The k3s of this node.
    pub installation: &'a Installation,
    /// What is known of the TLS files that the configuration names and does not bring along.
    pub files: &'a FileFacts,
}

/// What the inputs say for this node.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What is wanted.
    pub desired: Desired,
    /// What is not as it was probably meant: warnings, and errors which block.
    pub findings: Vec<Finding>,
}

/// The policy beside the file. `last` is the last valid one that was seen: an invalid policy leaves it in force, and
/// with none before it only reports.
pub fn policy(inputs: &Inputs, namespace: &str, last: Option<&Policy>) -> (Policy, Vec<Refusal>) {
    match desired::policy_of(inputs, namespace) {
        Ok(policy) => (policy.unwrap_or_default(), Vec::new()),
        Err(refusals) => {
            let policy = last.cloned().unwrap_or_else(|| Policy { mode: Mode::Report, ..Policy::default() });
            (policy, refusals)
        }
    }
}

/// Merges and judges the inputs.
pub fn prepare(inputs: &Inputs, policy: &Policy, ground: &Ground<'_>) -> Prepared {
    let directory = Path::new(&ground.installation.registries_path).parent().and_then(Path::to_str).unwrap_or("/");
    let key = ground.key.bytes();
    let context = MergeContext {
        namespace: ground.namespace,
        directory,
        journal_key: &key,
        known_credential_hosts: &ground.record.credential_sources,
        known_tls_files: &ground.record.tls_sources,
        known_file_hosts: &ground.record.file_hosts,
    };
    let ready = match desired::merge(inputs, policy, &context, strict::parse) {
        Outcome::NoConfigMap => return Prepared { desired: Desired::None, findings: Vec::new() },
        Outcome::Held(refusals) | Outcome::Invalid(refusals) => {
            let sentences = refusals.iter().map(ToString::to_string).collect();
            return Prepared { desired: Desired::Refused(sentences), findings: Vec::new() };
        }
        Outcome::Ready(ready) => ready,
    };
    let mut files = ground.files.clone();
    for path in ready.tree.tls.keys() {
        let fact = if path.ends_with(".key") { FileFact::Key } else { FileFact::Certificate };
        files.insert(format!("{directory}/{}/{path}", crate::tree::TLS_DIR), fact);
    }
    let settings = judge::settings(ground.installation);
    let findings = lint::lint(&ready.document, &lint::Context { settings, source: Source::OurInput, files });
    let mut findings: Vec<Finding> = findings.into_iter().map(|finding| ready.named(finding)).collect();
    findings.extend(ready.notes);
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    let wanted = Wanted {
        revision: ready.revision.as_str().to_owned(),
        registries: ready.registries,
        tree: ready.tree,
        credential_sources: ready.credential_sources,
        tls_sources: ready.tls_sources,
        file_hosts: ready.file_hosts,
        errors: errors.map(ToString::to_string).collect(),
    };
    Prepared { desired: Desired::Ready(Box::new(wanted)), findings }
}

/// The TLS files on the node that a configuration names: somebody has to look at them for the lint.
pub fn tls_paths(registries: &Registries) -> Vec<String> {
    let tls = registries.configs.values().filter_map(|config| config.tls.as_ref());
    let mut paths: Vec<String> = tls
        .flat_map(|tls| [&tls.ca_file, &tls.cert_file, &tls.key_file])
        .filter(|path| path.starts_with('/'))
        .cloned()
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

//! Reads the objects that an operator gives us, from the cluster or from a directory: the same `Inputs` from both.

pub mod cluster;
pub mod directory;
mod manifest;

use std::collections::BTreeMap;

use agent_core::node::annotations::PREFIX;

/// Types of Secret that are never inputs and may be large or many: Helm keeps whole releases in Secrets.
const FOREIGN_TYPES: [&str; 3] =
    ["helm.sh/release.v1", "kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"];

/// The ConfigMap that every namespace has.
const FOREIGN_CONFIG_MAP: &str = "kube-root-ca.crt";

/// Keeps our own annotations only. `kubectl apply` writes the whole object, a Secret's data included, into
/// `kubectl.kubernetes.io/last-applied-configuration`; other tools have copies of their own.
fn keep_ours(annotations: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    annotations.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect()
}

//! The files that belong to one configuration: what lies below `/etc/rancher/k3s`, or is to lie there.

use std::collections::BTreeMap;

use crate::secret::Secret;

/// `registries.yaml` and `registry-tls/…`, as bytes. What is not in it is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// `registries.yaml`; `None` is *no such file*, which k3s takes for an empty one.
    pub registries: Option<Secret<Vec<u8>>>,
    /// Files below `registry-tls/`, by `HOST/FILE` (`registry.example.com:5000/ca.crt`).
    pub tls: BTreeMap<String, Secret<Vec<u8>>>,
}

impl Tree {
    /// Whether nothing lies there.
    pub fn is_absent(&self) -> bool {
        self.registries.is_none() && self.tls.is_empty()
    }

    /// The content of a TLS file that a configuration names by its path on the node, if it is one of these files;
    /// `registries` is the path of `registries.yaml`.
    pub fn tls_file(&self, registries: &str, path: &str) -> Option<&Secret<Vec<u8>>> {
        let directory = registries.rsplit_once('/').map_or("", |(directory, _)| directory);
        let name = path.strip_prefix(directory)?.strip_prefix('/')?.strip_prefix(TLS_DIR)?.strip_prefix('/')?;
        self.tls.get(name)
    }
}

/// The directory of TLS files, beside `registries.yaml`.
pub const TLS_DIR: &str = "registry-tls";

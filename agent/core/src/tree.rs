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
}

/// The directory of TLS files, beside `registries.yaml`.
pub const TLS_DIR: &str = "registry-tls";

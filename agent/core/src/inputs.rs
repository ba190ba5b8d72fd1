//! The objects that an operator gives us, as they were read from the cluster or from a directory of manifests.

use std::collections::BTreeMap;
use std::fmt;

use crate::secret::Secret;

/// The name of the ConfigMap with `registries.yaml` and `policy.yaml`.
pub const CONFIG_MAP: &str = "registries";
/// The key of the file in it.
pub const REGISTRIES_KEY: &str = "registries.yaml";
/// The key of the policy in it.
pub const POLICY_KEY: &str = "policy.yaml";
/// Names the host (or several, `a,b`) that a Secret or CA belongs to.
pub const HOST_ANNOTATION: &str = "k3s-registry-agent/host";
/// Leaves an object out when `"true"`.
pub const IGNORE_LABEL: &str = "k3s-registry-agent/ignore";
/// The namespace of the product, and of objects in a directory that name none.
pub const NAMESPACE: &str = "k3s-registry-agent";

/// The kinds of object that are inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        })
    }
}

/// Which object, and which version of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Kind.
    pub kind: Kind,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `metadata.uid`; empty for a manifest.
    pub uid: String,
    /// `metadata.resourceVersion`, compared for equality only; empty for a manifest.
    pub resource_version: String,
}

/// `Secret honeydue/gitea-credentials`.
impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// A ConfigMap or a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputObject {
    /// Which.
    pub id: ObjectId,
    /// `type` of a Secret (`kubernetes.io/dockerconfigjson`, …); empty for a ConfigMap.
    pub secret_type: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `data`, decoded. A ConfigMap's `data` and `binaryData` come here too.
    pub data: BTreeMap<String, Secret<Vec<u8>>>,
}

/// Where the objects came from: it decides how a revision is made (`design.md` 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The API server: uid and resourceVersion name a version.
    Cluster,
    /// A directory of manifests: only their content names a version, so a keyed digest is taken.
    Directory,
}

/// Everything that was read, whether used or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// Where from.
    pub origin: Origin,
    /// The ConfigMaps and Secrets of our namespace and those that the policy names elsewhere, in no order.
    pub objects: Vec<InputObject>,
    /// What could not be read and why (a manifest that does not parse, a Secret of the policy that is refused or
    /// missing): one sentence each, with the object or file named. While one stands, nothing is removed or written.
    pub unreadable: Vec<String>,
}

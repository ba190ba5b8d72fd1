//! The API's objects with the few fields we use: the rest is skipped while it is read and never takes memory, and a
//! Secret's data is wrapped before anything could print it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use agent_core::secret::Secret;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// `kubectl apply` keeps the whole object in it, a Secret's data included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A ConfigMap, or a Secret.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Held<const SECRET: bool> {
    #[serde(deserialize_with = "meta")]
    pub(crate) metadata: ObjectMeta,
    #[serde(rename = "type", default)]
    pub(crate) secret_type: Option<String>,
    #[serde(default)]
    pub(crate) data: Fields,
    #[serde(rename = "binaryData", default)]
    pub(crate) binary_data: Fields,
}

/// A mapping of texts. What is not one decodes nevertheless, as `None`: kube prints the whole body of an answer that
/// does not decode.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(pub(crate) BTreeMap<String, Option<Secret<String>>>);

/// A Node.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Node {
    #[serde(deserialize_with = "meta")]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: NodeSpec,
    #[serde(default)]
    pub(crate) status: NodeStatus,
}

/// Whether pods may come to it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct NodeSpec {
    #[serde(default)]
    pub(crate) unschedulable: bool,
}

/// Its conditions and addresses: names of images are skipped.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct NodeStatus {
    #[serde(default)]
    pub(crate) conditions: Vec<Condition>,
    #[serde(default)]
    pub(crate) addresses: Vec<Address>,
}

/// One of them.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Address {
    pub(crate) address: String,
}

/// One of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) last_heartbeat_time: Option<Timestamp>,
    #[serde(default)]
    pub(crate) last_transition_time: Option<Timestamp>,
}

/// A Lease.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Lease {
    #[serde(deserialize_with = "meta")]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: LeaseSpec,
}

/// The addresses of a Service.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct EndpointSlice {
    #[serde(deserialize_with = "meta")]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) endpoints: Vec<Endpoint>,
    #[serde(default)]
    pub(crate) ports: Vec<EndpointPort>,
}

/// One of them.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Endpoint {
    #[serde(default)]
    pub(crate) addresses: Vec<String>,
}

/// The port of all of them.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct EndpointPort {
    #[serde(default)]
    pub(crate) port: Option<u16>,
}

/// Who holds it, and when it was renewed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LeaseSpec {
    #[serde(default)]
    pub(crate) holder_identity: Option<String>,
    #[serde(default)]
    pub(crate) renew_time: Option<Timestamp>,
    #[serde(default)]
    pub(crate) lease_transitions: Option<i32>,
}

/// A Pod.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Pod {
    #[serde(deserialize_with = "meta")]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: PodSpec,
    #[serde(default)]
    pub(crate) status: PodStatus,
}

/// Where it runs.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct PodSpec {
    #[serde(rename = "nodeName", default)]
    pub(crate) node_name: Option<String>,
}

/// Whether it runs.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct PodStatus {
    #[serde(default)]
    pub(crate) phase: String,
}

macro_rules! resource {
    ([$($generics:tt)*] $type:ty, $scope:ty, $group:expr, $kind:expr, $plural:expr) => {
        impl $($generics)* Resource for $type {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }

            fn version((): &()) -> Cow<'_, str> {
                "v1".into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!([<const SECRET: bool>] Held<SECRET>, NamespaceResourceScope, "",
    if SECRET { "Secret" } else { "ConfigMap" }, if SECRET { "secrets" } else { "configmaps" });
resource!([] Node, ClusterResourceScope, "", "Node", "nodes");
resource!([] EndpointSlice, NamespaceResourceScope, "discovery.k8s.io", "EndpointSlice", "endpointslices");
resource!([] Pod, NamespaceResourceScope, "", "Pod", "pods");
resource!([] Lease, NamespaceResourceScope, "coordination.k8s.io", "Lease", "leases");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<Annotations>,
}

struct Annotations(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut all = BTreeMap::<String, String>::deserialize(deserializer)
            .map_err(|_| D::Error::custom("annotations are not a mapping of texts"))?;
        // Wrapped, so that the copy is overwritten when it is dropped.
        drop(all.remove(LAST_APPLIED).map(Secret::new));
        Ok(Self(all))
    }
}

fn meta<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let Meta { name, namespace, uid, resource_version, labels, annotations } = Meta::deserialize(deserializer)?;
    let annotations = annotations.map(|Annotations(map)| map);
    Ok(ObjectMeta { name, namespace, uid, resource_version, labels, annotations, ..ObjectMeta::default() })
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldsVisitor)
    }
}

/// One value of [`Fields`].
struct Field(Option<Secret<String>>);

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<Field, E> {
        Ok(Field(Some(text.into())))
    }

    fn visit_string<E>(self, text: String) -> Result<Field, E> {
        Ok(Field(Some(Secret::new(text))))
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field(Some(Secret::default())))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
        Ok(Field(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
        Ok(Field(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
        Ok(Field(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
        Ok(Field(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Field, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Field, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field(None))
    }
}

struct FieldsVisitor;

/// Stands for a `data` that is no mapping.
fn broken() -> Fields {
    Fields(BTreeMap::from([(String::new(), None)]))
}

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_unit<E>(self) -> Result<Fields, E> {
        Ok(Fields::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Fields, E> {
        Ok(broken())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Fields, E> {
        Ok(broken())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Fields, E> {
        Ok(broken())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Fields, E> {
        Ok(broken())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Fields, E> {
        Ok(broken())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Fields, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(broken())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Fields, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((key, Field(value))) = entries.next_entry::<String, Field>()? {
            map.insert(key, value);
        }
        Ok(Fields(map))
    }
}

//! The name of one set of inputs (`design.md` 4): compared for equality only, and safe to show to everybody.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::inputs::{HOST_ANNOTATION, InputObject, ObjectId};
use crate::secret::Secret;

/// What `mode: restore` rolls out, in place of a digest.
const RESTORE: &str = "restore";
/// Hex digits of a revision.
const LENGTH: usize = 12;

/// A revision R: 12 hex digits, or `restore`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Revision(String);

/// A text that is no revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a revision is 12 lower-case hex digits or `restore`")]
pub struct NotARevision;

impl Revision {
    /// The revision of `mode: restore`.
    pub fn restore() -> Self {
        Self(RESTORE.to_owned())
    }

    /// Tells whether this is `mode: restore` and names no inputs.
    pub fn is_restore(&self) -> bool {
        self.0 == RESTORE
    }

    /// The text, as it stands in annotations.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Names inputs of a cluster: the text of `registries.yaml`, which holds no secret, and which version of which
    /// objects was used. No content of a Secret enters, so the digest needs no key.
    pub fn of_cluster(text: &str, used: &[&ObjectId]) -> Self {
        let mut used = used.to_vec();
        used.sort_unstable();
        used.dedup();
        let mut digest = Sha256::new();
        let mut feed = |field: &[u8]| {
            digest.update((field.len() as u64).to_be_bytes());
            digest.update(field);
        };
        feed(b"cluster");
        feed(text.as_bytes());
        for ObjectId { kind, namespace, name, uid, resource_version } in used {
            for field in [kind.to_string().as_str(), namespace, name, uid, resource_version] {
                feed(field.as_bytes());
            }
        }
        Self::of_digest(&digest.finalize())
    }

    /// Names inputs of a directory, where only content tells versions apart: keyed with the journal's random key, since
    /// a plain digest of a weak password could be guessed by whoever reads the Node. Labels and other metadata do not
    /// enter; the type and the host annotation do, because they decide what the content means.
    pub fn of_directory(key: &Secret<Vec<u8>>, text: &str, used: &[&InputObject]) -> Self {
        let mut used = used.to_vec();
        used.sort_unstable_by_key(|object| &object.id);
        used.dedup_by_key(|object| &object.id);
        let mut digest = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes a key of any length");
        let mut feed = |field: &[u8]| {
            digest.update(&(field.len() as u64).to_be_bytes());
            digest.update(field);
        };
        feed(b"directory");
        feed(text.as_bytes());
        for InputObject { id, secret_type, labels: _, annotations, data } in used {
            let host = annotations.get(HOST_ANNOTATION);
            feed(id.kind.to_string().as_bytes());
            for field in [&id.namespace, &id.name, secret_type] {
                feed(field.as_bytes());
            }
            feed(if host.is_some() { b"host" } else { b"" });
            feed(host.map_or(b"".as_slice(), |host| host.as_bytes()));
            feed(&(data.len() as u64).to_be_bytes());
            for (name, value) in data {
                feed(name.as_bytes());
                feed(value.expose());
            }
        }
        Self::of_digest(&digest.finalize().into_bytes())
    }

    fn of_digest(digest: &[u8]) -> Self {
        let hex: String = digest.iter().take(LENGTH / 2).map(|byte| format!("{byte:02x}")).collect();
        Self(hex)
    }
}

impl FromStr for Revision {
    type Err = NotARevision;

    fn from_str(text: &str) -> Result<Self, NotARevision> {
        let is_digest = text.len() == LENGTH && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_digest || text == RESTORE { Ok(Self(text.to_owned())) } else { Err(NotARevision) }
    }
}

impl TryFrom<String> for Revision {
    type Error = NotARevision;

    fn try_from(text: String) -> Result<Self, NotARevision> {
        text.parse()
    }
}

impl From<Revision> for String {
    fn from(revision: Revision) -> Self {
        revision.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::inputs::Kind;

    fn id(name: &str, version: &str) -> ObjectId {
        ObjectId {
            kind: Kind::Secret,
            namespace: "ns".into(),
            name: name.into(),
            uid: format!("uid-{name}"),
            resource_version: version.into(),
        }
    }

    fn object(name: &str, key: &str, value: &str) -> InputObject {
        InputObject {
            id: ObjectId { uid: String::new(), resource_version: String::new(), ..id(name, "") },
            secret_type: "Opaque".into(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            data: BTreeMap::from([(key.to_owned(), Secret::new(value.as_bytes().to_vec()))]),
        }
    }

    #[test]
    fn a_cluster_revision_is_the_same_for_ever() {
        let (a, b) = (id("a", "1"), id("b", "7"));
        let revision = Revision::of_cluster("mirrors: {}\n", &[&a, &b]);
        assert_eq!(revision.as_str(), "6248921dd11a");
        assert_eq!(revision, Revision::of_cluster("mirrors: {}\n", &[&b, &a, &b]), "order and repetition say nothing");
    }

    #[test]
    fn text_and_object_versions_change_a_cluster_revision() {
        let a = id("a", "1");
        let base = Revision::of_cluster("x", &[&a]);
        assert_ne!(base, Revision::of_cluster("y", &[&a]));
        assert_ne!(base, Revision::of_cluster("x", &[]));
        assert_ne!(base, Revision::of_cluster("x", &[&id("a", "2")]));
        assert_ne!(base, Revision::of_cluster("x", &[&ObjectId { uid: "other".into(), ..a.clone() }]));
        assert_ne!(base, Revision::of_cluster("x", &[&ObjectId { namespace: "n".into(), name: "sa".into(), ..a }]));
    }

    #[test]
    fn a_directory_revision_depends_on_key_and_content_but_not_on_labels() {
        let (key, other) = (Secret::new(vec![1; 32]), Secret::new(vec![2; 32]));
        let a = object("a", "k", "canary");
        let base = Revision::of_directory(&key, "x", &[&a]);
        assert_ne!(base, Revision::of_directory(&other, "x", &[&a]), "without the key nobody can test guesses");
        assert_ne!(base, Revision::of_directory(&key, "x", &[&object("a", "k", "canarz")]));
        assert_ne!(
            base,
            Revision::of_directory(&key, "x", &[&object("a", "kc", "anary")]),
            "fields do not run together"
        );
        let mut labelled = a.clone();
        labelled.labels.insert("team".into(), "x".into());
        labelled.annotations.insert("note".into(), "y".into());
        assert_eq!(base, Revision::of_directory(&key, "x", &[&labelled]));
        labelled.annotations.insert(HOST_ANNOTATION.into(), "h".into());
        assert_ne!(base, Revision::of_directory(&key, "x", &[&labelled]), "the host decides what the content means");
    }

    #[test]
    fn only_twelve_hex_digits_or_restore_are_a_revision() {
        for good in ["0123456789ab", "restore"] {
            assert_eq!(good.parse::<Revision>().expect("valid").to_string(), good);
        }
        for bad in ["", "0123456789a", "0123456789abc", "0123456789AB", "Restore", "0123456789g0"] {
            assert_eq!(bad.parse::<Revision>(), Err(NotARevision), "{bad}");
        }
        assert!(Revision::restore().is_restore());
        let json = serde_json::to_string(&Revision::restore()).expect("serializes");
        assert_eq!(json, "\"restore\"");
        assert!(serde_json::from_str::<Revision>("\"nonsense\"").is_err());
    }
}

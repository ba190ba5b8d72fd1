//! Why inputs are not used, in words for the person who gave them.

use std::fmt;

use crate::inputs::ObjectId;
use crate::registries::document::Mark;

/// An object and one of its keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// `Secret honeydue/gitea-credentials`.
    pub object: String,
    /// The key in `data`.
    pub key: String,
}

impl Source {
    /// This key of that object.
    pub fn of(id: &ObjectId, key: impl Into<String>) -> Self {
        Self { object: id.to_string(), key: key.into() }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, key } = self;
        write!(f, "{object}, key `{key}`")
    }
}

/// One reason, with its remedy. Shows objects, keys and hosts, never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The object, if it is about one.
    pub object: Option<String>,
    /// The key in its `data`.
    pub key: Option<String>,
    /// The place in the text under that key.
    pub at: Option<Mark>,
    /// What is wrong and what to do.
    pub problem: String,
}

impl Refusal {
    /// About one key of an object.
    pub(super) fn of(source: &Source, problem: impl fmt::Display) -> Self {
        let Source { object, key } = source.clone();
        Self { object: Some(object), key: Some(key), at: None, problem: problem.to_string() }
    }

    /// About a whole object.
    pub(super) fn of_object(id: &ObjectId, problem: impl fmt::Display) -> Self {
        Self { object: Some(id.to_string()), key: None, at: None, problem: problem.to_string() }
    }

    /// A sentence that names what it is about.
    pub(super) fn sentence(problem: impl fmt::Display) -> Self {
        Self { object: None, key: None, at: None, problem: problem.to_string() }
    }

    /// The same, at that place.
    pub(super) fn at(self, at: Option<Mark>) -> Self {
        Self { at, ..self }
    }
}

/// `ConfigMap k3s-registry-agent/registries, key `registries.yaml`, line 4, column 7: …`.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, key, at, problem } = self;
        if let Some(object) = object {
            f.write_str(object)?;
            if let Some(key) = key {
                write!(f, ", key `{key}`")?;
            }
            if let Some(at) = at {
                write!(f, ", {at}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(problem)
    }
}

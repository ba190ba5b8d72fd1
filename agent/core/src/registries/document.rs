//! A `registries.yaml` as read: its model, where each key stands, and what its reader passed over.

use std::collections::BTreeMap;
use std::fmt;

use super::model::Registries;

/// A place in a text: both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// The keys that lead to a value, outermost first. List positions are keys too: `[0]`.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPath(Vec<String>);

impl KeyPath {
    /// The path of these keys.
    pub fn of<S: Into<String>>(keys: impl IntoIterator<Item = S>) -> Self {
        Self(keys.into_iter().map(Into::into).collect())
    }

    /// This path and one key more.
    #[must_use]
    pub fn child(&self, key: impl Into<String>) -> Self {
        let mut keys = self.0.clone();
        keys.push(key.into());
        Self(keys)
    }

    /// This path and a list position.
    #[must_use]
    pub fn index(&self, position: usize) -> Self {
        self.child(format!("[{position}]"))
    }

    /// The path without its last key; the root's parent is the root.
    #[must_use]
    pub fn parent(&self) -> Self {
        Self(self.0[..self.0.len().saturating_sub(1)].to_vec())
    }

    /// The keys, outermost first.
    pub fn keys(&self) -> &[String] {
        &self.0
    }
}

/// `mirrors."docker.io".endpoint[0]`: a key that is not a plain word stands in quotes. A URL's user part is left out,
/// since some people write a password there.
impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("(top level)");
        }
        for (position, key) in self.0.iter().enumerate() {
            let is_index = key.starts_with('[') && key.ends_with(']') && key.len() > 2;
            if position > 0 && !is_index {
                f.write_str(".")?;
            }
            let is_plain = is_index || (!key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
            if is_plain {
                f.write_str(key)?;
            } else {
                write!(f, "{:?}", without_user_part(key))?;
            }
        }
        Ok(())
    }
}

/// As it is displayed: a derived one would show the user part of a URL.
impl fmt::Debug for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Replaces the user part of a URL (`https://user:password@host`) by `…`: k3s keeps it, so it must never be printed.
pub fn without_user_part(text: &str) -> String {
    let start = text.find("//").map_or(0, |at| at + 2);
    let authority_end = text[start..].find(['/', '?', '#']).map_or(text.len(), |at| start + at);
    match text[start..authority_end].rfind('@') {
        Some(at) => format!("{}…@{}", &text[..start], &text[start + at + 1..]),
        None => text.to_owned(),
    }
}

/// A `registries.yaml` that k3s can read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// What it means.
    pub registries: Registries,
    /// Where each key (or list item) of the model stands.
    pub marks: BTreeMap<KeyPath, Mark>,
    /// What the reader passed over in silence, in the order of the text.
    pub notes: Vec<Note>,
}

impl Document {
    /// Where the value stands, or the nearest key above it that has a place.
    pub fn mark(&self, path: &KeyPath) -> Option<Mark> {
        let mut path = path.clone();
        loop {
            if let Some(mark) = self.marks.get(&path) {
                return Some(*mark);
            }
            if path.keys().is_empty() {
                return None;
            }
            path = path.parent();
        }
    }
}

/// Something k3s reads without complaint and without effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is.
    pub kind: NoteKind,
    /// The key.
    pub path: KeyPath,
    /// Where it stands.
    pub at: Mark,
}

/// The kinds of [`Note`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// A key that k3s does not know and ignores.
    UnknownKey {
        /// The key that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A key that stands twice: depending on its type the later wins or both are merged.
    DoubledKey,
    /// A second YAML document: not read at all.
    ExtraDocument,
    /// Top-level `auths`: read, then used by nothing.
    UnusedAuths,
    /// A YAML 1.1 boolean (`yes`, `on`) that YAML 1.2 readers take for text.
    OldBoolean,
}

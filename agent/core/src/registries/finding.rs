//! What the lint says about a file: one finding for each mistake, with a fixed id and a remedy.

use std::fmt;

use super::document::{KeyPath, Mark};

/// Whether a finding stops the file from being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Has no effect, or not what was probably meant.
    Warning,
    /// k3s or containerd rejects it, drops a mirror in silence, deletes directories, or every pull of the host fails.
    Error,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule's id: fixed for ever, in kebab case, documented in `docs/lint.md`.
    pub rule: &'static str,
    /// Whether it blocks.
    pub severity: Severity,
    /// The key.
    pub path: KeyPath,
    /// Where it stands, if it came from a text.
    pub at: Option<Mark>,
    /// What is wrong and what to write instead. Never shows a credential.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, severity, path, at, message } = self;
        let word = match severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        match at {
            Some(at) => write!(f, "{word} [{rule}] {at}: {path}: {message}"),
            None => write!(f, "{word} [{rule}] {path}: {message}"),
        }
    }
}

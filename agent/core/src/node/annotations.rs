//! The annotations of `design.md` 7 that the agent writes on its own Node, and those it reads there.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

/// Prefix of every annotation and label of ours.
pub const PREFIX: &str = "k3s-registry-agent/";

/// Where a node stands. Computed anew from what is seen; never persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The desired configuration is proven here. Ends with a newer revision or drift.
    Current,
    /// Something is to be done and waits: for inputs, a turn, a window, a retry time.
    Pending,
    /// The turn is held and the file is being replaced.
    Applying,
    /// The file is replaced and its proof, or the proof of the undo, is awaited.
    Proving,
    /// The desired revision failed here and the earlier configuration is proven again. Ends with a newer revision or `retry`.
    RolledBack,
    /// Nothing could be proven; a person is needed. Ends when the evidence passes.
    Stuck,
    /// Inputs, set-up or another writer stand in the way; nothing is written. Ends when they are mended.
    Invalid,
    /// The operator paused. Ends with `resume`.
    Paused,
}

impl Phase {
    /// All, for metrics.
    pub const ALL: [Self; 8] = [
        Self::Current,
        Self::Pending,
        Self::Applying,
        Self::Proving,
        Self::RolledBack,
        Self::Stuck,
        Self::Invalid,
        Self::Paused,
    ];

    /// The word in the annotation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "Current",
            Self::Pending => "Pending",
            Self::Applying => "Applying",
            Self::Proving => "Proving",
            Self::RolledBack => "RolledBack",
            Self::Stuck => "Stuck",
            Self::Invalid => "Invalid",
            Self::Paused => "Paused",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the agent says on its Node. An absent value is removed from the Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Phase.
    pub phase: Phase,
    /// One sentence, at most 256 bytes: see [`sentence`].
    pub reason: String,
    /// Since when the phase holds.
    pub since: Timestamp,
    /// The revision proven.
    pub revision: Option<String>,
    /// The revision that failed.
    pub failed: Option<String>,
    /// `R/N`.
    pub wanted: Option<String>,
    /// The last ask answered.
    pub answered: Option<String>,
}

impl Told {
    /// The annotations to write, by full name; `None` removes.
    pub fn annotations(&self) -> BTreeMap<String, Option<String>> {
        let Self { phase, reason, since, revision, failed, wanted, answered } = self;
        let since = since.round(jiff::Unit::Second).unwrap_or(*since);
        [
            ("phase", Some(phase.to_string())),
            ("reason", Some(reason.clone())),
            ("since", Some(since.to_string())),
            ("revision", revision.clone()),
            ("failed", failed.clone()),
            ("wanted", wanted.clone()),
            ("answered", answered.clone()),
        ]
        .into_iter()
        .map(|(name, value)| (format!("{PREFIX}{name}"), value))
        .collect()
    }
}

/// What the agent reads on its Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSeen {
    /// All annotations of the Node.
    pub annotations: BTreeMap<String, String>,
}

impl NodeSeen {
    /// One of ours, by its short name.
    pub fn ours(&self, name: &str) -> Option<&str> {
        self.annotations.get(&format!("{PREFIX}{name}")).map(String::as_str)
    }

    /// Whether the operator paused this node.
    pub fn is_paused(&self) -> bool {
        self.ours("pause") == Some("true")
    }
}

/// Longest `reason`, in bytes.
pub const REASON_LIMIT: usize = 256;

/// Makes one line of at most [`REASON_LIMIT`] bytes of a text, cut at a character.
pub fn sentence(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() <= REASON_LIMIT {
        return line;
    }
    let mut end = REASON_LIMIT - '…'.len_utf8();
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &line[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_of_at_most_256_bytes() {
        let text = format!("a\nb{}", "é".repeat(300));
        let reason = sentence(&text);
        assert!(reason.len() <= REASON_LIMIT && reason.starts_with("a bé") && reason.ends_with('…'), "{reason}");
        assert_eq!(sentence("short"), "short");
    }

    #[test]
    fn an_absent_value_is_removed_from_the_node() {
        let told = Told {
            phase: Phase::Current,
            reason: "proven".into(),
            since: Timestamp::UNIX_EPOCH,
            revision: Some("abc".into()),
            failed: None,
            wanted: None,
            answered: None,
        };
        let written = told.annotations();
        assert_eq!(written["k3s-registry-agent/revision"].as_deref(), Some("abc"));
        assert_eq!(written["k3s-registry-agent/failed"], None);
        assert_eq!(written["k3s-registry-agent/since"].as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(written.len(), 7);
    }
}

//! The annotations of `design.md` 7 that the agent writes on its own Node, and those it reads there.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

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

/// A proof that takes less is told by its end alone: longer than a server's start takes as a rule, so that a phase is not
/// written a moment before the next.
const PROVING_TOLD_AFTER: Duration = Duration::from_secs(20);
/// While something is open, or nothing helps, the reason changes all the time, and is written this often.
const REASON_TOLD_EVERY: Duration = Duration::from_secs(30);

impl Told {
    /// What of it is worth a write now: a short proof leaves *Applying* standing, and of the many reasons of an open turn
    /// or of a stuck node only some are told. `lasts` is how long the phase has lasted, `since_reason` the time since a
    /// reason was written.
    pub fn paced(mut self, node: &NodeSeen, lasts: Duration, since_reason: Duration) -> Self {
        let said = node.ours("phase");
        let is_restless = match self.phase {
            Phase::Applying | Phase::Proving | Phase::Stuck => true,
            Phase::Current | Phase::Pending | Phase::RolledBack | Phase::Invalid | Phase::Paused => false,
        };
        let is_short =
            self.phase == Phase::Proving && said == Some(Phase::Applying.as_str()) && lasts < PROVING_TOLD_AFTER;
        if is_short {
            self.phase = Phase::Applying;
        }
        if said != Some(self.phase.as_str()) {
            return self;
        }
        // Another process of ours may have said it first.
        if let Some(since) = node.ours("since").and_then(|since| since.parse().ok()) {
            self.since = since;
        }
        let is_kept = is_short || (is_restless && since_reason < REASON_TOLD_EVERY);
        if let Some(reason) = node.ours("reason").filter(|_| is_kept) {
            reason.clone_into(&mut self.reason);
        }
        self
    }

    /// Whether an Event is worth its request when this is written over what the Node says: at the beginning and at the end
    /// of a turn, and at every change of phase that nothing else follows from by itself. *Proving* goes on with what
    /// *Applying* began, and an ask that is drawn ends in *Applying*.
    pub fn is_event(&self, node: &NodeSeen) -> bool {
        let said = node.ours("phase");
        let was_open = [Phase::Applying, Phase::Proving].iter().any(|phase| said == Some(phase.as_str()));
        let is_worth = match self.phase {
            Phase::Proving => false,
            Phase::Pending => was_open || self.wanted.is_none(),
            Phase::Current | Phase::Applying | Phase::RolledBack | Phase::Stuck | Phase::Invalid | Phase::Paused => {
                true
            }
        };
        is_worth && said != Some(self.phase.as_str())
    }

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
    part(text, REASON_LIMIT)
}

/// Makes one line of at most `limit` bytes of a text that is a part of a sentence.
pub(crate) fn part(text: &str, limit: usize) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() <= limit {
        return line;
    }
    let mut end = limit.saturating_sub('…'.len_utf8());
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
    fn a_short_proof_and_the_many_reasons_of_a_turn_are_not_written() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let told = |phase, reason: &str| Told {
            phase,
            reason: reason.into(),
            since: at(100),
            revision: None,
            failed: None,
            wanted: None,
            answered: None,
        };
        let node = |phase: Phase| NodeSeen {
            annotations: [("phase", phase.as_str()), ("reason", "earlier"), ("since", "1970-01-01T00:00:07Z")]
                .map(|(name, value)| (format!("{PREFIX}{name}"), value.to_owned()))
                .into(),
        };
        use Phase::{Applying, Current, Pending, Proving, Stuck};
        let none = NodeSeen::default();
        for (said, phase, lasts, since_reason, expected) in [
            (&node(Applying), Proving, 19, 100, (Applying, "earlier", 7)),
            (&node(Applying), Proving, 20, 0, (Proving, "now", 100)),
            (&node(Proving), Proving, 21, 29, (Proving, "earlier", 7)),
            (&node(Proving), Proving, 40, 30, (Proving, "now", 7)),
            (&node(Applying), Applying, 1, 1, (Applying, "earlier", 7)),
            (&node(Stuck), Stuck, 1000, 29, (Stuck, "earlier", 7)),
            (&node(Stuck), Stuck, 1000, 30, (Stuck, "now", 7)),
            (&node(Proving), Stuck, 0, 0, (Stuck, "now", 100)),
            (&node(Proving), Current, 0, 0, (Current, "now", 100)),
            (&node(Current), Current, 0, 0, (Current, "now", 7)),
            (&node(Pending), Applying, 0, 0, (Applying, "now", 100)),
            // A heal begins with the proof, and is shown at once.
            (&node(Current), Proving, 0, 0, (Proving, "now", 100)),
            (&none, Proving, 0, 0, (Proving, "now", 100)),
        ] {
            let seconds = Duration::from_secs;
            let paced = told(phase, "now").paced(said, seconds(lasts), seconds(since_reason));
            assert_eq!((paced.phase, paced.reason.as_str(), paced.since), (expected.0, expected.1, at(expected.2)));
        }
    }

    #[test]
    fn an_event_is_worth_a_beginning_and_an_end_and_not_what_leads_from_one_to_the_other() {
        use Phase::{Applying, Current, Invalid, Paused, Pending, Proving, RolledBack, Stuck};
        let asks = Some("r/00c0ffee");
        for (said, phase, wanted, expected) in [
            (Some(Current), Pending, asks, false),
            (None, Pending, asks, false),
            (Some(Pending), Applying, asks, true),
            (Some(Applying), Proving, asks, false),
            (Some(Applying), Current, None, true),
            (Some(Proving), Current, None, true),
            (Some(Proving), RolledBack, None, true),
            (Some(Proving), Stuck, None, true),
            // A grant that could not be used, and a proof that something else stands in the way of: ends of a turn.
            (Some(Applying), Pending, asks, true),
            (Some(Proving), Pending, None, true),
            // Nobody is asked: it stays until somebody does something.
            (Some(Current), Pending, None, true),
            (Some(Current), Invalid, None, true),
            (Some(Pending), Paused, None, true),
            (Some(Pending), Pending, asks, false),
            (Some(Current), Current, None, false),
        ] {
            let node = NodeSeen {
                annotations: said.map(|said| (format!("{PREFIX}phase"), said.to_string())).into_iter().collect(),
            };
            let told = Told {
                phase,
                reason: "now".into(),
                since: Timestamp::UNIX_EPOCH,
                revision: None,
                failed: None,
                wanted: wanted.map(str::to_owned),
                answered: None,
            };
            assert_eq!(told.is_event(&node), expected, "{said:?} {phase} {wanted:?}");
        }
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

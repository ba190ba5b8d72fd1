//! `pause:` set or unset in the text of a `policy.yaml`; every other character stays as it was written.
//!
//! Where the text is changed is a guess, by the places that the reader gives; that it is right is proven each time: the
//! new text must mean the old policy with the other `pause`.

use super::tree::{self, Node, Value};
use super::{Policy, PolicyError};
use crate::registries::document::Mark;

/// Why the text was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The policy is not valid, so that its change could not be checked. Nothing new is started under it anyway.
    #[error("the policy is not valid")]
    Invalid(Vec<PolicyError>),
    /// It is written in a way that is not understood well enough to be changed.
    #[error("cannot find the place for \"pause: {wanted}\" in it")]
    ByHand {
        /// What was to be written.
        wanted: bool,
    },
}

impl Policy {
    /// The text with `pause` so; the very text if it says so already.
    ///
    /// # Errors
    ///
    /// The policy is not valid, or it has to be changed by hand.
    pub fn with_pause(text: &str, pause: bool) -> Result<String, EditError> {
        let before = Self::parse(text).map_err(EditError::Invalid)?;
        if before.pause == pause {
            return Ok(text.to_owned());
        }
        let wanted = Self { pause, ..before };
        let root = tree::read(text).map_err(|_| EditError::ByHand { wanted: pause })?;
        let mut candidates = candidates(text, &root, pause).into_iter();
        candidates
            .find(|candidate| Self::parse(candidate).as_ref() == Ok(&wanted))
            .ok_or(EditError::ByHand { wanted: pause })
    }
}

/// The texts that may be meant, the one that looks best first.
fn candidates(text: &str, root: &Node, pause: bool) -> Vec<String> {
    let line_break = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let at_the_end = |line: &str| {
        let gap = if text.is_empty() || text.ends_with('\n') { "" } else { line_break };
        format!("{text}{gap}{line}{line_break}")
    };
    match &root.value {
        Value::Map(entries) => {
            if let Some((_, _, value)) = entries.iter().find(|(key, _, _)| key == "pause") {
                return offset(text, value.at).and_then(|at| replaced(text, at, pause)).into_iter().collect();
            }
            let Some((_, first, _)) = entries.first() else {
                // {}
                return offset(text, root.at)
                    .map(|at| inserted(text, at + 1, &format!("pause: {pause}")))
                    .into_iter()
                    .collect();
            };
            let indent = " ".repeat(usize::try_from(first.column).unwrap_or(1).saturating_sub(1));
            let line = format!("{indent}pause: {pause}");
            let Some(at) = offset(text, *first) else { return Vec::new() };
            vec![
                at_the_end(&line),
                // Behind the end of the document nothing counts.
                inserted(text, at, &format!("pause: {pause}{line_break}{indent}")),
                // { … }
                inserted(text, at, &format!("pause: {pause}, ")),
            ]
        }
        Value::Null => vec![at_the_end(&format!("pause: {pause}"))],
        Value::Bool(_) | Value::Integer(_) | Value::Float | Value::Text(_) | Value::List(_) => Vec::new(),
    }
}

fn inserted(text: &str, at: usize, what: &str) -> String {
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    format!("{before}{what}{after}")
}

/// The word at this place, if it is the one that stands there, replaced.
fn replaced(text: &str, at: usize, pause: bool) -> Option<String> {
    let (before, after) = text.split_at_checked(at)?;
    let length = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
    let (word, rest) = after.split_at_checked(length)?;
    let is_there = word.eq_ignore_ascii_case(if pause { "false" } else { "true" });
    is_there.then(|| format!("{before}{pause}{rest}"))
}

/// Where a mark is, in bytes.
fn offset(text: &str, at: Mark) -> Option<usize> {
    let mut start = 0;
    for _ in 1..at.line {
        start += text.get(start..)?.find('\n')? + 1;
    }
    let column = usize::try_from(at.column).ok()?.checked_sub(1)?;
    let rest = text.get(start..)?;
    let within = rest.char_indices().map(|(at, _)| at).chain([rest.len()]).nth(column)?;
    Some(start + within)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_word_is_changed_and_comments_stay() {
        let text = "# ours\nversion: 1\npause:   false   # till Monday, says Jo\norder: canary # calm\n";
        let paused = Policy::with_pause(text, true).unwrap();
        assert_eq!(paused, text.replace("  false ", "  true "));
        assert_eq!(Policy::with_pause(&paused, false).unwrap(), text, "and back");
        assert_eq!(Policy::with_pause(text, false).unwrap(), text, "said already");
    }

    #[test]
    fn a_key_that_is_not_there_is_written_where_it_reads_well() {
        for (text, wanted) in [
            ("", "pause: true\n"),
            ("# nothing yet\n", "# nothing yet\npause: true\n"),
            ("version: 1", "version: 1\npause: true\n"),
            ("version: 1\r\norder: canary\r\n", "version: 1\r\norder: canary\r\npause: true\r\n"),
            ("---\nversion: 1\n# the end\n", "---\nversion: 1\n# the end\npause: true\n"),
            ("version: 1\n...\n", "pause: true\nversion: 1\n...\n"),
            ("  version: 1\n  mode: report\n", "  version: 1\n  mode: report\n  pause: true\n"),
            ("{version: 1, mode: report} # short", "{pause: true, version: 1, mode: report} # short"),
            ("{}", "{pause: true}"),
            (
                "windows:\n- start: \"02:00\"\n  end: \"05:00\"\n  zone: Europe/Berlin\n",
                "windows:\n- start: \"02:00\"\n  end: \"05:00\"\n  zone: Europe/Berlin\npause: true\n",
            ),
        ] {
            assert_eq!(Policy::with_pause(text, true).as_deref(), Ok(wanted), "{text:?}");
            assert_eq!(Policy::with_pause(text, false).as_deref(), Ok(text), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_left_to_a_person() {
        assert_eq!(Policy::with_pause("~", true), Err(EditError::ByHand { wanted: true }));
        assert!(matches!(Policy::with_pause("pause: maybe\n", true), Err(EditError::Invalid(_))));
        assert!(matches!(Policy::with_pause("pause: false\npause: false\n", true), Err(EditError::Invalid(_))));
        assert!(matches!(Policy::with_pause("surprise: 1\n", true), Err(EditError::Invalid(_))));
    }

    fn lines() -> impl Strategy<Value = Vec<String>> {
        let keys = prop::sample::subsequence(
            vec![
                "version: 1",
                "mode: report",
                "pause: false",
                "pause: true",
                "maxUnavailable: \"10%\"",
                "preflight: {credential: warn}",
                "proof:\n  images:\n  - registry.example.com/a:1",
                "unit: >-\n  k3s",
                "unit: 'k3s # not a comment'",
                "secrets: []",
            ],
            0..6,
        )
        .prop_shuffle();
        let comments = prop::collection::vec("( {0,3}# ?[a-zéü:{}'\" ]{0,12})?", 12);
        (keys, comments).prop_map(|(keys, comments)| {
            let mut lines = Vec::new();
            for (key, comment) in keys.into_iter().zip(&comments) {
                lines.push(comment.clone());
                lines.push(key.to_owned());
            }
            lines.extend(comments.last().cloned());
            lines
        })
    }

    /// What is nearly, or is, a policy.
    const NEARLY: &str = concat!(
        "(# é\n)?(---\n)?(  )?(\\{)?(version: 1|unit: k3s|pause: false|pause: true|\"pause\": false|unit: >-\n k3s)?",
        "(\\})?(\n)?(\\.\\.\\.\n)?(# ü)?"
    );

    proptest! {
        /// Nothing of what a person wrote is lost: the lines of before, in their order, but for the word itself.
        #[test]
        fn no_line_is_lost_and_the_meaning_is_the_same_but_for_pause(lines in lines(), pause in any::<bool>()) {
            let text = lines.join("\n");
            prop_assume!(Policy::parse(&text).is_ok());
            let before = Policy::parse(&text).unwrap();
            if let Ok(after) = Policy::with_pause(&text, pause) {
                prop_assert_eq!(Policy::parse(&after), Ok(Policy { pause, ..before }));
                let mut new = after.lines();
                for line in text.lines().filter(|line| !line.starts_with("pause: ")) {
                    prop_assert!(new.any(|there| there == line), "{:?} is lost in\n{}", line, after);
                }
            } else {
                prop_assert!(false, "not understood:\n{}", text);
            }
        }

        #[test]
        fn any_text_is_changed_rightly_or_not_at_all(text in NEARLY, pause in any::<bool>()) {
            if let Ok(after) = Policy::with_pause(&text, pause) {
                prop_assert_eq!(Policy::parse(&after).map(|policy| policy.pause), Ok(pause));
            }
        }
    }
}

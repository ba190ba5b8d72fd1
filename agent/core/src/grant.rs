//! The words of a turn on a Node: `wanted=R/N` by the agent, `grant=R/N@E` by the coordinator (`design.md` 7).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Hex digits of an ask's number.
const NUMBER_DIGITS: usize = 8;
/// Hex digits of an epoch.
const EPOCH_DIGITS: usize = 16;

/// `R/N`: a node asks for one turn, for one revision. Compared for equality only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ask {
    /// R: the revision, or `restore`.
    pub revision: String,
    /// N: 8 random hex digits, new for each ask.
    pub number: String,
}

/// `R/N@E`: the turn that one holder of the Lease gave for one ask.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// The ask it answers.
    pub ask: Ask,
    /// The epoch of the Lease at which it was given: void as soon as the Lease has another.
    pub epoch: Epoch,
}

/// E: 16 random hex digits, drawn at every acquisition of the Lease. Compared for equality only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(String);

/// A text that is none of these; the value is not shown, since anybody may have written it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Not `R/N`.
    #[error("not of the form REVISION/NUMBER with a number of {NUMBER_DIGITS} hex digits")]
    Ask,
    /// Not `R/N@E`.
    #[error("not of the form REVISION/NUMBER@EPOCH with an epoch of {EPOCH_DIGITS} hex digits")]
    Grant,
    /// Not an epoch.
    #[error("not an epoch of {EPOCH_DIGITS} hex digits")]
    Epoch,
}

impl FromStr for Ask {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let (revision, number) = text.rsplit_once('/').ok_or(GrantError::Ask)?;
        let is_revision = !revision.is_empty() && revision.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_revision || !is_hex(number, NUMBER_DIGITS) {
            return Err(GrantError::Ask);
        }
        Ok(Self { revision: revision.to_owned(), number: number.to_owned() })
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { revision, number } = self;
        write!(f, "{revision}/{number}")
    }
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let (ask, epoch) = text.rsplit_once('@').ok_or(GrantError::Grant)?;
        match (ask.parse(), epoch.parse()) {
            (Ok(ask), Ok(epoch)) => Ok(Self { ask, epoch }),
            (Err(_), _) | (_, Err(_)) => Err(GrantError::Grant),
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ask, epoch } = self;
        write!(f, "{ask}@{epoch}")
    }
}

impl Epoch {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Epoch {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        is_hex(text, EPOCH_DIGITS).then(|| Self(text.to_owned())).ok_or(GrantError::Epoch)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Tells whether a text is the number of an ask, as `answered` holds it.
pub fn is_number(text: &str) -> bool {
    is_hex(text, NUMBER_DIGITS)
}

/// Lower case only: two spellings of one number would not be equal.
fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_reads_back_as_it_was_written() {
        for text in ["0123456789ab/00c0ffee@0123456789abcdef", "restore/00c0ffee@ffffffffffffffff"] {
            let grant: Grant = text.parse().unwrap();
            assert_eq!(grant.to_string(), text);
            assert_eq!(grant.ask.to_string(), text.split('@').next().unwrap());
        }
    }

    #[test]
    fn what_is_not_quite_a_grant_is_none() {
        for text in [
            "",
            "abc",
            "abc/00c0ffee",
            "abc/00c0ffee@",
            "abc/00c0ffe@0123456789abcdef",
            "abc/00C0FFEE@0123456789abcdef",
            "abc/00c0ffee@0123456789abcde",
            "abc/00c0ffee@0123456789abcdef ",
            "/00c0ffee@0123456789abcdef",
            "a b/00c0ffee@0123456789abcdef",
            "a/b/00c0ffee@0123456789abcdef",
        ] {
            assert_eq!(text.parse::<Grant>(), Err(GrantError::Grant), "{text:?}");
        }
        assert_eq!("abc".parse::<Ask>(), Err(GrantError::Ask));
        assert_eq!("0123".parse::<Epoch>(), Err(GrantError::Epoch));
    }
}

//! The words that YAML text is cut into.

use crate::registries::document::Mark;

use super::node::Style;
use super::source::number;

/// A position: all count characters from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) index: usize,
    pub(super) line: usize,
    pub(super) column: usize,
}

impl From<Place> for Mark {
    fn from(place: Place) -> Self {
        Self { line: number(place.line + 1), column: number(place.column + 1) }
    }
}

/// A word and where it stands. No `Debug`: it may be a password.
pub(super) struct Token {
    pub(super) word: Word,
    pub(super) start: Place,
}

/// What a [`Token`] is.
#[derive(PartialEq, Eq)]
pub(super) enum Word {
    StreamStart,
    StreamEnd,
    /// `%YAML 1.1`.
    Version {
        major: u32,
        minor: u32,
    },
    /// `%TAG !handle! prefix`.
    TagShorthand {
        handle: String,
        prefix: String,
    },
    /// `---`.
    DocumentStart,
    /// `...`.
    DocumentEnd,
    BlockSequenceStart,
    BlockMappingStart,
    /// The indentation of a block collection ends.
    BlockEnd,
    /// `[`.
    FlowSequenceStart,
    /// `]`.
    FlowSequenceEnd,
    /// `{`.
    FlowMappingStart,
    /// `}`.
    FlowMappingEnd,
    /// `-`.
    BlockEntry,
    /// `,`.
    FlowEntry,
    /// `?`, or found to be one when the `:` came.
    Key,
    /// `:`.
    Value,
    /// `*name`.
    Alias(String),
    /// `&name`.
    Anchor(String),
    /// `!handle!suffix`.
    Tag {
        handle: String,
        suffix: String,
    },
    Scalar {
        text: String,
        style: Style,
    },
}

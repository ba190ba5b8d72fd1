//! A YAML document as a tree.

use std::fmt;

use crate::registries::document::Mark;

/// A node's number in its [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub(super) usize);

/// One document. The nodes lie side by side and not in one another, so that deep nesting costs no stack.
#[derive(Debug, Default)]
pub struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) root: Option<NodeId>,
    pub(super) next_document: Option<Mark>,
}

impl Tree {
    /// The outermost node; `None` when there is no document at all.
    pub fn root(&self) -> Option<NodeId> {
        self.root
    }

    /// Where something begins behind the first document: it is not read, and may even be no YAML.
    pub fn next_document(&self) -> Option<Mark> {
        self.next_document
    }

    /// The node of this number, which the same tree gave out.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }
}

/// One value, key or item.
#[derive(Debug)]
pub struct Node {
    /// Where it starts: its anchor or tag, if it has one.
    pub at: Mark,
    /// What it is. An anchor is not kept: [`Content::Alias`] names the node itself.
    pub content: Content,
}

/// What a [`Node`] is.
#[derive(Debug)]
pub enum Content {
    /// A piece of text.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<NodeId>),
    /// Keys and values, in the order of the text, doubled ones too.
    Mapping(Vec<(NodeId, NodeId)>),
    /// Another node's content. It may lie within that very node.
    Alias(NodeId),
}

/// A piece of text. It may be a password: `Debug` does not show it.
pub struct Scalar {
    /// The text, unescaped and unfolded.
    pub text: String,
    /// The tag in its long form; empty if there is none.
    pub tag: String,
    /// Written plainly and without a tag (or with the tag `!`): it may be a number, a boolean, null or `<<`.
    pub is_plain: bool,
    /// How it is written.
    pub style: Style,
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text: _, tag: _, is_plain, style } = self;
        f.debug_struct("Scalar").field("is_plain", is_plain).field("style", style).finish_non_exhaustive()
    }
}

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes, or not at all.
    Plain,
    /// `'…'`.
    SingleQuoted,
    /// `"…"`.
    DoubleQuoted,
    /// `|`.
    Literal,
    /// `>`.
    Folded,
}

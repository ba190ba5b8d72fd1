//! Goes through our input for what k3s takes without a word, but not as it was meant.

use super::super::document::KeyPath;
use super::super::keys::Level;
use super::{InputError, InputErrorKind, MOST_ALIASES};
use crate::yaml::{self, Content, MERGE_TAG, NodeId, Resolved, Tree};

/// What stands at a place of the file.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    Fixed(Level),
    /// Hosts, and what stands below each.
    Hosts(Level),
    Rewrites,
    List,
    Value,
}

impl Shape {
    fn below(self, key: &str) -> Option<Self> {
        Some(match (self, key) {
            (Self::Fixed(Level::Top), "mirrors") => Self::Hosts(Level::Mirror),
            (Self::Fixed(Level::Top), "configs") => Self::Hosts(Level::Config),
            (Self::Fixed(Level::Top), "auths") => Self::Hosts(Level::Auth),
            (Self::Fixed(Level::Mirror), "endpoint") => Self::List,
            (Self::Fixed(Level::Mirror), "rewrite") => Self::Rewrites,
            (Self::Fixed(Level::Config), "auth") => Self::Fixed(Level::Auth),
            (Self::Fixed(Level::Config), "tls") => Self::Fixed(Level::Tls),
            (Self::Fixed(level), key) if level.keys().contains(&key) => Self::Value,
            (Self::Hosts(level), _) => Self::Fixed(level),
            (Self::Rewrites, _) => Self::Value,
            (Self::Fixed(_) | Self::List | Self::Value, _) => return None,
        })
    }
}

/// Goes through the text for what k3s takes without a word. What an alias names is looked at where it stands.
pub(super) struct Walk<'t> {
    tree: &'t Tree,
    pub(super) errors: Vec<InputError>,
    aliases: usize,
}

impl<'t> Walk<'t> {
    pub(super) fn new(tree: &'t Tree) -> Self {
        Self { tree, errors: Vec::new(), aliases: 0 }
    }

    pub(super) fn error(&mut self, id: NodeId, path: &KeyPath, kind: InputErrorKind) {
        self.errors.push(InputError { at: self.tree.node(id).at, path: path.clone(), kind });
    }

    pub(super) fn node(&mut self, id: NodeId, shape: Shape, path: &KeyPath, depth: usize) {
        // Deeper than any file: the decoder has given up on it too.
        if depth > 100 {
            return;
        }
        match &self.tree.node(id).content {
            Content::Scalar(scalar) if !scalar.tag.is_empty() => self.error(id, path, InputErrorKind::Tagged),
            Content::Scalar(_) => {}
            Content::Alias(_) => {
                self.aliases += 1;
                if self.aliases == MOST_ALIASES + 1 {
                    self.error(id, path, InputErrorKind::TooManyAliases);
                }
            }
            Content::Sequence(items) => {
                for (position, item) in items.iter().enumerate() {
                    let path = path.index(position);
                    if self.is_null(*item) {
                        self.error(*item, &path, InputErrorKind::EmptyItem);
                    }
                    self.node(*item, Shape::Value, &path, depth + 1);
                }
            }
            Content::Mapping(entries) => {
                for (position, (key, value)) in entries.iter().enumerate() {
                    self.entry((*key, *value), position == 0, shape, path, depth);
                }
            }
        }
    }

    fn entry(&mut self, (key, value): (NodeId, NodeId), is_first: bool, shape: Shape, path: &KeyPath, depth: usize) {
        let tree = self.tree;
        self.node(key, Shape::Value, path, depth + 1);
        let Content::Scalar(scalar) = &tree.node(key).content else {
            self.node(value, shape, path, depth + 1);
            return;
        };
        if scalar.text == "<<" && (scalar.is_plain || scalar.tag == MERGE_TAG) {
            if !is_first {
                self.error(key, &path.child("<<"), InputErrorKind::MergeBehindKeys);
            }
            let merged = match &tree.node(value).content {
                Content::Sequence(items) => items.clone(),
                Content::Scalar(_) | Content::Mapping(_) | Content::Alias(_) => vec![value],
            };
            for id in merged {
                self.node(id, shape, path, depth + 1);
            }
            return;
        }
        let path = path.child(scalar.text.clone());
        if self.is_null(key) {
            self.error(key, &path, InputErrorKind::EmptyKey);
        }
        if matches!(shape, Shape::Hosts(_)) && Level::Top.keys().contains(&scalar.text.as_str()) {
            self.error(key, &path, InputErrorKind::SectionAsHost);
        }
        if let Some(below) = shape.below(&scalar.text) {
            self.node(value, below, &path, depth + 1);
        }
    }

    fn is_null(&self, id: NodeId) -> bool {
        match &self.tree.node(id).content {
            Content::Scalar(scalar) => yaml::resolve(scalar) == Resolved::Null,
            Content::Sequence(_) | Content::Mapping(_) | Content::Alias(_) => false,
        }
    }
}

//! Reading YAML: the dialect of `gopkg.in/yaml.v2`, through which k3s reads `registries.yaml`, and what other parsers
//! share. Why no library does it is argued in `docs/adr/0001-reading-yaml.md`.

mod nearest;
mod node;
mod parser;
mod resolve;
mod scanner;
mod source;
mod token;

pub use nearest::nearest;
pub use node::{Content, Node, NodeId, Scalar, Style, Tree};
pub use parser::parse;
pub use resolve::{MERGE_TAG, Resolved, resolve};

use crate::registries::document::Mark;

/// The largest text that is parsed. A real file has a few KiB.
pub const LARGEST: usize = 1 << 20;

/// Why a text is no YAML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it was noticed.
    pub at: Mark,
    /// What is wrong. Fixed words: nothing of the text is in it.
    pub what: &'static str,
}

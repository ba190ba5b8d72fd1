//! Turns a YAML tree into the model as Go's `yaml.Unmarshal` fills the types of `rancher/wharfie`.
//!
//! Each Go type has its own way with doubled keys, null and merges; they are in `types`. What the whole does is here:
//! counting (yaml.v2 refuses excessive aliasing), merge keys, places and notes.

mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::document::{KeyPath, Mark, Note, NoteKind};
use super::model::Registries;
use crate::yaml::{Content, MERGE_TAG, NodeId, Resolved, Scalar, Tree, resolve};

/// How deep values may lie in one another. Only merges in merges get anywhere near.
const DEEPEST: usize = 100;
/// How many bytes keys and values may make, with each alias written out. Go shares such text, we copy it.
const MOST_TEXT: usize = 32 << 20;
/// How many notes are kept: a file with more was not written by a person.
const MOST_NOTES: usize = 1000;

/// Something that makes k3s reject the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) at: Mark,
    pub(super) path: KeyPath,
    /// Without any text of the file.
    pub(super) what: &'static str,
}

/// All that was found. With a problem the model is what could be read besides.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) registries: Registries,
    pub(super) marks: BTreeMap<KeyPath, Mark>,
    pub(super) notes: Vec<Note>,
    /// Each of them makes k3s reject the file; in the order of the text.
    pub(super) problems: Vec<Problem>,
    /// Why we may have read it otherwise than k3s would.
    pub(super) doubt: Option<&'static str>,
}

/// Decodes the first document of a text.
pub(super) fn decode(tree: &Tree) -> Decoded {
    let mut decoder = Decoder::new(tree);
    let mut root = types::Root::default();
    if let Some(id) = tree.root() {
        // Go counts the document as a step of its own.
        decoder.steps = 1;
        match decoder.unmarshal(id, &mut root, &KeyPath::default()) {
            Ok(_) => {}
            Err(Stop::Rejected(problem)) => decoder.found.problems.push(problem),
            Err(Stop::Doubt(why)) => decoder.found.doubt = Some(why),
        }
    }
    let mut found = decoder.found;
    found.registries = root.registries;
    if let Some(at) = tree.next_document() {
        found.notes.push(Note { kind: NoteKind::ExtraDocument, path: KeyPath::default(), at });
    }
    // `auths` is decoded only because k3s rejects a file over a wrong type in it.
    let unused = KeyPath::of(["auths"]);
    let is_below = |path: &KeyPath| path.keys().len() > 1 && path.keys().starts_with(unused.keys());
    found.marks.retain(|path, _| !path.keys().starts_with(unused.keys()));
    found.notes.retain(|note| !is_below(&note.path));
    found.notes.sort_by_key(|note| note.at);
    found.problems.sort_by_key(|problem| problem.at);
    found
}

/// Why decoding ends at once.
enum Stop {
    Rejected(Problem),
    Doubt(&'static str),
}

/// Whether the value was of the right type.
type Good = Result<bool, Stop>;

/// A Go type that a node can be decoded into. What a type does not take is a type error.
trait Target: Default {
    /// What must stand there, for the message.
    const MUST_BE: &'static str;

    fn scalar(&mut self, _: &mut Decoder<'_>, _: &Scalar, _: Resolved, _: Place<'_>) -> Good {
        Ok(false)
    }

    fn sequence(&mut self, _: &mut Decoder<'_>, _: &[NodeId], _: &KeyPath) -> Good {
        Ok(false)
    }

    fn mapping(&mut self, _: &mut Decoder<'_>, _: &[(NodeId, NodeId)], _: &KeyPath) -> Good {
        Ok(false)
    }
}

/// Where a scalar stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    at: Mark,
    path: &'a KeyPath,
}

struct Decoder<'t> {
    tree: &'t Tree,
    found: Decoded,
    /// Aliases that are being decoded.
    open: BTreeSet<NodeId>,
    depth: usize,
    /// Nodes decoded, and how many of them within aliases.
    steps: u64,
    alias_steps: u64,
    text: usize,
}

impl<'t> Decoder<'t> {
    fn new(tree: &'t Tree) -> Self {
        let (found, open) = (Decoded::default(), BTreeSet::new());
        Self { tree, found, open, depth: 0, steps: 0, alias_steps: 0, text: 0 }
    }

    fn unmarshal<T: Target>(&mut self, id: NodeId, out: &mut T, path: &KeyPath) -> Good {
        let tree = self.tree;
        let node = tree.node(id);
        let place = Place { at: node.at, path };
        self.steps += 1;
        self.alias_steps += u64::from(!self.open.is_empty());
        if is_excessive(self.steps, self.alias_steps) {
            return Err(rejected(place, "the document contains excessive aliasing"));
        }
        if self.depth == DEEPEST {
            return Err(Stop::Doubt("merges are nested too deep to be followed"));
        }
        self.depth += 1;
        let good = match &node.content {
            Content::Alias(target) => {
                if !self.open.insert(id) {
                    return Err(rejected(place, "an anchor's value contains itself"));
                }
                let good = self.unmarshal(*target, out, path);
                self.open.remove(&id);
                self.depth -= 1;
                return good;
            }
            Content::Scalar(scalar) => self.scalar(scalar, out, place)?,
            Content::Sequence(items) => out.sequence(self, items, path)?,
            Content::Mapping(entries) => out.mapping(self, entries, path)?,
        };
        self.depth -= 1;
        if !good {
            self.found.problems.push(Problem { at: node.at, path: path.clone(), what: T::MUST_BE });
        }
        Ok(good)
    }

    fn scalar<T: Target>(&mut self, scalar: &Scalar, out: &mut T, place: Place<'_>) -> Good {
        match resolve(scalar) {
            Resolved::Null => {
                *out = T::default();
                self.forget_below(place.path);
                Ok(true)
            }
            Resolved::Contradiction => Err(rejected(place, "the tag does not fit the value")),
            resolved => out.scalar(self, scalar, resolved, place),
        }
    }

    /// `<<`: the keys of another map, or of several, as if they stood here. Later ones win over earlier ones, so that
    /// one behind a key of its own overwrites it, whatever YAML says.
    fn merge<T: Target>(&mut self, id: NodeId, out: &mut T, path: &KeyPath) -> Result<(), Stop> {
        let tree = self.tree;
        let at = tree.node(id).at;
        let ids = match &tree.node(id).content {
            Content::Sequence(items) => items.clone(),
            Content::Scalar(_) | Content::Mapping(_) | Content::Alias(_) => vec![id],
        };
        // The first of a list has precedence, so it is last.
        for id in ids.into_iter().rev() {
            let content = match &tree.node(id).content {
                Content::Alias(target) => &tree.node(*target).content,
                content => content,
            };
            if !matches!(content, Content::Mapping(_)) {
                return Err(rejected(Place { at, path }, "'<<' needs a map or a list of maps"));
            }
            self.unmarshal(id, out, path)?;
        }
        Ok(())
    }

    fn is_merge(&self, id: NodeId) -> bool {
        match &self.tree.node(id).content {
            Content::Scalar(scalar) => scalar.text == "<<" && (scalar.is_plain || scalar.tag == MERGE_TAG),
            Content::Sequence(_) | Content::Mapping(_) | Content::Alias(_) => false,
        }
    }

    /// Decodes a key; `None` if it is no text.
    fn key(&mut self, id: NodeId, path: &KeyPath) -> Result<Option<(String, KeyPath)>, Stop> {
        let mut key = types::Key::default();
        if !self.unmarshal(id, &mut key, path)? {
            return Ok(None);
        }
        self.count_text(path.keys().iter().map(String::len).sum::<usize>() + key.0.len())?;
        let child = path.child(key.0.clone());
        Ok(Some((key.0, child)))
    }

    fn count_text(&mut self, bytes: usize) -> Result<(), Stop> {
        self.text = self.text.saturating_add(bytes);
        if self.text > MOST_TEXT {
            return Err(Stop::Doubt("the file is too large with its aliases written out"));
        }
        Ok(())
    }

    fn mark(&mut self, path: &KeyPath, id: NodeId) {
        self.found.marks.insert(path.clone(), self.tree.node(id).at);
    }

    /// What stood there is replaced.
    fn forget_below(&mut self, path: &KeyPath) {
        let behind = self.found.marks.range((Bound::Excluded(path), Bound::Unbounded));
        let below = behind.map(|(path, _)| path).take_while(|other| other.keys().starts_with(path.keys()));
        for path in below.cloned().collect::<Vec<_>>() {
            self.found.marks.remove(&path);
        }
    }

    fn note(&mut self, kind: NoteKind, path: &KeyPath, at: Mark) {
        let note = Note { kind, path: path.clone(), at };
        if self.found.notes.len() < MOST_NOTES && !self.found.notes.contains(&note) {
            self.found.notes.push(note);
        }
    }
}

fn rejected(place: Place<'_>, what: &'static str) -> Stop {
    Stop::Rejected(Problem { at: place.at, path: place.path.clone(), what })
}

/// yaml.v2's measure: small files may consist of aliases almost wholly, large ones to a tenth.
fn is_excessive(steps: u64, alias_steps: u64) -> bool {
    const LOW: u64 = 400_000;
    const HIGH: u64 = 4_000_000;
    let allowed = match steps {
        ..=LOW => 0.99,
        HIGH.. => 0.10,
        _ => 0.99 - 0.89 * ((steps - LOW) as f64 / (HIGH - LOW) as f64),
    };
    alias_steps > 100 && steps > 1000 && alias_steps as f64 / steps as f64 > allowed
}

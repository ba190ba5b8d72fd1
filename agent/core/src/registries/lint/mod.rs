//! What can be seen to be wrong with a `registries.yaml` without a network: each mistake by its rule, with what happens
//! and what to write instead. `docs/lint.md` lists the rules.

use std::collections::BTreeMap;

use super::document::Document;
use super::document::KeyPath;
use super::document::Mark;
use super::finding::Finding;
use crate::runtime::settings::Settings;

mod credentials;
mod endpoints;
mod keys;
mod limits;
mod mirrors;
mod names;
mod overlap;
mod placeholder;
mod placement;
mod rejected;
mod rewrites;
pub mod rules;
mod structure;
mod tls;
mod view;
mod wildcard;

pub use rejected::lint_rejected;
pub(crate) use rejected::remedy;

use rules::Rule;
use view::View;

/// What else decides how a file works, beside its text.
#[derive(Clone, Debug)]
pub struct Context {
    /// How k3s is started.
    pub settings: Settings,
    /// Where the file comes from.
    pub source: Source,
    /// What is known about the TLS files it names.
    pub files: FileFacts,
}

/// Where a file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Ours to write: whoever wrote it wants it on every node.
    OurInput,
    /// Found on a node: it may be a template's output, or an example, and k3s may live with it.
    OnDisk,
}

/// Absolute path to what is known about the file. A path that is not there is [`FileFact::Unknown`].
pub type FileFacts = BTreeMap<String, FileFact>;

/// What is known about a TLS file on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFact {
    /// There is no such file.
    Missing,
    /// It is there and cannot be read as a file.
    Unreadable,
    /// It holds no PEM block.
    NotPem,
    /// It holds a certificate.
    Certificate,
    /// It holds a private key and no certificate.
    Key,
    /// Nobody looked.
    Unknown,
}

/// Judges a file that k3s can read. The findings stand in the order of the text, then of the rules' ids.
pub fn lint(document: &Document, context: &Context) -> Vec<Finding> {
    let view = View::of(document, context);
    let mut out = Findings { document, list: Vec::new() };
    structure::check(&view, &mut out);
    limits::check(&view, &mut out);
    keys::check(&view, &mut out);
    mirrors::check(&view, &mut out);
    endpoints::check(&view, &mut out);
    names::check(&view, &mut out);
    placement::check(&view, &mut out);
    credentials::check(&view, &mut out);
    tls::check(&view, &mut out);
    rewrites::check(&view, &mut out);
    wildcard::check(&view, &mut out);
    out.sorted()
}

/// What was found so far.
struct Findings<'a> {
    document: &'a Document,
    list: Vec<Finding>,
}

impl Findings<'_> {
    fn add(&mut self, rule: Rule, path: KeyPath, message: impl Into<String>) {
        let at = self.document.mark(&path);
        self.push(rule, path, at, message.into());
    }

    /// For what the model does not hold.
    fn add_at(&mut self, rule: Rule, path: KeyPath, at: Mark, message: impl Into<String>) {
        self.push(rule, path, Some(at), message.into());
    }

    fn sorted(self) -> Vec<Finding> {
        let Self { document: _, mut list } = self;
        list.sort_by(|a, b| (a.at, a.rule, &a.path, &a.message).cmp(&(b.at, b.rule, &b.path, &b.message)));
        list
    }

    fn push(&mut self, rule: Rule, path: KeyPath, at: Option<Mark>, message: String) {
        self.list.push(Finding { rule: rule.id, severity: rule.severity, path, at, message });
    }
}

#[cfg(test)]
pub(crate) mod tests;

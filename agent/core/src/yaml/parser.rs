//! Makes a tree of tokens, by the grammar that libyaml in gopkg.in/yaml.v2 follows.

mod flow;
mod grammar;

use std::collections::HashMap;

use crate::registries::document::Mark;

use super::Fault;
use super::node::{Content, Node, NodeId, Scalar, Style, Tree};
use super::scanner::Scanner;
use super::source::Source;
use super::token::{Place, Token, Word};
use grammar::{Event, Grammar, What};

/// Reads the first document; what follows it is not read, just as k3s does not. The caller refuses what is larger than
/// [`LARGEST`](super::LARGEST).
pub fn parse(bytes: &[u8]) -> Result<Tree, Fault> {
    let mut grammar = Grammar::new(Scanner::new(Source::new(bytes)));
    let mut builder = Builder::default();
    if grammar.start()? {
        loop {
            let event = grammar.next()?;
            if let What::DocumentEnd = event.what {
                break;
            }
            builder.add(event)?;
        }
        builder.tree.next_document = grammar.next_document();
    }
    Ok(builder.tree)
}

/// Collects events into nodes. A stack of its own instead of recursion: text may nest 10,000 deep.
#[derive(Default)]
struct Builder {
    tree: Tree,
    open: Vec<Open>,
    anchors: HashMap<String, NodeId>,
}

struct Open {
    id: NodeId,
    /// A key that waits for its value.
    key: Option<NodeId>,
}

impl Builder {
    fn add(&mut self, event: Event) -> Result<(), Fault> {
        let at = Mark::from(event.start);
        let (content, is_open) = match event.what {
            What::Scalar(scalar) => (Content::Scalar(scalar), false),
            What::SequenceStart => (Content::Sequence(Vec::new()), true),
            What::MappingStart => (Content::Mapping(Vec::new()), true),
            What::Alias(name) => match self.anchors.get(&name) {
                Some(id) => (Content::Alias(*id), false),
                // Not even the name is shown: an unquoted password may start with an asterisk.
                None => return Err(Fault { at, what: "an alias ('*') without an anchor ('&') before it" }),
            },
            What::CollectionEnd => {
                self.open.pop();
                return Ok(());
            }
            What::DocumentEnd => return Ok(()),
        };
        let id = NodeId(self.tree.nodes.len());
        self.tree.nodes.push(Node { at, content });
        if let Some(anchor) = event.anchor {
            self.anchors.insert(anchor, id);
        }
        self.attach(id);
        if is_open {
            self.open.push(Open { id, key: None });
        }
        Ok(())
    }

    fn attach(&mut self, id: NodeId) {
        let Some(open) = self.open.last_mut() else {
            self.tree.root = Some(id);
            return;
        };
        match &mut self.tree.nodes[open.id.0].content {
            Content::Sequence(items) => items.push(id),
            Content::Mapping(entries) => match open.key.take() {
                None => open.key = Some(id),
                Some(key) => entries.push((key, id)),
            },
            Content::Scalar(_) | Content::Alias(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree as one line.
    fn show(text: &str) -> Result<String, (u32, u32)> {
        fn node(tree: &Tree, id: NodeId) -> String {
            match &tree.node(id).content {
                Content::Scalar(scalar) => format!("{}{:?}", scalar.tag, scalar.text),
                Content::Sequence(items) => {
                    format!("[{}]", items.iter().map(|id| node(tree, *id)).collect::<Vec<_>>().join(", "))
                }
                Content::Mapping(entries) => {
                    let entries = entries.iter().map(|(k, v)| format!("{}: {}", node(tree, *k), node(tree, *v)));
                    format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
                }
                Content::Alias(id) => format!("*{}", id.0),
            }
        }
        let tree = parse(text.as_bytes()).map_err(|fault| (fault.at.line, fault.at.column))?;
        Ok(tree.root().map_or_else(String::new, |root| node(&tree, root)))
    }

    #[test]
    fn block_and_flow_say_the_same() {
        for text in [
            "a:\n  - x\n  - y: z\n",
            "a:\n- x\n- y: z",
            "{a: [x, y: z]}",
            "? a\n: - x\n  - ? y\n    : z\n",
            "a: [x, {y: z}]",
        ] {
            assert_eq!(show(text).as_deref(), Ok(r#"{"a": ["x", {"y": "z"}]}"#), "{text}");
        }
    }

    #[test]
    fn scalars_are_unescaped_and_folded() {
        for (text, read) in [
            ("a\n b\n\n c", r#""a b\nc""#),
            ("'it''s\n  a'", r#""it's a""#),
            (r#""\x41\u00e9\U0001f600\n\ \'\"""#, r#""Aé😀\n '\"""#),
            ("\"a\\\n   b\"", r#""ab""#),
            ("|\n  a\n   b\n", r#""a\n b\n""#),
            ("|\n  a", r#""a""#),
            ("|-\n  a\n\n", r#""a""#),
            ("|+\n  a\n\n", r#""a\n\n""#),
            (">\n  a\n  b\n\n  c\n", r#""a b\nc\n""#),
            ("|2\n   a\n", r#"" a\n""#),
            ("!!str", r#"tag:yaml.org,2002:str"""#),
            ("!<x> a", r#"x"a""#),
            ("%TAG !e! tag:e,\n--- !e!%C3%A9 a", r#"tag:e,é"a""#),
        ] {
            assert_eq!(show(text).as_deref(), Ok(read), "{text}");
        }
    }

    #[test]
    fn a_fault_is_found_in_its_place() {
        for (text, place) in [
            ("a:\n\tb: c", (2, 1)),
            ("a: b: c", (1, 5)),
            ("a: \"b", (1, 4)),
            ("a: \"\\/\"", (1, 5)),
            ("a: *x", (1, 4)),
            ("%YAML 1.2\n---\n", (1, 1)),
            ("[a, b", (2, 1)),
            ("*: a", (1, 2)),
            ("a\nb: c", (2, 2)),
            ("\"\\", (1, 2)),
        ] {
            assert_eq!(show(text), Err(place), "{text}");
        }
    }

    #[test]
    fn an_alias_names_the_latest_anchor_of_its_name() {
        assert_eq!(show("[&a x, *a, &a y, *a]").as_deref(), Ok(r#"["x", *1, "y", *3]"#));
        assert_eq!(show("&a [*a]").as_deref(), Ok("[*0]"));
    }

    #[test]
    fn only_the_first_document_is_read() {
        let tree = parse(b"a\n---\n\"broken").expect("the first document is fine");
        assert_eq!(tree.next_document(), Some(Mark { line: 2, column: 1 }));
        for text in ["a", "a\n", "---\na\n...\n", "a\n# end\n"] {
            assert_eq!(parse(text.as_bytes()).expect("fine").next_document(), None, "{text}");
        }
        assert!(parse(b"").expect("nothing").root().is_none());
    }

    #[test]
    fn nesting_costs_no_stack_and_ends_where_yaml_v2_ends_it() {
        for open in ["[", "{", "- ", "? "] {
            let too_deep =
                |times| parse(open.repeat(times).as_bytes()).is_err_and(|fault| fault.what.contains("depth"));
            assert!(!too_deep(9_999), "{open}");
            assert!(too_deep(10_002), "{open}");
        }
        let closed = format!("{}{}", "[".repeat(9_999), "]".repeat(9_999));
        assert!(parse(closed.as_bytes()).is_ok());
    }
}

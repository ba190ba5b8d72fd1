//! Reads a `registries.yaml` exactly as k3s does: `rancher/wharfie` v0.7.1 with `gopkg.in/yaml.v2` v2.4.0, not strict.

use super::decode::{Decoded, decode};
use super::document::{Document, KeyPath, Mark, Note};
use crate::yaml;

/// What k3s makes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnDisk {
    /// k3s reads it.
    Read(Document),
    /// k3s cannot read it and does not start.
    Rejected(Rejection),
    /// Not known, and why (no text of the file is in it). Treat the file as unknown: keep it, and restart.
    CannotTell(String),
}

/// Why k3s rejects a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Where, if it has a place.
    pub at: Option<Mark>,
    /// What is wrong. Keys may be named, values never.
    pub what: String,
    /// What was passed over where the file could be read.
    pub notes: Vec<Note>,
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.at {
            Some(at) => write!(f, "{at}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// Reads a file's bytes.
pub fn read(bytes: &[u8]) -> OnDisk {
    if bytes.len() > yaml::LARGEST {
        return OnDisk::CannotTell("the file is larger than 1 MiB".to_owned());
    }
    let tree = match yaml::parse(bytes) {
        Ok(tree) => tree,
        Err(fault) => {
            return OnDisk::Rejected(Rejection { at: Some(fault.at), what: fault.what.to_owned(), notes: Vec::new() });
        }
    };
    let Decoded { registries, marks, notes, problems, doubt } = decode(&tree);
    if let Some(problem) = problems.first() {
        let what = if problem.path == KeyPath::default() {
            problem.what.to_owned()
        } else {
            format!("{}: {}", problem.path, problem.what)
        };
        return OnDisk::Rejected(Rejection { at: Some(problem.at), what, notes });
    }
    match doubt {
        Some(why) => OnDisk::CannotTell(why.to_owned()),
        None => OnDisk::Read(Document { registries, marks, notes }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::document::NoteKind;
    use super::*;

    fn document(text: &str) -> Document {
        match read(text.as_bytes()) {
            OnDisk::Read(document) => document,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn rejection(text: &str) -> String {
        match read(text.as_bytes()) {
            OnDisk::Rejected(Rejection { at: Some(at), what, notes: _ }) => format!("{at}: {what}"),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn doubled_keys_merge_by_their_go_types() {
        let mirrors =
            document("mirrors: {a: {endpoint: [x]}, a: {rewrite: {r: s}}, b: }\nmirrors: {c: }\n").registries.mirrors;
        assert_eq!(mirrors.keys().collect::<Vec<_>>(), ["a", "b", "c"], "maps are merged");
        assert!(mirrors["a"].endpoints.is_empty(), "a host is replaced wholly");
        let configs = document("configs: {a: {auth: {username: u}, auth: {password: p}}}").registries.configs;
        let auth = configs["a"].auth.as_ref().expect("there is one");
        assert_eq!((auth.username.expose().as_str(), auth.password.expose().as_str()), ("u", "p"), "fields are merged");
    }

    #[test]
    fn an_empty_auth_is_there_and_a_null_one_is_not() {
        let configs = document("configs: {a: {auth: {}, tls: }, b: }").registries.configs;
        assert!(configs["a"].auth.is_some() && configs["a"].tls.is_none());
        assert!(configs.contains_key("b"));
    }

    #[test]
    fn what_k3s_passes_over_is_noted_in_the_order_of_the_text() {
        let text = "mirrors:\n  a:\n    endpoints: [x]\n    endpoint: [x]\n    endpoint: [y]\nconfigs: {a: {tls: {insecure_skip_verify: yes}}}\nauths: {a: {x: y}}\n---\n";
        let notes: Vec<_> =
            document(text).notes.into_iter().map(|note| (note.kind, note.path.to_string(), note.at.line)).collect();
        assert_eq!(
            notes,
            [
                (NoteKind::UnknownKey { nearest: Some("endpoint") }, "mirrors.a.endpoints".to_owned(), 3),
                (NoteKind::DoubledKey, "mirrors.a.endpoint".to_owned(), 5),
                (NoteKind::OldBoolean, "configs.a.tls.insecure_skip_verify".to_owned(), 6),
                (NoteKind::UnusedAuths, "auths".to_owned(), 7),
                (NoteKind::ExtraDocument, "(top level)".to_owned(), 8),
            ]
        );
    }

    #[test]
    fn each_key_and_item_of_the_model_has_a_place_and_no_other() {
        let text = "mirrors:\n  a:\n    endpoint: [x, y, z]\n  a:\n    endpoint:\n    - \"é\"\n    rewrite: {p: q}\nauths: {b: }\nconfigs:\n  a: {auth: {username: u}}\n";
        let marks: Vec<_> =
            document(text).marks.into_iter().map(|(path, at)| format!("{path} {}:{}", at.line, at.column)).collect();
        assert_eq!(
            marks,
            [
                "configs 9:1",
                "configs.a 10:3",
                "configs.a.auth 10:7",
                "configs.a.auth.username 10:14",
                "mirrors 1:1",
                "mirrors.a 4:3",
                "mirrors.a.endpoint 5:5",
                "mirrors.a.endpoint[0] 6:7",
                "mirrors.a.rewrite 7:5",
                "mirrors.a.rewrite.p 7:15",
            ]
        );
    }

    #[test]
    fn a_rejection_names_place_and_key() {
        for (text, rejected) in [
            (
                "mirrors: {a: {endpoint: x}}",
                "line 1, column 25: mirrors.a.endpoint: must be a list: write each value on a line of its own behind '- '",
            ),
            ("- a", "line 1, column 1: must be a map: 'KEY: VALUE', one on each line, indented"),
            ("mirrors: *x", "line 1, column 10: an alias ('*') without an anchor ('&') before it"),
            ("mirrors: {a: &x {<<: *x}}", "line 1, column 22: mirrors.a: an anchor's value contains itself"),
            ("mirrors:\n\ta: {}", "line 2, column 1: a tab where the indentation must be spaces"),
        ] {
            assert_eq!(rejection(text), rejected);
        }
    }

    #[test]
    fn doubt_is_said_and_not_guessed() {
        for text in [
            "mirrors: {a: {endpoint: [!!binary /w==]}}".to_owned(),
            "mirrors: {a: {endpoint: [!!timestamp 2001-01-01]}}".to_owned(),
            format!("mirrors: {}{}", "{<<: ".repeat(200), "}".repeat(200)),
            format!(
                "x: &x {}\nmirrors:\n{}",
                "y".repeat(500_000),
                "  ? *x\n  : {endpoint: [*x, *x, *x]}\n".repeat(100)
            ),
            "#".repeat(yaml::LARGEST + 1),
        ] {
            assert!(matches!(read(text.as_bytes()), OnDisk::CannotTell(_)), "{:.60}", text);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}

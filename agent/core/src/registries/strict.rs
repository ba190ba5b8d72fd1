//! Reads the `registries.yaml` that an operator gives us: whatever k3s would ignore, or read otherwise than it was
//! meant, is an error.

mod walk;

use std::fmt;

use thiserror::Error;

use super::decode::{Decoded, Problem, decode};
use super::document::{Document, KeyPath, Mark, Note, NoteKind};
use super::keys::Level;
use super::lint::remedy as reading_remedy;
use super::model::Registries;
use crate::yaml;
use walk::{Shape, Walk};

/// How often `*name` may stand in the file. An operator's file has a handful.
const MOST_ALIASES: usize = 100;

/// One mistake in our input, with its place. Shows keys and never values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputError {
    /// Where.
    pub at: Mark,
    /// The key; the top level if the text is no YAML.
    pub path: KeyPath,
    /// What is wrong.
    pub kind: InputErrorKind,
}

/// `line 4, column 5: mirrors."docker.io".endpoints: unknown key; did you mean "endpoint"?`
impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, path, kind } = self;
        if path.keys().is_empty() { write!(f, "{at}: {kind}") } else { write!(f, "{at}: {path}: {kind}") }
    }
}

impl std::error::Error for InputError {}

/// What is wrong with our input, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InputErrorKind {
    /// Larger than any real file.
    #[error("the text is larger than 1 MiB")]
    TooLarge,
    /// k3s cannot parse it.
    #[error("{what}{remedy}", what = .0, remedy = reading_remedy(.0))]
    NotYaml(&'static str),
    /// k3s rejects the file over it.
    #[error("{0}")]
    WrongType(&'static str),
    /// k3s would ignore it in silence.
    #[error("unknown key{}", remedy(*.nearest, *.belongs))]
    UnknownKey {
        /// The key that was probably meant.
        nearest: Option<&'static str>,
        /// Where it would be a key.
        belongs: Option<&'static str>,
    },
    /// k3s would take the later, or merge both, depending on the type.
    #[error("the key stands twice; keep one")]
    DoubledKey,
    /// k3s would not read it.
    #[error("a second document, which k3s does not read; put all into one and remove the '---'")]
    ExtraDocument,
    /// k3s would read it and use it for nothing.
    #[error("k3s uses 'auths' for nothing; write configs.HOST.auth")]
    UnusedAuths,
    /// YAML 1.2 readers take it for text.
    #[error("write {0} instead of a word that only YAML 1.1 takes for it")]
    OldBoolean(bool),
    /// A section stands where k3s expects hosts.
    #[error("k3s takes it for the name of a host; it belongs at the top level")]
    SectionAsHost,
    /// k3s reads it as an empty text.
    #[error("nothing stands here; write a value or remove the line")]
    EmptyItem,
    /// k3s reads it as an empty name.
    #[error("the key is empty; write a name")]
    EmptyKey,
    /// A tag can only change what a value means.
    #[error("a tag ('!'); remove it and write the value plainly")]
    Tagged,
    /// k3s lets a merge overwrite the keys before it, against the rules of YAML.
    #[error("in k3s '<<' overwrites the keys above it; put it first")]
    MergeBehindKeys,
    /// More than a person writes.
    #[error("more than {MOST_ALIASES} aliases ('*'); write the values out")]
    TooManyAliases,
    /// Not understood well enough to promise anything.
    #[error("{0}")]
    Doubtful(&'static str),
}

fn remedy(nearest: Option<&str>, belongs: Option<&str>) -> String {
    match (nearest, belongs) {
        (_, Some(place)) => format!("; it belongs {place}"),
        (Some(key), None) => format!("; did you mean {key:?}?"),
        (None, None) => "; k3s would ignore it, remove it".to_owned(),
    }
}

/// Reads our input. All mistakes that can be told are told at once, in the order of the text.
pub fn parse(text: &str) -> Result<Document, Vec<InputError>> {
    let nowhere = |at, kind| vec![InputError { at, path: KeyPath::default(), kind }];
    if text.len() > yaml::LARGEST {
        return Err(nowhere(Mark { line: 1, column: 1 }, InputErrorKind::TooLarge));
    }
    let tree = yaml::parse(text.as_bytes()).map_err(|fault| nowhere(fault.at, InputErrorKind::NotYaml(fault.what)))?;
    let Decoded { registries, marks, notes, problems, doubt } = decode(&tree);
    let mut walk = Walk::new(&tree);
    if let Some(root) = tree.root() {
        walk.node(root, Shape::Fixed(Level::Top), &KeyPath::default(), 0);
        if let Some(why) = doubt {
            walk.error(root, &KeyPath::default(), InputErrorKind::Doubtful(why));
        }
    }
    let mut errors = walk.errors;
    errors.extend(notes.into_iter().map(|note| of_note(note, &registries)));
    errors.extend(problems.into_iter().map(of_problem));
    if errors.is_empty() {
        return Ok(Document { registries, marks, notes: Vec::new() });
    }
    errors.sort_by(|a, b| (a.at, &a.path).cmp(&(b.at, &b.path)));
    errors.dedup();
    Err(errors)
}

fn of_problem(Problem { at, path, what }: Problem) -> InputError {
    InputError { at, path, kind: InputErrorKind::WrongType(what) }
}

fn of_note(note: Note, registries: &Registries) -> InputError {
    let Note { kind, path, at } = note;
    let kind = match kind {
        NoteKind::UnknownKey { nearest } => {
            let belongs = match path.keys() {
                [host] if host == "*" || host.contains(['.', ':']) => Some("under mirrors or configs, indented"),
                [.., key] => Level::place_of(key),
                [] => None,
            };
            InputErrorKind::UnknownKey { nearest, belongs }
        }
        NoteKind::DoubledKey => InputErrorKind::DoubledKey,
        NoteKind::ExtraDocument => InputErrorKind::ExtraDocument,
        NoteKind::UnusedAuths => InputErrorKind::UnusedAuths,
        NoteKind::OldBoolean => {
            let host = path.keys().get(1).and_then(|host| registries.configs.get(host));
            let tls = host.and_then(|config| config.tls.as_ref());
            InputErrorKind::OldBoolean(tls.is_some_and(|tls| tls.insecure_skip_verify))
        }
    };
    InputError { at, path, kind }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::on_disk::{self, OnDisk};
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        parse(text).err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_right_file_is_read() {
        let document =
            parse("mirrors:\n  docker.io:\n    endpoint:\n      - https://m.example\n").expect("it is right");
        assert_eq!(document.registries.mirrors["docker.io"].endpoints, ["https://m.example"]);
        assert_eq!(document.notes, []);
        let path = KeyPath::of(["mirrors", "docker.io", "endpoint", "[0]"]);
        assert_eq!(document.mark(&path), Some(Mark { line: 4, column: 9 }));
    }

    #[test]
    fn an_empty_text_is_an_empty_file() {
        for text in ["", "\n", "# nothing yet\n", "---\n", "{}"] {
            assert_eq!(parse(text).map(|document| document.registries), Ok(Registries::default()), "{text:?}");
        }
    }

    #[test]
    fn each_mistake_has_its_remedy() {
        for (text, error) in [
            (
                "mirrors:\n  docker.io:\n    # why\n    endpoints: [x]\n",
                r#"line 4, column 5: mirrors."docker.io".endpoints: unknown key; did you mean "endpoint"?"#,
            ),
            ("mirrros: {}", r#"line 1, column 1: mirrros: unknown key; did you mean "mirrors"?"#),
            (
                "mirrors:\ndocker.io:\n  endpoint: [x]\n",
                r#"line 2, column 1: "docker.io": unknown key; it belongs under mirrors or configs, indented"#,
            ),
            ("x-tls: {}", r#"line 1, column 1: "x-tls": unknown key; k3s would ignore it, remove it"#),
            (
                "configs: {a: {auth: {token: x}}}",
                r#"line 1, column 22: configs.a.auth.token: unknown key; did you mean "identity_token"?"#,
            ),
            (
                "configs: {a: {auth: {password:hunter2}}}",
                r#"line 1, column 22: configs.a.auth."password…": unknown key; did you mean "password"?"#,
            ),
            (
                "configs: {a: {tls: {caFile: x}}}",
                r#"line 1, column 21: configs.a.tls.caFile: unknown key; did you mean "ca_file"?"#,
            ),
            (
                "configs: {a: {endpoint: [x]}}",
                "line 1, column 15: configs.a.endpoint: unknown key; it belongs under mirrors.HOST",
            ),
            (
                "configs: {a: {insecure_skip_verify: true}}",
                "line 1, column 15: configs.a.insecure_skip_verify: unknown key; it belongs under configs.HOST.tls",
            ),
            (
                "mirrors: {configs: {}}",
                "line 1, column 11: mirrors.configs: k3s takes it for the name of a host; it belongs at the top level",
            ),
            ("mirrors: {}\nmirrors: {}", "line 2, column 1: mirrors: the key stands twice; keep one"),
            ("mirrors: {a: , a: }", "line 1, column 16: mirrors.a: the key stands twice; keep one"),
            (
                "mirrors: {}\n---\n",
                "line 2, column 1: a second document, which k3s does not read; put all into one and remove the '---'",
            ),
            ("auths: {a: {}}", "line 1, column 1: auths: k3s uses 'auths' for nothing; write configs.HOST.auth"),
            (
                "mirrors: {a: {endpoint: x}}",
                "line 1, column 25: mirrors.a.endpoint: must be a list: write each value on a line of its own behind '- '",
            ),
            ("mirrors: [a]", "line 1, column 10: mirrors: must be a map: 'KEY: VALUE', one on each line, indented"),
            (
                "configs: {a: {tls: {insecure_skip_verify: \"true\"}}}",
                "line 1, column 43: configs.a.tls.insecure_skip_verify: must be true or false, without quotes",
            ),
            (
                "configs: {a: {tls: {insecure_skip_verify: yes}}}",
                "line 1, column 43: configs.a.tls.insecure_skip_verify: write true instead of a word that only YAML 1.1 takes for it",
            ),
            (
                "mirrors:\n\ta: {}",
                "line 2, column 1: a tab where the indentation must be spaces; replace each tab by two spaces",
            ),
            ("mirrors: [", "line 2, column 1: did not find expected node content; correct the line, or the one above"),
            (
                "mirrors:\n  *:\n",
                "line 2, column 4: an alias or anchor needs a name of letters and digits: put text that starts with '*' or '&' in quotes; write the wildcard as `\"*\"`, in quotes",
            ),
            (
                "mirrors: {a: {endpoint: [~]}}",
                "line 1, column 26: mirrors.a.endpoint[0]: nothing stands here; write a value or remove the line",
            ),
            ("mirrors: {~: {}}", r#"line 1, column 11: mirrors."~": the key is empty; write a name"#),
            (
                "mirrors: {a: {endpoint: [!!str x]}}",
                "line 1, column 26: mirrors.a.endpoint[0]: a tag ('!'); remove it and write the value plainly",
            ),
            (
                "mirrors: {a: &a {endpoint: [x]}, b: {endpoint: [y], <<: *a}}",
                r#"line 1, column 53: mirrors.b."<<": in k3s '<<' overwrites the keys above it; put it first"#,
            ),
            ("%YAML 1.2\n---\n", "line 1, column 1: k3s reads YAML 1.1 only: leave the %YAML line out"),
        ] {
            assert_eq!(errors(text), [error], "{text}");
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once_and_in_order() {
        let text = "mirrors:\n  a: {endpoints: [x]}\n  b: {endpoint: x}\nconfigs:\n  c: {tls: {ca: x, insecure_skip_verify: on}}\nconfig: {}\n";
        let lines: Vec<u32> = parse(text).expect_err("it is wrong").iter().map(|error| error.at.line).collect();
        assert_eq!(lines, [2, 3, 5, 5, 6]);
    }

    #[test]
    fn anchors_and_merges_in_front_are_allowed_up_to_a_number() {
        let uses = |count: usize| -> String { (0..count).map(|host| format!("  h{host}: *a\n")).collect() };
        let text =
            |count| format!("mirrors:\n  a: &a {{endpoint: [x]}}\n  b: {{<<: *a, rewrite: {{x: y}}}}\n{}", uses(count));
        assert_eq!(errors(&text(99)), [""; 0]);
        assert_eq!(
            errors(&text(100)),
            ["line 103, column 8: mirrors.h99: more than 100 aliases ('*'); write the values out"]
        );
    }

    #[test]
    fn too_large_a_text_is_refused_unread() {
        assert_eq!(errors(&"#".repeat(yaml::LARGEST + 1)), ["line 1, column 1: the text is larger than 1 MiB"]);
    }

    #[test]
    fn no_value_is_shown() {
        for text in [
            "configs: {a: {auth: canary}}",
            "configs: {a: {auth: {password: [canary]}}}",
            "configs: {a: {auth: {password: *canary}}}",
            "configs: {a: {auth: {password: \"canary}}}",
            "configs: {a: {auth: {password: !canary canary}}}",
            "configs: {a: {auth: {password: !!int canary}}}",
            "configs: {a: {auth: {password: canary: b}}}",
            "configs: {a: {auth: {passwort: canary}}}",
            "mirrors: {https://u:canary@h: }\nmirrors: {https://u:canary@h: {endpoints: }}",
            "configs: {a: {tls: {insecure_skip_verify: canary}}}",
            "auths: {a: {username: canary}}",
            "configs: {a: {auth: {username: u, password:canary}}}",
            "configs: {a: {auth: {canary: x}}}",
            "configs: {a: {auth: {canary:x}}}",
            "configs: {a: {auth: {canary}}}",
            "configs: {a: {auth: {canary-identity-token: }}}",
        ] {
            let errors = parse(text).expect_err("it is wrong");
            for error in errors {
                assert!(!error.to_string().contains("canary"), "{error}");
            }
            if let OnDisk::Rejected(rejection) = on_disk::read(text.as_bytes()) {
                assert!(!rejection.what.contains("canary"), "{rejection:?}");
            }
        }
    }

    const PIECES: &[&str] = &[
        "mirrors:\n",
        "configs:\n",
        "  a:\n",
        "  \"*\":\n",
        "    endpoint: [x, y]\n",
        "    endpoint:\n",
        "      - https://h:5000\n",
        "    rewrite: {a: b}\n",
        "    tls: {insecure_skip_verify: true}\n",
        "    tls: &t {ca_file: /c}\n",
        "    tls: *t\n",
        "    auth: {username: u}\n",
        "    tls: {insecure_skip_verify: yes}\n",
        "    endpoints: x\n",
        "# c\n",
        "---\n",
        "  <<: *t\n",
        "  b: {}\n",
        "  b: &t {}\n",
        "    <<: *t\n",
        "auths: {}\n",
        "  c: !x y\n",
        "\u{feff}",
        "\t",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_accepted_k3s_reads_with_the_same_meaning(
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..12),
        ) {
            let text = pieces.concat();
            if let Ok(document) = parse(&text) {
                match on_disk::read(text.as_bytes()) {
                    OnDisk::Read(read) => {
                        prop_assert_eq!(read.registries, document.registries);
                        prop_assert_eq!(read.marks, document.marks);
                        prop_assert_eq!(read.notes, vec![]);
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }

        #[test]
        fn any_text_is_survived(text in "[ -~\n\t]{0,60}|\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}

//! A file that k3s cannot read at all.

use super::Findings;
use super::rules;
use super::structure;
use crate::registries::document::Document;
use crate::registries::document::KeyPath;
use crate::registries::finding::Finding;
use crate::registries::on_disk::Rejection;

/// What a rejection says (as `on_disk` words it) and what to write instead.
const REMEDIES: &[(&str, &str)] = &[
    ("a tab where", "replace each tab by two spaces"),
    ("unknown escape", "for `\\$1` write `$1`: the backslash was a shell's, and YAML needs none"),
    ("an alias", "write the wildcard as `\"*\"`, in quotes"),
    ("must be a map", "put a colon behind the key above, and indent what belongs under it by two spaces"),
    ("a quote is not closed", "close it, or leave out a stray one"),
    ("not UTF-8", "save the file as UTF-8"),
    ("cannot start any token", "put the value in double quotes"),
    (
        "could not find expected ':'",
        "put a colon and a space behind the key, and indent with the same number of spaces",
    ),
    ("did not find expected key", "indent the keys of one map with the same number of spaces"),
    ("mapping values are not allowed", "put the value in double quotes, or indent the key like its neighbours"),
];

/// Judges a file that k3s rejects: the rejection itself, and the unknown keys as far as it could be read.
pub fn lint_rejected(rejection: &Rejection) -> Vec<Finding> {
    let Rejection { at, what, notes } = rejection;
    let document = Document::default();
    let mut out = Findings { document: &document, list: Vec::new() };
    let message = format!("k3s cannot read the file and does not start with it: {what}{}", remedy(what));
    out.push(rules::UNREADABLE, KeyPath::default(), *at, message);
    structure::check_notes(notes, &mut out);
    out.sorted()
}

/// What to write instead, to be put behind what the reader says.
pub(crate) fn remedy(what: &str) -> String {
    match REMEDIES.iter().find(|(says, _)| what.contains(says)) {
        Some((_, remedy)) => format!("; {remedy}"),
        // The reader's own words already say it.
        None if what.contains(": ") => String::new(),
        None => "; correct the line, or the one above".to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::registries::on_disk::OnDisk;
    use crate::registries::on_disk::read;

    fn message(text: &str) -> String {
        let OnDisk::Rejected(rejection) = read(text.as_bytes()) else { panic!("it is read: {text}") };
        let found = lint_rejected(&rejection);
        assert_eq!(found[0].rule, rules::UNREADABLE.id);
        assert!(found[0].at.is_some());
        found[0].message.clone()
    }

    #[test]
    fn the_remedy_fits_what_the_reader_says() {
        for (text, remedy) in [
            ("mirrors:\n\tr.example.com:\n", "replace each tab"),
            ("mirrors:\n  r.example.com:\n    rewrite:\n      \"^(.*)\": \"p/\\$1\"\n", "for `\\$1` write `$1`"),
            ("mirrors:\n  *:\n    endpoint: []\n", "`\"*\"`"),
            ("mirrors:\n  r.example.com\"\n  - https://m\n", "a colon behind the key"),
            ("%YAML 1.2\n---\nmirrors: {}\n", "%YAML line"),
            ("mirrors:\n  \"r.example.com:\n", "close it"),
            ("configs:\n  r:\n    tls:\n      insecure_skip_verify: \"true\"\n", "without quotes"),
            ("mirrors:\n  r:\n    endpoint: https://m\n", "'- '"),
        ] {
            let message = message(text);
            assert!(message.contains(remedy), "{text}: {message}");
        }
    }

    #[test]
    fn other_mistakes_are_named_as_far_as_the_file_could_be_read() {
        let text = "mirrors: text\nconfigs:\n  r.example.com:\n    auth:\n      token: canary-hunter2\n";
        let OnDisk::Rejected(rejection) = read(text.as_bytes()) else { panic!("it is read") };
        let found = lint_rejected(&rejection);
        let rules: Vec<_> = found.iter().map(|finding| (finding.at.map(|at| at.line), finding.rule)).collect();
        assert_eq!(rules, [(Some(1), "unreadable"), (Some(5), "unknown-key")]);
        assert!(found.iter().all(|finding| !finding.to_string().contains("canary")));
    }
}

//! What rewrite rules make of a repository: Go's `ReplaceAllString`, rule by rule (`k3s.md` 6).

use std::collections::BTreeMap;

use regex::Captures;
use regex::Regex;

use super::Judgement;
use super::judge;

/// What the rules of one endpoint make of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewriting {
    /// The rules that change it. containerd takes one of them; with several it is another one at each request.
    pub changes: Vec<Change>,
    /// The rules of which nothing definite can be said, or that containerd passes over: pattern, and why.
    pub others: Vec<(String, String)>,
}

/// What one rule makes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The rule's pattern, as containerd reads it.
    pub pattern: String,
    /// The rule's replacement, as containerd reads it.
    pub replacement: String,
    /// The repository after it.
    pub repository: String,
}

/// Tries every rule on the repository. The rules are those that containerd has read, after TOML.
pub fn rewrite(rules: &BTreeMap<String, String>, repository: &str) -> Rewriting {
    let mut rewriting = Rewriting::default();
    for (pattern, replacement) in rules {
        let compiled = match judge(pattern) {
            Judgement::Ok => Regex::new(pattern).map_err(|_| "it cannot be tried here".to_owned()),
            Judgement::RefusedByGo(why) => Err(format!("containerd passes it over: {why}")),
            Judgement::CannotTell(why) => Err(format!("what Go makes of it is not known here: {why}")),
        };
        let to = match compiled {
            Ok(regex) => replaced(&regex, repository, replacement),
            Err(why) => {
                rewriting.others.push((pattern.clone(), why));
                continue;
            }
        };
        if to != repository {
            let (pattern, replacement) = (pattern.clone(), replacement.clone());
            rewriting.changes.push(Change { pattern, replacement, repository: to });
        }
    }
    rewriting
}

/// Every match is replaced, but an empty one right behind another.
fn replaced(regex: &Regex, text: &str, replacement: &str) -> String {
    let mut out = String::new();
    let mut last_end = 0;
    let mut from = 0;
    while from <= text.len() {
        let Some(found) = regex.captures_at(text, from) else { break };
        let whole = found.get_match();
        out.push_str(text.get(last_end..whole.start()).unwrap_or_default());
        if whole.end() > last_end || whole.start() == 0 {
            expand(&found, regex, replacement, &mut out);
        }
        last_end = whole.end();
        let width = text.get(from..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
        from = last_end.max(from + width);
    }
    out.push_str(text.get(last_end..).unwrap_or_default());
    out
}

fn expand(found: &Captures<'_>, regex: &Regex, replacement: &str, out: &mut String) {
    for piece in pieces(replacement) {
        let name = match piece {
            Piece::Text(text) => {
                out.push_str(text);
                continue;
            }
            Piece::Group { text: _, name } => name,
        };
        // `01` is a name to Go.
        let is_number = name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
        let group = match (is_number, name.parse::<usize>()) {
            (true, Ok(number)) => found.get(number),
            (true, Err(_)) => None,
            (false, _) => {
                let mut names = regex.capture_names().enumerate();
                names.find(|(_, other)| *other == Some(name)).and_then(|(number, _)| found.get(number))
            }
        };
        out.push_str(group.map_or("", |group| group.as_str()));
    }
}

/// A part of a replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'t> {
    /// Taken as it stands.
    Text(&'t str),
    /// A group of the pattern.
    Group {
        /// `$1`, `${name}`.
        text: &'t str,
        /// `1`, `name`.
        name: &'t str,
    },
}

/// Takes a replacement apart as Go's `Expand` does.
pub(crate) fn pieces(replacement: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        found.push(Piece::Text(&rest[..at]));
        let from = &rest[at..];
        let after = &from[1..];
        if let Some(next) = after.strip_prefix('$') {
            found.push(Piece::Text("$"));
            rest = next;
            continue;
        }
        let is_braced = after.starts_with('{');
        let body = if is_braced { &after[1..] } else { after };
        let end = body.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(body.len());
        let is_closed = !is_braced || body[end..].starts_with('}');
        if end > 0 && is_closed {
            let length = 1 + if is_braced { end + 2 } else { end };
            found.push(Piece::Group { text: &from[..length], name: &body[..end] });
            rest = &from[length..];
        } else {
            found.push(Piece::Text("$"));
            rest = after;
        }
    }
    found.push(Piece::Text(rest));
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(pattern: &str, replacement: &str, repository: &str) -> String {
        let rules = BTreeMap::from([(pattern.to_owned(), replacement.to_owned())]);
        let Rewriting { mut changes, others } = rewrite(&rules, repository);
        assert_eq!(others, []);
        changes.pop().map_or_else(|| repository.to_owned(), |change| change.repository)
    }

    #[test]
    fn each_rule_makes_what_go_was_seen_to_make() {
        for (pattern, replacement, from, to) in [
            ("^library/(.*)", "l/$1", "library/busybox", "l/busybox"),
            ("^library/(.*)", "l/$1", "rancher/pause", "rancher/pause"),
            // Not anchored: every match.
            ("rancher", "x", "my/rancher/rancher", "my/x/x"),
            // The empty match at the end is not replaced again.
            ("(.*)", "p/$1", "a/b", "p/a/b"),
            ("", "-", "ab", "-a-b-"),
            ("x*", "-", "baac", "-b-a-a-c-"),
            // `$1x` is a group named `1x`.
            ("^(a)", "$1x", "a/b", "/b"),
            ("^(a)", "${1}x", "a/b", "ax/b"),
            ("^a", "$$1", "a/b", "$1/b"),
            ("^(?P<all>a)", "$all-${all}", "a/b", "a-a/b"),
            ("^(a)", "$01${2}$", "a/b", "$/b"),
            ("(b)|(a)", "<$1$2>", "ab", "<a><b>"),
        ] {
            assert_eq!(one(pattern, replacement, from), to, "{pattern} {replacement}");
        }
    }

    #[test]
    fn two_rules_that_both_change_it_are_both_named_and_one_that_go_refuses_is_passed_over() {
        let rules = [("^a/(.*)", "x/$1"), ("^(.*)", "y/$1"), ("^b", "z"), ("(?=a)", "z"), ("a{,2}", "z")];
        let rules = rules.map(|(pattern, replacement)| (pattern.to_owned(), replacement.to_owned())).into();
        let Rewriting { changes, others } = rewrite(&rules, "a/b");
        let to: Vec<_> = changes.iter().map(|change| (change.pattern.as_str(), change.repository.as_str())).collect();
        assert_eq!(to, [("^(.*)", "y/a/b"), ("^a/(.*)", "x/b")]);
        let others: Vec<_> = others.iter().map(|(pattern, why)| format!("{pattern} {why}")).collect();
        assert!(others[0].starts_with("(?=a) containerd passes it over: look-around"), "{others:?}");
        assert!(others[1].starts_with("a{,2} what Go makes of it is not known"), "{others:?}");
    }

    proptest! {
        #[test]
        fn a_replacement_is_its_pieces(replacement in "[a$1{}_é]{0,12}") {
            let texts = pieces(&replacement).into_iter().map(|piece| match piece {
                Piece::Text("$") => "$",
                Piece::Text(text) | Piece::Group { text, .. } => text,
            });
            let joined: String = texts.collect();
            // Two dollar signs are one.
            prop_assert_eq!(joined.replace('$', ""), replacement.replace('$', ""));
        }

        #[test]
        fn no_rule_panics(pattern in "[a-c/(|)*+?.^$]{0,8}", replacement in "[a$1{}]{0,6}", name in "[a-c/]{0,8}") {
            rewrite(&BTreeMap::from([(pattern, replacement)]), &name);
        }
    }
}

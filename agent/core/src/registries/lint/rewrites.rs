//! `rewrite`: what TOML and Go make of pattern and replacement, and which names a pattern really matches.

use regex_syntax::hir::Hir;
use regex_syntax::hir::HirKind;
use regex_syntax::hir::Look;

use super::Findings;
use super::overlap;
use super::rules;
use super::view::View;
use super::view::shown;
use crate::registries::document::KeyPath;
use crate::registries::model::Mirror;
use crate::runtime::rewrite::Judgement;
use crate::runtime::rewrite::Piece;
use crate::runtime::rewrite::TomlReading;
use crate::runtime::rewrite::judge;
use crate::runtime::rewrite::pieces;
use crate::runtime::rewrite::what_toml_makes_of;

pub(super) fn check(view: &View<'_>, out: &mut Findings<'_>) {
    let mut budget = overlap::Budget::new();
    for (host, Mirror { endpoints: _, rewrites }) in &view.registries.mirrors {
        // Without an endpoint nothing of them is written.
        if view.addresses_of(host).next().is_none() {
            continue;
        }
        let all = KeyPath::of(["mirrors", host, "rewrite"]);
        let mut readable: Vec<(&str, Hir)> = Vec::new();
        for (pattern, replacement) in rewrites {
            let path = all.child(pattern);
            let pattern_read = read(pattern, Side::Pattern, &path, out);
            let replacement_read = read(replacement, Side::Replacement, &path, out);
            let Some(hir) = pattern_read.and_then(|read| parse(&read, &path, out)) else { continue };
            if !takes_from_the_start(&hir) {
                unanchored(pattern, path.clone(), out);
            }
            if let Some(replacement) = replacement_read {
                check_groups(&replacement, &hir, &path, out);
            }
            overlaps(&readable, &hir, &path, &mut budget, out);
            readable.push((pattern, hir));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Pattern,
    Replacement,
}

/// What containerd will read. `None`: nothing.
fn read(text: &str, side: Side, path: &KeyPath, out: &mut Findings<'_>) -> Option<String> {
    let name = match side {
        Side::Pattern => "pattern",
        Side::Replacement => "replacement",
    };
    match what_toml_makes_of(text) {
        TomlReading::Same => Some(text.to_owned()),
        TomlReading::Changed(read) => {
            // A doubled backslash is how a single one gets there.
            if text.replace("\\\\", "").contains('\\') {
                let message = format!(
                    "k3s writes the {name} unescaped into hosts.toml, where this backslash begins a TOML escape: \
                     containerd reads {}; write {}",
                    shown(&read),
                    shown(&without_backslashes(text, side))
                );
                out.add(rules::REWRITE_READ_DIFFERENTLY, path.clone(), message);
            }
            Some(read)
        }
        TomlReading::Invalid => {
            let message = format!(
                "k3s writes the {name} unescaped into hosts.toml, and containerd drops that whole file for a backslash, \
                 quote or control character in it: pulls go to the upstream without any mirror; write {}",
                shown(&without_backslashes(text, side))
            );
            out.add(rules::REWRITE_BREAKS_HOSTS_TOML, path.clone(), message);
            None
        }
    }
}

/// The same meaning without what TOML takes amiss: `[.]` for `\.`, `$1` for `\1`.
fn without_backslashes(text: &str, side: Side) -> String {
    let mut instead = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            // No repository name has a quote or a control character.
            if c != '"' && !c.is_control() {
                instead.push(c);
            }
            continue;
        }
        match (side, rest.next()) {
            (_, None) => {}
            (Side::Replacement, Some(digit @ '0'..='9')) => instead.extend(['$', digit]),
            (Side::Replacement, Some(c)) => instead.push(c),
            (Side::Pattern, Some('d')) => instead.push_str("[0-9]"),
            (Side::Pattern, Some('w')) => instead.push_str("[0-9A-Za-z_]"),
            (Side::Pattern, Some('D')) => instead.push_str("[^0-9]"),
            (Side::Pattern, Some('W')) => instead.push_str("[^0-9A-Za-z_]"),
            (Side::Pattern, Some('S')) => instead.push('.'),
            (Side::Pattern, Some('A')) => instead.push('^'),
            (Side::Pattern, Some('z')) => instead.push('$'),
            // A blank, a word boundary: a repository name has none, or the pattern must be thought over.
            (Side::Pattern, Some('s' | 'b' | 'B' | 't' | 'n' | 'r' | 'f' | 'e' | 'v' | '"')) => {}
            (Side::Pattern, Some(c @ ('.' | '$' | '(' | ')' | '|' | '?' | '*' | '+' | '{' | '}'))) => {
                instead.extend(['[', c, ']']);
            }
            (Side::Pattern, Some(c)) => instead.push(c),
        }
    }
    instead
}

fn parse(pattern: &str, path: &KeyPath, out: &mut Findings<'_>) -> Option<Hir> {
    match judge(pattern) {
        Judgement::Ok => regex_syntax::parse(pattern).ok(),
        Judgement::RefusedByGo(why) => {
            let message = format!(
                "containerd cannot compile the pattern ({why}), notes that in its log only, and skips the rule: images are \
                 pulled under their own names; write it in Go's RE2 syntax (no lookahead, no backreference)"
            );
            out.add(rules::REWRITE_REFUSED, path.clone(), message);
            None
        }
        Judgement::CannotTell(why) => {
            let message = format!(
                "it is not certain that containerd can compile the pattern ({why}); if not, it skips the rule and images \
                 are pulled under their own names; write it more simply"
            );
            out.add(rules::REWRITE_UNDECIDED, path.clone(), message);
            None
        }
    }
}

/// Whether a match always begins where the name begins.
fn takes_from_the_start(pattern: &Hir) -> bool {
    match pattern.kind() {
        HirKind::Look(look) => *look == Look::Start,
        HirKind::Capture(capture) => takes_from_the_start(&capture.sub),
        HirKind::Concat(parts) => parts.first().is_some_and(takes_from_the_start),
        HirKind::Alternation(parts) => parts.iter().all(takes_from_the_start),
        HirKind::Repetition(repetition) => {
            repetition.max.is_none() && overlap::is_any_symbol(&repetition.sub)
                || repetition.min > 0 && takes_from_the_start(&repetition.sub)
        }
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) => false,
    }
}

fn unanchored(pattern: &str, path: KeyPath, out: &mut Findings<'_>) {
    let example = if pattern.is_empty() {
        "between all letters of every name"
    } else {
        "also in the middle of a name, and again after it"
    };
    let message = format!(
        "the pattern is not bound to the beginning, so it matches {example}; write {}",
        shown(&format!("^{pattern}"))
    );
    out.add(rules::REWRITE_UNANCHORED, path, message);
}

/// `$1x` is the group named `1x`, and a group that is not there is empty text.
fn check_groups(replacement: &str, pattern: &Hir, path: &KeyPath, out: &mut Findings<'_>) {
    let mut names: Vec<Option<String>> = vec![None];
    collect_groups(pattern, &mut names);
    for piece in pieces(replacement) {
        let Piece::Group { text, name: wanted } = piece else { continue };
        let is_known = match wanted.parse::<usize>() {
            Ok(number) => number < names.len(),
            Err(_) => names.iter().flatten().any(|name| name == wanted),
        };
        if is_known {
            continue;
        }
        let digits = wanted.find(|c: char| !c.is_ascii_digit()).unwrap_or(wanted.len());
        let (number, rest) = wanted.split_at(digits);
        let remedy = if !number.is_empty() && !rest.is_empty() {
            format!("write `${{{number}}}{rest}`")
        } else if !rest.is_empty() {
            "write `$$` for a dollar sign, or the number of a group".to_owned()
        } else {
            format!("the pattern has {} group(s)", names.len() - 1)
        };
        let message = format!(
            "{} in the replacement names a group that the pattern has not, so it becomes empty text; {remedy}",
            shown(text)
        );
        out.add(rules::REWRITE_GROUP, path.clone(), message);
    }
}

fn collect_groups(pattern: &Hir, names: &mut Vec<Option<String>>) {
    match pattern.kind() {
        HirKind::Capture(capture) => {
            names.push(capture.name.as_deref().map(str::to_owned));
            collect_groups(&capture.sub, names);
        }
        HirKind::Repetition(repetition) => collect_groups(&repetition.sub, names),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().for_each(|part| collect_groups(part, names));
        }
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => {}
    }
}

fn overlaps(others: &[(&str, Hir)], hir: &Hir, path: &KeyPath, budget: &mut overlap::Budget, out: &mut Findings<'_>) {
    for (other, other_hir) in others {
        if let Some(name) = overlap::common_name(other_hir, hir, budget) {
            let message = format!(
                "this pattern and {} both match {}, and containerd tries the rules in random order and applies the first \
                 that matches: the name changes from pull to pull; write patterns of which only one can match, such as \
                 `^rancher/(.*)` and `^library/(.*)`",
                shown(other),
                shown(&name)
            );
            out.add(rules::REWRITE_OVERLAP, path.clone(), message);
            // One proof is enough to see it.
            return;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::Case;
    use super::super::tests::Subject;
    use super::super::tests::file;
    use super::super::tests::run;
    use super::*;

    fn with(rewrites: &[(&str, &str)]) -> Subject {
        rewrites.iter().fold(file().mirror("docker.io", &["https://m.example.com"]), |file, (p, r)| {
            file.rewrite("docker.io", p, r)
        })
    }

    pub(crate) fn cases() -> Vec<Case> {
        vec![
            (rules::REWRITE_BREAKS_HOSTS_TOML, with(&[(r"^a\.b", "c")]), with(&[("^a[.]b", "c")])),
            (rules::REWRITE_BREAKS_HOSTS_TOML, with(&[("^a\"b", "c")]), with(&[(r"^a\\.b", "c")])),
            (rules::REWRITE_BREAKS_HOSTS_TOML, with(&[("^(.*)", r"p/\1")]), with(&[("^(.*)", "p/$1")])),
            (
                rules::REWRITE_BREAKS_HOSTS_TOML,
                with(&[(r"^a\.b", "c")]),
                file().mirror("docker.io", &[]).rewrite("docker.io", r"^a\.b", "c"),
            ),
            (rules::REWRITE_READ_DIFFERENTLY, with(&[(r"\bfoo", "c")]), with(&[(r"^a\\.b", "c")])),
            (rules::REWRITE_REFUSED, with(&[("^(?x)a", "c")]), with(&[("^(?i)a", "c")])),
            (rules::REWRITE_UNDECIDED, with(&[("^[a&&b]", "c")]), with(&[("^[ab]", "c")])),
            (rules::REWRITE_UNANCHORED, with(&[("rancher/(.*)", "p/$1")]), with(&[("(.*)", "p/$1")])),
            (rules::REWRITE_UNANCHORED, with(&[("", "p/")]), with(&[("(^.+$)", "p/$1")])),
            (rules::REWRITE_UNANCHORED, with(&[("^a|b", "p")]), with(&[("^a|^b", "p")])),
            (
                rules::REWRITE_OVERLAP,
                with(&[("^rancher/(.*)", "a/$1"), ("(.*)", "b/$1")]),
                with(&[("^rancher/(.*)", "a/$1"), ("^library/(.*)", "b/$1")]),
            ),
            (rules::REWRITE_GROUP, with(&[("^(.*)", "$1x")]), with(&[("^(.*)", "${1}x")])),
            (rules::REWRITE_GROUP, with(&[("^(.*)", "p/$2")]), with(&[("^(.*)/(.*)", "p/$2")])),
            (rules::REWRITE_GROUP, with(&[("^(.*)", "p/$name")]), with(&[("^(?P<name>.*)", "p/$name")])),
            (rules::REWRITE_GROUP, with(&[("^(.*)", "p/${y}")]), with(&[("^(.*)", "p/$$x/$0/$1-$/${")])),
        ]
    }

    #[test]
    fn each_rule_names_its_mistake_and_not_its_near_miss() {
        run(&cases());
    }

    #[test]
    fn the_spelling_that_works_is_named() {
        for (pattern, replacement, remedy) in [
            (r"^a\.b/(.*)", "c", "`^a[.]b/(.*)`"),
            (r"^\d+\-\w\/x$", "c", "`^[0-9]+-[0-9A-Za-z_]/x$`"),
            ("^(.*)", r"p/\1", "`p/$1`"),
            ("^(.*)", r"p/\$1", "`p/$1`"),
        ] {
            let message = with(&[(pattern, replacement)]).message(rules::REWRITE_BREAKS_HOSTS_TOML);
            assert!(message.ends_with(&format!("write {remedy}")), "{message}");
        }
        let message = with(&[("^(.*)", "p/$1x")]).message(rules::REWRITE_GROUP);
        assert!(message.ends_with("write `${1}x`"), "{message}");
    }

    #[test]
    fn an_overlap_shows_a_name_that_both_match() {
        let message = with(&[("^rancher/(.*)", "a/$1"), ("(.*)", "b/$1")]).message(rules::REWRITE_OVERLAP);
        assert!(message.contains("`rancher/a`"), "{message}");
    }
}

//! What becomes of a rewrite's pattern on its way: Go must compile it, and TOML must carry it there unchanged.
//!
//! k3s writes the pattern raw between quotes into `hosts.toml`; containerd reads it with go-toml and compiles it with
//! Go's `regexp`. Rust's syntax is close to Go's, not equal, so an answer is definite only where both agree.

mod replace;
mod walk;

use regex_syntax::ast::Error;
use regex_syntax::ast::ErrorKind;
use regex_syntax::ast::parse::Parser;

pub use self::replace::Change;
pub(crate) use self::replace::Piece;
pub use self::replace::Rewriting;
pub(crate) use self::replace::pieces;
pub use self::replace::rewrite;
use self::walk::COUNT;
use self::walk::MOST_REPEATS;
use self::walk::SYNTAX;
use self::walk::Walk;
use self::walk::has_counts_within_bound;
use self::walk::is_go_count;

/// Whether Go's `regexp` compiles a pattern. containerd skips a rule it cannot compile, with a warning for each pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Go compiles it.
    Ok,
    /// Go refuses it, and why.
    RefusedByGo(&'static str),
    /// Rust's syntax says nothing definite about Go's here, and why.
    CannotTell(&'static str),
}

/// What go-toml reads where k3s wrote `"PATTERN"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TomlReading {
    /// The text as it was meant.
    Same,
    /// Another text: a valid escape was undone.
    Changed(String),
    /// The line does not hold this string: containerd drops the whole `hosts.toml` and pulls from upstream (or, with a
    /// crafted quote, reads some other rule).
    Invalid,
}

/// Reads a pattern (or a replacement) as go-toml 2.3 does between `"` and `"`.
pub fn what_toml_makes_of(pattern: &str) -> TomlReading {
    match decoded(pattern) {
        None => TomlReading::Invalid,
        Some(read) if read == pattern => TomlReading::Same,
        Some(read) => TomlReading::Changed(read),
    }
}

fn decoded(pattern: &str) -> Option<String> {
    let mut read = String::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            if c == '"' || c == '\u{7f}' || (c < ' ' && c != '\t') {
                return None;
            }
            read.push(c);
            continue;
        }
        // go-toml has no `\xHH`, unlike TOML 1.1, but it has `\e`.
        read.push(match rest.next()? {
            c @ ('"' | '\\') => c,
            'b' => '\u{8}',
            'e' => '\u{1b}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => code_point(&mut rest, 4)?,
            'U' => code_point(&mut rest, 8)?,
            _ => return None,
        });
    }
    Some(read)
}

fn code_point(rest: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let mut code = 0_u32;
    for _ in 0..digits {
        code = code.checked_mul(16)?.checked_add(rest.next()?.to_digit(16)?)?;
    }
    char::from_u32(code)
}

/// The longest pattern that is judged: below it Go's limits on size and depth cannot be reached but by counts.
const LONGEST: usize = 1000;
const TOO_LONG: &str = "it is longer than 1000 characters";

/// Judges whether Go compiles a pattern.
pub fn judge(pattern: &str) -> Judgement {
    if pattern.chars().count() > LONGEST {
        return Judgement::CannotTell(TOO_LONG);
    }
    match Parser::new().parse(pattern) {
        Ok(ast) => {
            let mut walk = Walk::of(pattern);
            walk.ast(&ast);
            let counts = if has_counts_within_bound(&ast, MOST_REPEATS) { None } else { Some(COUNT) };
            match (walk.unsure, walk.refused.or(counts)) {
                (Some(why), _) => Judgement::CannotTell(why),
                (None, Some(why)) => Judgement::RefusedByGo(why),
                (None, None) => Judgement::Ok,
            }
        }
        Err(error) => judge_error(pattern, &error),
    }
}

/// How far the classes of a pattern are read alike by Go and Rust.
#[derive(PartialEq)]
enum Classes {
    Plain,
    Unclosed,
    Unlike,
}

fn classes(pattern: &str) -> Classes {
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => {
                rest.next();
            }
            '[' => {
                if rest.peek() == Some(&'^') {
                    rest.next();
                }
                let mut body = String::new();
                if rest.peek() == Some(&']') {
                    body.extend(rest.next());
                }
                loop {
                    match rest.next() {
                        None => return if body.contains('[') { Classes::Unlike } else { Classes::Unclosed },
                        Some(']') => break,
                        Some('\\') => {
                            rest.next();
                        }
                        Some(c) => body.push(c),
                    }
                }
                if ["[", "&&", "--", "~~"].iter().any(|unlike| body.contains(unlike)) {
                    return Classes::Unlike;
                }
            }
            _ => {}
        }
    }
    Classes::Plain
}

/// Rust refuses the pattern: is that Go's opinion too? Definite only if Go came to the same place with the same eyes.
fn judge_error(pattern: &str, error: &Error) -> Judgement {
    const UNSURE: Judgement = Judgement::CannotTell(SYNTAX);
    let classes = classes(pattern);
    if classes == Classes::Unlike || pattern.contains("\\Q") {
        return UNSURE;
    }
    let start = error.span().start.offset;
    let before = pattern.get(..start).unwrap_or_default();
    let from = pattern.get(start..).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnsupportedLookAround => Judgement::RefusedByGo("look-around, like (?=…)"),
        ErrorKind::UnsupportedBackreference => {
            let mut digits = from.trim_start_matches('\\').chars();
            match (digits.next(), digits.next()) {
                // Go reads `\0` and `\12` as octal.
                (Some('0'), _) | (Some('1'..='7'), Some('0'..='7')) => UNSURE,
                _ => Judgement::RefusedByGo("a reference back to a group, like \\1"),
            }
        }
        ErrorKind::GroupUnclosed if classes == Classes::Plain => Judgement::RefusedByGo("a ( is not closed"),
        ErrorKind::GroupUnopened if classes == Classes::Plain => Judgement::RefusedByGo("a ) is not opened"),
        ErrorKind::ClassUnclosed if classes == Classes::Unclosed => Judgement::RefusedByGo("a [ is not closed"),
        ErrorKind::ClassRangeInvalid => Judgement::RefusedByGo("a range in a class runs backwards"),
        ErrorKind::EscapeUnexpectedEof => Judgement::RefusedByGo("a \\ at the end"),
        ErrorKind::EscapeUnrecognized => match from.trim_start_matches('\\').chars().next() {
            Some('a' | 'f' | 'n' | 'r' | 't' | 'v' | 'x' | 'p' | 'P' | 'E') | None => UNSURE,
            Some(c) if c.is_ascii_alphanumeric() || !c.is_ascii() => Judgement::RefusedByGo("an unknown \\ escape"),
            Some(_) => UNSURE,
        },
        ErrorKind::RepetitionMissing => {
            let has_nothing_before = before.is_empty() || (before.ends_with(['(', '|']) && !is_escaped_end(before));
            // The group of no flags, `(?)`, is nothing to Go, not a mistake.
            let has_nothing_before =
                has_nothing_before && !(before.ends_with('(') && pattern[before.len()..].starts_with("?)"));
            let is_count = from.starts_with('{');
            if has_nothing_before && (!is_count || from.find('}').is_some_and(|end| is_go_count(&from[..=end]))) {
                Judgement::RefusedByGo("nothing to repeat before *, +, ? or {n}")
            } else {
                UNSURE
            }
        }
        ErrorKind::RepetitionCountInvalid => match from.find('}') {
            Some(end) if is_go_count(&from[..=end]) => Judgement::RefusedByGo("a repeat count runs backwards"),
            Some(_) | None => UNSURE,
        },
        ErrorKind::FlagUnrecognized => Judgement::RefusedByGo("an unknown flag after (?"),
        ErrorKind::GroupNameEmpty => Judgement::RefusedByGo("a group's name is empty"),
        // `ErrorKind` is not exhaustive; everything else is either Go's to read otherwise or not worth a sentence.
        _ => UNSURE,
    }
}

/// Whether the last character stands behind an odd number of backslashes.
fn is_escaped_end(text: &str) -> bool {
    let mut before = text.chars();
    before.next_back();
    before.as_str().bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn toml_reads_each_row_of_the_escape_table_as_go_toml_does() {
        for dropped in [
            r"^a\.b", r"\d", r"\w", r"\s", r"\x41", r"\/", r"\$", r"\(", r"\-", "a\"b", "a\nb", "a\u{1}b", r"a\",
            r"\u12",
        ] {
            assert_eq!(what_toml_makes_of(dropped), TomlReading::Invalid, "{dropped:?}");
        }
        for (pattern, read) in [
            (r"\bfoo", "\u{8}foo"),
            (r"\tfoo", "\tfoo"),
            (r"\nfoo", "\nfoo"),
            (r"\efoo", "\u{1b}foo"),
            (r"\u0041", "A"),
            (r"\U0001F600", "\u{1f600}"),
            (r"^a\\.b", r"^a\.b"),
        ] {
            assert_eq!(what_toml_makes_of(pattern), TomlReading::Changed(read.to_owned()), "{pattern}");
        }
        for same in ["^a[.]b", "", "^library/(.*)", "é\t'"] {
            assert_eq!(what_toml_makes_of(same), TomlReading::Same, "{same}");
        }
    }

    #[test]
    fn go_compiles_what_people_write() {
        for pattern in [
            "^library/(.*)",
            "(.*)",
            "",
            "^(?P<all>.*)$",
            "(?i)^A",
            r"^rancher\\?/",
            "[[:alpha:]]",
            "[^/]+/(.+)",
            r"\d{2,3}",
            "a{1000}",
            r"\x{41}",
            r"\pL",
            "^*",
            "[]a]",
            "(?:a|b)*?",
        ] {
            assert_eq!(judge(pattern), Judgement::Ok, "{pattern}");
        }
    }

    #[test]
    fn go_refuses_what_only_other_engines_compile() {
        for pattern in [
            "(?=x)",
            "(?<!x)y",
            r"(a)\1",
            "(",
            "a)",
            "[a",
            "*",
            "a|*",
            "(+)",
            "a**",
            "a+*",
            "a{2}{3}",
            "a{1001}",
            "((a{10}){10}){11}",
            "a{3,2}",
            "[z-a]",
            "[a--b]",
            r"\Z",
            r"\u0041",
            r"\p{gc=Lu}",
            "(?x)a",
            "(?u)a",
            "(?R)a",
            "(?P<a.b>c)",
            "(?z)",
            r"a\",
            "^jay[.](?=x)",
        ] {
            assert!(matches!(judge(pattern), Judgement::RefusedByGo(_)), "{pattern}: {:?}", judge(pattern));
        }
    }

    #[test]
    fn nothing_definite_is_said_where_go_may_read_otherwise() {
        let long = "a".repeat(1001);
        for pattern in [
            r"\Q(\E",
            r"\123",
            r"\0",
            "a{,2}",
            "{",
            "a{2",
            "[[]",
            r"[\d-z]",
            "(?P<n>a)(?P<n>b)",
            "[a&&b]",
            "[[a]]",
            r"\b{start}",
            "a{,2}*",
            "a{02}",
            "[+--]",
            "(?)a",
            "(?P<1>a)",
            "(?ii)a",
            &long,
        ] {
            assert!(matches!(judge(pattern), Judgement::CannotTell(_)), "{pattern}: {:?}", judge(pattern));
        }
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern in "\\PC{0,40}") {
            judge(&pattern);
        }

        #[test]
        fn a_pattern_with_doubled_backslashes_reaches_containerd_as_written(pattern in "[ -!#-~]{0,20}") {
            let doubled = pattern.replace('\\', "\\\\");
            prop_assert_eq!(decoded(&doubled), Some(pattern));
        }
    }
}

//! What a scalar is: text, null, a boolean or bytes, by YAML 1.1 and the tags as gopkg.in/yaml.v2 follows them.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::node::Scalar;
use crate::secret::Secret;

/// The tag of the merge key `<<`.
pub const MERGE_TAG: &str = "tag:yaml.org,2002:merge";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// What a [`Scalar`] is.
#[derive(Debug, PartialEq, Eq)]
pub enum Resolved {
    /// `~`, `null`, or nothing at all.
    Null,
    /// A boolean. `is_old` if YAML 1.2 takes it for text (`yes`, `on`).
    Bool {
        /// Which.
        value: bool,
        /// Only YAML 1.1 knows it.
        is_old: bool,
    },
    /// Text, or a number or time: k3s keeps those as they are written.
    Text,
    /// Bytes, decoded from base64.
    Binary(Secret<Vec<u8>>),
    /// The tag says one thing, the text another: the whole file is rejected.
    Contradiction,
    /// As `Contradiction`, or as `Text`: not worth finding out.
    Doubtful,
}

/// Finds out what a scalar is.
pub fn resolve(scalar: &Scalar) -> Resolved {
    let Scalar { text, tag, is_plain, .. } = scalar;
    if tag.is_empty() {
        return if *is_plain { untagged(text) } else { Resolved::Text };
    }
    let accepted_if = |is_right: bool| if is_right { Resolved::Text } else { Resolved::Contradiction };
    match tag.strip_prefix("tag:yaml.org,2002:") {
        Some("binary") => {
            let digits: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'\n' | b'\r')).collect();
            BASE64.decode(digits).map_or(Resolved::Contradiction, |bytes| Resolved::Binary(Secret::new(bytes)))
        }
        Some("null") => match untagged(text) {
            Resolved::Null => Resolved::Null,
            _ => Resolved::Contradiction,
        },
        Some("bool") => match untagged(text) {
            Resolved::Bool { value, is_old } => Resolved::Bool { value, is_old },
            _ => Resolved::Contradiction,
        },
        Some("int") => accepted_if(integer(text).is_some()),
        Some("float") => match float(text) {
            Some(is_float) => accepted_if(is_float),
            None => Resolved::Doubtful,
        },
        Some("timestamp") => match timestamp(text) {
            Some(false) => Resolved::Contradiction,
            Some(true) | None => Resolved::Doubtful,
        },
        // `!!str`, and tags that nobody knows.
        _ => Resolved::Text,
    }
}

fn untagged(text: &str) -> Resolved {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Resolved::Null,
        "true" | "True" | "TRUE" => Resolved::Bool { value: true, is_old: false },
        "false" | "False" | "FALSE" => Resolved::Bool { value: false, is_old: false },
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Resolved::Bool { value: true, is_old: true },
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Resolved::Bool { value: false, is_old: true },
        _ => Resolved::Text,
    }
}

/// Whether a Go integer of 64 bits is there, and if so whether it needs the unsigned range.
fn integer(text: &str) -> Option<IsUnsigned> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-')) {
        return None;
    }
    let plain = text.replace('_', "");
    let (is_signed, is_negative, digits) = match plain.strip_prefix(['+', '-']) {
        Some(digits) => (true, plain.starts_with('-'), digits),
        None => (false, false, plain.as_str()),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    // yaml.v2 tries this prefix once more by itself, and so takes a sign behind it.
    if radix == 2 && plain.starts_with("0b") && digits.starts_with(['+', '-']) {
        return i64::from_str_radix(digits, 2).ok().map(|_| IsUnsigned(false));
    }
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    let limit = i64::MAX as u64 + u64::from(is_negative);
    if value <= limit { Some(IsUnsigned(false)) } else { (!is_signed).then_some(IsUnsigned(true)) }
}

#[derive(Debug, PartialEq, Eq)]
struct IsUnsigned(bool);

/// Whether Go reads a number that fits `!!float`. `None`: it depends on details of Go's parser.
fn float(text: &str) -> Option<bool> {
    if matches!(text.trim_start_matches(['+', '-']), ".inf" | ".Inf" | ".INF") {
        return Some(text.chars().filter(|c| matches!(c, '+' | '-')).count() <= 1);
    }
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(true);
    }
    if let Some(IsUnsigned(is_unsigned)) = integer(text) {
        return Some(!is_unsigned);
    }
    let first = text.chars().next();
    let plain = match first {
        Some('.') if text.contains('_') => return None,
        Some('.') => text.to_owned(),
        Some('0'..='9' | '+' | '-') => text.replace('_', ""),
        _ => return Some(false),
    };
    let is_decimal = plain.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    Some(is_decimal && plain.parse::<f64>().is_ok_and(f64::is_finite))
}

/// Whether it may be a time. Go's parser of times is not rebuilt for a tag that nobody writes here.
fn timestamp(text: &str) -> Option<bool> {
    let bytes = text.as_bytes();
    let starts_with_year = bytes.len() > 4 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-';
    if starts_with_year { None } else { Some(false) }
}

#[cfg(test)]
mod tests {
    use super::super::node::Style;
    use super::*;

    fn tagged(tag: &str, text: &str) -> Resolved {
        let tag = if tag.is_empty() { String::new() } else { format!("tag:yaml.org,2002:{tag}") };
        let is_plain = tag.is_empty();
        resolve(&Scalar { text: text.to_owned(), tag, is_plain, style: Style::Plain })
    }

    #[test]
    fn plain_words_of_yaml_1_1_are_booleans_and_null() {
        assert_eq!(tagged("", "yes"), Resolved::Bool { value: true, is_old: true });
        assert_eq!(tagged("", "FALSE"), Resolved::Bool { value: false, is_old: false });
        for (text, resolved) in [("~", Resolved::Null), ("", Resolved::Null), ("yEs", Resolved::Text)] {
            assert_eq!(tagged("", text), resolved, "{text}");
        }
    }

    #[test]
    fn quotes_make_text() {
        let quoted = Scalar { text: "yes".to_owned(), tag: String::new(), is_plain: false, style: Style::DoubleQuoted };
        assert_eq!(resolve(&quoted), Resolved::Text);
    }

    #[test]
    fn a_tag_must_fit_the_text() {
        for (tag, fits) in [
            ("int", ["0x1F", "-0b11", "0b-1", "1_000", "18446744073709551615", "017"]),
            ("float", ["1e3", "-.5", ".inf", "-.INF", "7", "1_0.5"]),
            ("str", ["", "~", "yes", "1", "x", "\""]),
        ] {
            for text in fits {
                assert_eq!(tagged(tag, text), Resolved::Text, "{tag} {text}");
            }
        }
        for (tag, texts) in [
            ("int", ["1.5", "x", "", "-18446744073709551615", "09", "--1"]),
            ("float", ["1e999", "x", "18446744073709551615", "0x", "inf", "--.inf"]),
            ("null", ["x", "0", "false", "nil", " ", "NUll"]),
            ("bool", ["x", "0", "~", "1", "tRue", ""]),
            ("binary", ["=", "a", "YQ", "Y Q=", "YQ==x", "_-=="]),
        ] {
            for text in texts {
                assert_eq!(tagged(tag, text), Resolved::Contradiction, "{tag} {text}");
            }
        }
    }

    #[test]
    fn binary_is_decoded_over_line_ends() {
        assert_eq!(tagged("binary", "aHVu\ndGVyMg=="), Resolved::Binary(Secret::new(b"hunter2".to_vec())));
    }
}

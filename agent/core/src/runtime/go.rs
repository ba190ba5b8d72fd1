//! Two habits of Go that decide bytes: `%q` and `filepath.Clean`.

/// Go's `strconv.Quote`, the `%q` of the templates.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            ' '..='~' => quoted.push(c),
            '\0'..='\u{7f}' => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            _ if is_printable(c) => quoted.push(c),
            '\u{80}'..='\u{ffff}' => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// Go's `unicode.IsPrint` for what is not ASCII, by the tables of std's `Debug`. A letter stands before, since `Debug`
/// escapes a combining mark at the start.
fn is_printable(c: char) -> bool {
    let mut text = String::from("a");
    text.push(c);
    text.escape_debug().nth(2).is_none()
}

/// The path below a directory, as `filepath.Join` leaves it: `a//b/.` is `a/b`, the directory itself is empty.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_as_go_quotes_it() {
        for (text, quote) in [
            ("p\"w\\\\é", r#""p\"w\\\\é""#),
            ("\u{7}\u{8}\t\n\u{b}\u{c}\r\u{1b}\0\u{7f}", r#""\a\b\t\n\v\f\r\x1b\x00\x7f""#),
            ("\u{85}\u{a0}\u{200b}\u{feff}\u{2028}", r#""\u0085\u00a0\u200b\ufeff\u2028""#),
            ("\u{301}é'😀\u{e0001}", "\"\u{301}é'😀\\U000e0001\""),
        ] {
            assert_eq!(quoted(text), quote);
        }
    }

    #[test]
    fn a_key_is_cleaned_to_the_path_that_go_joins() {
        for (key, path) in
            [("a//b/.", "a/b"), ("", ""), (".", ""), ("..", ".."), ("a/../../b", "../b"), ("https://r", "https:/r")]
        {
            assert_eq!(clean(key), path, "{key}");
        }
    }
}

//! TOML as go-toml 2.3 reads it, which is what containerd uses: TOML 1.0 and `\e`.
//!
//! The `toml` crate reads TOML 1.1. What 1.1 adds and go-toml refuses is looked for among the parser's events, since
//! a file that only we can read would be taken for loaded while containerd drops it.

use thiserror::Error;
use toml::de::DeTable;
use toml::de::DeValue;
use toml_parser::ErrorSink;
use toml_parser::Raw;
use toml_parser::Source;
use toml_parser::Span;
use toml_parser::decoder::Encoding;
use toml_parser::parser::EventReceiver;
use toml_parser::parser::parse_document;

/// Why go-toml does not read a text. Never shows the text: it may hold credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TomlError {
    /// Not UTF-8.
    #[error("it is not UTF-8")]
    NotText,
    /// Not TOML as go-toml knows it.
    #[error("it is not valid TOML at line {line}")]
    Syntax {
        /// Counts from 1.
        line: usize,
    },
}

/// A parsed text.
#[derive(Debug)]
pub(super) struct Toml<'t> {
    pub(super) root: DeTable<'t>,
    /// The keys of each `[table]` header, in the order of the text.
    pub(super) headers: Vec<Vec<String>>,
}

/// Reads a text.
pub(super) fn parse(bytes: &[u8]) -> Result<Toml<'_>, TomlError> {
    let text = std::str::from_utf8(bytes).map_err(|_| TomlError::NotText)?;
    let syntax = |at: usize| TomlError::Syntax { line: bytes[..at.min(bytes.len())].split(|b| *b == b'\n').count() };
    if text.starts_with('\u{feff}') {
        return Err(syntax(0));
    }
    let root = match DeTable::parse(text) {
        Ok(root) => root.into_inner(),
        Err(error) => return Err(syntax(error.span().map_or(0, |span| span.start))),
    };
    let mut events =
        Events { text, headers: Vec::new(), header: None, nesting: Vec::new(), comma: None, refused: None };
    parse_document(&Source::new(text).lex().into_vec(), &mut events, &mut ());
    match events.refused {
        Some(at) => Err(syntax(at)),
        None => Ok(Toml { root, headers: events.headers }),
    }
}

/// The value of a field as go-toml finds it: without regard to case, the last in the text.
pub(super) fn field<'v, 't>(table: &'v DeTable<'t>, name: &str) -> Option<&'v DeValue<'t>> {
    let named = table.iter().filter(|(key, _)| key.get_ref().eq_ignore_ascii_case(name));
    named.max_by_key(|(key, _)| key.span().start).map(|(_, value)| value.get_ref())
}

/// What the walk over the text finds.
struct Events<'t> {
    text: &'t str,
    headers: Vec<Vec<String>>,
    header: Option<Vec<String>>,
    /// Whether each open bracket, outermost first, is an inline table.
    nesting: Vec<bool>,
    /// The comma that nothing has followed yet.
    comma: Option<usize>,
    refused: Option<usize>,
}

impl Events<'_> {
    fn refuse(&mut self, span: Span) {
        self.refused.get_or_insert(span.start());
    }

    fn raw(&self, span: Span) -> &str {
        self.text.get(span.start()..span.end()).unwrap_or_default()
    }

    /// TOML 1.1 has `\xHH`.
    fn check_escapes(&mut self, span: Span, encoding: Option<Encoding>) {
        if !matches!(encoding, Some(Encoding::BasicString | Encoding::MlBasicString)) {
            return;
        }
        let mut bytes = self.raw(span).bytes();
        while let Some(byte) = bytes.next() {
            if byte == b'\\' && bytes.next() == Some(b'x') {
                return self.refuse(span);
            }
        }
    }

    fn is_in_inline_table(&self) -> bool {
        self.nesting.last() == Some(&true)
    }
}

impl EventReceiver for Events<'_> {
    fn std_table_open(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.header = Some(Vec::new());
    }

    fn std_table_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.headers.extend(self.header.take());
    }

    fn simple_key(&mut self, span: Span, encoding: Option<Encoding>, _: &mut dyn ErrorSink) {
        self.comma = None;
        self.check_escapes(span, encoding);
        let mut key = std::borrow::Cow::Borrowed("");
        Raw::new_unchecked(self.raw(span), encoding, span).decode_key(&mut key, &mut ());
        let key = key.into_owned();
        if let Some(header) = &mut self.header {
            header.push(key);
        }
    }

    fn scalar(&mut self, span: Span, encoding: Option<Encoding>, _: &mut dyn ErrorSink) {
        self.comma = None;
        self.check_escapes(span, encoding);
    }

    fn inline_table_open(&mut self, _: Span, _: &mut dyn ErrorSink) -> bool {
        self.comma = None;
        self.nesting.push(true);
        true
    }

    fn inline_table_close(&mut self, span: Span, _: &mut dyn ErrorSink) {
        // TOML 1.1 has a comma at the end.
        if self.comma.take().is_some() {
            self.refuse(span);
        }
        self.nesting.pop();
    }

    fn array_open(&mut self, _: Span, _: &mut dyn ErrorSink) -> bool {
        self.comma = None;
        self.nesting.push(false);
        true
    }

    fn array_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.comma = None;
        self.nesting.pop();
    }

    fn value_sep(&mut self, span: Span, _: &mut dyn ErrorSink) {
        self.comma = Some(span.start());
    }

    fn newline(&mut self, span: Span, _: &mut dyn ErrorSink) {
        // TOML 1.1 has inline tables of several lines.
        if self.is_in_inline_table() {
            self.refuse(span);
        }
    }

    fn comment(&mut self, span: Span, _: &mut dyn ErrorSink) {
        if self.is_in_inline_table() {
            self.refuse(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Option<usize> {
        match parse(text.as_bytes()) {
            Ok(_) => None,
            Err(TomlError::Syntax { line }) => Some(line),
            Err(TomlError::NotText) => Some(0),
        }
    }

    #[test]
    fn what_only_toml_1_1_allows_is_refused_as_by_go_toml() {
        for text in [
            "a = \"\\x41\"",
            "\"\\x41\" = 1",
            "a = {b = 1,}",
            "a = {b = 1,\nc = 2}",
            "a = { # c\nb = 1}",
            "\u{feff}a = 1",
        ] {
            assert!(line(text).is_some(), "{text}");
        }
        for text in ["a = \"\\e\"", "a = '\\x41'", "a = [1,\n2,]", "a = {b = [1,\n2,], c = {}}", "a = \"\\\\x41\""] {
            assert_eq!(line(text), None, "{text}");
        }
    }

    #[test]
    fn an_error_names_the_line_and_shows_nothing_of_it() {
        assert_eq!(line("a = 1\n\npassword = \"canary\\q\"\n"), Some(3));
        let error = parse(b"password = \"canary\\q\"").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
        assert_eq!(parse(b"a = \"\xff\"").unwrap_err(), TomlError::NotText);
    }
}

//! Scalars in quotes.

use super::super::Fault;
use super::super::node::Style;
use super::super::token::Word;
use super::{Scanner, is_blank, is_blank_or_end, is_break};

impl Scanner {
    pub(super) fn fetch_quoted(&mut self) -> Result<(), Fault> {
        self.save_key()?;
        self.is_key_allowed = false;
        let (start, quote) = (self.place, self.at(0));
        self.skip();
        let mut text = String::new();
        loop {
            self.need(4)?;
            if self.is_document_marker('-') || self.is_document_marker('.') {
                return Err(self.fault("found unexpected document indicator in quotes"));
            }
            if self.at(0) == '\0' {
                return Err(Fault { at: start.into(), what: "a quote is not closed" });
            }
            let is_joined = self.read_line(quote, &mut text)?;
            self.need(1)?;
            if self.at(0) == quote {
                break;
            }
            self.fold_quoted(is_joined, &mut text)?;
        }
        self.skip();
        let style = if quote == '\'' { Style::SingleQuoted } else { Style::DoubleQuoted };
        self.push(Word::Scalar { text, style }, start);
        Ok(())
    }

    /// Reads up to the next blank, line end or quote. True if the line ended in `\`, which joins it with the next.
    fn read_line(&mut self, quote: char, text: &mut String) -> Result<bool, Fault> {
        self.need(2)?;
        while !is_blank_or_end(self.at(0)) {
            match self.at(0) {
                '\'' if quote == '\'' && self.at(1) == '\'' => {
                    text.push('\'');
                    self.skip();
                    self.skip();
                }
                c if c == quote => break,
                '\\' if quote == '"' && is_break(self.at(1)) => {
                    self.need(3)?;
                    self.skip();
                    self.skip_break()?;
                    return Ok(true);
                }
                '\\' if quote == '"' => self.read_escape(text)?,
                _ => self.read(text),
            }
            self.need(2)?;
        }
        Ok(false)
    }

    /// Reads blanks and line ends: one line end is a space, more are one line end less.
    fn fold_quoted(&mut self, is_joined: bool, text: &mut String) -> Result<(), Fault> {
        let (mut blanks, mut first, mut more) = (String::new(), String::new(), String::new());
        let mut has_broken = is_joined;
        while is_blank(self.at(0)) || is_break(self.at(0)) {
            if is_blank(self.at(0)) {
                if has_broken {
                    self.skip();
                } else {
                    self.read(&mut blanks);
                }
            } else if has_broken {
                self.read_break(&mut more)?;
            } else {
                blanks.clear();
                self.read_break(&mut first)?;
                has_broken = true;
            }
            self.need(1)?;
        }
        if has_broken {
            fold(&first, &more, text);
        } else {
            *text += &blanks;
        }
        Ok(())
    }

    fn read_escape(&mut self, text: &mut String) -> Result<(), Fault> {
        let digits = match self.at(1) {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        if digits == 0 {
            text.push(match self.at(1) {
                '0' => '\0',
                'a' => '\x07',
                'b' => '\x08',
                't' | '\t' => '\t',
                'n' => '\n',
                'v' => '\x0b',
                'f' => '\x0c',
                'r' => '\r',
                'e' => '\x1b',
                c @ (' ' | '"' | '\'' | '\\') => c,
                'N' => '\u{85}',
                '_' => '\u{a0}',
                'L' => '\u{2028}',
                'P' => '\u{2029}',
                _ => return Err(self.fault("unknown escape in double quotes: use single quotes, which have none")),
            });
        }
        self.skip();
        self.skip();
        if digits == 0 {
            return Ok(());
        }
        self.need(digits)?;
        let mut value: u32 = 0;
        for ahead in 0..digits {
            let Some(digit) = self.at(ahead).to_digit(16) else {
                return Err(self.fault("did not find expected hexadecimal number in an escape"));
            };
            // Eight digits fill 32 bits and no more.
            value = (value << 4) | digit;
        }
        let Some(c) = char::from_u32(value) else {
            return Err(self.fault("found invalid Unicode character escape code"));
        };
        text.push(c);
        for _ in 0..digits {
            self.skip();
        }
        Ok(())
    }
}

/// Joins two lines: `first` is the line end between them, `more` those after it.
pub(super) fn fold(first: &str, more: &str, text: &mut String) {
    if !first.starts_with('\n') {
        *text += first;
        *text += more;
    } else if more.is_empty() {
        text.push(' ');
    } else {
        *text += more;
    }
}

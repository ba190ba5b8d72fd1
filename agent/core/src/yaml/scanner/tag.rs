//! Directives (`%YAML`, `%TAG`) and tags (`!!str`).

use super::super::Fault;
use super::super::token::Word;
use super::{Scanner, is_blank, is_blank_or_end, is_break_or_end};

impl Scanner {
    pub(super) fn fetch_directive(&mut self) -> Result<(), Fault> {
        self.unroll(None);
        self.remove_key()?;
        self.is_key_allowed = false;
        let start = self.place;
        self.skip();
        self.need(1)?;
        let name = self.read_word()?;
        if name.is_empty() || !is_blank_or_end(self.at(0)) {
            return Err(self.fault("did not find expected directive name"));
        }
        self.need(1)?;
        self.skip_blanks()?;
        let word = match name.as_str() {
            "YAML" => self.scan_version()?,
            "TAG" => self.scan_shorthand()?,
            _ => return Err(self.fault("found unknown directive name")),
        };
        self.need(1)?;
        self.skip_blanks()?;
        self.skip_comment()?;
        if !is_break_or_end(self.at(0)) {
            return Err(self.fault("did not find expected comment or line break after a directive"));
        }
        self.skip_break()?;
        self.push(word, start);
        Ok(())
    }

    fn scan_version(&mut self) -> Result<Word, Fault> {
        let major = self.scan_version_number()?;
        if self.at(0) != '.' {
            return Err(self.fault("did not find expected digit or '.' character in a %YAML directive"));
        }
        self.skip();
        let minor = self.scan_version_number()?;
        Ok(Word::Version { major, minor })
    }

    fn scan_version_number(&mut self) -> Result<u32, Fault> {
        self.need(1)?;
        let mut digits = String::new();
        while self.at(0).is_ascii_digit() {
            if digits.len() == 2 {
                return Err(self.fault("found extremely long version number in a %YAML directive"));
            }
            self.read(&mut digits);
            self.need(1)?;
        }
        digits.parse().map_err(|_| self.fault("did not find expected version number in a %YAML directive"))
    }

    fn scan_shorthand(&mut self) -> Result<Word, Fault> {
        let handle = self.scan_tag_handle(true)?;
        self.need(1)?;
        if !is_blank(self.at(0)) {
            return Err(self.fault("did not find expected whitespace in a %TAG directive"));
        }
        self.skip_blanks()?;
        let prefix = self.scan_tag_uri("")?;
        if !is_blank_or_end(self.at(0)) {
            return Err(self.fault("did not find expected whitespace or line break in a %TAG directive"));
        }
        Ok(Word::TagShorthand { handle, prefix })
    }

    pub(super) fn fetch_tag(&mut self) -> Result<(), Fault> {
        self.save_key()?;
        self.is_key_allowed = false;
        let start = self.place;
        self.need(2)?;
        let (handle, suffix) = if self.at(1) == '<' {
            self.skip();
            self.skip();
            let uri = self.scan_tag_uri("")?;
            if self.at(0) != '>' {
                return Err(self.fault("did not find the expected '>' of a tag"));
            }
            self.skip();
            (String::new(), uri)
        } else {
            let handle = self.scan_tag_handle(false)?;
            if handle.len() > 1 && handle.ends_with('!') {
                let suffix = self.scan_tag_uri("")?;
                (handle, suffix)
            } else {
                let suffix = self.scan_tag_uri(&handle)?;
                // `!` alone is no shorthand: it is the tag itself.
                if suffix.is_empty() { (suffix, "!".to_owned()) } else { ("!".to_owned(), suffix) }
            }
        };
        self.need(1)?;
        if !is_blank_or_end(self.at(0)) {
            return Err(self.fault("did not find expected whitespace or line break after a tag"));
        }
        self.push(Word::Tag { handle, suffix }, start);
        Ok(())
    }

    fn scan_tag_handle(&mut self, is_directive: bool) -> Result<String, Fault> {
        self.need(1)?;
        if self.at(0) != '!' {
            return Err(self.fault("did not find expected '!' of a tag"));
        }
        let mut handle = String::new();
        self.read(&mut handle);
        self.need(1)?;
        handle += &self.read_word()?;
        if self.at(0) == '!' {
            self.read(&mut handle);
        } else if is_directive && handle != "!" {
            return Err(self.fault("did not find expected '!' of a tag"));
        }
        Ok(handle)
    }

    /// Reads the rest of a tag. `head` is what was taken for its handle: its letters belong to the rest.
    fn scan_tag_uri(&mut self, head: &str) -> Result<String, Fault> {
        let mut bytes = head.bytes().skip(1).collect::<Vec<_>>();
        let mut is_there = !head.is_empty();
        self.need(1)?;
        loop {
            match self.at(0) {
                '%' => self.scan_escapes(&mut bytes)?,
                c if super::is_word(c) || ";/?:@&=+$,.!~*'()[]".contains(c) => {
                    bytes.push(c as u8);
                    self.skip();
                }
                _ => break,
            }
            self.need(1)?;
            is_there = true;
        }
        if !is_there {
            return Err(self.fault("did not find expected tag URI"));
        }
        // Only compared with tags that are ASCII.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// `%C3%A9`: one character.
    fn scan_escapes(&mut self, bytes: &mut Vec<u8>) -> Result<(), Fault> {
        let mut left = None;
        while left != Some(0) {
            self.need(3)?;
            let digits = (self.at(1).to_digit(16), self.at(2).to_digit(16));
            let ('%', (Some(high), Some(low))) = (self.at(0), digits) else {
                return Err(self.fault("did not find URI escaped octet in a tag"));
            };
            let octet = (high * 16 + low) as u8;
            left = Some(match (left, octet) {
                (None, 0x00..=0x7f) => 0,
                (None, 0xc0..=0xdf) => 1,
                (None, 0xe0..=0xef) => 2,
                (None, 0xf0..=0xf7) => 3,
                (Some(left), 0x80..=0xbf) => left - 1,
                _ => return Err(self.fault("found an incorrect UTF-8 octet in a tag")),
            });
            bytes.push(octet);
            for _ in 0..3 {
                self.skip();
            }
        }
        Ok(())
    }
}

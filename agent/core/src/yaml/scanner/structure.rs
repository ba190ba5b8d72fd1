//! Tokens that structure a text: indentation, brackets, entries, keys and document markers.

use super::super::Fault;
use super::super::token::{Place, Token, Word};
use super::{DEEPEST, Scanner, SimpleKey};

impl Scanner {
    /// Remembers that the next token may be a key.
    pub(super) fn save_key(&mut self) -> Result<(), Fault> {
        if !self.is_key_allowed {
            return Ok(());
        }
        self.remove_key()?;
        let key = SimpleKey {
            is_possible: true,
            is_required: !self.in_flow() && self.indent == Some(self.place.column),
            token: self.taken + self.tokens.len(),
            place: self.place,
        };
        let level = self.keys.len() - 1;
        self.keys[level] = key;
        self.levels.insert(key.token, level);
        Ok(())
    }

    pub(super) fn remove_key(&mut self) -> Result<(), Fault> {
        if let Some(key) = self.keys.last_mut()
            && key.is_possible
        {
            key.give_up()?;
            self.levels.remove(&key.token);
        }
        Ok(())
    }

    /// Starts a block collection if this column is deeper than the last. `before` is the number of the token that the
    /// start must stand in front of.
    fn roll(&mut self, column: usize, before: Option<usize>, word: Word, place: Place) -> Result<(), Fault> {
        if self.in_flow() || self.indent.is_some_and(|indent| indent >= column) {
            return Ok(());
        }
        self.indents.push(self.indent);
        self.indent = Some(column);
        if self.indents.len() > DEEPEST {
            return Err(self.fault("exceeded max depth of 10000"));
        }
        let token = Token { word, start: place };
        match before {
            Some(number) => self.insert(number, token),
            None => self.tokens.push_back(token),
        }
        Ok(())
    }

    /// Puts a token in front of the one of this number. One that was already taken cannot be preceded any more: yaml.v2
    /// appends then, which happens behind an empty `[]` or `{}` as key.
    fn insert(&mut self, number: usize, token: Token) {
        match number.checked_sub(self.taken) {
            Some(at) if at < self.tokens.len() => self.tokens.insert(at, token),
            _ => self.tokens.push_back(token),
        }
    }

    /// Ends the block collections that are deeper than this column; all of them for `None`.
    pub(super) fn unroll(&mut self, column: Option<usize>) {
        if self.in_flow() {
            return;
        }
        // `None` is less than any column.
        while self.indent > column {
            self.push(Word::BlockEnd, self.place);
            self.indent = self.indents.pop().unwrap_or(None);
        }
    }

    pub(super) fn fetch_end(&mut self) -> Result<(), Fault> {
        if self.place.column != 0 {
            self.place.column = 0;
            self.place.line += 1;
        }
        self.unroll(None);
        self.remove_key()?;
        self.is_key_allowed = false;
        self.push(Word::StreamEnd, self.place);
        Ok(())
    }

    pub(super) fn fetch_document_marker(&mut self, word: Word) -> Result<(), Fault> {
        self.unroll(None);
        self.remove_key()?;
        self.is_key_allowed = false;
        let start = self.place;
        for _ in 0..3 {
            self.skip();
        }
        self.push(word, start);
        Ok(())
    }

    pub(super) fn fetch_flow_start(&mut self, word: Word) -> Result<(), Fault> {
        self.save_key()?;
        let token = self.taken + self.tokens.len();
        self.keys.push(SimpleKey { is_possible: false, is_required: false, token, place: self.place });
        if self.keys.len() > DEEPEST + 1 {
            return Err(self.fault("exceeded max depth of 10000"));
        }
        self.is_key_allowed = true;
        self.push_one(word);
        Ok(())
    }

    pub(super) fn fetch_flow_end(&mut self, word: Word) -> Result<(), Fault> {
        self.remove_key()?;
        if self.in_flow()
            && let Some(key) = self.keys.pop()
        {
            self.levels.remove(&key.token);
        }
        self.is_key_allowed = false;
        self.push_one(word);
        Ok(())
    }

    pub(super) fn fetch_flow_entry(&mut self) -> Result<(), Fault> {
        self.remove_key()?;
        self.is_key_allowed = true;
        self.push_one(Word::FlowEntry);
        Ok(())
    }

    pub(super) fn fetch_block_entry(&mut self) -> Result<(), Fault> {
        if !self.in_flow() {
            if !self.is_key_allowed {
                return Err(self.fault("block sequence entries are not allowed in this context"));
            }
            self.roll(self.place.column, None, Word::BlockSequenceStart, self.place)?;
        }
        self.remove_key()?;
        self.is_key_allowed = true;
        self.push_one(Word::BlockEntry);
        Ok(())
    }

    pub(super) fn fetch_key(&mut self) -> Result<(), Fault> {
        if !self.in_flow() {
            if !self.is_key_allowed {
                return Err(self.fault("mapping keys are not allowed in this context"));
            }
            self.roll(self.place.column, None, Word::BlockMappingStart, self.place)?;
        }
        self.remove_key()?;
        self.is_key_allowed = !self.in_flow();
        self.push_one(Word::Key);
        Ok(())
    }

    pub(super) fn fetch_value(&mut self) -> Result<(), Fault> {
        let level = self.keys.len() - 1;
        if self.is_still_a_key(level)? {
            let SimpleKey { token, place, .. } = self.keys[level];
            self.insert(token, Token { word: Word::Key, start: place });
            self.roll(place.column, Some(token), Word::BlockMappingStart, place)?;
            self.keys[level].is_possible = false;
            self.levels.remove(&token);
            self.is_key_allowed = false;
        } else {
            if !self.in_flow() {
                if !self.is_key_allowed {
                    return Err(self.fault("mapping values are not allowed in this context"));
                }
                self.roll(self.place.column, None, Word::BlockMappingStart, self.place)?;
            }
            self.is_key_allowed = !self.in_flow();
        }
        self.push_one(Word::Value);
        Ok(())
    }

    pub(super) fn fetch_anchor(&mut self) -> Result<(), Fault> {
        self.save_key()?;
        self.is_key_allowed = false;
        let (start, is_alias) = (self.place, self.at(0) == '*');
        self.skip();
        self.need(1)?;
        let name = self.read_word()?;
        let follows = self.at(0);
        let is_ended =
            super::is_blank_or_end(follows) || matches!(follows, '?' | ':' | ',' | ']' | '}' | '%' | '@' | '`');
        if name.is_empty() || !is_ended {
            return Err(self.fault(
                "an alias or anchor needs a name of letters and digits: put text that starts with '*' or '&' in quotes",
            ));
        }
        self.push(if is_alias { Word::Alias(name) } else { Word::Anchor(name) }, start);
        Ok(())
    }

    pub(super) fn read_word(&mut self) -> Result<String, Fault> {
        let mut name = String::new();
        while super::is_word(self.at(0)) {
            self.read(&mut name);
            self.need(1)?;
        }
        Ok(name)
    }

    fn push_one(&mut self, word: Word) {
        let start = self.place;
        self.skip();
        self.push(word, start);
    }
}

//! Cuts text into tokens just as libyaml in gopkg.in/yaml.v2 does, peculiarities included.
//!
//! The one difficulty of YAML is that `a` is found to be a key only when the `:` comes. So each token that may start a
//! key is remembered, one per level of brackets, and `Key` (and the start of a mapping) is put in front of it later.

mod quoted;
mod scalar;
mod structure;
mod tag;

use std::collections::{BTreeMap, VecDeque};

use super::Fault;
use super::source::Source;
use super::token::{Place, Token, Word};

/// How deep brackets, or indentation, may be nested.
const DEEPEST: usize = 10_000;
/// How far from its start the `:` of a key may be.
const LONGEST_KEY: usize = 1024;

/// A token that may turn out to be a key.
#[derive(Clone, Copy, Debug, Default)]
struct SimpleKey {
    is_possible: bool,
    /// It stands where nothing but a key may stand.
    is_required: bool,
    token: usize,
    place: Place,
}

impl SimpleKey {
    /// The `:` did not come in time.
    fn give_up(&mut self) -> Result<(), Fault> {
        if self.is_possible && self.is_required {
            return Err(Fault { at: self.place.into(), what: "could not find expected ':'" });
        }
        self.is_possible = false;
        Ok(())
    }
}

pub(super) struct Scanner {
    source: Source,
    place: Place,
    tokens: VecDeque<Token>,
    /// Tokens that were taken from the front.
    taken: usize,
    is_ready: bool,
    has_started: bool,
    indent: Option<usize>,
    indents: Vec<Option<usize>>,
    /// One for each level of brackets, and one outside.
    keys: Vec<SimpleKey>,
    /// Token number to level of brackets. As in yaml.v2 an entry may outlive its key.
    levels: BTreeMap<usize, usize>,
    is_key_allowed: bool,
}

impl Scanner {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            place: Place::default(),
            tokens: VecDeque::new(),
            taken: 0,
            is_ready: false,
            has_started: false,
            indent: None,
            indents: Vec::new(),
            keys: vec![SimpleKey::default()],
            levels: BTreeMap::new(),
            is_key_allowed: true,
        }
    }

    /// The next token, which stays.
    pub(super) fn peek(&mut self) -> Result<&Token, Fault> {
        if !self.is_ready {
            self.fetch_until_decided()?;
            self.is_ready = true;
        }
        let fault = self.fault("the text ended");
        self.tokens.front().ok_or(fault)
    }

    /// Takes the token that was peeked at.
    pub(super) fn take(&mut self) -> Option<Token> {
        self.is_ready = false;
        self.taken += 1;
        self.tokens.pop_front()
    }

    /// Fetches until the first token can no longer be a key.
    fn fetch_until_decided(&mut self) -> Result<(), Fault> {
        loop {
            if !self.tokens.is_empty() {
                match self.levels.get(&self.taken).copied() {
                    None => return Ok(()),
                    Some(level) if !self.is_still_a_key(level)? => return Ok(()),
                    Some(_) => {}
                }
            }
            self.fetch()?;
        }
    }

    fn is_still_a_key(&mut self, level: usize) -> Result<bool, Fault> {
        let place = self.place;
        let fault = self.fault("could not find expected ':'");
        let Some(key) = self.keys.get_mut(level) else {
            // Go would panic here: k3s does not survive that either.
            return Err(fault);
        };
        if key.is_possible && (key.place.line < place.line || key.place.index + LONGEST_KEY < place.index) {
            key.give_up()?;
        }
        Ok(key.is_possible)
    }

    fn fetch(&mut self) -> Result<(), Fault> {
        self.need(1)?;
        if !self.has_started {
            self.has_started = true;
            self.push(Word::StreamStart, self.place);
            return Ok(());
        }
        self.skip_to_token()?;
        self.unroll(Some(self.place.column));
        self.need(4)?;
        let in_flow = self.in_flow();
        let blank_follows = is_blank_or_end(self.at(1));
        match self.at(0) {
            '\0' => self.fetch_end(),
            '%' if self.place.column == 0 => self.fetch_directive(),
            '-' if self.is_document_marker('-') => self.fetch_document_marker(Word::DocumentStart),
            '.' if self.is_document_marker('.') => self.fetch_document_marker(Word::DocumentEnd),
            '[' => self.fetch_flow_start(Word::FlowSequenceStart),
            '{' => self.fetch_flow_start(Word::FlowMappingStart),
            ']' => self.fetch_flow_end(Word::FlowSequenceEnd),
            '}' => self.fetch_flow_end(Word::FlowMappingEnd),
            ',' => self.fetch_flow_entry(),
            '-' if blank_follows => self.fetch_block_entry(),
            '?' if in_flow || blank_follows => self.fetch_key(),
            ':' if in_flow || blank_follows => self.fetch_value(),
            '*' | '&' => self.fetch_anchor(),
            '!' => self.fetch_tag(),
            '|' | '>' if !in_flow => self.fetch_block_scalar(),
            '\'' | '"' => self.fetch_quoted(),
            '\t' => Err(self.fault("a tab where the indentation must be spaces")),
            '|' | '>' | '#' | '%' | '@' | '`' => Err(self.fault("found character that cannot start any token")),
            _ => self.fetch_plain(),
        }
    }

    fn is_document_marker(&self, c: char) -> bool {
        self.place.column == 0 && (0..3).all(|ahead| self.at(ahead) == c) && is_blank_or_end(self.at(3))
    }

    fn skip_to_token(&mut self) -> Result<(), Fault> {
        loop {
            self.need(1)?;
            if self.place.column == 0 && self.source.window_starts_with_mark() {
                self.skip();
            }
            self.need(1)?;
            while self.at(0) == ' ' || ((self.in_flow() || !self.is_key_allowed) && self.at(0) == '\t') {
                self.skip();
                self.need(1)?;
            }
            self.skip_comment()?;
            if !is_break(self.at(0)) {
                return Ok(());
            }
            self.skip_break()?;
            if !self.in_flow() {
                self.is_key_allowed = true;
            }
        }
    }

    fn skip_comment(&mut self) -> Result<(), Fault> {
        if self.at(0) == '#' {
            while !is_break_or_end(self.at(0)) {
                self.skip();
                self.need(1)?;
            }
        }
        Ok(())
    }

    fn skip_blanks(&mut self) -> Result<(), Fault> {
        while is_blank(self.at(0)) {
            self.skip();
            self.need(1)?;
        }
        Ok(())
    }

    fn need(&mut self, count: usize) -> Result<(), Fault> {
        self.source.need(self.place.index, count)
    }

    fn at(&self, ahead: usize) -> char {
        self.source.get(self.place.index + ahead)
    }

    fn skip(&mut self) {
        self.place.index += 1;
        self.place.column += 1;
    }

    fn read(&mut self, into: &mut String) {
        into.push(self.at(0));
        self.skip();
    }

    fn skip_break(&mut self) -> Result<(), Fault> {
        self.read_break(&mut String::new())
    }

    /// Reads a line end: `\n`, whatever it was, but for the two that Unicode has.
    fn read_break(&mut self, into: &mut String) -> Result<(), Fault> {
        self.need(2)?;
        let c = self.at(0);
        if !is_break(c) {
            return Ok(());
        }
        into.push(if matches!(c, '\u{2028}' | '\u{2029}') { c } else { '\n' });
        self.place.index += if c == '\r' && self.at(1) == '\n' { 2 } else { 1 };
        self.place.line += 1;
        self.place.column = 0;
        Ok(())
    }

    fn in_flow(&self) -> bool {
        self.keys.len() > 1
    }

    fn push(&mut self, word: Word, start: Place) {
        self.tokens.push_back(Token { word, start });
    }

    fn fault(&self, what: &'static str) -> Fault {
        Fault { at: self.place.into(), what }
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_break_or_end(c: char) -> bool {
    is_break(c) || c == '\0'
}

fn is_blank_or_end(c: char) -> bool {
    is_blank(c) || is_break_or_end(c)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

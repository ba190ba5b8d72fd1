//! Scalars without quotes: plain ones and blocks (`|`, `>`).

use super::super::Fault;
use super::super::node::Style;
use super::super::token::Word;
use super::quoted::fold;
use super::{Scanner, is_blank, is_blank_or_end, is_break, is_break_or_end};

/// What becomes of the line ends at the end of a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chomp {
    Strip,
    Clip,
    Keep,
}

impl Scanner {
    pub(super) fn fetch_plain(&mut self) -> Result<(), Fault> {
        self.save_key()?;
        self.is_key_allowed = false;
        let start = self.place;
        let indent = self.indent.map_or(0, |indent| indent + 1);
        let mut text = String::new();
        let (mut blanks, mut first, mut more) = (String::new(), String::new(), String::new());
        let mut has_broken = false;
        loop {
            self.need(4)?;
            if self.is_document_marker('-') || self.is_document_marker('.') || self.at(0) == '#' {
                break;
            }
            while !is_blank_or_end(self.at(0)) && !self.ends_plain() {
                if has_broken {
                    fold(&first, &more, &mut text);
                    first.clear();
                    more.clear();
                    has_broken = false;
                } else {
                    text += &blanks;
                }
                blanks.clear();
                self.read(&mut text);
                self.need(2)?;
            }
            if !(is_blank(self.at(0)) || is_break(self.at(0))) {
                break;
            }
            self.need(1)?;
            while is_blank(self.at(0)) || is_break(self.at(0)) {
                if is_blank(self.at(0)) {
                    if has_broken && self.place.column < indent && self.at(0) == '\t' {
                        return Err(self.fault("a tab where the indentation must be spaces"));
                    }
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
            if !self.in_flow() && self.place.column < indent {
                break;
            }
        }
        if has_broken {
            self.is_key_allowed = true;
        }
        self.push(Word::Scalar { text, style: Style::Plain }, start);
        Ok(())
    }

    fn ends_plain(&self) -> bool {
        match self.at(0) {
            ':' => is_blank_or_end(self.at(1)),
            ',' | '?' | '[' | ']' | '{' | '}' => self.in_flow(),
            _ => false,
        }
    }

    pub(super) fn fetch_block_scalar(&mut self) -> Result<(), Fault> {
        self.remove_key()?;
        self.is_key_allowed = true;
        let (start, is_literal) = (self.place, self.at(0) == '|');
        self.skip();
        let (chomp, increment) = self.read_block_header()?;
        let mut indent = increment.map(|increment| self.indent.unwrap_or(0) + increment);
        let mut text = String::new();
        let (mut first, mut more) = (String::new(), String::new());
        self.skip_block_breaks(&mut indent, &mut more)?;
        self.need(1)?;
        let mut was_blank = false;
        while Some(self.place.column) == indent && self.at(0) != '\0' {
            let is_blank_line = is_blank(self.at(0));
            if !is_literal && !was_blank && !is_blank_line && first.starts_with('\n') {
                if more.is_empty() {
                    text.push(' ');
                }
            } else {
                text += &first;
            }
            first.clear();
            text += &more;
            more.clear();
            was_blank = is_blank_line;
            while !is_break_or_end(self.at(0)) {
                self.read(&mut text);
                self.need(1)?;
            }
            self.read_break(&mut first)?;
            self.skip_block_breaks(&mut indent, &mut more)?;
        }
        if chomp != Chomp::Strip {
            text += &first;
        }
        if chomp == Chomp::Keep {
            text += &more;
        }
        self.push(Word::Scalar { text, style: if is_literal { Style::Literal } else { Style::Folded } }, start);
        Ok(())
    }

    fn read_block_header(&mut self) -> Result<(Chomp, Option<usize>), Fault> {
        self.need(1)?;
        // The two stand in either order, each once.
        let (mut chomp, increment) = (self.read_chomp()?, self.read_increment()?);
        if chomp.is_none() && increment.is_some() {
            chomp = self.read_chomp()?;
        }
        self.need(1)?;
        self.skip_blanks()?;
        self.skip_comment()?;
        if !is_break_or_end(self.at(0)) {
            return Err(self.fault("did not find expected comment or line break after '|' or '>'"));
        }
        self.skip_break()?;
        Ok((chomp.unwrap_or(Chomp::Clip), increment))
    }

    fn read_chomp(&mut self) -> Result<Option<Chomp>, Fault> {
        let chomp = match self.at(0) {
            '+' => Chomp::Keep,
            '-' => Chomp::Strip,
            _ => return Ok(None),
        };
        self.skip();
        self.need(1)?;
        Ok(Some(chomp))
    }

    fn read_increment(&mut self) -> Result<Option<usize>, Fault> {
        let Some(digit) = self.at(0).to_digit(10) else { return Ok(None) };
        if digit == 0 {
            return Err(self.fault("found an indentation indicator equal to 0"));
        }
        self.skip();
        self.need(1)?;
        Ok(Some(digit as usize))
    }

    /// Skips indentation and empty lines; finds out the indentation if it is not known yet.
    fn skip_block_breaks(&mut self, indent: &mut Option<usize>, breaks: &mut String) -> Result<(), Fault> {
        let mut deepest = 0;
        loop {
            self.need(1)?;
            while indent.is_none_or(|indent| self.place.column < indent) && self.at(0) == ' ' {
                self.skip();
                self.need(1)?;
            }
            deepest = deepest.max(self.place.column);
            if indent.is_none_or(|indent| self.place.column < indent) && self.at(0) == '\t' {
                return Err(self.fault("a tab where the indentation must be spaces"));
            }
            if !is_break(self.at(0)) {
                break;
            }
            self.read_break(breaks)?;
        }
        if indent.is_none() {
            *indent = Some(deepest.max(self.indent.map_or(0, |indent| indent + 1)).max(1));
        }
        Ok(())
    }
}

//! The grammar: which token may follow which. A machine with a stack of states, one event at a time.

use super::{Fault, Place, Scalar, Scanner, Style, Token, Word};
use crate::registries::document::Mark;

/// The namespace of `!!str` and its like.
const STANDARD_TAGS: &str = "tag:yaml.org,2002:";

pub(super) struct Event {
    pub(super) what: What,
    pub(super) start: Place,
    pub(super) anchor: Option<String>,
}

pub(super) enum What {
    DocumentEnd,
    Alias(String),
    Scalar(Scalar),
    SequenceStart,
    MappingStart,
    /// Of a sequence or a mapping.
    CollectionEnd,
}

impl What {
    pub(super) fn at(self, start: Place) -> Event {
        Event { what: self, start, anchor: None }
    }
}

/// What is expected next.
#[derive(Clone, Copy)]
pub(super) enum State {
    Content,
    Node,
    DocumentEnd,
    BlockItem,
    IndentlessItem,
    BlockKey,
    BlockValue,
    FlowItem { is_first: bool },
    FlowPairKey,
    FlowPairValue,
    FlowPairEnd,
    FlowKey { is_first: bool },
    FlowValue,
    FlowNoValue,
}

pub(super) struct Grammar {
    scanner: Scanner,
    pub(super) state: State,
    pub(super) states: Vec<State>,
    shorthands: Vec<(String, String)>,
}

impl Grammar {
    pub(super) fn new(scanner: Scanner) -> Self {
        Self { scanner, state: State::Node, states: vec![State::DocumentEnd], shorthands: Vec::new() }
    }

    /// Reads up to the first document. False if there is none.
    pub(super) fn start(&mut self) -> Result<bool, Fault> {
        self.skip()?;
        match self.peek()?.word {
            Word::StreamEnd => return Ok(false),
            Word::Version { .. } | Word::TagShorthand { .. } | Word::DocumentStart => {
                self.directives()?;
                let token = self.peek()?;
                if token.word != Word::DocumentStart {
                    return Err(fault(token, "did not find expected <document start> ('---')"));
                }
                self.skip()?;
                self.state = State::Content;
            }
            _ => self.directives()?,
        }
        Ok(true)
    }

    /// Where something follows the document, whose end was the last event.
    pub(super) fn next_document(&mut self) -> Option<Mark> {
        loop {
            match self.peek() {
                Ok(token) => match token.word {
                    Word::DocumentEnd => self.skip().ok()?,
                    Word::StreamEnd => return None,
                    _ => return Some(token.start.into()),
                },
                Err(fault) => return Some(fault.at),
            };
        }
    }

    fn directives(&mut self) -> Result<(), Fault> {
        let mut has_version = false;
        loop {
            let token = self.peek()?;
            match &token.word {
                Word::Version { .. } if has_version => return Err(fault(token, "found duplicate %YAML directive")),
                Word::Version { major: 1, minor: 1 } => has_version = true,
                Word::Version { .. } => {
                    return Err(fault(token, "k3s reads YAML 1.1 only: leave the %YAML line out"));
                }
                Word::TagShorthand { handle, prefix } => {
                    let (handle, prefix) = (handle.clone(), prefix.clone());
                    if self.shorthands.iter().any(|(known, _)| *known == handle) {
                        return Err(fault(self.peek()?, "found duplicate %TAG directive"));
                    }
                    self.shorthands.push((handle, prefix));
                }
                _ => break,
            }
            self.skip()?;
        }
        for (handle, prefix) in [("!", "!"), ("!!", STANDARD_TAGS)] {
            if self.shorthands.iter().all(|(known, _)| known != handle) {
                self.shorthands.push((handle.to_owned(), prefix.to_owned()));
            }
        }
        Ok(())
    }

    pub(super) fn next(&mut self) -> Result<Event, Fault> {
        match self.state {
            State::Content => self.content(),
            State::Node => self.node(true, false),
            State::DocumentEnd => {
                let token = self.peek()?;
                let (start, is_marked) = (token.start, token.word == Word::DocumentEnd);
                if is_marked {
                    self.skip()?;
                }
                Ok(What::DocumentEnd.at(start))
            }
            State::BlockItem => self.block_item(),
            State::IndentlessItem => self.indentless_item(),
            State::BlockKey => self.block_key(),
            State::BlockValue => self.block_value(),
            State::FlowItem { is_first } => self.flow_item(is_first),
            State::FlowPairKey => self.flow_pair_key(),
            State::FlowPairValue => self.flow_pair_value(),
            State::FlowPairEnd => {
                self.state = State::FlowItem { is_first: false };
                Ok(What::CollectionEnd.at(self.peek()?.start))
            }
            State::FlowKey { is_first } => self.flow_key(is_first),
            State::FlowValue => self.flow_value(),
            State::FlowNoValue => self.nothing(State::FlowKey { is_first: false }),
        }
    }

    fn content(&mut self) -> Result<Event, Fault> {
        match self.peek()?.word {
            Word::Version { .. }
            | Word::TagShorthand { .. }
            | Word::DocumentStart
            | Word::DocumentEnd
            | Word::StreamEnd => {
                let state = self.pop();
                self.nothing(state)
            }
            _ => self.node(true, false),
        }
    }

    pub(super) fn node(&mut self, is_block: bool, may_be_indentless: bool) -> Result<Event, Fault> {
        let start = self.peek()?.start;
        if let Word::Alias(name) = &self.peek()?.word {
            let what = What::Alias(name.clone());
            self.skip()?;
            self.state = self.pop();
            return Ok(what.at(start));
        }
        let (anchor, tag) = self.properties()?;
        let token = self.peek()?;
        let event = |what| Ok(Event { what, start, anchor: anchor.clone() });
        match &token.word {
            Word::BlockEntry if may_be_indentless => {
                self.state = State::IndentlessItem;
                event(What::SequenceStart)
            }
            Word::Scalar { text, style } => {
                let is_plain = tag == "!" || (tag.is_empty() && *style == Style::Plain);
                let scalar = Scalar { text: text.clone(), tag, is_plain, style: *style };
                self.skip()?;
                self.state = self.pop();
                event(What::Scalar(scalar))
            }
            Word::FlowSequenceStart => {
                self.skip()?;
                self.state = State::FlowItem { is_first: true };
                event(What::SequenceStart)
            }
            Word::FlowMappingStart => {
                self.skip()?;
                self.state = State::FlowKey { is_first: true };
                event(What::MappingStart)
            }
            Word::BlockSequenceStart if is_block => {
                self.skip()?;
                self.state = State::BlockItem;
                event(What::SequenceStart)
            }
            Word::BlockMappingStart if is_block => {
                self.skip()?;
                self.state = State::BlockKey;
                event(What::MappingStart)
            }
            _ if anchor.is_some() || !tag.is_empty() => {
                self.state = self.pop();
                let is_plain = tag.is_empty();
                event(What::Scalar(Scalar { text: String::new(), tag, is_plain, style: Style::Plain }))
            }
            _ => Err(fault(token, "did not find expected node content")),
        }
    }

    /// An anchor and a tag, in either order.
    fn properties(&mut self) -> Result<(Option<String>, String), Fault> {
        let (mut anchor, mut tag) = (None, None);
        for _ in 0..2 {
            let token = self.peek()?;
            match &token.word {
                Word::Anchor(name) if anchor.is_none() => anchor = Some(name.clone()),
                Word::Tag { handle, suffix } if tag.is_none() => {
                    tag = Some((handle.clone(), suffix.clone(), fault(token, "found undefined tag handle")));
                }
                _ => break,
            }
            self.skip()?;
        }
        let tag = match tag {
            None => String::new(),
            Some((handle, suffix, _)) if handle.is_empty() => suffix,
            Some((handle, suffix, undefined)) => {
                let prefix = self.shorthands.iter().find(|(known, _)| *known == handle).map(|(_, prefix)| prefix);
                format!("{}{suffix}", prefix.ok_or(undefined)?)
            }
        };
        Ok((anchor, tag))
    }

    fn block_item(&mut self) -> Result<Event, Fault> {
        let token = self.peek()?;
        match token.word {
            Word::BlockEntry => {
                self.skip()?;
                match self.peek()?.word {
                    Word::BlockEntry | Word::BlockEnd => self.nothing(State::BlockItem),
                    _ => {
                        self.states.push(State::BlockItem);
                        self.node(true, false)
                    }
                }
            }
            Word::BlockEnd => self.end_and_skip(),
            _ => Err(fault(token, "did not find expected '-' indicator")),
        }
    }

    fn indentless_item(&mut self) -> Result<Event, Fault> {
        let token = self.peek()?;
        if token.word != Word::BlockEntry {
            let start = token.start;
            self.state = self.pop();
            return Ok(What::CollectionEnd.at(start));
        }
        self.skip()?;
        match self.peek()?.word {
            Word::BlockEntry | Word::Key | Word::Value | Word::BlockEnd => self.nothing(State::IndentlessItem),
            _ => {
                self.states.push(State::IndentlessItem);
                self.node(true, false)
            }
        }
    }

    fn block_key(&mut self) -> Result<Event, Fault> {
        let token = self.peek()?;
        match token.word {
            Word::Key => {
                self.skip()?;
                self.block_entry(State::BlockValue)
            }
            Word::BlockEnd => self.end_and_skip(),
            _ => Err(fault(token, "did not find expected key")),
        }
    }

    fn block_value(&mut self) -> Result<Event, Fault> {
        match self.peek()?.word {
            Word::Value => {
                self.skip()?;
                self.block_entry(State::BlockKey)
            }
            _ => self.nothing(State::BlockKey),
        }
    }

    /// A key or a value, which may be missing.
    fn block_entry(&mut self, then: State) -> Result<Event, Fault> {
        match self.peek()?.word {
            Word::Key | Word::Value | Word::BlockEnd => self.nothing(then),
            _ => {
                self.states.push(then);
                self.node(true, true)
            }
        }
    }

    /// A key, value or item that is not there: null.
    pub(super) fn nothing(&mut self, then: State) -> Result<Event, Fault> {
        self.state = then;
        Ok(empty(self.peek()?.start))
    }

    pub(super) fn end_and_skip(&mut self) -> Result<Event, Fault> {
        let start = self.peek()?.start;
        self.skip()?;
        self.state = self.pop();
        Ok(What::CollectionEnd.at(start))
    }

    fn pop(&mut self) -> State {
        // The document's end is pushed first and popped last.
        self.states.pop().unwrap_or(State::DocumentEnd)
    }

    pub(super) fn peek(&mut self) -> Result<&Token, Fault> {
        self.scanner.peek()
    }

    pub(super) fn skip(&mut self) -> Result<(), Fault> {
        self.scanner.peek()?;
        self.scanner.take();
        Ok(())
    }
}

pub(super) fn empty(start: Place) -> Event {
    What::Scalar(Scalar { text: String::new(), tag: String::new(), is_plain: true, style: Style::Plain }).at(start)
}

pub(super) fn fault(token: &Token, what: &'static str) -> Fault {
    Fault { at: token.start.into(), what }
}

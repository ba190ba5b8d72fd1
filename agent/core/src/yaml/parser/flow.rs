//! The part of the grammar that stands in brackets.

use super::grammar::{Event, Grammar, State, What, empty, fault};
use super::{Fault, Place, Word};

impl Grammar {
    pub(super) fn flow_item(&mut self, is_first: bool) -> Result<Event, Fault> {
        let mut token = self.peek()?;
        if !is_first && token.word != Word::FlowSequenceEnd {
            if token.word != Word::FlowEntry {
                return Err(fault(token, "did not find expected ',' or ']'"));
            }
            self.skip()?;
            token = self.peek()?;
        }
        match token.word {
            Word::FlowSequenceEnd => self.end_and_skip(),
            Word::Key => {
                let start = token.start;
                self.skip()?;
                self.state = State::FlowPairKey;
                Ok(What::MappingStart.at(start))
            }
            _ => {
                self.states.push(State::FlowItem { is_first: false });
                self.node(false, false)
            }
        }
    }

    pub(super) fn flow_pair_key(&mut self) -> Result<Event, Fault> {
        match self.peek()?.word {
            Word::Value | Word::FlowEntry | Word::FlowSequenceEnd => {
                // yaml.v2 takes the token away here, though it belongs to what follows.
                self.skip()?;
                self.state = State::FlowPairValue;
                Ok(empty(Place::default()))
            }
            _ => {
                self.states.push(State::FlowPairValue);
                self.node(false, false)
            }
        }
    }

    pub(super) fn flow_pair_value(&mut self) -> Result<Event, Fault> {
        if self.peek()?.word == Word::Value {
            self.skip()?;
            if !matches!(self.peek()?.word, Word::FlowEntry | Word::FlowSequenceEnd) {
                self.states.push(State::FlowPairEnd);
                return self.node(false, false);
            }
        }
        self.nothing(State::FlowPairEnd)
    }

    pub(super) fn flow_key(&mut self, is_first: bool) -> Result<Event, Fault> {
        let mut token = self.peek()?;
        if !is_first && token.word != Word::FlowMappingEnd {
            if token.word != Word::FlowEntry {
                return Err(fault(token, "did not find expected ',' or '}'"));
            }
            self.skip()?;
            token = self.peek()?;
        }
        match token.word {
            Word::FlowMappingEnd => self.end_and_skip(),
            Word::Key => {
                self.skip()?;
                match self.peek()?.word {
                    Word::Value | Word::FlowEntry | Word::FlowMappingEnd => self.nothing(State::FlowValue),
                    _ => {
                        self.states.push(State::FlowValue);
                        self.node(false, false)
                    }
                }
            }
            _ => {
                self.states.push(State::FlowNoValue);
                self.node(false, false)
            }
        }
    }

    pub(super) fn flow_value(&mut self) -> Result<Event, Fault> {
        let then = State::FlowKey { is_first: false };
        if self.peek()?.word == Word::Value {
            self.skip()?;
            if !matches!(self.peek()?.word, Word::FlowEntry | Word::FlowMappingEnd) {
                self.states.push(then);
                return self.node(false, false);
            }
        }
        self.nothing(then)
    }
}

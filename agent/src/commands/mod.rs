//! The commands: they read, ask the core, and write what it says.

pub mod agent;
pub mod apply;
pub mod coordinator;
pub mod diff;
pub mod explain;
pub mod import;
pub mod lint;
pub mod operate;
pub mod plan;
pub mod probe;
mod probing;
pub mod render;
pub mod session;
mod sources;
pub mod status;

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::Value;

use crate::args::Output;

/// How a command ended. The codes are documented in `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// Done, or nothing to do.
    Done,
    /// A fault.
    Fault,
    /// Input refused.
    Refused,
    /// A restart is needed and was not done.
    RestartLeft,
    /// Not every node is Current.
    NotCurrent,
    /// A registry is not as it should be.
    RegistryFault,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(match code {
            Code::Done => 0,
            Code::Fault => 1,
            Code::Refused => 2,
            Code::RestartLeft | Code::NotCurrent => 3,
            Code::RegistryFault => 4,
        })
    }
}

/// What a command says.
#[derive(Debug)]
pub struct Answer {
    /// For people.
    pub text: String,
    /// For programs.
    pub json: Value,
    /// How it ended.
    pub code: Code,
}

impl Answer {
    /// In the form that was asked for, with a line break at its end.
    pub fn show(&self, output: Output) -> String {
        let mut shown = match output {
            Output::Text => self.text.clone(),
            Output::Json => serde_json::to_string_pretty(&self.json).expect("a JSON value can always be written"),
        };
        if !shown.is_empty() && !shown.ends_with('\n') {
            shown.push('\n');
        }
        shown
    }
}

/// A line of `label  text`, aligned.
pub(crate) fn line(out: &mut String, label: &str, text: &str) {
    writeln!(out, "{label:<10} {text}").expect("a String takes everything");
}

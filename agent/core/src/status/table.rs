//! The lines for people: columns aligned, phases coloured where that was asked for.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;

use super::{NodeLine, Status};
use crate::node::annotations::Phase;
use crate::node::observed::Role;

const HEADER: [&str; 6] = ["NODE", "ROLE", "PHASE", "REVISION", "SINCE", "REASON"];
/// The column with the colour.
const PHASE: usize = 2;

/// Whether a phase has a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// No: not a terminal, or not wanted.
    Plain,
    /// Green, yellow or red, by escape sequences.
    Coloured,
}

impl Status {
    /// The lines, each with its line break: the sentence, what is halted, how many are where, and a line a node.
    pub fn lines(&self, now: Timestamp, paint: Paint) -> String {
        let Self { rollout, warning, halted, nodes, is_all_current: _ } = self;
        let mut out = format!("{rollout}\n");
        if let Some(warning) = warning {
            writeln!(out, "{warning}").expect("a String takes everything");
        }
        if !halted.is_empty() {
            writeln!(out, "halted: {}", halted.join(", ")).expect("a String takes everything");
        }
        writeln!(out, "{}\n", summary(nodes)).expect("a String takes everything");
        let rows: Vec<[String; 6]> = nodes.iter().map(|node| row(node, now)).collect();
        let mut widths = HEADER.map(|title| title.chars().count());
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        out.push_str(&aligned(&HEADER.map(str::to_owned), &widths, None));
        for row in &rows {
            let colour = (paint == Paint::Coloured).then(|| colour(&row[PHASE])).flatten();
            out.push_str(&aligned(row, &widths, colour));
        }
        out
    }
}

/// `5 nodes: 4 Current, 1 Proving`, and what is not counted.
fn summary(nodes: &[NodeLine]) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for node in nodes.iter().filter(|node| node.is_counted) {
        *counts.entry(node.phase.as_deref().unwrap_or("without a phase")).or_default() += 1;
    }
    let total: usize = counts.values().sum();
    let phases: Vec<_> = counts.iter().map(|(phase, count)| format!("{count} {phase}")).collect();
    let mut text = format!("{total} node{}", if total == 1 { "" } else { "s" });
    if !phases.is_empty() {
        text = format!("{text}: {}", phases.join(", "));
    }
    let others = nodes.iter().filter(|node| !node.is_counted).count();
    if others > 0 {
        text = format!("{text}; {others} without an agent on purpose");
    }
    text
}

fn row(node: &NodeLine, now: Timestamp) -> [String; 6] {
    let or_dash = |value: Option<&str>| value.unwrap_or("-").to_owned();
    let role = match node.role {
        Role::Server => "server",
        Role::Agent => "agent",
    };
    [
        node.name.clone(),
        role.to_owned(),
        or_dash(node.phase.as_deref()),
        or_dash(node.revision.as_deref()),
        node.since.as_deref().and_then(|since| age(since, now)).unwrap_or_else(|| "-".to_owned()),
        node.reason.clone(),
    ]
}

fn aligned(row: &[String; 6], widths: &[usize; 6], colour: Option<&str>) -> String {
    let mut line = String::new();
    for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
        match colour.filter(|_| at == PHASE) {
            Some(colour) => {
                write!(line, "\u{1b}[{colour}m{cell}\u{1b}[0m").expect("a String takes everything");
            }
            None => line.push_str(cell),
        }
        line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

/// The code of a colour, for a phase that we know.
fn colour(phase: &str) -> Option<&'static str> {
    Phase::ALL.into_iter().find(|known| known.as_str() == phase).map(|phase| match phase {
        Phase::Current => "32",
        Phase::Pending | Phase::Applying | Phase::Proving | Phase::Paused => "33",
        Phase::RolledBack | Phase::Stuck | Phase::Invalid => "31",
    })
}

/// How long ago something written in RFC 3339 was, in its largest unit: `5s`, `3m`, `2h`, `4d`. None if it is no time. A time
/// to come is of a clock that is ahead: `0s`.
pub fn age(since: &str, now: Timestamp) -> Option<String> {
    let since: Timestamp = since.parse().ok()?;
    Some(short(now.duration_since(since).as_secs()))
}

pub(super) fn short(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{}s", seconds.max(0)),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        86_400.. => format!("{}d", seconds / 86_400),
    }
}

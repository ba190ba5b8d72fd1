//! The host edge: everything that is read from and done to the node's own files and processes.

pub mod clock;
pub mod command;
pub mod discover;
pub mod files;
pub mod guard;
mod hands;
pub mod health;
pub mod journal;
mod node;
pub mod root;
pub mod runtime;
pub mod service;
pub mod watch;

pub use node::{Host, HostError, ServiceChoice};

/// Eight random hex digits: the number of an ask, and a source of jitter.
pub fn dice() -> String {
    let mut bytes = [0; 4];
    // Without randomness the same number would be drawn twice, which whoever grants refuses; nothing breaks.
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

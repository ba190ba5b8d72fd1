//! The host edge: everything that is read from and done to the node's own files and processes.

pub mod clock;
pub mod command;
mod crictl;
pub mod discover;
pub mod files;
pub mod guard;
mod hands;
pub mod health;
pub mod journal;
mod node;
mod puller;
pub mod root;
pub mod runtime;
pub mod service;
pub mod surroundings;
pub mod watch;

pub use node::{Host, HostError, ServiceChoice};

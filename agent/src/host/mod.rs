//! The host edge: everything that is read from and done to the node's own files and processes.

pub mod clock;
pub mod command;
pub mod discover;
pub mod files;
pub mod guard;
pub mod health;
pub mod journal;
pub mod root;
pub mod runtime;
pub mod service;

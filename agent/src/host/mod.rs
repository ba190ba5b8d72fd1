//! The host edge: everything that is read from and done to the node's own files and processes.

pub mod command;
pub mod files;
pub mod journal;
pub mod root;

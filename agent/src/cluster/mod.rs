//! The API server: the connection, our own Node, Events, and what an operator asks. No kube type leaves this room but through `client`.

pub mod client;
pub mod events;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod follow;
pub mod gate;
pub(crate) mod lean;
pub mod node;
pub mod operator;
pub mod trouble;

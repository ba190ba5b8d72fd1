//! The API server: the connection, our own Node and all Nodes, the coordinator's Lease, the server gate, Events, and what an
//! operator asks. No kube type leaves this room but through `client`.

pub mod client;
pub mod events;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod follow;
pub mod gate;
pub mod hearing;
pub(crate) mod lean;
pub mod lease;
pub mod node;
pub mod nodes;
pub mod operator;
pub mod teller;
pub mod trouble;

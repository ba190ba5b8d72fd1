//! The edges and the wiring of `k3s-registry-agent`: they do, and decide nothing (decisions are in `agent-core`).

pub mod args;
pub mod asking;
pub mod cluster;
pub mod commands;
pub mod coordinator;
pub mod execute;
pub mod host;
pub mod http;
pub mod inputs;
pub mod logging;
pub mod metrics;
pub mod pass;
pub mod probe;
pub mod random;
pub mod tally;

//! The edges and the wiring of `k3s-registry-agent`: they do, and decide nothing (decisions are in `agent-core`).

pub mod cluster;
pub mod http;
pub mod inputs;
pub mod logging;
pub mod metrics;
pub mod tally;
pub mod host;

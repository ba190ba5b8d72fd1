//! Every decision of `k3s-registry-agent`. No I/O, no clock, no logging: values in, values out.
#![forbid(unsafe_code)]

pub mod desired;
pub mod docker_config;
pub mod inputs;
pub mod node;
pub mod policy;
pub mod registries;
pub mod runtime;
pub mod revision;
pub mod secret;
pub mod tree;
pub mod yaml;

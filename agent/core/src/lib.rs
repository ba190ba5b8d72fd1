//! Every decision of `k3s-registry-agent`. No I/O, no clock, no logging: values in, values out.
#![forbid(unsafe_code)]

pub mod certificate;
pub mod desired;
pub mod digest;
pub mod docker_config;
pub mod explain;
pub mod fleet;
pub mod forecast;
pub mod grant;
pub mod inputs;
pub mod node;
pub mod policy;
pub mod preflight;
pub mod registries;
pub mod revision;
pub mod runtime;
pub mod secret;
pub mod status;
pub mod tree;
pub mod yaml;

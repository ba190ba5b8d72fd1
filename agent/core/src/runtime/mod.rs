//! What k3s and its containerd make of a `registries.yaml`: the files of `certs.d`, the auth tables of `config.toml`,
//! and how containerd reads both.

pub mod endpoint;
pub mod rewrite;
mod url;

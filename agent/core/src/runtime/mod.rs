//! What k3s and its containerd make of a `registries.yaml`: the files of `certs.d`, the auth tables of `config.toml`,
//! and how containerd reads both.

pub mod auth_tables;
pub mod compare;
pub mod config_toml;
pub mod endpoint;
pub mod expect;
pub(crate) mod go;
pub mod hosts_toml;
pub mod rewrite;
pub mod settings;
pub mod toml_text;
mod url;

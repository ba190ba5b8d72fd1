//! The domain: what `registries.yaml` says, how it is read, judged, merged and written.

pub mod changes;
mod decode;
pub mod document;
pub mod effect;
pub mod finding;
pub mod import;
mod keys;
pub mod lint;
pub mod model;
pub mod render;

pub mod on_disk;
pub mod strict;
#[cfg(test)]
pub(crate) mod testing;

//! The domain: what `registries.yaml` says, how it is read, judged, merged and written.

mod decode;
pub mod changes;
pub mod document;
pub mod effect;
pub mod finding;
mod keys;
pub mod import;
pub mod model;
pub mod render;

#[cfg(test)]
pub(crate) mod testing;
pub mod on_disk;
pub mod strict;

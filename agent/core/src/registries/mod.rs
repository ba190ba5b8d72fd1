//! The domain: what `registries.yaml` says, how it is read, judged, merged and written.

pub mod document;
pub mod effect;
pub mod finding;
pub mod model;
pub mod render;

#[cfg(test)]
pub(crate) mod testing;

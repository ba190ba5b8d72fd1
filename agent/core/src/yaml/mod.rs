//! Reading YAML: what the parsers of `registries.yaml` and of the policy share.

mod nearest;

pub use nearest::nearest;

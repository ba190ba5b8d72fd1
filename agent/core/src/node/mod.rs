//! One node: what is seen of it, and the records that outlive the process.

pub mod annotations;
pub mod evidence;
pub mod journal;
pub mod observed;

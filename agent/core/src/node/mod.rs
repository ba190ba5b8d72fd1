//! One node: what is seen of it, what is remembered, and what is to be done next.

pub mod annotations;
mod begin;
mod conclude;
mod counted;
pub mod discovery;
mod drift;
pub mod evidence;
mod exchange;
pub mod heard;
mod idle;
pub mod journal;
pub(crate) mod judge;
pub mod logs;
pub mod observed;
pub mod others;
mod pace;
pub mod plan;
pub mod prepare;
mod probed;
mod proving;
pub mod pulls;
mod remark;
pub mod turn;
mod undo;

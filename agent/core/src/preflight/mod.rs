//! Asks the registries of a configuration as containerd would ask them, before a node is disturbed (`design.md` 9).
//!
//! [`targets`] says who is to be asked with what; a [`Walk`] goes to one of them step by step, and says what to do next
//! and what came of it, but does nothing itself; a [`Report`] holds what came of all, and [`judge()`] says what follows
//! from it under a policy.

mod answer;
mod challenge;
mod credential;
mod judge;
mod news;
mod periodic;
mod proxy;
mod report;
mod target;
mod url;
mod verdict;
mod walk;
mod words;

pub use answer::{Answer, NameFault, Names, Reply, ReplyFault, RouteFault, TlsFault};
pub use credential::Credential;
pub(crate) use credential::{Undecodable, entry};
pub use judge::{Judgement, judge};
pub use news::{Faults, News};
pub use periodic::{Wait, next_probe};
pub use proxy::Proxy;
pub use report::{End, HostReport, Report, Stop};
pub use target::{Client, Place, Target, Trust, node_targets, targets};
pub(crate) use url::percent_encoded;
pub use url::{Scheme, Url};
pub use verdict::{Kind, Outcome, Stage, Verdict};
pub use walk::{Request, Scope, Step, Walk};

//! Carries out the steps of a plan, in order. It never decides whether.

use std::future::Future;
use std::time::Duration;

use agent_core::node::journal::Record;
use agent_core::node::plan::{Kept, Step};
use agent_core::node::turn::Turn;
use agent_core::tree::Tree;

/// What a step does to the host. Each call is idempotent.
pub trait Hands {
    /// Keeps a tree in the journal.
    fn keep(&self, kept: Kept, tree: &Tree) -> Result<(), Failure>;
    /// Writes the record.
    fn record(&self, record: &Record) -> Result<(), Failure>;
    /// Replaces the files.
    fn replace(&self, tree: &Tree) -> Result<(), Failure>;
    /// Gives the guard an order.
    fn guard(&self, order: GuardOrder) -> impl Future<Output = Result<(), Failure>>;
    /// Orders a restart of the unit. Takes the turn: without one there is none.
    fn restart(&self, turn: &Turn) -> impl Future<Output = Result<(), Failure>>;
}

/// An order to the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardOrder {
    /// Arm it.
    Arm(Duration),
    /// Push it on.
    Push(Duration),
    /// Claim its marker, or fail.
    Claim,
    /// Disarm it and sweep.
    Clear,
}

/// Why a step could not be done.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    /// What was being done to what.
    pub what: String,
    /// Who has to do something about it.
    pub kind: FailureKind,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What ends a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Trying again later.
    Retry,
    /// A person: a full disk, a read-only file system, something in place of the file.
    Operator,
}

/// A step that failed. The rest of the plan was not touched.
#[derive(Debug, thiserror::Error)]
#[error("step {step}")]
pub struct StepFailed {
    /// The step's name.
    pub step: &'static str,
    /// Why.
    #[source]
    pub failure: Failure,
}

/// Does the steps until the first that fails. Gives how many were done before it.
pub async fn execute(hands: &impl Hands, steps: &[Step]) -> Result<(), StepFailed> {
    for step in steps {
        let done = match step {
            Step::Keep(kept, tree) => hands.keep(*kept, tree),
            Step::Record(record) => hands.record(record),
            Step::Replace(tree) => hands.replace(tree),
            Step::ArmGuard { acts_at } => hands.guard(GuardOrder::Arm(*acts_at)).await,
            Step::PushGuard { acts_at } => hands.guard(GuardOrder::Push(*acts_at)).await,
            Step::ClaimGuard => hands.guard(GuardOrder::Claim).await,
            Step::ClearGuard => hands.guard(GuardOrder::Clear).await,
            Step::Restart(turn) => hands.restart(turn).await,
        };
        done.map_err(|failure| StepFailed { step: step.name(), failure })?;
        tracing::debug!(step = step.name(), "step done");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    struct Scripted {
        done: RefCell<Vec<String>>,
        fails: &'static str,
    }

    impl Scripted {
        fn step(&self, name: &str) -> Result<(), Failure> {
            if name == self.fails {
                return Err(Failure { what: name.to_owned(), kind: FailureKind::Retry, source: None });
            }
            self.done.borrow_mut().push(name.to_owned());
            Ok(())
        }
    }

    impl Hands for Scripted {
        fn keep(&self, kept: Kept, _: &Tree) -> Result<(), Failure> {
            self.step(&format!("{kept:?}"))
        }

        fn record(&self, _: &Record) -> Result<(), Failure> {
            self.step("record")
        }

        fn replace(&self, _: &Tree) -> Result<(), Failure> {
            self.step("replace")
        }

        async fn guard(&self, order: GuardOrder) -> Result<(), Failure> {
            self.step(&format!("{order:?}"))
        }

        async fn restart(&self, _: &Turn) -> Result<(), Failure> {
            self.step("restart")
        }
    }

    #[tokio::test]
    async fn a_failing_step_ends_the_plan() {
        let hands = Scripted { done: RefCell::default(), fails: "replace" };
        let steps =
            [Step::Record(Box::default()), Step::Replace(Tree::default()), Step::Keep(Kept::Previous, Tree::default())];
        let failed = execute(&hands, &steps).await.unwrap_err();
        assert_eq!((failed.step, failed.failure.what.as_str()), ("replace", "replace"));
        assert_eq!(*hands.done.borrow(), ["record"]);
    }
}

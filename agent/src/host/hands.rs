//! What a plan's steps do to the host.

use agent_core::node::journal::Record;
use agent_core::node::plan::Kept;
use agent_core::node::turn::Turn;
use agent_core::tree::Tree;
use tracing::{debug, info, warn};

use super::clock::clock;
use super::command::CommandError;
use super::files::{FilesError, Like};
use super::guard::{Guard, GuardError, Installed};
use super::journal::{self, Journal, JournalError};
use super::node::Host;
use super::service::Service;
use crate::execute::{Failure, FailureKind, GuardOrder, Hands};

impl Hands for Host {
    fn keep(&self, kept: Kept, tree: &Tree) -> Result<(), Failure> {
        let journal = self.journal()?;
        match kept {
            Kept::Previous => journal.keep(journal::Kept::Previous, tree, None),
            Kept::Original => {
                let attributes = self.configuration().attributes().map_err(files_failure)?;
                journal.keep(journal::Kept::Original, tree, attributes)
            }
        }
        .map_err(journal_failure)
    }

    fn record(&self, record: &Record) -> Result<(), Failure> {
        self.journal()?.write(record).map_err(journal_failure)
    }

    fn replace(&self, tree: &Tree) -> Result<(), Failure> {
        let journal = self.journal()?;
        // What lay there before us gets its own mode and owner back; what is ours is closed to others.
        let is_original = journal.kept(journal::Kept::Original).map_err(journal_failure)?.as_ref() == Some(tree);
        let like = match journal.kept_attributes(journal::Kept::Original).map_err(journal_failure)? {
            Some(attributes) if is_original => Like::Exactly(attributes),
            Some(_) | None => Like::Mode(0o600),
        };
        self.configuration().replace_tree(tree, like).map(drop).map_err(files_failure)
    }

    async fn guard(&self, order: GuardOrder) -> Result<(), Failure> {
        let guard = self.service.as_ref().and_then(|serving| serving.guard.as_ref());
        let guard = guard.ok_or_else(|| operator("this host has no guard".to_owned()))?;
        match order {
            GuardOrder::Arm(acts_at) => self.arm(guard, acts_at).await,
            GuardOrder::Push(acts_at) => match guard.push(acts_at).map_err(guard_failure)? {
                true => Ok(()),
                false => Err(retry("the guard was faster and put the earlier file back".to_owned())),
            },
            GuardOrder::Claim => match guard.disarm().await.map_err(guard_failure)? {
                true => Ok(()),
                false => Err(retry("the guard was faster and put the earlier file back".to_owned())),
            },
            GuardOrder::Clear => {
                guard.disarm().await.map_err(guard_failure)?;
                guard.acknowledge().await.map_err(guard_failure)
            }
        }
    }

    async fn restart(&self, turn: &Turn) -> Result<(), Failure> {
        let Some(serving) = &self.service else { return Err(operator("there is no service to restart".to_owned())) };
        let unit = self.unit()?;
        // Before the turn is looked at, which must be the last thing. If it does not work, the restart may all the same.
        if let Err(error) = serving.backend.forgive(&unit).await {
            debug!(unit, %error, "starts of the unit not forgotten");
        }
        // The steps before this one, and that command, may have taken their time.
        if clock().map_or(true, |now| turn.is_over(now.boot)) {
            return Err(retry("the turn ran out before the restart: it is asked for again".to_owned()));
        }
        info!(unit, "restart ordered");
        serving.backend.restart(&unit).await.map_err(command_failure)
    }
}

impl Host {
    fn journal(&self) -> Result<&Journal, Failure> {
        self.journal.as_ref().ok_or_else(|| operator("this process only looks".to_owned()))
    }

    async fn arm(&self, guard: &Guard, acts_at: std::time::Duration) -> Result<(), Failure> {
        let unit = self.unit()?;
        match guard.install(self.configuration().path().as_str(), &unit).await.map_err(guard_failure)? {
            Installed::Whole => {}
            Installed::TransientOnly(why) => warn!(%why, "guard installed in part"),
        }
        let clock = self.clock().map_err(|source| Failure {
            what: "cannot read the clock".to_owned(),
            kind: FailureKind::Retry,
            source: Some(Box::new(source)),
        })?;
        guard.arm(&clock, acts_at).await.map_err(guard_failure)
    }

    /// The unit that was found last.
    fn unit(&self) -> Result<String, Failure> {
        self.found_unit().ok_or_else(|| retry("the unit of k3s is not known".to_owned()))
    }
}

fn operator(what: String) -> Failure {
    Failure { what, kind: FailureKind::Operator, source: None }
}

fn retry(what: String) -> Failure {
    Failure { what, kind: FailureKind::Retry, source: None }
}

fn files_failure(error: FilesError) -> Failure {
    let kind = match error.kind() {
        "full" | "read-only" | "in-the-way" | "bad-name" => FailureKind::Operator,
        _ => FailureKind::Retry,
    };
    // The error says what was being done to what; its cause says why.
    Failure { what: error.to_string(), kind, source: error.into_source() }
}

fn journal_failure(error: JournalError) -> Failure {
    match error {
        JournalError::Files(error) => files_failure(error),
        JournalError::Held(_) | JournalError::Newer(_) | JournalError::Key | JournalError::Odd(_) => {
            operator(error.to_string())
        }
        JournalError::Random(_) => retry(error.to_string()),
    }
}

fn guard_failure(error: GuardError) -> Failure {
    match error {
        GuardError::Files(error) => files_failure(error),
        GuardError::Command(error) => command_failure(error),
        GuardError::Acting => retry(error.to_string()),
    }
}

fn command_failure(error: CommandError) -> Failure {
    Failure { what: "cannot command the host".to_owned(), kind: FailureKind::Retry, source: Some(Box::new(error)) }
}

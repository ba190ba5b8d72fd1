//! The registries asked in the background while nothing changes, and what was heard of them last.

use std::future::Future;
use std::time::Duration;

use agent_core::preflight::{Faults, News, Report, Wait, next_probe};
use tokio::task::{AbortHandle, JoinSet};

use super::agent::AgentError;
use crate::asking::Asking;

/// Between two Events about registries.
const NEWS_APART: Duration = Duration::from_secs(300);

/// What came of asking, when it began, and for which revision.
pub(super) struct Probed {
    pub(super) revision: String,
    pub(super) at: Duration,
    pub(super) report: Report,
}

/// The periodic probe of one process. Nobody waits for it.
pub(super) struct Probing {
    tasks: JoinSet<Option<Probed>>,
    asking: Option<AbortHandle>,
    last: Option<Duration>,
    started: Option<Duration>,
    seed: u64,
    /// The last `retry` token that is known, and whether it is newer than what the registries said last.
    retry: Option<String>,
    is_retried: bool,
    faults: Faults,
    news_at: Option<Duration>,
}

impl Probing {
    /// `refused`: what an earlier process heard and made known; `retry`: the last token that was honoured then.
    pub(super) fn new(refused: &[String], retry: Option<String>) -> Self {
        let seed = u64::from_str_radix(&crate::random::dice(), 16).unwrap_or_default();
        Self {
            tasks: JoinSet::new(),
            asking: None,
            last: None,
            started: None,
            seed,
            retry,
            is_retried: false,
            faults: Faults::refused(refused),
            news_at: None,
        }
    }

    /// Takes note of the last `retry` token that was honoured.
    pub(super) fn retried(&mut self, token: Option<String>) {
        if token.is_some() && token != self.retry {
            (self.retry, self.is_retried) = (token, true);
            // What is being asked may have been answered before it.
            self.stop();
        }
    }

    /// When the registries are to be asked for what runs here.
    pub(super) fn due(&mut self, revision: &str, refused: Option<&str>, now: Duration) -> Wait {
        let started = *self.started.get_or_insert(now);
        match self.asking {
            Some(_) => Wait::ForInputs,
            None => next_probe(self.last, refused, revision, started, now, self.seed, self.is_retried),
        }
    }

    /// Begins to ask.
    pub(super) fn begin(&mut self, revision: String, at: Duration, asking: Asking) {
        let probe = async move { Some(Probed { revision, at, report: asking.run().await }) };
        self.asking = Some(self.tasks.spawn(probe));
    }

    /// Breaks off: a turn has begun.
    pub(super) fn stop(&mut self) {
        if let Some(asking) = self.asking.take() {
            asking.abort();
        }
    }

    /// Has something done beside the passes.
    pub(super) fn beside(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            task.await;
            None
        });
    }

    /// Waits for a report. Cancel-safe: what was not taken stays with its task.
    pub(super) async fn done(&mut self) -> Result<Probed, AgentError> {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Some(probed))) => {
                    self.asking = None;
                    return Ok(probed);
                }
                Some(Ok(None)) => {}
                Some(Err(error)) if error.is_cancelled() => {}
                Some(Err(_)) => return Err(AgentError::Task),
                None => std::future::pending().await,
            }
        }
    }

    /// Takes note of a report, of a preflight too, and gives what is to be made known.
    pub(super) fn heard(&mut self, probed: &Probed) -> Option<News> {
        let Probed { revision: _, at, report } = probed;
        (self.last, self.is_retried) = (Some(*at), false);
        if self.news_at.is_some_and(|before| at.saturating_sub(before) < NEWS_APART) {
            // It is told the next time, if it is still so.
            return None;
        }
        let news = self.faults.learn(report)?;
        self.news_at = Some(*at);
        Some(news)
    }
}

#[cfg(test)]
impl Probing {
    /// As if it had just been started, and its time had come.
    pub(super) fn is_due(&mut self) {
        (self.last, self.started, self.seed) = (None, None, 0);
    }

    /// Whether somebody is being asked.
    pub(super) fn is_asking(&self) -> bool {
        self.asking.is_some()
    }
}

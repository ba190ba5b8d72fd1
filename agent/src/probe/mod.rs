//! Does what the core's walks say: the only place that speaks to registries.

mod line;
mod request;
mod tls;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_core::preflight::{Answer, Credential, HostReport, Kind, Proxy, Report, Scope, Step, Target, Walk};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Mutex as Gate, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tracing::debug;

use line::Line;
use tls::Trusted;

/// Bounds in time and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For one target.
    pub host: Duration,
    /// For all.
    pub all: Duration,
    /// How many at a time.
    pub at_once: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { host: Duration::from_secs(10), all: Duration::from_secs(60), at_once: 8 }
    }
}

/// What decides how the node reaches registries, beside their configuration.
#[derive(Clone, Debug)]
pub struct Ground {
    trusted: Arc<Trusted>,
    proxy: Option<Proxy>,
}

impl Ground {
    /// PEM files of the node's own trust, and the proxy of its containerd.
    pub fn new(trusted: &[Vec<u8>], proxy: Option<Proxy>) -> Self {
        Self { trusted: Arc::new(Trusted::of(trusted)), proxy }
    }
}

/// Asks all targets. Never longer than `limits.all`; what is not judged by then says so. Dropped, it stops asking.
pub async fn run(targets: Vec<Target>, ground: &Ground, scope: Scope, limits: &Limits) -> Report {
    let started = Instant::now();
    let run = Run {
        ground,
        limits,
        until: started + limits.all,
        places: Arc::new(Semaphore::new(limits.at_once.max(1))),
        sent: Mutex::new(Vec::new()),
    };
    let numbered = targets.into_iter().enumerate();
    let mut walks: FuturesUnordered<_> = numbered
        .map(|(number, target)| {
            let run = &run;
            async move { (number, run.walk(Walk::new(target, scope)).await) }
        })
        .collect();
    let mut hosts = Vec::new();
    while let Some(done) = walks.next().await {
        hosts.push(done);
    }
    hosts.sort_by_key(|(number, _)| *number);
    let hosts = hosts.into_iter().map(|(_, host)| host).collect();
    Report { hosts, took: started.elapsed() }
}

/// What is known of a credential. Held while it is on its way for the first time.
type Known = Arc<Gate<Word>>;

/// What was said of a credential.
#[derive(Debug, Default)]
enum Word {
    /// Nothing yet.
    #[default]
    None,
    /// It was taken: there is nothing to be careful about.
    Taken,
    /// It was refused, by this host.
    Refused(String),
}

struct Run<'r> {
    ground: &'r Ground,
    limits: &'r Limits,
    until: Instant,
    places: Arc<Semaphore>,
    /// One gate for each credential: a mistyped token is refused once, not by every host that it is for.
    sent: Mutex<Vec<(Credential, Known)>>,
}

impl Run<'_> {
    async fn walk(&self, mut walk: Walk) -> HostReport {
        let mut line = Line::of(walk.target(), &self.ground.trusted);
        let mut held: Option<OwnedMutexGuard<Word>> = None;
        let mut is_free = false;
        let mut place: Option<OwnedSemaphorePermit> = None;
        // Waiting for others is not this host's time.
        let mut spent = Duration::ZERO;
        loop {
            if let (None, false, Some(credential)) = (&held, is_free, walk.credential()) {
                let gate = self.gate(credential);
                drop(place.take());
                let Ok(gate) = timeout(self.left(), gate.lock_owned()).await else { break };
                match &*gate {
                    Word::None => held = Some(gate),
                    Word::Taken => is_free = true,
                    Word::Refused(by) => {
                        walk.answer(Answer::Withheld { refused_by: by.clone() }, Duration::ZERO);
                        break;
                    }
                }
            }
            if walk.credential().is_none()
                && let Some(mut gate) = held.take()
            {
                // There is a token for it: the others need not wait for the rest of this walk.
                (*gate, is_free) = (Word::Taken, true);
            }
            if place.is_none() {
                let free = timeout(self.left(), self.places.clone().acquire_owned()).await;
                let Ok(free) = free else { break };
                place = Some(free.expect("the semaphore is never closed"));
            }
            let left = self.limits.host.saturating_sub(spent);
            let step = walk.step();
            if matches!(step, Step::Done) {
                break;
            }
            let begun = Instant::now();
            let answer = timeout(left.min(self.left()), self.step(&mut line, step)).await;
            let took = begun.elapsed();
            spent += took;
            match answer {
                Ok(answer) => walk.answer(answer, took),
                Err(_) if self.left().is_zero() && left > took => break,
                Err(_) => walk.answer(Answer::TimedOut, took),
            }
        }
        let report = walk.finish(spent);
        if let Some(gate) = held.as_mut() {
            if report.verdict.kind == Kind::CredentialRefused {
                **gate = Word::Refused(report.url.authority().to_owned());
            } else if report.verdict.kind == Kind::Fine {
                **gate = Word::Taken;
            }
        }
        debug!(host = report.url.authority(), verdict = report.verdict.kind.as_str(), "probed");
        report
    }

    async fn step(&self, line: &mut Line, step: Step<'_>) -> Answer {
        match step {
            Step::Resolve(url) if self.ground.proxy.as_ref().is_some_and(|proxy| proxy.is_for(url)) => Answer::Proxied,
            Step::Resolve(url) => line.resolve(url).await,
            Step::Connect(_) => line.connect(self.limits.host).await,
            Step::Secure(url) => line.secure(url).await,
            Step::Send(request) => line.send(request).await,
            Step::Done => Answer::Resolved,
        }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    fn gate(&self, credential: &Credential) -> Known {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, gate)) = sent.iter().find(|(known, _)| known == credential) {
            return gate.clone();
        }
        let gate = Known::default();
        sent.push((credential.clone(), gate.clone()));
        gate
    }
}

#[cfg(test)]
mod tests;

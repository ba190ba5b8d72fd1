//! Says on the Node what came of the passes, beside them: no pass waits for the API server, and what could not be said
//! is said when it is back.

use std::convert::Infallible;
use std::time::Duration;

use agent_core::node::annotations::{NodeSeen, Phase, Told};
use jiff::Timestamp;
use tokio::sync::watch;
use tracing::warn;

use super::client::Cluster;
use super::events::{EventKind, Happening, publish};
use super::node::{OwnNode, Telling, tell};

/// After a write that failed the next waits this long, doubled each time, at most [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Say {
    /// Grows with each of these.
    pub number: u64,
    /// On the Node.
    pub told: Told,
    /// The Node as it was decided upon.
    pub decided_on: OwnNode,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The number of the [`Say`] that this is about, or of none.
    pub number: u64,
    /// The phase that the API server confirmed last.
    pub phase: Phase,
    /// The last ask answered, confirmed with it.
    pub answered: Option<String>,
    /// When it was confirmed, on the boot-time clock.
    pub at: Duration,
    /// The Node as the last answer showed it; absent after a failure, and where nothing had to be written.
    pub node: Option<OwnNode>,
}

/// How a task reads the clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The boot-time clock.
    pub boot: fn() -> Duration,
    /// The wall clock, for Events.
    pub wall: fn() -> Timestamp,
}

/// Tells whatever is to be said now, for ever. `None` goes out for what failed or was overtaken: nothing is confirmed.
pub async fn teller(
    cluster: Cluster,
    name: String,
    clocks: Clocks,
    mut say: watch::Receiver<Option<Say>>,
    out: watch::Sender<Outcome>,
) -> Infallible {
    let mut wait = FIRST_WAIT;
    loop {
        let Some(Say { number, told, decided_on }) = say.borrow_and_update().clone() else {
            if say.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            continue;
        };
        let telling = tell(&cluster, &name, &told, &decided_on).await;
        let confirmed = |node| {
            Outcome::Said(Said {
                number,
                phase: told.phase,
                answered: told.answered.clone(),
                at: (clocks.boot)(),
                node,
            })
        };
        let failed = telling.is_err();
        let outcome = match telling {
            Ok(Telling::Unchanged) => confirmed(None),
            Ok(Telling::Written(node)) => {
                if let Some(what) = happening(&decided_on.seen, &told) {
                    out.send_replace(confirmed(Some(node.clone())));
                    publish(&cluster, &name, &node.uid, &what, (clocks.wall)()).await;
                }
                confirmed(Some(node))
            }
            // The next pass decides anew.
            Ok(Telling::Overtaken(node)) => Outcome::Not { number, node: Some(node) },
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                warn!(%error, cause, "node not told");
                Outcome::Not { number, node: None }
            }
        };
        // The first confirmation counts: the moment of an Event is later.
        out.send_if_modified(|old| match (&*old, &outcome) {
            (Outcome::Said(old), Outcome::Said(new)) if old.number == new.number => false,
            _ => {
                *old = outcome;
                true
            }
        });
        if failed {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
            continue;
        }
        wait = FIRST_WAIT;
        if say.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The last word of the teller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The Node says it.
    Said(Said),
    /// It was not written, or nobody knows.
    Not {
        /// Of this [`Say`].
        number: u64,
        /// The Node that overtook it.
        node: Option<OwnNode>,
    },
}

impl Outcome {
    /// Of which [`Say`].
    pub const fn number(&self) -> u64 {
        match self {
            Self::Said(Said { number, .. }) | Self::Not { number, .. } => *number,
        }
    }

    /// The Node as it was seen.
    pub const fn node(&self) -> Option<&OwnNode> {
        match self {
            Self::Said(Said { node, .. }) | Self::Not { node, .. } => node.as_ref(),
        }
    }
}

/// The Event for what was written, if it is worth one.
fn happening(before: &NodeSeen, told: &Told) -> Option<Happening> {
    let kind = match told.phase {
        Phase::Current | Phase::Pending | Phase::Applying | Phase::Proving | Phase::Paused => EventKind::Normal,
        Phase::RolledBack | Phase::Stuck | Phase::Invalid => EventKind::Warning,
    };
    let (reason, note) = (told.phase.as_str(), told.reason.clone());
    told.is_event(before).then_some(Happening { kind, reason, action: "Reconcile", note })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use tokio::task::JoinSet;

    use super::*;
    use crate::cluster::fake::{Answer, Counts, Fake, until};
    use crate::cluster::node::read_node;

    const NODE: &str = "/api/v1/nodes/n1";
    const PATCH: &str = "PATCH /api/v1/nodes/n1";
    const CLOCKS: Clocks = Clocks { boot: || Duration::from_secs(9), wall: || Timestamp::UNIX_EPOCH };

    fn told(phase: Phase, answered: Option<&str>) -> Told {
        Told {
            phase,
            reason: "x".into(),
            since: Timestamp::UNIX_EPOCH,
            revision: None,
            failed: None,
            wanted: None,
            answered: answered.map(str::to_owned),
        }
    }

    struct Running {
        fake: Fake,
        counts: Arc<Counts>,
        cluster: Cluster,
        say: watch::Sender<Option<Say>>,
        out: watch::Receiver<Outcome>,
        _tasks: JoinSet<Infallible>,
    }

    fn running() -> Running {
        let (fake, counts) = (Fake::default(), Arc::new(Counts::default()));
        fake.put(NODE, json!({"metadata": {"annotations": {}}}));
        let cluster = fake.cluster(counts.clone());
        let (say, receiver) = watch::channel(None);
        let (sender, out) = watch::channel(Outcome::Not { number: 0, node: None });
        let mut tasks = JoinSet::new();
        tasks.spawn(teller(cluster.clone(), "n1".into(), CLOCKS, receiver, sender));
        Running { fake, counts, cluster, say, out, _tasks: tasks }
    }

    impl Running {
        async fn says(&self, number: u64, told: Told) {
            let decided_on = read_node(&self.cluster, "n1").await.unwrap();
            self.say.send_replace(Some(Say { number, told, decided_on }));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_written_is_confirmed_and_what_was_not_is_not() {
        let run = running();
        run.says(1, told(Phase::Applying, Some("n"))).await;
        until(|| run.out.borrow().number() == 1).await;
        let Outcome::Said(said) = run.out.borrow().clone() else { panic!("it was written") };
        assert_eq!((said.phase, said.answered.as_deref(), said.at.as_secs()), (Phase::Applying, Some("n"), 9));
        assert_eq!(said.node.unwrap().seen.ours("phase"), Some("Applying"));
        // Somebody grants in between: decided anew.
        let decided_on = read_node(&run.cluster, "n1").await.unwrap();
        run.fake.put(NODE, json!({"metadata": {"annotations": {"k3s-registry-agent/grant": "x"}}}));
        run.say.send_replace(Some(Say { number: 2, told: told(Phase::Pending, None), decided_on }));
        until(|| run.out.borrow().number() == 2).await;
        assert!(matches!(&*run.out.borrow(), Outcome::Not { node: Some(_), .. }));
        run.fake.next(PATCH, Answer::Status(500));
        run.says(3, told(Phase::Pending, None)).await;
        until(|| run.out.borrow().number() == 3).await;
        assert!(matches!(&*run.out.borrow(), Outcome::Not { node: None, .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_said_is_said_when_the_api_is_back_and_only_the_last_of_it() {
        let run = running();
        run.fake.always(PATCH, Some(Answer::Status(503)));
        for (number, phase) in [(1, Phase::Applying), (2, Phase::Proving), (3, Phase::Current)] {
            run.says(number, told(phase, None)).await;
            until(|| run.out.borrow().number() == number).await;
        }
        tokio::time::sleep(Duration::from_secs(600)).await;
        let tries = run.counts.of("patch server_error");
        assert!((60..200).contains(&tries), "{tries} tries in ten minutes");
        run.fake.always(PATCH, None);
        until(|| matches!(&*run.out.borrow(), Outcome::Said(said) if said.number == 3)).await;
        let node = run.fake.object(NODE);
        assert_eq!(node["metadata"]["annotations"]["k3s-registry-agent/phase"], "Current");
        until(|| run.counts.of("create ok") == 1).await;
        assert_eq!(run.counts.of("patch ok"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_ask_has_no_event_and_what_comes_of_it_has_one() {
        let run = running();
        let asks = Told { wanted: Some("r/n".into()), ..told(Phase::Pending, None) };
        for (number, told, events) in [
            (1, asks, 0),
            (2, told(Phase::Applying, Some("n")), 1),
            (3, told(Phase::Proving, Some("n")), 1),
            (4, told(Phase::RolledBack, Some("n")), 2),
        ] {
            run.says(number, told).await;
            until(|| run.out.borrow().number() == number).await;
            // An Event is written after the confirmation.
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!((run.counts.of("patch ok") as u64, run.counts.of("create ok")), (number, events));
        }
        let last = run.fake.bodies().last().cloned().unwrap();
        assert_eq!((&last["reason"], &last["type"]), (&"RolledBack".into(), &"Warning".into()));
    }
}

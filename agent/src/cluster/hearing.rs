//! What the agent hears while it exchanges an ask for a turn. It asks when a plan wants to know, once, and hands over the
//! answer with the moment it asked at; what follows from it is decided in the core.

use std::fmt;
use std::time::Duration;

use agent_core::fleet::gate::{Purpose, judge};
use agent_core::node::evidence::Answer;
use agent_core::node::heard::{Heard, Inquiry, LeaseSeen, Read, Shown};
use agent_core::node::observed::Role;
use agent_core::node::others::{OtherServer, OthersSeen};
use http::Request;
use serde::Deserialize;

use super::client::{Cluster, call};
use super::gate;
use super::teller::Said;
use super::trouble::Trouble;

/// The Lease of the coordinator.
pub const COORDINATOR_LEASE: &str = "k3s-registry-agent-coordinator";

/// Where a server's own API listens.
const OWN_API: &str = "127.0.0.1:6443";
/// How long it may take to say that it is well.
const OWN_API_LIMIT: Duration = Duration::from_secs(3);

/// Asks for one node, and keeps what it heard for as long as the process lives.
pub struct Hearing {
    cluster: Cluster,
    node: String,
    /// The boot-time clock; zero where it cannot be read, which makes every answer too old.
    now: fn() -> Duration,
    heard: Heard,
}

impl fmt::Debug for Hearing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hearing").field("node", &self.node).field("heard", &self.heard).finish_non_exhaustive()
    }
}

impl Hearing {
    /// Nothing was heard yet.
    pub fn new(cluster: Cluster, node: String, now: fn() -> Duration) -> Self {
        Self { cluster, node, now, heard: Heard::default() }
    }

    /// What was heard so far.
    pub const fn heard(&self) -> &Heard {
        &self.heard
    }

    /// The boot-time clock.
    pub fn now(&self) -> Duration {
        (self.now)()
    }

    /// The API server confirmed what the Node says.
    pub fn said(&mut self, said: &Said) {
        let Said { phase, answered, at, .. } = said;
        let is_known =
            self.heard.shown.as_ref().is_some_and(|shown| shown.phase == *phase && shown.answered == *answered);
        if !is_known {
            self.heard.shown = Some(Shown { phase: *phase, answered: answered.clone(), at: *at });
        }
    }

    /// The inputs were read past every cache, or could not be.
    pub fn inputs(&mut self, at: Duration, answer: Result<(), String>) {
        self.heard.inputs = Some(Read { at, answer });
    }

    /// Asks the coordinator's Lease, the server gate, and those who answered there. What else a plan may want is asked
    /// elsewhere.
    pub async fn ask(&mut self, what: Inquiry, role: Role, others: &[OtherServer]) {
        match what {
            Inquiry::Inputs | Inquiry::Preflight => {}
            Inquiry::Turn { cures } => {
                let at = self.now();
                let answer = self.lease().await.map_err(|trouble| trouble.to_string());
                self.heard.lease = Some(Read { at, answer });
                if role == Role::Server {
                    self.gate(if cures { Purpose::Cure } else { Purpose::Change }).await;
                }
            }
            Inquiry::Gate => self.gate(Purpose::Cure).await,
            Inquiry::Others => {
                let at = self.now();
                let answers = gate::ask_others(&self.cluster, others).await;
                self.heard.others = Some(OthersSeen { at, answers });
            }
        }
    }

    async fn gate(&mut self, purpose: Purpose) {
        let at = self.now();
        let answer = match gate::ask(&self.cluster, &self.node).await {
            Ok((seen, port)) => {
                judge(&seen, &self.node, purpose).map(|()| OtherServer::at_gate(&seen, &self.node, port))
            }
            Err(error) => Err(match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            }),
        };
        self.heard.gate = Some(Read { at, answer });
    }

    /// By its name and without a version: a quorum read.
    async fn lease(&self) -> Result<LeaseSeen, Trouble> {
        let namespace = self.cluster.namespace();
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{COORDINATOR_LEASE}");
        let request = Request::get(path).body(Vec::new()).map_err(|_| Trouble::Malformed)?;
        let Lease { metadata, spec } = call(self.cluster.client().request::<Lease>(request)).await?;
        let epoch = metadata.annotations.unwrap_or_default().epoch;
        Ok(LeaseSeen { holder: spec.holder_identity.unwrap_or_default(), epoch })
    }

    /// Asks this server's own API how it is.
    pub async fn own_api(&self) -> Answer {
        match tokio::time::timeout(OWN_API_LIMIT, self.cluster.ask_at(OWN_API, "/readyz")).await {
            Ok(Ok(200)) => Answer::Passed,
            Ok(Ok(status @ (401 | 403))) => Answer::Unknown(format!("it refuses our token ({status})")),
            Ok(Ok(status)) => Answer::Failed(format!("it answers {status} to /readyz")),
            Ok(Err(trouble)) => Answer::Failed(format!("it does not answer ({trouble})")),
            Err(_) => Answer::Failed("it does not answer in time".to_owned()),
        }
    }
}

/// The two fields of a Lease that a turn rests on.
#[derive(Debug, Deserialize)]
struct Lease {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    annotations: Option<Annotations>,
}

#[derive(Debug, Default, Deserialize)]
struct Annotations {
    #[serde(rename = "k3s-registry-agent/epoch")]
    epoch: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Spec {
    #[serde(rename = "holderIdentity")]
    holder_identity: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use agent_core::node::annotations::PREFIX;
    use serde_json::json;

    use super::*;
    use crate::cluster::fake::{Answer as Fakes, Counts, Fake};

    const LEASE: &str =
        "/apis/coordination.k8s.io/v1/namespaces/k3s-registry-agent/leases/k3s-registry-agent-coordinator";

    fn hearing(fake: &Fake) -> (Hearing, Arc<Counts>) {
        let counts = Arc::new(Counts::default());
        let now = || Duration::from_secs(7);
        (Hearing::new(fake.cluster(counts.clone()), "s1".into(), now), counts)
    }

    async fn lease(fake: &Fake) -> Result<LeaseSeen, String> {
        let (mut hearing, counts) = hearing(fake);
        hearing.ask(Inquiry::Turn { cures: false }, Role::Agent, &[]).await;
        let read = hearing.heard().lease.clone().unwrap();
        assert_eq!(read.at, Duration::from_secs(7));
        assert_eq!(counts.0.lock().unwrap().len(), 1, "one request, and no hidden retry");
        assert_eq!(hearing.heard().gate, None, "a worker has no gate");
        read.answer
    }

    #[test]
    fn the_key_of_the_epoch_is_one_of_ours() {
        let annotations: Annotations = serde_json::from_value(json!({ format!("{PREFIX}epoch"): "e" })).unwrap();
        assert_eq!(annotations.epoch.as_deref(), Some("e"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_lease_is_read_as_it_is_and_every_failure_has_a_sentence() {
        let fake = Fake::default();
        assert_eq!(lease(&fake).await, Err("it does not exist".to_owned()));
        fake.put(LEASE, json!({}));
        assert_eq!(lease(&fake).await, Ok(LeaseSeen::default()), "one that nobody ever held");
        let held = json!({"metadata": {"annotations": {"k3s-registry-agent/epoch": "0123456789abcdef", "a": "b"}},
            "spec": {"holderIdentity": "coordinator-1", "renewTime": "2026-01-01T00:00:00.000000Z"}});
        fake.put(LEASE, held);
        let seen = LeaseSeen { holder: "coordinator-1".into(), epoch: Some("0123456789abcdef".into()) };
        assert_eq!(lease(&fake).await, Ok(seen));
        for (answer, sentence) in [
            (Fakes::Status(403), "the API server forbids it (403)"),
            (Fakes::Status(503), "the API server answers 503 Told"),
            (Fakes::Hang, "the API server does not answer in time"),
            (Fakes::Text("[]".into()), "the answer of the API server cannot be decoded"),
        ] {
            fake.next(&format!("GET {LEASE}"), answer);
            assert_eq!(lease(&fake).await, Err(sentence.to_owned()));
        }
        let queries = fake.requests();
        assert!(queries.iter().all(|request| request == &format!("GET {LEASE}")), "{queries:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_asks_its_gate_after_the_lease_and_a_gate_that_cannot_be_asked_is_shut() {
        let fake = Fake::default();
        fake.put(LEASE, json!({"spec": {"holderIdentity": "x"}}));
        let (mut hearing, _) = hearing(&fake);
        hearing.ask(Inquiry::Turn { cures: false }, Role::Server, &[]).await;
        let gate = hearing.heard().gate.clone().unwrap();
        let why = gate.answer.unwrap_err();
        assert!(why.contains("EndpointSlice") && why.contains("it does not exist"), "{why}");
        assert_eq!(fake.requests().first().map(String::as_str), Some(format!("GET {LEASE}").as_str()));
        fake.requests();
        hearing.ask(Inquiry::Gate, Role::Server, &[]).await;
        assert_eq!(
            fake.requests().iter().filter(|request| request.contains("leases")).count(),
            1,
            "no Lease for an undo"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_servers_own_api_passes_only_with_200() {
        let fake = Fake::default();
        let (hearing, _) = hearing(&fake);
        assert!(matches!(hearing.own_api().await, Answer::Failed(_)));
        fake.next("GET https://127.0.0.1:6443/readyz", Fakes::Text("ok".into()));
        assert_eq!(hearing.own_api().await, Answer::Passed);
        fake.next("GET https://127.0.0.1:6443/readyz", Fakes::Status(403));
        assert!(matches!(hearing.own_api().await, Answer::Unknown(_)), "a token says nothing of the server");
        fake.next("GET https://127.0.0.1:6443/readyz", Fakes::Hang);
        assert_eq!(hearing.own_api().await, Answer::Failed("it does not answer in time".into()));
    }

    #[tokio::test]
    async fn what_the_node_says_is_as_old_as_its_first_confirmation() {
        let (mut hearing, _) = hearing(&Fake::default());
        let said = |at: u64, answered: &str| Said {
            number: at,
            phase: agent_core::node::annotations::Phase::Applying,
            answered: Some(answered.to_owned()),
            at: Duration::from_secs(at),
            node: None,
        };
        for (at, answered, first) in [(1, "a", 1), (2, "a", 1), (3, "b", 3)] {
            hearing.said(&said(at, answered));
            assert_eq!(hearing.heard().shown.as_ref().map(|shown| shown.at), Some(Duration::from_secs(first)));
        }
    }
}

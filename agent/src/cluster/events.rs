//! Events on our own Node, for `kubectl describe node` and `kubectl events`.
//!
//! Each is an object of its own. kube's recorder makes a series of repeats and drops the note of the second, which is
//! the sentence that a person needs.

use agent_core::node::annotations::sentence;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use tracing::debug;

use super::client::{Cluster, call};

/// Events about objects without a namespace stand here.
const NAMESPACE: &str = "default";

/// Who we are in an Event.
const CONTROLLER: &str = "k3s-registry-agent";

/// How an Event is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Things go as they should.
    Normal,
    /// A person may have to act.
    Warning,
}

/// Something that happened on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// How it is shown.
    pub kind: EventKind,
    /// What, in one CamelCase word (`RolledBack`).
    pub reason: &'static str,
    /// What the agent did, in one CamelCase word (`Restart`).
    pub action: &'static str,
    /// One sentence without a secret, cut to the length of a reason.
    pub note: String,
}

/// Writes an Event about a Node. It never fails the caller: what could not be written is counted and gone.
pub async fn publish(cluster: &Cluster, node: &str, uid: &str, what: &Happening, at: Timestamp) {
    let Happening { kind, reason, action, note } = what;
    let event = Event {
        metadata: ObjectMeta {
            // The server adds what makes it unique. It refuses a prefix that ends with a dot.
            generate_name: Some(format!("{node}-")),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(at)),
        type_: Some(
            match kind {
                EventKind::Normal => "Normal",
                EventKind::Warning => "Warning",
            }
            .to_owned(),
        ),
        reason: Some((*reason).to_owned()),
        action: Some((*action).to_owned()),
        note: Some(sentence(note)),
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(CONTROLLER.to_owned()),
        // At most 128 bytes; a node's name may have 253.
        reporting_instance: Some(node.chars().take(128).collect()),
        ..Event::default()
    };
    let api = Api::<Event>::namespaced(cluster.client(), NAMESPACE);
    if let Err(trouble) = call(api.create(&PostParams::default(), &event)).await {
        cluster.tally().event_lost();
        debug!(reason, kind = trouble.kind(), "event lost");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::fake::{Answer, Counts, Fake};

    const EVENTS: &str = "POST /apis/events.k8s.io/v1/namespaces/default/events";

    fn happening(note: &str) -> Happening {
        Happening { kind: EventKind::Warning, reason: "RolledBack", action: "Restart", note: note.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn the_note_of_a_repeat_is_not_lost() {
        let (fake, counts) = (Fake::default(), Arc::new(Counts::default()));
        let cluster = fake.cluster(counts.clone());
        for note in ["first", "second"] {
            publish(&cluster, "n1", "uid-n1", &happening(note), Timestamp::UNIX_EPOCH).await;
        }
        let bodies = fake.bodies();
        assert_eq!(counts.of("create ok"), 2);
        assert_eq!((&bodies[0]["note"], &bodies[1]["note"]), (&"first".into(), &"second".into()));
        assert_eq!(bodies[0]["eventTime"], "1970-01-01T00:00:00.000000Z", "the API server wants six digits");
        assert_eq!(bodies[0]["regarding"]["uid"], "uid-n1");
        assert_eq!(bodies[0]["metadata"]["generateName"], "n1-", "the API server refuses a dot at its end");
        assert_eq!((&bodies[0]["type"], &bodies[0]["reason"]), (&"Warning".into(), &"RolledBack".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_event_is_counted_and_nothing_else() {
        let (fake, counts) = (Fake::default(), Arc::new(Counts::default()));
        let cluster = fake.cluster(counts.clone());
        for answer in [Answer::Status(403), Answer::Hang, Answer::Text("canary".into())] {
            fake.next(EVENTS, answer);
            publish(&cluster, "n1", "uid-n1", &happening("x"), Timestamp::UNIX_EPOCH).await;
        }
        assert_eq!(counts.of("event lost"), 3);
    }
}

//! The Lease of the coordinator: read, and written by compare-and-swap alone.
//!
//! It is shipped with the manifests and never created here: a right to create cannot be limited to a name.

use std::collections::BTreeMap;

use agent_core::fleet::lease::LeaseRecord;
use agent_core::fleet::{LeaseKept, Said};
use agent_core::grant::Epoch;
use agent_core::node::annotations::PREFIX;
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::client::{Cluster, call};
use super::lean;
use super::trouble::Trouble;

/// Its name, in the namespace of the product.
pub const NAME: &str = "k3s-registry-agent-coordinator";

/// The Lease as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseNow {
    /// What it says of its holder.
    pub record: LeaseRecord,
    /// What it keeps beside that.
    pub kept: LeaseKept,
    /// The operator's `retry` token.
    pub retry: Option<String>,
    /// `metadata.resourceVersion`: what the next write is compared with.
    version: String,
    transitions: i32,
}

/// What is written.
#[derive(Clone, Copy, Debug)]
pub enum Write<'a> {
    /// The Lease becomes ours, at this new epoch.
    Acquire(&'a Epoch),
    /// It stays ours.
    Renew,
    /// It is nobody's: whoever comes next needs not wait for its expiry.
    Release,
}

/// Who writes, when, and what is kept.
#[derive(Clone, Copy, Debug)]
pub struct Writing<'a> {
    /// Our identity.
    pub me: &'a str,
    /// Wall clock, for people: nobody compares it with another.
    pub at: Timestamp,
    /// In what time others may take it, in seconds, for people.
    pub seconds: u64,
    /// What is to be kept.
    pub kept: &'a LeaseKept,
}

/// Reads it by a quorum read; none if there is no such object.
///
/// # Errors
///
/// Why it could not be read.
pub async fn read(cluster: &Cluster) -> Result<Option<LeaseNow>, Trouble> {
    match call(api(cluster).get(NAME)).await {
        Ok(lease) => Ok(Some(LeaseNow::from(lease))),
        Err(Trouble::NotFound) => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

/// Writes it if it is still what was read (`on`), in one request that is never repeated.
///
/// # Errors
///
/// Why not. Unless [`Trouble::is_refusal`] it may have been written nevertheless: read it before anything else.
pub async fn write(
    cluster: &Cluster,
    on: &LeaseNow,
    what: Write<'_>,
    writing: Writing<'_>,
) -> Result<LeaseNow, Trouble> {
    let Writing { me, at, seconds, kept } = writing;
    let now = at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let there = on.kept.annotations();
    let mut annotations: BTreeMap<String, Option<String>> =
        kept.annotations().into_iter().filter(|(name, value)| there.get(name) != Some(value)).collect();
    let spec: Value = match what {
        Write::Acquire(epoch) => {
            annotations.insert(format!("{PREFIX}epoch"), Some(epoch.to_string()));
            json!({
                "holderIdentity": me, "leaseDurationSeconds": seconds.max(1), "acquireTime": now, "renewTime": now,
                "leaseTransitions": on.transitions.saturating_add(1),
            })
        }
        Write::Renew => json!({"renewTime": now}),
        Write::Release => json!({"holderIdentity": null, "renewTime": now}),
    };
    let body = json!({"metadata": {"resourceVersion": on.version, "annotations": annotations}, "spec": spec});
    call(api(cluster).patch(NAME, &PatchParams::default(), &Patch::Merge(&body))).await.map(LeaseNow::from)
}

fn api(cluster: &Cluster) -> Api<lean::Lease> {
    Api::namespaced(cluster.client(), cluster.namespace())
}

impl From<lean::Lease> for LeaseNow {
    fn from(lease: lean::Lease) -> Self {
        let lean::Lease { metadata, spec } = lease;
        let lean::LeaseSpec { holder_identity, renew_time, lease_transitions } = spec;
        let annotations = metadata.annotations.unwrap_or_default();
        let ours = |name: &str| annotations.get(&format!("{PREFIX}{name}"));
        Self {
            record: LeaseRecord {
                uid: metadata.uid.unwrap_or_default(),
                holder: holder_identity.filter(|holder| !holder.is_empty()),
                epoch: match ours("epoch") {
                    None => Said::Nothing,
                    Some(text) => text.parse().map_or(Said::Garbage, Said::Is),
                },
                renewed: renew_time.map(|time| time.to_string()).unwrap_or_default(),
            },
            kept: LeaseKept::read(&annotations),
            retry: ours("retry").cloned(),
            version: metadata.resource_version.unwrap_or_default(),
            transitions: lease_transitions.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::fake::{Answer, Counts, Fake};

    const LEASE: &str =
        "/apis/coordination.k8s.io/v1/namespaces/k3s-registry-agent/leases/k3s-registry-agent-coordinator";

    fn given() -> (Fake, Arc<Counts>, Cluster) {
        let (fake, counts) = (Fake::default(), Arc::new(Counts::default()));
        let cluster = fake.cluster(counts.clone());
        (fake, counts, cluster)
    }

    fn epoch(last: char) -> Epoch {
        format!("000000000000000{last}").parse().unwrap()
    }

    fn writing<'a>(me: &'a str, kept: &'a LeaseKept) -> Writing<'a> {
        Writing { me, at: "2026-01-02T03:04:05.5Z".parse().unwrap(), seconds: 60, kept }
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_that_read_the_same_lease_one_gets_it() {
        let (fake, _, cluster) = given();
        assert_eq!(read(&cluster).await, Ok(None), "it is never created here");
        fake.put(LEASE, json!({"metadata": {"labels": {"a": "b"}}}));
        let seen = read(&cluster).await.unwrap().unwrap();
        assert_eq!((&seen.record.holder, &seen.record.epoch), (&None, &Said::Nothing), "as it is shipped");
        let kept = LeaseKept::default();
        let (one, other) = (epoch('1'), epoch('2'));
        let ours = write(&cluster, &seen, Write::Acquire(&one), writing("one", &kept)).await.unwrap();
        let refused = write(&cluster, &seen, Write::Acquire(&other), writing("other", &kept)).await;
        assert_eq!(refused, Err(Trouble::Conflict));
        assert_eq!(read(&cluster).await.unwrap().unwrap(), ours);
        assert_eq!((ours.record.holder.as_deref(), &ours.record.epoch), (Some("one"), &Said::Is(one)));
        let spec = fake.object(LEASE)["spec"].clone();
        assert_eq!(
            spec,
            json!({"holderIdentity": "one", "leaseDurationSeconds": 60, "leaseTransitions": 1,
                "acquireTime": "2026-01-02T03:04:05.500000Z", "renewTime": "2026-01-02T03:04:05.500000Z"}),
            "the API server wants six digits"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_writes_what_differs_and_a_release_leaves_no_holder() {
        let (fake, _, cluster) = given();
        let annotations = json!({"somebody": "else", "k3s-registry-agent/retry": "t", "k3s-registry-agent/rollout": "old",
            "k3s-registry-agent/halted": "0123456789ab"});
        fake.put(LEASE, json!({"metadata": {"annotations": annotations}, "spec": {"holderIdentity": "one"}}));
        let seen = read(&cluster).await.unwrap().unwrap();
        assert_eq!((seen.retry.as_deref(), &seen.kept.halted), (Some("t"), &vec!["0123456789ab".to_owned()]));
        let kept = LeaseKept { rollout: "new".into(), ..LeaseKept::default() };
        let now = write(&cluster, &seen, Write::Renew, writing("one", &kept)).await.unwrap();
        let written = fake.bodies().pop().unwrap();
        assert_eq!(
            written["metadata"]["annotations"],
            json!({"k3s-registry-agent/halted": null, "k3s-registry-agent/rollout": "new"})
        );
        assert_eq!(written["spec"], json!({"renewTime": "2026-01-02T03:04:05.500000Z"}));
        assert_eq!(now.kept, kept);
        let now = write(&cluster, &now, Write::Release, writing("one", &kept)).await.unwrap();
        assert_eq!(now.record.holder, None);
        assert_eq!(fake.object(LEASE)["metadata"]["annotations"]["somebody"], "else");
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_been_written_is_told_apart_and_nothing_is_tried_twice() {
        let (fake, counts, cluster) = given();
        fake.put(LEASE, json!({}));
        let seen = read(&cluster).await.unwrap().unwrap();
        let request = format!("PATCH {LEASE}");
        for (answer, is_refusal) in [
            (Answer::Status(409), true),
            (Answer::Status(403), true),
            (Answer::Status(404), true),
            (Answer::Status(422), true),
            (Answer::Status(429), true),
            (Answer::Status(500), false),
            (Answer::Status(503), false),
            (Answer::Status(504), false),
            (Answer::Text("no JSON".into()), false),
            (Answer::Hang, false),
        ] {
            fake.next(&request, answer.clone());
            let kept = LeaseKept::default();
            let trouble = write(&cluster, &seen, Write::Renew, writing("one", &kept)).await.unwrap_err();
            assert_eq!(trouble.is_refusal(), is_refusal, "{answer:?}: {trouble}");
        }
        assert_eq!(fake.requests().iter().filter(|made| **made == request).count(), 10);
        assert_eq!(counts.of("patch abandoned"), 1, "silence has an end");
    }
}

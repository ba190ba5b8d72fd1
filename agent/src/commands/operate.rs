//! `pause`, `resume` and `retry`: what an operator says to one node, or to the whole cluster.

use std::sync::Arc;

use serde_json::json;

use super::{Answer, Code};
use crate::args::{ClusterArgs, OperateArgs};
use crate::cluster::client::{Cluster, ConnectError, Source};
use crate::cluster::operator::{Change, OperatorError, annotate_node, pause_all, retry_all};
use crate::random::dice;
use crate::tally::Uncounted;

/// Why an operator's command could not be done.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// Which cluster is not known.
    #[error("cannot set up the connection to the cluster")]
    Connect(#[from] ConnectError),
    /// What was asked of the cluster.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// The clock cannot be read.
    #[error("cannot read the clock")]
    Clock(#[source] std::io::Error),
    /// The result cannot be shown.
    #[error("cannot write the result")]
    Write(#[source] std::io::Error),
}

/// Makes the connection that a person's flags name. Asks the server nothing yet.
pub(super) async fn connected(args: &ClusterArgs) -> Result<Cluster, ConnectError> {
    let ClusterArgs { kubeconfig, context, namespace } = args;
    let source = Source::Person { kubeconfig: kubeconfig.clone(), context: context.clone() };
    Cluster::connect(&source, namespace, Arc::new(Uncounted)).await
}

/// Runs `pause`, or `resume`.
pub async fn pause(args: &OperateArgs, pause: bool) -> Result<Answer, OperateError> {
    let OperateArgs { node, cluster, output: _ } = args;
    paused(&connected(cluster).await?, node.as_deref(), pause).await
}

/// Runs `retry`.
pub async fn retry(args: &OperateArgs) -> Result<Answer, OperateError> {
    let OperateArgs { node, cluster, output: _ } = args;
    retried(&connected(cluster).await?, node.as_deref(), &dice()).await
}

async fn paused(cluster: &Cluster, node: Option<&str>, pause: bool) -> Result<Answer, OperateError> {
    let change = match node {
        Some(node) => annotate_node(cluster, node, "pause", pause.then_some("true")).await,
        None => pause_all(cluster, pause).await,
    };
    let change = match change {
        Err(error @ OperatorError::Edit { .. }) => return Ok(refused(&error)),
        change => change?,
    };
    let whose = node.map_or_else(|| "the cluster".to_owned(), |node| format!("the node {node}"));
    let mut text = match (change, pause) {
        (Change::Already, true) => format!("{whose} was paused already"),
        (Change::Already, false) => format!("{whose} was not paused"),
        (Change::Made | Change::MadeUntilApplied, true) => {
            format!("{whose} is paused: nothing new is started; what has begun is proven or undone")
        }
        (Change::Made | Change::MadeUntilApplied, false) => format!("{whose} is not paused any more"),
    };
    if change == Change::MadeUntilApplied {
        text.push_str("\nthe ConfigMap is kept by kubectl apply: change it there, too, or the next apply undoes this");
    }
    let json = json!({"node": node, "paused": pause, "changed": change != Change::Already});
    Ok(Answer { text, json, code: Code::Done })
}

async fn retried(cluster: &Cluster, node: Option<&str>, token: &str) -> Result<Answer, OperateError> {
    let text = match node {
        Some(node) => {
            annotate_node(cluster, node, "retry", Some(token)).await?;
            format!("the node {node} may try once more what failed there (token {token})")
        }
        None => {
            retry_all(cluster, token).await?;
            format!("every halted revision may be tried once more (token {token})")
        }
    };
    Ok(Answer { text, json: json!({"node": node, "retry": token}), code: Code::Done })
}

/// An input that a person has to mend first.
fn refused(error: &OperatorError) -> Answer {
    let text = error.to_string();
    Answer { json: json!({"refused": text}), text, code: Code::Refused }
}

#[cfg(test)]
mod tests {
    use agent_core::policy::Policy;
    use serde_json::Value;

    use super::*;
    use crate::cluster::fake::{Answer as Reply, Counts, Fake};
    use crate::cluster::operator::LEASE;

    const NODE: &str = "/api/v1/nodes/n1";
    const NAMESPACE: &str = "/api/v1/namespaces/k3s-registry-agent";
    const MAP: &str = "/api/v1/namespaces/k3s-registry-agent/configmaps/registries";

    fn given() -> (Fake, Arc<Counts>, Cluster) {
        let (fake, counts) = (Fake::default(), Arc::new(Counts::default()));
        let cluster = fake.cluster(counts.clone());
        (fake, counts, cluster)
    }

    fn lease() -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/k3s-registry-agent/leases/{LEASE}")
    }

    fn policy(fake: &Fake) -> Value {
        fake.object(MAP)["data"]["policy.yaml"].clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_paused_and_resumed_by_its_annotation_and_said_only_once() {
        let (fake, counts, cluster) = given();
        fake.put(NODE, json!({"metadata": {"annotations": {"other": "1"}}}));
        let said = paused(&cluster, Some("n1"), true).await.unwrap();
        assert!(said.text.starts_with("the node n1 is paused: "), "{said:?}");
        let annotations = |fake: &Fake| fake.object(NODE)["metadata"]["annotations"].clone();
        assert_eq!(annotations(&fake), json!({"other": "1", "k3s-registry-agent/pause": "true"}));
        assert_eq!(paused(&cluster, Some("n1"), true).await.unwrap().text, "the node n1 was paused already");
        assert_eq!(paused(&cluster, Some("n1"), false).await.unwrap().json["changed"], true);
        assert_eq!(annotations(&fake), json!({"other": "1"}));
        assert_eq!(paused(&cluster, Some("n1"), false).await.unwrap().text, "the node n1 was not paused");
        assert_eq!(counts.of("patch ok"), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_cluster_is_paused_in_the_policy_whose_other_text_stays() {
        let (fake, _, cluster) = given();
        let text = "# Jo: ask me first\nversion: 1\norder: canary # calm\n";
        fake.put(MAP, json!({"data": {"policy.yaml": text, "registries.yaml": "mirrors: {}"}}));
        let said = paused(&cluster, None, true).await.unwrap();
        assert_eq!((said.code, said.text.contains("kubectl apply")), (Code::Done, false), "{said:?}");
        assert_eq!(policy(&fake), format!("{text}pause: true\n"));
        assert_eq!(fake.object(MAP)["data"]["registries.yaml"], "mirrors: {}");
        paused(&cluster, None, false).await.unwrap();
        assert_eq!(policy(&fake), format!("{text}pause: false\n"));
        assert!(!Policy::parse(policy(&fake).as_str().unwrap()).unwrap().pause);
    }

    #[tokio::test(start_paused = true)]
    async fn a_config_map_without_a_policy_gets_one_that_says_no_more() {
        let (fake, counts, cluster) = given();
        let applied = json!({"kubectl.kubernetes.io/last-applied-configuration": "{}"});
        fake.put(MAP, json!({"metadata": {"annotations": applied}, "data": {}}));
        assert_eq!(paused(&cluster, None, false).await.unwrap().text, "the cluster was not paused");
        assert_eq!(counts.of("patch ok"), 0);
        let said = paused(&cluster, None, true).await.unwrap();
        assert!(said.text.ends_with("or the next apply undoes this"), "{said:?}");
        assert_eq!(policy(&fake), "pause: true\n");
    }

    #[tokio::test(start_paused = true)]
    async fn an_edit_in_between_is_read_again_and_not_lost() {
        let (fake, counts, cluster) = given();
        fake.put(MAP, json!({"data": {"policy.yaml": "order: canary\n"}}));
        fake.next(&format!("PATCH {MAP}"), Reply::Status(409));
        paused(&cluster, None, true).await.unwrap();
        assert_eq!((counts.of("patch conflict"), counts.of("patch ok"), counts.of("get ok")), (1, 1, 2));
        let sent = fake.bodies();
        assert!(sent.iter().all(|body| body["metadata"]["resourceVersion"].is_string()), "{sent:?}");
        fake.always(&format!("PATCH {MAP}"), Some(Reply::Status(409)));
        let error = paused(&cluster, None, false).await.unwrap_err();
        assert!(error.to_string().contains("try again"), "{error}");
        assert_eq!(policy(&fake), "order: canary\npause: true\n");
    }

    #[tokio::test(start_paused = true)]
    async fn an_invalid_policy_is_refused_with_its_mistakes_and_what_to_do() {
        let (fake, counts, cluster) = given();
        fake.put(MAP, json!({"data": {"policy.yaml": "ordr: canary\n"}}));
        let said = paused(&cluster, None, true).await.unwrap();
        assert_eq!(said.code, Code::Refused);
        for part in ["ordr", "nothing new is started", "edit configmap registries"] {
            assert!(said.text.contains(part), "{part} is not in {said:?}");
        }
        assert_eq!(counts.of("patch ok"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_has_a_new_token_on_the_node_or_on_the_lease() {
        let (fake, _, cluster) = given();
        fake.put(NODE, json!({}));
        fake.put(&lease(), json!({"metadata": {"annotations": {"k3s-registry-agent/halted": "0123456789ab"}}}));
        retried(&cluster, Some("n1"), "00c0ffee").await.unwrap();
        assert_eq!(fake.object(NODE)["metadata"]["annotations"]["k3s-registry-agent/retry"], "00c0ffee");
        retried(&cluster, None, "deadbeef").await.unwrap();
        let annotations = &fake.object(&lease())["metadata"]["annotations"];
        let wanted = json!({"k3s-registry-agent/halted": "0123456789ab", "k3s-registry-agent/retry": "deadbeef"});
        assert_eq!(*annotations, wanted);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_there_is_named_with_its_remedy() {
        let (fake, _, cluster) = given();
        let error = |result: Result<Answer, OperateError>| result.unwrap_err().to_string();
        for node in ["n9", "../namespaces/x", "n1?dryRun=All", "..", ""] {
            let said = error(paused(&cluster, Some(node), true).await);
            assert!(said.starts_with(&format!("there is no Node {node}:")), "{said}");
        }
        assert_eq!(fake.requests(), ["GET /api/v1/nodes/n9"], "no odd name becomes a path");
        for said in [error(paused(&cluster, None, true).await), error(retried(&cluster, None, "t").await)] {
            assert!(said.contains("no namespace k3s-registry-agent") && said.contains("install.yaml"), "{said}");
        }
        fake.put(NAMESPACE, json!({}));
        let said = error(paused(&cluster, None, true).await);
        assert!(said.contains("no ConfigMap registries"), "{said}");
        let said = error(retried(&cluster, None, "t").await);
        assert!(said.contains("no Lease"), "{said}");
        fake.put(NODE, json!({}));
        fake.next(&format!("PATCH {NODE}"), Reply::Status(403));
        let said = error(retried(&cluster, Some("n1"), "t").await);
        assert!(said.starts_with("cannot annotate the Node n1 (this account has not the right to"), "{said}");
        fake.next(&format!("GET {NODE}"), Reply::Hang);
        let said = error(retried(&cluster, Some("n1"), "t").await);
        assert!(said.starts_with("cannot read the Node n1 (is the cluster up"), "{said}");
    }
}

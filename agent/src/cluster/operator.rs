//! What an operator's commands read and write: with a person's rights, and as plain JSON, since a few fields of four kinds
//! are wanted once.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::inputs::CONFIG_MAP;
use agent_core::node::annotations::PREFIX;
use agent_core::policy::{EditError, Policy};
use agent_core::status::{LeaseSaid, Member, Seen};
use http::{Method, Request};
use serde_json::{Value, json};

use super::client::{Cluster, call};
use super::trouble::Trouble;

/// The coordinator's Lease.
pub const LEASE: &str = "k3s-registry-agent-coordinator";
/// Nodes in a page: a Node with its images and conditions has some 20 KiB.
const PAGE: usize = 250;
/// Edits that are tried; each conflict is followed by a fresh read.
const TRIES: usize = 4;
const POLICY: &str = "policy.yaml";

/// Why an operator's command was not done.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The API server did not give or take something.
    #[error("cannot {doing} ({remedy})")]
    Ask {
        /// What was being done to what.
        doing: String,
        /// What a person can do.
        remedy: &'static str,
        /// Why.
        #[source]
        source: Trouble,
    },
    /// There is no such namespace.
    #[error(
        "there is no namespace {namespace}: kubectl apply -f manifests/install.yaml installs the agent; another one is named by --namespace"
    )]
    NotInstalled {
        /// The namespace.
        namespace: String,
    },
    /// The coordinator's Lease is not there.
    #[error(
        "there is no Lease {LEASE} in the namespace {namespace}: kubectl apply -f manifests/install.yaml creates it"
    )]
    NoLease {
        /// The namespace.
        namespace: String,
    },
    /// There is no such Node.
    #[error("there is no Node {node}: kubectl get nodes names them")]
    NoNode {
        /// The name.
        node: String,
    },
    /// There are no inputs.
    #[error(
        "there is no ConfigMap {CONFIG_MAP} in the namespace {namespace}: without it no node is touched, and there is nothing to pause"
    )]
    NoConfigMap {
        /// The namespace.
        namespace: String,
    },
    /// The policy was not changed.
    #[error(
        "cannot change policy.yaml of the ConfigMap {CONFIG_MAP}{found}; kubectl -n {namespace} edit configmap {CONFIG_MAP}"
    )]
    Edit {
        /// The namespace.
        namespace: String,
        /// What is wrong with it.
        found: String,
        /// Why.
        #[source]
        source: EditError,
    },
}

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was so already. Nothing was written.
    Already,
    /// It was written.
    Made,
    /// It was written to an object that somebody keeps by `kubectl apply`, whose next apply may undo it.
    MadeUntilApplied,
}

/// Reads all that `status` shows. Pods are left out where they may not be listed.
///
/// # Errors
///
/// What could not be read, or that nothing is installed.
pub async fn look(cluster: &Cluster) -> Result<Seen, OperatorError> {
    let namespace = cluster.namespace();
    let lease = match get(cluster, &lease_path(namespace)).await {
        Ok(lease) => Some(LeaseSaid {
            annotations: texts(&lease["metadata"]["annotations"]),
            renewed: lease["spec"]["renewTime"].as_str().and_then(|time| time.parse().ok()),
        }),
        Err(Trouble::NotFound) => {
            installed(cluster).await?;
            None
        }
        Err(source) => return Err(ask(format!("read the Lease {LEASE}"), source)),
    };
    let mut nodes = Vec::new();
    list(cluster, "/api/v1/nodes", |node| nodes.push(member(node)))
        .await
        .map_err(|source| ask("list the Nodes".to_owned(), source))?;
    let mut on = BTreeSet::new();
    let agents =
        match list(cluster, &format!("/api/v1/namespaces/{namespace}/pods"), |pod| on.extend(agent_on(pod))).await {
            Ok(()) => Some(on),
            Err(Trouble::Forbidden(_)) => None,
            Err(source) => return Err(ask(format!("list the pods of {namespace}"), source)),
        };
    Ok(Seen { lease, nodes, agents })
}

/// Writes or removes one of our annotations of a Node.
///
/// # Errors
///
/// There is no such Node, or it could not be read or written.
pub async fn annotate_node(
    cluster: &Cluster,
    node: &str,
    name: &str,
    value: Option<&str>,
) -> Result<Change, OperatorError> {
    let none = || OperatorError::NoNode { node: node.to_owned() };
    // It becomes part of a path.
    let is_name = node.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte));
    if !is_name || node.trim_matches('.').is_empty() {
        return Err(none());
    }
    let path = format!("/api/v1/nodes/{node}");
    let failed = |doing: &str, source| match source {
        Trouble::NotFound => none(),
        source => ask(format!("{doing} the Node {node}"), source),
    };
    let seen = get(cluster, &path).await.map_err(|source| failed("read", source))?;
    let key = format!("{PREFIX}{name}");
    if seen["metadata"]["annotations"][&key].as_str() == value {
        return Ok(Change::Already);
    }
    let body = json!({"metadata": {"annotations": {key: value}}});
    patch(cluster, &path, &body).await.map_err(|source| failed("annotate", source))?;
    Ok(Change::Made)
}

/// Writes a token to the annotation `retry` of the coordinator's Lease.
///
/// # Errors
///
/// There is no Lease, or it could not be written.
pub async fn retry_all(cluster: &Cluster, token: &str) -> Result<(), OperatorError> {
    let body = json!({"metadata": {"annotations": {format!("{PREFIX}retry"): token}}});
    match patch(cluster, &lease_path(cluster.namespace()), &body).await {
        Ok(_) => Ok(()),
        Err(Trouble::NotFound) => {
            installed(cluster).await?;
            Err(OperatorError::NoLease { namespace: cluster.namespace().to_owned() })
        }
        Err(source) => Err(ask(format!("annotate the Lease {LEASE}"), source)),
    }
}

/// Writes `pause` into the policy, and leaves the rest of its text as it is. Each write carries the version of what was read:
/// an edit by somebody else in between is never lost.
///
/// # Errors
///
/// There is no ConfigMap, its policy cannot be changed by us, or it could not be read or written.
pub async fn pause_all(cluster: &Cluster, pause: bool) -> Result<Change, OperatorError> {
    let namespace = cluster.namespace();
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/{CONFIG_MAP}");
    for _ in 0..TRIES {
        let seen = match get(cluster, &path).await {
            Ok(seen) => seen,
            Err(Trouble::NotFound) => {
                installed(cluster).await?;
                return Err(OperatorError::NoConfigMap { namespace: namespace.to_owned() });
            }
            Err(source) => return Err(ask(format!("read the ConfigMap {CONFIG_MAP}"), source)),
        };
        let before = seen["data"][POLICY].as_str().unwrap_or_default();
        let after = Policy::with_pause(before, pause).map_err(|source| refused(namespace, source))?;
        if after == before {
            return Ok(Change::Already);
        }
        let version = &seen["metadata"]["resourceVersion"];
        let body = json!({"metadata": {"resourceVersion": version}, "data": {POLICY: after}});
        match patch(cluster, &path, &body).await {
            Ok(_) => {
                let applied = &seen["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
                return Ok(if applied.is_null() { Change::Made } else { Change::MadeUntilApplied });
            }
            Err(Trouble::Conflict) => {}
            Err(source) => return Err(ask(format!("change the ConfigMap {CONFIG_MAP}"), source)),
        }
    }
    Err(ask(format!("change the ConfigMap {CONFIG_MAP}"), Trouble::Conflict))
}

fn refused(namespace: &str, source: EditError) -> OperatorError {
    let found = match &source {
        EditError::Invalid(errors) => {
            let errors: Vec<_> = errors.iter().map(|error| format!("; {error}")).collect();
            format!(": nothing new is started while it is invalid{}", errors.concat())
        }
        EditError::ByHand { .. } => String::new(),
    };
    OperatorError::Edit { namespace: namespace.to_owned(), found, source }
}

/// Tells a cluster without the product from one that lacks an object of it.
async fn installed(cluster: &Cluster) -> Result<(), OperatorError> {
    let namespace = cluster.namespace();
    match get(cluster, &format!("/api/v1/namespaces/{namespace}")).await {
        Err(Trouble::NotFound) => Err(OperatorError::NotInstalled { namespace: namespace.to_owned() }),
        // Who may not read namespaces is told of the object alone.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn ask(doing: String, source: Trouble) -> OperatorError {
    let remedy = match &source {
        Trouble::Forbidden(_) => {
            "this account has not the right to: ask who administers the cluster, or name another by --kubeconfig or --context"
        }
        Trouble::TimedOut | Trouble::Unreachable(_) => {
            "is the cluster up, and is it the one that is meant? --kubeconfig and --context name another"
        }
        Trouble::Conflict => "others write it all the time: try again",
        Trouble::NotFound | Trouble::Gone | Trouble::Refused { .. } | Trouble::Malformed => "try again",
    };
    OperatorError::Ask { doing, remedy, source }
}

fn lease_path(namespace: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{LEASE}")
}

fn member(node: &Value) -> Member {
    let conditions = node["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    Member {
        name: node["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        labels: texts(&node["metadata"]["labels"]),
        annotations: texts(&node["metadata"]["annotations"]),
        is_ready: conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True"),
        is_cordoned: node["spec"]["unschedulable"] == true,
    }
}

/// The Node on which this pod runs, if it is an agent's. One that is being deleted runs on, for as long as its turn takes.
fn agent_on(pod: &Value) -> Option<String> {
    let is_agent = pod["metadata"]["labels"]["app.kubernetes.io/component"] == "agent";
    let is_running = pod["status"]["phase"] == "Running";
    (is_agent && is_running).then(|| pod["spec"]["nodeName"].as_str().map(str::to_owned)).flatten()
}

/// A mapping of texts; what else is in it is left out.
fn texts(map: &Value) -> BTreeMap<String, String> {
    let pairs = map.as_object().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Gives each item of a collection, page by page.
async fn list(cluster: &Cluster, path: &str, mut each: impl FnMut(&Value)) -> Result<(), Trouble> {
    let mut after = String::new();
    loop {
        let page = get(cluster, &format!("{path}?limit={PAGE}{after}")).await?;
        page["items"].as_array().into_iter().flatten().for_each(&mut each);
        match page["metadata"]["continue"].as_str() {
            Some(next) if !next.is_empty() => after = format!("&continue={next}"),
            Some(_) | None => return Ok(()),
        }
    }
}

async fn get(cluster: &Cluster, path: &str) -> Result<Value, Trouble> {
    send(cluster, Request::get(path), Vec::new()).await
}

async fn patch(cluster: &Cluster, path: &str, body: &Value) -> Result<Value, Trouble> {
    let request = Request::builder().method(Method::PATCH).uri(format!("{path}?fieldManager=k3s-registry-agent"));
    let request = request.header(http::header::CONTENT_TYPE, "application/merge-patch+json");
    send(cluster, request, body.to_string().into_bytes()).await
}

async fn send(cluster: &Cluster, request: http::request::Builder, body: Vec<u8>) -> Result<Value, Trouble> {
    let request = request.body(body).map_err(|_| Trouble::Malformed)?;
    // As text: kube logs the body of an answer that it cannot decode.
    let text = call(cluster.client().request_text(request)).await?;
    serde_json::from_str(&text).map_err(|_| Trouble::Malformed)
}

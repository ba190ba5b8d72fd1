//! `status`: where the rollout stands, once or again and again.

use std::convert::Infallible;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

use agent_core::node::observed::Role;
use agent_core::status::{NodeLine, Paint, Status};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::operate::{OperateError, connected};
use super::{Answer, Code};
use crate::args::{Output, StatusArgs};
use crate::cluster::client::Cluster;
use crate::cluster::operator::look;
use crate::host::clock::clock;
use crate::pass::Chain;

/// Goes to the upper left corner and clears the screen.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// Runs `status`. With `--watch` it ends by a signal, or when nobody reads any more.
pub async fn status(args: &StatusArgs) -> Result<Answer, OperateError> {
    let StatusArgs { cluster, watch, interval_seconds, no_color, output } = args;
    let is_terminal = io::stdout().is_terminal();
    let paint = if is_terminal && !no_color { Paint::Coloured } else { Paint::Plain };
    let cluster = connected(cluster).await?;
    if !watch {
        return seen(&cluster, paint).await;
    }
    let mut show = |text: &str| {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    };
    let watching = Watching { output: *output, paint, is_terminal, interval: Duration::from_secs(*interval_seconds) };
    match watching.run(&cluster, &mut show).await {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            Ok(Answer { text: String::new(), json: Value::Null, code: Code::Done })
        }
        Err(error) => Err(OperateError::Write(error)),
        Ok(never) => match never {},
    }
}

async fn seen(cluster: &Cluster, paint: Paint) -> Result<Answer, OperateError> {
    let seen = look(cluster).await?;
    let now = clock().map_err(OperateError::Clock)?.wall;
    let status = Status::of(&seen, now);
    let code = if status.is_all_current { Code::Done } else { Code::NotCurrent };
    Ok(Answer { text: status.lines(now, paint), json: json(&status), code })
}

struct Watching {
    output: Output,
    paint: Paint,
    is_terminal: bool,
    interval: Duration,
}

impl Watching {
    /// Shows what is seen whenever it differs, for ever. What cannot be seen is shown as well: while a single server
    /// restarts, nobody answers.
    async fn run(&self, cluster: &Cluster, show: &mut impl FnMut(&str) -> io::Result<()>) -> io::Result<Infallible> {
        let mut last = String::new();
        loop {
            let (text, json) = match seen(cluster, self.paint).await {
                Ok(answer) => (answer.text, answer.json.to_string()),
                Err(error) => {
                    let fault = Chain(&error).to_string();
                    (format!("{fault}\n"), json!({"fault": fault}).to_string())
                }
            };
            let next = match self.output {
                Output::Text => text,
                Output::Json => format!("{json}\n"),
            };
            // On a terminal an age that grows is shown as well; in a file it would be a line a second.
            let key = if self.is_terminal { next.clone() } else { json };
            if key != last {
                match self.output {
                    Output::Text if self.is_terminal => show(&format!("{CLEAR}{next}"))?,
                    Output::Text if !last.is_empty() => show(&format!("\n{next}"))?,
                    Output::Text | Output::Json => show(&next)?,
                }
                last = key;
            }
            sleep(self.interval).await;
        }
    }
}

fn json(status: &Status) -> Value {
    let Status { rollout, warning, halted, nodes, is_all_current } = status;
    let nodes: Vec<Value> = nodes.iter().map(line).collect();
    json!({"rollout": rollout, "warning": warning, "halted": halted, "allCurrent": is_all_current, "nodes": nodes})
}

fn line(node: &NodeLine) -> Value {
    let NodeLine {
        name,
        role,
        phase,
        revision,
        failed,
        since,
        reason,
        turn,
        is_excluded,
        is_paused,
        is_ready,
        has_agent,
        is_counted,
    } = node;
    let role = match role {
        Role::Server => "server",
        Role::Agent => "agent",
    };
    json!({
        "name": name, "role": role, "phase": phase, "revision": revision, "failed": failed, "since": since,
        "reason": reason, "turn": turn, "excluded": is_excluded, "paused": is_paused, "ready": is_ready,
        "agent": has_agent, "counted": is_counted,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::fake::{Answer as Reply, Counts, Fake};
    use crate::cluster::operator::LEASE;

    const PODS: &str = "/api/v1/namespaces/k3s-registry-agent/pods";

    fn lease() -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/k3s-registry-agent/leases/{LEASE}")
    }

    fn node(fake: &Fake, name: &str, phase: &str) {
        let annotations = json!({"k3s-registry-agent/phase": phase, "k3s-registry-agent/reason": "so",
            "k3s-registry-agent/revision": "0123456789ab"});
        let ready = json!([{"type": "Ready", "status": "True"}]);
        fake.put(
            &format!("/api/v1/nodes/{name}"),
            json!({"metadata": {"annotations": annotations, "labels": {"odd": 1}}, "status": {"conditions": ready}}),
        );
    }

    fn pod(fake: &Fake, node: &str) {
        let labels = json!({"app.kubernetes.io/component": "agent"});
        fake.put(
            &format!("{PODS}/agent-{node}"),
            json!({"metadata": {"labels": labels}, "spec": {"nodeName": node}, "status": {"phase": "Running"}}),
        );
    }

    /// Two nodes and their agents, with a coordinator.
    fn given() -> (Fake, Cluster) {
        let fake = Fake::default();
        let cluster = fake.cluster(Arc::new(Counts::default()));
        fake.put(&lease(), json!({"metadata": {"annotations": {"k3s-registry-agent/rollout": "all is well"}}}));
        for name in ["n1", "n2"] {
            node(&fake, name, "Current");
            pod(&fake, name);
        }
        (fake, cluster)
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_cluster_says_is_shown_to_people_and_to_programs() {
        let (fake, cluster) = given();
        let answer = seen(&cluster, Paint::Plain).await.unwrap();
        assert_eq!(answer.code, Code::Done);
        assert!(answer.text.starts_with("all is well\n2 nodes: 2 Current\n\nNODE "), "{}", answer.text);
        let wanted = json!({"name": "n2", "role": "agent", "phase": "Current", "revision": "0123456789ab", "failed": null,
            "since": null, "reason": "so", "turn": null, "excluded": false, "paused": false, "ready": true, "agent": true,
            "counted": true});
        assert_eq!(answer.json["nodes"][1], wanted);
        assert_eq!((&answer.json["allCurrent"], &answer.json["rollout"]), (&json!(true), &json!("all is well")));
        // A pod that does not start, or that is not the agent's, is no agent; one that leaves is still one.
        fake.put(
            &format!("{PODS}/agent-n1"),
            json!({"metadata": {"labels": {"app.kubernetes.io/component": "agent"}}, "spec": {"nodeName": "n1"},
                "status": {"phase": "Pending"}}),
        );
        fake.put(&format!("{PODS}/other"), json!({"spec": {"nodeName": "n1"}, "status": {"phase": "Running"}}));
        fake.put(
            &format!("{PODS}/agent-n2"),
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "labels": {"app.kubernetes.io/component": "agent"}},
                "spec": {"nodeName": "n2"}, "status": {"phase": "Running"}}),
        );
        let answer = seen(&cluster, Paint::Plain).await.unwrap();
        let agents = [0, 1].map(|at| answer.json["nodes"][at]["agent"].clone());
        assert_eq!((answer.code, agents), (Code::NotCurrent, [json!(false), json!(true)]));
    }

    #[tokio::test(start_paused = true)]
    async fn who_may_not_list_pods_still_sees_the_nodes() {
        let (fake, cluster) = given();
        fake.always(&format!("GET {PODS}"), Some(Reply::Status(403)));
        let answer = seen(&cluster, Paint::Plain).await.unwrap();
        assert_eq!((answer.code, &answer.json["nodes"][0]["agent"]), (Code::Done, &Value::Null));
        fake.always("GET /api/v1/nodes", Some(Reply::Status(403)));
        let error = seen(&cluster, Paint::Plain).await.unwrap_err().to_string();
        assert!(error.starts_with("cannot list the Nodes (this account has not the right to"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_without_us_is_told_from_one_without_a_coordinator() {
        let fake = Fake::default();
        let cluster = fake.cluster(Arc::new(Counts::default()));
        let error = seen(&cluster, Paint::Plain).await.unwrap_err().to_string();
        assert!(error.contains("no namespace k3s-registry-agent: kubectl apply -f"), "{error}");
        fake.put("/api/v1/namespaces/k3s-registry-agent", json!({}));
        let answer = seen(&cluster, Paint::Plain).await.unwrap();
        assert!(answer.text.starts_with("no coordinator: "), "{}", answer.text);
        assert_eq!(answer.code, Code::NotCurrent);
    }

    #[tokio::test(start_paused = true)]
    async fn watching_shows_what_differs_and_goes_on_while_nobody_answers() {
        let (fake, cluster) = given();
        let mut shown = Vec::new();
        let mut looks = 0;
        let mut show = |text: &str| {
            shown.push(text.to_owned());
            looks += 1;
            match looks {
                1 => fake.always("GET /api/v1/nodes", Some(Reply::Status(503))),
                2 => {
                    fake.always("GET /api/v1/nodes", None);
                    node(&fake, "n2", "Proving");
                }
                _ => return Err(ErrorKind::BrokenPipe.into()),
            }
            Ok(())
        };
        let interval = Duration::from_secs(2);
        let watching = Watching { output: Output::Text, paint: Paint::Plain, is_terminal: false, interval };
        let error = watching.run(&cluster, &mut show).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert!(shown[0].starts_with("all is well\n2 nodes: 2 Current\n"), "{shown:?}");
        assert!(shown[1].starts_with("\ncannot list the Nodes (try again): the API server answers 503"), "{shown:?}");
        assert!(shown[2].starts_with("\nall is well\n2 nodes: 1 Current, 1 Proving\n"), "{shown:?}");
        assert_eq!(shown.len(), 3);
    }
}

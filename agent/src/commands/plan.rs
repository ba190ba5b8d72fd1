//! `plan`: what would happen, in which order, on one node or in a cluster. Nothing is written.

mod node;

use std::collections::BTreeSet;

use agent_core::digest::Key;
use agent_core::fleet::{LeaseKept, NodeRaw, NodeSeen};
use agent_core::forecast::{Forecast, Listed, forecast};
use agent_core::inputs::Inputs;
use agent_core::node::annotations::{PREFIX, sentence};
use agent_core::node::discovery;
use agent_core::node::journal::Record;
use agent_core::node::plan::Desired;
use agent_core::node::prepare::{Ground, policy, prepare};
use agent_core::policy::{Mode, Policy};
use agent_core::registries::finding::Finding;
use agent_core::registries::lint::FileFacts;
use agent_core::revision::Revision;
use agent_core::status::{Member, Seen, Status, meaning};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::apply::{findings_json, findings_text};
use super::operate::{OperateError, connected};
use super::session::SessionError;
use super::{Answer, Code, line};
use crate::args::PlanArgs;
use crate::cluster::client::Cluster;
use crate::cluster::operator::look;
use crate::host::clock::clock;
use crate::inputs::cluster::{ExtraSecret, read_inputs};

/// Lines of turns, and names in one line, that a person is shown; programs get all.
const SHOWN: usize = 40;

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The node, or the directory of inputs.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The cluster.
    #[error(transparent)]
    Operate(#[from] OperateError),
}

/// Runs `plan`.
pub async fn plan(args: &PlanArgs) -> Result<Answer, PlanError> {
    let PlanArgs { inputs, node, cluster, output: _ } = args;
    if let Some(inputs) = inputs {
        return Ok(node::of_node(inputs, node).await?);
    }
    let cluster = connected(cluster).await.map_err(OperateError::from)?;
    let now = clock().map_err(OperateError::Clock)?.wall;
    Ok(of_cluster(&cluster, now).await?)
}

/// What the inputs of a cluster come to.
enum Goal {
    /// This revision is to reach the nodes.
    Revision(String),
    /// Nothing is to: why.
    Nothing(String),
    /// They are refused: why.
    Refused(Vec<String>),
    /// They could not be read: why.
    Unknown(String),
}

struct Wanted {
    goal: Goal,
    policy: Policy,
    /// It was read, and is not what would be without one.
    is_policy_known: bool,
    findings: Vec<Finding>,
}

async fn of_cluster(cluster: &Cluster, now: Timestamp) -> Result<Answer, OperateError> {
    let seen = look(cluster).await?;
    let Wanted { goal, policy, is_policy_known, findings } = wanted(cluster).await;
    let mut text = findings_text(&findings, &[]);
    let listed = listed(&seen, now);
    let Status { rollout, warning, .. } = Status::of(&seen, now);
    let (revision, whence) = match goal {
        Goal::Revision(revision) => (revision, "what the inputs make now".to_owned()),
        Goal::Nothing(why) => {
            line(&mut text, "wanted", &why);
            return Ok(Answer { text, json: json!({"wanted": null, "why": why}), code: Code::Done });
        }
        Goal::Refused(refused) => {
            for sentence in &refused {
                line(&mut text, "refused", sentence);
            }
            let json = json!({"refused": refused, "findings": findings_json(&findings)});
            return Ok(Answer { text, json, code: Code::Refused });
        }
        Goal::Unknown(why) => match asked(&listed) {
            Some(revision) => (revision, format!("what the nodes ask for; the inputs: {why}")),
            None => {
                line(&mut text, "wanted", &format!("unknown, and no one revision is asked for; the inputs: {why}"));
                return Ok(Answer { text, json: json!({"wanted": null, "why": why}), code: Code::Fault });
            }
        },
    };
    line(&mut text, "wanted", &format!("{revision}: {whence}"));
    line(&mut text, "now", &rollout);
    if !is_policy_known {
        line(&mut text, "policy", "not read: the defaults are supposed, no pause and no windows among them");
    }
    if let Some(warning) = &warning {
        line(&mut text, "warning", warning);
    }
    let found = forecast(&listed, &policy, &revision);
    let mut json = json(&revision, &found, &findings);
    (json["now"], json["warning"]) = (json!(rollout), json!(warning));
    json["policyKnown"] = json!(is_policy_known);
    Ok(Answer { text: text + &words(&found, &policy), json, code: Code::Done })
}

async fn wanted(cluster: &Cluster) -> Wanted {
    let no_policy = |goal| Wanted { goal, policy: Policy::default(), is_policy_known: false, findings: Vec::new() };
    let mut inputs = match read_inputs(cluster, &BTreeSet::new()).await {
        Ok(inputs) => inputs,
        Err(why) => return no_policy(Goal::Unknown(why)),
    };
    let (policy, refusals) = policy(&inputs, cluster.namespace(), None);
    if !refusals.is_empty() {
        return no_policy(Goal::Refused(refusals.iter().map(ToString::to_string).collect()));
    }
    let extras = extras(&policy);
    if !extras.is_empty() {
        inputs = match read_inputs(cluster, &extras).await {
            Ok(inputs) => inputs,
            Err(why) => {
                return Wanted { goal: Goal::Unknown(why), policy, is_policy_known: true, findings: Vec::new() };
            }
        };
    }
    let (goal, findings) = match policy.mode {
        Mode::Restore => (Goal::Revision(Revision::restore().as_str().to_owned()), Vec::new()),
        Mode::Report => (Goal::Nothing("mode report: no node is touched".to_owned()), Vec::new()),
        Mode::Manage => made(&inputs, cluster.namespace(), &policy),
    };
    Wanted { goal, policy, is_policy_known: true, findings }
}

/// The Secrets elsewhere that a policy names.
pub(super) fn extras(policy: &Policy) -> BTreeSet<ExtraSecret> {
    let named = policy.secrets.iter();
    named.map(|secret| ExtraSecret { namespace: secret.namespace.clone(), name: secret.name.clone() }).collect()
}

/// What a node would make of them of which nothing is known.
fn made(inputs: &Inputs, namespace: &str, policy: &Policy) -> (Goal, Vec<Finding>) {
    // It names the inputs of directories alone.
    let key = Key::new([0; 32]);
    let (record, installation) = (Record::default(), discovery::without_service());
    let files = FileFacts::new();
    let ground = Ground { namespace, key: &key, record: &record, installation: &installation, files: &files };
    let prepared = prepare(inputs, policy, &ground);
    let goal = match prepared.desired {
        Desired::Ready(wanted) if wanted.errors.is_empty() => Goal::Revision(wanted.revision),
        Desired::Ready(wanted) => Goal::Refused(wanted.errors),
        Desired::Refused(sentences) => Goal::Refused(sentences),
        Desired::None => Goal::Nothing(
            "no ConfigMap \"registries\" with a key \"registries.yaml\" in it: no node is touched".to_owned(),
        ),
        Desired::Waiting(why) => Goal::Unknown(why),
    };
    (goal, prepared.findings)
}

fn listed(seen: &Seen, wall: Timestamp) -> Listed {
    let Seen { lease, nodes, agents } = seen;
    let node = |member: &Member| {
        let Member { name, labels, annotations, is_ready, is_cordoned } = member;
        // Where pods may not be listed, one that has said something is taken for one that runs.
        let has_said = || annotations.contains_key(&format!("{PREFIX}phase"));
        let has_agent = agents.as_ref().map_or_else(has_said, |agents| agents.contains(name));
        let (is_ready, is_cordoned) = (*is_ready, *is_cordoned);
        let raw = NodeRaw { uid: name, labels, annotations, is_ready, is_cordoned, has_agent };
        (sentence(name), NodeSeen::read(raw))
    };
    let said = lease.as_ref().map(|lease| &lease.annotations);
    Listed {
        nodes: nodes.iter().map(node).collect(),
        kept: said.map(LeaseKept::read).unwrap_or_default(),
        retry: said.and_then(|said| said.get(&format!("{PREFIX}retry")).cloned()),
        wall,
    }
}

/// The one revision that is asked for, if it is one.
fn asked(listed: &Listed) -> Option<String> {
    let asked = listed.nodes.values().filter_map(|seen| seen.wanted.value());
    let asked: BTreeSet<&str> = asked.map(|ask| ask.revision.as_str()).collect();
    (asked.len() == 1).then(|| asked.first().map(|revision| (*revision).to_owned())).flatten()
}

fn words(found: &Forecast, policy: &Policy) -> String {
    let Forecast { done, begun, stopped, turns, waiting, sentence, aside } = found;
    let mut text = String::new();
    line(&mut text, "have it", &names(done));
    if !begun.is_empty() {
        line(&mut text, "in a turn", &names(begun));
    }
    if let Some(why) = stopped {
        line(&mut text, "stopped", &format!("{why}; after that:"));
    }
    for (at, turn) in turns.iter().enumerate().take(SHOWN) {
        line(&mut text, &format!("turn {}", at + 1), &names(turn));
    }
    if turns.len() > SHOWN {
        let names: Vec<String> = turns.iter().skip(SHOWN).flatten().cloned().collect();
        line(&mut text, "then", &self::names(&names));
    }
    if let Some(sentence) = sentence {
        line(&mut text, "then", sentence);
    }
    for (name, word) in waiting.iter().take(SHOWN) {
        let why = word.map_or("the order was not worked out so far", meaning);
        line(&mut text, "waits", &format!("{name}: {why}"));
    }
    if waiting.len() > SHOWN {
        line(&mut text, "waits", &format!("{} more", waiting.len() - SHOWN));
    }
    for (name, why) in aside.iter().take(SHOWN) {
        line(&mut text, "aside", &format!("{name}: {why}"));
    }
    if aside.len() > SHOWN {
        line(&mut text, "aside", &format!("{} more", aside.len() - SHOWN));
    }
    let restarts = restarts(found);
    if restarts > 0 {
        let deadline = policy.deadline.as_secs();
        line(
            &mut text,
            "restarts",
            &format!("{restarts} at most: a node to which the change means nothing takes no turn"),
        );
        line(&mut text, "changes", "known on each node alone: plan --inputs DIR --root / shows them there, redacted");
        let why = format!(
            "unknown: no node says how long its restart takes, and each may take {deadline} s or more to prove it"
        );
        line(&mut text, "duration", &why);
        line(&mut text, "supposed", "every turn ends well, every server answers, and nothing else changes");
    }
    text
}

fn restarts(found: &Forecast) -> usize {
    found.turns.iter().map(Vec::len).sum::<usize>() + found.waiting.len()
}

fn names(names: &[String]) -> String {
    match names.len() {
        0 => "none".to_owned(),
        count if count > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
        _ => names.join(", "),
    }
}

fn json(revision: &str, found: &Forecast, findings: &[Finding]) -> Value {
    let Forecast { done, begun, stopped, turns, waiting, sentence, aside } = found;
    let waiting: Value =
        waiting.iter().map(|(name, word)| (name.clone(), json!(word.map(|word| word.as_str())))).collect();
    json!({
        "wanted": revision, "done": done, "begun": begun, "stopped": stopped, "turns": turns, "waiting": waiting,
        "then": sentence, "aside": aside, "restartsAtMost": restarts(found), "durationSeconds": null,
        "findings": findings_json(findings),
    })
}

#[cfg(test)]
mod tests;

//! What `status` says of a cluster: the rollout's own sentence, then a line a node. A value in, lines out.

mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::fleet::Word;
use crate::node::annotations::{PREFIX, Phase, sentence};
use crate::node::observed::Role;

pub use table::{Paint, age};

/// Any of these labels makes a Node a server's.
const SERVER_LABELS: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/etcd"];
/// A coordinator renews its Lease every 10 s; one that is silent for longer than this does not run.
const SILENT_SECONDS: i64 = 90;

/// What was read of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The coordinator's Lease; none if there is no such object.
    pub lease: Option<LeaseSaid>,
    /// Every Node.
    pub nodes: Vec<Member>,
    /// The names of the Nodes on which a pod of the agent runs; none if pods may not be listed.
    pub agents: Option<BTreeSet<String>>,
}

/// What the coordinator's Lease says.
#[derive(Clone, Debug, Default)]
pub struct LeaseSaid {
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// `spec.renewTime`, on the coordinator's clock.
    pub renewed: Option<Timestamp>,
}

/// A Node.
#[derive(Clone, Debug, Default)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its condition Ready is `True`.
    pub is_ready: bool,
    /// `spec.unschedulable`.
    pub is_cordoned: bool,
}

/// The state of the cluster, in words. Nothing in it has a control character: anybody who may write a Node's annotations
/// would write to the reader's terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The rollout's own sentence, or why there is none.
    pub rollout: String,
    /// What a person should know before reading it: the coordinator is silent.
    pub warning: Option<String>,
    /// Revisions that are halted.
    pub halted: Vec<String>,
    /// The nodes: servers first, then by name.
    pub nodes: Vec<NodeLine>,
    /// Every node that is to have an agent has one and is `Current`, all with one revision, and there is such a node.
    pub is_all_current: bool,
}

/// A node, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLine {
    /// Its name.
    pub name: String,
    /// What it is to k3s.
    pub role: Role,
    /// The phase that its agent said last.
    pub phase: Option<String>,
    /// The revision that it has proven.
    pub revision: Option<String>,
    /// The revision that failed on it.
    pub failed: Option<String>,
    /// Since when the phase holds, as its agent wrote it.
    pub since: Option<String>,
    /// The agent's sentence, and what else stands in the way.
    pub reason: String,
    /// Why it has no turn yet: the coordinator's word.
    pub turn: Option<String>,
    /// The operator wants no agent there.
    pub is_excluded: bool,
    /// The operator paused it.
    pub is_paused: bool,
    /// Kubernetes says that it is ready.
    pub is_ready: bool,
    /// A pod of the agent runs there; none if that is not known.
    pub has_agent: Option<bool>,
    /// The rollout is to reach it: it runs Linux and is not excluded.
    pub is_counted: bool,
}

impl Status {
    /// Puts into words what was read.
    pub fn of(seen: &Seen, now: Timestamp) -> Self {
        let Seen { lease, nodes, agents } = seen;
        let said = |name: &str| lease.as_ref().and_then(|lease| ours(&lease.annotations, name));
        let rollout = match (lease, said("rollout")) {
            (Some(_), Some(rollout)) => rollout,
            (Some(_), None) => "the coordinator has said nothing yet".to_owned(),
            (None, _) => "no coordinator: its Lease is not there, and no node is given a turn".to_owned(),
        };
        let silence = lease.as_ref().and_then(|lease| lease.renewed).map(|renewed| now.duration_since(renewed));
        let warning = silence.filter(|silence| silence.as_secs() > SILENT_SECONDS).map(|silence| {
            let silence = table::short(silence.as_secs());
            format!("the coordinator has not renewed its Lease for {silence}: nothing is granted until it runs again")
        });
        let halted = said("halted").unwrap_or_default();
        let halted = halted.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let mut nodes: Vec<_> = nodes.iter().map(|node| NodeLine::of(node, agents.as_ref())).collect();
        nodes.sort_by(|one, other| (one.role == Role::Agent, &one.name).cmp(&(other.role == Role::Agent, &other.name)));
        let is_all_current = is_all_current(&nodes);
        Self { rollout, warning, halted, nodes, is_all_current }
    }
}

fn is_all_current(nodes: &[NodeLine]) -> bool {
    let mut counted = nodes.iter().filter(|node| node.is_counted).peekable();
    let Some(first) = counted.peek() else { return false };
    // Another revision is a node that does not know yet what the others know, or whose agent is away.
    let revision = first.revision.clone();
    counted.all(|node| {
        node.phase.as_deref() == Some(Phase::Current.as_str())
            && node.has_agent != Some(false)
            && node.revision == revision
    })
}

impl NodeLine {
    fn of(node: &Member, agents: Option<&BTreeSet<String>>) -> Self {
        let Member { name, labels, annotations, is_ready, is_cordoned: _ } = node;
        let said = |key: &str| ours(annotations, key);
        let is_server = SERVER_LABELS.iter().any(|label| labels.get(*label).is_some_and(|value| value != "false"));
        let is_excluded = labels.get(&format!("{PREFIX}exclude")).is_some_and(|value| value == "true");
        let is_linux = labels.get("kubernetes.io/os").is_none_or(|system| system == "linux");
        let mut line = Self {
            name: sentence(name),
            role: if is_server { Role::Server } else { Role::Agent },
            phase: said("phase"),
            revision: said("revision"),
            failed: said("failed"),
            since: said("since"),
            reason: String::new(),
            turn: said("turn"),
            is_excluded,
            is_paused: said("pause").as_deref() == Some("true"),
            is_ready: *is_ready,
            has_agent: agents.map(|agents| agents.contains(name)),
            is_counted: is_linux && !is_excluded,
        };
        line.reason = line.why(said("reason"), is_linux);
        line
    }

    /// The agent's sentence, if there is one, and then what it cannot know.
    fn why(&self, reason: Option<String>, is_linux: bool) -> String {
        let Self { phase, turn, is_excluded, is_paused, is_ready, has_agent, .. } = self;
        let is = |wanted: Phase| phase.as_deref() == Some(wanted.as_str());
        let mut parts: Vec<String> = Vec::new();
        if *is_excluded {
            parts.push(format!("excluded by its label {PREFIX}exclude: no agent here"));
        } else if !is_linux {
            parts.push("does not run Linux: no agent here".to_owned());
        } else {
            parts.extend(reason);
            match (phase, has_agent) {
                (None, Some(true)) => parts.push("its agent has said nothing yet".to_owned()),
                (None, Some(false)) => {
                    parts.push("no agent runs here: its pod is missing or does not start".to_owned())
                }
                (None, None) => parts.push("no agent has said anything here".to_owned()),
                (Some(_), Some(false)) => {
                    parts.push("no agent runs here now: this is the last that one said".to_owned());
                }
                (Some(_), Some(true) | None) => {}
            }
            if is(Phase::Pending)
                && let Some(turn) = turn
            {
                parts.push(format!("no turn yet: {}", waits_for(turn)));
            }
            if *is_paused && !is(Phase::Paused) {
                parts.push(format!("paused by its annotation {PREFIX}pause"));
            }
        }
        if !is_ready {
            parts.push("the Node is not Ready".to_owned());
        }
        parts.join("; ")
    }
}

/// The coordinator's word, and what it means; one that is none of its words is shown as it is.
fn waits_for(turn: &str) -> String {
    let Some(word) = Word::ALL.into_iter().find(|word| word.as_str() == turn) else { return turn.to_owned() };
    let meaning = meaning(word);
    format!("{meaning} ({turn})")
}

/// What a word of the coordinator means.
pub const fn meaning(word: Word) -> &'static str {
    match word {
        Word::Order => "others go first",
        Word::Budget => "as many nodes as allowed are disturbed already",
        Word::Window => "no maintenance window is open",
        Word::Paused => "the rollout is paused",
        Word::Halted => "its revision failed on a node",
        Word::ServerGate => "another server is not known to be healthy",
        Word::Absent => "it did not answer, and has to ask again",
    }
}

/// One of our annotations, as one line; an empty one says nothing.
fn ours(annotations: &BTreeMap<String, String>, name: &str) -> Option<String> {
    let value = annotations.get(&format!("{PREFIX}{name}"))?;
    (!value.is_empty()).then(|| match name {
        // The coordinator's sentence has no limit of 256 bytes.
        "rollout" | "halted" => value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        _ => sentence(value),
    })
}

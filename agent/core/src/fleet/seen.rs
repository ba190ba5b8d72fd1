//! What the coordinator sees of one Node, read once when the Node changes.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::grant::{Ask, Grant, is_number};
use crate::node::annotations::{PREFIX, Phase};
use crate::node::observed::Role;
use crate::revision::Revision;

/// Any of these labels makes a Node a server's.
const SERVER_LABELS: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/etcd"];

/// A Node as an edge read it.
#[derive(Clone, Copy, Debug)]
pub struct NodeRaw<'a> {
    /// `metadata.uid`.
    pub uid: &'a str,
    /// Labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Annotations.
    pub annotations: &'a BTreeMap<String, String>,
    /// The condition Ready is `True`.
    pub is_ready: bool,
    /// `spec.unschedulable`.
    pub is_cordoned: bool,
    /// A pod of the agent runs there.
    pub has_agent: bool,
}

/// A Node, without what no decision rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSeen {
    /// Another one is another Node of the same name.
    pub uid: String,
    /// Server, or agent: a worker.
    pub role: Role,
    /// Kubernetes says so; it lags.
    pub is_ready: bool,
    /// Somebody keeps new pods away from it.
    pub is_cordoned: bool,
    /// The operator wants no agent there.
    pub is_excluded: bool,
    /// The operator paused it.
    pub is_paused: bool,
    /// A pod of the agent runs there.
    pub has_agent: bool,
    /// The operator's token.
    pub retry: Option<String>,
    /// What its agent said last.
    pub phase: Said<Phase>,
    /// The revision it has proven.
    pub revision: Said<String>,
    /// The revision that failed there.
    pub failed: Said<String>,
    /// The ask that stands.
    pub wanted: Said<Ask>,
    /// The number of the last ask that its agent answered.
    pub answered: Said<String>,
    /// The last grant that a coordinator wrote.
    pub grant: Said<Grant>,
    /// What a coordinator wrote that it waits for.
    pub turn: Said<Word>,
}

/// An annotation of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<T> {
    /// It is not there.
    Nothing,
    /// It is there, and its value is none that we write: somebody else did. It is trusted in nothing, and named.
    Garbage,
    /// Its value.
    Is(T),
}

/// The words of `turn`: why a node that asks has no turn yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// Others are to prove the revision first.
    Order,
    /// As many nodes as allowed are disturbed, or may be.
    Budget,
    /// No maintenance window is open.
    Window,
    /// The operator paused the cluster or the node, or the policy is invalid.
    Paused,
    /// The revision failed on a node.
    Halted,
    /// Another server is not known to be healthy.
    ServerGate,
    /// The node did not answer a grant, or is not there: a new ask ends it, or the node's return.
    Absent,
}

impl Word {
    /// All.
    pub const ALL: [Self; 7] =
        [Self::Order, Self::Budget, Self::Window, Self::Paused, Self::Halted, Self::ServerGate, Self::Absent];

    /// As it stands in the annotation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Budget => "budget",
            Self::Window => "window",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::ServerGate => "server-gate",
            Self::Absent => "absent",
        }
    }
}

impl<T> Said<T> {
    /// Its value, if it is one.
    pub const fn value(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Nothing | Self::Garbage => None,
        }
    }

    fn read(text: Option<&String>, parse: impl FnOnce(&str) -> Option<T>) -> Self {
        match text {
            None => Self::Nothing,
            Some(text) => parse(text).map_or(Self::Garbage, Self::Is),
        }
    }
}

impl NodeSeen {
    /// Reads a Node.
    pub fn read(raw: NodeRaw<'_>) -> Self {
        let NodeRaw { uid, labels, annotations, is_ready, is_cordoned, has_agent } = raw;
        let ours = |name: &str| annotations.get(&format!("{PREFIX}{name}"));
        let is_true = |value: Option<&String>| value.is_some_and(|value| value == "true");
        let is_server = SERVER_LABELS.iter().any(|label| labels.get(*label).is_some_and(|value| value != "false"));
        let revision = |text: &str| Revision::from_str(text).ok().map(String::from);
        Self {
            uid: uid.to_owned(),
            role: if is_server { Role::Server } else { Role::Agent },
            is_ready,
            is_cordoned,
            is_excluded: is_true(labels.get(&format!("{PREFIX}exclude"))),
            is_paused: is_true(ours("pause")),
            has_agent,
            retry: ours("retry").cloned(),
            phase: Said::read(ours("phase"), |text| Phase::ALL.into_iter().find(|phase| phase.as_str() == text)),
            revision: Said::read(ours("revision"), revision),
            failed: Said::read(ours("failed"), revision),
            wanted: Said::read(ours("wanted"), |text| text.parse().ok().filter(|ask: &Ask| is_revision(&ask.revision))),
            answered: Said::read(ours("answered"), |text| is_number(text).then(|| text.to_owned())),
            grant: Said::read(ours("grant"), |text| {
                text.parse().ok().filter(|grant: &Grant| is_revision(&grant.ask.revision))
            }),
            turn: Said::read(ours("turn"), |text| Word::ALL.into_iter().find(|word| word.as_str() == text)),
        }
    }

    /// The first annotation whose value is none that we write.
    pub fn garbage(&self) -> Option<&'static str> {
        let Self { phase, revision, failed, wanted, answered, grant, turn, .. } = self;
        match () {
            () if matches!(phase, Said::Garbage) => Some("phase"),
            () if matches!(revision, Said::Garbage) => Some("revision"),
            () if matches!(failed, Said::Garbage) => Some("failed"),
            () if matches!(wanted, Said::Garbage) => Some("wanted"),
            () if matches!(answered, Said::Garbage) => Some("answered"),
            () if matches!(grant, Said::Garbage) => Some("grant"),
            () if matches!(turn, Said::Garbage) => Some("turn"),
            () => None,
        }
    }

    /// It is replacing the file, or proving it.
    pub(crate) fn is_working(&self) -> bool {
        matches!(self.phase, Said::Is(Phase::Applying | Phase::Proving))
    }

    /// It says a phase in which nothing is open.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.phase.value().is_some() && !self.is_working()
    }

    /// Nothing could be proven there.
    pub(crate) fn is_stuck(&self) -> bool {
        matches!(self.phase, Said::Is(Phase::Stuck))
    }

    /// It has or had an agent, and is meant to.
    pub(crate) fn is_ours(&self) -> bool {
        !self.is_excluded && (self.has_agent || !matches!(self.phase, Said::Nothing))
    }
}

fn is_revision(text: &str) -> bool {
    text.parse::<Revision>().is_ok()
}

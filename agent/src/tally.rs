//! Words for what the edges count, so that no edge needs to know the metrics.

use std::fmt;

/// What was asked of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// One object.
    Get,
    /// A collection, or a page of one.
    List,
    /// The start of a watch.
    Watch,
    /// POST.
    Create,
    /// PATCH.
    Patch,
    /// PUT.
    Update,
    /// DELETE.
    Delete,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// 1xx to 3xx.
    Ok,
    /// 401 or 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 409.
    Conflict,
    /// 410: the version that a watch wanted to go on from is too old.
    Gone,
    /// 429.
    Throttled,
    /// Any other 4xx.
    Refused,
    /// 5xx.
    ServerError,
    /// No answer: no connection, or it broke.
    Unreachable,
    /// Given up by us: the time was up, or the answer not wanted any more.
    Abandoned,
}

/// The watches that are kept open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watch {
    /// ConfigMaps of our namespace.
    ConfigMaps,
    /// Secrets of our namespace.
    Secrets,
    /// A Secret elsewhere that the policy names.
    ExtraSecret,
    /// Our own Node.
    Node,
    /// The Lease that kubelet renews for our Node.
    NodeLease,
    /// All Nodes, by the coordinator.
    Nodes,
    /// The agents' pods, by the coordinator.
    Pods,
    /// The ConfigMap with the policy, by the coordinator.
    Policy,
}

impl Verb {
    /// All, for metrics.
    pub const ALL: [Self; 7] =
        [Self::Get, Self::List, Self::Watch, Self::Create, Self::Patch, Self::Update, Self::Delete];

    /// The word in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

impl Outcome {
    /// The outcome that an HTTP status stands for.
    pub const fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Forbidden,
            404 => Self::NotFound,
            409 => Self::Conflict,
            410 => Self::Gone,
            429 => Self::Throttled,
            400..=499 => Self::Refused,
            500.. => Self::ServerError,
            0..=399 => Self::Ok,
        }
    }

    /// The word in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Gone => "gone",
            Self::Throttled => "throttled",
            Self::Refused => "refused",
            Self::ServerError => "server_error",
            Self::Unreachable => "unreachable",
            Self::Abandoned => "abandoned",
        }
    }
}

impl Watch {
    /// Those of the agent, for its metrics.
    pub const AGENT: [Self; 5] = [Self::ConfigMaps, Self::Secrets, Self::ExtraSecret, Self::Node, Self::NodeLease];

    /// Those of the coordinator, for its metrics.
    pub const COORDINATOR: [Self; 3] = [Self::Nodes, Self::Pods, Self::Policy];

    /// The word in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMaps => "configmaps",
            Self::Secrets => "secrets",
            Self::ExtraSecret => "extra_secret",
            Self::Node => "node",
            Self::NodeLease => "node_lease",
            Self::Nodes => "nodes",
            Self::Pods => "pods",
            Self::Policy => "policy",
        }
    }
}

/// Counts what happens between the process and the API server.
pub trait Tally: fmt::Debug + Send + Sync {
    /// A request ended.
    fn request(&self, verb: Verb, outcome: Outcome);
    /// A watch broke and is opened anew.
    fn reconnect(&self, watch: Watch);
    /// An Event could not be written and is lost.
    fn event_lost(&self);
}

/// Counts nothing: for a command that ends before anybody could ask.
#[derive(Clone, Copy, Debug)]
pub struct Uncounted;

impl Tally for Uncounted {
    fn request(&self, _: Verb, _: Outcome) {}

    fn reconnect(&self, _: Watch) {}

    fn event_lost(&self) {}
}

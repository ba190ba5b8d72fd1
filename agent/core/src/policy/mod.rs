//! `policy.yaml`: how and when the configuration may be rolled out (`design.md` 11).

mod decode;
mod edit;
mod tree;
mod window;

use std::fmt;
use std::time::Duration;

use crate::registries::document::{KeyPath, Mark};

pub use edit::EditError;
pub use window::{Clock, Day, Window};

/// The policy; [`Policy::default`] is what an absent file means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What is done to the nodes.
    pub mode: Mode,
    /// What is done with a file that is not ours and that names hosts which desired has not.
    pub adopt: Adopt,
    /// Nothing new is started.
    pub pause: bool,
    /// Which nodes go first.
    pub order: Order,
    /// How many nodes may be disturbed at once; servers never more than one.
    pub max_unavailable: MaxUnavailable,
    /// How long inputs must stand still before they count.
    pub settle: Duration,
    /// When nodes may be disturbed; empty: always.
    pub windows: Vec<Window>,
    /// How long a restarted node has to show its evidence.
    pub deadline: Duration,
    /// What is done when somebody edits the file.
    pub drift: Drift,
    /// What each finding of the preflight does.
    pub preflight: Preflight,
    /// What is pulled to prove a configuration.
    pub proof: Proof,
    /// Secrets in other namespaces that are inputs.
    pub secrets: Vec<SecretName>,
    /// A credential may leave the nodes although its host stays.
    pub allow_removal: bool,
    /// The systemd unit of k3s, when discovery cannot decide; empty: discovered.
    pub unit: String,
}

/// `mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The file is kept as desired.
    #[default]
    Manage,
    /// Nothing is written; what would be done is said.
    Report,
    /// The files that were there before us are rolled out.
    Restore,
}

/// `adopt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Adopt {
    /// Its hosts are named and nothing is written.
    #[default]
    Refuse,
    /// It is kept aside and replaced.
    Replace,
}

/// `order`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// One worker first, then servers, then workers.
    #[default]
    Canary,
    /// Servers, then workers.
    ServersFirst,
}

/// `maxUnavailable`: at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxUnavailable {
    /// So many nodes.
    Number(u32),
    /// So many of a hundred nodes: 1 to 100.
    Percent(u8),
}

/// `drift`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drift {
    /// The last proven tree is written again.
    #[default]
    Restore,
    /// It is only said.
    Report,
}

/// What a finding of the preflight does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// It stops the node from being disturbed.
    Enforce,
    /// It is said.
    Warn,
    /// The stage is not run.
    Off,
}

/// `preflight`: the stages in the order of `design.md` 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preflight {
    /// The registry or its realm refuses the credential.
    pub credential: Enforcement,
    /// The certificate is not accepted.
    pub tls: Enforcement,
    /// The host's name is not resolved.
    pub name: Enforcement,
    /// No connection.
    pub route: Enforcement,
    /// The token realm is not reached or answers wrongly.
    pub realm: Enforcement,
    /// `/v2/` is not a registry.
    pub api: Enforcement,
}

impl Preflight {
    /// Whether anything is asked of the registries at all.
    pub fn is_on(&self) -> bool {
        let Self { credential, tls, name, route, realm, api } = *self;
        [credential, tls, name, route, realm, api].iter().any(|stage| *stage != Enforcement::Off)
    }
}

/// `proof`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Images that a node pulls after its restart.
    pub images: Vec<String>,
    /// How long one pull may take.
    pub timeout: Duration,
}

/// A Secret in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// One mistake in a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// Where it stands.
    pub at: Mark,
    /// The key.
    pub path: KeyPath,
    /// What is wrong and what to write instead.
    pub problem: String,
}

impl Policy {
    /// Reads a policy strictly: an unknown or doubled key is a mistake, since it would be ignored in silence. Names
    /// every mistake, not only the first.
    pub fn parse(text: &str) -> Result<Self, Vec<PolicyError>> {
        decode::policy(text)
    }

    /// Tells whether nodes may be disturbed now.
    pub fn is_open(&self, now: jiff::Timestamp) -> bool {
        self.windows.is_empty() || self.windows.iter().any(|window| window.contains(now))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            adopt: Adopt::default(),
            pause: false,
            order: Order::default(),
            max_unavailable: MaxUnavailable::Number(1),
            settle: Duration::from_secs(2),
            windows: Vec::new(),
            deadline: Duration::from_secs(120),
            drift: Drift::default(),
            preflight: Preflight::default(),
            proof: Proof::default(),
            secrets: Vec::new(),
            allow_removal: false,
            unit: String::new(),
        }
    }
}

impl Default for Preflight {
    fn default() -> Self {
        use Enforcement::{Enforce, Warn};
        Self { credential: Enforce, tls: Warn, name: Warn, route: Warn, realm: Warn, api: Warn }
    }
}

impl Default for Proof {
    fn default() -> Self {
        Self { images: Vec::new(), timeout: Duration::from_secs(60) }
    }
}

impl MaxUnavailable {
    /// How many of so many nodes: per cents are rounded down, and one is always let through.
    pub fn of(self, nodes: usize) -> usize {
        match self {
            Self::Number(number) => usize::try_from(number).unwrap_or(usize::MAX),
            Self::Percent(percent) => (nodes.saturating_mul(usize::from(percent)) / 100).max(1),
        }
    }
}

/// `Secret honeydue/gitea-credentials`, as an object's id is shown.
impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret {}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, path, problem } = self;
        write!(f, "{at}: {path}: {problem}")
    }
}

impl std::error::Error for PolicyError {}

#[cfg(test)]
mod tests;

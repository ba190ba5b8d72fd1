//! What the edges saw of one node, as plain values: the only thing that `plan` looks at.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::pulls::Pulls;
pub use crate::runtime::settings::Program;
use crate::secret::Secret;
use crate::tree::Tree;

/// The moment of an observation, read once at the top of a pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Wall clock, for people only: nothing is decided by comparing it with another machine's.
    pub wall: Timestamp,
    /// Time since boot, suspend included (`CLOCK_BOOTTIME`): deadlines are measured on it.
    pub boot: Duration,
    /// `/proc/sys/kernel/random/boot_id`: two `boot` values compare only when it is the same.
    pub boot_id: String,
}

/// What the node is to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs the API server (and etcd, where it is embedded).
    Server,
    /// Runs workloads only.
    Agent,
}

/// The k3s of this node, as discovered. What cannot be supported is not one of these but an [`Unsupported`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// k3s or RKE2.
    pub program: Program,
    /// Server or agent.
    pub role: Role,
    /// The unit to restart: `k3s.service`, `k3s-agent.service`, or the OpenRC service's name; empty without a service.
    pub unit: String,
    /// The program that the unit starts (`/usr/local/bin/k3s`); empty without a service.
    pub executable: String,
    /// The file that k3s reads, as the host names it (`/etc/rancher/k3s/registries.yaml`).
    pub registries_path: String,
    /// `--data-dir`, as the host names it (`/var/lib/rancher/k3s`).
    pub data_dir: String,
    /// `--disable-default-registry-endpoint` is in force.
    pub disable_default_endpoint: bool,
    /// Address of the embedded registry (`127.0.0.1:6443`), if it is on.
    pub embedded_registry: Option<String>,
    /// `--snapshotter=stargz`: the auth tables stand twice.
    pub stargz: bool,
    /// An etcd member runs on this server.
    pub has_etcd: bool,
}

/// Why a node cannot be managed: one sentence that names the fact and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported(pub String);

/// What lies on disk where k3s reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The files.
    pub tree: Tree,
    /// Something that is no plain file, or cannot be read: named, never replaced.
    pub oddity: Option<String>,
    /// Modification time and owner of `registries.yaml`, to name another writer.
    pub writer: Option<Writer>,
}

/// Who wrote a file last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// Modification time.
    pub modified: Timestamp,
    /// Owner's user id.
    pub uid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// `uid 0 at 2026-01-02T03:04:05Z`.
impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let modified = self.modified.round(jiff::Unit::Second).unwrap_or(self.modified);
        write!(f, "uid {} at {modified}", self.uid)
    }
}

/// How the service is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// There is none (`--service none`): what would be restarted is only said.
    None,
    /// A unit of systemd, or a service of OpenRC.
    Unit(UnitSeen),
}

/// State of the k3s unit (`systemctl show`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitSeen {
    /// `ActiveState`: `active`, `activating`, `deactivating`, `failed`, `inactive`.
    pub active_state: String,
    /// `SubState`: `running`, `start`, `auto-restart`, …
    pub sub_state: String,
    /// `InvocationID`, new at each start; empty if the unit never ran in this boot.
    pub invocation: String,
    /// `NRestarts`: automatic restarts only; a manual restart resets it.
    pub restarts: u32,
    /// Start of the main process on the boot-time clock, from its own `/proc` entry.
    pub main_started: Option<Duration>,
    /// Start of the main process on the wall clock, to compare with file times.
    pub main_started_wall: Option<Timestamp>,
    /// An `ExecStartPre` that counts failed at the last try, so that k3s itself was not even started.
    pub start_pre_failed: bool,
    /// A job of systemd is queued or running for the unit.
    pub job_pending: bool,
    /// `k3s --version`'s first line or the binary's identity: changes with an upgrade.
    pub version: String,
}

impl UnitSeen {
    /// Whether systemd tries again and again and never comes to start k3s: nobody has read any file then. Two tries, since
    /// one may fail for a reason that passes.
    pub fn is_kept_from_starting(&self) -> bool {
        self.start_pre_failed && self.main_started.is_none() && self.restarts >= 2 && !self.is_active()
    }

    /// Whether systemd calls the unit active.
    pub fn is_active(&self) -> bool {
        self.active_state == "active"
    }
}

/// What k3s wrote for containerd at its last start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeFiles {
    /// `certs.d/NAME/hosts.toml` by directory name; a directory without one has `None`.
    pub hosts: std::collections::BTreeMap<String, Option<Vec<u8>>>,
    /// `config.toml`; it holds passwords.
    pub config: Option<Secret<Vec<u8>>>,
    /// Modification time of `config.toml`: k3s writes it anew at every start.
    pub config_modified: Option<Timestamp>,
}

impl RuntimeFiles {
    /// Whether k3s wrote `config.toml` since that start of its main process: it does so at every one (`k3s.md` 10), so an
    /// older one belongs to an earlier start.
    pub fn are_of(&self, started: Option<Timestamp>) -> bool {
        self.config_modified.zip(started).is_some_and(|(modified, started)| modified >= started)
    }
}

/// What the log of the unit's present invocation says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSigns {
    /// k3s cannot read `registries.yaml`.
    pub registries_error: bool,
    /// containerd cannot read `config.toml`.
    pub containerd_config_error: bool,
    /// `containerd exited`.
    pub containerd_exited: bool,
    /// k3s waits for its server.
    pub waits_for_server: bool,
    /// containerd cannot read a `hosts.toml` and goes on without it, in silence but for its log.
    pub hosts_toml_dropped: bool,
    /// containerd cannot compile the pattern of a rewrite and goes on without it.
    pub rewrite_dropped: bool,
}

/// The guard on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GuardSeen {
    /// No marker lies there.
    #[default]
    Idle,
    /// The marker lies there; it acts at this moment of the boot-time clock.
    Armed {
        /// When it acts.
        acts_at: Duration,
    },
    /// It claimed the marker and put the previous tree back.
    Fired,
    /// It cannot be installed here (no systemd).
    Impossible,
}

/// Everything seen on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSeen {
    /// The k3s of this node.
    pub installation: Installation,
    /// What lies where k3s reads.
    pub disk: Disk,
    /// `previous/` of the journal: the last proven tree; `None` if never recorded.
    pub previous: Option<Tree>,
    /// `original/` of the journal: what lay there before us; `None` if never recorded.
    pub original: Option<Tree>,
    /// The unit.
    pub service: Service,
    /// What k3s wrote for containerd.
    pub runtime: RuntimeFiles,
    /// The log of this invocation, where [`is_due`](super::logs::is_due) says that it has to be read.
    pub log: LogSigns,
    /// The guard.
    pub guard: GuardSeen,
    /// The checks of `design.md` 6, where they were asked for.
    pub evidence: Option<Evidence>,
    /// The images that the last plan ordered to be pulled.
    pub pulls: Pulls,
}

/// What the API server says of this node; the sentences say why it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiSeen {
    /// The last renewal of the node's own Lease that was seen to happen; absent if none was since the process began.
    pub renewed: Option<Renewed>,
    /// The condition Ready of its Node; absent if the Node was not seen.
    pub is_ready: Option<bool>,
}

/// A renewal of the Lease that the node's kubelet holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// When it was seen, on the boot-time clock: not earlier than it happened.
    pub seen: Duration,
    /// `renewTime`: this very node's wall clock.
    pub stamp: Timestamp,
}

//! A node made of values: disk, journal, unit, containerd's files, guard and clock. It does what `k3s.md` says a real one
//! does; the real one is tested elsewhere. Every test drives it by the real `plan`.
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]
#![allow(dead_code, reason = "each test uses a part of the builder")]

mod agent;
mod cluster;
pub mod files;
mod k3s;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agent_core::digest::Key;
use agent_core::node::annotations::{NodeSeen, Phase};
use agent_core::node::evidence::Answer;
use agent_core::node::heard::Heard;
use agent_core::node::journal::Record;
use agent_core::node::observed::{Clock, Installation, LogSigns, Program, Role, RuntimeFiles};
use agent_core::node::plan::{Depth, Desired, Wanted};
use agent_core::node::pulls::Pulls;
use agent_core::node::turn::{Turn, TurnSource};
use agent_core::policy::Policy;
use agent_core::registries::model::{Registries, Tls};
use agent_core::secret::Secret;
use agent_core::tree::Tree;
use files::{first, second, tree};
use jiff::{SignedDuration, Timestamp};

/// A mirror of this host makes the k3s of this world refuse the file, as a future k3s might.
pub const REFUSED: &str = "refused.example.com";

/// Why the unit is not up.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Unit {
    Up,
    /// Starting since this moment of the boot-time clock.
    Starting(Duration),
    /// An administrator stopped it.
    Stopped,
    /// It was started too often, and systemd starts it no more.
    GivenUp,
}

pub struct World {
    pub disk: Tree,
    pub original: Option<Tree>,
    pub previous: Option<Tree>,
    pub record: Option<Record>,
    pub policy: Policy,
    pub desired: Desired,
    pub node: NodeSeen,
    pub role: Role,
    pub service: bool,
    pub source: TurnSource,
    pub supervisor_away: bool,
    /// What a server's etcd says of its leader, where the member is asked.
    pub etcd_leader: Option<Answer>,
    pub gate: Option<String>,
    pub cluster: cluster::Cluster,
    pub ending: bool,
    /// Images that the registries give, those of them that they give no more after the restart, and what was asked for.
    pub pullable: BTreeSet<String>,
    pub breaks: BTreeSet<String>,
    pub pulled: Vec<String>,
    /// containerd says that it cannot read a hosts.toml.
    pub drops: bool,
    /// A pull ends by the next look; else it hangs.
    pub pulls_end: bool,
    /// How long a start takes.
    pub start_takes: Duration,
    /// The guard's marker: when it acts.
    pub armed: Option<Duration>,
    pub fired: bool,
    /// Restarts that were ordered.
    pub restarts: u32,
    /// Everything that was done, by name.
    pub story: Vec<String>,
    pub version: String,
    pub boot: u32,
    pub now: Duration,
    /// How far the wall clock was set on or back.
    pub wall_set: SignedDuration,
    /// It was set since the last start of k3s, so that times of files tell nothing about that start.
    pub wall_was_set: bool,
    /// `Type=exec`: systemd calls the unit active as soon as its process runs.
    pub exec_type: bool,
    /// An `ExecStartPre` fails: systemd tries again and again, and there is no process of k3s.
    pub pre_fails: bool,
    /// A unit that does not come up is seen between two tries every other time.
    pub flaps: bool,
    /// This many of the next steps fail.
    pub failing: u32,
    /// This many of the next restarts, or replacements, fail.
    pub failing_restarts: u32,
    pub failing_replaces: u32,
    /// containerd crashes whatever the file says: its own disk is full.
    pub containerd_sick: bool,
    /// The last pass ended at a step that failed.
    pub failed: bool,
    /// Mirrors of these hosts make this k3s refuse the file.
    pub refuses: BTreeSet<String>,
    epoch: Timestamp,
    unit: Unit,
    invocation: u32,
    started: Duration,
    pub started_wall: Timestamp,
    crashes: u32,
    log: LogSigns,
    modified: Timestamp,
    /// Permission bits of the file.
    pub mode: u32,
    runtime: RuntimeFiles,
    loaded: Option<Registries>,
    held: Option<Turn>,
    pulls: Pulls,
    look: Depth,
    /// The last number drawn.
    pub dice: u32,
}

impl World {
    /// A node on which k3s runs on this file.
    pub fn running(disk: Tree) -> Self {
        let mut world = Self {
            disk,
            original: None,
            previous: None,
            record: None,
            policy: Policy::default(),
            desired: Desired::None,
            node: NodeSeen::default(),
            role: Role::Agent,
            service: true,
            source: TurnSource::Local,
            supervisor_away: false,
            etcd_leader: None,
            gate: None,
            cluster: cluster::Cluster::default(),
            ending: false,
            pullable: BTreeSet::new(),
            breaks: BTreeSet::new(),
            pulled: Vec::new(),
            drops: false,
            pulls_end: true,
            start_takes: Duration::from_secs(2),
            armed: None,
            fired: false,
            restarts: 0,
            story: Vec::new(),
            version: "v1".into(),
            boot: 1,
            now: Duration::from_secs(1000),
            wall_set: SignedDuration::ZERO,
            wall_was_set: false,
            exec_type: false,
            pre_fails: false,
            flaps: false,
            failing: 0,
            failing_restarts: 0,
            failing_replaces: 0,
            containerd_sick: false,
            failed: false,
            refuses: [REFUSED.to_owned()].into(),
            epoch: "2026-01-01T00:00:00Z".parse().unwrap(),
            unit: Unit::Up,
            invocation: 1,
            started: Duration::from_secs(10),
            started_wall: "2026-01-02T03:46:50Z".parse().unwrap(),
            crashes: 0,
            log: LogSigns::default(),
            modified: "2025-01-01T00:00:00Z".parse().unwrap(),
            mode: 0o600,
            runtime: RuntimeFiles::default(),
            loaded: None,
            held: None,
            pulls: Pulls::new(),
            look: Depth::Steady,
            dice: 0,
        };
        world.load();
        world
    }

    /// A node on which [`first`] is proven.
    pub fn managed() -> Self {
        let mut world = Self::running(Tree::default());
        world.wants("r1", &first());
        world.settle(Duration::from_secs(600));
        world.assert_at_rest();
        assert_eq!(world.restarts, 1);
        world
    }

    /// A node that was just restarted for [`second`], as `r2`, while [`first`] is what is proven.
    pub fn restarting() -> Self {
        let mut world = Self::managed();
        world.wants("r2", &second());
        world.until(|world| world.restarts == 2);
        world
    }

    /// Passes twice a second until something holds.
    pub fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        for _ in 0..20_000 {
            if holds(self) {
                return;
            }
            self.pass(None);
            self.pass_time(Duration::from_millis(500));
        }
        panic!("it never came: {}", self.told());
    }

    pub fn wants(&mut self, revision: &str, registries: &Registries) {
        self.desired = Desired::Ready(Box::new(Wanted {
            revision: revision.into(),
            registries: registries.clone(),
            tree: tree(registries),
            credential_sources: BTreeMap::new(),
            tls_sources: BTreeMap::new(),
            file_hosts: BTreeSet::new(),
            errors: Vec::new(),
        }));
    }

    /// Like [`Self::wants`], with the CA that the configuration names.
    pub fn wants_with_ca(&mut self, revision: &str, registries: &Registries, content: &str) {
        let mut registries = registries.clone();
        let ca_file = "/etc/rancher/k3s/registry-tls/m.example.com/ca.crt".to_owned();
        for config in registries.configs.values_mut() {
            config.tls = Some(Tls { ca_file: ca_file.clone(), ..Tls::default() });
        }
        self.wants(revision, &registries);
        let mut wanted = tree(&registries);
        wanted.tls.insert("m.example.com/ca.crt".into(), Secret::new(content.as_bytes().to_vec()));
        self.wants_tree(wanted);
    }

    /// Changes the bytes of what is wanted.
    pub fn wants_tree(&mut self, tree: Tree) {
        if let Desired::Ready(wanted) = &mut self.desired {
            wanted.tree = tree;
        }
    }

    fn installation(&self) -> Installation {
        Installation {
            program: Program::K3s,
            role: self.role,
            unit: if self.service { "k3s-agent.service".into() } else { String::new() },
            executable: "/usr/local/bin/k3s".into(),
            registries_path: "/etc/rancher/k3s/registries.yaml".into(),
            data_dir: "/var/lib/rancher/k3s".into(),
            disable_default_endpoint: false,
            embedded_registry: None,
            stargz: false,
            has_etcd: self.role == Role::Server,
        }
    }

    pub fn clock(&self) -> Clock {
        Clock { wall: self.wall_at(self.now), boot: self.now, boot_id: format!("boot-{}", self.boot) }
    }

    fn wall_at(&self, boot: Duration) -> Timestamp {
        self.epoch + self.wall_set + boot + Duration::from_secs(u64::from(self.boot) * 100_000)
    }

    /// Every image was tried.
    pub fn pulls_are_known(&self) -> bool {
        self.pulls.len() == 2
    }

    pub fn key(&self) -> Key {
        Key::new([7; 32])
    }

    /// The agent's process dies: what it held in memory is gone.
    pub fn die(&mut self) {
        self.held = None;
        self.pulls.clear();
        self.look = Depth::Steady;
        self.cluster.heard = Heard::default();
        self.cluster.inquiry = None;
        self.cluster.renewed = None;
        (self.cluster.phase, self.cluster.reason_at) = (None, None);
    }

    pub fn told(&self) -> String {
        self.story.join(" ")
    }

    /// Nothing is open and everything agrees.
    pub fn assert_at_rest(&self) {
        let record = self.record.as_ref().unwrap();
        assert_eq!(record.intent, None, "{}", self.told());
        assert_eq!(self.armed, None, "the guard is still armed: {}", self.told());
        assert!(!self.fired, "the guard's traces are still there: {}", self.told());
    }

    pub fn phase(&mut self) -> Phase {
        self.pass(None).phase
    }
}

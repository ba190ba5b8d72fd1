//! A node made of values: disk, journal, unit, containerd's files, guard and clock. It does what `k3s.md` says a real one
//! does; the real one is tested elsewhere. Every test drives it by the real `plan`.
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]
#![allow(dead_code, reason = "each test uses a part of the builder")]

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::digest::Key;
use agent_core::node::annotations::{NodeSeen, Phase};
use agent_core::node::evidence::{Answer, Check, Evidence};
use agent_core::node::journal::{JournalSeen, Record};
use agent_core::node::observed::{
    Clock, Disk, GuardSeen, HostSeen, Installation, LogSigns, Program, Role, RuntimeFiles, Service, UnitSeen, Writer,
};
use agent_core::node::plan::{Depth, Desired, Kept, Observed, Plan, Step, Wake, Wanted, plan};
use agent_core::node::turn::{Turn, TurnSource};
use agent_core::policy::Policy;
use agent_core::registries::model::{Auth, HostConfig, Mirror, Registries};
use agent_core::registries::on_disk::{self, OnDisk};
use agent_core::registries::render::render;
use agent_core::runtime::auth_tables::ConfigVersion;
use agent_core::runtime::expect::expect;
use agent_core::runtime::settings::Settings;
use agent_core::tree::Tree;
use jiff::Timestamp;

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
    pub gate: Option<String>,
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
    epoch: Timestamp,
    unit: Unit,
    invocation: u32,
    started: Duration,
    crashes: u32,
    runtime: RuntimeFiles,
    loaded: Option<Registries>,
    held: Option<Turn>,
    look: Depth,
    dice: u32,
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
            gate: None,
            start_takes: Duration::from_secs(2),
            armed: None,
            fired: false,
            restarts: 0,
            story: Vec::new(),
            version: "v1".into(),
            boot: 1,
            now: Duration::from_secs(1000),
            epoch: "2026-01-01T00:00:00Z".parse().unwrap(),
            unit: Unit::Up,
            invocation: 1,
            started: Duration::from_secs(10),
            crashes: 0,
            runtime: RuntimeFiles::default(),
            loaded: None,
            held: None,
            look: Depth::Steady,
            dice: 0,
        };
        world.load();
        world
    }

    pub fn wants(&mut self, revision: &str, registries: &Registries) {
        self.desired = Desired::Ready(Box::new(Wanted {
            revision: revision.into(),
            registries: registries.clone(),
            tree: tree(registries),
            credential_sources: BTreeMap::new(),
            file_hosts: std::collections::BTreeSet::new(),
            errors: Vec::new(),
        }));
    }

    fn installation(&self) -> Installation {
        Installation {
            program: Program::K3s,
            role: self.role,
            unit: if self.service { "k3s-agent.service".into() } else { String::new() },
            registries_path: "/etc/rancher/k3s/registries.yaml".into(),
            data_dir: "/var/lib/rancher/k3s".into(),
            disable_default_endpoint: false,
            embedded_registry: None,
            stargz: false,
            has_etcd: self.role == Role::Server,
        }
    }

    pub fn clock(&self) -> Clock {
        let wall = self.epoch + self.now + Duration::from_secs(u64::from(self.boot) * 100_000);
        Clock { wall, boot: self.now, boot_id: format!("boot-{}", self.boot) }
    }

    fn wall_at(&self, boot: Duration) -> Timestamp {
        self.epoch + boot + Duration::from_secs(u64::from(self.boot) * 100_000)
    }

    /// What k3s makes of the file: `Err` if it loops on it.
    fn reads(&self) -> Result<Registries, &'static str> {
        let Some(bytes) = &self.disk.registries else { return Ok(Registries::default()) };
        match on_disk::read(bytes.expose()) {
            OnDisk::Read(document) if document.registries.mirrors.contains_key(REFUSED) => Err("refused"),
            OnDisk::Read(document) => Ok(document.registries),
            OnDisk::Rejected(_) | OnDisk::CannotTell(_) => Err("not readable"),
        }
    }

    /// containerd refuses a config.toml with a control character in a password.
    fn containerd_crashes(model: &Registries) -> bool {
        let auths = model.configs.values().filter_map(|config| config.auth.as_ref());
        auths.into_iter().any(|auth| auth.password.expose().contains('\u{7}'))
    }

    /// k3s writes what containerd reads.
    fn load(&mut self) {
        let Ok(model) = self.reads() else { return };
        let settings = Settings::plain(Program::K3s);
        let expected = expect(&model, &settings);
        self.runtime = RuntimeFiles {
            hosts: expected
                .hosts
                .iter()
                .map(|(name, hosts)| (name.clone(), Some(hosts.to_bytes(Program::K3s))))
                .collect(),
            config: Some(expected.auths.to_bytes(ConfigVersion::V3, &settings)),
            config_modified: Some(self.wall_at(self.now)),
        };
        self.loaded = Some(model);
    }

    /// Lets time pass, in steps of half a second.
    pub fn pass_time(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += Duration::from_millis(500);
            if self.armed.is_some_and(|at| self.now >= at) {
                self.guard_acts();
            }
            if let Unit::Starting(since) = self.unit
                && self.now >= since + self.start_takes
                && !(self.supervisor_away && self.role == Role::Agent)
                && let Ok(model) = self.reads()
            {
                if Self::containerd_crashes(&model) {
                    self.crashes += 1;
                    self.invocation += 1;
                    self.unit = Unit::Starting(self.now + Duration::from_secs(5));
                } else {
                    self.unit = Unit::Up;
                    self.load();
                }
            }
        }
    }

    fn guard_acts(&mut self) {
        self.armed = None;
        self.fired = true;
        self.story.push("guard".into());
        self.disk = self.previous.clone().expect("a guard with nothing to put back");
    }

    /// The power goes; at boot the guard is ordered before k3s.
    pub fn reboot(&mut self) {
        self.die();
        self.story.push("reboot".into());
        self.boot += 1;
        self.now = Duration::from_secs(20);
        if self.armed.is_some() {
            self.guard_acts();
        }
        self.start();
    }

    fn start(&mut self) {
        self.invocation += 1;
        self.started = self.now;
        self.crashes = 0;
        self.unit = Unit::Starting(self.now);
    }

    /// An administrator restarts k3s by hand.
    pub fn restart_by_hand(&mut self) {
        self.start();
    }

    pub fn stop_by_hand(&mut self) {
        self.unit = Unit::Stopped;
    }

    /// The agent's process dies: what it held in memory is gone.
    pub fn die(&mut self) {
        self.held = None;
        self.look = Depth::Steady;
    }

    pub fn is_up(&self) -> bool {
        self.unit == Unit::Up
    }

    pub fn loaded(&self) -> Option<&Registries> {
        self.loaded.as_ref()
    }

    fn observe(&mut self) -> Observed {
        self.dice += 1;
        let looping = !self.is_up();
        let unreadable = self.reads().is_err();
        let log = LogSigns {
            // The log of one invocation keeps its lines, also after the file was mended.
            registries_error: looping && unreadable && !self.supervisor_away,
            containerd_config_error: false,
            containerd_exited: looping && self.crashes > 0,
            waits_for_server: looping && self.supervisor_away,
        };
        let state = match self.unit {
            Unit::Up => ("active", "running"),
            Unit::Starting(_) => ("activating", "start"),
            Unit::Stopped => ("inactive", "dead"),
        };
        let unit = UnitSeen {
            active_state: state.0.into(),
            sub_state: state.1.into(),
            invocation: format!("invocation-{}", self.invocation),
            restarts: self.crashes,
            main_started: Some(self.started),
            main_started_wall: Some(self.wall_at(self.started)),
            job_pending: false,
            version: self.version.clone(),
        };
        let writer = Writer { modified: self.clock().wall, uid: 0, mode: 0o600 };
        let host = HostSeen {
            installation: self.installation(),
            disk: Disk { tree: self.disk.clone(), oddity: None, writer: Some(writer) },
            previous: self.previous.clone(),
            original: self.original.clone(),
            service: if self.service { Service::Unit(unit) } else { Service::None },
            runtime: self.runtime.clone(),
            log,
            guard: match (self.armed, self.fired) {
                (Some(acts_at), _) => GuardSeen::Armed { acts_at },
                (None, true) => GuardSeen::Fired,
                (None, false) => GuardSeen::Idle,
            },
            evidence: (self.look == Depth::Full && self.service).then(|| self.evidence()),
        };
        Observed {
            clock: self.clock(),
            desired: self.desired.clone(),
            host: Ok(host),
            journal: self.record.clone().map_or(JournalSeen::Missing, |record| JournalSeen::Found(Box::new(record))),
            key: Key::new([7; 32]),
            node: self.node.clone(),
            source: self.source,
            held: self.held.clone(),
            gate: self.gate.clone(),
            dice: format!("{:08x}", self.dice),
        }
    }

    fn evidence(&self) -> Evidence {
        let answer = |holds: bool| if holds { Answer::Passed } else { Answer::Failed("does not answer".into()) };
        let server = self.role == Role::Server;
        [
            (Check::Containerd, answer(self.is_up())),
            (Check::Kubelet, answer(self.is_up())),
            (Check::Supervisor, if server { Answer::NotApplicable } else { answer(!self.supervisor_away) }),
            (Check::Etcd, if server { answer(self.is_up()) } else { Answer::NotApplicable }),
        ]
        .into()
    }

    /// One pass. With `Some(n)` the process dies after n steps of it.
    pub fn pass(&mut self, dies_after: Option<usize>) -> Plan {
        let seen = self.observe();
        let plan = plan(&seen, &self.policy);
        self.look = plan.look;
        if let Some(Step::Restart(turn)) = plan.steps.iter().find(|step| matches!(step, Step::Restart(_))) {
            self.held = Some(turn.clone());
        }
        for (done, step) in plan.steps.iter().enumerate() {
            if dies_after == Some(done) {
                self.die();
                return plan;
            }
            self.story.push(step.name().into());
            if !self.execute(step) {
                return plan;
            }
        }
        if dies_after == Some(plan.steps.len()) && !plan.steps.is_empty() {
            self.die();
        }
        if self.record.as_ref().is_none_or(|record| record.intent.is_none()) {
            self.held = None;
        }
        plan
    }

    fn execute(&mut self, step: &Step) -> bool {
        match step {
            Step::Keep(Kept::Previous, tree) => self.previous = Some(tree.clone()),
            Step::Keep(Kept::Original, tree) => self.original = Some(tree.clone()),
            Step::Record(record) => {
                // It must survive its own file format.
                let text = serde_json::to_string(record).unwrap();
                self.record = Some(serde_json::from_str(&text).unwrap());
            }
            Step::ArmGuard { acts_at } => {
                assert!(self.previous.is_some(), "a guard with nothing to put back");
                self.armed = Some(*acts_at);
                self.fired = false;
            }
            Step::PushGuard { acts_at } => {
                if self.armed.is_some() {
                    self.armed = Some(*acts_at);
                }
            }
            Step::ClaimGuard => {
                if self.armed.take().is_none() {
                    return false;
                }
            }
            Step::ClearGuard => {
                self.armed = None;
                self.fired = false;
            }
            Step::Replace(tree) => self.disk = tree.clone(),
            Step::Restart(_) => {
                self.restarts += 1;
                self.start();
            }
        }
        true
    }

    /// Passes until nothing is left to do or to wait for, or `limit` is over. Gives the last plan.
    pub fn settle(&mut self, limit: Duration) -> Plan {
        let until = self.now + limit;
        let mut quiet = 0;
        loop {
            let plan = self.pass(None);
            match plan.wake {
                Wake::Now => quiet += 1,
                Wake::After(time) => {
                    quiet = 0;
                    let open = self.record.as_ref().is_some_and(|record| record.intent.is_some());
                    let rests = plan.steps.is_empty() && !open && plan.phase != Phase::Pending;
                    if rests || self.now >= until {
                        return plan;
                    }
                    let longest = Duration::from_secs(if open { 1 } else { 10 });
                    self.pass_time(time.clamp(Duration::from_millis(500), longest));
                }
            }
            assert!(quiet < 50, "a loop without time: {:?}: {}", plan.phase, self.told());
        }
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

/// The tree of a model, as the product writes it.
pub fn tree(registries: &Registries) -> Tree {
    Tree { registries: Some(render(registries)), ..Tree::default() }
}

/// A tree of this text.
pub fn text(text: &str) -> Tree {
    Tree { registries: Some(agent_core::secret::Secret::new(text.as_bytes().to_vec())), ..Tree::default() }
}

/// One mirror and one credential.
pub fn model(mirror: &str, password: &str) -> Registries {
    let auth = Auth { username: "u".into(), password: password.into(), ..Auth::default() };
    Registries {
        mirrors: [(
            mirror.to_owned(),
            Mirror { endpoints: vec!["https://m.example.com".into()], rewrites: BTreeMap::new() },
        )]
        .into(),
        configs: [("m.example.com".to_owned(), HostConfig { auth: Some(auth), tls: None })].into(),
    }
}

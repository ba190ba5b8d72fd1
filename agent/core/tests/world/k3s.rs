//! What k3s, containerd, systemd and the guard of the world do, and what an administrator does to them.

use std::time::Duration;

use agent_core::node::observed::{LogSigns, Program, Role, RuntimeFiles};
use agent_core::registries::model::Registries;
use agent_core::registries::on_disk::{self, OnDisk};
use agent_core::runtime::auth_tables::ConfigVersion;
use agent_core::runtime::expect::expect;
use agent_core::runtime::settings::Settings;
use agent_core::tree::Tree;

use super::{Unit, World};

impl World {
    /// What k3s makes of the file: `Err` if it loops on it.
    fn reads(&self) -> Result<Registries, &'static str> {
        let Some(bytes) = &self.disk.registries else { return Ok(Registries::default()) };
        match on_disk::read(bytes.expose()) {
            OnDisk::Read(document) if document.registries.mirrors.keys().any(|host| self.refuses.contains(host)) => {
                Err("refused")
            }
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
    pub(super) fn load(&mut self) {
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
                && self.has_process()
            {
                self.goes_on();
            }
        }
    }

    /// A start that nothing holds up reads the file.
    fn goes_on(&mut self) {
        match self.reads() {
            Err(_) => self.log.registries_error = true,
            Ok(model) if self.containerd_sick || Self::containerd_crashes(&model) => {
                self.crashes += 1;
                self.invocation += 1;
                self.stamp_start();
                self.log = LogSigns { containerd_exited: true, ..LogSigns::default() };
                self.unit = Unit::Starting(self.now + Duration::from_secs(5));
            }
            Ok(_) => {
                self.unit = Unit::Up;
                self.load();
            }
        }
    }

    /// Somebody writes the file.
    pub fn write(&mut self, tree: Tree) {
        self.disk = tree;
        self.mode = 0o600;
        self.modified = self.clock().wall;
    }

    fn guard_acts(&mut self) {
        self.armed = None;
        self.fired = true;
        self.story.push("guard".into());
        self.write(self.previous.clone().expect("a guard with nothing to put back"));
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

    /// systemd writes the wall clock of the moment down; it does not change with the clock.
    fn stamp_start(&mut self) {
        self.started = self.now;
        self.started_wall = self.wall_at(self.now);
    }

    pub(super) fn start(&mut self) {
        self.invocation += 1;
        self.stamp_start();
        self.crashes = 0;
        self.log = LogSigns::default();
        self.wall_was_set = false;
        self.unit = Unit::Starting(self.now);
    }

    /// An administrator makes a directory of certs.d.
    pub fn put_certs_d(&mut self, name: &str, hosts_toml: &[u8]) {
        self.runtime.hosts.insert(name.to_owned(), Some(hosts_toml.to_vec()));
    }

    /// An administrator restarts k3s by hand.
    pub fn restart_by_hand(&mut self) {
        self.start();
    }

    /// An administrator restarted it too often.
    pub fn is_given_up(&mut self) {
        self.unit = Unit::GivenUp;
    }

    pub fn stop_by_hand(&mut self) {
        self.unit = Unit::Stopped;
    }

    /// Does nothing to a unit that runs.
    pub fn start_by_hand(&mut self) {
        if self.unit == Unit::Stopped {
            self.start();
        }
    }

    pub(super) fn has_process(&self) -> bool {
        match self.unit {
            Unit::Up => true,
            Unit::Starting(_) => !self.pre_fails,
            Unit::Stopped | Unit::GivenUp => false,
        }
    }

    pub fn is_up(&self) -> bool {
        self.unit == Unit::Up
    }

    /// What the runtime holds, or will as soon as a start that is under way has read the file.
    pub fn runs_on(&self) -> Option<Registries> {
        match self.unit {
            Unit::Up => self.loaded.clone(),
            Unit::Starting(_) if self.exec_type => self.reads().ok(),
            Unit::Starting(_) | Unit::Stopped | Unit::GivenUp => None,
        }
    }

    pub fn loaded(&self) -> Option<&Registries> {
        self.loaded.as_ref()
    }
}

//! The undo that outlives the agent: a marker, a script of the host, a unit before k3s and a transient timer.

mod script;

use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use agent_core::node::observed::Clock;
use agent_core::node::observed::GuardSeen;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use self::script::Places;
use super::command::CommandError;
use super::files;
use super::files::FilesError;
use super::files::Like;
use super::files::failed;
use super::journal;
use super::root;
use super::root::Root;
use super::service::Systemd;

const ARMED: &str = "armed";
const BY_GUARD: &str = "claimed-by-guard";
const BY_AGENT: &str = "claimed-by-agent";
const FIRED: &str = "fired";
const SCRIPT: &str = "guard.sh";
const UNITS: &str = "/etc/systemd/system";
const UNIT: &str = "k3s-registry-agent-guard.service";
const WATCH: &str = "k3s-registry-agent-guard-watch";
/// Length of a boot id, and of the blank after it.
const DEADLINE_AT: u64 = 37;

/// What could not be done with the guard.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// A file of it.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// systemd did not do what it was told.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// It is putting the previous tree back at this moment.
    #[error("the guard is acting: nothing may be begun")]
    Acting,
}

/// What of it survives a reboot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installed {
    /// Timer and unit.
    Whole,
    /// The timer only, and why: a reboot in the middle of a change is not guarded.
    TransientOnly(String),
}

/// The guard of one node with systemd.
#[derive(Debug)]
pub struct Guard {
    root: Root,
    dir: OwnedFd,
    systemd: Systemd,
}

impl Guard {
    /// Opens its directory in the journal's.
    pub fn open(root: &Root, systemd: Systemd) -> Result<Self, GuardError> {
        let shown = directory();
        let dir = root.make_dir(&shown, 0o700).map_err(failed("create", &shown))?;
        Ok(Self { root: root.clone(), dir, systemd })
    }

    /// Installs script and unit, or mends them; equal ones are left alone.
    pub async fn install(&self, registries_path: &str, k3s_unit: &str) -> Result<Installed, GuardError> {
        let (etc, name) = registries_path.rsplit_once('/').unwrap_or(("/", registries_path));
        let places = Places {
            journal: journal::DIRECTORY.to_owned(),
            etc: etc.to_owned(),
            name: name.to_owned(),
            boot_id: "/proc/sys/kernel/random/boot_id".to_owned(),
            uptime: "/proc/uptime".to_owned(),
        };
        self.put(SCRIPT, script::script(&places).as_bytes())?;
        let shown = format!("{UNITS}/{UNIT}");
        let written = match self.root.dir(UNITS) {
            Ok(units) => {
                let unit = script::unit(journal::DIRECTORY, etc, k3s_unit);
                files::replace(units.as_fd(), UNIT, &shown, unit.as_bytes(), Like::Mode(0o644))
            }
            Err(error) => Err(failed("open", UNITS)(error)),
        };
        match written {
            Ok(changed) => {
                if changed {
                    self.systemd.systemctl(&["daemon-reload"]).await?;
                }
                if changed || self.root.link(&format!("{UNITS}/multi-user.target.wants/{UNIT}")).is_none() {
                    self.systemd.systemctl(&["enable", UNIT]).await?;
                }
                Ok(Installed::Whole)
            }
            Err(error) if error.kind() == "read-only" => Ok(Installed::TransientOnly(format!(
                "{UNITS} is read-only: the guard cannot act after a reboot in the middle of a change"
            ))),
            Err(error) => Err(error.into()),
        }
    }

    /// Arms it: the timer first, which does nothing without the marker, then the marker.
    pub async fn arm(&self, clock: &Clock, deadline: Duration) -> Result<(), GuardError> {
        if self.has(BY_GUARD)? {
            return Err(GuardError::Acting);
        }
        self.start_timer().await?;
        for left in [FIRED, BY_AGENT] {
            files::remove(self.dir.as_fd(), left, &path(left))?;
        }
        self.put(ARMED, marker(&clock.boot_id, deadline).as_bytes())
    }

    /// Moves the deadline of an armed guard. `false`: the marker is not there any more, so that it was claimed. A
    /// claimed marker is never made anew, since the file is opened without creating it.
    pub fn push(&self, deadline: Duration) -> Result<bool, GuardError> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.dir, ARMED, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(failed("open", &path(ARMED))(error).into()),
        };
        // Only the deadline is overwritten, by one call: a reader sees the old one or the new one.
        let text = seconds(deadline);
        let written = rustix::io::pwrite(&file, text.as_bytes(), DEADLINE_AT).map_err(failed("write", &path(ARMED)))?;
        if written != text.len() {
            return Err(failed("write", &path(ARMED))(io::Error::from(io::ErrorKind::WriteZero)).into());
        }
        self.has(ARMED)
    }

    /// Claims the marker. `true`: it is ours (or none was there), and the guard will not act. `false`: the guard has it.
    pub fn claim(&self) -> Result<bool, GuardError> {
        match rustix::fs::renameat(&self.dir, ARMED, &self.dir, BY_AGENT) {
            Ok(()) => {
                rustix::fs::fsync(&self.dir).map_err(failed("sync", &directory()))?;
                Ok(true)
            }
            Err(Errno::NOENT) => Ok(!self.has(BY_GUARD)? && !self.has(FIRED)?),
            Err(error) => Err(failed("claim", &path(ARMED))(error).into()),
        }
    }

    /// Claims the marker, stops the timer and removes what is left. Where the guard has the marker the timer goes on,
    /// since it may have to start the script once more, and `false` is returned.
    pub async fn disarm(&self) -> Result<bool, GuardError> {
        if !self.claim()? {
            return Ok(false);
        }
        self.stop_timer().await?;
        files::remove(self.dir.as_fd(), BY_AGENT, &path(BY_AGENT))?;
        Ok(true)
    }

    /// Forgets that it fired, once that is recorded. While it still acts it cannot be forgotten.
    pub async fn acknowledge(&self) -> Result<(), GuardError> {
        if self.has(BY_GUARD)? {
            return Err(GuardError::Acting);
        }
        self.stop_timer().await?;
        files::remove(self.dir.as_fd(), FIRED, &path(FIRED))?;
        Ok(())
    }

    /// What it is doing.
    pub fn seen(&self, clock: &Clock) -> Result<GuardSeen, GuardError> {
        if self.has(BY_GUARD)? || self.has(FIRED)? {
            return Ok(GuardSeen::Fired);
        }
        let shown = path(ARMED);
        let Some(text) = self.root.read(&shown, 256).map_err(failed("read", &shown))? else {
            return Ok(GuardSeen::Idle);
        };
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut words = text.split_whitespace();
        let same_boot = words.next() == Some(clock.boot_id.as_str());
        let deadline = words.next().and_then(|word| word.parse().ok()).filter(|_| same_boot).unwrap_or_default();
        Ok(GuardSeen::Armed { acts_at: Duration::from_secs(deadline) })
    }

    /// Takes script and unit away. An armed guard is left alone.
    pub async fn uninstall(&self) -> Result<(), GuardError> {
        if self.has(ARMED)? || self.has(BY_GUARD)? {
            return Err(GuardError::Acting);
        }
        self.stop_timer().await?;
        if self.root.has(&format!("{UNITS}/{UNIT}")) {
            self.systemd.systemctl(&["disable", UNIT]).await?;
            let units = self.root.dir(UNITS).map_err(failed("open", UNITS))?;
            files::remove(units.as_fd(), UNIT, &format!("{UNITS}/{UNIT}"))?;
            self.systemd.systemctl(&["daemon-reload"]).await?;
        }
        files::remove(self.dir.as_fd(), SCRIPT, &path(SCRIPT))?;
        Ok(())
    }

    async fn start_timer(&self) -> Result<(), GuardError> {
        self.stop_timer().await?;
        let (unit, script) = (format!("--unit={WATCH}"), path(SCRIPT));
        let accuracy = "--timer-property=AccuracySec=1s";
        let args =
            [&unit, "--collect", "--quiet", "--on-active=10", "--on-unit-active=10", accuracy, "/bin/sh", &script];
        self.systemd.run("systemd-run", &args).await?;
        Ok(())
    }

    async fn stop_timer(&self) -> Result<(), GuardError> {
        let timer = format!("{WATCH}.timer");
        // `is-active` answers by its exit code; what does not run needs no stop.
        match self.systemd.systemctl(&["is-active", "--quiet", &timer]).await {
            Ok(_) => self.systemd.systemctl(&["stop", &timer]).await.map(drop).map_err(GuardError::from),
            Err(CommandError::Failed { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), GuardError> {
        files::replace(self.dir.as_fd(), name, &path(name), bytes, Like::Mode(0o600))?;
        Ok(())
    }

    fn has(&self, name: &str) -> Result<bool, GuardError> {
        Ok(root::look(self.dir.as_fd(), name).map_err(failed("look at", &path(name)))?.is_some())
    }
}

fn directory() -> String {
    format!("{}/guard", journal::DIRECTORY)
}

fn path(name: &str) -> String {
    format!("{}/{name}", directory())
}

/// Of fixed width, so that a deadline can be overwritten in place; blanks, since a shell may take a leading 0 for octal.
fn seconds(deadline: Duration) -> String {
    format!("{:>12}", deadline.as_secs() + u64::from(deadline.subsec_nanos() > 0))
}

fn marker(boot_id: &str, deadline: Duration) -> String {
    format!("{boot_id:<36.36} {}\n", seconds(deadline))
}

#[cfg(test)]
mod tests;

//! systemd, through the host's own `systemctl` and `journalctl`.

use std::collections::BTreeMap;

use agent_core::node::observed::Clock;
use agent_core::node::observed::UnitSeen;

use jiff::Timestamp;

use super::Service;
use super::TIMEOUT;
use super::last_lines;
use crate::host::command::CommandError;
use crate::host::command::Commands;
use crate::host::command::HOST_BIN;
use crate::host::command::Invocation;
use crate::host::command::find;
use crate::host::root::Root;

/// systemd of the host behind a root.
#[derive(Clone, Debug)]
pub struct Systemd {
    commands: Commands,
    root: Root,
}

impl Systemd {
    /// Starts nothing yet.
    pub fn new(commands: Commands, root: Root) -> Self {
        Self { commands, root }
    }

    /// Every loaded service, as `agent_core::node::discovery::parse_show` reads it.
    pub async fn show_all(&self) -> Result<String, CommandError> {
        let properties = "--property=Id,ActiveState,UnitFileState,ExecStart,Environment,EnvironmentFiles";
        self.systemctl(&["show", "*.service", properties]).await
    }

    /// Runs a program of the host.
    pub(crate) async fn run(&self, name: &str, args: &[&str]) -> Result<String, CommandError> {
        let program = find(&self.root, name, &HOST_BIN)?;
        let what = Invocation { program: &program, args, env: &[("TZ", "UTC")], timeout: TIMEOUT };
        Ok(String::from_utf8_lossy(&self.commands.run(&what).await?.stdout).into_owned())
    }

    pub(crate) async fn systemctl(&self, args: &[&str]) -> Result<String, CommandError> {
        self.run("systemctl", &[args, &["--no-pager", "--no-ask-password"]].concat()).await
    }
}

impl Service for Systemd {
    async fn show(&self, unit: &str, clock: &Clock) -> Result<UnitSeen, CommandError> {
        let properties = "--property=ActiveState,SubState,InvocationID,NRestarts,MainPID,Job,ExecMainStartTimestamp";
        let text = match self.systemctl(&["show", unit, properties, "--timestamp=us+utc"]).await {
            // Older than systemd 248: whole seconds, in the time zone that it is told.
            Err(CommandError::Failed { .. }) => self.systemctl(&["show", unit, properties]).await?,
            other => other?,
        };
        let (mut seen, pid) = parse(&text);
        if let Some(pid) = pid {
            super::started(&mut seen, &self.root, pid, clock);
        }
        Ok(seen)
    }

    async fn restart(&self, unit: &str) -> Result<(), CommandError> {
        self.systemctl(&["restart", "--no-block", unit]).await.map(drop)
    }

    async fn log(&self, unit: &str, invocation: &str) -> Result<Vec<String>, CommandError> {
        let filter = match invocation {
            "" => format!("--unit={unit}"),
            id => format!("_SYSTEMD_INVOCATION_ID={id}"),
        };
        let args = ["--no-pager", "--quiet", "--boot", "--output=cat", "--lines=400", &filter];
        Ok(last_lines(self.run("journalctl", &args).await?.as_bytes()))
    }
}

fn parse(text: &str) -> (UnitSeen, Option<u32>) {
    let values: BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let value = |key: &str| values.get(key).copied().unwrap_or_default();
    let seen = UnitSeen {
        active_state: value("ActiveState").to_owned(),
        sub_state: value("SubState").to_owned(),
        invocation: value("InvocationID").to_owned(),
        restarts: value("NRestarts").parse().unwrap_or_default(),
        main_started_wall: timestamp(value("ExecMainStartTimestamp")),
        // `Job=1234`, or `Job=0` or no line at all where there is none.
        job_pending: !matches!(value("Job"), "" | "0"),
        ..UnitSeen::default()
    };
    (seen, value("MainPID").parse().ok().filter(|pid| *pid != 0))
}

/// Reads `Thu 2026-08-20 10:00:00.123456 UTC` or `Thu 2026-08-20 10:00:00 UTC`. systemd wrote the time of the start down when it
/// was, from the clock that file times are of; one worked out now would be wrong where the clock was set since.
fn timestamp(text: &str) -> Option<Timestamp> {
    let (_, time) = text.split_once(' ')?;
    let (day, time) = time.strip_suffix(" UTC")?.split_once(' ')?;
    format!("{day}T{time}Z").parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    #[test]
    fn a_unit_is_read_by_property() {
        let (seen, pid) = parse(
            "ActiveState=activating\nSubState=start\nInvocationID=ab\nNRestarts=3\nMainPID=17\nJob=9\n\
             ExecMainStartTimestamp=Thu 2026-08-20 10:00:00.123456 UTC\n",
        );
        assert_eq!(seen.main_started_wall, "2026-08-20T10:00:00.123456Z".parse().ok());
        assert_eq!(timestamp("Thu 2026-08-20 10:00:00 UTC"), "2026-08-20T10:00:00Z".parse().ok());
        assert_eq!((timestamp(""), timestamp("n/a"), timestamp("Thu 2026-08-20 10:00:00 CEST")), (None, None, None));
        assert_eq!((seen.active_state.as_str(), seen.sub_state.as_str()), ("activating", "start"));
        assert_eq!((seen.invocation.as_str(), seen.restarts, seen.job_pending, pid), ("ab", 3, true, Some(17)));
        let (seen, pid) = parse("ActiveState=inactive\nMainPID=0\n");
        assert_eq!((seen.is_active(), seen.job_pending, pid), (false, false, None));
    }

    #[tokio::test]
    async fn a_restart_never_waits() {
        let temp = tempfile::tempdir().unwrap();
        let bin = temp.path().join("usr/bin");
        std::fs::create_dir_all(&bin).unwrap();
        let script = format!("#!/bin/sh\necho \"$@\" >>{}/called\n", temp.path().display());
        let mut file = std::fs::OpenOptions::new();
        let mut file = file.write(true).create(true).mode(0o755).open(bin.join("systemctl")).unwrap();
        std::io::Write::write_all(&mut file, script.as_bytes()).unwrap();
        drop(file);
        let service = Systemd::new(Commands::scripted(temp.path()), Root::open(temp.path()).unwrap());
        service.restart("k3s.service").await.unwrap();
        let called = std::fs::read_to_string(temp.path().join("called")).unwrap();
        assert_eq!(called, "restart --no-block k3s.service --no-pager --no-ask-password\n");
    }
}

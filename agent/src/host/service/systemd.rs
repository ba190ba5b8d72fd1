//! systemd, through the host's own `systemctl` and `journalctl`.

use std::collections::BTreeMap;

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

const SHOWN: &str =
    "--property=ActiveState,SubState,InvocationID,NRestarts,MainPID,Job,ExecMainStartTimestamp,ExecStartPre";

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
        // Where systemd tells a time in words, it is UTC.
        let what = Invocation { program: &program, args, env: &[("TZ", "UTC")], timeout: TIMEOUT };
        Ok(String::from_utf8_lossy(&self.commands.run(&what).await?.stdout).into_owned())
    }

    pub(crate) async fn systemctl(&self, args: &[&str]) -> Result<String, CommandError> {
        self.run("systemctl", &[args, &["--no-pager", "--no-ask-password"]].concat()).await
    }
}

impl Service for Systemd {
    async fn show(&self, unit: &str) -> Result<UnitSeen, CommandError> {
        let args = ["show", unit, SHOWN];
        let text = match self.systemctl(&[args.as_slice(), &["--timestamp=us+utc"]].concat()).await {
            // Before version 248 there is no such option, and a time has whole seconds.
            Err(CommandError::Failed { .. }) => self.systemctl(&args).await?,
            other => other?,
        };
        let (mut seen, pid) = parse(&text);
        seen.main_started = pid.and_then(|pid| super::started(&self.root, pid));
        Ok(seen)
    }

    async fn forgive(&self, unit: &str) -> Result<(), CommandError> {
        self.systemctl(&["reset-failed", unit]).await.map(drop)
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
    let pid = value("MainPID").parse().ok().filter(|pid| *pid != 0);
    let seen = UnitSeen {
        active_state: value("ActiveState").to_owned(),
        sub_state: value("SubState").to_owned(),
        invocation: value("InvocationID").to_owned(),
        restarts: value("NRestarts").parse().unwrap_or_default(),
        // Between two starts it is still the time of the one before.
        main_started_wall: pid.and_then(|_| timestamp(value("ExecMainStartTimestamp"))),
        start_pre_failed: text.lines().filter_map(|line| line.strip_prefix("ExecStartPre=")).any(has_failed),
        // `Job=1234`, or `Job=0` or no line at all where there is none.
        job_pending: !matches!(value("Job"), "" | "0"),
        ..UnitSeen::default()
    };
    (seen, pid)
}

/// Reads `{ path=/x ; argv[]=/x y ; ignore_errors=no ; start_time=[…] ; stop_time=[…] ; pid=7 ; code=exited ; status=1 }`,
/// one line for each command; systemd forgets the end of the last try when it begins the next.
fn has_failed(command: &str) -> bool {
    // The arguments may hold anything, and stand before.
    let Some((_, told)) = command.rsplit_once(" ; ignore_errors=") else { return false };
    let value = |key: &str| told.split(" ; ").find_map(|field| field.strip_prefix(key)?.strip_prefix('='));
    let has_failed = match value("code") {
        Some("exited") => value("status").is_some_and(|status| !status.trim_end_matches(" }").eq("0")),
        Some("killed" | "dumped") => true,
        Some(_) | None => false,
    };
    told.starts_with("no ") && has_failed
}

/// Reads `Thu 2026-08-20 10:00:00.123456 UTC`, with or without the fraction. systemd wrote this time down when it
/// started the process, from the clock that file times are of. Now less the age of the process is no stand-in: the wall
/// clock of a small board jumps after boot, and everything written before would then seem older than the start.
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
        let (seen, pid) =
            parse("ActiveState=activating\nSubState=start\nInvocationID=ab\nNRestarts=3\nMainPID=17\nJob=9\n");
        assert_eq!((seen.active_state.as_str(), seen.sub_state.as_str()), ("activating", "start"));
        assert_eq!((seen.invocation.as_str(), seen.restarts, seen.job_pending, pid), ("ab", 3, true, Some(17)));
        let (seen, pid) = parse("ActiveState=inactive\nMainPID=0\n");
        assert_eq!((seen.is_active(), seen.job_pending, pid), (false, false, None));
    }

    #[test]
    fn only_a_command_that_counts_and_failed_keeps_k3s_from_starting() {
        let times = "start_time=[Thu 2026-08-20 10:00:00 UTC] ; stop_time=[Thu 2026-08-20 10:00:00 UTC]";
        let pre = |args: &str, ignored: &str, end: &str| {
            format!(
                "ExecStartPre={{ path=/x ; argv[]=/x {args} ; ignore_errors={ignored} ; {times} ; pid=7 ; {end} }}\n"
            )
        };
        let modprobe = pre("br_netfilter", "yes", "code=exited ; status=1");
        for (commands, expected) in [
            (modprobe.clone(), false),
            (pre("", "no", "code=exited ; status=0"), false),
            (pre("", "no", "code=(null) ; status=0/0"), false),
            (pre("; ignore_errors=no ; code=exited ; status=1", "no", "code=exited ; status=0"), false),
            (pre("", "no", "code=exited ; status=1") + &modprobe, true),
            (modprobe.clone() + &pre("", "no", "code=exited ; status=127"), true),
            (pre("", "no", "code=killed ; status=9/KILL"), true),
            (String::new(), false),
        ] {
            let (seen, _) = parse(&format!("ActiveState=activating\nNRestarts=2\n{commands}MainPID=0\n"));
            assert_eq!((seen.start_pre_failed, seen.is_kept_from_starting()), (expected, expected), "{commands}");
        }
    }

    /// A host whose `systemctl` is this script, which also writes down how it was called.
    fn host(script: &str) -> (tempfile::TempDir, Systemd) {
        let temp = tempfile::tempdir().unwrap();
        let bin = temp.path().join("usr/bin");
        std::fs::create_dir_all(&bin).unwrap();
        let script = format!("#!/bin/sh\necho \"$@\" >>{}/called\n{script}\n", temp.path().display());
        let mut file = std::fs::OpenOptions::new();
        let mut file = file.write(true).create(true).mode(0o755).open(bin.join("systemctl")).unwrap();
        std::io::Write::write_all(&mut file, script.as_bytes()).unwrap();
        drop(file);
        let service = Systemd::new(Commands::scripted(temp.path()), Root::open(temp.path()).unwrap());
        (temp, service)
    }

    fn calls(temp: &tempfile::TempDir) -> String {
        std::fs::read_to_string(temp.path().join("called")).unwrap()
    }

    #[tokio::test]
    async fn the_start_on_the_wall_clock_is_what_systemd_wrote_down() {
        let (temp, service) = host(
            "echo ActiveState=active; echo MainPID=7; echo 'ExecMainStartTimestamp=Thu 1998-08-20 10:00:00.5 UTC'",
        );
        // The clock was set since: now less the age of any process is another time.
        std::fs::create_dir_all(temp.path().join("proc/7")).unwrap();
        std::fs::copy("/proc/self/stat", temp.path().join("proc/7/stat")).unwrap();
        let seen = service.show("k3s.service").await.unwrap();
        assert_eq!(seen.main_started_wall.unwrap().to_string(), "1998-08-20T10:00:00.5Z");
        assert!(seen.main_started.is_some());
        assert!(calls(&temp).contains("--timestamp=us+utc") && calls(&temp).lines().count() == 1);
    }

    #[tokio::test]
    async fn an_old_systemctl_is_asked_again_and_tells_utc() {
        let (temp, service) = host(
            "case \"$*\" in *--timestamp*) echo unrecognized option >&2; exit 1;; esac\n\
             echo ActiveState=active; echo MainPID=7; echo \"ExecMainStartTimestamp=Thu 2026-08-20 10:00:00 $TZ\"",
        );
        let seen = service.show("k3s.service").await.unwrap();
        assert_eq!(seen.main_started_wall.unwrap().to_string(), "2026-08-20T10:00:00Z");
        assert_eq!(calls(&temp).lines().count(), 2);
    }

    #[test]
    fn between_two_starts_no_start_is_claimed() {
        let (seen, _) =
            parse("ActiveState=activating\nMainPID=0\nExecMainStartTimestamp=Thu 2026-08-20 10:00:00 UTC\n");
        assert_eq!(seen.main_started_wall, None);
    }

    #[test]
    fn a_time_that_is_not_utc_is_no_time() {
        for unknown in ["", "n/a", "Thu 2026-08-20 12:00:00 CEST", "Thu", "Thu 2026-08-20 UTC"] {
            assert_eq!(timestamp(unknown), None, "{unknown}");
        }
    }

    #[tokio::test]
    async fn what_is_forgiven_is_the_unit_alone() {
        let (temp, service) = host("");
        service.forgive("k3s.service").await.unwrap();
        assert_eq!(calls(&temp), "reset-failed k3s.service --no-pager --no-ask-password\n");
    }

    #[tokio::test]
    async fn a_restart_never_waits() {
        let (temp, service) = host("");
        service.restart("k3s.service").await.unwrap();
        assert_eq!(calls(&temp), "restart --no-block k3s.service --no-pager --no-ask-password\n");
    }
}

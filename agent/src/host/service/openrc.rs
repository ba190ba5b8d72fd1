//! OpenRC: `rc-service`, what supervise-daemon writes down, and its log file. It has no invocations, no jobs and no guard.

use std::time::Duration;

use agent_core::node::discovery::Unit;
use agent_core::node::discovery::openrc::parse_script;
use agent_core::node::observed::UnitSeen;

use super::Service;
use super::TIMEOUT;
use super::last_lines;
use crate::host::command::CommandError;
use crate::host::command::Commands;
use crate::host::command::HOST_BIN;
use crate::host::command::Invocation;
use crate::host::command::find;
use crate::host::root::Root;

/// `rc-service` waits until the service has stopped; killed in between it would leave it so.
const RESTART: Duration = Duration::from_secs(90);
const SCRIPT: u64 = 256 * 1024;
const OPTION: u64 = 4096;
/// Arguments of a service that are read at most.
const ARGUMENTS: usize = 256;

/// OpenRC of the host behind a root.
#[derive(Clone, Debug)]
pub struct OpenRc {
    commands: Commands,
    root: Root,
}

impl OpenRc {
    /// Starts nothing yet.
    pub fn new(commands: Commands, root: Root) -> Self {
        Self { commands, root }
    }

    /// The services that run k3s: `/etc/init.d/k3s*`.
    pub async fn units(&self) -> std::io::Result<Vec<Unit>> {
        let mut units = Vec::new();
        for name in self.root.names("/etc/init.d")?.into_iter().filter(|name| name.starts_with("k3s")) {
            // A directory of that name, say, starts nothing.
            let Ok(Some(script)) = self.root.read(&format!("/etc/init.d/{name}"), SCRIPT) else { continue };
            let mut unit = parse_script(&name, &String::from_utf8_lossy(&script));
            let state = self.show(&name).await.map_err(std::io::Error::other)?.active_state;
            if let Some(exec) = self.arguments(&name).filter(|_| state != "inactive") {
                // What runs was read by a shell, with `/etc/conf.d` and all.
                unit.executable = exec.first().cloned().unwrap_or_default();
                unit.exec = exec;
            }
            let levels = self.root.names("/etc/runlevels")?;
            let is_enabled = levels.iter().any(|level| self.root.has(&format!("/etc/runlevels/{level}/{name}")));
            unit.file_state = if is_enabled { "enabled" } else { "disabled" }.to_owned();
            unit.active_state = state;
            if unit.program().is_some() {
                units.push(unit);
            }
        }
        Ok(units)
    }

    /// What supervise-daemon writes down about a service that it was told to start.
    fn option(&self, unit: &str, name: &str) -> Option<String> {
        let value = self.root.read(&format!("/run/openrc/options/{unit}/{name}"), OPTION).ok().flatten()?;
        Some(String::from_utf8_lossy(&value).trim_end_matches('\n').to_owned())
    }

    fn arguments(&self, unit: &str) -> Option<Vec<String>> {
        let count: usize = self.option(unit, "argc")?.parse().ok().filter(|count| *count <= ARGUMENTS)?;
        (0..count).map(|number| self.option(unit, &format!("argv_{number}"))).collect()
    }
}

impl Service for OpenRc {
    async fn show(&self, unit: &str) -> Result<UnitSeen, CommandError> {
        let program = find(&self.root, "rc-service", &HOST_BIN)?;
        let what = Invocation { program: &program, args: &[unit, "status"], env: &[], timeout: TIMEOUT };
        // The exit code is the state's; the text names it, and what is no good state goes to the standard error.
        let output = self.commands.ask(&what).await?;
        let mut seen = parse(&format!("{}\n{}", String::from_utf8_lossy(&output.stdout), output.stderr_tail));
        // supervise-daemon starts the service anew by itself and stays the same process: the child is k3s. A service without
        // it has its own process in the file.
        let in_file = || self.root.read(&format!("/run/{unit}.pid"), 32).ok().flatten();
        let pid = self.option(unit, "child_pid").filter(|_| seen.active_state != "inactive");
        let pid = pid.or_else(|| in_file().map(|pid| String::from_utf8_lossy(&pid).into_owned()));
        if let Some(pid) = pid.and_then(|pid| pid.trim().parse().ok()) {
            // OpenRC's time is local and in whole seconds, and none that is computed compares with file times.
            seen.main_started = super::started(&self.root, pid);
            // Process and moment of its start stand for an invocation.
            seen.invocation = format!("{pid}@{}", seen.main_started.unwrap_or_default().as_millis());
        }
        seen.restarts = self.option(unit, "start_count").and_then(|count| count.parse().ok()).unwrap_or_default();
        Ok(seen)
    }

    /// OpenRC itself counts no starts; its supervisor begins anew with each restart.
    async fn forgive(&self, _unit: &str) -> Result<(), CommandError> {
        Ok(())
    }

    async fn restart(&self, unit: &str) -> Result<(), CommandError> {
        let program = find(&self.root, "rc-service", &HOST_BIN)?;
        let what = Invocation { program: &program, args: &[unit, "restart"], env: &[], timeout: RESTART };
        self.commands.run(&what).await.map(drop)
    }

    async fn log(&self, unit: &str, _invocation: &str) -> Result<Vec<String>, CommandError> {
        Ok(crate::host::runtime::tail(&self.root, &format!("/var/log/{unit}.log"))
            .map_or_else(Vec::new, |text| last_lines(&text)))
    }
}

fn parse(status: &str) -> UnitSeen {
    let line = status.lines().find_map(|line| line.trim().strip_prefix("* status: ")).unwrap_or_default();
    // Newer ones add for how long.
    let word = line.split_whitespace().next().unwrap_or_default();
    let state = match word {
        "started" => "active",
        "starting" => "activating",
        "stopping" => "deactivating",
        // Nobody starts it again.
        "crashed" | "unsupervised" => "failed",
        // Its start waits for something else.
        "inactive" => "activating",
        _ => "inactive",
    };
    UnitSeen { active_state: state.to_owned(), sub_state: word.to_owned(), ..UnitSeen::default() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use agent_core::node::observed::Role;

    use super::*;

    /// What `rc-service NAME status` of OpenRC 0.45.2 (Debian 12) wrote, to its standard output or error, and its exit code.
    /// Captured in a container of that distribution, with a script of k3s's installer, supervise-daemon, and a program that
    /// stood for k3s: before the start, during a slow `start_pre`, running, exiting every time, and after supervise-daemon
    /// itself was killed.
    const STATUS: [(&str, &str, u8, &str); 5] = [
        (" * status: stopped", "", 3, "inactive"),
        ("", " * status: starting", 8, "activating"),
        (" * status: started", "", 0, "active"),
        (" * status: started", "", 0, "active"),
        ("", " * status: unsupervised", 64, "failed"),
    ];

    fn put(root: &tempfile::TempDir, path: &str, mode: u32, text: &str) {
        let path = root.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = std::fs::OpenOptions::new();
        let mut file = file.write(true).create(true).truncate(true).mode(mode).open(path).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }

    /// A host whose `rc-service` is this script.
    fn host(script: &str) -> (tempfile::TempDir, OpenRc) {
        let temp = tempfile::tempdir().unwrap();
        put(&temp, "/sbin/rc-service", 0o755, &format!("#!/bin/sh\n{script}\n"));
        let service = OpenRc::new(Commands::scripted(temp.path()), Root::open(temp.path()).unwrap());
        (temp, service)
    }

    fn options(temp: &tempfile::TempDir, unit: &str, all: &[(&str, &str)]) {
        for (name, value) in all {
            put(temp, &format!("/run/openrc/options/{unit}/{name}"), 0o644, value);
        }
    }

    #[tokio::test]
    async fn each_status_that_openrc_wrote_has_its_state() {
        for (out, err, code, state) in STATUS {
            let (_temp, service) = host(&format!("echo '{out}'; echo '{err}' >&2; exit {code}"));
            let seen = service.show("k3s").await.unwrap();
            assert_eq!(seen.active_state, state, "{out}{err}");
            assert!(out.ends_with(&seen.sub_state) || err.ends_with(&seen.sub_state), "{out}{err}");
        }
        assert_eq!(parse(" * status: started 00:01:02 (3)").active_state, "active");
        assert_eq!(parse(" * status: crashed").active_state, "failed");
    }

    #[tokio::test]
    async fn k3s_is_the_child_of_its_supervisor_and_its_starts_are_counted() {
        let (temp, service) = host("echo ' * status: started'");
        put(&temp, "/run/k3s.pid", 0o644, "140\n");
        put(&temp, "/proc/209/stat", 0o644, &format!("209 (k3s) S {}4200 7\n", "0 ".repeat(18)));
        options(&temp, "k3s", &[("child_pid", "209"), ("start_count", "2")]);
        let seen = service.show("k3s").await.unwrap();
        assert_eq!((seen.invocation.as_str(), seen.restarts), ("209@42000", 2));
        assert_eq!(seen.main_started, Some(Duration::from_secs(42)));
    }

    #[tokio::test]
    async fn a_restart_and_its_log_are_those_of_the_service() {
        let (temp, service) = host("echo \"$@\" >>\"${0%/*}/called\"");
        service.restart("k3s-agent").await.unwrap();
        assert_eq!(std::fs::read_to_string(temp.path().join("sbin/called")).unwrap(), "k3s-agent restart\n");
        put(&temp, "/var/log/k3s-agent.log", 0o644, "first\nlast\n");
        assert_eq!(service.log("k3s-agent", "").await.unwrap(), ["first", "last"]);
    }

    #[tokio::test]
    async fn services_are_found_by_their_scripts_and_read_as_they_run() {
        let (temp, service) =
            host("case $1 in k3s) echo ' * status: started';; *) echo ' * status: stopped'; exit 3;; esac");
        let script = |role: &str| format!("#!/sbin/openrc-run\ncommand=/usr/local/bin/k3s\ncommand_args=\"{role}\"\n");
        put(&temp, "/etc/init.d/k3s", 0o755, &script("${K3S_EXEC}"));
        put(&temp, "/etc/init.d/k3s-agent", 0o755, &script("agent --token canary"));
        put(&temp, "/etc/init.d/k3s-other", 0o755, "#!/sbin/openrc-run\ncommand=/bin/true\n");
        std::fs::create_dir_all(temp.path().join("etc/init.d/k3s.old")).unwrap();
        put(&temp, "/etc/init.d/sshd", 0o755, &script("server"));
        std::fs::create_dir_all(temp.path().join("etc/runlevels/default")).unwrap();
        std::os::unix::fs::symlink("/etc/init.d/k3s", temp.path().join("etc/runlevels/default/k3s")).unwrap();
        let running =
            [("argc", "3"), ("argv_0", "/usr/local/bin/k3s"), ("argv_1", "server"), ("argv_2", "--data-dir=/srv/k 3s")];
        options(&temp, "k3s", &running);
        options(&temp, "k3s-agent", &running);
        let units = service.units().await.unwrap();
        assert_eq!(units.iter().map(|unit| unit.id.as_str()).collect::<Vec<_>>(), ["k3s", "k3s-agent"]);
        assert_eq!((units[0].role(), units[0].exec[2].as_str()), (Some(Role::Server), "--data-dir=/srv/k 3s"));
        assert!(units[0].is_running() && units[0].file_state == "enabled");
        // Its own arguments are left from its last start.
        assert_eq!((units[1].role(), units[1].is_used()), (Some(Role::Agent), false));
        assert!(!format!("{units:?}").contains("canary"));
    }
}

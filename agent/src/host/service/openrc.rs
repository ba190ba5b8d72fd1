//! OpenRC: `rc-service` and the log file of supervise-daemon. It has no invocations, no jobs and no guard.

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
}

impl Service for OpenRc {
    async fn show(&self, unit: &str) -> Result<UnitSeen, CommandError> {
        let program = find(&self.root, "rc-service", &HOST_BIN)?;
        let what = Invocation { program: &program, args: &[unit, "status"], env: &[], timeout: TIMEOUT };
        // The exit code is the state's; the text names it.
        let output = self.commands.ask(&what).await?;
        let mut seen = parse(&String::from_utf8_lossy(&output.stdout));
        let pid = self.root.read(&format!("/run/{unit}.pid"), 32).ok().flatten();
        if let Some(pid) = pid.and_then(|pid| String::from_utf8_lossy(&pid).trim().parse().ok()) {
            // OpenRC writes no wall-clock time down, and none that is computed compares with file times.
            seen.main_started = super::started(&self.root, pid);
            // Process and moment of its start stand for an invocation.
            seen.invocation = format!("{pid}@{}", seen.main_started.unwrap_or_default().as_millis());
        }
        Ok(seen)
    }

    async fn restart(&self, unit: &str) -> Result<(), CommandError> {
        let program = find(&self.root, "rc-service", &HOST_BIN)?;
        let what = Invocation { program: &program, args: &[unit, "restart"], env: &[], timeout: TIMEOUT };
        self.commands.run(&what).await.map(drop)
    }

    async fn log(&self, unit: &str, _invocation: &str) -> Result<Vec<String>, CommandError> {
        Ok(crate::host::runtime::tail(&self.root, &format!("/var/log/{unit}.log"))
            .map_or_else(Vec::new, |text| last_lines(&text)))
    }
}

fn parse(status: &str) -> UnitSeen {
    let word = status.lines().find_map(|line| line.trim().strip_prefix("* status: ")).unwrap_or_default().trim();
    let state = match word {
        "started" => "active",
        "starting" => "activating",
        "stopping" => "deactivating",
        "crashed" | "unsupervised" => "failed",
        _ => "inactive",
    };
    UnitSeen { active_state: state.to_owned(), sub_state: word.to_owned(), ..UnitSeen::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_state() {
        for (status, state) in
            [(" * status: started\n", "active"), (" * status: crashed\n", "failed"), ("", "inactive")]
        {
            assert_eq!(parse(status).active_state, state, "{status}");
        }
    }
}

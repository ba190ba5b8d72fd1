//! How the k3s service is looked at and restarted: systemd or OpenRC.

mod openrc;
mod systemd;

use std::future::Future;
use std::time::Duration;

use agent_core::node::observed::UnitSeen;

pub use self::openrc::OpenRc;
pub use self::systemd::Systemd;
use super::command::CommandError;
use super::root::Root;

/// Most of a log that is read: lines and bytes.
const LINES: usize = 400;
const BYTES: usize = 256 * 1024;
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is done with the service that runs k3s.
pub trait Service {
    /// What it is doing.
    fn show(&self, unit: &str) -> impl Future<Output = Result<UnitSeen, CommandError>> + Send;
    /// Has the service manager forget how often the service was started lately: systemd refuses the sixth start within ten
    /// seconds, a restart that was ordered included, and leaves the unit down.
    fn forgive(&self, unit: &str) -> impl Future<Output = Result<(), CommandError>> + Send;
    /// Orders a restart and does not wait for it: with `TimeoutStartSec=0` it may never end.
    fn restart(&self, unit: &str) -> impl Future<Output = Result<(), CommandError>> + Send;
    /// The last lines of the log of this invocation, oldest first.
    fn log(&self, unit: &str, invocation: &str) -> impl Future<Output = Result<Vec<String>, CommandError>> + Send;
}

/// The service manager of this host.
#[derive(Debug)]
pub enum Backend {
    /// systemd.
    Systemd(Systemd),
    /// OpenRC.
    OpenRc(OpenRc),
}

impl Service for Backend {
    async fn show(&self, unit: &str) -> Result<UnitSeen, CommandError> {
        match self {
            Self::Systemd(service) => service.show(unit).await,
            Self::OpenRc(service) => service.show(unit).await,
        }
    }

    async fn forgive(&self, unit: &str) -> Result<(), CommandError> {
        match self {
            Self::Systemd(service) => service.forgive(unit).await,
            Self::OpenRc(service) => service.forgive(unit).await,
        }
    }

    async fn restart(&self, unit: &str) -> Result<(), CommandError> {
        match self {
            Self::Systemd(service) => service.restart(unit).await,
            Self::OpenRc(service) => service.restart(unit).await,
        }
    }

    async fn log(&self, unit: &str, invocation: &str) -> Result<Vec<String>, CommandError> {
        match self {
            Self::Systemd(service) => service.log(unit, invocation).await,
            Self::OpenRc(service) => service.log(unit, invocation).await,
        }
    }
}

/// The last lines of a text, bounded.
pub(crate) fn last_lines(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(BYTES)..]).into_owned();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|line| (*line).to_owned()).collect()
}

/// When a process started on the boot-time clock, from its own `/proc` entry.
fn started(root: &Root, pid: u32) -> Option<Duration> {
    let stat = root.read(&format!("/proc/{pid}/stat"), 4096).ok().flatten()?;
    start_time(&String::from_utf8_lossy(&stat))
}

/// Field 22 of `/proc/PID/stat`; the second field, the name in parentheses, may hold blanks and parentheses.
fn start_time(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: u64 = rest.split_whitespace().nth(19)?.parse().ok()?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(Duration::from_millis(ticks.saturating_mul(1000) / per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_time_is_found_behind_any_name() {
        let mut fields = vec!["S"];
        fields.extend(["0"; 18]);
        fields.extend(["4200", "7"]);
        let stat = format!("12 (k3s ) x) {}\n", fields.join(" "));
        assert_eq!(start_time(&stat), Some(Duration::from_secs(42)));
        assert_eq!(start_time("garbage"), None);
    }

    #[test]
    fn a_log_is_cut_to_its_end() {
        let text = (0..1000).map(|number| format!("{number}\n")).collect::<String>();
        let lines = last_lines(text.as_bytes());
        assert_eq!((lines.len(), lines[0].as_str(), lines[399].as_str()), (400, "600", "999"));
        assert!(last_lines(&vec![b'x'; 2 * BYTES])[0].len() <= BYTES);
    }
}

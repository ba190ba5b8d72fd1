//! The one reader of clocks and of the boot id.

use std::io;
use std::time::Duration;

use agent_core::node::observed::Clock;
use jiff::Timestamp;
use nix::time::ClockId;

use super::root::Root;

/// The kernel's name of this boot, as far as the container that one is in does not put another in its place.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Reads wall clock, boot-time clock and this process's boot id.
pub fn clock() -> io::Result<Clock> {
    now(std::fs::read_to_string(BOOT_ID)?)
}

/// The same with the boot id that the host's own programs read. Where a node is itself a container (systemd-nspawn, LXC)
/// it has one of its own, and a pod on it sees the kernel's: the guard's script, which runs on the host, would take an
/// armed marker for one of another boot, and act at once.
pub(super) fn clock_of(root: &Root) -> io::Result<Clock> {
    match root.read(BOOT_ID, 64)? {
        Some(text) => now(String::from_utf8_lossy(&text).into_owned()),
        // A directory that stands for a node has no boot of its own.
        None => clock(),
    }
}

fn now(boot_id: String) -> io::Result<Clock> {
    #[expect(clippy::disallowed_methods, reason = "this is where the time is read once")]
    let wall = Timestamp::now();
    let boot = Duration::from(nix::time::clock_gettime(ClockId::CLOCK_BOOTTIME)?);
    Ok(Clock { wall, boot, boot_id: boot_id.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_is_that_of_proc_uptime() {
        let clock = clock().unwrap();
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = text.split_whitespace().next().unwrap().parse().unwrap();
        assert!((clock.boot.as_secs_f64() - uptime).abs() < 2.0, "{clock:?} {uptime}");
        assert_eq!(clock.boot_id.len(), 36);
    }

    #[test]
    fn a_host_that_has_a_boot_id_of_its_own_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(clock_of(&root).unwrap().boot_id, clock().unwrap().boot_id);
        let file = dir.path().join(BOOT_ID.trim_start_matches('/'));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::copy("/proc/sys/kernel/random/uuid", &file).unwrap();
        let own = std::fs::read_to_string(&file).unwrap();
        assert_eq!(clock_of(&root).unwrap().boot_id, own.trim());
        assert_eq!(clock_of(&Root::open("/").unwrap()).unwrap().boot_id, clock().unwrap().boot_id);
    }
}

//! The one reader of clocks and of the boot id.

use std::time::Duration;

use agent_core::node::observed::Clock;
use jiff::Timestamp;
use nix::time::ClockId;

/// Reads wall clock, boot-time clock and boot id, at the top of a pass.
pub fn clock() -> std::io::Result<Clock> {
    #[expect(clippy::disallowed_methods, reason = "this is where the time is read once")]
    let wall = Timestamp::now();
    let boot = Duration::from(nix::time::clock_gettime(ClockId::CLOCK_BOOTTIME)?);
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    Ok(Clock { wall, boot, boot_id })
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
}

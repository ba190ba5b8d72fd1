use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use tempfile::TempDir;

use super::*;
use crate::host::command::Commands;

const BOOT: &str = "11111111-2222-3333-4444-555555555555";

/// A host in a directory; the shell is the real one, `systemctl` and `systemd-run` only write down their arguments.
struct Bed {
    temp: TempDir,
    guard: Guard,
}

impl Bed {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::open(temp.path()).unwrap();
        let guard = Guard::open(&root, Systemd::new(Commands::scripted(temp.path()), root.clone())).unwrap();
        let bed = Self { temp, guard };
        fs::create_dir_all(bed.path("etc/systemd/system")).unwrap();
        for name in ["systemctl", "systemd-run"] {
            let log = bed.path("called");
            bed.put(&format!("usr/bin/{name}"), &format!("#!/bin/sh\necho {name} \"$@\" >>{}\n", log.display()));
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(bed.path(&format!("usr/bin/{name}")), mode).unwrap();
        }
        bed.put("boot_id", &format!("{BOOT}\n"));
        bed.put("uptime", "100.25 7.0\n");
        bed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test plays the host")]
        fs::write(self.path(name), text).unwrap();
    }

    fn has(&self, name: &str) -> bool {
        self.path(&format!("var/lib/k3s-registry-agent/guard/{name}")).exists()
    }

    fn arm(&self, boot: &str, deadline: u64) {
        self.guard.put(ARMED, marker(boot, Duration::from_secs(deadline)).as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        let at = |name: &str| self.path(name).display().to_string();
        script::script(&Places {
            journal: at("var/lib/k3s-registry-agent"),
            etc: at("etc/rancher/k3s"),
            name: "registries.yaml".to_owned(),
            boot_id: at("boot_id"),
            uptime: at("uptime"),
        })
    }

    fn sh(&self, args: &[&str], text: &str) -> bool {
        self.put("script", text);
        #[expect(clippy::disallowed_methods, reason = "the script is tried with a real shell")]
        let mut command = std::process::Command::new("/bin/sh");
        command.args(args).arg(self.path("script")).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().success()
    }

    /// An unproven file over a proven one.
    fn changed(&self) {
        for (name, text) in [("registries.yaml", "new"), ("registry-tls/b/tls.key", "new"), ("registry-tls/c/x", "new")]
        {
            self.put(&format!("etc/rancher/k3s/{name}"), text);
        }
        self.put("etc/rancher/k3s/registry-tls/by-hand.pem", "theirs");
        self.put("var/lib/k3s-registry-agent/previous/registries.yaml", "old");
        self.put("var/lib/k3s-registry-agent/previous/registry-tls/b/tls.key", "old");
    }

    fn file(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(&format!("etc/rancher/k3s/{name}"))).ok()
    }

    fn is_put_back(&self) {
        assert_eq!(self.file("registries.yaml").as_deref(), Some("old"));
        assert_eq!(self.file("registry-tls/b/tls.key").as_deref(), Some("old"));
        let names = root::names(fs::File::open(self.path("etc/rancher/k3s")).unwrap().as_fd()).unwrap();
        assert_eq!(names, ["registries.yaml", "registry-tls"]);
        let names = root::names(fs::File::open(self.path("etc/rancher/k3s/registry-tls")).unwrap().as_fd()).unwrap();
        assert_eq!(names, ["b", "by-hand.pem"]);
        assert_eq!(self.file("registry-tls/by-hand.pem").as_deref(), Some("theirs"));
        assert!(self.has(FIRED) && !self.has(BY_GUARD) && !self.has(ARMED));
        let clock = clock();
        assert_eq!(self.guard.seen(&clock).unwrap(), GuardSeen::Fired);
    }
}

fn clock() -> Clock {
    Clock { wall: jiff::Timestamp::UNIX_EPOCH, boot: Duration::from_secs(100), boot_id: BOOT.to_owned() }
}

#[test]
fn before_its_deadline_and_without_a_marker_it_does_nothing() {
    let bed = Bed::new();
    bed.changed();
    assert!(bed.sh(&[], &bed.text()));
    bed.arm(BOOT, 101);
    assert!(bed.sh(&[], &bed.text()));
    assert_eq!(bed.file("registries.yaml").as_deref(), Some("new"));
    assert_eq!(bed.guard.seen(&clock()).unwrap(), GuardSeen::Armed { acts_at: Duration::from_secs(101) });
}

#[test]
fn at_its_deadline_after_a_reboot_and_by_a_torn_marker_it_puts_the_proven_tree_back() {
    for marker in [marker(BOOT, Duration::from_secs(100)), marker("other", Duration::from_secs(9999)), String::new()] {
        let bed = Bed::new();
        bed.changed();
        bed.guard.put(ARMED, marker.as_bytes()).unwrap();
        assert!(bed.sh(&[], &bed.text()));
        bed.is_put_back();
    }
}

#[test]
fn no_file_is_put_back_as_no_file() {
    let bed = Bed::new();
    bed.changed();
    fs::remove_dir_all(bed.path("var/lib/k3s-registry-agent/previous")).unwrap();
    bed.put("var/lib/k3s-registry-agent/previous/absent", "");
    bed.arm(BOOT, 0);
    assert!(bed.sh(&[], &bed.text()));
    let names = |name: &str| root::names(fs::File::open(bed.path(name)).unwrap().as_fd()).unwrap();
    assert_eq!(names("etc/rancher/k3s"), ["registry-tls"]);
    assert_eq!(names("etc/rancher/k3s/registry-tls"), ["by-hand.pem"], "an administrator's file stays");
    assert!(bed.has(FIRED));
    fs::remove_file(bed.path("etc/rancher/k3s/registry-tls/by-hand.pem")).unwrap();
    bed.put("etc/rancher/k3s/registry-tls/c/x", "new");
    bed.arm(BOOT, 0);
    assert!(bed.sh(&[], &bed.text()));
    assert_eq!(fs::read_dir(bed.path("etc/rancher/k3s")).unwrap().count(), 0, "none of ours does");
}

#[test]
fn what_is_no_directory_in_place_of_the_tls_files_is_in_nobodys_way() {
    for target in ["elsewhere", "nowhere"] {
        let bed = Bed::new();
        bed.changed();
        bed.put("elsewhere/x", "not ours");
        fs::remove_dir_all(bed.path("etc/rancher/k3s/registry-tls")).unwrap();
        std::os::unix::fs::symlink(bed.path(target), bed.path("etc/rancher/k3s/registry-tls")).unwrap();
        bed.arm(BOOT, 0);
        assert!(bed.sh(&[], &bed.text()));
        assert_eq!(bed.file("registries.yaml").as_deref(), Some("old"));
        assert_eq!(bed.file("registry-tls/b/tls.key").as_deref(), Some("old"));
        assert_eq!(fs::read_dir(bed.path("elsewhere")).unwrap().count(), 1, "nothing is written through a link");
    }
}

#[test]
fn without_a_kept_tree_nothing_is_touched() {
    let bed = Bed::new();
    bed.changed();
    fs::remove_dir_all(bed.path("var/lib/k3s-registry-agent/previous")).unwrap();
    bed.arm(BOOT, 0);
    assert!(!bed.sh(&[], &bed.text()));
    assert_eq!(bed.file("registries.yaml").as_deref(), Some("new"));
    assert!(!bed.has(FIRED));
}

#[test]
fn killed_before_any_line_it_ends_the_same_when_it_is_started_again() {
    let text = Bed::new().text();
    let mut tried = 0;
    for cut in 0..text.lines().count() {
        let bed = Bed::new();
        let mut lines: Vec<_> = bed.text().lines().map(str::to_owned).collect();
        lines.insert(cut, "kill -9 $$".to_owned());
        let killed = lines.join("\n") + "\n";
        assert!(bed.sh(&["-n"], &killed), "cannot be parsed when cut before line {cut}");
        bed.changed();
        bed.arm(BOOT, 0);
        tried += usize::from(!bed.sh(&[], &killed));
        let file = bed.file("registries.yaml");
        assert!(matches!(file.as_deref(), Some("old" | "new")), "line {cut}: {file:?}");
        bed.sh(&[], &bed.text());
        bed.is_put_back();
    }
    assert!(tried > 30, "only {tried} of the lines were reached");
}

#[test]
fn the_script_is_plain_posix_for_every_shell_that_is_here() {
    let bed = Bed::new();
    bed.put("script", &bed.text());
    for shell in ["/bin/sh", "/bin/bash", "/bin/dash"].into_iter().filter(|shell| std::path::Path::new(shell).exists())
    {
        #[expect(clippy::disallowed_methods, reason = "the script is tried with real shells")]
        let status = std::process::Command::new(shell).arg("-n").arg(bed.path("script")).status().unwrap();
        assert!(status.success(), "{shell}");
    }
}

#[test]
fn whoever_renames_the_marker_acts_and_a_claimed_one_is_not_made_anew() {
    let bed = Bed::new();
    bed.changed();
    bed.arm(BOOT, 500);
    assert!(bed.guard.push(Duration::from_millis(600_001)).unwrap());
    assert_eq!(bed.guard.seen(&clock()).unwrap(), GuardSeen::Armed { acts_at: Duration::from_secs(601) });
    assert!(bed.guard.claim().unwrap());
    assert!(!bed.guard.push(Duration::from_secs(700)).unwrap());
    bed.sh(&[], &bed.text());
    assert_eq!(bed.file("registries.yaml").as_deref(), Some("new"));
    bed.arm(BOOT, 0);
    bed.sh(&[], &bed.text());
    assert!(!bed.guard.claim().unwrap() && !bed.guard.push(Duration::from_secs(700)).unwrap());
    bed.is_put_back();
}

#[tokio::test]
async fn it_is_installed_once_and_k3s_never_pulls_it_in() {
    let bed = Bed::new();
    let unit = "etc/systemd/system/k3s-registry-agent-guard.service";
    bed.guard.install("/etc/rancher/k3s/registries.yaml", "k3s-agent.service").await.unwrap();
    let text = fs::read_to_string(bed.path(unit)).unwrap();
    assert!(
        text.contains("\nBefore=k3s-agent.service\n") && text.ends_with("\nWantedBy=multi-user.target\n"),
        "{text}"
    );
    assert!(!text.contains("Requires=") && !text.contains("\nWants="), "{text}");
    let called = || fs::read_to_string(bed.path("called")).unwrap_or_default();
    assert!(called().contains("daemon-reload") && called().contains("enable k3s-registry-agent-guard.service"));
    fs::create_dir_all(bed.path("etc/systemd/system/multi-user.target.wants")).unwrap();
    let link = bed.path("etc/systemd/system/multi-user.target.wants/k3s-registry-agent-guard.service");
    std::os::unix::fs::symlink("../k3s-registry-agent-guard.service", link).unwrap();
    fs::remove_file(bed.path("called")).unwrap();
    bed.guard.install("/etc/rancher/k3s/registries.yaml", "k3s-agent.service").await.unwrap();
    assert_eq!(called(), "");
    bed.guard.arm(&clock(), Duration::from_secs(300)).await.unwrap();
    assert!(called().contains("systemd-run --unit=k3s-registry-agent-guard-watch "), "{}", called());
    assert!(matches!(bed.guard.uninstall().await, Err(GuardError::Acting)));
    assert!(bed.guard.disarm().await.unwrap());
    assert_eq!(bed.guard.seen(&clock()).unwrap(), GuardSeen::Idle);
    bed.guard.uninstall().await.unwrap();
    assert!(!bed.path(unit).exists());
}

#[tokio::test]
async fn where_units_cannot_be_written_the_guard_is_armed_for_this_boot_only_and_that_is_said() {
    let bed = Bed::new();
    let units = bed.path("etc/systemd/system");
    #[expect(clippy::disallowed_methods, reason = "a test needs a read-only file system")]
    let run = |program: &str, args: &[&str]| std::process::Command::new(program).args(args).status().unwrap().success();
    assert!(run("/bin/mount", &["-t", "tmpfs", "-o", "ro", "tmpfs", units.to_str().unwrap()]));
    let installed = bed.guard.install("/etc/rancher/k3s/registries.yaml", "k3s.service").await;
    let clock =
        Clock { wall: "2026-01-01T00:00:00Z".parse().unwrap(), boot: Duration::from_secs(100), boot_id: BOOT.into() };
    let armed = bed.guard.arm(&clock, Duration::from_secs(400)).await;
    assert!(run("/bin/umount", &["-l", units.to_str().unwrap()]));
    let Installed::TransientOnly(why) = installed.unwrap() else { panic!("a unit was written") };
    assert!(why.contains("/etc/systemd/system is read-only") && why.contains("after a reboot"), "{why}");
    armed.unwrap();
    assert!(bed.has("armed"));
    let called = fs::read_to_string(bed.path("called")).unwrap();
    assert!(called.contains("systemd-run ") && !called.contains("enable"), "{called}");
    assert!(fs::read_dir(units).unwrap().next().is_none());
}

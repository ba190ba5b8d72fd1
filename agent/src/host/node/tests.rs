//! A host that is a directory.

use std::os::unix::fs::OpenOptionsExt;

use agent_core::node::discovery::{Hints, without_service};
use agent_core::node::observed::{GuardSeen, Installation, Service as ServiceSeen, Unsupported};
use agent_core::node::plan::Depth;
use agent_core::node::turn::{Turn, TurnSource};

use super::*;
use crate::execute::Hands;
use crate::host::clock::clock;

#[tokio::test]
async fn a_directory_is_observed_without_a_service() {
    let temp = tempfile::tempdir().unwrap();
    let host = Host::open(temp.path(), ServiceChoice::None).unwrap();
    let seen = host.observe(Depth::Full, &Hints::default(), &clock().unwrap()).await.unwrap().unwrap();
    assert_eq!((seen.service, seen.evidence, seen.guard), (ServiceSeen::None, None, GuardSeen::Idle));
    assert!(seen.disk.tree.is_absent() && seen.previous.is_none());
}

/// A host whose systemd has seen too many starts of k3s, and is asked to forget them by this.
async fn restarts(reset_failed: &str) -> (String, bool) {
    let temp = tempfile::tempdir().unwrap();
    let bin = temp.path().join("usr/bin");
    std::fs::create_dir_all(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\ncd {}\necho \"$1 $2 $3\" >>called\ncase $1 in\nreset-failed) {reset_failed};;\n\
         restart) [ -e forgotten ] && >started; exit 0;;\nesac\n",
        temp.path().display()
    );
    let mut file = std::fs::OpenOptions::new();
    let mut file = file.write(true).create(true).mode(0o755).open(bin.join("systemctl")).unwrap();
    std::io::Write::write_all(&mut file, script.as_bytes()).unwrap();
    drop(file);
    let mut host = Host::look(temp.path(), ServiceChoice::None).unwrap();
    let commands = Commands::scripted(temp.path());
    let backend = Backend::Systemd(Systemd::new(commands.clone(), host.root.clone()));
    host.service = Some(Serving { backend, commands, guard: None });
    let installation = Installation { unit: "k3s.service".to_owned(), ..without_service() };
    let found =
        Found { hints: Hints::default(), invocation: String::new(), installation: Ok(installation), is_stale: false };
    *host.found.lock().unwrap() = Some(found);
    host.restart(&Turn::local(TurnSource::Local).unwrap()).await.unwrap();
    let called = std::fs::read_to_string(temp.path().join("called")).unwrap();
    (called, temp.path().join("started").exists())
}

#[tokio::test]
async fn a_unit_that_was_started_too_often_is_restarted_all_the_same() {
    let called = "reset-failed k3s.service --no-pager\nrestart --no-block k3s.service\n";
    assert_eq!(restarts(">forgotten").await, (called.to_owned(), true));
    // One that does not forget is no reason to leave the restart out: it is usually not needed.
    assert_eq!(restarts("exit 1").await, (called.to_owned(), false));
}

#[tokio::test]
async fn what_is_done_in_the_pass_that_sees_a_new_start_is_done_where_it_looked() {
    let temp = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = temp.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = std::fs::OpenOptions::new();
        let mut file = file.write(true).create(true).truncate(true).mode(0o755).open(path).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    };
    let runs = |invocation: &str, place: &str| {
        let exec = format!(
            "{{ path=/usr/local/bin/k3s ; argv[]=/usr/local/bin/k3s agent --private-registry={place} ; ignore_errors=no }}"
        );
        put(
            "usr/bin/systemctl",
            &format!(
                "#!/bin/sh\necho Id=k3s-agent.service\necho ActiveState=active\necho InvocationID={invocation}\n\
                 echo 'ExecStart={exec}'\n"
            ),
        );
    };
    put("usr/bin/journalctl", "#!/bin/sh\n");
    let mut host = Host::open(temp.path(), ServiceChoice::None).unwrap();
    let commands = Commands::scripted(temp.path());
    let backend = Backend::Systemd(Systemd::new(commands.clone(), host.root.clone()));
    host.service = Some(Serving { backend, commands, guard: None });
    let tree = |text: &str| agent_core::tree::Tree {
        registries: Some(agent_core::secret::Secret::new(text.as_bytes().to_vec())),
        ..Default::default()
    };
    let lies = |path: &str| std::fs::read_to_string(temp.path().join(path)).ok();
    // What a process left that was killed there is found before the first pass.
    put("etc/rancher/own/.registries.0123456789abcdef", "left");
    runs("none", "/etc/rancher/own/registries.yaml");
    host.sweep(&host.lock().unwrap().unwrap()).await.unwrap();
    assert_eq!(lies("etc/rancher/own/.registries.0123456789abcdef"), None);
    assert_eq!(host.directory(), "/etc/rancher/own", "and this is what is watched");
    let (own, other) = ("etc/rancher/own/registries.yaml", "etc/rancher/other/registries.yaml");
    for (round, (invocation, place)) in [("one", own), ("two", other)].into_iter().enumerate() {
        runs(invocation, &format!("/{place}"));
        host.observe(Depth::Steady, &Hints::default(), &clock().unwrap()).await.unwrap().unwrap();
        host.replace(&tree(&round.to_string())).unwrap();
        assert_eq!(lies(own), Some(round.to_string()), "in the pass that sees {invocation}");
        assert_eq!(lies("etc/rancher/k3s/registries.yaml"), None, "nobody reads that one");
    }
    // What it was started with is found by the next pass.
    host.observe(Depth::Steady, &Hints::default(), &clock().unwrap()).await.unwrap().unwrap();
    host.replace(&tree("next")).unwrap();
    assert_eq!((lies(own), lies(other)), (Some("1".to_owned()), Some("next".to_owned())));
}

#[tokio::test]
async fn a_k3s_that_openrc_runs_is_found_and_refused_by_name() {
    let temp = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = temp.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = std::fs::OpenOptions::new();
        let mut file = file.write(true).create(true).mode(0o755).open(path).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    };
    put("sbin/rc-service", "#!/bin/sh\necho ' * status: started'\n");
    put("etc/rancher/k3s/own.yaml", "private-registry: /etc/rancher/own/registries.yaml\n");
    put("etc/rancher/k3s/k3s-one.env", "K3S_CONFIG_FILE='/etc/rancher/k3s/own.yaml'\n");
    put(
        "etc/init.d/k3s-one",
        "#!/sbin/openrc-run\ncommand=\"/usr/local/bin/k3s\"\ncommand_args=\"agent \\\n    >>/var/log/k3s-one.log 2>&1\"\n\
         if [ -f /etc/rancher/k3s/k3s-one.env ]; then . /etc/rancher/k3s/k3s-one.env; fi\n",
    );
    let mut host = Host::look(temp.path(), ServiceChoice::None).unwrap();
    let commands = Commands::scripted(temp.path());
    let backend = Backend::OpenRc(OpenRc::new(commands.clone(), host.root.clone()));
    host.service = Some(Serving { backend, commands, guard: None });
    let Unsupported(why) = host.installation(&Hints::default()).await.unwrap().unwrap_err();
    assert!(why.starts_with("OpenRC runs k3s-one (agent, reads /etc/rancher/own/registries.yaml)"), "{why}");
    put("etc/init.d/k3s-two", "command=/usr/local/bin/k3s\ncommand_args=server\n");
    let Unsupported(why) = host.installation(&Hints::default()).await.unwrap().unwrap_err();
    assert!(why.starts_with("k3s-one and k3s-two run k3s"), "{why}");
    std::fs::remove_dir_all(temp.path().join("etc/init.d")).unwrap();
    let Unsupported(why) = host.installation(&Hints::default()).await.unwrap().unwrap_err();
    assert!(why.contains("no enabled or running unit"), "{why}");
}

#[test]
fn a_directory_has_no_service_to_be_found() {
    let temp = tempfile::tempdir().unwrap();
    // Also where it looks like a host, as a backup or a mounted disk does.
    for place in ["sbin", "sbin/openrc-run"] {
        std::fs::create_dir_all(temp.path().join(place)).unwrap();
        for choice in [ServiceChoice::Auto, ServiceChoice::Systemd, ServiceChoice::OpenRc] {
            let error = Host::open(temp.path(), choice).unwrap_err().to_string();
            assert!(error.contains("is a directory and no host") && error.contains("--service none"), "{error}");
        }
    }
}

#[test]
fn looking_makes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let host = Host::look(temp.path(), ServiceChoice::None).unwrap();
    assert_eq!(host.record().unwrap(), JournalSeen::Missing);
    host.key().unwrap();
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

//! A disk that is full or cannot be written, at any point of a pass: it is named, and nothing is lost.

mod common;

use common::{Bed, EARLIER, LONG, Ran, config_map, finish, mirror, ran, secret, tool};
use serde_json::Value;

const PASSWORD: &str = "hunter2-of-the-cli";

/// Runs a script with mounts of its own, which vanish with it. Without the right to mount the test fails: what happens
/// on a full disk must not go untested unseen.
fn in_own_mounts(bed: &Bed, script: &str) -> Ran {
    let mut isolated = tool("unshare");
    if !nix::unistd::geteuid().is_root() {
        isolated.args(["--user", "--map-root-user"]);
    }
    let helpers = format!(
        "set -eu\nnode=$PWD/node\napply() {{ code=0; timeout 50 '{}' apply --inputs inputs --root node || code=$?; echo \"code=$code\"; }}\n",
        common::PROGRAM
    );
    isolated
        .args(["--mount", "--propagation", "private", "sh", "-c", &format!("{helpers}{script}")])
        .current_dir(bed.path());
    let ran = ran(finish(isolated.spawn().expect("unshare starts"), LONG + LONG));
    assert!(
        ran.code == 0,
        "full and read-only disks are made with mounts: run the tests as root, or where user namespaces are allowed\n{}",
        ran.all()
    );
    ran
}

#[test]
fn a_read_only_disk_is_named_and_nothing_is_lost() {
    let bed = Bed::with(&[
        ("a.yaml", &config_map(&mirror("docker.io", "https://m.example"))),
        (
            "s.yaml",
            &secret("s", "kubernetes.io/basic-auth", Some("m.example"), &[("username", "u"), ("password", PASSWORD)]),
        ),
    ]);
    bed.earlier(EARLIER, 0o644);
    let script = "mount --bind node/etc node/etc\nmount -o remount,bind,ro node/etc\napply\n";
    in_own_mounts(&bed, script)
        .says(
            0,
            &[
                "code=1",
                "/etc/rancher/k3s/registries.yaml",
                "Read-only file system",
                "mount it writable",
                "not touched",
            ],
        )
        .never_says(&[PASSWORD]);
    assert_eq!(bed.text(), EARLIER);
    assert_eq!(bed.record()["intent"], Value::Null);
    bed.apply().says(3, &[]);
    let script = "mount --bind node node\nmount -o remount,bind,ro node\napply\n";
    in_own_mounts(&bed, script).says(0, &["code=1", "/var/lib/k3s-registry-agent", "Read-only file system"]);
}

#[test]
fn a_full_disk_is_named_at_once_and_the_next_run_goes_on() {
    let bed = Bed::with(&[("a.yaml", &config_map(&mirror("docker.io", "https://m.example")))]);
    let script = "
        mkdir -p node/etc/rancher/k3s
        mount -t tmpfs -o size=8k tmpfs node/etc/rancher/k3s
        printf 'mirrors: {docker.io: {endpoint: [https://old.example]}}' >node/etc/rancher/k3s/registries.yaml
        head -c 4096 /dev/zero >node/etc/rancher/k3s/other
        apply
        cat node/etc/rancher/k3s/registries.yaml; echo
        ls -A node/etc/rancher/k3s
        rm node/etc/rancher/k3s/other
        apply
        ls -A node/etc/rancher/k3s
        cat node/etc/rancher/k3s/registries.yaml";
    let ran = in_own_mounts(&bed, script);
    let (full, freed) = ran.stdout.split_once("code=1\n").unwrap_or_else(|| panic!("{}", ran.all()));
    assert!(full.contains("No space left on device") && full.contains("free some space"), "{full}");
    assert!(full.contains("registries.yaml not touched"), "{full}");
    let expected = "mirrors: {docker.io: {endpoint: [https://old.example]}}\nother\nregistries.yaml\n";
    assert!(freed.starts_with(expected), "{freed}");
    let (_, end) = freed.split_once("code=3\nregistries.yaml\n").unwrap_or_else(|| panic!("{}", ran.all()));
    assert!(end.contains("https://m.example"), "{end}");
}

#[test]
fn a_disk_that_fills_up_at_any_point_of_a_pass_is_named_at_once_and_the_next_run_goes_on() {
    let bed = Bed::with(&[("a.yaml", &config_map(&mirror("docker.io", "https://m.example")))]);
    // Each file takes a page: every size stops the pass at another write.
    let script = "
        for size in 4 8 12 16 20 24 28 32 36 40; do
            mount -t tmpfs -o size=${size}k tmpfs node
            mkdir -p node/etc/rancher/k3s
            printf 'mirrors: {docker.io: {endpoint: [https://old.example]}}' >node/etc/rancher/k3s/registries.yaml
            chmod 644 node/etc/rancher/k3s/registries.yaml
            echo \"== $size\"
            apply
            mount -o remount,size=1m node
            echo '-- freed'
            apply
            grep -c m.example node/etc/rancher/k3s/registries.yaml
            cat node/var/lib/k3s-registry-agent/original/registries.yaml; echo
            find node -name '.registries.*'
            umount node
        done";
    let ran = in_own_mounts(&bed, script);
    let sizes: Vec<&str> = ran.stdout.split("== ").skip(1).collect();
    assert_eq!(sizes.len(), 10);
    let mut faults = 0;
    for text in sizes {
        let (full, freed) = text.split_once("-- freed\n").unwrap();
        let is_fault = full.contains("code=1\n");
        faults += u32::from(is_fault);
        assert!(is_fault || full.contains("code=3\n"), "{}", ran.all());
        let end = "1\nmirrors: {docker.io: {endpoint: [https://old.example]}}\n";
        assert!(freed.ends_with(&format!("code=3\n{end}")) || freed.ends_with(&format!("code=0\n{end}")), "{text}");
    }
    assert!(
        faults >= 4 && ran.stderr.matches("No space left").count() + ran.stdout.matches("No space left").count() >= 4,
        "{}",
        ran.all()
    );
}

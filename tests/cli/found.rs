//! What a command finds in its way: a file that was there before, another process, a journal it cannot use.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, symlink};

use crate::common::{
    self, Bed, EARLIER, LONG, command, config_map, config_map_with_policy, finish, mirror, put, ran, secret,
};
use crate::{PASSWORD, change, migration};

#[test]
fn an_earlier_file_is_kept_and_restore_gives_it_back_byte_for_byte_with_its_mode() {
    let inputs = format!(
        "{}{}",
        mirror("docker.io", "https://m.example"),
        "configs:\n  m.example:\n    tls: {insecure_skip_verify: true}\n"
    );
    let login = secret(
        "m",
        "kubernetes.io/basic-auth",
        Some("m.example"),
        &[("username", "carol"), ("password", "a newer one")],
    );
    let bed = Bed::with(&[("a.yaml", &config_map(&inputs)), ("s.yaml", &login)]);
    bed.earlier(EARLIER, 0o644);
    bed.apply().says(3, &["change     ~ configs.\"m.example\".auth.password", "written, mode 0600"]);
    assert_eq!(fs::read_to_string(bed.journal("original/registries.yaml")).unwrap(), EARLIER);
    // Another revision on top: what is kept is still what lay there before us.
    bed.input("a.yaml", &config_map(&mirror("docker.io", "https://m.example")));
    bed.apply().says(3, &[]);
    bed.restore()
        .says(3, &["registries.yaml written, mode 0644", "restart    needed, not done"])
        .never_says(&[PASSWORD]);
    assert_eq!((bed.text().as_str(), fs::metadata(bed.file()).unwrap().mode() & 0o7777), (EARLIER, 0o644));
    bed.restore().says(0, &["not touched"]);
    assert_eq!(bed.text(), EARLIER);
}

#[test]
fn where_nothing_lay_restore_leaves_nothing() {
    let bed = migration();
    bed.restore().says(0, &["nothing to put back", "not touched"]);
    bed.apply().says(3, &[]);
    bed.restore().says(3, &["registries.yaml removed"]);
    assert!(!bed.file().exists());
}

#[test]
fn what_is_imported_and_applied_changes_nothing() {
    let bed = Bed::new();
    bed.earlier(EARLIER, 0o644);
    bed.run(&["import", "node/etc/rancher/k3s/registries.yaml"])
        .says(0, &["kind: ConfigMap", "--output DIR"])
        .never_says(&[PASSWORD]);
    bed.run(&["import", "node/etc/rancher/k3s/registries.yaml", "--output", "inputs"])
        .says(0, &[])
        .never_says(&[PASSWORD]);
    assert_eq!(fs::metadata(bed.inputs().join("secret.yaml")).unwrap().mode() & 0o7777, 0o600);
    bed.diff().says(0, &["effect     none", "none in meaning; its bytes would be rewritten"]);
    bed.apply().says(0, &["effect     none", "restart    not needed", "written, mode 0600"]);
    bed.restore().says(0, &["effect     none"]);
    assert_eq!((bed.text().as_str(), fs::metadata(bed.file()).unwrap().mode() & 0o7777), (EARLIER, 0o644));
}

/// k3s takes such a file, so that it may lie on a node; whoever imports it is told at once, and not when it is applied.
#[test]
fn an_import_that_apply_would_refuse_says_so_and_why() {
    let bed = Bed::new();
    let url = format!("https://u:{PASSWORD}@m.example");
    for (text, rule) in [
        (format!("mirrors:\n  docker.io:\n    endpoint: [\"{url}\"]\n"), "[endpoint-credential] line 3, column 16"),
        ("mirrors:\n  configs: {}\n".to_owned(), "[section-under-mirrors] line 2, column 3"),
        ("mirrors:\n  https://m.example/: {}\n".to_owned(), "[key-with-slash] line 2, column 3"),
    ] {
        bed.earlier(&text, 0o600);
        bed.run(&["import", "node/etc/rancher/k3s/registries.yaml", "--output", "inputs"])
            .says(0, &["# note     apply refuses this until it is mended: ", rule, "written"])
            .never_says(&[PASSWORD]);
        bed.apply().says(2, &["refused"]).never_says(&[PASSWORD]);
        fs::remove_file(bed.inputs().join("secret.yaml")).ok();
    }
    bed.earlier(EARLIER, 0o600);
    let ran = bed.run(&["import", "node/etc/rancher/k3s/registries.yaml"]);
    ran.says(0, &["kind: ConfigMap"]).never_says(&["refuses"]);
}

#[test]
fn a_foreign_file_is_not_thrown_away_until_the_policy_says_so() {
    let bed = Bed::with(&[("a.yaml", &config_map(&mirror("a.example", "https://b.example")))]);
    bed.earlier(EARLIER, 0o640);
    let ran = bed.apply();
    ran.says(2, &["phase      Invalid: ", "docker.io", "m.example", "import", "adopt: replace", "not touched"])
        .never_says(&[PASSWORD]);
    // What would be refused is refused by those that only look, too, and no comparison is claimed.
    let plan = bed.run(&["plan", "--inputs", "inputs", "--root", "node"]);
    for ran in [bed.diff(), plan] {
        ran.says(2, &["would write nothing: ", "docker.io", "adopt: replace"]).never_says(&["change     none"]);
    }
    assert_eq!((bed.text().as_str(), fs::metadata(bed.file()).unwrap().mode() & 0o7777), (EARLIER, 0o640));
    bed.input(
        "a.yaml",
        &config_map_with_policy(&mirror("a.example", "https://b.example"), "version: 1\nadopt: replace\n"),
    );
    bed.apply().says(3, &["change     - mirrors.\"docker.io\".endpoint"]).never_says(&[PASSWORD]);
    assert!(!bed.text().contains("carol"));
    bed.restore().says(3, &[]);
    assert_eq!((bed.text().as_str(), fs::metadata(bed.file()).unwrap().mode() & 0o7777), (EARLIER, 0o640));
}

#[test]
fn a_file_that_k3s_could_not_read_is_left_until_somebody_decides() {
    let bed = Bed::with(&[("a.yaml", &config_map(&mirror("a.example", "https://b.example")))]);
    let broken = format!("configs:\n  a: [{PASSWORD}\n");
    bed.earlier(&broken, 0o600);
    bed.apply()
        .says(2, &["k3s cannot read the file that lies here", "line ", "mend it", "adopt: replace"])
        .never_says(&[PASSWORD]);
    assert_eq!(bed.text(), broken);
    bed.input(
        "a.yaml",
        &config_map_with_policy(&mirror("a.example", "https://b.example"), "version: 1\nadopt: replace\n"),
    );
    bed.apply().says(3, &[]).never_says(&[PASSWORD]);
    // It could not be read, so it is not put back either; it is kept.
    bed.restore().says(2, &["k3s could not read the file from before us"]).never_says(&[PASSWORD]);
    assert_eq!(fs::read_to_string(bed.journal("original/registries.yaml")).unwrap(), broken);
}

#[test]
fn something_else_in_place_of_the_file_is_named_and_left() {
    let bed = Bed::with(&[("a.yaml", &config_map(&mirror("a.example", "https://b.example")))]);
    fs::create_dir_all(bed.file()).unwrap();
    bed.apply().says(2, &["/etc/rancher/k3s/registries.yaml is a directory", "move it away", "not touched"]);
    assert!(bed.file().is_dir());
    fs::remove_dir(bed.file()).unwrap();
    let elsewhere = bed.path().join("elsewhere.yaml");
    put(&elsewhere, EARLIER.as_bytes(), 0o644);
    symlink(&elsewhere, bed.file()).unwrap();
    bed.apply()
        .says(2, &["/etc/rancher/k3s/registries.yaml is a symbolic link", "move it away", "not touched"])
        .never_says(&[PASSWORD]);
    assert_eq!(fs::read_link(bed.file()).unwrap(), elsewhere);
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), EARLIER);
    fs::remove_file(bed.file()).unwrap();
    bed.apply().says(3, &[]);
}

#[test]
fn a_second_process_waits_and_says_who_works_here() {
    let bed = Bed::with(&[("a.yaml", &config_map(&mirror("a.example", "https://b.example")))]);
    let agent = ["agent", "--inputs", "inputs", "--root", "node", "--listen", "off"];
    let mut first = command(&agent).current_dir(bed.path()).spawn().unwrap();
    common::until(LONG, || bed.file().exists().then_some(())).expect("the agent works");
    let apply = ["apply", "--inputs", "inputs", "--root", "node"];
    let mut second = command(&apply).current_dir(bed.path()).spawn().unwrap();
    let mut said = String::new();
    let mut stderr = BufReader::new(second.stderr.take().unwrap());
    stderr.read_line(&mut said).unwrap();
    assert!(said.contains(&format!("process {} (", first.id())) && said.contains("waiting until it ends"), "{said}");
    assert!(second.try_wait().unwrap().is_none(), "it waits");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(first.id()).unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(common::wait(&mut first, LONG).and_then(|status| status.code()), Some(0));
    ran(finish(second, LONG)).says(0, &["effect     none"]);
}

#[test]
fn a_journal_of_a_newer_version_is_refused_and_not_overwritten() {
    let bed = migration();
    bed.apply().says(3, &[]);
    let newer = "{\"schema\": 99, \"applied\": [1]}";
    put(&bed.journal("record.json"), newer.as_bytes(), 0o600);
    change(&bed, "credentials.yaml", "PLACEHOLDER-TOKEN", "ANOTHER-TOKEN");
    let before = bed.text();
    for ran in [bed.apply(), bed.restore()] {
        ran.says(
            2,
            &["the journal has schema 99, this version knows 1", "install the newer version again", "not touched"],
        );
    }
    assert_eq!((bed.text(), fs::read_to_string(bed.journal("record.json")).unwrap().as_str()), (before, newer));
}

#[test]
fn a_damaged_record_is_named_with_the_way_out() {
    let bed = migration();
    bed.earlier("configs:\n  registry.bto.bar:\n    tls: {insecure_skip_verify: true}\n", 0o644);
    bed.apply().says(3, &[]);
    let before = bed.text();
    for damaged in ["", "{\"schema\": 1,", "not-json"] {
        put(&bed.journal("record.json"), damaged.as_bytes(), 0o600);
        for ran in [bed.apply(), bed.restore()] {
            ran.says(2, &["/var/lib/k3s-registry-agent/record.json", "line ", "move it away", "not touched"]);
        }
        assert_eq!(
            (bed.text(), fs::read_to_string(bed.journal("record.json")).unwrap().as_str()),
            (before.clone(), damaged)
        );
    }
    // The way out leads out, and what lay here before us is still kept.
    fs::remove_file(bed.journal("record.json")).unwrap();
    bed.apply().says(0, &["effect     none"]);
    bed.restore().says(3, &["mode 0644"]);
}

#[test]
fn another_writer_is_given_way_to_until_somebody_retries() {
    let bed = migration();
    bed.apply().says(3, &[]);
    let ours = bed.text();
    for _ in 0..3 {
        bed.earlier("mirrors: {}\n", 0o600);
        bed.apply().says(3, &["effect     restart (", "change     + configs.", "restart    needed, not done"]);
        assert_eq!(bed.text(), ours);
    }
    bed.earlier("mirrors: {}\n", 0o600);
    bed.apply().says(2, &["phase      Invalid: ", "3 restores within an hour", "apply --retry", "not touched"]);
    bed.run(&["apply", "--inputs", "inputs", "--root", "node", "--retry"]).says(3, &["written, mode 0600"]);
    assert_eq!(bed.text(), ours);
}

#[test]
fn a_rotated_ca_is_told_as_the_content_of_a_file() {
    let bed = Bed::with(&[("a.yaml", &config_map(&mirror("a.example", "https://m.example")))]);
    let ca = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        secret("ca", "Opaque", Some("m.example"), &[("ca.crt", &params.self_signed(&key).unwrap().pem())])
    };
    bed.input("ca.yaml", &ca("one"));
    bed.apply().says(3, &[]);
    bed.input("ca.yaml", &ca("two"));
    bed.diff().says(0, &["change     the content of TLS files alone", "effect     files ("]);
    bed.apply().says(0, &["effect     files (", "restart    not needed"]);
    bed.diff().says(0, &["change     none\n"]);
}

/// A disk that is full is found in many places: which one it is here is said.
#[test]
fn a_result_that_cannot_be_shown_is_a_fault_that_names_the_output() {
    let bed = Bed::with(&[("a.yaml", &config_map(&mirror("a.example", "https://m.example")))]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let arguments = ["apply", "--inputs", "inputs", "--root", "node"];
    let apply = command(&arguments).current_dir(bed.path()).stdout(full).spawn().unwrap();
    ran(finish(apply, LONG))
        .says(1, &["error: cannot write the result to the standard output", "No space left on device"]);
    assert!(bed.text().contains("m.example"));
}

#[test]
fn a_node_that_cannot_be_looked_at_has_a_phase_with_a_reason() {
    let bed = Bed::with(&[("a.yaml", &config_map(&mirror("a.example", "https://m.example")))]);
    put(&bed.root().join("etc/rancher/k3s"), b"", 0o644);
    bed.apply()
        .says(1, &["phase      Pending: the node could not be looked at\n", "/etc/rancher/k3s: Not a directory"]);
}

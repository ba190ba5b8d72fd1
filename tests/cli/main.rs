//! The commands as a person runs them, on a directory that stands for a node: what they say, how they end, what they
//! leave behind.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use common::{
    Bed, EARLIER, JOURNAL, LONG, command, config_map, config_map_with_policy, finish, mirror, put, ran, secret,
    snapshot,
};
use serde_json::Value;

const PASSWORD: &str = "hunter2-of-the-cli";

/// A bed with the first example in it.
fn migration() -> Bed {
    let bed = Bed::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ghcr-migration");
    for name in ["registries.yaml", "credentials.yaml"] {
        bed.input(name, &fs::read_to_string(example.join(name)).unwrap());
    }
    bed
}

fn change(bed: &Bed, name: &str, from: &str, to: &str) {
    let text = fs::read_to_string(bed.inputs().join(name)).unwrap();
    assert!(text.contains(from));
    bed.input(name, &text.replacen(from, to, 1));
}

#[test]
fn the_first_example_is_written_closed_and_its_restart_is_left_and_said() {
    let bed = migration();
    bed.apply()
        .says(
            3,
            &[
                "change     + configs.\"registry.bto.bar\".auth.password\n",
                "change     + configs.\"registry.bto.bar\".auth.username\n",
                "change     + configs.\"gitea.k3s.bto.bar\".tls.insecure_skip_verify: true\n",
                "effect     restart (",
                "node/etc/rancher/k3s/registries.yaml written, mode 0600\n",
                "evidence   files only\n",
                "restart    needed, not done\n",
                "phase      Current: ",
            ],
        )
        .never_says(&["PLACEHOLDER-TOKEN", "registry-user"]);
    assert_eq!(fs::metadata(bed.file()).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(bed.text().matches("password: \"PLACEHOLDER-TOKEN\"").count(), 3);
}

#[test]
fn a_second_run_finds_nothing_to_do() {
    let bed = migration();
    bed.apply().says(3, &[]);
    let before = snapshot(&bed.root());
    bed.apply()
        .says(0, &["effect     none", "registries.yaml not touched", "restart    not needed"])
        .never_says(&["change "]);
    let after = snapshot(&bed.root());
    // The lock names the process that has it.
    let differs: Vec<_> =
        after.iter().filter(|(name, seen)| before.get(*name) != Some(seen)).map(|(name, _)| name).collect();
    assert_eq!(differs, [&format!("{JOURNAL}/lock")]);
}

#[test]
fn a_changed_comment_costs_nothing() {
    let bed = migration();
    bed.apply().says(3, &[]);
    change(&bed, "registries.yaml", "# The older name", "# The oldest name");
    bed.apply().says(0, &["effect     none", "registries.yaml not touched"]);
    bed.diff().says(0, &["change     none", "would write nothing"]);
}

#[test]
fn a_mirror_alone_is_live_and_a_password_is_a_restart() {
    let bed = migration();
    bed.apply().says(3, &[]);
    change(
        &bed,
        "registries.yaml",
        "    configs:\n",
        "    mirrors:\n      ghcr.io:\n        endpoint: [\"https://registry.bto.bar\"]\n    configs:\n",
    );
    let before = snapshot(&bed.root());
    bed.diff().says(
        0,
        &[
            "change     + mirrors.\"ghcr.io\".endpoint: [\"https://registry.bto.bar\"]",
            "effect     live (",
            "would write the file",
        ],
    );
    assert_eq!(snapshot(&bed.root()), before, "diff writes nothing");
    bed.apply().says(3, &["effect     live (", "restart    needed, not done"]);
    change(&bed, "credentials.yaml", "PLACEHOLDER-TOKEN", "ANOTHER-TOKEN");
    bed.apply()
        .says(3, &["effect     restart (", ".auth.password"])
        .never_says(&["ANOTHER-TOKEN", "PLACEHOLDER-TOKEN"]);
}

#[test]
fn programs_get_the_same_as_json() {
    let bed = migration();
    let (code, said) = bed.apply_json();
    assert_eq!(code, 3);
    let fields = ["phase", "effect", "evidence", "restart", "wrote", "fault"].map(|field| said[field].clone());
    let wanted = [
        Value::from("Current"),
        "restart".into(),
        "files only".into(),
        "needed, not done".into(),
        true.into(),
        Value::Null,
    ];
    assert_eq!(fields, wanted);
    assert_eq!(said["changes"].as_array().unwrap().len(), 9);
    let refused = Bed::with(&[("a.yaml", &config_map("mirror: {}\n"))]).apply_json();
    assert_eq!((refused.0, &refused.1["phase"], &refused.1["wrote"]), (2, &"Invalid".into(), &false.into()));
    assert!(refused.1["refused"][0].as_str().unwrap().contains("line 1, column 1"), "{}", refused.1);
}

#[test]
fn a_plain_file_is_judged_as_k3s_reads_it() {
    let bed = Bed::new();
    bed.earlier("mirrors:\n  docker.io:\n    endpoints: [\"https://m.example\"]\n", 0o644);
    bed.run(&["lint", "node/etc/rancher/k3s/registries.yaml"])
        .says(0, &["line 3, column 5", "endpoints", "write `endpoint`", "0 errors, "]);
    bed.earlier("mirrors:\n  \"..\":\n    endpoint: [\"https://m.example\"]\n", 0o644);
    let ran = bed.run(&["lint", "node/etc/rancher/k3s/registries.yaml", "--output", "json"]);
    assert_eq!(ran.code, 2);
    let said: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&said["findings"][0]["severity"], &said["findings"][0]["line"]), (&"error".into(), &2.into()));
    bed.earlier("mirrors: [\n", 0o644);
    bed.run(&["lint", "node/etc/rancher/k3s/registries.yaml"]).says(2, &["line 2"]);
    bed.run(&["lint", "nowhere"]).says(1, &["cannot read nowhere"]);
}

/// Inputs that are refused, and what is said about them.
struct Bad {
    what: &'static str,
    inputs: Vec<(&'static str, String)>,
    says: &'static [&'static str],
}

fn bad_inputs() -> Vec<Bad> {
    let fine = || ("registries.yaml", config_map(&mirror("a.example", "https://b.example")));
    let basic = |name: &str, password: &str| {
        secret(name, "kubernetes.io/basic-auth", Some("r.example"), &[("username", "u"), ("password", password)])
    };
    let with_policy = |policy: &str| config_map_with_policy(&mirror("a.example", "https://b.example"), policy);
    vec![
        Bad {
            what: "an unknown key",
            inputs: vec![("a.yaml", config_map("mirrors:\n  a.example:\n    endpoints: [\"https://b.example\"]\n"))],
            says: &[
                "ConfigMap k3s-registry-agent/registries, key `registries.yaml`",
                "line 3, column 5",
                "mirrors.\"a.example\".endpoints",
                "did you mean \"endpoint\"?",
            ],
        },
        Bad {
            what: "a doubled key",
            inputs: vec![(
                "a.yaml",
                config_map(
                    "mirrors:\n  a.example: {endpoint: [\"https://b.example\"]}\n  a.example: {endpoint: [\"https://c.example\"]}\n",
                ),
            )],
            says: &[
                "ConfigMap k3s-registry-agent/registries, key `registries.yaml`",
                "line 3, column 3",
                "mirrors.\"a.example\"",
                "stands twice",
                "keep one",
            ],
        },
        Bad {
            what: "a credential in the ConfigMap",
            inputs: vec![(
                "a.yaml",
                config_map(&format!(
                    "configs:\n  r.example:\n    auth:\n      username: u\n      password: {PASSWORD}\n"
                )),
            )],
            says: &[
                "ConfigMap k3s-registry-agent/registries, key `registries.yaml`, line 5, column 7",
                "configs.\"r.example\".auth.password",
                "create secret docker-registry",
            ],
        },
        Bad {
            what: "a Secret of a type that gives nothing",
            inputs: vec![
                fine(),
                ("s.yaml", secret("s", "kubernetes.io/ssh-auth", Some("r.example"), &[("ssh-privatekey", PASSWORD)])),
            ],
            says: &["Secret k3s-registry-agent/s", "type kubernetes.io/ssh-auth", "kubernetes.io/basic-auth"],
        },
        Bad {
            what: "user name and password in an Opaque Secret",
            inputs: vec![
                fine(),
                ("s.yaml", secret("s", "Opaque", Some("r.example"), &[("username", "u"), ("password", PASSWORD)])),
            ],
            says: &["Secret k3s-registry-agent/s", "type kubernetes.io/basic-auth"],
        },
        Bad {
            what: "a Docker credential file in an Opaque Secret",
            inputs: vec![fine(), ("s.yaml", secret("s", "Opaque", None, &[(".dockerconfigjson", "{\"auths\":{}}")]))],
            says: &["Secret k3s-registry-agent/s", "of type Opaque and not kubernetes.io/dockerconfigjson"],
        },
        Bad {
            what: "a Docker credential file that is no JSON",
            inputs: vec![
                fine(),
                (
                    "s.yaml",
                    secret(
                        "s",
                        "kubernetes.io/dockerconfigjson",
                        None,
                        &[(
                            ".dockerconfigjson",
                            &format!("{{\"auths\": {{\"r.example\": {{\"auth\": \"{PASSWORD}\"}}}}"),
                        )],
                    ),
                ),
            ],
            says: &[
                "Secret k3s-registry-agent/s, key `.dockerconfigjson`",
                "line 1, column ",
                "kubectl create secret docker-registry",
            ],
        },
        Bad {
            what: "a token that is no user name and password",
            inputs: vec![
                fine(),
                (
                    "s.yaml",
                    secret(
                        "s",
                        "kubernetes.io/dockerconfigjson",
                        None,
                        &[(
                            ".dockerconfigjson",
                            &format!("{{\"auths\": {{\"r.example\": {{\"auth\": \"{PASSWORD}\"}}}}}}"),
                        )],
                    ),
                ),
            ],
            says: &["Secret k3s-registry-agent/s, key `.dockerconfigjson`", "`r.example`", "base64 of `user:password`"],
        },
        Bad {
            what: "a Secret that the policy names and that is not there",
            inputs: vec![("a.yaml", with_policy("version: 1\nsecrets: [{namespace: team, name: pull}]\n"))],
            says: &["Secret team/pull", "policy", "make it"],
        },
        Bad {
            what: "two Secrets that give one host different passwords",
            inputs: vec![
                fine(),
                ("one.yaml", basic("one", PASSWORD)),
                ("two.yaml", basic("two", "other-hunter2-of-the-cli")),
            ],
            says: &[
                "Secret k3s-registry-agent/one, key `password`",
                "Secret k3s-registry-agent/two, key `password`",
                "configs.\"r.example\".auth",
                "k3s-registry-agent/ignore",
            ],
        },
        Bad {
            what: "no ConfigMap",
            inputs: vec![("one.yaml", basic("one", PASSWORD))],
            says: &["no ConfigMap \"registries\" with a key \"registries.yaml\""],
        },
        Bad {
            what: "an invalid policy",
            inputs: vec![("a.yaml", with_policy("version: 1\nordr: canary\n"))],
            says: &[
                "ConfigMap k3s-registry-agent/registries, key `policy.yaml`, line 2, column 1",
                "ordr",
                "did you mean `order`?",
            ],
        },
        Bad {
            what: "a manifest that is no YAML",
            inputs: vec![
                fine(),
                ("s.yaml", format!("apiVersion: v1\nkind: Secret\nstringData: {{password: {PASSWORD}\n")),
            ],
            says: &["s.yaml, line ", "column ", "not valid YAML"],
        },
        Bad {
            what: "a folder name that would make k3s delete directories",
            inputs: vec![("a.yaml", config_map(&mirror("..", "https://b.example")))],
            says: &["line 2, column 3", "mirrors.\"..\""],
        },
    ]
}

#[test]
fn bad_inputs_are_refused_by_object_key_and_line_with_the_remedy_and_without_a_value() {
    for Bad { what, inputs, says } in bad_inputs() {
        let inputs: Vec<_> = inputs.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let bed = Bed::with(&inputs);
        bed.earlier("mirrors: {}\n", 0o644);
        for ran in [
            bed.apply(),
            bed.diff(),
            bed.run(&["lint", "--inputs", "inputs"]),
            bed.run(&["render", "--inputs", "inputs"]),
        ] {
            assert_eq!(ran.code, 2, "{what}: {}", ran.all());
            ran.says(2, says).never_says(&[PASSWORD]);
        }
        assert_eq!(
            (bed.text().as_str(), fs::metadata(bed.file()).unwrap().mode() & 0o7777),
            ("mirrors: {}\n", 0o644),
            "{what}"
        );
    }
}

#[test]
fn inputs_that_are_no_directory_are_a_fault() {
    Bed::new()
        .run(&["apply", "--inputs", "nowhere", "--root", "node"])
        .says(1, &["error: cannot read the inputs in nowhere"]);
}

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

#[test]
fn a_foreign_file_is_not_thrown_away_until_the_policy_says_so() {
    let bed = Bed::with(&[("a.yaml", &config_map(&mirror("a.example", "https://b.example")))]);
    bed.earlier(EARLIER, 0o640);
    let ran = bed.apply();
    ran.says(2, &["phase      Invalid: ", "docker.io", "m.example", "import", "adopt: replace", "not touched"])
        .never_says(&[PASSWORD]);
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
fn lint_names_a_certificate_that_ends() {
    let bed = Bed::new();
    bed.input("1.yaml", &config_map("configs: {r.example.com: {tls: {insecure_skip_verify: false}}}"));
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let ended = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    bed.input("2.yaml", &secret("ca", "Opaque", Some("r.example.com"), &[("ca.crt", &ended)]));
    bed.run(&["lint", "--inputs", "inputs"]).says(0, &["certificate-expired", "r.example.com ended at 2020-01-01"]);
}

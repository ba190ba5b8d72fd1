//! The commands as a person runs them, on a directory that stands for a node: what they say, how they end, what they
//! leave behind.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod bad_inputs;
#[path = "../common/mod.rs"]
mod common;
mod explain;
mod found;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Value, json};

use common::{Bed, JOURNAL, config_map, secret, snapshot};

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
fn a_plan_says_what_would_be_done_and_does_nothing() {
    let bed = migration();
    let before = snapshot(&bed.root());
    let plan = |bed: &Bed, output: &str| bed.run(&["plan", "--inputs", "inputs", "--root", "node", "--output", output]);
    plan(&bed, "text")
        .says(
            0,
            &[
                "change     + configs.\"registry.bto.bar\".auth.password\n",
                "would write the file",
                "steps      keep-original, keep-previous, record, replace\n",
                "restart    needed, and nobody does it (--service none)\n",
                "duration   no restart",
            ],
        )
        .never_says(&["PLACEHOLDER-TOKEN", "registry-user"]);
    assert_eq!(snapshot(&bed.root()), before, "plan writes nothing");
    bed.apply().says(3, &[]);
    plan(&bed, "text").says(0, &["change     none", "steps      none\n", "restart    none\n"]);
    let said: Value = serde_json::from_str(&plan(&bed, "json").stdout).unwrap();
    assert_eq!((&said["steps"], &said["restart"], &said["effect"]), (&json!([]), &json!(false), &json!("none")));
    change(&bed, "registries.yaml", "configs:", "config:");
    plan(&bed, "text").says(2, &["refused", "did you mean"]);
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

/// Where `--output` names a place as well: whoever asks for JSON there gets it, and no file with credentials.
#[test]
fn json_that_is_asked_of_render_and_import_is_shown_and_makes_no_file() {
    let bed = migration();
    bed.apply().says(3, &[]);
    let file = format!("node/{}", common::FILE);
    let before = snapshot(bed.path());
    let json = |arguments: &[&str], code: i32| -> Value {
        let ran = bed.run(arguments);
        ran.says(code, &[]).never_says(&["PLACEHOLDER-TOKEN"]);
        serde_json::from_str(&ran.stdout).unwrap()
    };
    let said = json(&["render", "--inputs", "inputs", "--output", "json"], 0);
    assert!(said["registries"].as_str().unwrap().contains("registry.bto.bar"), "{said}");
    let said = json(&["import", &file, "--output", "json"], 0);
    assert_eq!(said["hasSecret"], true);
    bed.run(&["render", "--inputs", "inputs", "--output", "text"]).says(0, &["password: <redacted>"]);
    assert_eq!(snapshot(bed.path()), before);
    change(&bed, "registries.yaml", "configs:", "config:");
    let said = json(&["render", "--inputs", "inputs", "--output", "json"], 2);
    assert!(said["refused"][0].as_str().unwrap().contains("did you mean"), "{said}");
    change(&bed, "registries.yaml", "config:", "configs:");
    bed.run(&["render", "--inputs", "inputs", "--output", "./json"]).says(0, &["written    ./json"]);
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

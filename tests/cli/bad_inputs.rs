//! Inputs that are refused: by which words, and with nothing changed.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::PASSWORD;
use crate::common::{Bed, config_map, config_map_with_policy, mirror, secret};

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
            says: &[
                "no ConfigMap \"registries\" with a key \"registries.yaml\" in the namespace k3s-registry-agent",
                "\"import\"",
            ],
        },
        Bad {
            what: "a ConfigMap in another namespace",
            inputs: vec![("a.yaml", fine().1.replace("namespace: k3s-registry-agent", "namespace: default"))],
            says: &["no ConfigMap \"registries\"", "ConfigMap default/registries is in another; move it"],
        },
        Bad {
            what: "a ConfigMap with another key",
            inputs: vec![("a.yaml", fine().1.replace("registries.yaml:", "registries.yml:"))],
            says: &["with a key \"registries.yaml\"", "has other keys"],
        },
        Bad {
            what: "a plain file in place of a manifest",
            inputs: vec![("registries.yaml", mirror("a.example", "https://b.example"))],
            says: &["registries.yaml, line 1: apiVersion or kind is missing", "\"import\""],
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
            what: "a ConfigMap that is no YAML",
            inputs: vec![("a.yaml", config_map("mirrors:\n  *:\n    endpoint: [\"https://b.example\"]\n"))],
            says: &[
                "ConfigMap k3s-registry-agent/registries, key `registries.yaml`: line 2, column 4",
                "write the wildcard as `\"*\"`, in quotes",
            ],
        },
        Bad {
            what: "such a name in a part of the file that a Secret gives",
            inputs: vec![
                fine(),
                ("s.yaml", secret("part", "Opaque", None, &[("registries.yaml", &mirror("..", "https://b.example"))])),
            ],
            says: &["error [key-deletes-directories] mirrors.\"..\": from Secret k3s-registry-agent/part: k3s makes"],
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

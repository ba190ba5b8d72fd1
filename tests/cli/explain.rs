//! `explain`: what it says of an image, from manifests and from a plain file.

use std::path::Path;

use serde_json::Value;

use crate::common::{Bed, Ran, config_map, mirror};
use crate::{PASSWORD, migration};

/// The second example, in which names are kept and rewritten.
fn explained(arguments: &[&str]) -> Ran {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/other/ghcr-names-kept");
    let inputs = example.to_str().unwrap();
    Bed::new().run(&[&["explain", "--inputs", inputs], arguments].concat())
}

#[test]
fn an_image_is_explained_endpoint_by_endpoint_in_the_order_of_containerd() {
    let ran = explained(&["ghcr.io/jaybrto/app:v1"]);
    let whole = "\
image      ghcr.io/jaybrto/app:v1
entry      mirrors.\"ghcr.io\"
asks 1     https://registry.bto.bar/v2/apps/app/manifests/v1?ns=ghcr.io
  rewrite    `^jaybrto/(.*)` to `apps/$1`
  tls        https, no certificate is verified (insecure_skip_verify)
  login      user name and password from Secret k3s-registry-agent/gitea, as configs.\"registry.bto.bar\"
asks 2     https://ghcr.io/v2/jaybrto/app/manifests/v1 (default endpoint)
  tls        https, verified by the system's roots
  login      anonymous: no credential for this host and port
note       no rewrite rule is applied to the default endpoint
";
    assert_eq!((ran.code, ran.stdout.as_str()), (0, whole), "{}", ran.stderr);
}

#[test]
fn the_flags_of_k3s_are_given_and_a_user_name_is_shown_only_when_asked_for() {
    let arguments = ["ghcr.io/jaybrto/app:v1", "nginx", "--disable-default-registry-endpoint", "--embedded-registry"];
    let arguments = [&arguments[..], &["127.0.0.1:6443"]].concat();
    let ran = explained(&arguments);
    ran.says(
        0,
        &[
            "asks 1     https://127.0.0.1:6443/v2/jaybrto/app/manifests/v1?ns=ghcr.io\n",
            "client certificate /var/lib/rancher/k3s/agent/client-k3s-controller.crt with key ",
            "asks 2     https://registry.bto.bar/v2/apps/app/manifests/v1?ns=ghcr.io\n",
            "not asked  https://ghcr.io/v2/jaybrto/app/manifests/v1 (default endpoint, disabled)\n",
            "\n\nimage      docker.io/library/nginx:latest\nentry      none",
        ],
    );
    ran.never_says(&["registry-user", "PLACEHOLDER-TOKEN", "asks 3"]);
    explained(&[&arguments[..], &["--show-users"]].concat())
        .says(0, &["user name and password (registry-user) from Secret "])
        .never_says(&["PLACEHOLDER-TOKEN"]);
}

#[test]
fn programs_get_an_explanation_as_json() {
    let digest = format!("ghcr.io/jaybrto/app:v1@sha256:{}", "0a".repeat(32));
    let ran = explained(&[&digest, "-o", "json"]);
    let said: Value = serde_json::from_str(&ran.stdout).unwrap();
    let image = &said["images"][0];
    assert_eq!(image["image"], digest.replace(":v1", ""));
    let asked = &image["asked"][0];
    let url = format!("https://registry.bto.bar/v2/apps/app/manifests/sha256:{}?ns=ghcr.io", "0a".repeat(32));
    assert_eq!((&asked["urls"][0], &asked["default"]), (&url.into(), &false.into()));
    assert_eq!((&asked["rewrites"][0][1], &asked["tls"]["skipVerify"]), (&"apps/$1".into(), &true.into()));
    assert_eq!(
        (&asked["login"]["under"], &asked["login"]["from"], &asked["login"]["user"]),
        (&"registry.bto.bar".into(), &"Secret k3s-registry-agent/gitea".into(), &Value::Null)
    );
    assert_eq!((&image["asked"][1]["login"]["kind"], &image["asked"][2]), (&"anonymous".into(), &Value::Null));
}

#[test]
fn a_plain_file_names_the_line_of_a_credential_also_of_one_that_is_not_sent() {
    let bed = Bed::new();
    let text = format!(
        "{}configs:\n  docker.io:\n    auth: {{username: carol, password: {PASSWORD}}}\n  m.example:\n    auth: {{username: carol, password: {PASSWORD}}}\n",
        mirror("docker.io", "http://m.example:5000")
    );
    bed.earlier(&text, 0o600);
    bed.run(&["explain", "nginx", "--file", "node/etc/rancher/k3s/registries.yaml"])
        .says(
            0,
            &[
                "asks 1     http://m.example:5000/v2/library/nginx/manifests/latest?ns=docker.io\n  tls        none: http",
                "registries.yaml, line 7, as configs.\"docker.io\"\n",
                "not sent   the credential of configs.\"m.example\" from node/etc/rancher/k3s/registries.yaml, line 9: ",
            ],
        )
        .never_says(&[PASSWORD, "carol"]);
}

#[test]
fn what_is_no_image_or_no_input_is_refused_and_what_cannot_be_read_is_a_fault() {
    explained(&["nginx", "Nginx", "https://u:canary@r/x", "u:canary@r/x", "u:canary@r", "q.io/x@sha256:1"])
        .says(
            2,
            &[
                "refused    Nginx: a repository is written in lower case\n",
                "https://…@r/x: an image's name has no scheme",
                "refused    …@r/x: the registry's host is none",
                "refused    …@r: the digest is none",
                "refused    q.io/x@sha256:1: the digest is none",
            ],
        )
        .never_says(&["canary", "image      "]);
    let bed = migration();
    bed.input("registries.yaml", &config_map("mirror: {}\n"));
    bed.run(&["explain", "nginx", "--inputs", "inputs"]).says(2, &["refused", "did you mean"]);
    bed.earlier("mirrors: [\n", 0o644);
    bed.run(&["explain", "nginx", "--file", "node/etc/rancher/k3s/registries.yaml"])
        .says(2, &["k3s cannot read node/"]);
    bed.run(&["explain", "nginx", "--file", "nowhere"]).says(1, &["cannot read nowhere"]);
    bed.run(&["explain", "nginx"]).says(1, &["no kubeconfig"]);
}

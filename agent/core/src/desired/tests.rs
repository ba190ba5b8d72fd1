mod placement;
mod removal;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::certificate::testing::{EC, EC_KEY, OTHER_EC_KEY};
use crate::inputs::{HOST_ANNOTATION, IGNORE_LABEL, NAMESPACE, ObjectId};
use crate::policy::SecretName;
use crate::registries::document::Mark;
use crate::registries::model::{Auth, Tls};
use crate::registries::strict;
use crate::registries::testing::auth;

const CANARY: &str = "canary-hunter2";
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
const OTHER_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMAEA\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";

fn pem_of(base64: &str, label: &str) -> String {
    format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n")
}

fn object(kind: Kind, name: &str, secret_type: &str, data: &[(&str, &str)]) -> InputObject {
    let bytes = |value: &str| Secret::new(value.as_bytes().to_vec());
    InputObject {
        id: ObjectId {
            kind,
            namespace: NAMESPACE.into(),
            name: name.into(),
            uid: format!("uid-{name}"),
            resource_version: "1".into(),
        },
        secret_type: secret_type.into(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        data: data.iter().map(|(key, value)| ((*key).to_owned(), bytes(value))).collect(),
    }
}

fn file(text: &str) -> InputObject {
    object(Kind::ConfigMap, CONFIG_MAP, "", &[(REGISTRIES_KEY, text)])
}

fn secret(name: &str, secret_type: &str, data: &[(&str, &str)]) -> InputObject {
    object(Kind::Secret, name, secret_type, data)
}

fn docker(name: &str, hosts: &[&str]) -> InputObject {
    docker_with(name, hosts, CANARY)
}

fn docker_with(name: &str, hosts: &[&str], password: &str) -> InputObject {
    let auths: BTreeMap<_, _> =
        hosts.iter().map(|host| (*host, serde_json::json!({"username": "u", "password": password}))).collect();
    let json = serde_json::json!({"auths": auths}).to_string();
    secret(name, "kubernetes.io/dockerconfigjson", &[(".dockerconfigjson", &json)])
}

fn annotated(mut object: InputObject, hosts: &str) -> InputObject {
    object.annotations.insert(HOST_ANNOTATION.into(), hosts.into());
    object
}

fn inputs(objects: &[InputObject]) -> Inputs {
    Inputs { origin: Origin::Cluster, objects: objects.to_vec(), unreadable: Vec::new() }
}

#[derive(Default)]
struct Case {
    policy: Policy,
    known: BTreeMap<String, String>,
    known_tls: BTreeMap<String, String>,
    known_file: BTreeSet<String>,
}

impl Case {
    fn merge(&self, inputs: &Inputs) -> Outcome {
        let key = Secret::new(vec![7; 32]);
        let context = MergeContext {
            namespace: NAMESPACE,
            directory: "/etc/rancher/k3s",
            journal_key: &key,
            known_credential_hosts: &self.known,
            known_tls_files: &self.known_tls,
            known_file_hosts: &self.known_file,
        };
        let outcome = merge(inputs, &self.policy, &context, strict::parse);
        let debug = format!("{outcome:?}");
        assert!(!debug.contains(CANARY), "{debug}");
        outcome
    }
}

fn ready(objects: &[InputObject]) -> Desired {
    match Case::default().merge(&inputs(objects)) {
        Outcome::Ready(desired) => *desired,
        other => panic!("not ready: {other:#?}"),
    }
}

fn invalid(objects: &[InputObject]) -> String {
    match Case::default().merge(&inputs(objects)) {
        Outcome::Invalid(refusals) => sentences(&refusals),
        other => panic!("not invalid: {other:#?}"),
    }
}

fn sentences(refusals: &[Refusal]) -> String {
    let text = refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(!text.contains(CANARY), "{text}");
    text
}

fn auth_of(desired: &Desired, host: &str) -> Option<Auth> {
    desired.registries.configs.get(host)?.auth.clone()
}

fn tls_of(desired: &Desired, host: &str) -> Tls {
    desired.registries.configs[host].tls.clone().expect("has TLS")
}

#[test]
fn one_config_map_and_one_secret_give_the_file_of_the_main_job() {
    let hosts = ["registry.bto.bar", "registry.k3s.bto.bar", "gitea.k3s.bto.bar"];
    let text = hosts.map(|host| format!("  {host}:\n    tls:\n      insecure_skip_verify: true\n")).concat();
    let desired = ready(&[file(&format!("configs:\n{text}")), docker("gitea", &hosts)]);
    for host in hosts {
        assert_eq!(auth_of(&desired, host), Some(auth("u", CANARY)), "{host}");
        assert!(tls_of(&desired, host).insecure_skip_verify, "{host}");
        assert_eq!(desired.credential_sources[host], "Secret k3s-registry-agent/gitea");
    }
    assert_eq!(desired.registries.configs.len(), 3);
    assert_eq!(desired.notes, []);
    assert_eq!(desired.tree, Tree { registries: Some(render(&desired.registries)), tls: BTreeMap::new() });
    let path = KeyPath::of(["configs", hosts[1], "tls", "insecure_skip_verify"]);
    assert_eq!(desired.document.mark(&path), Some(Mark { line: 7, column: 7 }));
    assert_eq!(desired.document.registries, desired.registries);
}

#[test]
fn a_token_in_the_applications_own_secret_is_used_and_its_rotation_is_a_new_revision() {
    let secrets = vec![SecretName { namespace: "honeydue".into(), name: "gitea-credentials".into() }];
    let case = Case { policy: Policy { secrets, ..Policy::default() }, ..Case::default() };
    let merge = |base64: &str, version: &str| {
        let json = format!(r#"{{"auths": {{"https://gitea.treytartt.com": {{"auth": "{base64}"}}}}}}"#);
        let mut token = secret("gitea-credentials", "kubernetes.io/dockerconfigjson", &[(".dockerconfigjson", &json)]);
        token.id.namespace = "honeydue".into();
        token.id.resource_version = version.into();
        match case.merge(&inputs(&[file(""), token])) {
            Outcome::Ready(desired) => *desired,
            other => panic!("{other:?}"),
        }
    };
    let first = merge("dTpjYW5hcnktaHVudGVyMg==", "1");
    assert_eq!(auth_of(&first, "gitea.treytartt.com"), Some(auth("u", CANARY)));
    assert_eq!(first.credential_sources["gitea.treytartt.com"], "Secret honeydue/gitea-credentials");
    assert_eq!(first.notes, [], "an image host need not stand in the file");
    assert_ne!(merge("dTpuZXc=", "2").revision, first.revision);
}

#[test]
fn without_config_map_or_key_nothing_is_touched_and_an_empty_text_is_an_empty_desired() {
    let merge = |objects: &[InputObject]| Case::default().merge(&inputs(objects));
    assert_eq!(merge(&[docker("a", &["r"])]), Outcome::NoConfigMap);
    assert_eq!(merge(&[object(Kind::ConfigMap, CONFIG_MAP, "", &[("policy.yaml", "")])]), Outcome::NoConfigMap);
    let mut elsewhere = file("");
    elsewhere.id.namespace = "default".into();
    assert_eq!(merge(&[elsewhere]), Outcome::NoConfigMap);
    assert_eq!(ready(&[file("")]).registries, Registries::default());
}

#[test]
fn what_cannot_be_seen_holds_everything() {
    let sentence = "Secret honeydue/x: forbidden".to_owned();
    let blind = Inputs { unreadable: vec![sentence.clone()], ..inputs(&[file("nonsense: 1")]) };
    match Case::default().merge(&blind) {
        Outcome::Held(refusals) => assert_eq!(sentences(&refusals), sentence),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_strict_readers_words_are_passed_on_with_the_object() {
    let text = invalid(&[file("mirors: {}")]);
    assert!(text.starts_with("ConfigMap k3s-registry-agent/registries, key `registries.yaml`: "), "{text}");
    let mut binary = file("");
    binary.data.insert(REGISTRIES_KEY.into(), Secret::new(vec![0xff]));
    assert!(invalid(&[binary]).contains("is not UTF-8"));
}

#[test]
fn credentials_in_the_config_map_are_refused_with_line_key_and_remedy() {
    let text = format!(
        "mirrors:\n  r:\n    endpoint:\n    - https://u:{CANARY}@m.example.com\nconfigs:\n  m:\n    auth:\n      username: {CANARY}\n      password: {CANARY}\n      auth: {CANARY}\n      identity_token: {CANARY}\n"
    );
    let text = invalid(&[file(&text)]);
    for words in [
        "line 8, column 7: configs.m.auth.username: a credential must not stand in a ConfigMap",
        "kubectl -n k3s-registry-agent create secret docker-registry NAME --docker-server=m ",
        "line 9, column 7: configs.m.auth.password",
        "line 10, column 7: configs.m.auth.auth",
        "line 11, column 7: configs.m.auth.identity_token",
        "create secret generic NAME --from-file=registries.yaml",
        "line 4, column 7: mirrors.r.endpoint[0]: the user part of a URL",
        "--docker-server=m.example.com ",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    assert!(
        invalid(&[file(&format!("configs:\n  \"u:{CANARY}@h\": {{}}\n"))]).contains("configs.\"…@h\": the user part")
    );
    assert_eq!(
        ready(&[file("configs:\n  m:\n    auth: {}\n")]).credential_sources,
        BTreeMap::new(),
        "nothing is no credential"
    );
}

#[test]
fn every_kind_of_secret_gives_what_it_holds() {
    let token = Auth { identity_token: CANARY.into(), ..Auth::default() };
    let desired = ready(&[
        file(""),
        secret(
            "a",
            "kubernetes.io/dockercfg",
            &[(".dockercfg", r#"{"https://a/v2/": {"identitytoken": "canary-hunter2"}}"#)],
        ),
        annotated(
            secret("b", "kubernetes.io/basic-auth", &[("username", "u"), ("password", CANARY)]),
            "b1, https://b2/",
        ),
        annotated(secret("c", "kubernetes.io/tls", &[("tls.crt", CERTIFICATE), ("tls.key", KEY)]), "c:5000"),
        annotated(
            secret(
                "d",
                "kubernetes.io/tls",
                &[("tls.crt", CERTIFICATE), ("tls.key", KEY), ("ca.crt", OTHER_CERTIFICATE)],
            ),
            "d",
        ),
        annotated(secret("e", "Opaque", &[("ca.crt", CERTIFICATE)]), "e1,e2"),
        annotated(object(Kind::ConfigMap, "f", "", &[("ca.crt", CERTIFICATE)]), "docker.io"),
        secret(
            "g",
            "Opaque",
            &[(
                REGISTRIES_KEY,
                "mirrors:\n  g:\n    endpoint: [\"https://u:canary-hunter2@h\"]\nconfigs:\n  g:\n    auth:\n      auth: canary-hunter2\n",
            )],
        ),
        annotated(secret("h", "example.com/mine", &[("ca.crt", CERTIFICATE)]), "h"),
    ]);
    assert_eq!(auth_of(&desired, "a"), Some(token));
    for host in ["b1", "b2"] {
        assert_eq!(auth_of(&desired, host), Some(auth("u", CANARY)));
        assert_eq!(desired.credential_sources[host], "Secret k3s-registry-agent/b");
    }
    let below = |file: &str| format!("/etc/rancher/k3s/registry-tls/{file}");
    let client = |host: &str| Tls {
        cert_file: below(&format!("{host}/tls.crt")),
        key_file: below(&format!("{host}/tls.key")),
        ..Tls::default()
    };
    assert_eq!(tls_of(&desired, "c:5000"), client("c:5000"));
    assert_eq!(tls_of(&desired, "d"), Tls { ca_file: below("d/ca.crt"), ..client("d") });
    for host in ["e1", "e2", "registry-1.docker.io", "h"] {
        assert_eq!(tls_of(&desired, host), Tls { ca_file: below(&format!("{host}/ca.crt")), ..Tls::default() });
    }
    let files: Vec<_> = desired.tree.tls.keys().map(String::as_str).collect();
    let expected = [
        "c:5000/tls.crt",
        "c:5000/tls.key",
        "d/ca.crt",
        "d/tls.crt",
        "d/tls.key",
        "e1/ca.crt",
        "e2/ca.crt",
        "h/ca.crt",
        "registry-1.docker.io/ca.crt",
    ];
    assert_eq!(files, expected);
    assert_eq!(desired.tree.tls["d/ca.crt"].expose(), OTHER_CERTIFICATE.as_bytes());
    assert_eq!(auth_of(&desired, "g"), Some(Auth { auth: CANARY.into(), ..Auth::default() }));
    assert_eq!(desired.registries.mirrors["g"].endpoints, ["https://u:canary-hunter2@h"]);
    assert_eq!(desired.notes, []);
}

#[test]
fn what_is_of_no_use_is_refused_by_name_with_the_remedy() {
    let pem = "kubernetes.io/tls";
    let other_key = pem_of(OTHER_EC_KEY, "PRIVATE KEY");
    for (object, words) in [
        (
            secret("x", "kubernetes.io/dockerconfigjson", &[]),
            "Secret k3s-registry-agent/x: has no key `.dockerconfigjson`",
        ),
        (
            secret("x", "kubernetes.io/dockerconfigjson", &[(".dockerconfigjson", "canary-hunter2")]),
            "Secret k3s-registry-agent/x, key `.dockerconfigjson`: is not a Docker credential file",
        ),
        (
            secret("x", "Opaque", &[(".dockerconfigjson", "{}")]),
            "is of type Opaque and not kubernetes.io/dockerconfigjson",
        ),
        (
            annotated(secret("x", "kubernetes.io/basic-auth", &[("username", "u")]), "r"),
            "key `password`: is missing or empty",
        ),
        (
            annotated(
                secret("x", "kubernetes.io/basic-auth", &[("username", "u"), ("password", "canary-hunter2\n")]),
                "r",
            ),
            "key `password`: ends in a line break",
        ),
        (
            annotated(secret("x", "Opaque", &[("username", "u"), ("password", CANARY)]), "r"),
            "go into a Secret of type kubernetes.io/basic-auth",
        ),
        (
            annotated(secret("x", "Opaque", &[("tls.crt", CERTIFICATE)]), "r"),
            "goes into a Secret of type kubernetes.io/tls",
        ),
        (annotated(secret("x", "Opaque", &[("ca.pem", CERTIFICATE)]), "r"), "put the CA under that key"),
        (annotated(secret("x", "example.com/mine", &[]), "r"), "a Secret of type example.com/mine gives only `ca.crt`"),
        (
            annotated(object(Kind::ConfigMap, "x", "", &[]), "r"),
            "ConfigMap k3s-registry-agent/x: carries the annotation",
        ),
        (annotated(secret("x", "Opaque", &[("ca.crt", CERTIFICATE)]), " , "), "is empty: name the registry's host"),
        (annotated(secret("x", "Opaque", &[("ca.crt", CERTIFICATE)]), "r,*.r"), "`*.r` a wildcard matches nothing"),
        (annotated(secret("x", "Opaque", &[("ca.crt", CERTIFICATE)]), "../.."), "write the host alone"),
        (
            annotated(secret("x", "Opaque", &[("ca.crt", "canary-hunter2")]), "r"),
            "key `ca.crt`: holds no whole certificate in PEM form",
        ),
        (
            annotated(secret("x", pem, &[("tls.crt", CERTIFICATE), ("tls.key", CANARY)]), "r"),
            "key `tls.key`: holds no whole private key",
        ),
        (
            annotated(secret("x", pem, &[("tls.crt", &pem_of(EC, "CERTIFICATE")), ("tls.key", &other_key)]), "r"),
            "key `tls.key`: is not the key of the certificate in `tls.crt`",
        ),
        (annotated(secret("x", pem, &[("tls.key", KEY)]), "r"), "key `tls.crt`: holds no whole certificate"),
        (
            secret("x", "Opaque", &[(REGISTRIES_KEY, "nonsense: canary")]),
            "Secret k3s-registry-agent/x, key `registries.yaml`: ",
        ),
    ] {
        let text = invalid(&[file(""), object]);
        assert!(text.contains(words), "{words}\n{text}");
    }
}

#[test]
fn a_pair_that_belongs_together_is_taken_and_a_broken_block_beside_a_whole_one_is_noted() {
    let pair = [("tls.crt", pem_of(EC, "CERTIFICATE")), ("tls.key", pem_of(EC_KEY, "PRIVATE KEY"))];
    let cut = format!("{CERTIFICATE}-----BEGIN CERTIFICATE-----\n{}", &EC[..64]);
    let data: Vec<_> = pair.iter().map(|(key, text)| (*key, text.as_str())).chain([("ca.crt", cut.as_str())]).collect();
    let desired = ready(&[file(""), annotated(secret("x", "kubernetes.io/tls", &data), "r")]);
    assert_eq!(desired.tree.tls.len(), 3);
    let notes: Vec<_> = desired.notes.iter().map(|note| (note.rule, note.message.as_str())).collect();
    assert!(
        matches!(notes[..], [("pem-block-broken", message)] if message.contains("key `ca.crt`: one of its blocks"))
    );
}

#[test]
fn what_is_not_ours_is_left_alone_and_what_lacks_its_host_is_noted() {
    let mut ignored = docker_with("ignored", &["r"], "other");
    ignored.labels.insert(IGNORE_LABEL.into(), "true".into());
    let mut elsewhere = docker_with("elsewhere", &["r"], "other");
    elsewhere.id.namespace = "default".into();
    let mut cluster_wide = annotated(object(Kind::ConfigMap, "ca", "", &[("ca.crt", OTHER_CERTIFICATE)]), "r");
    cluster_wide.id.namespace = "default".into();
    let desired = ready(&[
        file(""),
        docker("a", &["r"]),
        ignored,
        elsewhere,
        cluster_wide,
        secret("token", "kubernetes.io/service-account-token", &[("ca.crt", CERTIFICATE), ("token", "t")]),
        secret("helm", "helm.sh/release.v1", &[("release", "x")]),
        secret("other", "Opaque", &[("password", CANARY)]),
        object(Kind::ConfigMap, "kube-root-ca.crt", "", &[("ca.crt", CERTIFICATE)]),
        secret("webhook", "kubernetes.io/tls", &[("tls.crt", CERTIFICATE), ("tls.key", KEY)]),
    ]);
    assert_eq!(desired.registries.configs.keys().collect::<Vec<_>>(), ["r"]);
    assert_eq!(auth_of(&desired, "r"), Some(auth("u", CANARY)));
    let notes: Vec<_> = desired.notes.iter().map(|note| (note.rule, note.message.as_str())).collect();
    let remedy = "Secret k3s-registry-agent/webhook is not used, since no annotation says which host it is for: `kubectl -n k3s-registry-agent annotate secret webhook k3s-registry-agent/host=HOST`";
    assert_eq!(notes, [("secret-without-host", remedy)]);
}

#[test]
fn a_secret_of_another_namespace_that_nobody_names_is_noted_in_a_directory() {
    let mut elsewhere = docker("gitea", &["r"]);
    elsewhere.id.namespace = "honeydue".into();
    let mut unused = secret("other", "Opaque", &[("password", CANARY)]);
    unused.id.namespace = "honeydue".into();
    let named = vec![SecretName { namespace: "honeydue".into(), name: "gitea".into() }];
    for (origin, secrets, rules) in [
        (Origin::Directory, Vec::new(), vec!["secret-elsewhere"]),
        (Origin::Directory, named, vec![]),
        (Origin::Cluster, Vec::new(), vec![]),
    ] {
        let case = Case { policy: Policy { secrets, ..Policy::default() }, ..Case::default() };
        let given = Inputs { origin, ..inputs(&[file(""), elsewhere.clone(), unused.clone()]) };
        let Outcome::Ready(desired) = case.merge(&given) else { panic!("{origin:?}") };
        assert_eq!(desired.notes.iter().map(|note| note.rule).collect::<Vec<_>>(), rules, "{origin:?}");
    }
}

#[test]
fn a_secret_that_the_policy_names_is_used_where_it_is_and_must_be_there_and_of_use() {
    let names = |name: &str| {
        let secrets = vec![SecretName { namespace: "honeydue".into(), name: name.into() }];
        Case { policy: Policy { secrets, ..Policy::default() }, ..Case::default() }
    };
    let elsewhere = |mut object: InputObject| {
        object.id.namespace = "honeydue".into();
        object
    };
    match names("gitea").merge(&inputs(&[file(""), elsewhere(docker("gitea", &["g"]))])) {
        Outcome::Ready(desired) => assert_eq!(desired.credential_sources["g"], "Secret honeydue/gitea"),
        other => panic!("{other:?}"),
    }
    match names("gitea").merge(&inputs(&[file(""), elsewhere(docker("other", &["g"]))])) {
        Outcome::Held(refusals) => {
            assert!(sentences(&refusals).contains("Secret honeydue/gitea, which the policy names, is not there"))
        }
        other => panic!("{other:?}"),
    }
    for useless in [
        secret("gitea", "Opaque", &[("x", "y")]),
        secret("gitea", "helm.sh/release.v1", &[]),
        secret("gitea", "kubernetes.io/tls", &[("tls.crt", CERTIFICATE), ("tls.key", KEY)]),
    ] {
        let outcome = names("gitea").merge(&inputs(&[file(""), elsewhere(useless)]));
        assert!(matches!(outcome, Outcome::Invalid(_)), "{outcome:?}");
    }
}

#[test]
fn two_sources_that_contradict_each_other_are_refused_both_named_and_agreeing_ones_are_fine() {
    let text = invalid(&[file(""), docker("a", &["r"]), docker_with("b", &["r"], "canary-hunter2-other")]);
    let expected = "Secret k3s-registry-agent/b, key `.dockerconfigjson`: configs.r.auth: Secret k3s-registry-agent/a, key `.dockerconfigjson` gives another value";
    assert!(text.starts_with(expected), "{text}");
    ready(&[file(""), docker("a", &["r"]), docker("b", &["r"])]);

    let ca = |name: &str, pem: &str| annotated(secret(name, "Opaque", &[("ca.crt", pem)]), "r");
    let text = invalid(&[file(""), ca("a", CERTIFICATE), ca("b", OTHER_CERTIFICATE)]);
    assert!(
        text.contains("Secret k3s-registry-agent/b, key `ca.crt`: ")
            && text.contains("Secret k3s-registry-agent/a, key `ca.crt`")
    );
    ready(&[file(""), ca("a", CERTIFICATE), ca("b", CERTIFICATE)]);
    let by_hand = file("configs:\n  r:\n    tls:\n      ca_file: /etc/ssl/r.pem\n");
    let text = invalid(&[by_hand, ca("a", CERTIFICATE)]);
    assert!(
        text.contains("configs.r.tls.ca_file: ConfigMap k3s-registry-agent/registries, key `registries.yaml`"),
        "{text}"
    );

    let part = |text: &str| secret("part", "Opaque", &[(REGISTRIES_KEY, text)]);
    for (one, other) in [
        ("mirrors:\n  r:\n    endpoint: [a]\n", "mirrors:\n  r:\n    endpoint: [b]\n"),
        ("mirrors:\n  r:\n    rewrite:\n      a: b\n", "mirrors:\n  r:\n    rewrite:\n      a: c\n"),
        (
            "configs:\n  r:\n    tls:\n      insecure_skip_verify: false\n",
            "configs:\n  r:\n    tls:\n      insecure_skip_verify: true\n",
        ),
    ] {
        let text = invalid(&[file(one), part(other)]);
        assert!(
            text.contains("Secret k3s-registry-agent/part") && text.contains("ConfigMap k3s-registry-agent/registries")
        );
        ready(&[file(one), part(one)]);
    }
    let apart = ready(&[
        file("mirrors:\n  r:\n    rewrite:\n      a: b\n"),
        part("mirrors:\n  r:\n    rewrite:\n      c: d\n"),
    ]);
    assert_eq!(apart.registries.mirrors["r"].rewrites.len(), 2);
}

#[test]
fn a_credential_whose_secret_is_gone_is_held_until_removal_is_allowed_or_its_host_leaves_the_file() {
    let known = |hosts: &[&str]| hosts.iter().map(|host| ((*host).to_owned(), "Secret ns/a".to_owned())).collect();
    let text = "configs:\n  r:\n    tls:\n      insecure_skip_verify: true\n";
    let case = Case { known: known(&["r"]), ..Case::default() };
    match case.merge(&inputs(&[file(text)])) {
        Outcome::Held(refusals) => {
            let text = sentences(&refusals);
            assert!(text.contains("the credential of r came from Secret ns/a, which is gone"), "{text}");
            assert!(text.contains("allowRemoval: true"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(case.merge(&inputs(&[file(text), docker("other", &["r"])])), Outcome::Ready(_)));
    let by_hand = Case { known: known(&["u:canary@r"]), ..Case::default() };
    let Outcome::Held(refusals) = by_hand.merge(&inputs(&[file(text)])) else { panic!("it is held") };
    assert!(sentences(&refusals).contains("the credential of …@r came from"), "{refusals:?}");
    let allowed = Case { policy: Policy { allow_removal: true, ..Policy::default() }, ..case };
    assert!(matches!(allowed.merge(&inputs(&[file(text)])), Outcome::Ready(_)));

    // It stood in the file and left it; one that only its Secret ever named did not.
    let left = Case { known: known(&["r"]), known_file: BTreeSet::from(["r".into()]), ..Case::default() };
    assert!(matches!(left.merge(&inputs(&[file("")])), Outcome::Ready(_)));
    assert!(matches!(left.merge(&inputs(&[file(text)])), Outcome::Held(_)));
    let secret_only = Case { known: known(&["r"]), ..Case::default() };
    assert!(matches!(secret_only.merge(&inputs(&[file("")])), Outcome::Held(_)));

    let shrunk =
        Case { known: BTreeMap::from([("s".into(), "Secret k3s-registry-agent/a".into())]), ..Case::default() };
    match shrunk.merge(&inputs(&[file(""), docker("a", &["r"])])) {
        Outcome::Held(refusals) => assert!(sentences(&refusals).contains("which no longer holds one for it")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_hosts_of_the_file_are_those_of_the_config_map_alone() {
    let text = "mirrors:\n  docker.io:\n    endpoint: [\"https://m.example.com:5000/v2\"]\nconfigs:\n  c: {}\n";
    let desired = ready(&[file(text), docker("a", &["s"])]);
    let hosts: Vec<_> = desired.file_hosts.iter().map(String::as_str).collect();
    assert_eq!(hosts, ["c", "docker.io", "m.example.com:5000", "registry-1.docker.io"]);
}

#[test]
fn a_path_in_the_agents_own_directory_needs_a_secret_that_gives_it() {
    let text = "configs:\n  r:\n    tls:\n      ca_file: /etc/rancher/k3s/registry-tls/r/ca.crt\n";
    assert!(invalid(&[file(text)]).contains("no Secret gives `r/ca.crt`"));
    ready(&[file(text), annotated(secret("a", "Opaque", &[("ca.crt", CERTIFICATE)]), "r")]);
}

#[test]
fn an_object_that_stands_twice_is_refused() {
    let mut other = docker("a", &["r"]);
    other.id.uid = "another".into();
    assert!(invalid(&[file(""), docker("a", &["r"]), other]).contains("stands twice"));
}

#[test]
fn a_revision_changes_with_text_and_used_objects_and_with_nothing_else() {
    let base = ready(&[file("mirrors: {}"), docker("a", &["r"])]).revision;
    let mut policy = file("mirrors: {}");
    policy.data.insert(POLICY_KEY.into(), Secret::new(b"pause: true".to_vec()));
    policy.labels.insert("x".into(), "y".into());
    policy.id.resource_version = "99".into();
    let unused = secret("unused", "Opaque", &[("x", "y")]);
    assert_eq!(ready(&[docker("a", &["r"]), unused, policy]).revision, base, "order, policy, metadata, other objects");
    assert_ne!(ready(&[file("mirrors: {} # x"), docker("a", &["r"])]).revision, base);
    let mut rotated = docker("a", &["r"]);
    rotated.id.resource_version = "2".into();
    assert_ne!(ready(&[file("mirrors: {}"), rotated]).revision, base);
    assert_ne!(ready(&[file("mirrors: {}")]).revision, base);
}

#[test]
fn a_directorys_revision_is_made_of_content() {
    let of = |objects: &[InputObject]| {
        let inputs = Inputs { origin: Origin::Directory, ..inputs(objects) };
        match Case::default().merge(&inputs) {
            Outcome::Ready(desired) => desired.revision,
            other => panic!("{other:?}"),
        }
    };
    let base = of(&[file(""), docker("a", &["r"])]);
    let mut touched = docker("a", &["r"]);
    touched.id.resource_version = "2".into();
    assert_eq!(of(&[file(""), touched]), base);
    assert_ne!(of(&[file(""), docker_with("a", &["r"], "other")]), base);
}

#[test]
fn the_policy_beside_the_file_is_read_or_refused_with_its_place() {
    let with = |text: &str| inputs(&[object(Kind::ConfigMap, CONFIG_MAP, "", &[(POLICY_KEY, text)])]);
    assert_eq!(policy_of(&inputs(&[file("")]), NAMESPACE), Ok(None));
    assert_eq!(policy_of(&with("pause: true"), NAMESPACE), Ok(Some(Policy { pause: true, ..Policy::default() })));
    assert_eq!(policy_of(&with("pause: true"), "elsewhere"), Ok(None));
    let text = sentences(&policy_of(&with("mode: manage\npuse: true"), NAMESPACE).expect_err("a mistake"));
    let expected = "ConfigMap k3s-registry-agent/registries, key `policy.yaml`, line 2, column 1: puse: unknown key; did you mean `pause`?";
    assert_eq!(text, expected);
}

#[test]
fn a_finding_is_named_after_the_object_that_gave_the_field_and_has_no_line_of_another_text() {
    let part = "mirrors:\n  one.example: {endpoint: [\"https://o.example\"]}\n  docker.io: {rewrite: {x: y}}\n";
    let file = file("mirrors:\n  docker.io: {endpoint: [\"https://m.example\"]}\nconfigs:\n  m.example: {}\n");
    let all = inputs(&[file, secret("part", "Opaque", &[(REGISTRIES_KEY, part)]), docker("login", &["m.example"])]);
    let Outcome::Ready(desired) = Case::default().merge(&all) else { panic!("it is ready") };
    let ours = format!("Secret {NAMESPACE}/");
    for (path, giver) in [
        (&["mirrors", "one.example"][..], Some("part")),
        (&["mirrors", "one.example", "endpoint", "[0]"], Some("part")),
        (&["mirrors", "docker.io", "rewrite", "x"], Some("part")),
        (&["configs", "m.example", "auth", "password"], Some("login")),
        (&["mirrors", "docker.io"], None),
        (&["mirrors", "docker.io", "endpoint", "[0]"], None),
        (&["configs", "m.example"], None),
        (&["mirrors"], None),
        (&[], None),
    ] {
        let path = KeyPath::of(path.iter().copied());
        let at = desired.document.mark(&path);
        let finding = Finding {
            rule: "x",
            severity: crate::registries::finding::Severity::Error,
            path,
            at,
            message: "why".to_owned(),
        };
        let named = desired.named(finding.clone());
        match giver {
            Some(name) => assert_eq!((named.at, named.message), (None, format!("from {ours}{name}: why"))),
            None => assert_eq!(named, finding),
        }
    }
}

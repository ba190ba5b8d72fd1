//! Under which name a credential or a CA is placed.

use super::*;

#[test]
fn docker_hub_is_one_registry_under_all_its_names() {
    let desired = ready(&[
        file("mirrors:\n  docker.io:\n    endpoint: [\"https://m.example.com\"]\n"),
        docker("a", &["https://index.docker.io/v1/"]),
    ]);
    assert_eq!(
        desired.registries.configs.keys().collect::<Vec<_>>(),
        ["registry-1.docker.io"],
        "and nothing for its mirror"
    );
    let part = secret(
        "b",
        "Opaque",
        &[(
            REGISTRIES_KEY,
            "configs:\n  docker.io:\n    auth:\n      username: other\n      password: canary-hunter2\n",
        )],
    );
    let text = invalid(&[file(""), docker("a", &["docker.io"]), part]);
    assert!(text.contains("is Docker Hub") && text.contains("/a, key") && text.contains("/b, key"), "{text}");
}

/// The hosts that have a credential when the Secret names `host` and the file says `mirror` leads to `endpoints`.
fn placed(mirror: &str, endpoints: &[&str], host: &str) -> (Vec<String>, Vec<&'static str>) {
    let endpoints = endpoints.iter().map(|endpoint| format!("    - \"{endpoint}\"\n")).collect::<String>();
    let text = format!("mirrors:\n  \"{mirror}\":\n    endpoint:\n{endpoints}");
    let desired = ready(&[file(&text), docker("a", &[host])]);
    let hosts = desired.registries.configs.iter().filter(|(_, config)| config.auth.is_some());
    let sources: Vec<_> = desired.credential_sources.keys().cloned().collect();
    let hosts: Vec<_> = hosts.map(|(host, _)| host.clone()).collect();
    assert_eq!(hosts, sources);
    (hosts, desired.notes.iter().map(|note| note.rule).collect())
}

#[test]
fn a_credential_goes_where_containerd_looks_it_up_and_to_nobody_else() {
    let (not_for, strange) = ("credential-not-for-endpoint", "host-not-in-file");
    for (mirror, endpoints, host, expected, notes) in [
        (
            "r.example.com",
            vec!["http://10.77.0.1:5001"],
            "r.example.com",
            vec!["10.77.0.1:5001", "r.example.com"],
            vec![],
        ),
        (
            "localhost:3000",
            vec!["http://127.0.0.1:30080"],
            "localhost:3000",
            vec!["127.0.0.1:30080", "localhost:3000"],
            vec![],
        ),
        (
            "r.gitea.svc.cluster.local:5000",
            vec!["https://git.example.com"],
            "r.gitea.svc.cluster.local:5000",
            vec!["git.example.com", "r.gitea.svc.cluster.local:5000"],
            vec![],
        ),
        (
            "r.example.com",
            vec!["http://r.example.com:5000"],
            "r.example.com",
            vec!["r.example.com", "r.example.com:5000"],
            vec![],
        ),
        (
            "r.example.com",
            vec!["https://r.example.com:443/v2"],
            "r.example.com",
            vec!["r.example.com", "r.example.com:443"],
            vec![],
        ),
        (
            "x.example.com",
            vec!["https://r.example.com"],
            "r.example.com:443",
            vec!["r.example.com", "r.example.com:443"],
            vec![],
        ),
        // Another registry's address is not told the credential.
        ("r.example.com", vec!["https://m.example.com"], "r.example.com", vec!["r.example.com"], vec![not_for]),
        (
            "r.example.com",
            vec!["http://10.0.0.1", "http://10.0.0.2"],
            "r.example.com",
            vec!["r.example.com"],
            vec![not_for],
        ),
        (
            "r.example.com",
            vec!["http://r.example.com:1", "http://r.example.com:2"],
            "r.example.com",
            vec!["r.example.com"],
            vec![not_for],
        ),
        ("ghcr.io", vec!["http://10.0.0.1:5000"], "ghcr.io", vec!["ghcr.io"], vec![]),
        ("docker.io", vec!["http://127.0.0.1:5000"], "docker.io", vec!["registry-1.docker.io"], vec![]),
        (
            "ghcr.io",
            vec!["http://git.example.com:5000"],
            "git.example.com",
            vec!["git.example.com"],
            vec!["host-with-other-port"],
        ),
        ("ghcr.io", vec!["https://m.example.com"], "m.example.com", vec!["m.example.com"], vec![]),
        ("ghcr.io", vec!["https://m.example.com"], "other.example.com", vec!["other.example.com"], vec![strange]),
        ("ghcr.io", vec!["https://m.example.com"], "quay.io", vec!["quay.io"], vec![]),
    ] {
        let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(placed(mirror, &endpoints, host), (expected, notes), "{mirror} {endpoints:?} {host}");
    }
}

#[test]
fn a_place_with_its_own_credential_keeps_it_and_two_strangers_get_none() {
    let text = "mirrors:\n  a.example.com:\n    endpoint: [\"http://10.0.0.1:5000\"]\n  b.example.com:\n    endpoint: [\"http://10.0.0.1:5000\"]\n";
    let own = docker_with("own", &["10.0.0.1:5000"], "own");
    let desired = ready(&[file(text), docker("a", &["a.example.com"]), own]);
    assert_eq!(auth_of(&desired, "10.0.0.1:5000"), Some(auth("u", "own")));
    let two = [file(text), docker("a", &["a.example.com"]), docker_with("b", &["b.example.com"], "other")];
    let desired = ready(&two);
    assert_eq!(auth_of(&desired, "10.0.0.1:5000"), None);
    assert_eq!(desired.notes[0].rule, "credential-ambiguous");
    let same = ready(&[file(text), docker("a", &["a.example.com", "b.example.com"])]);
    assert_eq!(auth_of(&same, "10.0.0.1:5000"), Some(auth("u", CANARY)));
}

#[test]
fn a_host_that_the_file_does_not_name_is_noted_with_the_nearest_that_it_names() {
    let text = "mirrors:\n  ghcr.io:\n    endpoint: [\"https://registry.example.com:5000\"]\n";
    let ca = |host| annotated(secret("ca", "Opaque", &[("ca.crt", CERTIFICATE)]), host);
    let of = |object: InputObject| {
        let notes = ready(&[file(text), object]).notes;
        notes.into_iter().map(|note| format!("{} {}", note.rule, note.message)).collect::<Vec<_>>().join("\n")
    };
    let credential = of(docker("a", &["registry.exmaple.com:5000"]));
    assert!(credential.starts_with("host-not-in-file the credential from Secret k3s-registry-agent/a"), "{credential}");
    assert!(credential.ends_with("the nearest name there is registry.example.com:5000"), "{credential}");
    let certificate = of(ca("git.other.org"));
    assert!(certificate.starts_with("host-not-in-file the certificate from"), "{certificate}");
    assert!(certificate.ends_with("and nothing else"), "{certificate}");
    assert_eq!(of(ca("registry.example.com:5000")), "");
    let part = secret("p", "Opaque", &[(REGISTRIES_KEY, "configs: {git.other.org: {tls: {}}}")]);
    let desired = ready(&[file(text), part, ca("git.other.org")]);
    assert_eq!(desired.notes, [], "a part of the file names it");
}

#[test]
fn a_ca_is_placed_under_the_endpoint_with_its_port_and_a_misplaced_one_is_noted() {
    let ca = annotated(secret("ca", "Opaque", &[("ca.crt", CERTIFICATE)]), "r.example.com");
    let text = "mirrors:\n  x.example.com:\n    endpoint: [\"https://r.example.com:443\"]\n";
    let desired = ready(&[file(text), ca.clone()]);
    assert_eq!(tls_of(&desired, "r.example.com:443").ca_file, "/etc/rancher/k3s/registry-tls/r.example.com/ca.crt");
    let text = "mirrors:\n  r.example.com:\n    endpoint: [\"https://10.0.0.1:5000\"]\n";
    let desired = ready(&[file(text), ca]);
    assert_eq!(desired.notes[0].rule, "certificate-not-for-endpoint");
    assert!(desired.notes[0].message.contains("10.0.0.1:5000"));
}

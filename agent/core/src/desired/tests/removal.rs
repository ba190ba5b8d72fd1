//! Certificates that are not given any more.

use super::*;

const R: &str = "configs:\n  r:\n    auth: {}\n";

fn ca(name: &str, pem: &str, hosts: &str) -> InputObject {
    annotated(object(Kind::ConfigMap, name, "", &[("ca.crt", pem)]), hosts)
}

fn client(name: &str, with_ca: bool) -> InputObject {
    let mut data = vec![("tls.crt", CERTIFICATE), ("tls.key", KEY)];
    data.extend(with_ca.then_some(("ca.crt", CERTIFICATE)));
    annotated(secret(name, "kubernetes.io/tls", &data), "r")
}

/// A node on which these inputs are proven.
fn proven(objects: &[InputObject]) -> Case {
    let Desired { credential_sources, tls_sources, file_hosts, .. } = ready(objects);
    Case { known: credential_sources, known_tls: tls_sources, known_file: file_hosts, ..Case::default() }
}

fn held(case: &Case, objects: &[InputObject]) -> String {
    match case.merge(&inputs(objects)) {
        Outcome::Held(refusals) => sentences(&refusals),
        other => panic!("not held: {other:#?}"),
    }
}

fn is_ready(case: &Case, objects: &[InputObject]) -> bool {
    matches!(case.merge(&inputs(objects)), Outcome::Ready(_))
}

#[test]
fn a_ca_or_certificate_whose_object_is_gone_is_held_until_removal_is_allowed_or_its_host_leaves_the_file() {
    let remedy = "which is gone: put it back, take the host out of registries.yaml, or write `allowRemoval: true` into policy.yaml";
    let of = |what: &str, object: &str| format!("the {what} of r came from {object}, {remedy}");
    let config_map = of("CA", "ConfigMap k3s-registry-agent/a");
    let both = [of("CA", "Secret k3s-registry-agent/a"), of("client certificate", "Secret k3s-registry-agent/a")];
    for (object, said) in [
        (ca("a", CERTIFICATE, "r"), config_map.as_str()),
        (annotated(secret("a", "Opaque", &[("ca.crt", CERTIFICATE)]), "r"), &both[0]),
        (client("a", false), &both[1]),
        (client("a", true), &both.join("\n")),
    ] {
        let case = proven(&[file(R), object]);
        assert_eq!(held(&case, &[file(R)]), said);
        assert!(is_ready(&case, &[file("")]), "the host has left the file");
        let secret_only = Case { known_file: BTreeSet::new(), ..case };
        assert_eq!(held(&secret_only, &[file("")]), said, "a host that its object alone named has not left the file");
        let allowed = Case { policy: Policy { allow_removal: true, ..Policy::default() }, ..secret_only };
        assert!(is_ready(&allowed, &[file(R)]));
    }
}

#[test]
fn what_an_object_that_is_there_no_longer_gives_is_held_too() {
    let case = proven(&[file(R), client("a", true)]);
    let said = held(&case, &[file(R), client("a", false)]);
    assert!(said.starts_with("the CA of r came from Secret k3s-registry-agent/a, which no longer holds one for it: "));
    assert!(!said.contains("client certificate"), "{said}");
    let case = proven(&[file(R), ca("a", CERTIFICATE, "r,s")]);
    let said = held(&case, &[file(R), ca("a", CERTIFICATE, "r")]);
    assert!(said.contains("the CA of s came from ConfigMap k3s-registry-agent/a, which no longer holds one"), "{said}");
}

#[test]
fn another_content_another_object_and_a_file_of_the_node_are_no_removal() {
    let case = proven(&[file(R), ca("a", CERTIFICATE, "r")]);
    let by_hand = file("configs:\n  r:\n    tls:\n      ca_file: /etc/ssl/r.pem\n");
    for now in [
        vec![file(R), ca("a", OTHER_CERTIFICATE, "r")],
        vec![file(R), ca("b", CERTIFICATE, "r")],
        vec![file(R), ca("b", OTHER_CERTIFICATE, "r")],
        vec![file(R), client("b", true)],
        vec![by_hand],
    ] {
        assert!(is_ready(&case, &now), "{now:?}");
    }
    // Of two that give the same, either may go.
    let both = [file(R), ca("a", CERTIFICATE, "r"), ca("b", CERTIFICATE, "r")];
    let case = proven(&both);
    assert!(is_ready(&case, &both[..2]) && is_ready(&case, &[both[0].clone(), both[2].clone()]));
}

#[test]
fn the_places_of_a_certificate_under_another_port_are_no_removal_of_their_own() {
    let mirror = |endpoint: &str| file(&format!("mirrors:\n  r:\n    endpoint: [\"{endpoint}\"]\n"));
    let case = proven(&[mirror("https://r:443"), ca("a", CERTIFICATE, "r")]);
    assert_eq!(case.known_tls.keys().collect::<Vec<_>>(), ["r/ca.crt"]);
    assert!(is_ready(&case, &[mirror("https://r"), ca("a", CERTIFICATE, "r")]));
    assert!(
        is_ready(&case, &[mirror("https://r"), ca("a", CERTIFICATE, "r:443")]),
        "the same place, written otherwise"
    );
}

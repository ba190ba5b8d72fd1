use super::*;
use crate::registries::on_disk::{self, OnDisk};
use crate::runtime::settings::{EmbeddedRegistry, Program};

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const CANARY: &str = "canary-hunter2";

fn flags() -> Settings {
    Settings::plain(Program::K3s)
}

fn disabled() -> Settings {
    Settings { disable_default_endpoint: true, ..flags() }
}

fn made(image: &str, text: &str, settings: &Settings) -> Explanation {
    let OnDisk::Read(document) = on_disk::read(text.as_bytes()) else { panic!("{text}") };
    explain(&Reference::parse(image).unwrap(), &document.registries, settings)
}

/// The whole of it in lines.
fn told(image: &str, text: &str, settings: &Settings) -> Vec<String> {
    let Explanation { entry, asked, untried, unsent, notes } = made(image, text, settings);
    let mut lines = vec![entry.map_or("no entry".to_owned(), |entry| entry.to_string())];
    for Asked { urls, is_default, rewriting, tls, login } in asked {
        let default = if is_default { "default " } else { "" };
        let rules: Vec<_> = rewriting.changes.iter().map(|change| change.pattern.as_str()).collect();
        let under = login.under().map_or_else(String::new, |under| format!(" of {under}"));
        let rules = if rules.is_empty() { String::new() } else { format!(" by {}", rules.join(" or ")) };
        lines.push(format!("{default}{}{rules} | {tls} | {login}{under}", urls.join(" or ")));
    }
    lines.extend(untried.map(|url| format!("not {url}")));
    lines.extend(unsent.into_iter().map(|host| format!("unsent {host}")));
    lines.extend(notes.into_iter().map(|note| format!("note {note}")));
    lines
}

#[test]
fn a_registry_with_settings_alone_is_asked_itself_with_them() {
    let text = "configs: {registry.bto.bar: {tls: {insecure_skip_verify: true}, auth: {username: u, password: p}}}";
    assert_eq!(
        told("registry.bto.bar/apps/web:v1", text, &flags()),
        [
            "configs.\"registry.bto.bar\"",
            "default https://registry.bto.bar/v2/apps/web/manifests/v1 | https, no certificate is verified \
             (insecure_skip_verify) | user name and password of registry.bto.bar",
        ]
    );
    assert_eq!(
        told("ghcr.io/jaybrto/web", text, &flags()),
        [
            "no entry",
            "default https://ghcr.io/v2/jaybrto/web/manifests/latest | https, verified by the system's roots | \
             anonymous: no credential for this host and port"
        ]
    );
}

const NAMES_KEPT: &str = "
mirrors: {ghcr.io: {endpoint: ['https://registry.bto.bar'], rewrite: {'^jaybrto/(.*)': 'apps/$1'}}}
configs: {registry.bto.bar: {tls: {insecure_skip_verify: true}, auth: {username: u, password: p}}}";

#[test]
fn a_rewrite_changes_the_path_at_the_mirror_and_never_at_the_default_endpoint() {
    let mirror = |url: &str| {
        format!(
            "{url} | https, no certificate is verified (insecure_skip_verify) | user name and password of registry.bto.bar"
        )
    };
    let default = |path: &str| {
        format!(
            "default https://ghcr.io/v2/{path} | https, verified by the system's roots | anonymous: no credential for this \
             host and port"
        )
    };
    let note = "note no rewrite rule is applied to the default endpoint";
    assert_eq!(
        told("ghcr.io/jaybrto/app:v1", NAMES_KEPT, &flags()),
        [
            "mirrors.\"ghcr.io\"",
            &mirror("https://registry.bto.bar/v2/apps/app/manifests/v1?ns=ghcr.io by ^jaybrto/(.*)"),
            &default("jaybrto/app/manifests/v1"),
            note,
        ]
    );
    let digest = format!("ghcr.io/other/app:v1@{DIGEST}");
    assert_eq!(
        told(&digest, NAMES_KEPT, &flags())[1..3],
        [
            mirror(&format!("https://registry.bto.bar/v2/other/app/manifests/{DIGEST}?ns=ghcr.io")),
            default(&format!("other/app/manifests/{DIGEST}")),
        ]
    );
}

#[test]
fn a_disabled_default_endpoint_is_named_and_not_asked_unless_something_keeps_it() {
    let said = made("ghcr.io/jaybrto/app:v1", NAMES_KEPT, &disabled());
    assert_eq!((said.asked.len(), said.asked[0].is_default, said.notes), (1, false, vec![]));
    assert_eq!(said.untried.as_deref(), Some("https://ghcr.io/v2/jaybrto/app/manifests/v1"));
    let kept = made("nginx", "{mirrors: {docker.io: {endpoint: [m]}}, configs: {docker.io: {}}}", &disabled());
    assert_eq!((kept.asked.len(), kept.asked[1].is_default, kept.untried), (2, true, None));
    assert!(
        kept.notes[0].contains("an entry under `configs` for the registry's own name keeps it"),
        "{:?}",
        kept.notes
    );
    let alone = made("quay.io/x", NAMES_KEPT, &disabled());
    assert!(alone.notes[0].contains("works on mirrors alone"), "{:?}", alone.notes);
}

#[test]
fn docker_hub_has_a_short_name_another_host_and_three_names_for_its_credential() {
    let text = "
mirrors: {docker.io: {endpoint: ['http://m.example.com:5000/hub/v2']}}
configs: {docker.io: {auth: {auth: dTpw}}, index.docker.io: {auth: {identity_token: t}}}";
    assert_eq!(
        told("nginx", text, &flags()),
        [
            "mirrors.\"docker.io\"",
            "http://m.example.com:5000/hub/v2/library/nginx/manifests/latest?ns=docker.io | none: http, in clear | \
             anonymous: no credential for this host and port",
            "default https://registry-1.docker.io/v2/library/nginx/manifests/latest | https, verified by the system's \
             roots | user name and password of docker.io",
            "unsent index.docker.io",
        ]
    );
}

#[test]
fn the_wildcard_is_for_whom_nothing_else_is_written() {
    let text = "
mirrors: {'*': {endpoint: ['https://m']}}
configs: {m: {tls: {ca_file: /ca.crt, cert_file: /c.crt, key_file: /c.key}}, r: {auth: {username: u}}, '*': {auth: {auth: dTpw}}}";
    assert_eq!(
        told("quay.io/a/b:1", text, &flags()),
        [
            "mirrors.\"*\"",
            "https://m/v2/a/b/manifests/1?ns=quay.io | https, verified by the system's roots and /ca.crt, client \
             certificate /c.crt with key /c.key | anonymous: no credential for this host and port",
            "default https://quay.io/v2/a/b/manifests/1 | https, verified by the system's roots | anonymous: no \
             credential for this host and port",
            "unsent *",
        ]
    );
    let said = made("quay.io/a/b:1", text, &disabled());
    assert_eq!((said.asked.len(), said.untried.as_deref()), (1, Some("https://quay.io/v2/a/b/manifests/1")));
    let said = made("r.example.com/x", &text.replace("r: {", "r.example.com: {"), &flags());
    assert_eq!((said.asked.len(), &said.asked[0].login), (1, &Login::Incomplete("r.example.com".to_owned())));
    assert_eq!(
        said.notes,
        ["mirrors.\"*\" does not apply: configs.\"r.example.com\" makes k3s write a file for this registry alone"]
    );
}

#[test]
fn a_port_is_part_of_the_host_and_a_credential_under_another_one_is_named() {
    let text = "
mirrors: {'localhost:5000': {endpoint: ['https://r.example.com:8443']}}
configs: {r.example.com: {auth: {username: u, password: p}}, o.example.com: {auth: {username: u, password: p}}}";
    assert_eq!(
        told("localhost:5000/x:1", text, &flags()),
        [
            "mirrors.\"localhost:5000\"",
            "https://r.example.com:8443/v2/x/manifests/1?ns=localhost%3A5000 | https, verified by the system's roots | \
             anonymous: no credential for this host and port",
            "default http://localhost:5000/v2/x/manifests/1 | none: http, in clear | anonymous: no credential for this \
             host and port",
            "unsent r.example.com",
        ]
    );
    // Of a registry that nobody names containerd itself tries https first.
    let said = made("localhost:5001/x:1", text, &flags());
    let Asked { urls, tls, .. } = &said.asked[0];
    assert_eq!(
        (urls[0].as_str(), tls.transport),
        ("https://localhost:5001/v2/x/manifests/1", Transport::HttpsThenHttp)
    );
    // What k3s never writes, but an entry may be called so.
    let said = made("r:5000/x", "mirrors: {'r_5000_': {endpoint: [a]}, 'r:5000': {endpoint: [b]}}", &flags());
    assert_eq!(said.asked[0].urls, ["https://a/v2/x/manifests/latest?ns=r%3A5000"]);
}

#[test]
fn what_has_no_effect_is_said() {
    let text = "mirrors: {r.example.com: {endpoint: [m, 'https://m/', '%zz']}, e.example.com: {rewrite: {a: b}}}";
    let said = made("r.example.com/x", text, &flags());
    assert_eq!(said.asked.len(), 2);
    assert_eq!(
        said.notes,
        [
            "mirrors.\"r.example.com\".endpoint[1] has no effect: the same URL stands before it",
            "mirrors.\"r.example.com\".endpoint[2] has no effect: not a URL: a % in the URL that begins no valid escape"
        ]
    );
    let said = made("e.example.com/x", text, &flags());
    assert_eq!((said.entry, said.asked.len()), (None, 1));
    assert_eq!(said.notes, ["mirrors.\"e.example.com\" has no effect: nothing is written for this host"]);
}

#[test]
fn rules_that_both_match_give_two_urls_and_a_broken_file_leaves_the_registry_alone() {
    let both = "mirrors: {r.example.com: {endpoint: [m], rewrite: {'^a/': x/, '^': y/, '(': z}}}";
    let said = made("r.example.com/a/b:1", both, &disabled());
    let ns = "?ns=r.example.com";
    assert_eq!(
        said.asked[0].urls,
        [format!("https://m/v2/x/b/manifests/1{ns}"), format!("https://m/v2/y/a/b/manifests/1{ns}")]
    );
    assert_eq!(
        said.notes,
        [
            "the rewrite rule `(`: containerd passes it over: a ( is not closed",
            "several rewrite rules match, and containerd takes another one at each request"
        ]
    );
    let broken = "mirrors: {r.example.com: {endpoint: [m], rewrite: {'^a\\.b': x}}}";
    let said = made("r.example.com/a/b:1", broken, &disabled());
    assert_eq!((said.asked.len(), said.asked[0].urls[0].as_str()), (1, "https://r.example.com/v2/a/b/manifests/1"));
    assert!(said.notes[0].starts_with("containerd drops the hosts.toml"), "{:?}", said.notes);
}

#[test]
fn nothing_is_said_where_k3s_throws_dice() {
    let text = "mirrors: {'*': {endpoint: [a]}, _default: {endpoint: [b]}}";
    let said = made("r.example.com/x", text, &flags());
    assert_eq!((said.asked, said.notes), (vec![], vec![words::RANDOM.to_owned()]));
}

#[test]
fn the_embedded_registry_is_asked_first_and_without_rewrites() {
    let embedded = Some(EmbeddedRegistry { mirror_addr: "127.0.0.1:6443".to_owned() });
    let said = made("ghcr.io/jaybrto/app:v1", NAMES_KEPT, &Settings { embedded, ..flags() });
    assert_eq!(said.asked.len(), 3);
    let Asked { urls, tls, .. } = &said.asked[0];
    assert_eq!(urls, &["https://127.0.0.1:6443/v2/jaybrto/app/manifests/v1?ns=ghcr.io"]);
    assert_eq!((tls.ca.len(), tls.client.len()), (1, 1));
}

#[test]
fn a_client_certificate_without_its_key_fails_and_an_undecodable_credential_too() {
    let text = "configs: {r.example.com: {tls: {cert_file: /c}, auth: {auth: '%'}}}";
    let said = made("r.example.com/x", text, &flags());
    assert!(said.notes[0].contains("every pull of this registry fails"), "{:?}", said.notes);
    assert_eq!(said.asked[0].login, Login::Undecodable("r.example.com".to_owned()));
}

#[test]
fn neither_password_nor_user_part_is_in_an_explanation() {
    let text = format!(
        "mirrors: {{r.example.com: {{endpoint: ['https://{CANARY}:{CANARY}@m', '{CANARY}@%zz']}}}}\n\
         configs: {{m: {{auth: {{username: {CANARY}, password: {CANARY}}}}}, '{CANARY}@r.example.com': {{auth: {{}}}}}}"
    );
    let said = made("r.example.com/x", &text, &flags());
    assert_eq!(said.asked[0].urls, ["https://m/v2/x/manifests/latest?ns=r.example.com"]);
    let lines = told("r.example.com/x", &text, &flags()).join("\n");
    assert!(!format!("{said:?} {lines}").contains(CANARY), "{lines}");
    let Login::Password { user, .. } = &said.asked[0].login else { panic!("{lines}") };
    assert!(user.satisfies(|user| user == CANARY));
}

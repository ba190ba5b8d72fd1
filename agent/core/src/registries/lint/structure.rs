//! What k3s reads in silence and does not use: unknown and doubled keys, empty and misplaced sections.

use super::Findings;
use super::rules;
use super::view::View;
use super::view::shown;
use crate::registries::document::KeyPath;
use crate::registries::document::Note;
use crate::registries::document::NoteKind;

/// The sections of the file. As a key of `mirrors` each is one that slipped to the right.
pub(super) const SECTIONS: [&str; 3] = ["mirrors", "configs", "auths"];
/// Flags of k3s that people write into this file.
const FLAGS: [&str; 6] = [
    "disable-default-registry-endpoint",
    "embedded-registry",
    "system-default-registry",
    "private-registry",
    "node-label",
    "debug",
];

pub(super) fn check(view: &View<'_>, out: &mut Findings<'_>) {
    check_notes(&view.document.notes, out);
    for section in ["mirrors", "configs"] {
        let is_empty = match section {
            "mirrors" => view.registries.mirrors.is_empty(),
            _ => view.registries.configs.is_empty(),
        };
        let path = KeyPath::of([section]);
        if is_empty && view.document.marks.contains_key(&path) {
            let hint = "the section holds no host, so it has no effect; what belongs under it must be indented by two \
                        spaces more than it";
            out.add(rules::EMPTY_SECTION, path, hint);
        }
    }
    for section in SECTIONS.into_iter().filter(|section| view.registries.mirrors.contains_key(*section)) {
        let message = format!(
            "`{section}` stands under `mirrors:`, so k3s takes it for a registry of that name and uses nothing of what \
             is under it; move it to the left margin"
        );
        out.add(rules::SECTION_UNDER_MIRRORS, KeyPath::of(["mirrors", section]), message);
    }
}

/// What the reader passed over.
pub(super) fn check_notes(notes: &[Note], out: &mut Findings<'_>) {
    for note in notes {
        let Note { kind, path, at: _ } = note;
        let (rule, message) = match kind {
            NoteKind::UnknownKey { nearest } => {
                let Some(message) = unknown_key(path, *nearest) else { continue };
                (rules::UNKNOWN_KEY, message)
            }
            NoteKind::DoubledKey => (
                rules::DOUBLED_KEY,
                "this key stands twice: k3s merges maps and otherwise takes the later value, without a word; keep one"
                    .to_owned(),
            ),
            NoteKind::ExtraDocument => (
                rules::EXTRA_DOCUMENT,
                "k3s reads the first YAML document only; all after this `---` is ignored: put it above, in one document"
                    .to_owned(),
            ),
            NoteKind::UnusedAuths => (
                rules::UNUSED_AUTHS,
                "k3s reads top-level `auths` and uses it for nothing; credentials belong under `configs.HOST.auth`"
                    .to_owned(),
            ),
            NoteKind::OldBoolean => (
                rules::OLD_BOOLEAN,
                "k3s takes this word for a boolean, newer YAML readers take it for text; write `true` or `false`"
                    .to_owned(),
            ),
        };
        out.add_at(rule, path.clone(), note.at, message);
    }
}

/// `None` where there is nothing to say, or another rule says it.
fn unknown_key(path: &KeyPath, nearest: Option<&'static str>) -> Option<String> {
    let remedy = match path.keys() {
        [key] => top_level(key, nearest)?,
        [section, host, _] if section == "mirrors" && SECTIONS.contains(&host.as_str()) => return None,
        [.., key] if path.keys().len() == 3 => {
            let (here, there) = match path.keys()[0].as_str() {
                "mirrors" => (MIRROR_REMEDIES, "write it under `configs.HOST`"),
                _ => (CONFIG_REMEDIES, "write it under `mirrors.HOST`"),
            };
            remedy(here, key, nearest).unwrap_or_else(|| {
                let is_elsewhere = ["auth", "tls", "endpoint", "rewrite"].contains(&key.as_str());
                if is_elsewhere { there.to_owned() } else { "leave it out".to_owned() }
            })
        }
        [.., block, key] => {
            let remedies = if block == "tls" { TLS_REMEDIES } else { AUTH_REMEDIES };
            remedy(remedies, key, nearest).unwrap_or_else(|| "leave it out".to_owned())
        }
        [] => "leave it out".to_owned(),
    };
    Some(format!("k3s does not know this key and ignores it with all that is under it; {remedy}"))
}

fn top_level(key: &str, nearest: Option<&'static str>) -> Option<String> {
    // The customary place for YAML anchors.
    if key.starts_with("x-") || key.starts_with('.') {
        return None;
    }
    Some(if FLAGS.contains(&key) {
        "it is a flag: write it into config.yaml of k3s or RKE2 (/etc/rancher/k3s/config.yaml), or on the command line"
            .to_owned()
    } else if let Some(known) = nearest {
        format!("write `{known}`")
    } else if key == "auth" || key == "tls" {
        "write it under `configs.HOST`".to_owned()
    } else if key == "endpoint" || key == "rewrite" {
        "write it under `mirrors.HOST`".to_owned()
    } else if key == "*" || key.contains(['.', ':']) || key == "localhost" {
        format!(
            "{} looks like a registry: indent it, with all that is under it, below a line `mirrors:` (or `configs:`)",
            shown(key)
        )
    } else {
        "only `mirrors` and `configs` are used".to_owned()
    })
}

type Remedies = &'static [(&'static [&'static str], &'static str)];

/// What the look-alikes should be. Matched without regard to case, `_` and `-`.
const MIRROR_REMEDIES: Remedies = &[
    (&["endpoints", "url", "urls", "mirror", "mirrors"], "write `endpoint`, a list"),
    (&["rewrites"], "write `rewrite`"),
    (
        &["server", "capabilities", "overridepath", "header", "host", "client", "ca", "skipverify", "dialtimeout"],
        "it is a key of containerd's hosts.toml, which k3s writes by itself from `endpoint`, `rewrite` and \
         `configs.HOST.tls`",
    ),
    (
        &["insecureskipverify", "insecure", "cafile"],
        "write `insecure_skip_verify` or `ca_file` under `configs.HOST.tls`",
    ),
    (&["username", "password"], "write it under `configs.HOST.auth`"),
];
const CONFIG_REMEDIES: Remedies = &[
    (&["username", "password", "identitytoken", "token"], "write it under `auth:` of this entry"),
    (
        &["insecureskipverify", "insecure", "skipverify", "cafile", "certfile", "keyfile", "ca", "cert", "key"],
        "write `insecure_skip_verify`, `ca_file`, `cert_file` or `key_file` under `tls:` of this entry",
    ),
];
const AUTH_REMEDIES: Remedies = &[
    (&["identitytoken"], "write `identity_token`"),
    (
        &["token", "registrytoken", "accesstoken", "bearer"],
        "write an access token as `password` beside a `username`, or a refresh token as `identity_token`",
    ),
    (&["user", "login", "name"], "write `username`"),
    (&["pass", "passwd", "secret"], "write `password`"),
];
const TLS_REMEDIES: Remedies = &[
    (&["insecure", "skipverify", "skiptlsverify", "insecureskiptlsverify", "verify"], "write `insecure_skip_verify`"),
    (&["ca", "cafile", "cacert", "cacertfile", "cabundle"], "write `ca_file`"),
    (&["cert", "certfile", "clientcert", "certificate"], "write `cert_file`"),
    (&["key", "keyfile", "clientkey"], "write `key_file`"),
];

fn remedy(remedies: Remedies, key: &str, nearest: Option<&'static str>) -> Option<String> {
    let letters: String = key.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect();
    remedies
        .iter()
        .find(|(words, _)| words.contains(&letters.as_str()))
        .map(|(_, remedy)| (*remedy).to_owned())
        .or_else(|| nearest.map(|known| format!("write `{known}`")))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::Case;
    use super::super::tests::file;
    use super::super::tests::run;
    use super::*;

    pub(crate) fn cases() -> Vec<Case> {
        let good = || file().mirror("docker.io", &["https://m.example.com"]);
        vec![
            (rules::UNKNOWN_KEY, good().unknown(&["mirrros"], Some("mirrors")), good().unknown(&["x-tls"], None)),
            (
                rules::DOUBLED_KEY,
                good().note(NoteKind::DoubledKey, &["mirrors"]),
                good().note(NoteKind::ExtraDocument, &[]),
            ),
            (rules::EXTRA_DOCUMENT, good().note(NoteKind::ExtraDocument, &[]), good()),
            (rules::UNUSED_AUTHS, good().note(NoteKind::UnusedAuths, &["auths"]), good()),
            (
                rules::OLD_BOOLEAN,
                good().note(NoteKind::OldBoolean, &["configs", "h", "tls", "insecure_skip_verify"]),
                good(),
            ),
            (rules::EMPTY_SECTION, file().mark(&["mirrors"], 1), good().mark(&["mirrors"], 1)),
            (
                rules::SECTION_UNDER_MIRRORS,
                file().mirror("configs", &[]),
                file().mirror("configs.example.com", &["https://m.example.com"]),
            ),
        ]
    }

    #[test]
    fn each_rule_names_its_mistake_and_not_its_near_miss() {
        run(&cases());
    }

    #[test]
    fn the_remedy_is_the_right_name_in_the_right_place() {
        for (keys, nearest, remedy) in [
            (&["mirrros"][..], Some("mirrors"), "write `mirrors`"),
            (&["disable-default-registry-endpoint"], None, "/etc/rancher/k3s/config.yaml"),
            (&["localhost:5050"], None, "below a line `mirrors:`"),
            (&["harbor.example.edu"], None, "below a line `mirrors:`"),
            (&["something"], None, "only `mirrors` and `configs`"),
            (&["mirrors", "docker.io", "endpoints"], Some("endpoint"), "write `endpoint`"),
            (&["mirrors", "docker.io", "endpoint\""], Some("endpoint"), "write `endpoint`"),
            (&["mirrors", "docker.io", "override_path"], None, "hosts.toml"),
            (&["mirrors", "docker.io", "tls"], None, "`configs.HOST`"),
            (&["configs", "h", "endpoint"], None, "`mirrors.HOST`"),
            (&["configs", "h", "username"], None, "under `auth:`"),
            (&["configs", "h", "auth", "token"], None, "`identity_token`"),
            (&["configs", "h", "auth", "identityToken"], None, "write `identity_token`"),
            (&["configs", "h", "tls", "insecure"], None, "write `insecure_skip_verify`"),
            (&["configs", "h", "tls", "caFile"], None, "write `ca_file`"),
            (&["configs", "h", "tls", "colour"], None, "leave it out"),
        ] {
            let message = file().unknown(keys, nearest).message(rules::UNKNOWN_KEY);
            assert!(message.contains(remedy), "{keys:?}: {message}");
        }
    }

    #[test]
    fn keys_under_a_misplaced_section_are_not_named_one_by_one() {
        let file = file().mirror("configs", &[]).unknown(&["mirrors", "configs", "r.example.com"], None);
        let found: Vec<_> = file.lint().into_iter().map(|finding| finding.rule).collect();
        assert_eq!(found, ["section-under-mirrors"]);
    }
}

//! Texts longer than k3s can carry.

use super::Findings;
use super::rules;
use super::view::View;
use crate::registries::document::KeyPath;
use crate::registries::model::Auth;
use crate::registries::model::HostConfig;
use crate::registries::model::Mirror;
use crate::registries::model::Tls;

/// The YAML reader of k3s: a key in quotes with its escapes.
const LONGEST_KEY: usize = 1024;
/// The file system: the directory of a host is named by its key.
const LONGEST_NAME: usize = 255;
/// k3s reads its own template line by line with this buffer, and does not start with a longer line.
const LONGEST_LINE: usize = 64 * 1024;
/// What k3s writes around a text in one line, generously.
const FRAME: usize = 64;

pub(super) fn check(view: &View<'_>, out: &mut Findings<'_>) {
    let registries = view.registries;
    let sections =
        [("mirrors", registries.mirrors.keys().collect::<Vec<_>>()), ("configs", registries.configs.keys().collect())];
    for (section, keys) in sections {
        for key in keys {
            if key.len() > LONGEST_NAME {
                let message = format!(
                    "the key is {} bytes long; k3s makes a directory of that name, which may have {LONGEST_NAME}, and \
                     does not start; no registry's name is that long",
                    key.len()
                );
                out.add(rules::KEY_TOO_LONG, KeyPath::of([section, key]), message);
            }
        }
    }
    // As k3s writes it: escapes make it longer.
    for endpoint in &view.endpoints {
        if let Some(address) = endpoint.address() {
            check_line(address.url.len(), endpoint.path(), out);
        }
    }
    for (host, Mirror { endpoints: _, rewrites }) in &registries.mirrors {
        let path = KeyPath::of(["mirrors", host]);
        for (pattern, replacement) in rewrites {
            let path = path.child("rewrite").child(pattern);
            let quoted = quoted_length(pattern);
            if quoted > LONGEST_KEY {
                let message = format!(
                    "the pattern takes {quoted} characters in quotes; a YAML key may have {LONGEST_KEY}, so k3s rejects \
                     the whole file; write several shorter patterns"
                );
                out.add(rules::KEY_TOO_LONG, path.clone(), message);
            }
            check_line(pattern.len() + replacement.len(), path, out);
        }
    }
    for (host, HostConfig { auth, tls }) in &registries.configs {
        let path = KeyPath::of(["configs", host]);
        if let Some(Auth { username, password, auth, identity_token }) = auth {
            let path = path.child("auth");
            for (field, value) in
                [("username", username), ("password", password), ("auth", auth), ("identity_token", identity_token)]
            {
                if value.satisfies(|text| is_too_long(go_quoted_length(text))) {
                    too_long(path.child(field), out);
                }
            }
        }
        if let Some(Tls { ca_file, cert_file, key_file, insecure_skip_verify: _ }) = tls {
            check_line(go_quoted_length(ca_file), path.child("tls").child("ca_file"), out);
            check_line(
                go_quoted_length(cert_file) + go_quoted_length(key_file),
                path.child("tls").child("cert_file"),
                out,
            );
        }
    }
}

fn is_too_long(length: usize) -> bool {
    length + FRAME > LONGEST_LINE
}

fn check_line(length: usize, path: KeyPath, out: &mut Findings<'_>) {
    if is_too_long(length) {
        too_long(path, out);
    }
}

fn too_long(path: KeyPath, out: &mut Findings<'_>) {
    let message = "k3s writes this into one line of containerd's configuration, and does not start when a line is longer \
                   than 64 KiB; shorten it";
    out.add(rules::LINE_TOO_LONG, path, message);
}

/// The characters of the text in double quotes.
fn quoted_length(text: &str) -> usize {
    2 + text
        .chars()
        .map(|c| {
            if matches!(c, '"' | '\\') {
                2
            } else if c.is_control() {
                4
            } else {
                1
            }
        })
        .sum::<usize>()
}

/// The bytes of the text as Go's `%q` writes it, at most: what is not printable takes up to ten.
fn go_quoted_length(text: &str) -> usize {
    text.chars()
        .map(|c| match c {
            '"' | '\\' => 2,
            ' '..='~' => 1,
            c if c.is_alphanumeric() => c.len_utf8(),
            _ => 10,
        })
        .sum()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::Case;
    use super::super::tests::file;
    use super::super::tests::run;
    use super::*;

    pub(crate) fn cases() -> Vec<Case> {
        let password = |length: usize| {
            file().auth(
                "h.example.com",
                Auth { username: "u".into(), password: "p".repeat(length).as_str().into(), ..Auth::default() },
            )
        };
        let ends =
            |length: usize| file().mirror("docker.io", &[&format!("https://m.example.com/v2/{}", "p".repeat(length))]);
        let pattern = |length: usize| {
            file().mirror("docker.io", &["https://m.example.com"]).rewrite("docker.io", &"p".repeat(length), "q")
        };
        let host = |length: usize| file().mirror(&"h.".repeat(length / 2), &["https://m.example.com"]);
        vec![
            (rules::LINE_TOO_LONG, password(65_536), password(65_000)),
            (rules::LINE_TOO_LONG, ends(65_536), ends(65_000)),
            (rules::KEY_TOO_LONG, pattern(1023), pattern(1022)),
            (rules::KEY_TOO_LONG, host(256), host(254)),
        ]
    }

    #[test]
    fn each_rule_names_its_mistake_and_not_its_near_miss() {
        run(&cases());
    }

    #[test]
    fn escapes_count_as_they_are_written() {
        assert_eq!(quoted_length("a\"\\\u{1}é"), 2 + 1 + 2 + 2 + 4 + 1);
        assert_eq!(go_quoted_length("a\"é\u{200b}"), 1 + 2 + 2 + 10);
    }
}

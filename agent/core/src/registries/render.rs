//! The bytes of `registries.yaml`: our own emitter, so that no upgrade of a library rewrites the file of every node.

use std::fmt::Write;

use super::document::without_user_part;
use super::model::{Auth, HostConfig, Mirror, Registries, Tls};
use crate::secret::Secret;

/// Stands at the top of every file we write.
const HEADER: &str = "\
# Managed by k3s-registry-agent: made from the ConfigMap \"registries\" and its Secrets, edits here are undone.
# To stop it on a node: kubectl label node NODE k3s-registry-agent/exclude=true
# To get the file back that was here before it: k3s-registry-agent restore
";

/// YAML readers take no longer simple key (1024 characters); beyond this the key is written in the explicit form.
const LONGEST_SIMPLE_KEY: usize = 1000;

/// Renders the file: the same model always gives the same bytes, read alike by YAML 1.1 and 1.2.
pub fn render(registries: &Registries) -> Secret<Vec<u8>> {
    let mut out = Emitter { text: HEADER.to_owned(), shows_secrets: true };
    out.registries(registries);
    Secret::new(out.text.into_bytes())
}

/// Renders the file for eyes: no header, credentials and user parts of URLs left out.
pub fn render_redacted(registries: &Registries) -> String {
    let mut out = Emitter { text: String::new(), shows_secrets: false };
    out.registries(registries);
    out.text
}

/// Renders the file without header, for a place that may hold what the model holds.
pub(crate) fn render_body(registries: &Registries) -> Secret<String> {
    let mut out = Emitter { text: String::new(), shows_secrets: true };
    out.registries(registries);
    Secret::new(out.text)
}

/// A double-quoted YAML scalar that every YAML 1.1 and 1.2 reader takes for this very text.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        // Writing to a String cannot fail, so the results say nothing.
        let _ = match c {
            '"' => out.write_str("\\\""),
            '\\' => out.write_str("\\\\"),
            '\n' => out.write_str("\\n"),
            '\t' => out.write_str("\\t"),
            ' '..='~' => out.write_char(c),
            '\0'..='\u{ff}' => write!(out, "\\x{:02x}", u32::from(c)),
            '\u{100}'..='\u{ffff}' => write!(out, "\\u{:04x}", u32::from(c)),
            _ => write!(out, "\\U{:08x}", u32::from(c)),
        };
    }
    out.push('"');
    out
}

struct Emitter {
    text: String,
    shows_secrets: bool,
}

impl Emitter {
    fn registries(&mut self, registries: &Registries) {
        let Registries { mirrors, configs } = registries;
        if mirrors.is_empty() && configs.is_empty() {
            self.line(0, "{}");
            return;
        }
        if !mirrors.is_empty() {
            self.line(0, "mirrors:");
            for (host, mirror) in mirrors {
                self.mirror(host, mirror);
            }
        }
        if !configs.is_empty() {
            self.line(0, "configs:");
            for (host, config) in configs {
                self.config(host, config);
            }
        }
    }

    fn mirror(&mut self, host: &str, Mirror { endpoints, rewrites }: &Mirror) {
        if endpoints.is_empty() && rewrites.is_empty() {
            self.key(1, &self.public(host), Some("{}"));
            return;
        }
        self.key(1, &self.public(host), None);
        if !endpoints.is_empty() {
            self.line(2, "endpoint:");
            for endpoint in endpoints {
                let endpoint = self.public(endpoint);
                self.line(3, &format!("- {endpoint}"));
            }
        }
        if !rewrites.is_empty() {
            self.line(2, "rewrite:");
            for (pattern, replacement) in rewrites {
                self.key(3, &quoted(pattern), Some(&quoted(replacement)));
            }
        }
    }

    fn config(&mut self, host: &str, HostConfig { auth, tls }: &HostConfig) {
        if auth.is_none() && tls.is_none() {
            self.key(1, &self.public(host), Some("{}"));
            return;
        }
        self.key(1, &self.public(host), None);
        if let Some(auth) = auth {
            self.auth(auth);
        }
        if let Some(tls) = tls {
            self.tls(tls);
        }
    }

    fn auth(&mut self, auth: &Auth) {
        if auth.is_empty() {
            self.line(2, "auth: {}");
            return;
        }
        let Auth { username, password, auth, identity_token } = auth;
        self.line(2, "auth:");
        for (key, value) in
            [("username", username), ("password", password), ("auth", auth), ("identity_token", identity_token)]
        {
            if !value.is_empty() {
                let value = if self.shows_secrets { quoted(value.expose()) } else { "<redacted>".to_owned() };
                self.line(3, &format!("{key}: {value}"));
            }
        }
    }

    fn tls(&mut self, tls: &Tls) {
        if *tls == Tls::default() {
            self.line(2, "tls: {}");
            return;
        }
        let Tls { ca_file, cert_file, key_file, insecure_skip_verify } = tls;
        self.line(2, "tls:");
        for (key, path) in [("ca_file", ca_file), ("cert_file", cert_file), ("key_file", key_file)] {
            if !path.is_empty() {
                self.line(3, &format!("{key}: {}", quoted(path)));
            }
        }
        if *insecure_skip_verify {
            self.line(3, "insecure_skip_verify: true");
        }
    }

    /// A quoted key of the model with its value behind it, or with a mapping to follow two steps deeper.
    fn key(&mut self, depth: usize, key: &str, value: Option<&str>) {
        if key.len() > LONGEST_SIMPLE_KEY {
            self.line(depth, &format!("? {key}"));
            self.line(depth, &value.map_or_else(|| ":".to_owned(), |value| format!(": {value}")));
        } else {
            self.line(depth, &value.map_or_else(|| format!("{key}:"), |value| format!("{key}: {value}")));
        }
    }

    /// Quotes a host or URL: for eyes without the user part, where some people write a password.
    fn public(&self, text: &str) -> String {
        if self.shows_secrets { quoted(text) } else { quoted(&without_user_part(text)).replace("\\u2026", "…") }
    }

    fn line(&mut self, depth: usize, text: &str) {
        for _ in 0..depth {
            self.text.push_str("  ");
        }
        self.text.push_str(text);
        self.text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::registries::on_disk::{self, OnDisk};
    use crate::registries::strict;
    use crate::registries::testing::{self, auth, registries};
    use proptest::prelude::*;

    fn read(text: &str) -> Registries {
        testing::read(text).expect("our own text is read")
    }

    fn text(registries: &Registries) -> String {
        String::from_utf8(render(registries).expose().clone()).expect("ASCII")
    }

    fn full() -> Registries {
        let tls = Tls { ca_file: "/etc/ssl/ca.pem".into(), insecure_skip_verify: true, ..Tls::default() };
        Registries {
            mirrors: BTreeMap::from([
                ("*".into(), Mirror { endpoints: vec!["https://m.example.com/v2".into()], ..Mirror::default() }),
                ("empty.example.com".into(), Mirror::default()),
                (
                    "docker.io".into(),
                    Mirror {
                        endpoints: vec!["http://10.77.0.1:5001".into(), "https://user:canary@m.example.com".into()],
                        rewrites: BTreeMap::from([("^a[.]b/(.*)\"\\".into(), "x/$1 é\u{1f600}".into())]),
                    },
                ),
            ]),
            configs: BTreeMap::from([
                ("5000".into(), HostConfig::default()),
                ("e.example.com".into(), HostConfig { auth: Some(Auth::default()), tls: Some(Tls::default()) }),
                ("m.example.com".into(), HostConfig { auth: Some(auth("yes", "canary\n\t\u{1}: #")), tls: Some(tls) }),
                (
                    "t.example.com".into(),
                    HostConfig {
                        auth: Some(Auth { identity_token: "canary".into(), auth: "canary".into(), ..Auth::default() }),
                        tls: None,
                    },
                ),
            ]),
        }
    }

    #[test]
    fn the_golden_file_is_written_to_the_byte() {
        assert_eq!(text(&full()), include_str!("../../tests/golden/render/full.yaml"));
        assert_eq!(read(&text(&full())), full());
    }

    #[test]
    fn an_empty_model_is_an_empty_mapping_and_not_an_empty_file() {
        assert_eq!(text(&Registries::default()), include_str!("../../tests/golden/render/empty.yaml"));
        assert_eq!(read(&text(&Registries::default())), Registries::default());
    }

    #[test]
    fn the_redacted_text_shows_everything_but_credentials() {
        let shown = render_redacted(&full());
        assert_eq!(shown, include_str!("../../tests/golden/render/redacted.txt"));
        assert!(!shown.contains("canary"));
    }

    #[test]
    fn a_key_longer_than_yaml_allows_is_still_read_back() {
        let host = "h".repeat(5000);
        let mirror = Mirror { endpoints: vec!["e".into()], rewrites: BTreeMap::from([(host.clone(), "r".into())]) };
        let registries = Registries { mirrors: BTreeMap::from([(host, mirror)]), ..Registries::default() };
        assert_eq!(read(&text(&registries)), registries);
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(registries in registries()) {
            let text = text(&registries);
            prop_assert!(text.bytes().all(|b| b == b'\n' || (0x20..0x7f).contains(&b)));
            prop_assert_eq!(&read(&text), &registries);
            let strictly = strict::parse(&text).map(|document| document.registries);
            prop_assert_eq!(strictly.as_ref(), Ok(&registries));
            match on_disk::read(text.as_bytes()) {
                OnDisk::Read(document) => {
                    prop_assert_eq!(document.registries, registries);
                    prop_assert_eq!(document.notes, vec![]);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}

//! What differs between two files, field by field, for people: no credential and no user part of a URL is shown.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::document::KeyPath;
use super::document::without_user_part;
use super::model::Auth;
use super::model::HostConfig;
use super::model::Mirror;
use super::model::Registries;
use super::model::Tls;
use crate::secret::Secret;

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The key, as it is printed: `mirrors."docker.io".endpoint`.
    pub path: String,
    /// What became of it.
    #[serde(flatten)]
    pub kind: ChangeKind,
}

/// What became of a field. A credential has no value here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "lowercase")]
pub enum ChangeKind {
    /// It is new.
    Added {
        /// Its value.
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<String>,
    },
    /// It is gone.
    Removed {
        /// Its value.
        #[serde(skip_serializing_if = "Option::is_none")]
        before: Option<String>,
    },
    /// It has another value.
    Changed {
        /// The value before.
        #[serde(skip_serializing_if = "Option::is_none")]
        before: Option<String>,
        /// The value after.
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<String>,
    },
}

/// `+ configs."r.example.com".auth.password`, `~ mirrors."docker.io".endpoint: ["https://a"] -> ["https://b"]`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, kind } = self;
        match kind {
            ChangeKind::Added { after: Some(value) } => write!(f, "+ {path}: {value}"),
            ChangeKind::Added { after: None } => write!(f, "+ {path}"),
            ChangeKind::Removed { before: Some(value) } => write!(f, "- {path}: {value}"),
            ChangeKind::Removed { before: None } => write!(f, "- {path}"),
            ChangeKind::Changed { before: Some(before), after: Some(after) } => {
                write!(f, "~ {path}: {before} -> {after}")
            }
            ChangeKind::Changed { .. } => write!(f, "~ {path}: changed"),
        }
    }
}

/// A field's value: one that may be shown, or a credential, which is only compared.
#[derive(Clone, PartialEq, Eq)]
enum Value<'r> {
    Shown(String),
    /// Shown without the user parts of URLs, compared with them.
    Hiding(String, Vec<&'r str>),
    Credential(&'r Secret<String>),
}

impl Value<'_> {
    fn shown(&self) -> Option<String> {
        match self {
            Self::Shown(text) | Self::Hiding(text, _) => Some(text.clone()),
            Self::Credential(_) => None,
        }
    }
}

/// What differs, in the order of the keys: first `mirrors`, then `configs`.
pub fn changes(before: &Registries, after: &Registries) -> Vec<Change> {
    let (old, new) = (fields(before), fields(after));
    let paths: BTreeSet<&Key> = old.keys().chain(new.keys()).collect();
    let mut all = Vec::new();
    for key in paths {
        let kind = match (old.get(key), new.get(key)) {
            (Some(old), Some(new)) if old == new => continue,
            // They differ in what is hidden.
            (Some(old), Some(new)) if old.shown() == new.shown() => ChangeKind::Changed { before: None, after: None },
            (Some(old), Some(new)) => ChangeKind::Changed { before: old.shown(), after: new.shown() },
            (None, Some(new)) => ChangeKind::Added { after: new.shown() },
            (Some(old), None) => ChangeKind::Removed { before: old.shown() },
            (None, None) => continue,
        };
        all.push(Change { path: key.1.to_string(), kind });
    }
    all
}

/// The part of the file, to sort by, and the path.
type Key = (u8, KeyPath);

/// Every field that is set, flat. A map that is there but empty is a field of its own: k3s acts on it.
fn fields(registries: &Registries) -> BTreeMap<Key, Value<'_>> {
    let Registries { mirrors, configs } = registries;
    let mut all = BTreeMap::new();
    for (host, Mirror { endpoints, rewrites }) in mirrors {
        let path = KeyPath::of(["mirrors", host]);
        if endpoints.is_empty() && rewrites.is_empty() {
            all.insert((0, path.clone()), Value::Shown("{}".to_owned()));
        }
        if !endpoints.is_empty() {
            let shown: Vec<_> = endpoints.iter().map(|url| without_user_part(url)).collect();
            let value = Value::Hiding(format!("{shown:?}"), endpoints.iter().map(String::as_str).collect());
            all.insert((0, path.child("endpoint")), value);
        }
        for (pattern, replacement) in rewrites {
            let value = Value::Shown(format!("{replacement:?}"));
            all.insert((0, path.child("rewrite").child(pattern)), value);
        }
    }
    for (host, HostConfig { auth, tls }) in configs {
        let path = KeyPath::of(["configs", host]);
        if auth.is_none() && tls.is_none() {
            all.insert((1, path.clone()), Value::Shown("{}".to_owned()));
        }
        if let Some(auth) = auth {
            auth_fields(&path.child("auth"), auth, &mut all);
        }
        if let Some(tls) = tls {
            tls_fields(&path.child("tls"), tls, &mut all);
        }
    }
    all
}

fn auth_fields<'r>(path: &KeyPath, auth: &'r Auth, all: &mut BTreeMap<Key, Value<'r>>) {
    if auth.is_empty() {
        all.insert((1, path.clone()), Value::Shown("{}".to_owned()));
    }
    let Auth { username, password, auth, identity_token } = auth;
    for (name, value) in
        [("username", username), ("password", password), ("auth", auth), ("identity_token", identity_token)]
    {
        if !value.is_empty() {
            all.insert((1, path.child(name)), Value::Credential(value));
        }
    }
}

fn tls_fields<'r>(path: &KeyPath, tls: &'r Tls, all: &mut BTreeMap<Key, Value<'r>>) {
    let Tls { ca_file, cert_file, key_file, insecure_skip_verify } = tls;
    if *tls == Tls::default() {
        all.insert((1, path.clone()), Value::Shown("{}".to_owned()));
    }
    for (name, file) in [("ca_file", ca_file), ("cert_file", cert_file), ("key_file", key_file)] {
        if !file.is_empty() {
            all.insert((1, path.child(name)), Value::Shown(format!("{file:?}")));
        }
    }
    if *insecure_skip_verify {
        all.insert((1, path.child("insecure_skip_verify")), Value::Shown("true".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(endpoints: &[&str], rewrites: &[(&str, &str)]) -> Mirror {
        let pair = |(pattern, replacement): &(&str, &str)| ((*pattern).to_owned(), (*replacement).to_owned());
        Mirror {
            endpoints: endpoints.iter().map(|url| (*url).to_owned()).collect(),
            rewrites: rewrites.iter().map(pair).collect(),
        }
    }

    fn config(password: &str) -> HostConfig {
        let auth = Auth { username: "canary-user".into(), password: password.into(), ..Auth::default() };
        HostConfig { auth: Some(auth), tls: Some(Tls { insecure_skip_verify: true, ..Tls::default() }) }
    }

    fn pair() -> (Registries, Registries) {
        let mut before = Registries::default();
        before.mirrors.insert("docker.io".to_owned(), mirror(&["https://u:canary-1@a"], &[("^x", "y")]));
        before.mirrors.insert("gone".to_owned(), mirror(&[], &[]));
        before.configs.insert("r.example.com".to_owned(), config("canary-2"));
        let mut after = Registries::default();
        after.mirrors.insert("docker.io".to_owned(), mirror(&["https://b"], &[("^x", "z"), ("^n", "m")]));
        after.configs.insert("r.example.com".to_owned(), config("canary-3"));
        after.configs.insert("new".to_owned(), HostConfig { auth: Some(Auth::default()), tls: None });
        (before, after)
    }

    #[test]
    fn each_field_has_a_line_and_no_credential_stands_in_it() {
        let (before, after) = pair();
        let lines: Vec<_> = changes(&before, &after).iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "~ mirrors.\"docker.io\".endpoint: [\"https://…@a\"] -> [\"https://b\"]",
                "+ mirrors.\"docker.io\".rewrite.\"^n\": \"m\"",
                "~ mirrors.\"docker.io\".rewrite.\"^x\": \"y\" -> \"z\"",
                "- mirrors.gone: {}",
                "+ configs.new.auth: {}",
                "~ configs.\"r.example.com\".auth.password: changed",
            ]
        );
        let all = changes(&before, &after);
        let backwards = changes(&after, &before);
        let json = serde_json::to_string(&(&all, &backwards)).unwrap();
        assert!(!format!("{json} {all:?} {backwards:?} {lines:?}").contains("canary"));
    }

    #[test]
    fn a_credential_that_comes_or_goes_is_named_without_its_value() {
        let (before, _) = pair();
        let lines: Vec<_> = changes(&before, &Registries::default()).iter().map(ToString::to_string).collect();
        assert!(lines.contains(&"- configs.\"r.example.com\".auth.username".to_owned()), "{lines:?}");
        assert!(lines.contains(&"- configs.\"r.example.com\".tls.insecure_skip_verify: true".to_owned()));
    }

    #[test]
    fn a_password_changed_within_a_url_is_a_change_and_stays_hidden() {
        let file = |url: &str| {
            let mirrors = BTreeMap::from([("m".to_owned(), mirror(&[url], &[]))]);
            Registries { mirrors, ..Registries::default() }
        };
        let all = changes(&file("https://u:a@h"), &file("https://u:b@h"));
        assert_eq!(all.iter().map(ToString::to_string).collect::<Vec<_>>(), ["~ mirrors.m.endpoint: changed"]);
        let json = serde_json::to_value(&all).unwrap();
        assert_eq!(json, serde_json::json!([{"path": "mirrors.m.endpoint", "change": "changed"}]));
    }

    #[test]
    fn equal_files_have_no_changes() {
        let (before, _) = pair();
        assert_eq!(changes(&before, &before), []);
    }
}

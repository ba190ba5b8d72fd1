//! Credentials as `docker login` and `kubectl create secret docker-registry` write them.

use std::fmt;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::registries::model::Auth;
use crate::secret::Secret;

/// Where containerd asks for Docker Hub. A credential is placed under this name: under `docker.io` it would work too,
/// but bring a default endpoint back that the administrator disabled.
pub const DOCKER_HUB: &str = "registry-1.docker.io";
/// Every spelling of Docker Hub that credential files use.
const DOCKER_HUB_SPELLINGS: [&str; 3] = ["docker.io", "index.docker.io", DOCKER_HUB];

/// One host's credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Host and port, as they stand under `configs` of `registries.yaml`.
    pub host: String,
    /// The key in the Secret, for messages; without a user part.
    pub written: String,
    /// The credential: `auth` is decoded into user name and password.
    pub auth: Auth,
}

/// What a Secret of the two Docker types holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DockerConfig {
    /// The credentials, in the order of the text.
    pub credentials: Vec<Credential>,
    /// `credsStore` and `credHelpers`, if they are there: a node cannot ask these programs.
    pub helpers: Vec<&'static str>,
}

/// Why a Secret of the two Docker types is of no use. Never shows what it holds but the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DockerConfigError {
    /// The bytes are not JSON, or not JSON of this shape.
    #[error(
        "is not a Docker credential file (JSON, line {line}, column {column}): make the Secret with `kubectl create secret docker-registry`"
    )]
    Json {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
    },
    /// A `.dockerconfigjson` without `auths`.
    #[error("has no `auths`: {}", match helper {
        Some(helper) => format!("`{helper}` names a program on the machine where `docker login` ran, which a node cannot ask; make the Secret with `kubectl create secret docker-registry`"),
        None => "the older format without it is type kubernetes.io/dockercfg".to_owned(),
    })]
    NoAuths {
        /// What stands there instead.
        helper: Option<&'static str>,
    },
    /// The key of an entry names no host.
    #[error("`{written}`: {problem}")]
    Host {
        /// The key.
        written: String,
        /// What is wrong with it.
        problem: HostError,
    },
    /// An entry is of no use.
    #[error("`{written}`: {problem}")]
    Entry {
        /// The key.
        written: String,
        /// What is wrong with it.
        problem: EntryProblem,
    },
    /// Two spellings of one host, with different credentials.
    #[error("`{first}` and `{second}` are the same registry and hold different credentials: remove one")]
    Conflict {
        /// The key that came first.
        first: String,
        /// The other.
        second: String,
    },
}

/// Why an entry is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// Nothing in it.
    #[error("holds no credential{}", match .0 {
        Some(helper) => format!(" (`{helper}` keeps it on the machine where `docker login` ran, where a node cannot ask for it)"),
        None => String::new(),
    })]
    Empty(Option<&'static str>),
    /// containerd would fail the pull, and print what it decoded.
    #[error(
        "`auth` is not base64 of `user:password`: encode both with a colon between, or give `username` and `password`"
    )]
    UndecodableAuth,
    /// Which of them is meant cannot be told.
    #[error("`auth` says something else than `username` and `password`: leave `auth` out")]
    ContradictoryAuth,
    /// containerd would ask without it.
    #[error(
        "has no user name beside its password: add `username` (registries that take a token alone accept any name)"
    )]
    NoUsername,
    /// It would be sent as a part of the password, and refused.
    #[error(
        "holds a user name or password that ends in a line break, which would be a part of it: make it anew, with `printf %s` in place of `echo`"
    )]
    LineBreak,
    /// containerd would ask anonymously.
    #[error("has no password beside its user name: add `password`")]
    NoPassword,
    /// `registries.yaml` has no place for it.
    #[error("holds a `registrytoken` alone, which registries.yaml cannot express: give `username` and `password`")]
    RegistryToken,
}

/// Why a text names no host that a credential can be placed under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing there.
    #[error("names no host")]
    Empty,
    /// containerd looks a host up by its exact name.
    #[error("a wildcard matches nothing, since containerd looks hosts up by their exact name: name each host")]
    Wildcard,
    /// `ftp://host`.
    #[error("is no http or https address: write the host alone")]
    Scheme,
    /// A credential holds for a whole host.
    #[error("a credential cannot be limited to a path: write the host alone")]
    Path,
    /// `https://user:password@host`.
    #[error("holds a user part: put user name and password into the fields for them")]
    UserPart,
    /// Not a name and not an address.
    #[error("is not a host name or address with an optional port")]
    Malformed,
}

/// Reads `.dockerconfigjson`.
pub fn dockerconfigjson(bytes: &[u8]) -> Result<DockerConfig, DockerConfigError> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| without_content(&error))?;
    let mut helpers = Vec::new();
    if file.creds_store {
        helpers.push("credsStore");
    }
    if file.cred_helpers {
        helpers.push("credHelpers");
    }
    match file.auths {
        Some(entries) => Ok(DockerConfig { credentials: credentials(entries, helpers.first().copied())?, helpers }),
        None => Err(DockerConfigError::NoAuths { helper: helpers.first().copied() }),
    }
}

/// Reads `.dockercfg`, which is the inside of `auths`.
pub fn dockercfg(bytes: &[u8]) -> Result<DockerConfig, DockerConfigError> {
    let entries: Entries = serde_json::from_slice(bytes).map_err(|error| without_content(&error))?;
    Ok(DockerConfig { credentials: credentials(entries, None)?, helpers: Vec::new() })
}

/// Brings the ways in which people name a registry to the host and port that containerd looks up: without scheme, the
/// API's own path and trailing slashes, Docker Hub under its one working name.
pub fn host(written: &str) -> Result<String, HostError> {
    let text = written.trim();
    let text = match text.split_once("://") {
        Some((scheme, rest)) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => rest,
        Some(_) => return Err(HostError::Scheme),
        None => text,
    };
    let (authority, path) = text.split_once('/').unwrap_or((text, ""));
    if authority.contains('@') {
        return Err(HostError::UserPart);
    }
    if authority.contains('*') {
        return Err(HostError::Wildcard);
    }
    if !matches!(path.trim_matches('/'), "" | "v1" | "v2") {
        return Err(HostError::Path);
    }
    if authority.is_empty() {
        return Err(HostError::Empty);
    }
    if !is_host_and_port(authority) {
        return Err(HostError::Malformed);
    }
    let is_hub = DOCKER_HUB_SPELLINGS.iter().any(|name| authority.eq_ignore_ascii_case(name));
    Ok(if is_hub { DOCKER_HUB } else { authority }.to_owned())
}

/// Tells whether the text is a host name, an IPv4 address or an IPv6 address in brackets, with an optional port. Such a
/// text is also one harmless folder name.
fn is_host_and_port(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
                ("", port.strip_prefix(':').or(if port.is_empty() { None } else { Some("x") }))
            }
            _ => return false,
        },
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let is_name = text.starts_with('[')
        || (!name.is_empty()
            && name.len() <= 253
            && name.split('.').all(|label| {
                !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            }));
    is_name
        && port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0))
}

/// Only the position: serde_json's own text may quote the value it did not expect.
fn without_content(error: &serde_json::Error) -> DockerConfigError {
    DockerConfigError::Json { line: error.line(), column: error.column() }
}

/// A key of the file for messages: nothing before an `@`, wherever that stands, since it may be a password.
pub(crate) fn shown(key: &str) -> String {
    key.rsplit_once('@').map_or_else(|| key.to_owned(), |(_, host)| format!("…@{host}"))
}

fn credentials(entries: Entries, helper: Option<&'static str>) -> Result<Vec<Credential>, DockerConfigError> {
    let mut found: Vec<Credential> = Vec::new();
    for (key, entry) in entries.0 {
        let written = shown(&key);
        let host = host(&key).map_err(|problem| DockerConfigError::Host { written: written.clone(), problem })?;
        let auth =
            entry.auth(helper).map_err(|problem| DockerConfigError::Entry { written: written.clone(), problem })?;
        match found.iter().find(|earlier| earlier.host == host) {
            Some(earlier) if earlier.auth == auth => {}
            Some(earlier) => {
                return Err(DockerConfigError::Conflict { first: earlier.written.clone(), second: written });
            }
            None => found.push(Credential { host, written, auth }),
        }
    }
    Ok(found)
}

/// The file. What does not concern us (`HttpHeaders`, `psFormat`, `email`) is passed over, as Docker does.
#[derive(Deserialize)]
struct File {
    auths: Option<Entries>,
    #[serde(default, rename = "credsStore", deserialize_with = "is_there")]
    creds_store: bool,
    #[serde(default, rename = "credHelpers", deserialize_with = "is_there")]
    cred_helpers: bool,
}

/// `auths`, in the order of the text: a map would lose doubled keys.
struct Entries(Vec<(String, Entry)>);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    #[serde(deserialize_with = "secret")]
    username: Secret<String>,
    #[serde(deserialize_with = "secret")]
    password: Secret<String>,
    #[serde(deserialize_with = "secret")]
    auth: Secret<String>,
    #[serde(deserialize_with = "secret")]
    identitytoken: Secret<String>,
    #[serde(deserialize_with = "secret")]
    registrytoken: Secret<String>,
}

impl Entry {
    /// What containerd is to send. User name and password win over a token, as they do in containerd; a user name
    /// without password beside a token (`00000000-…`, `<token>`) only tells Docker that there is one, and would win
    /// over it in containerd, so it is left out.
    fn auth(self, helper: Option<&'static str>) -> Result<Auth, EntryProblem> {
        let Self { mut username, mut password, auth, identitytoken, registrytoken } = self;
        if !auth.is_empty() {
            let (decoded_username, decoded_password) = decoded(&auth).ok_or(EntryProblem::UndecodableAuth)?;
            if username.is_empty() && password.is_empty() {
                (username, password) = (decoded_username, decoded_password);
            } else if (&username, &password) != (&decoded_username, &decoded_password) {
                return Err(EntryProblem::ContradictoryAuth);
            }
        }
        let ends_in_break = |text: &Secret<String>| text.satisfies(|text| text.ends_with(['\n', '\r']));
        if [&username, &password, &identitytoken].into_iter().any(ends_in_break) {
            return Err(EntryProblem::LineBreak);
        }
        match (username.is_empty(), password.is_empty(), identitytoken.is_empty()) {
            (false, false, _) => Ok(Auth { username, password, ..Auth::default() }),
            (_, true, false) => Ok(Auth { identity_token: identitytoken, ..Auth::default() }),
            (true, false, _) => Err(EntryProblem::NoUsername),
            (false, true, true) => Err(EntryProblem::NoPassword),
            (true, true, true) if !registrytoken.is_empty() => Err(EntryProblem::RegistryToken),
            (true, true, true) => Err(EntryProblem::Empty(helper)),
        }
    }
}

/// Reads `auth` as containerd does (cut at the first colon, trailing NULs off), with or without padding, since kubelet
/// takes both.
fn decoded(auth: &Secret<String>) -> Option<(Secret<String>, Secret<String>)> {
    const ENGINE: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let encoded = Secret::new(auth.expose().replace(['\r', '\n'], ""));
    let bytes = Secret::new(ENGINE.decode(encoded.expose()).ok()?);
    let text = std::str::from_utf8(bytes.expose()).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.into(), password.trim_end_matches('\0').into()))
}

/// A text or null, kept from the first moment in a value that is not printed.
fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new).unwrap_or_default())
}

/// Whether a key has any content.
fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(match value {
        serde_json::Value::Null => false,
        serde_json::Value::String(text) => !text.is_empty(),
        serde_json::Value::Object(map) => !map.is_empty(),
        serde_json::Value::Bool(_) | serde_json::Value::Number(_) | serde_json::Value::Array(_) => true,
    })
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("hosts and their credentials")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries: Vec<(String, Entry)> = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if entries.iter().any(|(earlier, _)| *earlier == key) {
                        return Err(A::Error::custom("a host stands twice"));
                    }
                    entries.push((key, map.next_value()?));
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::registries::testing::auth;

    const CANARY: &str = "canary-hunter2";

    fn one(entry: &str) -> Result<Auth, String> {
        let text = format!(r#"{{"auths": {{"r.example.com": {entry}}}}}"#);
        let mut config = dockerconfigjson(text.as_bytes()).map_err(|error| error.to_string())?;
        assert_eq!(config.credentials.len(), 1);
        Ok(config.credentials.remove(0).auth)
    }

    fn base64(text: &str) -> String {
        base64::engine::general_purpose::STANDARD.encode(text)
    }

    #[test]
    fn every_form_of_a_credential_is_understood() {
        let both = auth("u", "p:w");
        assert_eq!(one(r#"{"username": "u", "password": "p:w"}"#), Ok(both.clone()));
        assert_eq!(one(&format!(r#"{{"auth": "{}"}}"#, base64("u:p:w"))), Ok(both.clone()));
        assert_eq!(one(r#"{"auth": "dTpwOnc"}"#), Ok(both.clone()), "without padding, as kubelet takes it");
        assert_eq!(one(r#"{"auth": "dTpw\nOnc=\n"}"#), Ok(both.clone()), "wrapped by `base64`");
        assert_eq!(one(&format!(r#"{{"auth": "{}"}}"#, base64("u:p:w\0\0"))), Ok(both.clone()));
        let kubectl = format!(r#"{{"username":"u","password":"p:w","email":"e","auth":"{}"}}"#, base64("u:p:w"));
        assert_eq!(one(&kubectl), Ok(both));
        let token = Auth { identity_token: "t".into(), ..Auth::default() };
        assert_eq!(one(r#"{"identitytoken": "t"}"#), Ok(token.clone()));
        assert_eq!(one(&format!(r#"{{"auth":"{}","identitytoken":"t"}}"#, base64("<token>:"))), Ok(token));
        assert_eq!(one(r#"{"username":"u","password":"p","identitytoken":"t"}"#), Ok(auth("u", "p")));
    }

    #[test]
    fn what_containerd_could_not_use_is_refused_with_its_reason() {
        for (entry, words) in [
            ("{}", "holds no credential"),
            ("null", "not a Docker credential file"),
            (r#"{"auth": "%%%"}"#, "not base64"),
            (&format!(r#"{{"auth": "{}"}}"#, base64(CANARY)), "not base64 of `user:password`"),
            (r#"{"auth": "/w=="}"#, "not base64"),
            (&format!(r#"{{"auth": "{}"}}"#, base64(&format!(":{CANARY}"))), "no user name"),
            (&format!(r#"{{"auth": "{}"}}"#, base64("u:")), "no password"),
            (&format!(r#"{{"username":"u","password":"{CANARY}","auth":"dTpw"}}"#), "something else"),
            (r#"{"username": "u"}"#, "no password"),
            (&format!(r#"{{"auth": "{}"}}"#, base64(&format!("u:{CANARY}\n"))), "ends in a line break"),
            (&format!(r#"{{"username": "u", "password": "{CANARY}\r\n"}}"#), "ends in a line break"),
            (&format!(r#"{{"identitytoken": "{CANARY}\n"}}"#), "ends in a line break"),
            (&format!(r#"{{"password": "{CANARY}"}}"#), "no user name"),
            (&format!(r#"{{"registrytoken": "{CANARY}"}}"#), "registrytoken"),
            (&format!(r#"{{"password": ["{CANARY}"]}}"#), "not a Docker credential file (JSON, line 1, column"),
        ] {
            let error = one(entry).expect_err(entry);
            assert!(error.contains(words), "{entry}: {error}");
            assert!(!error.contains(CANARY) && !error.contains(&base64(CANARY)), "{error}");
        }
    }

    #[test]
    fn spellings_of_a_host_become_what_containerd_looks_up() {
        for (written, expected) in [
            ("r.example.com", "r.example.com"),
            ("https://r.example.com", "r.example.com"),
            ("http://10.77.0.1:5001/", "10.77.0.1:5001"),
            ("https://r.example.com:5000/v2/", "r.example.com:5000"),
            ("r.example.com/v1//", "r.example.com"),
            ("https://index.docker.io/v1/", DOCKER_HUB),
            ("docker.io", DOCKER_HUB),
            ("Docker.IO", DOCKER_HUB),
            ("HTTPS://r.example.com/v1/", "r.example.com"),
            ("index.docker.io", DOCKER_HUB),
            ("registry-1.docker.io/v2", DOCKER_HUB),
            ("[::1]:5000", "[::1]:5000"),
            ("[fd00::1]", "[fd00::1]"),
            ("localhost:3000", "localhost:3000"),
            (" r.example.com ", "r.example.com"),
        ] {
            assert_eq!(host(written), Ok(expected.to_owned()), "{written}");
        }
        for (written, expected) in [
            ("", HostError::Empty),
            ("https://", HostError::Empty),
            ("*.example.com", HostError::Wildcard),
            ("*", HostError::Wildcard),
            ("r.example.com/group/project", HostError::Path),
            ("https://u:p@r.example.com", HostError::UserPart),
            ("..", HostError::Malformed),
            ("a b", HostError::Malformed),
            ("a:b", HostError::Malformed),
            ("a:", HostError::Malformed),
            ("a:0", HostError::Malformed),
            ("a:70000", HostError::Malformed),
            ("a:+1", HostError::Malformed),
            ("[::1]x", HostError::Malformed),
            ("[..]", HostError::Malformed),
            ("a\nb", HostError::Malformed),
            ("ftp://r.example.com", HostError::Scheme),
            ("://r.example.com", HostError::Scheme),
        ] {
            assert_eq!(host(written), Err(expected), "{written}");
        }
    }

    #[test]
    fn several_hosts_come_in_order_and_one_host_must_not_contradict_itself() {
        let text = r#"{"auths": {"b": {"auth": "dTpw"}, "a": {"auth": "dTpw"}, "https://b/v2/": {"auth": "dTpw"}}}"#;
        let config = dockerconfigjson(text.as_bytes()).expect("valid");
        assert_eq!(config.credentials.iter().map(|c| c.host.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        let text = r#"{"docker.io": {"auth": "dTpw"}, "https://index.docker.io/v1/": {"auth": "dTpx"}}"#;
        let error = dockercfg(text.as_bytes()).expect_err("two credentials").to_string();
        assert!(error.contains("`docker.io` and `https://index.docker.io/v1/`"), "{error}");
        let doubled = r#"{"a": {"auth": "dTpw"}, "a": {"auth": "dTpx"}}"#;
        assert!(matches!(dockercfg(doubled.as_bytes()), Err(DockerConfigError::Json { .. })));
    }

    #[test]
    fn a_user_part_in_a_host_is_never_repeated() {
        for key in ["https://u:canary-hunter2@r", "https://u:a/canary-hunter2@r/v2", "canary-hunter2@r"] {
            let text = serde_json::json!({"auths": {key: {"auth": "dTpw"}}}).to_string();
            let error = dockerconfigjson(text.as_bytes()).expect_err("refused");
            assert!(!format!("{error} {error:?}").contains(CANARY), "{error}");
        }
    }

    #[test]
    fn credential_helpers_are_named_as_useless_here() {
        let error = dockerconfigjson(br#"{"credsStore": "desktop"}"#).expect_err("no auths").to_string();
        assert!(error.contains("`credsStore` names a program"), "{error}");
        let error = dockerconfigjson(br#"{"auths": {"a": {}}, "credHelpers": {"a": "ecr"}}"#).expect_err("empty");
        assert!(error.to_string().contains("`credHelpers` keeps it"), "{error}");
        let config = dockerconfigjson(br#"{"auths": {"a": {"auth": "dTpw"}}, "credsStore": "x"}"#).expect("usable");
        assert_eq!(config.helpers, ["credsStore"]);
        let error = dockerconfigjson(br#"{"a": {"auth": "dTpw"}}"#).expect_err("older format").to_string();
        assert!(error.contains("dockercfg"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_talk(text in any::<String>(), key in any::<String>()) {
            for json in [
                text.clone(),
                format!("{{\"auths\": {{\"r\": {{\"password\": \"{CANARY}{text}\"}}}}}}"),
                serde_json::json!({"auths": {key: {"username": "u", "auth": CANARY, "password": CANARY}}}).to_string(),
            ] {
                for result in [dockerconfigjson(json.as_bytes()), dockercfg(json.as_bytes())] {
                    let debug = format!("{result:?}");
                    prop_assert!(!debug.contains(CANARY));
                    if let Err(error) = result {
                        prop_assert!(!error.to_string().contains(CANARY));
                    }
                }
            }
        }

        #[test]
        fn an_accepted_host_is_one_harmless_folder_name(text in "[a.:/\\[\\]@0-9-]{0,12}") {
            if let Ok(host) = host(&text) {
                prop_assert!(!host.is_empty() && !host.contains('/') && host != "." && host != "..");
            }
        }
    }
}

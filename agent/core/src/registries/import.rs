//! From a `registries.yaml` that somebody wrote by hand to the manifests that give the same file: applied, nothing
//! changes on the node.

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::document::{Document, KeyPath, Note, NoteKind, without_user_part};
use super::model::{Auth, HostConfig, Registries};
use super::render::{quoted, render_body};
use crate::desired::copies;
use crate::docker_config;
use crate::inputs::{CONFIG_MAP, REGISTRIES_KEY};
use crate::secret::Secret;
use crate::tree::TLS_DIR;

/// The manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The ConfigMap: holds no credential.
    pub config_map: String,
    /// The Secret, if the file holds a credential.
    pub secret: Option<Secret<String>>,
    /// What a person should know before applying them; one sentence each.
    pub warnings: Vec<String>,
}

/// Makes the manifests. `name` is the Secret's; the ConfigMap has the one name that the agent looks for.
///
/// Credentials become one Secret of the type that `docker login` knows, if that says the same: user name and password
/// alone, under hosts that stay what they are. Else they become a part of the file, which says everything. TLS files
/// stay paths: they lie on the nodes already.
pub fn manifests(document: &Document, name: &str, namespace: &str) -> Import {
    let Document { registries, marks: _, notes } = document;
    let (public, private) = split(registries);
    let text = render_body(&public);
    let mut config_map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {CONFIG_MAP}\n  namespace: {}\ndata:\n  {REGISTRIES_KEY}: |\n",
        quoted(namespace)
    );
    for line in text.expose().lines() {
        // Writing to a String cannot fail.
        let _ = writeln!(config_map, "    {line}");
    }
    let secret = (private != Registries::default()).then(|| {
        let (secret_type, key, content) = match docker_config_json(registries, &private) {
            Some(json) => ("kubernetes.io/dockerconfigjson", ".dockerconfigjson", json),
            None => ("Opaque", REGISTRIES_KEY, render_body(&private)),
        };
        Secret::new(format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {}\n  namespace: {}\ntype: {secret_type}\ndata:\n  {key}: {}\n",
            quoted(name),
            quoted(namespace),
            STANDARD.encode(content.expose())
        ))
    });
    let mut warnings: Vec<_> = notes.iter().filter_map(passed_over).collect();
    warnings.extend(paths(registries));
    Import { config_map, secret, warnings }
}

/// What everybody may read, and what only the Secret may hold: credentials, and whatever has a user part in a URL.
fn split(registries: &Registries) -> (Registries, Registries) {
    let Registries { mirrors, configs } = registries;
    let is_public = |text: &String| without_user_part(text) == *text;
    let (mut public, mut private) = (Registries::default(), Registries::default());
    for (host, mirror) in mirrors {
        let part = if is_public(host) && mirror.endpoints.iter().all(is_public) { &mut public } else { &mut private };
        part.mirrors.insert(host.clone(), mirror.clone());
    }
    for (host, config) in configs {
        let HostConfig { auth, tls } = config;
        let has_credential = auth.as_ref().is_some_and(|auth| !auth.is_empty());
        if !is_public(host) {
            private.configs.insert(host.clone(), config.clone());
        } else if has_credential {
            private.configs.insert(host.clone(), HostConfig { auth: auth.clone(), tls: None });
            if tls.is_some() {
                public.configs.insert(host.clone(), HostConfig { auth: None, tls: tls.clone() });
            }
        } else {
            public.configs.insert(host.clone(), config.clone());
        }
    }
    (public, private)
}

/// The credentials as `.dockerconfigjson`; `None` where that would not give the same model back.
fn docker_config_json(registries: &Registries, private: &Registries) -> Option<Secret<String>> {
    #[derive(Serialize)]
    struct File<'a> {
        auths: BTreeMap<&'a str, Entry<'a>>,
    }
    #[derive(Serialize)]
    struct Entry<'a> {
        username: &'a str,
        password: &'a str,
    }

    let Registries { mirrors, configs } = private;
    let has_auth = |host: &String| {
        registries.configs.get(host).and_then(|config| config.auth.as_ref()).is_some_and(|auth| !auth.is_empty())
    };
    let mut auths = BTreeMap::new();
    for (host, config) in configs {
        let HostConfig { auth: Some(Auth { username, password, auth, identity_token }), tls: None } = config else {
            return None;
        };
        let is_pair = !username.is_empty() && !password.is_empty() && auth.is_empty() && identity_token.is_empty();
        // A Secret's host is brought to one spelling, and placed under endpoints that are the same registry.
        let stays = docker_config::host(host).as_ref() == Ok(host) && copies(registries, host).iter().all(has_auth);
        if !is_pair || !stays {
            return None;
        }
        auths.insert(host.as_str(), Entry { username: username.expose(), password: password.expose() });
    }
    let json = serde_json::to_string(&File { auths }).ok()?;
    mirrors.is_empty().then(|| Secret::new(json))
}

/// What the file says without effect, and what does therefore not go into the manifests.
fn passed_over(Note { kind, path, at }: &Note) -> Option<String> {
    let what = match kind {
        NoteKind::UnknownKey { nearest: Some(nearest) } => {
            format!("k3s does not know this key and ignores it, so it is left out; was `{nearest}` meant?")
        }
        NoteKind::UnknownKey { nearest: None } => "k3s does not know this key and ignores it, so it is left out".into(),
        NoteKind::DoubledKey => "stands twice: what k3s makes of it is kept".into(),
        NoteKind::ExtraDocument => "k3s reads the first document only, so the others are left out".into(),
        NoteKind::UnusedAuths => "k3s reads `auths` and uses it for nothing, so it is left out".into(),
        NoteKind::OldBoolean => return None,
    };
    Some(format!("{at}: {path}: {what}"))
}

/// TLS files stay where they are.
fn paths(registries: &Registries) -> Vec<String> {
    let mut warnings = Vec::new();
    for (host, tls) in registries.configs.iter().filter_map(|(host, config)| Some((host, config.tls.as_ref()?))) {
        for (key, path) in [("ca_file", &tls.ca_file), ("cert_file", &tls.cert_file), ("key_file", &tls.key_file)] {
            let field = KeyPath::of(["configs", host, "tls", key]);
            if path.contains(&format!("/{TLS_DIR}/")) {
                warnings.push(format!(
                    "{field}: {path} lies in the directory that the agent keeps: give its content in a Secret with the host annotation, and take this line out"
                ));
            } else if !path.is_empty() {
                warnings.push(format!(
                    "{field}: stays the path {path}, which must lie on every node; a Secret with the host annotation would bring it there"
                ));
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::desired::{MergeContext, Outcome, merge};
    use crate::inputs::{InputObject, Inputs, Kind, NAMESPACE, ObjectId, Origin};
    use crate::policy::Policy;
    use crate::registries::document::Mark;
    use crate::registries::model::{Mirror, Tls};
    use crate::registries::strict;
    use crate::registries::testing::{auth, plausible, registries};

    #[derive(Deserialize)]
    struct Manifest {
        kind: String,
        metadata: Metadata,
        #[serde(default, rename = "type")]
        secret_type: String,
        data: BTreeMap<String, String>,
    }

    #[derive(Deserialize)]
    struct Metadata {
        name: String,
        namespace: String,
    }

    /// Reads a manifest as the API server would.
    fn applied(manifest: &str) -> InputObject {
        let Manifest { kind, metadata, secret_type, data } = serde_saphyr::from_str(manifest).expect("a manifest");
        let kind = if kind == "Secret" { Kind::Secret } else { Kind::ConfigMap };
        let bytes = |value: String| match kind {
            Kind::Secret => STANDARD.decode(value).expect("base64"),
            Kind::ConfigMap => value.into_bytes(),
        };
        let Metadata { name, namespace } = metadata;
        InputObject {
            id: ObjectId { kind, namespace, name, uid: String::new(), resource_version: String::new() },
            secret_type,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            data: data.into_iter().map(|(key, value)| (key, Secret::new(bytes(value)))).collect(),
        }
    }

    fn import(registries: &Registries) -> Import {
        let document = Document { registries: registries.clone(), ..Document::default() };
        manifests(&document, "registry-credentials", NAMESPACE)
    }

    fn merged(import: &Import) -> Outcome {
        let manifests =
            [Some(import.config_map.as_str()), import.secret.as_ref().map(|secret| secret.expose().as_str())];
        let inputs = Inputs {
            origin: Origin::Directory,
            objects: manifests.into_iter().flatten().map(applied).collect(),
            unreadable: Vec::new(),
        };
        let context = MergeContext {
            namespace: NAMESPACE,
            directory: "/etc/rancher/k3s",
            journal_key: &Secret::new(vec![1]),
            known_credential_hosts: &BTreeMap::new(),
            known_tls_files: &BTreeMap::new(),
            known_file_hosts: &BTreeSet::new(),
        };
        merge(&inputs, &Policy::default(), &context, strict::parse)
    }

    /// Applied, the manifests give the same file.
    fn changes_nothing(registries: &Registries) -> Result<(), TestCaseError> {
        match merged(&import(registries)) {
            Outcome::Ready(desired) => prop_assert_eq!(&desired.registries, registries),
            other => return Err(TestCaseError::fail(format!("{other:#?}"))),
        }
        Ok(())
    }

    fn with_auth(host: &str, auth: Auth) -> Registries {
        let config = HostConfig { auth: Some(auth), tls: Some(Tls { insecure_skip_verify: true, ..Tls::default() }) };
        Registries { configs: BTreeMap::from([(host.to_owned(), config)]), ..Registries::default() }
    }

    fn secret_type(registries: &Registries) -> String {
        let import = import(registries);
        applied(import.secret.as_ref().expect("a Secret").expose()).secret_type
    }

    #[test]
    fn user_names_and_passwords_become_one_docker_config_secret() {
        let registries = with_auth("r.example.com:5000", auth("u", "canary-hunter2"));
        let import = import(&registries);
        assert_eq!(import.config_map, include_str!("../../tests/golden/import/config_map.yaml"));
        let secret = import.secret.as_ref().expect("a Secret").expose().as_str();
        assert_eq!(secret, include_str!("../../tests/golden/import/secret.yaml"));
        assert!(!format!("{import:?}").contains("canary"));
        changes_nothing(&registries).expect("the same");
    }

    #[test]
    fn what_docker_config_cannot_say_becomes_a_part_of_the_file() {
        let part = "Opaque";
        assert_eq!(secret_type(&with_auth("r", auth("u", "p"))), "kubernetes.io/dockerconfigjson");
        for odd in [
            with_auth("r", auth("u", "")),
            with_auth("r", Auth { auth: "dTpw".into(), ..Auth::default() }),
            with_auth("r", Auth { identity_token: "t".into(), ..auth("u", "p") }),
            with_auth("docker.io", auth("u", "p")),
            with_auth("r/path", auth("u", "p")),
        ] {
            assert_eq!(secret_type(&odd), part, "{odd:?}");
            changes_nothing(&odd).expect("the same");
        }
        // A Secret for the name would be placed under the address too: this file has it under the name alone.
        let mut useless = with_auth("r.example.com", auth("u", "p"));
        let mirror = Mirror { endpoints: vec!["http://10.77.0.1:5001".into()], ..Mirror::default() };
        useless.mirrors.insert("r.example.com".into(), mirror);
        assert_eq!(secret_type(&useless), part);
        changes_nothing(&useless).expect("the same");
    }

    #[test]
    fn a_user_part_of_a_url_goes_into_the_secret_with_its_mirror() {
        let mirror = Mirror { endpoints: vec!["https://u:canary@m".into()], ..Mirror::default() };
        let registries = Registries { mirrors: BTreeMap::from([("r".into(), mirror)]), ..Registries::default() };
        let import = import(&registries);
        assert!(!import.config_map.contains("canary"));
        changes_nothing(&registries).expect("the same");
    }

    #[test]
    fn a_file_without_credentials_needs_no_secret() {
        let import = import(&Registries::default());
        assert_eq!(import.secret, None);
        assert_eq!(import.warnings, Vec::<String>::new());
    }

    #[test]
    fn what_does_not_come_along_is_said() {
        let note =
            |kind| Note { kind, path: KeyPath::of(["mirrors", "r", "endpoints"]), at: Mark { line: 3, column: 5 } };
        let tls =
            Tls { ca_file: "/etc/ssl/ca.pem".into(), cert_file: "/x/registry-tls/r/tls.crt".into(), ..Tls::default() };
        let mut registries = with_auth("r", Auth::default());
        registries.configs.insert("r".into(), HostConfig { auth: None, tls: Some(tls) });
        let notes = vec![
            note(NoteKind::UnknownKey { nearest: Some("endpoint") }),
            note(NoteKind::OldBoolean),
            note(NoteKind::ExtraDocument),
        ];
        let document = Document { registries, notes, ..Document::default() };
        let warnings = manifests(&document, "x", NAMESPACE).warnings;
        assert_eq!(warnings.len(), 4, "{warnings:#?}");
        assert!(warnings[0].starts_with("line 3, column 5: mirrors.r.endpoints: k3s does not know this key"));
        assert!(warnings[0].contains("was `endpoint` meant?"));
        assert!(warnings[2].contains("stays the path /etc/ssl/ca.pem"));
        assert!(warnings[3].contains("lies in the directory that the agent keeps"));
    }

    proptest! {
        #[test]
        fn applied_an_import_changes_nothing(registries in registries()) {
            changes_nothing(&registries)?;
        }

        #[test]
        fn applied_an_import_of_a_plausible_file_changes_nothing(registries in plausible()) {
            changes_nothing(&registries)?;
            prop_assert!(!import(&registries).config_map.contains("canary"));
        }
    }
}

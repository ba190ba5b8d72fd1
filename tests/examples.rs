//! The examples and the manifests in the documentation are inputs that the agent takes, as `kubectl apply` would give
//! them. That the program does so from a directory is shown by `scripts/test.sh`, which applies each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use agent_core::desired::{Desired, MergeContext, Outcome, merge};
use agent_core::inputs::{HOST_ANNOTATION, InputObject, Inputs, Kind, NAMESPACE, ObjectId, Origin, POLICY_KEY};
use agent_core::policy::Policy;
use agent_core::registries::strict;
use agent_core::secret::Secret;
use serde_json::Value;

/// What an example comes to.
struct Expected {
    directory: &'static str,
    mirrors: &'static [&'static str],
    credentials: &'static [&'static str],
    skip_verify: &'static [&'static str],
}

const EXAMPLES: [Expected; 6] = [
    Expected {
        directory: "ghcr-migration",
        mirrors: &[],
        credentials: &["gitea.k3s.bto.bar", "registry.bto.bar", "registry.k3s.bto.bar"],
        skip_verify: &["gitea.k3s.bto.bar", "registry.bto.bar", "registry.k3s.bto.bar"],
    },
    Expected {
        directory: "other/ghcr-names-kept",
        mirrors: &["ghcr.io"],
        credentials: &["registry.bto.bar"],
        skip_verify: &["registry.bto.bar"],
    },
    Expected {
        directory: "other/gitea-behind-traefik",
        mirrors: &["gitea.coulomb.social"],
        credentials: &["127.0.0.1:32166", "gitea.coulomb.social"],
        skip_verify: &[],
    },
    Expected {
        directory: "other/gitea-nodeport-http",
        mirrors: &["localhost:3000"],
        credentials: &["127.0.0.1:30080"],
        skip_verify: &[],
    },
    Expected { directory: "other/gitea-public", mirrors: &[], credentials: &["gitea.treytartt.com"], skip_verify: &[] },
    Expected {
        directory: "other/registry-in-cluster",
        mirrors: &["registry.gitea.svc.cluster.local:5000"],
        credentials: &[],
        skip_verify: &[],
    },
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Parses YAML with every doubled key an error.
fn parse(place: &str, text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|e| panic!("{place}: {e}"))
}

/// The directories under `examples` that hold a manifest, by their names there.
fn example_directories() -> BTreeSet<String> {
    let examples = root().join("examples");
    let mut found = BTreeSet::new();
    let mut queue = vec![examples.clone()];
    while let Some(directory) = queue.pop() {
        for entry in fs::read_dir(&directory).expect("examples can be listed") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|e| e == "yaml") {
                found.insert(directory.strip_prefix(&examples).expect("an example").display().to_string());
            } else if path.is_dir() {
                queue.push(path);
            }
        }
    }
    found
}

/// The objects in a directory.
fn objects(directory: &Path) -> Vec<InputObject> {
    let entries = fs::read_dir(directory).expect("a directory of inputs").map(|entry| entry.expect("an entry").path());
    let files = entries.filter(|path| path.extension().is_some_and(|e| e == "yaml"));
    files
        .flat_map(|path| {
            let place = path.display().to_string();
            let text = fs::read_to_string(&path).expect("a manifest");
            parse(&place, &text).into_iter().map(move |manifest| object(&place, &manifest))
        })
        .collect()
}

/// The fenced blocks of a page in `docs` that are marked as YAML, each with its place.
fn blocks(page: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("docs").join(page)).expect("a page");
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        open = match (open, line) {
            (None, "```yaml") => Some((number + 1, String::new())),
            (None, _) => None,
            (Some((start, block)), "```") => {
                blocks.push((format!("docs/{page}:{start}"), block));
                None
            }
            (Some((start, block)), line) => Some((start, block + line + "\n")),
        };
    }
    assert!(open.is_none(), "docs/{page}: a block is not closed");
    blocks
}

/// A manifest as the API server would hand it out: `stringData` is data.
fn object(place: &str, manifest: &Value) -> InputObject {
    let texts = |value: &Value| -> BTreeMap<String, String> {
        let map = value.as_object().into_iter().flatten();
        map.map(|(key, text)| (key.clone(), text.as_str().expect("text").to_owned())).collect()
    };
    let kind = match manifest["kind"].as_str() {
        Some("ConfigMap") => Kind::ConfigMap,
        Some("Secret") => Kind::Secret,
        other => panic!("{place}: {other:?} is no input"),
    };
    let metadata = &manifest["metadata"];
    let data = match kind {
        Kind::ConfigMap => texts(&manifest["data"]),
        Kind::Secret => texts(&manifest["stringData"]),
    };
    assert!(!data.is_empty(), "{place}: no data");
    InputObject {
        id: ObjectId {
            kind,
            namespace: metadata["namespace"].as_str().expect("a namespace").to_owned(),
            name: metadata["name"].as_str().expect("a name").to_owned(),
            uid: String::new(),
            resource_version: String::new(),
        },
        secret_type: manifest["type"].as_str().unwrap_or_default().to_owned(),
        labels: texts(&metadata["labels"]),
        annotations: texts(&metadata["annotations"]),
        data: data.into_iter().map(|(key, text)| (key, Secret::new(text.into_bytes()))).collect(),
    }
}

/// Merges inputs that must be usable, with the policy among them.
fn desired(place: &str, objects: Vec<InputObject>) -> Desired {
    let policy = objects.iter().find_map(|object| object.data.get(POLICY_KEY));
    let policy = policy.map_or_else(String::new, |text| String::from_utf8(text.expose().clone()).expect("UTF-8"));
    let policy = Policy::parse(&policy).unwrap_or_else(|errors| panic!("{place}: {errors:?}"));
    let inputs = Inputs { origin: Origin::Directory, objects, unreadable: Vec::new() };
    let context = MergeContext {
        namespace: NAMESPACE,
        directory: "/etc/rancher/k3s",
        journal_key: &Secret::new(vec![7; 32]),
        known_credential_hosts: &BTreeMap::new(),
        known_tls_files: &BTreeMap::new(),
        known_file_hosts: &BTreeSet::new(),
    };
    match merge(&inputs, &policy, &context, strict::parse) {
        Outcome::Ready(desired) => *desired,
        refused @ (Outcome::NoConfigMap | Outcome::Held(_) | Outcome::Invalid(_)) => panic!("{place}: {refused:?}"),
    }
}

#[test]
fn every_example_is_taken_and_comes_to_what_it_says() {
    let expected: BTreeSet<_> = EXAMPLES.iter().map(|example| example.directory.to_owned()).collect();
    assert_eq!(example_directories(), expected);
    for Expected { directory, mirrors, credentials, skip_verify } in EXAMPLES {
        let Desired { registries, notes, .. } = desired(directory, objects(&root().join("examples").join(directory)));
        let configs = || registries.configs.iter();
        assert_eq!(registries.mirrors.keys().collect::<Vec<_>>(), mirrors, "{directory}");
        let with_auth: Vec<_> = configs().filter(|(_, c)| c.auth.is_some()).map(|(host, _)| host).collect();
        assert_eq!(with_auth, credentials, "{directory}");
        let skipping = configs().filter(|(_, c)| c.tls.as_ref().is_some_and(|tls| tls.insecure_skip_verify));
        assert_eq!(skipping.map(|(host, _)| host).collect::<Vec<_>>(), skip_verify, "{directory}");
        assert!(notes.is_empty(), "{directory}: {notes:?}");
    }
}

#[test]
fn every_example_is_named_in_the_list() {
    let list = fs::read_to_string(root().join("examples/README.md")).expect("the list");
    for name in example_directories() {
        assert!(list.contains(&format!("[{name}]({name})")), "{name} is not in examples/README.md");
    }
}

#[test]
fn no_example_holds_anything_but_a_placeholder() {
    let directories = example_directories();
    let objects = directories.iter().flat_map(|directory| objects(&root().join("examples").join(directory)));
    let mut seen = 0;
    for secret in objects.filter(|object| object.id.kind == Kind::Secret) {
        seen += 1;
        let text: String = secret.data.values().map(|data| String::from_utf8_lossy(data.expose())).collect();
        // The second is the first behind `admin:` in base64.
        let is_placeholder = text.contains("PLACEHOLDER-TOKEN") || text.contains("YWRtaW46UExBQ0VIT0xERVItVE9LRU4=");
        assert!(is_placeholder, "{}", secret.id);
    }
    assert_eq!(seen, 5);
}

#[test]
fn every_manifest_in_the_page_about_inputs_is_taken_and_used() {
    let mut forms = BTreeSet::new();
    let empty = serde_json::json!({
        "kind": "ConfigMap",
        "metadata": {"name": "registries", "namespace": NAMESPACE},
        "data": {"registries.yaml": ""},
    });
    for (place, text) in blocks("inputs.md") {
        let mut given: Vec<_> = parse(&place, &text).iter().map(|manifest| object(&place, manifest)).collect();
        for InputObject { id, secret_type, annotations, data, .. } in &given {
            let keys: Vec<_> = data.keys().map(String::as_str).collect();
            let host = annotations.contains_key(HOST_ANNOTATION);
            forms.insert(format!("{} {secret_type} {} host={host}", id.kind, keys.join(",")));
        }
        if !given.iter().any(|object| object.data.contains_key("registries.yaml") && object.id.kind == Kind::ConfigMap)
        {
            given.push(object(&place, &empty));
        }
        let Desired { registries, notes, .. } = desired(&place, given);
        assert!(!registries.configs.is_empty(), "{place}: gives nothing");
        assert!(notes.is_empty(), "{place}: {notes:?}");
    }
    let expected = [
        "ConfigMap  ca.crt host=true",
        "ConfigMap  registries.yaml host=false",
        "Secret Opaque ca.crt host=true",
        "Secret Opaque registries.yaml host=false",
        "Secret kubernetes.io/basic-auth password,username host=true",
        "Secret kubernetes.io/dockercfg .dockercfg host=false",
        "Secret kubernetes.io/dockerconfigjson .dockerconfigjson host=false",
        "Secret kubernetes.io/tls ca.crt,tls.crt,tls.key host=true",
    ];
    assert_eq!(forms, expected.map(String::from).into());
}

#[test]
fn every_policy_in_the_page_about_policy_is_valid_and_the_first_is_the_defaults() {
    let blocks = blocks("policy.md");
    let policies: Vec<_> = blocks.iter().map(|(place, text)| (place, Policy::parse(text))).collect();
    assert_eq!(policies.first().map(|(_, policy)| policy), Some(&Ok(Policy::default())));
    assert!(policies.len() > 1);
    for (place, policy) in policies {
        assert!(policy.is_ok(), "{place}: {policy:?}");
    }
}

#[test]
fn every_field_of_the_policy_has_a_row_in_its_page() {
    let page = fs::read_to_string(root().join("docs/policy.md")).expect("the page");
    let defaults = parse("docs/policy.md", &blocks("policy.md")[0].1).remove(0);
    let keys = |value: &Value| value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    let nested =
        |field: &str| keys(&defaults[field]).into_iter().map(|key| format!("{field}.{key}")).collect::<Vec<_>>();
    assert_eq!(keys(&defaults).len(), 15, "the page shows every field with its default");
    for field in [keys(&defaults), nested("preflight"), nested("proof")].concat() {
        assert!(page.contains(&format!("\n| `{field}` |")), "{field}");
    }
}

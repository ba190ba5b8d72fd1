//! The examples and the manifests in the documentation: whole, of the documented form, and without a credential where
//! none may stand. That the program takes them is shown by `scripts/test.sh`, which applies each.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Parses YAML with every doubled key an error.
fn parse(place: &str, text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|e| panic!("{place}: {e}"))
}

/// The directories of inputs under `examples`: those that hold a manifest.
fn example_directories() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut queue = vec![root().join("examples")];
    while let Some(directory) = queue.pop() {
        let entries = fs::read_dir(&directory).expect("examples can be listed");
        let paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        if paths.iter().any(|path| path.extension().is_some_and(|e| e == "yaml")) {
            found.push(directory);
        }
        queue.extend(paths.into_iter().filter(|path| path.is_dir()));
    }
    found.sort();
    found
}

/// The objects in a directory, each with the file it stands in.
fn objects(directory: &Path) -> Vec<(String, Value)> {
    let mut objects = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory of inputs") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "yaml") {
            let place = path.display().to_string();
            let text = fs::read_to_string(&path).expect("a manifest");
            objects.extend(parse(&place, &text).into_iter().map(|object| (place.clone(), object)));
        }
    }
    objects
}

/// The fenced blocks of a page in `docs` that are marked as YAML.
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

fn data(object: &Value) -> Map<String, Value> {
    let mut data = object["data"].as_object().cloned().unwrap_or_default();
    data.extend(object["stringData"].as_object().cloned().unwrap_or_default());
    data
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|map| map.keys().map(String::as_str).collect()).unwrap_or_default()
}

fn assert_known(place: &str, value: &Value, known: &[&str]) {
    for key in keys(value) {
        assert!(known.contains(&key), "{place}: {key} is none of {known:?}");
    }
}

/// Checks a `registries.yaml` against the keys that k3s knows.
fn assert_registries(place: &str, text: &str, credentials: bool) {
    for file in parse(place, text) {
        assert_known(place, &file, &["mirrors", "configs"]);
        for (host, mirror) in file["mirrors"].as_object().into_iter().flatten() {
            assert!(!host.contains('/'), "{place}: {host}");
            assert_known(place, mirror, &["endpoint", "rewrite"]);
        }
        for (host, config) in file["configs"].as_object().into_iter().flatten() {
            assert!(!host.contains('/'), "{place}: {host}");
            assert_known(place, config, if credentials { &["tls", "auth"] } else { &["tls"] });
            assert_known(place, &config["auth"], &["username", "password", "auth", "identity_token"]);
            assert_known(place, &config["tls"], &["ca_file", "cert_file", "key_file", "insecure_skip_verify"]);
        }
    }
}

/// Checks that an object is of one of the forms of `docs/inputs.md`.
fn assert_input(place: &str, object: &Value) {
    let data = data(object);
    let names: Vec<_> = data.keys().map(String::as_str).collect();
    let has_host = object.pointer("/metadata/annotations/k3s-registry-agent~1host").is_some_and(Value::is_string);
    match (object["kind"].as_str(), object["type"].as_str()) {
        (Some("ConfigMap"), None) if names == ["ca.crt"] => assert!(has_host, "{place}: no host"),
        (Some("ConfigMap"), None) => {
            assert_eq!(object["metadata"]["name"], "registries", "{place}");
            assert_eq!(object["metadata"]["namespace"], "k3s-registry-agent", "{place}");
            assert!(data.contains_key("registries.yaml"), "{place}: {names:?}");
            for (key, text) in &data {
                let text = text.as_str().expect("text");
                match key.as_str() {
                    "registries.yaml" => assert_registries(place, text, false),
                    "policy.yaml" => assert_policy(place, text),
                    other => panic!("{place}: key {other}"),
                }
            }
        }
        (Some("Secret"), Some("kubernetes.io/dockerconfigjson")) => {
            assert_eq!(names, [".dockerconfigjson"], "{place}");
            assert_docker_hosts(place, &json(&data[".dockerconfigjson"])["auths"]);
        }
        (Some("Secret"), Some("kubernetes.io/dockercfg")) => {
            assert_eq!(names, [".dockercfg"], "{place}");
            assert_docker_hosts(place, &json(&data[".dockercfg"]));
        }
        (Some("Secret"), Some("kubernetes.io/basic-auth")) => {
            assert_eq!(names, ["password", "username"], "{place}");
            assert!(has_host, "{place}: no host");
        }
        (Some("Secret"), Some("kubernetes.io/tls")) => {
            assert_known(place, &Value::Object(data.clone()), &["ca.crt", "tls.crt", "tls.key"]);
            assert!(data.contains_key("tls.crt") && data.contains_key("tls.key") && has_host, "{place}");
        }
        (Some("Secret"), Some("Opaque")) if names == ["ca.crt"] => assert!(has_host, "{place}: no host"),
        (Some("Secret"), Some("Opaque")) => {
            assert_eq!(names, ["registries.yaml"], "{place}");
            assert_registries(place, data["registries.yaml"].as_str().expect("text"), true);
        }
        (kind, form) => panic!("{place}: {kind:?} of type {form:?} is no input"),
    }
}

fn json(value: &Value) -> Value {
    serde_json::from_str(value.as_str().expect("text")).expect("JSON")
}

fn assert_docker_hosts(place: &str, hosts: &Value) {
    assert!(!keys(hosts).is_empty(), "{place}: no host");
    for (_, auth) in hosts.as_object().into_iter().flatten() {
        assert_known(place, auth, &["username", "password", "auth"]);
        assert!(!keys(auth).is_empty(), "{place}: an empty credential");
    }
}

fn assert_policy(place: &str, text: &str) {
    let known = "version mode adopt pause order maxUnavailable settle windows deadline drift preflight proof secrets \
                 allowRemoval unit";
    let known: Vec<_> = known.split_whitespace().collect();
    for policy in parse(place, text) {
        assert_eq!(policy["version"], 1, "{place}");
        assert_known(place, &policy, &known);
    }
}

#[test]
fn every_example_is_one_configmap_and_secrets_of_a_documented_form() {
    let directories = example_directories();
    assert_eq!(directories.len(), 6, "{directories:?}");
    for directory in directories {
        let objects = objects(&directory);
        let maps = objects.iter().filter(|(_, object)| object["kind"] == "ConfigMap").count();
        assert_eq!(maps, 1, "{}", directory.display());
        for (place, object) in &objects {
            assert_input(place, object);
        }
    }
}

#[test]
fn every_example_is_named_in_the_list() {
    let list = fs::read_to_string(root().join("examples/README.md")).expect("the list");
    for directory in example_directories() {
        let name = directory.strip_prefix(root().join("examples")).expect("an example").display().to_string();
        assert!(list.contains(&format!("[{name}]({name})")), "{name} is not in examples/README.md");
    }
}

#[test]
fn no_example_holds_anything_but_a_placeholder() {
    let places =
        example_directories().into_iter().flat_map(|directory| objects(&directory)).filter_map(|(_, object)| {
            (object["kind"] == "Secret").then(|| data(&object).values().map(Value::to_string).collect::<String>())
        });
    for text in places {
        // The second is the first behind `admin:` in base64.
        assert!(text.contains("PLACEHOLDER-TOKEN") || text.contains("YWRtaW46UExBQ0VIT0xERVItVE9LRU4="));
    }
}

#[test]
fn every_manifest_in_the_page_about_inputs_is_one() {
    let blocks = blocks("inputs.md");
    let mut forms = std::collections::BTreeSet::new();
    for (place, text) in &blocks {
        for object in parse(place, text) {
            assert_input(place, &object);
            let keys = data(&object).keys().cloned().collect::<Vec<_>>().join(",");
            forms.insert(format!("{} {} {keys}", object["kind"], object["type"]));
        }
    }
    // The ConfigMap, both forms of pull Secret, basic-auth, tls, a CA in a ConfigMap and in a Secret, a part of the file.
    assert_eq!(forms.len(), 8, "{forms:?}");
}

#[test]
fn every_policy_in_the_page_about_policy_has_only_known_fields() {
    let blocks = blocks("policy.md");
    assert!(blocks.len() > 1, "no block found");
    for (place, text) in &blocks {
        assert_policy(place, text);
    }
}

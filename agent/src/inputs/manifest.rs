//! Reads the text of one manifest file: documents, lists, ConfigMaps and Secrets, as `kubectl apply` takes them.
//!
//! A message names file, line, object and key, and never content: what stands in a broken manifest may be a password.

mod value;

use std::collections::BTreeMap;

use agent_core::inputs::{InputObject, Kind, NAMESPACE, ObjectId};
use agent_core::secret::Secret;
use base64::Engine;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

use self::value::{Value, json, yaml};
use super::{FOREIGN_CONFIG_MAP, FOREIGN_TYPES, keep_ours};

/// What one file gave.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    /// The objects, each with the place it stands at (`team.yaml, line 3`).
    pub(super) objects: Vec<(InputObject, String)>,
    /// What could not be read, one sentence each.
    pub(super) unreadable: Vec<String>,
}

/// Reads a file's text. `file` is its name, for the messages.
pub(super) fn parse(file: &str, text: &Secret<Vec<u8>>) -> Manifest {
    let mut manifest = Manifest::default();
    let Ok(text) = std::str::from_utf8(text.expose()) else {
        manifest.unreadable.push(format!("{file}: the text is not UTF-8"));
        return manifest;
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let documents = if text.trim_start().starts_with('{') && !file.ends_with(".json") {
        // A YAML file may hold JSON, several documents one after the other; else it is YAML's own `{…}`.
        json(file, text).or_else(|_| yaml(file, text))
    } else if file.ends_with(".json") {
        json(file, text)
    } else {
        yaml(file, text)
    };
    match documents {
        Ok(documents) => {
            for (place, value) in documents {
                manifest.take(&place, value);
            }
        }
        Err(sentence) => manifest.unreadable.push(sentence),
    }
    manifest
}

/// Decodes base64 as the API server does: line breaks inside are skipped, padding is demanded.
pub(super) fn decode(text: &str) -> Option<Secret<Vec<u8>>> {
    const ENGINE: GeneralPurpose =
        GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));
    let packed = Secret::new(text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect::<Vec<u8>>());
    ENGINE.decode(packed.expose()).ok().map(Secret::new)
}

impl Manifest {
    fn take(&mut self, place: &str, value: Value) {
        let mut map = match value {
            Value::Null => return,
            Value::Map(map) => map,
            Value::Scalar | Value::Text(_) | Value::List(_) => {
                self.unreadable.push(format!("{place}: the document is not an object (apiVersion, kind, metadata)"));
                return;
            }
        };
        let (Some(version), Some(kind)) = (text_of(&map, "apiVersion"), text_of(&map, "kind")) else {
            self.unreadable.push(format!(
                "{place}: apiVersion or kind is missing, so it is no manifest; of a plain registries.yaml \"import\" makes some"
            ));
            return;
        };
        match (version.as_str(), kind.as_str()) {
            ("v1", "List" | "ConfigMapList" | "SecretList") => match map.remove("items") {
                Some(Value::List(items)) => {
                    for (index, item) in items.into_iter().enumerate() {
                        self.take(&format!("{place}, item {}", index + 1), item);
                    }
                }
                None | Some(Value::Null) => {}
                Some(Value::Scalar | Value::Text(_) | Value::Map(_)) => {
                    self.unreadable.push(format!("{place}: items is not a list"));
                }
            },
            ("v1", "ConfigMap") => self.keep(place, Kind::ConfigMap, map),
            ("v1", "Secret") => self.keep(place, Kind::Secret, map),
            _ => {}
        }
    }

    fn keep(&mut self, place: &str, kind: Kind, map: BTreeMap<String, Value>) {
        match object(kind, map) {
            Ok(object) if is_foreign(&object) => {}
            Ok(object) => self.objects.push((object, place.to_owned())),
            Err(sentence) => self.unreadable.push(format!("{place}: {sentence}")),
        }
    }
}

fn is_foreign(object: &InputObject) -> bool {
    match object.id.kind {
        Kind::ConfigMap => object.id.name == FOREIGN_CONFIG_MAP,
        Kind::Secret => FOREIGN_TYPES.contains(&object.secret_type.as_str()),
    }
}

fn text_of(map: &BTreeMap<String, Value>, key: &str) -> Option<String> {
    match map.get(key) {
        Some(Value::Text(text)) => Some(text.expose().clone()),
        Some(Value::Null | Value::Scalar | Value::List(_) | Value::Map(_)) | None => None,
    }
}

fn object(kind: Kind, mut map: BTreeMap<String, Value>) -> Result<InputObject, String> {
    let mut metadata = match map.remove("metadata") {
        Some(Value::Map(metadata)) => metadata,
        Some(Value::Null | Value::Scalar | Value::Text(_) | Value::List(_)) | None => {
            return Err(format!("a {kind} has no metadata"));
        }
    };
    let Some(name) = text_of(&metadata, "name").filter(|name| !name.is_empty()) else {
        return Err(format!("a {kind} has no metadata.name, or one that is not a text"));
    };
    let namespace = match metadata.get("namespace") {
        None | Some(Value::Null) => NAMESPACE.to_owned(),
        Some(Value::Text(text)) if text.is_empty() => NAMESPACE.to_owned(),
        Some(Value::Text(text)) => text.expose().clone(),
        Some(Value::Scalar | Value::List(_) | Value::Map(_)) => {
            return Err(format!("{kind} {name}: metadata.namespace is not a text"));
        }
    };
    let id = ObjectId { kind, namespace, name, uid: String::new(), resource_version: String::new() };
    let of = |sentence: String| format!("{id}: {sentence}");
    let labels = texts(metadata.remove("labels"), "metadata.labels").map_err(of)?;
    let annotations = keep_ours(texts(metadata.remove("annotations"), "metadata.annotations").map_err(of)?);
    let mut secret_type = String::new();
    let mut data = BTreeMap::new();
    // `stringData` last: it wins over `data`. Whatever the order in the file, the map is sorted: d, s.
    for (key, value) in map {
        match (kind, key.as_str()) {
            (_, "apiVersion" | "kind" | "immutable") => {}
            (Kind::Secret, "type") => match value {
                Value::Null => {}
                Value::Text(text) => secret_type = text.expose().clone(),
                Value::Scalar | Value::List(_) | Value::Map(_) => return Err(of("type is not a text".to_owned())),
            },
            (Kind::Secret, "data") | (Kind::ConfigMap, "binaryData") => {
                data.extend(entries(value, &key, true).map_err(of)?);
            }
            (Kind::Secret, "stringData") | (Kind::ConfigMap, "data") => {
                data.extend(entries(value, &key, false).map_err(of)?);
            }
            (Kind::Secret, _) => return Err(of(unknown(&key, &["data", "stringData", "type", "immutable"]))),
            (Kind::ConfigMap, _) => return Err(of(unknown(&key, &["data", "binaryData", "immutable"]))),
        }
    }
    if kind == Kind::Secret && secret_type.is_empty() {
        secret_type = "Opaque".to_owned();
    }
    Ok(InputObject { id, secret_type, labels, annotations, data })
}

/// The key itself is shown only where it differs from a known one by case alone: it may be content that slipped.
fn unknown(key: &str, known: &[&str]) -> String {
    match known.iter().find(|known| known.eq_ignore_ascii_case(key)) {
        Some(known) => format!("unknown field {key}: write {known}"),
        None => format!("a field that it cannot have stands beside metadata (known: {})", known.join(", ")),
    }
}

fn texts(value: Option<Value>, field: &str) -> Result<BTreeMap<String, String>, String> {
    match value {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::Map(map)) => map
            .into_iter()
            .map(|(key, value)| match value {
                Value::Text(text) => Ok((key, text.expose().clone())),
                Value::Null => Ok((key, String::new())),
                Value::Scalar | Value::List(_) | Value::Map(_) => Err(not_a_text(field, &key)),
            })
            .collect(),
        Some(Value::Scalar | Value::Text(_) | Value::List(_)) => Err(format!("{field} is not a mapping")),
    }
}

fn entries(value: Value, field: &str, is_base64: bool) -> Result<BTreeMap<String, Secret<Vec<u8>>>, String> {
    match value {
        Value::Null => Ok(BTreeMap::new()),
        Value::Map(map) => map
            .into_iter()
            .map(|(key, value)| match value {
                // Not shown: where a colon or a space is missing, the value has become part of the key.
                _ if !is_key(&key) => {
                    Err(format!("a key under {field} has other characters than letters, digits, - _ ."))
                }
                Value::Null => Ok((key, Secret::default())),
                Value::Text(text) if is_base64 => match decode(text.expose()) {
                    Some(bytes) => Ok((key, bytes)),
                    None => Err(format!("{field}.{key} is not base64: plain text belongs under {}", plain(field))),
                },
                Value::Text(text) => Ok((key, Secret::new(text.expose().clone().into_bytes()))),
                Value::Scalar | Value::List(_) | Value::Map(_) => Err(not_a_text(field, &key)),
            })
            .collect(),
        Value::Scalar | Value::Text(_) | Value::List(_) => Err(format!("{field} is not a mapping")),
    }
}

/// What the API server takes for a key of `data`.
fn is_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn plain(field: &str) -> &'static str {
    if field == "binaryData" { "data" } else { "stringData" }
}

fn not_a_text(field: &str, key: &str) -> String {
    let key = if key.split('/').all(is_key) { key } else { "…" };
    format!("{field}.{key} is not a text: put it in quotes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_cut_or_damaged_manifest_never_shows_a_value(
            password in "[A-Za-z]{3}canary[A-Za-z]{3}",
            shape in 0_usize..4,
            at in any::<prop::sample::Index>(),
            is_cut in any::<bool>(),
        ) {
            let mut text = [
                format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\nstringData:\n  user: \"u\"\n  pass: {password}\ndata:\n  a: Zm9v\n"),
                format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\ndata: {{a: Zm9v, pass: {password}!}}\n---\nkind: x\n"),
                format!("{{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{{\"name\":\"s\"}},\"data\":{{\"a\":\"{password}\"}}}}"),
                format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: s}}\ndata:\n  registries.yaml: |\n    configs:\n      a:\n        auth: {{password: {password}}}\n"),
            ][shape].clone();
            let at = at.index(text.len());
            if is_cut {
                text.truncate(at);
            } else {
                text.remove(at);
            }
            for file in ["a.yaml", "a.json"] {
                let manifest = parse(file, &Secret::new(text.clone().into_bytes()));
                let shown = format!("{manifest:?}");
                prop_assert!(!shown.contains("canary"), "{shown}");
            }
        }

        #[test]
        fn any_bytes_give_objects_or_sentences_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let manifest = parse("a.yaml", &Secret::new(bytes));
            prop_assert!(manifest.unreadable.iter().all(|sentence| sentence.starts_with("a.yaml")));
        }

        #[test]
        fn base64_decodes_to_what_was_encoded_however_it_is_wrapped(bytes in prop::collection::vec(any::<u8>(), 0..100), width in 1_usize..80) {
            let packed = base64::engine::general_purpose::STANDARD.encode(&bytes);
            let wrapped: Vec<&str> = packed.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
            prop_assert_eq!(decode(&wrapped.join("\r\n")), Some(Secret::new(bytes)));
        }
    }
}

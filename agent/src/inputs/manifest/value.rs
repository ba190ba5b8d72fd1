//! What stands in a manifest, in YAML or JSON: values of which any may be a password.

use std::collections::BTreeMap;
use std::fmt;

use agent_core::secret::Secret;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Budget, Error as YamlError, Options, Spanned};

/// A value of a manifest. Scalars are kept as text that is never printed, since any of them may be a password.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    /// A boolean or a number: never what a field of ours takes.
    Scalar,
    Text(Secret<String>),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Scalar)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Value, E> {
        Ok(Value::Scalar)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Value, E> {
        Ok(Value::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Scalar)
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.into()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(Secret::new(text)))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((key, value)) = entries.next_entry::<String, Value>()? {
            if map.insert(key, value).is_some() {
                return Err(A::Error::custom(DOUBLED));
            }
        }
        Ok(Value::Map(map))
    }
}

const DOUBLED: &str = "a key stands twice in the same mapping";

/// The documents of a text, each with its place.
pub(super) type Documents = Vec<(String, Value)>;

/// Reads YAML.
pub(super) fn yaml(file: &str, text: &str) -> Result<Documents, String> {
    let mut options = Options::default();
    // The default prints lines of the source, passwords included, into the message.
    options.with_snippet = false;
    let mut budget = Budget::default();
    budget.max_nodes = 50_000;
    budget.max_depth = 32;
    budget.max_aliases = 100;
    budget.max_documents = 1_000;
    options.budget = Some(budget);
    match serde_saphyr::from_multiple_with_options::<Spanned<Value>>(text, options) {
        Ok(documents) => Ok(documents
            .into_iter()
            .map(|document| (format!("{file}, line {}", document.referenced.line()), document.value))
            .collect()),
        Err(error) => {
            let what = match error.without_snippet() {
                YamlError::DuplicateMappingKey { .. } => DOUBLED,
                YamlError::Budget { .. } => "it is nested too deeply or has too many values, documents or aliases",
                YamlError::UnknownAnchor { .. } => "an alias names an anchor that is not there",
                _ => "it is not valid YAML",
            };
            Err(match error.location() {
                Some(at) => format!("{file}, line {} column {}: {what}", at.line(), at.column()),
                None => format!("{file}: {what}"),
            })
        }
    }
}

/// Reads JSON, several documents one after the other too.
pub(super) fn json(file: &str, text: &str) -> Result<Documents, String> {
    serde_json::Deserializer::from_str(text)
        .into_iter::<Value>()
        .enumerate()
        .map(|(index, document)| match document {
            Ok(value) => Ok((format!("{file}, document {}", index + 1), value)),
            Err(error) => {
                let what = if error.is_data() { DOUBLED } else { "it is not valid JSON" };
                Err(format!("{file}, line {} column {}: {what}", error.line(), error.column()))
            }
        })
        .collect()
}

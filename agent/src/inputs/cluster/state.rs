//! What the watches have told, and the inputs that follow from it.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::inputs::{InputObject, Inputs, Kind, ObjectId, Origin};
use agent_core::secret::Secret;
use tokio::task::AbortHandle;

use super::{ExtraSecret, InputsView};
use crate::cluster::lean::{Fields, Held};
use crate::cluster::trouble::Trouble;
use crate::inputs::{keep_ours, manifest};

/// An object, or the sentence that says why it is none.
pub(super) type Entry = Result<InputObject, String>;

pub(super) enum News {
    All(Kind, BTreeMap<String, Entry>),
    Set(Kind, String, Entry),
    Unset(Kind, String),
    Trouble(Kind, Trouble),
    Extra(ExtraSecret, Result<Option<Entry>, Trouble>),
}

#[derive(Default)]
pub(super) struct State {
    config_maps: Collection,
    secrets: Collection,
    pub(super) extras: BTreeMap<ExtraSecret, Extra>,
}

#[derive(Default)]
pub(super) struct Collection {
    pub(super) seen: Option<BTreeMap<String, Entry>>,
    pub(super) trouble: Option<Trouble>,
}

#[derive(Default)]
pub(super) struct Extra {
    seen: Option<Result<Option<Entry>, Trouble>>,
    trouble: Option<Trouble>,
}

impl State {
    pub(super) fn take(&mut self, item: Option<News>, running: &BTreeMap<ExtraSecret, AbortHandle>) {
        match item {
            None => {}
            Some(News::All(kind, objects)) => {
                *self.of(kind) = Collection { seen: Some(objects), trouble: None };
            }
            Some(News::Set(kind, name, entry)) => {
                self.of(kind).seen.get_or_insert_default().insert(name, entry);
            }
            Some(News::Unset(kind, name)) => {
                self.of(kind).seen.get_or_insert_default().remove(&name);
            }
            Some(News::Trouble(kind, trouble)) => self.of(kind).trouble = Some(trouble),
            // A word from a watch that was just ended.
            Some(News::Extra(extra, _)) if !running.contains_key(&extra) => {}
            Some(News::Extra(extra, found)) => self.found(extra, found),
        }
    }

    pub(super) fn found(&mut self, extra: ExtraSecret, found: Result<Option<Entry>, Trouble>) {
        let known = self.extras.entry(extra).or_default();
        match found {
            // Refused is an answer: the operator has to grant it. The rest is silence.
            Ok(_) | Err(Trouble::Forbidden(_)) => *known = Extra { seen: Some(found), trouble: None },
            Err(trouble) => known.trouble = Some(trouble),
        }
    }

    pub(super) fn of(&mut self, kind: Kind) -> &mut Collection {
        match kind {
            Kind::ConfigMap => &mut self.config_maps,
            Kind::Secret => &mut self.secrets,
        }
    }

    pub(super) fn view(&self, namespace: &str, wanted: &BTreeSet<ExtraSecret>) -> InputsView {
        let Self { config_maps, secrets, extras } = self;
        let mut objects = Vec::new();
        let mut unreadable = Vec::new();
        let mut keep = |entry: &Entry| match entry {
            Ok(object) => objects.push(object.clone()),
            Err(sentence) => unreadable.push(sentence.clone()),
        };
        for (kind, Collection { seen, trouble }) in [(Kind::ConfigMap, config_maps), (Kind::Secret, secrets)] {
            match seen {
                Some(seen) => seen.values().for_each(&mut keep),
                None => return waiting(&format!("the {kind}s of namespace {namespace}"), trouble.as_ref()),
            }
        }
        let mut missing = Vec::new();
        for extra @ ExtraSecret { namespace, name } in wanted {
            let what = format!("Secret {namespace}/{name}, which policy.yaml names,");
            let known = extras.get(extra);
            match known.and_then(|known| known.seen.as_ref()) {
                Some(Ok(Some(entry))) => keep(entry),
                Some(Ok(None)) => missing.push(format!("{what} does not exist")),
                Some(Err(trouble)) => missing.push(format!(
                    "{what} may not be read ({trouble}): grant the agent's ServiceAccount get and watch on it with a \
                     Role in {namespace} that has resourceNames [{name}]"
                )),
                None => {
                    let trouble = known.and_then(|known| known.trouble.as_ref());
                    return waiting(&format!("Secret {namespace}/{name}"), trouble);
                }
            }
        }
        unreadable.extend(missing);
        InputsView::Seen(Inputs { origin: Origin::Cluster, objects, unreadable })
    }
}

fn waiting(what: &str, trouble: Option<&Trouble>) -> InputsView {
    InputsView::Waiting(match trouble {
        Some(trouble) => format!("waits for {what}: {trouble}"),
        None => format!("waits for {what}"),
    })
}

/// Takes an object over: only ours of the annotations, and the data decoded.
pub(super) fn entry<const SECRET: bool>(kind: Kind, held: Held<SECRET>) -> Entry {
    let Held { metadata, secret_type, data: given, binary_data } = held;
    let id = ObjectId {
        kind,
        namespace: metadata.namespace.unwrap_or_default(),
        name: metadata.name.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
        resource_version: metadata.resource_version.unwrap_or_default(),
    };
    let mut data = BTreeMap::new();
    let sources = match kind {
        Kind::ConfigMap => [("data", given, false), ("binaryData", binary_data, true)],
        Kind::Secret => [("data", given, true), ("binaryData", Fields::default(), true)],
    };
    for (field, Fields(texts), is_base64) in sources {
        for (key, text) in texts {
            let bytes = text.and_then(|text| match is_base64 {
                true => manifest::decode(text.expose()),
                false => Some(Secret::new(text.expose().clone().into_bytes())),
            });
            match bytes {
                Some(bytes) => drop(data.insert(key, bytes)),
                None => return Err(format!("{id}: {field}.{key} is not what the API promises (text or base64)")),
            }
        }
    }
    Ok(InputObject {
        id,
        secret_type: secret_type.unwrap_or_default(),
        labels: metadata.labels.unwrap_or_default(),
        annotations: keep_ours(metadata.annotations.unwrap_or_default()),
        data,
    })
}

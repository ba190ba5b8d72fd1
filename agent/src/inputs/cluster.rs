//! Watches the ConfigMaps and Secrets of our namespace, and the Secrets elsewhere that the policy names.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use agent_core::inputs::{InputObject, Inputs, Kind, ObjectId, Origin};
use agent_core::secret::Secret;
use kube::api::{Api, ListParams};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::{FOREIGN_CONFIG_MAP, FOREIGN_TYPES, keep_ours, manifest};
use crate::cluster::client::{Cluster, call};
use crate::cluster::follow::{Change, Select, Sight, follow, follow_all};
use crate::cluster::lean::{Fields, Held};
use crate::cluster::trouble::Trouble;
use crate::tally::Watch;

/// A Secret outside our namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExtraSecret {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// What is known of the inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputsView {
    /// Not everything has been seen since the start, and why. Ends when it has. Never an empty set of inputs: not being
    /// able to see is not absence.
    Waiting(String),
    /// All that there is. Stays while the API server is away.
    Seen(Inputs),
}

/// Watches, for ever. Drive it beside the pass; `extras` may change at any time.
///
/// Until a Secret that was added to `extras` has been looked for once, the earlier inputs stay.
pub async fn watch_inputs(
    cluster: Cluster,
    mut extras: watch::Receiver<BTreeSet<ExtraSecret>>,
    out: watch::Sender<InputsView>,
) -> Infallible {
    let (sender, mut news) = mpsc::unbounded_channel();
    // Dropped with this future, and every watch with it.
    let mut tasks = JoinSet::new();
    tasks.spawn(collect::<false>(
        cluster.clone(),
        Kind::ConfigMap,
        config_map_selector(),
        Watch::ConfigMaps,
        sender.clone(),
    ));
    tasks.spawn(collect::<true>(cluster.clone(), Kind::Secret, secret_selector(), Watch::Secrets, sender.clone()));

    let mut state = State::default();
    let mut running: BTreeMap<ExtraSecret, AbortHandle> = BTreeMap::new();
    let mut is_policy_alive = true;
    loop {
        // One in our own namespace is seen already.
        let wanted: BTreeSet<ExtraSecret> =
            extras.borrow_and_update().iter().filter(|extra| extra.namespace != cluster.namespace()).cloned().collect();
        running.retain(|extra, task| {
            let stays = wanted.contains(extra);
            if !stays {
                task.abort();
            }
            stays
        });
        for extra in &wanted {
            running
                .entry(extra.clone())
                .or_insert_with(|| tasks.spawn(look(cluster.clone(), extra.clone(), sender.clone())));
        }
        state.extras.retain(|extra, _| wanted.contains(extra));
        let view = state.view(cluster.namespace(), &wanted);
        out.send_if_modified(|old| match (&view, &*old) {
            (InputsView::Waiting(_), InputsView::Seen(_)) => false,
            _ if view == *old => false,
            _ => {
                *old = view;
                true
            }
        });
        // Both arms only wait and take nothing before they are chosen, so either may be dropped.
        tokio::select! {
            changed = extras.changed(), if is_policy_alive => is_policy_alive = changed.is_ok(),
            item = news.recv() => {
                // `sender` lives as long as this loop, so there is always an item.
                state.take(item, &running);
                // Several at once are one change: `kubectl apply` sends object by object.
                while let Ok(item) = news.try_recv() {
                    state.take(Some(item), &running);
                }
            }
        }
        // Tasks end by abort only; their results are nothing.
        while tasks.try_join_next().is_some() {}
    }
}

/// Reads everything once, past every cache: without a version and unpaged each list is a quorum read.
///
/// # Errors
///
/// One sentence: what could not be read.
pub async fn read_inputs(cluster: &Cluster, extras: &BTreeSet<ExtraSecret>) -> Result<Inputs, String> {
    let wanted: BTreeSet<ExtraSecret> =
        extras.iter().filter(|extra| extra.namespace != cluster.namespace()).cloned().collect();
    let mut state = State::default();
    for kind in [Kind::ConfigMap, Kind::Secret] {
        let read = match kind {
            Kind::ConfigMap => list::<false>(cluster, kind, &config_map_selector()).await,
            Kind::Secret => list::<true>(cluster, kind, &secret_selector()).await,
        };
        match read {
            Ok(objects) => state.of(kind).seen = Some(objects),
            Err(trouble) => state.of(kind).trouble = Some(trouble),
        }
    }
    for extra in &wanted {
        let api = Api::<Held<true>>::namespaced(cluster.client(), &extra.namespace);
        let found = match call(api.get(&extra.name)).await {
            Ok(held) => Ok(Some(entry(Kind::Secret, held))),
            Err(Trouble::NotFound) => Ok(None),
            Err(trouble) => Err(trouble),
        };
        state.found(extra.clone(), found);
    }
    match state.view(cluster.namespace(), &wanted) {
        InputsView::Seen(inputs) => Ok(inputs),
        InputsView::Waiting(why) => Err(why),
    }
}

async fn list<const SECRET: bool>(
    cluster: &Cluster,
    kind: Kind,
    selector: &str,
) -> Result<BTreeMap<String, Entry>, Trouble> {
    let api = Api::<Held<SECRET>>::namespaced(cluster.client(), cluster.namespace());
    let read = call(api.list(&ListParams::default().fields(selector))).await?;
    Ok(read.items.into_iter().map(|held| (name(&held), entry(kind, held))).collect())
}

fn config_map_selector() -> String {
    format!("metadata.name!={FOREIGN_CONFIG_MAP}")
}

fn secret_selector() -> String {
    FOREIGN_TYPES.map(|foreign| format!("type!={foreign}")).join(",")
}

/// An object, or the sentence that says why it is none.
type Entry = Result<InputObject, String>;

enum News {
    All(Kind, BTreeMap<String, Entry>),
    Set(Kind, String, Entry),
    Unset(Kind, String),
    Trouble(Kind, Trouble),
    Extra(ExtraSecret, Result<Option<Entry>, Trouble>),
}

async fn collect<const SECRET: bool>(
    cluster: Cluster,
    kind: Kind,
    selector: String,
    watch: Watch,
    news: mpsc::UnboundedSender<News>,
) -> Infallible {
    let api = Api::<Held<SECRET>>::namespaced(cluster.client(), cluster.namespace());
    let select = Select::Fields(&selector);
    follow_all(
        api,
        select,
        watch,
        cluster.tally().clone(),
        |held| held,
        |change| {
            let item = match change {
                Change::All(objects) => {
                    News::All(kind, objects.into_iter().map(|held| (name(&held), entry(kind, held))).collect())
                }
                Change::Set(held) => News::Set(kind, name(&held), entry(kind, held)),
                Change::Unset(held) => News::Unset(kind, name(&held)),
                Change::Trouble(trouble) => News::Trouble(kind, trouble),
            };
            // The receiver goes when everything goes.
            let _ = news.send(item);
        },
    )
    .await
}

async fn look(cluster: Cluster, extra: ExtraSecret, news: mpsc::UnboundedSender<News>) -> Infallible {
    let api = Api::<Held<true>>::namespaced(cluster.client(), &extra.namespace);
    follow(api, &extra.name, Watch::ExtraSecret, cluster.tally().clone(), |sight| {
        let found = match sight {
            Sight::Seen(held) => Ok(Some(entry(Kind::Secret, held))),
            Sight::Absent => Ok(None),
            Sight::Trouble(trouble) => Err(trouble),
        };
        let _ = news.send(News::Extra(extra.clone(), found));
    })
    .await
}

fn name<const SECRET: bool>(held: &Held<SECRET>) -> String {
    held.metadata.name.clone().unwrap_or_default()
}

/// Takes an object over: only ours of the annotations, and the data decoded.
fn entry<const SECRET: bool>(kind: Kind, held: Held<SECRET>) -> Entry {
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

#[derive(Default)]
struct State {
    config_maps: Collection,
    secrets: Collection,
    extras: BTreeMap<ExtraSecret, Extra>,
}

#[derive(Default)]
struct Collection {
    seen: Option<BTreeMap<String, Entry>>,
    trouble: Option<Trouble>,
}

#[derive(Default)]
struct Extra {
    seen: Option<Result<Option<Entry>, Trouble>>,
    trouble: Option<Trouble>,
}

impl State {
    fn take(&mut self, item: Option<News>, running: &BTreeMap<ExtraSecret, AbortHandle>) {
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

    fn found(&mut self, extra: ExtraSecret, found: Result<Option<Entry>, Trouble>) {
        let known = self.extras.entry(extra).or_default();
        match found {
            // Refused is an answer: the operator has to grant it. The rest is silence.
            Ok(_) | Err(Trouble::Forbidden(_)) => *known = Extra { seen: Some(found), trouble: None },
            Err(trouble) => known.trouble = Some(trouble),
        }
    }

    fn of(&mut self, kind: Kind) -> &mut Collection {
        match kind {
            Kind::ConfigMap => &mut self.config_maps,
            Kind::Secret => &mut self.secrets,
        }
    }

    fn view(&self, namespace: &str, wanted: &BTreeSet<ExtraSecret>) -> InputsView {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::cluster::fake::{Answer, Counts, Fake, until};

    const OURS: &str = "/api/v1/namespaces/k3s-registry-agent";
    const EXTRA: &str = "/api/v1/namespaces/team/secrets/pull";

    struct Running {
        fake: Fake,
        counts: Arc<Counts>,
        extras: watch::Sender<BTreeSet<ExtraSecret>>,
        view: watch::Receiver<InputsView>,
        _tasks: JoinSet<Infallible>,
    }

    fn extra() -> BTreeSet<ExtraSecret> {
        BTreeSet::from([ExtraSecret { namespace: "team".into(), name: "pull".into() }])
    }

    fn started(fake: Fake, extras: BTreeSet<ExtraSecret>) -> Running {
        let counts = Arc::new(Counts::default());
        let (extras, receiver) = watch::channel(extras);
        let (sender, view) = watch::channel(InputsView::Waiting(String::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_inputs(fake.cluster(counts.clone()), receiver, sender));
        Running { fake, counts, extras, view, _tasks: tasks }
    }

    impl Running {
        fn seen(&self) -> Option<Inputs> {
            match &*self.view.borrow() {
                InputsView::Seen(inputs) => Some(inputs.clone()),
                InputsView::Waiting(_) => None,
            }
        }

        fn names(&self) -> Vec<String> {
            self.seen().map(|inputs| inputs.objects.iter().map(|o| o.id.to_string()).collect()).unwrap_or_default()
        }
    }

    fn secret(password: &str) -> serde_json::Value {
        json!({"metadata": {"annotations": {
                    "k3s-registry-agent/host": "a.example", "backup.example/copy": password,
                    "kubectl.kubernetes.io/last-applied-configuration": format!("{{\"data\":\"{password}\"}}")},
                "managedFields": [{"manager": "kubectl"}]},
            "type": "Opaque", "data": {"password": password}})
    }

    #[tokio::test(start_paused = true)]
    async fn both_collections_and_extras_become_one_set_of_inputs() {
        let fake = Fake::default();
        fake.put(
            &format!("{OURS}/configmaps/registries"),
            json!({"data": {"registries.yaml": "mirrors: {}"}, "binaryData": {"ca.crt": "AAE="}}),
        );
        fake.put(&format!("{OURS}/secrets/one"), secret("Y2FuYXJ5"));
        fake.put(EXTRA, secret("Zm9v"));
        let run = started(fake, extra());
        until(|| run.seen().is_some()).await;
        let inputs = run.seen().unwrap();
        assert_eq!(inputs.unreadable, Vec::<String>::new());
        assert_eq!(
            run.names(),
            ["ConfigMap k3s-registry-agent/registries", "Secret k3s-registry-agent/one", "Secret team/pull"]
        );
        assert_eq!(inputs.objects[0].data["registries.yaml"].expose(), b"mirrors: {}");
        assert_eq!(inputs.objects[0].data["ca.crt"].expose(), &[0, 1]);
        assert_eq!(inputs.objects[1].data["password"].expose(), b"canary");
        assert_eq!(inputs.objects[1].annotations.len(), 1, "copies of the data are gone");
        assert_eq!(inputs.objects[1].id.uid, "uid-one");
        assert!(!format!("{inputs:?}").contains("Y2FuYXJ5"));

        run.fake.put(&format!("{OURS}/secrets/two"), secret("Zm9v"));
        until(|| run.names().len() == 4).await;
        run.fake.delete(&format!("{OURS}/secrets/one"));
        until(|| run.names().len() == 3).await;
        run.extras.send_replace(BTreeSet::new());
        until(|| run.names().len() == 2).await;
        assert!(
            run.fake.requests().iter().all(|r| *r != "GET /api/v1/namespaces/team/secrets"),
            "one name is one right"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_said_before_every_watch_had_its_answer() {
        for (request, waits) in [
            (
                format!("GET {OURS}/configmaps"),
                "waits for the ConfigMaps of namespace k3s-registry-agent: the API server forbids it (403)",
            ),
            (
                format!("GET {OURS}/secrets"),
                "waits for the Secrets of namespace k3s-registry-agent: the API server forbids it (403)",
            ),
        ] {
            let fake = Fake::default();
            fake.always(&request, Some(Answer::Status(403)));
            let run = started(fake, extra());
            until(|| *run.view.borrow() == InputsView::Waiting(waits.into())).await;
            run.fake.always(&request, None);
            until(|| run.seen().is_some()).await;
        }
        let fake = Fake::default();
        fake.always(&format!("GET {EXTRA}"), Some(Answer::Hang));
        let run = started(fake, extra());
        let waits = "waits for Secret team/pull: the API server does not answer in time";
        until(|| *run.view.borrow() == InputsView::Waiting(waits.into())).await;
        run.fake.always(&format!("GET {EXTRA}"), None);
        until(|| run.seen().is_some()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_extra_secret_that_is_missing_or_forbidden_is_named_with_what_to_grant() {
        let fake = Fake::default();
        fake.always(&format!("GET {EXTRA}"), Some(Answer::Status(403)));
        let run = started(fake, extra());
        let says = |words: &str| run.seen().is_some_and(|inputs| inputs.unreadable.iter().any(|s| s.contains(words)));
        until(|| says("Secret team/pull, which policy.yaml names, may not be read")).await;
        assert!(says("with a Role in team that has resourceNames [pull]"));
        run.fake.always(&format!("GET {EXTRA}"), None);
        until(|| says("Secret team/pull, which policy.yaml names, does not exist")).await;
        run.fake.put(EXTRA, secret("Zm9v"));
        until(|| run.names() == ["Secret team/pull"]).await;
        assert_eq!(run.seen().unwrap().unreadable, Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn inputs_outlive_an_api_server_that_is_away_and_are_caught_up_with() {
        let fake = Fake::default();
        fake.put(&format!("{OURS}/secrets/one"), secret("Zm9v"));
        let run = started(fake, BTreeSet::new());
        until(|| run.names().len() == 1 && run.fake.open_watches() == 2).await;
        for kind in ["configmaps", "secrets"] {
            run.fake.always(&format!("GET {OURS}/{kind}"), Some(Answer::Hang));
        }
        run.fake.end_watches(Some(410));
        until(|| run.counts.of("list abandoned") >= 4).await;
        assert_eq!(run.names().len(), 1);
        run.fake.put(&format!("{OURS}/secrets/two"), secret("Zm9v"));
        run.fake.delete(&format!("{OURS}/secrets/one"));
        for kind in ["configmaps", "secrets"] {
            run.fake.always(&format!("GET {OURS}/{kind}"), None);
        }
        until(|| run.names() == ["Secret k3s-registry-agent/two"]).await;
        assert!(run.counts.of("reconnect secrets") >= 2);
    }

    #[tokio::test(start_paused = true)]
    async fn earlier_inputs_stay_until_a_new_extra_secret_has_been_looked_for() {
        let run = started(Fake::default(), BTreeSet::new());
        until(|| run.seen().is_some()).await;
        run.fake.always(&format!("GET {EXTRA}"), Some(Answer::Hang));
        run.extras.send_replace(extra());
        until(|| run.counts.of("get abandoned") >= 2).await;
        assert_eq!(run.seen().unwrap().unreadable, Vec::<String>::new());
        run.fake.always(&format!("GET {EXTRA}"), None);
        until(|| run.seen().unwrap().unreadable.len() == 1).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_with_data_that_is_none_is_named_and_does_not_stop_the_others() {
        let fake = Fake::default();
        fake.put(&format!("{OURS}/secrets/bad"), json!({"data": {"password": "canary!"}}));
        fake.put(&format!("{OURS}/secrets/worse"), json!({"data": ["canary"]}));
        fake.put(&format!("{OURS}/secrets/good"), secret("Zm9v"));
        let run = started(fake, BTreeSet::new());
        until(|| run.seen().is_some()).await;
        assert_eq!(run.names(), ["Secret k3s-registry-agent/good"]);
        let unreadable = run.seen().unwrap().unreadable;
        assert!(unreadable[0].starts_with("Secret k3s-registry-agent/bad: data.password is not"), "{unreadable:?}");
        assert!(unreadable[1].starts_with("Secret k3s-registry-agent/worse: data"), "{unreadable:?}");
        assert!(!format!("{unreadable:?}").contains("canary"));
    }
}

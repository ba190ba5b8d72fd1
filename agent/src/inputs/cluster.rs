//! Watches the ConfigMaps and Secrets of our namespace, and the Secrets elsewhere that the policy names.

mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use agent_core::inputs::{Inputs, Kind};
use kube::api::{Api, ListParams};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use self::state::{Entry, News, State, entry};
use super::{FOREIGN_CONFIG_MAP, FOREIGN_TYPES};
use crate::cluster::client::{Cluster, call};
use crate::cluster::follow::{Change, Select, Sight, follow, follow_all};
use crate::cluster::lean::Held;
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

#[cfg(test)]
mod tests;

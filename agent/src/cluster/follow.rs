//! Follows an object, or a collection, for ever: a quorum read, then a watch from there on.
//!
//! One object is read by get, not by list: get and watch are what a Role can grant for a single name. Every request and
//! every silence has a limit, which kube's own watcher leaves to the caller.

use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::Resource;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use serde::de::DeserializeOwned;
use tracing::debug;

use super::client::{CALL_LIMIT, call};
use super::trouble::Trouble;
use crate::tally::{Tally, Watch};

/// What is known of an object now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sight<K> {
    /// It is this.
    Seen(K),
    /// It does not exist.
    Absent,
    /// It cannot be seen; what was seen before may still hold.
    Trouble(Trouble),
}

/// What is new in a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change<K> {
    /// These, and no others.
    All(Vec<K>),
    /// This one is new, or different.
    Set(K),
    /// This one is gone.
    Unset(K),
    /// It cannot be seen; what was seen before may still hold.
    Trouble(Trouble),
}

/// Which objects of a collection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Select<'a> {
    /// All.
    All,
    /// By a field selector.
    Fields(&'a str),
    /// By a label selector.
    Labels(&'a str),
}

/// How long the server keeps a watch open.
const WATCH_SECONDS: u32 = 290;

/// Silence after which a watch is dead: the server should have closed it.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 5);

/// A watch that stood this long proves that the server is well.
const STEADY: Duration = Duration::from_secs(60);

/// Objects in one answer.
const PAGE: u32 = 100;

/// Tells `seen` every state of an object, in order.
///
/// Each (re)connection starts with a quorum read, so what is told never goes back to an older state.
pub(crate) async fn follow<K>(
    api: Api<K>,
    name: &str,
    watch: Watch,
    tally: Arc<dyn Tally>,
    mut seen: impl FnMut(Sight<K>),
) -> Infallible
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(WATCH_SECONDS);
    let mut backoff = Backoff::default();
    loop {
        // By the code alone, like every other answer.
        let found = match call(api.get(name)).await {
            Ok(object) => Ok(Some(object)),
            Err(Trouble::NotFound) => Ok(None),
            Err(trouble) => Err(trouble),
        };
        let trouble = match found {
            Ok(object) => {
                let version = object.as_ref().and_then(|object| object.meta().resource_version.clone());
                let read = number(version.as_deref());
                seen(object.map_or(Sight::Absent, Sight::Seen));
                let mut has_news = false;
                let mut on = |change| {
                    has_news = true;
                    match change {
                        Event::Set(object) => seen(Sight::Seen(object)),
                        Event::Unset(_) => seen(Sight::Absent),
                    }
                };
                let broke = stream(&api, &params, version, SILENCE, &mut backoff, &mut on).await;
                if broke == Trouble::Gone && read.is_some() && !has_news {
                    // An object's version is as old as its last change, and the server may not remember it: since its
                    // own start, or since etcd was compacted. Without a version the watch begins with the present state,
                    // of which a lagging server's may be older than what was read.
                    let mut on = |change: Event<K>| match change {
                        Event::Set(object) if number(object.meta().resource_version.as_deref()) < read => {}
                        Event::Set(object) => seen(Sight::Seen(object)),
                        Event::Unset(_) => seen(Sight::Absent),
                    };
                    // What does not begin so was deleted since.
                    stream(&api, &params, None, CALL_LIMIT, &mut backoff, &mut on).await
                } else {
                    broke
                }
            }
            Err(trouble) => trouble,
        };
        pause(watch, &*tally, &trouble, &mut backoff, || seen(Sight::Trouble(trouble.clone()))).await;
    }
}

/// A version as a number, to tell the older of two sights of one object; none is older than any.
fn number(version: Option<&str>) -> Option<u64> {
    version?.parse().ok()
}

/// Tells `on` every change of a collection, in order, starting with all of it.
///
/// Each object is stripped as it comes, page by page: of a large collection only what is used is ever held.
pub(crate) async fn follow_all<K, T>(
    api: Api<K>,
    select: Select<'_>,
    watch: Watch,
    tally: Arc<dyn Tally>,
    strip: impl Fn(K) -> T,
    mut on: impl FnMut(Change<T>),
) -> Infallible
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let (list_params, params) = (ListParams::default().limit(PAGE), WatchParams::default().timeout(WATCH_SECONDS));
    let (list_params, params) = match select {
        Select::All => (list_params, params),
        Select::Fields(selector) => (list_params.fields(selector), params.fields(selector)),
        Select::Labels(selector) => (list_params.labels(selector), params.labels(selector)),
    };
    let mut backoff = Backoff::default();
    loop {
        let trouble = match list(&api, list_params.clone(), &strip).await {
            Ok((objects, version)) => {
                on(Change::All(objects));
                let mut on = |event| match event {
                    Event::Set(object) => on(Change::Set(strip(object))),
                    Event::Unset(object) => on(Change::Unset(strip(object))),
                };
                stream(&api, &params, version, SILENCE, &mut backoff, &mut on).await
            }
            Err(trouble) => trouble,
        };
        pause(watch, &*tally, &trouble, &mut backoff, || on(Change::Trouble(trouble.clone()))).await;
    }
}

async fn list<K, T>(
    api: &Api<K>,
    mut params: ListParams,
    strip: &impl Fn(K) -> T,
) -> Result<(Vec<T>, Option<String>), Trouble>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let mut objects = Vec::new();
    loop {
        let page = call(api.list(&params)).await?;
        objects.extend(page.items.into_iter().map(strip));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok((objects, page.metadata.resource_version)),
        }
    }
}

async fn pause(watch: Watch, tally: &dyn Tally, trouble: &Trouble, backoff: &mut Backoff, say: impl FnOnce()) {
    // That a version is too old is how a watch ends after a long break, and nothing to tell.
    if *trouble != Trouble::Gone {
        say();
    }
    tally.reconnect(watch);
    let wait = backoff.next();
    debug!(watch = watch.as_str(), kind = trouble.kind(), wait_ms = wait.as_millis(), "watch broke");
    tokio::time::sleep(wait).await;
}

enum Event<K> {
    Set(K),
    Unset(K),
}

/// Watches from a version on, over the server's regular ends, until something breaks. The first event comes in `first`.
async fn stream<K>(
    api: &Api<K>,
    params: &WatchParams,
    mut version: Option<String>,
    first: Duration,
    backoff: &mut Backoff,
    on: &mut impl FnMut(Event<K>),
) -> Trouble
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let mut silence = first;
    loop {
        let opened = tokio::time::Instant::now();
        // Without a version the server starts with the present state: for an object that does not exist yet.
        let watch = api.watch(params, version.as_deref().unwrap_or(""));
        let mut events = match tokio::time::timeout(CALL_LIMIT, watch).await {
            Ok(Ok(events)) => events.boxed(),
            Ok(Err(error)) => return Trouble::from(&error),
            Err(_) => return Trouble::TimedOut,
        };
        loop {
            let event = match tokio::time::timeout(silence, events.next()).await {
                Err(_) => return Trouble::TimedOut,
                Ok(None) => break,
                Ok(Some(Err(error))) => return Trouble::from(&error),
                Ok(Some(Ok(event))) => event,
            };
            silence = SILENCE;
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    backoff.reset();
                    version = object.meta().resource_version.clone();
                    on(Event::Set(object));
                }
                WatchEvent::Deleted(object) => {
                    backoff.reset();
                    version = object.meta().resource_version.clone();
                    on(Event::Unset(object));
                }
                WatchEvent::Bookmark(mark) => version = Some(mark.metadata.resource_version),
                WatchEvent::Error(status) => return Trouble::of_status(&status),
            }
        }
        // A server that closes at once would be asked in a tight loop.
        if opened.elapsed() < Duration::from_secs(1) {
            return Trouble::Unreachable("the watch was closed at once".to_owned());
        }
        if opened.elapsed() >= STEADY {
            backoff.reset();
        }
    }
}

/// Waits that double from 0.8 s to 30 s, each shortened by a random part of up to a half, so that the agents of all
/// nodes do not come back in the same second.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    fn next(&mut self) -> Duration {
        let full = Duration::from_millis(800).saturating_mul(1 << self.failures.min(6)).min(Duration::from_secs(30));
        self.failures = self.failures.saturating_add(1);
        // Without randomness the full wait does as well.
        let mut bytes = [0; 4];
        // Without randomness there is no jitter, and nothing breaks.
        let _ = crate::random::fill(&mut bytes);
        let random = u32::from_ne_bytes(bytes);
        full - full.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
    }

    fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_half_a_minute_and_start_over_after_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next()).collect();
        assert!(waits[0] >= Duration::from_millis(400) && waits[0] <= Duration::from_millis(800), "{waits:?}");
        assert!(waits[6..].iter().all(|wait| (15..=30).contains(&wait.as_secs())), "{waits:?}");
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(800));
    }
}

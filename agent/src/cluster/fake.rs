//! An API server for tests: keeps objects with versions, serves get, list, watch, merge patch and create, and fails when told.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::{StreamExt, stream};
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::{Body, ClientBuilder};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::client::{Cluster, Counting};
use crate::tally::{Outcome, Tally, Verb, Watch};

type Answered = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// What to answer instead of the truth.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Status(u16),
    Text(String),
    Hang,
}

/// Counts in memory.
#[derive(Debug, Default)]
pub(crate) struct Counts(pub(crate) Mutex<Vec<String>>);

impl Counts {
    pub(crate) fn of(&self, what: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|line| *line == what).count()
    }
}

impl Tally for Counts {
    fn request(&self, verb: Verb, outcome: Outcome) {
        self.0.lock().unwrap().push(format!("{} {}", verb.as_str(), outcome.as_str()));
    }

    fn reconnect(&self, watch: Watch) {
        self.0.lock().unwrap().push(format!("reconnect {}", watch.as_str()));
    }

    fn event_lost(&self) {
        self.0.lock().unwrap().push("event lost".to_owned());
    }
}

#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    version: u64,
    /// A watch from an earlier version is too old.
    oldest: u64,
    objects: BTreeMap<String, Value>,
    /// (version, path, type, object)
    history: Vec<(u64, String, &'static str, Value)>,
    watches: Vec<Open>,
    /// By `METHOD path`; watches are `WATCH path`.
    next: BTreeMap<String, VecDeque<Answer>>,
    always: BTreeMap<String, Answer>,
    requests: Vec<String>,
    bodies: Vec<Value>,
    spy: Option<Spy>,
}

/// Looks at each request before it is answered.
pub(crate) type Spy = Arc<dyn Fn(&str, &str) + Send + Sync>;

struct Open {
    collection: String,
    name: Option<String>,
    sender: UnboundedSender<Bytes>,
}

impl Open {
    fn wants(&self, path: &str) -> bool {
        path.rsplit_once('/').is_some_and(|(collection, name)| {
            collection == self.collection && self.name.as_ref().is_none_or(|wanted| wanted == name)
        })
    }

    fn send(&self, kind: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        let _ = self.sender.unbounded_send(line.into());
    }
}

impl Fake {
    pub(crate) fn cluster(&self, tally: Arc<dyn Tally>) -> Cluster {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move { fake.answer(request).await }
        });
        let layer = Counting { tally: tally.clone() };
        let client: Client = ClientBuilder::new(service, "default").with_layer(&layer).build();
        Cluster::with_client(client, "k3s-registry-agent", tally)
    }

    /// Serves over a real socket, so that hyper and kube's own layers are on the way.
    pub(crate) async fn serve(&self, tasks: &mut JoinSet<()>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let fake = self.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let fake = fake.clone();
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let fake = fake.clone();
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = Body::from(body.collect().await.unwrap().to_bytes().to_vec());
                        fake.answer(Request::from_parts(parts, body)).await
                    }
                });
                connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        address
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Creates or replaces an object; `path` is its URL.
    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        let (collection, name) = path.rsplit_once('/').unwrap();
        let meta = object.as_object_mut().unwrap().entry("metadata").or_insert_with(|| json!({}));
        if let Some(meta) = meta.as_object_mut() {
            meta.insert("name".into(), name.into());
            meta.insert("resourceVersion".into(), version.to_string().into());
            meta.entry("uid").or_insert_with(|| format!("uid-{name}").into());
            if let Some(namespace) = collection.split('/').skip_while(|part| *part != "namespaces").nth(1) {
                meta.insert("namespace".into(), namespace.into());
            }
        }
        let kind = if state.objects.insert(path.to_owned(), object.clone()).is_some() { "MODIFIED" } else { "ADDED" };
        state.tell(version, path, kind, object);
    }

    pub(crate) fn delete(&self, path: &str) {
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        let mut object = state.objects.remove(path).unwrap();
        object["metadata"]["resourceVersion"] = version.to_string().into();
        state.tell(version, path, "DELETED", object);
    }

    pub(crate) fn object(&self, path: &str) -> Value {
        self.state().objects[path].clone()
    }

    /// The next request of this kind (`PATCH /api/…`, `WATCH /api/…`) is answered so.
    pub(crate) fn next(&self, request: &str, answer: Answer) {
        self.state().next.entry(request.to_owned()).or_default().push_back(answer);
    }

    /// All requests of this kind are answered so, or truthfully again.
    pub(crate) fn always(&self, request: &str, answer: Option<Answer>) {
        let mut state = self.state();
        match answer {
            Some(answer) => drop(state.always.insert(request.to_owned(), answer)),
            None => drop(state.always.remove(request)),
        }
    }

    /// Ends every open watch, after an error event if one is given; old versions are forgotten with it.
    pub(crate) fn end_watches(&self, error: Option<u16>) {
        let mut state = self.state();
        for watch in state.watches.drain(..) {
            if let Some(code) = error {
                watch.send("ERROR", &status(code));
            }
        }
        if error.is_some() {
            state.oldest = state.version;
        }
    }

    pub(crate) fn open_watches(&self) -> usize {
        self.state().watches.iter().filter(|watch| !watch.sender.is_closed()).count()
    }

    pub(crate) fn spied_by(&self, spy: Spy) {
        self.state().spy = Some(spy);
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    pub(crate) fn bodies(&self) -> Vec<Value> {
        self.state().bodies.clone()
    }

    async fn answer(&self, request: Request<Body>) -> Result<Answered, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        // A request to an address of its own names it; those to the API server do not.
        let at = parts.uri.authority().map_or(String::new(), |at| format!("https://{at}"));
        let path = format!("{at}{}", parts.uri.path());
        let query = parts.uri.query().unwrap_or("");
        let query = query.replace("%3D", "=").replace("%21", "!").replace("%2C", ",").replace("%2F", "/");
        let is_watch = query.contains("watch=");
        let request = format!("{} {path}", if is_watch { "WATCH" } else { parts.method.as_str() });
        let planned = {
            let mut state = self.state();
            if let Some(spy) = state.spy.clone() {
                spy(&request, &String::from_utf8_lossy(&body));
            }
            state.requests.push(request.clone());
            if let Ok(body) = serde_json::from_slice(&body) {
                state.bodies.push(body);
            }
            let next = state.next.get_mut(&request).and_then(VecDeque::pop_front);
            next.or_else(|| state.always.get(&request).cloned())
        };
        match planned {
            Some(Answer::Hang) => futures::future::pending().await,
            Some(Answer::Status(code)) => return Ok(text(code, status(code).to_string())),
            Some(Answer::Text(body)) => return Ok(text(200, body)),
            None => {}
        }
        if is_watch {
            return Ok(self.watch(&path, &query));
        }
        let state = self.state();
        match parts.method {
            Method::GET => {
                if let Some(object) = state.objects.get(&path) {
                    return Ok(text(200, object.to_string()));
                }
                let name = path.rsplit('/').next().unwrap_or("");
                if ["secrets", "configmaps", "nodes", "pods"].contains(&name) {
                    return Ok(text(200, state.list(&path, &query).to_string()));
                }
                Ok(text(404, status(404).to_string()))
            }
            Method::PATCH => {
                let Some(mut object) = state.objects.get(&path).cloned() else {
                    return Ok(text(404, status(404).to_string()));
                };
                let patch: Value = serde_json::from_slice(&body).unwrap();
                let asked = &patch["metadata"]["resourceVersion"];
                if !asked.is_null() && *asked != object["metadata"]["resourceVersion"] {
                    return Ok(text(409, status(409).to_string()));
                }
                merge(&mut object, &patch);
                drop(state);
                self.put(&path, object);
                Ok(text(200, self.object(&path).to_string()))
            }
            Method::POST => {
                let mut object: Value = serde_json::from_slice(&body).unwrap();
                let name = format!("{}{}", object["metadata"]["generateName"].as_str().unwrap(), state.version);
                drop(state);
                object["metadata"]["generateName"] = Value::Null;
                let path = format!("{path}/{name}");
                self.put(&path, object);
                Ok(text(201, self.object(&path).to_string()))
            }
            _ => Ok(text(405, status(405).to_string())),
        }
    }

    fn watch(&self, path: &str, query: &str) -> Answered {
        let mut state = self.state();
        let param = |name: &str| param(query, name);
        let name = param("fieldSelector").and_then(|selector| selector.strip_prefix("metadata.name="));
        let (sender, receiver) = unbounded();
        let open = Open { collection: path.to_owned(), name: name.map(str::to_owned), sender };
        match param("resourceVersion").filter(|version| !version.is_empty()) {
            Some(version) => {
                let version: u64 = version.parse().unwrap();
                if version < state.oldest {
                    open.send("ERROR", &status(410));
                    drop(open);
                    return Response::new(BodyExt::boxed_unsync(StreamBody::new(
                        receiver.map(|bytes| Ok(Frame::data(bytes))),
                    )));
                }
                for (at, path, kind, object) in &state.history {
                    if *at > version && open.wants(path) {
                        open.send(kind, object);
                    }
                }
            }
            None => {
                for (path, object) in &state.objects {
                    if open.wants(path) {
                        open.send("ADDED", object);
                    }
                }
            }
        }
        state.watches.push(open);
        let frames = StreamBody::new(receiver.map(|bytes| Ok(Frame::data(bytes))));
        Response::new(BodyExt::boxed_unsync(frames))
    }
}

fn param<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

impl State {
    /// A page of a collection. Labels are selected by `name` and `name=value`; the token to go on from is the last path.
    fn list(&self, path: &str, query: &str) -> Value {
        let labels: Vec<&str> = param(query, "labelSelector").into_iter().flat_map(|all| all.split(',')).collect();
        let limit = param(query, "limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
        let after = param(query, "continue").unwrap_or("");
        let mut rest = self.objects.iter().filter(|(at, object)| {
            at.rsplit_once('/').is_some_and(|(collection, _)| collection == path)
                && labels.iter().all(|label| match label.split_once('=') {
                    Some((name, value)) => object["metadata"]["labels"][name] == value,
                    None => object["metadata"]["labels"].get(label).is_some(),
                })
                && at.as_str() > after
        });
        let page: Vec<_> = rest.by_ref().take(limit).collect();
        let token = page.last().filter(|_| rest.next().is_some()).map_or("", |(at, _)| at.as_str());
        let items: Vec<_> = page.iter().map(|(_, object)| *object).collect();
        json!({"kind": "List", "apiVersion": "v1", "items": items,
            "metadata": {"resourceVersion": self.version.to_string(), "continue": token}})
    }

    fn tell(&mut self, version: u64, path: &str, kind: &'static str, object: Value) {
        for watch in self.watches.iter().filter(|watch| watch.wants(path)) {
            watch.send(kind, &object);
        }
        self.history.push((version, path.to_owned(), kind, object));
    }
}

fn merge(object: &mut Value, patch: &Value) {
    match (object.as_object_mut(), patch) {
        (Some(object), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    object.remove(key);
                } else {
                    merge(object.entry(key).or_insert_with(|| json!({})), value);
                }
            }
        }
        _ => *object = patch.clone(),
    }
}

fn status(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "Told", "message": "told to"})
}

fn text(code: u16, body: String) -> Answered {
    let body = stream::iter([Ok(Frame::data(Bytes::from(body)))]);
    let mut response = Response::new(StreamBody::new(body).boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    response
}

/// Waits until something holds; a test whose claim is wrong hangs here and is stopped by paused time's hour.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..360_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it never held");
}

#[test]
fn a_merge_patch_removes_nulls() {
    let mut object = json!({"metadata": {"annotations": {"a": "1", "b": "2"}}});
    merge(&mut object, &json!({"metadata": {"annotations": {"a": null, "c": "3"}}}));
    assert_eq!(object, json!({"metadata": {"annotations": {"b": "2", "c": "3"}}}));
}

//! The agent's loop against an API server, with a coordinator that the test plays.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use agent_core::grant::{Ask, Grant};
use agent_core::node::annotations::PREFIX;
use serde_json::{Value, json};

use super::*;
use crate::cluster::fake::{Answer, Counts, Fake};
use crate::cluster::hearing::COORDINATOR_LEASE;
use crate::commands::sources::InCluster;
use crate::host::ServiceChoice;

const NODE: &str = "/api/v1/nodes/n1";
const OURS: &str = "/api/v1/namespaces/k3s-registry-agent";
const EPOCH: &str = "0123456789abcdef";

struct Bed {
    fake: Fake,
    counts: Arc<Counts>,
    looping: Loop,
    dir: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

fn lease() -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/k3s-registry-agent/leases/{COORDINATOR_LEASE}")
}

/// Nobody is asked: these tests have no registry.
fn config_map(endpoint: &str) -> Value {
    let off = "preflight: {credential: off, tls: off, name: off, route: off, realm: off, api: off}\n";
    json!({"data": {
        "registries.yaml": format!("mirrors: {{docker.io: {{endpoint: [\"{endpoint}\"]}}}}\n"),
        "policy.yaml": off,
    }})
}

fn given() -> Bed {
    let (fake, counts) = (Fake::default(), Arc::new(Counts::default()));
    fake.put(NODE, json!({"metadata": {"annotations": {}}}));
    fake.put(&format!("{OURS}/configmaps/registries"), config_map("https://first.example"));
    fake.put(
        &lease(),
        json!({"metadata": {"annotations": {format!("{PREFIX}epoch"): EPOCH}}, "spec": {"holderIdentity": "c"}}),
    );
    let dir = tempfile::tempdir().unwrap();
    let (looping, tasks) = started(&fake, &counts, dir.path());
    Bed { fake, counts, looping, dir, _tasks: tasks }
}

/// A process of the agent.
fn started(fake: &Fake, counts: &Arc<Counts>, dir: &std::path::Path) -> (Loop, JoinSet<()>) {
    let mut tasks = JoinSet::new();
    let host = Host::open(&dir.join("node"), ServiceChoice::None).unwrap();
    let key = host.key().unwrap();
    let cluster = InCluster::start(fake.cluster(counts.clone()), "n1".into(), &mut tasks);
    let file = watching::directory(host.root(), &host.directory());
    let passes = Passes::new(host, key.clone(), TurnSource::Coordinator);
    let metrics = Arc::new(Metrics::new(Arc::default()));
    let probing = remembered(&passes, &metrics);
    let looping = Loop {
        namespace: "k3s-registry-agent".into(),
        passes,
        key,
        sources: Sources::of(cluster),
        file,
        metrics,
        liveness: Arc::new(Liveness::new(ALIVE)),
        is_ready: Arc::default(),
        settled: None,
        fresh: None,
        last_policy: None,
        probing,
        remark: None,
    };
    (looping, tasks)
}

impl Bed {
    fn says(&self, name: &str) -> Option<String> {
        self.fake.object(NODE)["metadata"]["annotations"][format!("{PREFIX}{name}")].as_str().map(str::to_owned)
    }

    fn annotate(&self, name: &str, value: Value) {
        let mut node = self.fake.object(NODE);
        let annotations = node["metadata"]["annotations"].as_object_mut().unwrap();
        match value {
            Value::Null => drop(annotations.remove(&format!("{PREFIX}{name}"))),
            value => drop(annotations.insert(format!("{PREFIX}{name}"), value)),
        }
        self.fake.put(NODE, node);
    }

    /// Waits for an ask and grants it.
    async fn grants(&mut self) -> Grant {
        self.until(|bed| bed.says("wanted").is_some()).await;
        let ask: Ask = self.says("wanted").unwrap().parse().unwrap();
        let grant = Grant { ask, epoch: EPOCH.parse().unwrap() };
        self.annotate("grant", grant.to_string().into());
        grant
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("node/etc/rancher/k3s/registries.yaml")
    }

    fn holds(&self, text: &str) -> bool {
        fs::read_to_string(self.file()).is_ok_and(|file| file.contains(text))
    }

    /// The loop goes round until something holds.
    async fn until(&mut self, mut holds: impl FnMut(&Self) -> bool) {
        for _ in 0..2000 {
            if holds(self) {
                return;
            }
            self.looping.look_at_inputs();
            self.looping.turn_of_the_loop(false).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it never held: {:?}", self.fake.requests());
    }

    fn dies(&mut self) {
        let (looping, tasks) = started(&self.fake, &self.counts, self.dir.path());
        self.looping = looping;
        self._tasks = tasks;
    }
}

/// Only what a turn is made of, in order: with the request whether the ask is used in the journal, and which file lies
/// there.
fn spied(bed: &Bed) -> Arc<Mutex<Vec<String>>> {
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let (out, file) = (log.clone(), bed.file());
    let journal = bed.dir.path().join("node/var/lib/k3s-registry-agent/record.json");
    bed.fake.spied_by(Arc::new(move |request, body| {
        let is_of_a_turn = request.starts_with("GET /apis/coordination") && request.contains(COORDINATOR_LEASE)
            || request == format!("GET {OURS}/configmaps")
            || request == format!("GET {OURS}/secrets")
            || (request == format!("PATCH {NODE}") && body.contains("answered"));
        if !is_of_a_turn {
            return;
        }
        let record: Value = serde_json::from_str(&fs::read_to_string(&journal).unwrap_or_default()).unwrap_or_default();
        let used = record["asksUsed"].as_array().is_some_and(|used| !used.is_empty());
        let what = request.rsplit('/').next().unwrap_or_default();
        let phase = ["Applying", "Current"].iter().find(|phase| body.contains(**phase)).unwrap_or(&"");
        out.lock().unwrap().push(format!("{what}{phase} used={used} file={}", file.exists()));
    }));
    log
}

#[tokio::test(start_paused = true)]
async fn first_the_journal_then_the_node_then_inputs_and_lease_and_only_then_the_file() {
    let mut bed = given();
    bed.until(|bed| bed.says("wanted").is_some()).await;
    assert!(!bed.file().exists() && bed.says("phase").as_deref() == Some("Pending"));
    let log = spied(&bed);
    let before = bed.counts.0.lock().unwrap().len();
    let grant = bed.grants().await;
    bed.until(|bed| bed.says("phase").as_deref() == Some("Current")).await;
    let log = log.lock().unwrap().clone();
    assert_eq!(
        log[..4],
        [
            "n1Applying used=true file=false",
            "configmaps used=true file=false",
            "secrets used=true file=false",
            "k3s-registry-agent-coordinator used=true file=false"
        ],
        "{log:?}"
    );
    assert_eq!(log.len(), 4, "and `answered` stays as it is: {log:?}");
    assert!(bed.holds("first.example"));
    assert_eq!((bed.says("answered"), bed.says("wanted")), (Some(grant.ask.number.clone()), None));
    assert_eq!(bed.says("revision"), Some(grant.ask.revision));
    let requests = bed.counts.0.lock().unwrap()[before..].to_vec();
    let counted = requests.iter().filter(|line| !line.starts_with("watch")).count();
    assert!(counted <= 8, "{counted} requests for a turn: {requests:?}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_at_rest_writes_nothing() {
    let mut bed = given();
    bed.grants().await;
    bed.until(|bed| bed.says("phase").as_deref() == Some("Current")).await;
    bed.annotate("grant", Value::Null);
    for _ in 0..3 {
        // What the watches still bring; and the teller is beside the loop.
        bed.looping.turn_of_the_loop(false).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let is_write = |line: &&String| line.starts_with("patch") || line.starts_with("create");
    let written = |bed: &Bed| bed.counts.0.lock().unwrap().iter().filter(is_write).count();
    let before = (written(&bed), bed.fake.object(NODE));
    for _ in 0..60 {
        bed.looping.look_at_inputs();
        let next = bed.looping.turn_of_the_loop(false).await;
        assert!(next >= Instant::now() + Duration::from_secs(10), "it does not rest");
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    assert_eq!((written(&bed), bed.fake.object(NODE)), before);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_died_with_a_used_ask_asks_anew_and_takes_nothing_up() {
    let mut bed = given();
    let grant = bed.grants().await;
    bed.fake.always(&format!("GET {}", lease()), Some(Answer::Hang));
    bed.until(|bed| bed.says("phase").as_deref() == Some("Applying")).await;
    bed.dies();
    bed.fake.always(&format!("GET {}", lease()), None);
    bed.until(|bed| bed.says("phase").as_deref() == Some("Pending")).await;
    assert_eq!(bed.says("answered"), Some(grant.ask.number.clone()));
    assert_ne!(bed.says("wanted"), Some(grant.ask.to_string()));
    for _ in 0..20 {
        bed.looping.turn_of_the_loop(false).await;
    }
    assert!(!bed.file().exists(), "the old grant still stands there");
    bed.grants().await;
    bed.until(|bed| bed.holds("first.example")).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_not_confirmed_is_followed_by_no_question_and_no_file() {
    for answer in [Answer::Status(500), Answer::Hang] {
        let mut bed = given();
        bed.grants().await;
        bed.fake.next(&format!("PATCH {NODE}"), answer);
        let used = |bed: &Bed| {
            fs::read_to_string(bed.dir.path().join("node/var/lib/k3s-registry-agent/record.json"))
                .is_ok_and(|text| !text.contains("\"asksUsed\": []"))
        };
        bed.until(used).await;
        let before = bed.fake.requests().len();
        bed.until(|bed| bed.says("reason").is_some_and(|reason| reason.contains("does not say"))).await;
        assert!(!bed.file().exists());
        let asked = bed.fake.requests()[before..].iter().filter(|request| request.contains("coordinator")).count();
        assert_eq!(asked, 0, "{:?}", bed.fake.requests());
    }
}

#[tokio::test(start_paused = true)]
async fn inputs_are_read_past_the_cache_and_a_lease_that_cannot_be_read_is_a_no() {
    let mut bed = given();
    bed.until(|bed| bed.says("wanted").is_some()).await;
    // The watch hangs; what it shows is old.
    bed.fake.end_watches(None);
    bed.fake.always(&format!("WATCH {OURS}/configmaps"), Some(Answer::Hang));
    bed.fake.put(&format!("{OURS}/configmaps/registries"), config_map("https://second.example"));
    let grant = bed.grants().await;
    bed.until(|bed| bed.says("answered").is_some()).await;
    bed.until(|bed| bed.says("phase").as_deref() == Some("Pending")).await;
    let wanted: Ask = bed.says("wanted").unwrap().parse().unwrap();
    assert!(!bed.file().exists() && wanted.revision != grant.ask.revision, "another revision is asked for");
    bed.fake.always(&format!("WATCH {OURS}/configmaps"), None);
    bed.fake.always(&format!("GET {}", lease()), Some(Answer::Status(403)));
    bed.grants().await;
    bed.until(|bed| bed.says("reason").is_some_and(|reason| reason.contains("forbids it (403)"))).await;
    assert!(!bed.file().exists());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_to_end_gives_a_grant_back_before_it_does() {
    let mut bed = given();
    bed.grants().await;
    bed.fake.always(&format!("GET {OURS}/configmaps"), Some(Answer::Hang));
    bed.until(|bed| bed.says("phase").as_deref() == Some("Applying")).await;
    assert!(bed.looping.passes.is_busy());
    bed.looping.turn_of_the_loop(true).await;
    assert!(!bed.looping.passes.is_busy());
    bed.looping.sources.cluster.as_mut().unwrap().told().await;
    assert_eq!((bed.says("phase").as_deref(), bed.says("wanted")), (Some("Pending"), None));
    assert!(bed.says("reason").unwrap().contains("asked to end") && !bed.file().exists());
}

mod registries;

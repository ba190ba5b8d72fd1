//! What is seen of the inputs, against an API server that the test plays.

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
    assert!(run.fake.requests().iter().all(|r| *r != "GET /api/v1/namespaces/team/secrets"), "one name is one right");
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

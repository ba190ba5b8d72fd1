//! A pass that dies after any step, and a process that is killed at any moment: the next one goes on from what it sees,
//! and the end is always the same.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod common;

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::time::Duration;

use agent_core::digest::Key;
use agent_core::inputs::NAMESPACE;
use agent_core::node::annotations::NodeSeen;
use agent_core::node::discovery::Hints;
use agent_core::node::journal::Record;
use agent_core::node::plan::{Depth, Desired, Kept, Wake};
use agent_core::node::turn::{Turn, TurnSource};
use agent_core::policy::{Mode, Policy};
use agent_core::tree::Tree;
use common::{Bed, FILE, JOURNAL, Snapshot, command, config_map_with_policy, put, secret, snapshot};
use k3s_registry_agent::commands::session;
use k3s_registry_agent::execute::{Failure, FailureKind, GuardOrder, Hands, execute};
use k3s_registry_agent::host::clock::clock;
use k3s_registry_agent::host::{Host, ServiceChoice};
use k3s_registry_agent::pass::{Given, Passes};

/// No pass of these tests needs as many rounds.
const ROUNDS: usize = 30;

/// The real hands, of a process that dies when `left` steps are done.
struct Dying<'a> {
    host: &'a Host,
    left: &'a Cell<usize>,
    /// What a death in the middle of a replacement leaves.
    tear: Tear,
    /// What lay there when it began to live.
    before: Tree,
}

/// How far a replacement came that did not come to its end: it is several renames.
#[derive(Clone, Copy, Debug)]
enum Tear {
    /// Nothing is done.
    Nothing,
    /// The new TLS files lie there, and the old file.
    TlsFiles,
    /// The new file lies there as well, and so do TLS files that nothing names any more.
    AllButTheOldOnes,
}

impl Tear {
    const ALL: [Self; 3] = [Self::Nothing, Self::TlsFiles, Self::AllButTheOldOnes];
}

impl Dying<'_> {
    fn step(&self) -> Result<(), Failure> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(Failure { what: "it is dead".to_owned(), kind: FailureKind::Retry, source: None }),
        }
    }
}

impl Hands for Dying<'_> {
    fn keep(&self, kept: Kept, tree: &Tree) -> Result<(), Failure> {
        self.step()?;
        self.host.keep(kept, tree)
    }

    fn record(&self, record: &Record) -> Result<(), Failure> {
        self.step()?;
        Hands::record(self.host, record)
    }

    fn replace(&self, tree: &Tree) -> Result<(), Failure> {
        let Err(dead) = self.step() else { return self.host.replace(tree) };
        let Tree { registries, tls } = tree.clone();
        let tls = self.before.tls.clone().into_iter().chain(tls).collect();
        match self.tear {
            Tear::Nothing => {}
            Tear::TlsFiles => self.host.replace(&Tree { registries: self.before.registries.clone(), tls })?,
            Tear::AllButTheOldOnes => self.host.replace(&Tree { registries, tls })?,
        }
        Err(dead)
    }

    async fn guard(&self, order: GuardOrder) -> Result<(), Failure> {
        self.step()?;
        self.host.guard(order).await
    }

    async fn restart(&self, turn: &Turn) -> Result<(), Failure> {
        self.step()?;
        self.host.restart(turn).await
    }
}

/// What is asked of a life.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Apply,
    Restore,
}

impl Wish {
    fn command(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Restore => "restore",
        }
    }
}

/// One process, from opening the host to its end. Tells whether nothing was left to do.
async fn live(bed: &Bed, wish: Wish, left: &Cell<usize>, tear: Tear) -> bool {
    let host = Host::open(&bed.root(), ServiceChoice::None).unwrap();
    let lock = session::lock(&host).await.unwrap();
    host.sweep(&lock).await.unwrap();
    let key = host.key().unwrap();
    let (desired, policy) = match wish {
        Wish::Apply => {
            let inputs = session::read_inputs(&bed.inputs()).unwrap();
            let made = session::make(&host, &key, &inputs, NAMESPACE, &NodeSeen::default(), None).await.unwrap();
            (made.prepared.desired, made.policy)
        }
        Wish::Restore => (Desired::None, Policy { mode: Mode::Restore, ..Policy::default() }),
    };
    let seen = host.observe(Depth::Steady, &Hints::default(), &clock().unwrap()).await.unwrap().unwrap();
    let passes = Passes::new(host, key, TurnSource::Local);
    for _ in 0..ROUNDS {
        let given = Given::alone(desired.clone(), &policy);
        let plan = passes.plan(given).await.unwrap();
        if execute(&Dying { host: passes.host(), left, tear, before: seen.disk.tree.clone() }, &plan.steps)
            .await
            .is_err()
        {
            return false;
        }
        if plan.steps.is_empty() && plan.wake != Wake::Now {
            assert!(!passes.is_open(), "it rests with an open intent: {}", plan.reason);
            return true;
        }
    }
    panic!("it never rests");
}

const BEFORE: &str = "# by hand\nmirrors: {docker.io: {endpoint: [https://m.example]}}\n";
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----";

/// A node with an administrator's file, and inputs with a credential and a CA, so that a change touches every kind of
/// file. The key lies there already: digests are the same in every bed.
fn fresh() -> Bed {
    let bed = Bed::new();
    bed.earlier(BEFORE, 0o644);
    put(&bed.journal("key"), &[7; 32], 0o600);
    fs::set_permissions(bed.journal(""), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    wish_for(&bed, "https://m.example", "first", &["one.example", "two.example"]);
    bed
}

/// The same node, with an earlier configuration of ours proven, and another one wanted.
async fn changed() -> Bed {
    let bed = fresh();
    assert!(live(&bed, Wish::Apply, &Cell::new(usize::MAX), Tear::Nothing).await);
    wish_for(&bed, "https://n.example", "second", &["two.example", "three.example"]);
    bed
}

/// The same node again, changed once more by somebody else.
async fn drifted() -> Bed {
    let bed = fresh();
    assert!(live(&bed, Wish::Apply, &Cell::new(usize::MAX), Tear::Nothing).await);
    bed.earlier("mirrors: {}\n", 0o600);
    bed
}

fn wish_for(bed: &Bed, endpoint: &str, password: &str, authorities: &[&str]) {
    let registries = format!("mirrors:\n  docker.io:\n    endpoint: [\"{endpoint}\"]\n");
    // A host leaves the CA's annotation, and its directory the node.
    bed.input("registries.yaml", &config_map_with_policy(&registries, "allowRemoval: true\n"));
    let login = [("username", "u"), ("password", password)];
    bed.input("login.yaml", &secret("login", "kubernetes.io/basic-auth", Some("m.example"), &login));
    let ca = format!("{CERTIFICATE}\n# {password}");
    bed.input("ca.yaml", &secret("ca", "Opaque", Some(&authorities.join(",")), &[("ca.crt", &ca)]));
}

/// What lies on the node, without what names a moment or a process.
fn end(bed: &Bed) -> Snapshot {
    let mut seen = snapshot(&bed.root());
    seen.remove(&format!("{JOURNAL}/lock"));
    let (mode, record) = seen.remove(&format!("{JOURNAL}/record.json")).expect("there is a record");
    assert_eq!(mode, 0o600);
    let mut record: serde_json::Value = serde_json::from_slice(&record.expect("a file")).unwrap();
    assert_eq!(record["intent"], serde_json::Value::Null);
    record["applied"]["at"].take();
    for at in record["restores"].as_array_mut().expect("a list") {
        at.take();
    }
    seen.insert("record".to_owned(), (0, Some(record.to_string().into_bytes())));
    for name in seen.keys() {
        assert!(!name.contains("/.registries."), "a temporary file is left: {name}");
    }
    seen
}

/// What lies at the place that k3s reads, at any moment.
fn place(bed: &Bed) -> Option<Vec<u8>> {
    fs::read(bed.root().join(FILE)).ok()
}

#[derive(Clone, Copy, Debug)]
enum Start {
    Fresh,
    Changed,
    Drifted,
}

impl Start {
    const ALL: [(Self, Wish); 5] = [
        (Self::Fresh, Wish::Apply),
        (Self::Changed, Wish::Apply),
        (Self::Drifted, Wish::Apply),
        (Self::Changed, Wish::Restore),
        (Self::Drifted, Wish::Restore),
    ];

    async fn bed(self) -> Bed {
        match self {
            Self::Fresh => fresh(),
            Self::Changed => changed().await,
            Self::Drifted => drifted().await,
        }
    }
}

#[tokio::test]
async fn killed_after_any_step_the_next_one_comes_to_the_same_end() {
    for (start, wish) in Start::ALL {
        let reference = start.bed().await;
        let before = place(&reference);
        let left = Cell::new(1000);
        assert!(live(&reference, wish, &left, Tear::Nothing).await);
        let steps = 1000 - left.get();
        let (wanted, after) = (end(&reference), place(&reference));
        assert!(steps >= 2, "{start:?} {wish:?}: {steps} steps");
        for (dies_after, tear) in (0..steps).flat_map(|steps| Tear::ALL.map(|tear| (steps, tear))) {
            let bed = start.bed().await;
            assert!(!live(&bed, wish, &Cell::new(dies_after), tear).await, "it dies");
            let now = place(&bed);
            assert!(now == before || now == after, "{start:?} {wish:?} dead after {dies_after}: half a file");
            assert!(live(&bed, wish, &Cell::new(usize::MAX), Tear::Nothing).await);
            same(&end(&bed), &wanted, &format!("{start:?} {wish:?}, dead after {dies_after} of {steps}, {tear:?}"));
        }
    }
}

#[tokio::test]
async fn killed_after_every_single_step_it_still_comes_to_the_same_end() {
    for (start, wish) in Start::ALL {
        let reference = start.bed().await;
        assert!(live(&reference, wish, &Cell::new(usize::MAX), Tear::Nothing).await);
        let bed = start.bed().await;
        let mut lives = 0;
        // Two: what an earlier life left undone may take a step of its own before the next one is due.
        while !live(&bed, wish, &Cell::new(2), Tear::Nothing).await {
            lives += 1;
            assert!(lives < ROUNDS, "{start:?} {wish:?}: it never ends");
        }
        same(&end(&bed), &end(&reference), &format!("{start:?} {wish:?}"));
    }
}

/// Without showing a content: names suffice to see what went wrong, and records are shown, which hold no secret.
#[track_caller]
fn same(seen: &Snapshot, wanted: &Snapshot, what: &str) {
    let mut differs: Vec<&String> =
        seen.iter().filter(|(name, x)| wanted.get(*name) != Some(x)).map(|(x, _)| x).collect();
    differs.extend(wanted.keys().filter(|name| !seen.contains_key(*name)));
    let record = |of: &Snapshot| String::from_utf8_lossy(of["record"].1.as_deref().unwrap_or_default()).into_owned();
    assert!(differs.is_empty(), "{what}: {differs:?}\n{}\n{}", record(seen), record(wanted));
}

/// A small generator: the same moments in every run.
struct Moments(u64);

impl Moments {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// How long the command takes here when nobody kills it.
#[expect(clippy::disallowed_methods, reason = "a measure of this machine, to kill within it")]
fn measure(bed: &Bed, wish: Wish) -> Duration {
    let began = std::time::Instant::now();
    run(bed, wish);
    began.elapsed()
}

fn arguments(wish: Wish) -> Vec<&'static str> {
    match wish {
        Wish::Apply => vec!["apply", "--root", "node", "--inputs", "inputs"],
        Wish::Restore => vec!["restore", "--root", "node"],
    }
}

fn run(bed: &Bed, wish: Wish) {
    let ran = bed.run(&arguments(wish));
    assert!(matches!(ran.code, 0 | 3), "{}: {}", wish.command(), ran.all());
}

#[tokio::test]
async fn a_process_killed_at_any_moment_leaves_a_whole_file_and_the_next_one_comes_to_the_same_end() {
    const KILLS: usize = 12;
    let mut moments = Moments(20_260_101);
    let mut killed_at_work = 0;
    for (start, wish) in Start::ALL {
        let reference = start.bed().await;
        let before = place(&reference);
        let took = measure(&reference, wish);
        let (wanted, after) = (end(&reference), place(&reference));
        for _ in 0..KILLS {
            let bed = start.bed().await;
            let untouched = snapshot(&bed.root());
            let mut child = command(&arguments(wish)).current_dir(bed.path()).spawn().unwrap();
            let micros = u64::try_from(took.as_micros()).unwrap();
            std::thread::sleep(Duration::from_micros(moments.below(micros)));
            child.kill().unwrap();
            let was_killed = child.wait().unwrap().code().is_none();
            killed_at_work += usize::from(was_killed && snapshot(&bed.root()) != untouched);
            let now = place(&bed);
            assert!(now == before || now == after, "{start:?} {wish:?}: half a file");
            closed(&bed.root(), wish);
            run(&bed, wish);
            same(&end(&bed), &wanted, &format!("{start:?} {wish:?}"));
        }
    }
    // The machine decides where a kill falls: most fall into the work, or this shows nothing.
    assert!(killed_at_work >= 10, "only {killed_at_work} kills met the process at work");
}

/// Whatever a killed process leaves is closed to others. A file that is put back has the mode that its administrator
/// gave it, and so has what becomes of it.
fn closed(root: &Path, wish: Wish) {
    for (name, (mode, content)) in snapshot(root) {
        let is_restored = matches!(wish, Wish::Restore) && name.starts_with("etc/rancher/k3s/.registries.");
        let is_ours = name.starts_with(&format!("{JOURNAL}/")) || name.contains(".registries.") && !is_restored;
        assert!(!is_ours || mode == if content.is_some() { 0o600 } else { 0o700 }, "{name} has mode {mode:o}");
    }
}

#[test]
fn the_key_of_the_beds_is_the_journals() {
    let bed = fresh();
    let host = Host::open(&bed.root(), ServiceChoice::None);
    assert_eq!(host.unwrap().key().unwrap(), Key::new([7; 32]));
}

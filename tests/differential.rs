//! `registries::on_disk` against the parser that k3s links: never a wrong definite answer. And what `registries::strict`
//! accepts, k3s reads with the same meaning.
//!
//! Needs Go. Other seeds and more inputs:
//! `DIFFERENTIAL_SEED=7 DIFFERENTIAL_INPUTS=100000 cargo test --test differential -- --nocapture`.

#[path = "differential/generate.rs"]
mod generate;
#[path = "differential/tables.rs"]
mod tables;
#[path = "differential/texts.rs"]
mod texts;
#[path = "differential/values.rs"]
mod values;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agent_core::registries::model::{Auth, HostConfig, Mirror, Registries, Tls};
use agent_core::registries::on_disk::{OnDisk, read};
use agent_core::registries::strict;
use generate::{Grower, Random, mutate};
use serde_json::Value;

const SEED: u64 = 20_260_821;
const INPUTS: usize = 6_000;
/// How many disagreements are shown.
const SHOWN: usize = 10;

#[test]
fn every_row_of_the_tables_is_read_as_k3s_reads_it() {
    let inputs = tables::inputs();
    assert!(inputs.len() > 1_500);
    let outcome = compare(&inputs, "row");
    assert_eq!(outcome.wrong, "");
    assert_eq!(outcome.doubtful, "", "no row may be doubtful");
}

#[test]
fn corpus_grown_and_mutated_files_are_read_as_k3s_reads_them() {
    let seed = knob("DIFFERENTIAL_SEED").unwrap_or(SEED);
    let count = knob("DIFFERENTIAL_INPUTS").map_or(INPUTS, |count| count as usize);
    let corpus = corpus();
    assert!(corpus.len() >= 60, "the corpus is there");
    let mut random = Random(seed);
    let mut inputs = corpus.clone();
    let mut bases = corpus;
    bases.extend(tables::inputs().into_iter().filter(|input| input.len() < 2_000));
    while inputs.len() < count {
        let grown = Grower::file(&mut random);
        let base = match random.below(4) {
            0 => {
                inputs.push(grown);
                continue;
            }
            1 => grown,
            _ => bases[random.below(bases.len())].clone(),
        };
        let other = &bases[random.below(bases.len())];
        inputs.push(mutate(&mut random, &base, other));
    }
    let outcome = compare(&inputs, &format!("seed {seed}, input"));
    let Outcome { read, accepted, doubts, .. } = outcome;
    println!("seed {seed}: {} inputs, {read} read by k3s, {accepted} accepted by us, {doubts} doubtful", inputs.len());
    assert_eq!(outcome.wrong, "");
    assert!(doubts * 100 <= inputs.len(), "{doubts} of {} doubtful", inputs.len());
    // Otherwise the generator makes nothing worth comparing.
    assert!(read * 4 > inputs.len() && accepted * 25 > inputs.len(), "{read} and {accepted} of {}", inputs.len());
}

#[derive(Default)]
struct Outcome {
    wrong: String,
    wrongs: usize,
    doubtful: String,
    doubts: usize,
    read: usize,
    /// By the strict reader.
    accepted: usize,
}

fn compare(inputs: &[Vec<u8>], name: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for ((number, input), answer) in inputs.iter().enumerate().zip(ask(inputs)) {
        outcome.read += usize::from(answer.is_some());
        if let Ok(text) = std::str::from_utf8(input)
            && let Ok(document) = strict::parse(text)
        {
            outcome.accepted += 1;
            if Some(&document.registries) != answer.as_ref() {
                let _ = writeln!(outcome.wrong, "{name} {number}: accepted, but k3s reads it otherwise: {text:?}");
            }
        }
        let ours = match read(input) {
            OnDisk::CannotTell(why) => {
                outcome.doubts += 1;
                let _ = writeln!(outcome.doubtful, "{name} {number}: {why}: {:?}", String::from_utf8_lossy(input));
                continue;
            }
            OnDisk::Read(document) => Ok(document.registries),
            OnDisk::Rejected(rejection) => Err(rejection),
        };
        if ours.as_ref().ok() != answer.as_ref() {
            outcome.wrongs += 1;
            if outcome.wrongs > SHOWN {
                continue;
            }
            let _ = writeln!(
                outcome.wrong,
                "{name} {number}: {:?}\n  k3s: {}\n  we:  {}",
                String::from_utf8_lossy(input),
                answer.as_ref().map_or_else(|| "rejected".to_owned(), show),
                ours.as_ref().map_or_else(|rejection| format!("{rejection:?}"), show),
            );
        }
    }
    outcome
}

/// The model with its secrets, which are all invented.
fn show(registries: &Registries) -> String {
    let mut text = format!("{registries:?}");
    for (host, config) in &registries.configs {
        if let Some(Auth { username, password, auth, identity_token }) = &config.auth {
            let fields = [username, password, auth, identity_token].map(|secret| secret.expose());
            let _ = write!(text, " auth of {host:?}: {fields:?}");
        }
    }
    text
}

/// What the oracle makes of each: the model, or `None` if k3s rejects it.
fn ask(inputs: &[Vec<u8>]) -> Vec<Option<Registries>> {
    let mut oracle = command(&oracle()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the oracle runs");
    let mut stdin = oracle.stdin.take().expect("it is piped");
    let stdout = BufReader::new(oracle.stdout.take().expect("it is piped"));
    let answers: Vec<_> = std::thread::scope(|scope| {
        scope.spawn(move || {
            for input in inputs {
                let length = u32::try_from(input.len()).expect("an input is small");
                stdin.write_all(&length.to_be_bytes()).expect("the oracle reads");
                stdin.write_all(input).expect("the oracle reads");
            }
        });
        stdout.lines().map(|line| model(&line.expect("a line"))).collect()
    });
    assert!(oracle.wait().expect("the oracle ends").success());
    assert_eq!(answers.len(), inputs.len());
    answers
}

fn oracle() -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("oracle").join("oracle");
    static BUILT: std::sync::Once = std::sync::Once::new();
    BUILT.call_once(|| {
        let built = command(Path::new("go"))
            .args(["build", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle"))
            .env("GOFLAGS", "-mod=readonly")
            .status()
            .expect("Go is installed");
        assert!(built.success(), "the oracle is built");
    });
    program
}

#[expect(clippy::disallowed_methods, reason = "a test runs Go and what it built; nothing of the product starts here")]
fn command(program: &Path) -> Command {
    Command::new(program)
}

#[expect(clippy::disallowed_methods, reason = "a knob of this test, not of the product")]
fn knob(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().expect("a number"))
}

fn corpus() -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut paths: Vec<PathBuf> = [dir.clone(), dir.join("templates")]
        .iter()
        .flat_map(|dir| std::fs::read_dir(dir).expect("the corpus is there"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file() && path.extension().is_some_and(|extension| extension != "md"))
        .collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a file")).collect()
}

fn model(line: &str) -> Option<Registries> {
    let value: Value = serde_json::from_str(line).expect("JSON");
    if value.is_null() {
        return None;
    }
    let mirror = |value: &Value| Mirror {
        endpoints: value["endpoint"].as_array().into_iter().flatten().map(text).collect(),
        rewrites: map(&value["rewrite"], text),
    };
    let config = |value: &Value| HostConfig {
        auth: present(&value["auth"]).map(|auth| Auth {
            username: text(&auth["username"]).as_str().into(),
            password: text(&auth["password"]).as_str().into(),
            auth: text(&auth["auth"]).as_str().into(),
            identity_token: text(&auth["identitytoken"]).as_str().into(),
        }),
        tls: present(&value["tls"]).map(|tls| Tls {
            ca_file: text(&tls["ca_file"]),
            cert_file: text(&tls["cert_file"]),
            key_file: text(&tls["key_file"]),
            insecure_skip_verify: tls["insecure_skip_verify"].as_bool().expect("a boolean"),
        }),
    };
    Some(Registries { mirrors: map(&value["mirrors"], mirror), configs: map(&value["configs"], config) })
}

fn present(value: &Value) -> Option<&Value> {
    (!value.is_null()).then_some(value)
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

fn map<T>(value: &Value, of: impl Fn(&Value) -> T) -> BTreeMap<String, T> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), of(value))).collect()
}

//! What the tests of the program share: a directory that stands for a node, inputs beside it, and the program run on both.

#![allow(dead_code, reason = "each test crate compiles this anew and uses its own part")]

pub mod agent;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_k3s-registry-agent");
/// The file, below a node's root.
pub const FILE: &str = "etc/rancher/k3s/registries.yaml";
/// The journal, below a node's root.
pub const JOURNAL: &str = "var/lib/k3s-registry-agent";
/// No command takes longer, however busy the machine is.
pub const LONG: Duration = Duration::from_secs(60);

/// What an administrator wrote, in a spelling that is not ours.
pub const EARLIER: &str = "# by hand\nmirrors:\n    docker.io: {endpoint: [https://m.example]}\nconfigs:\n    m.example: {auth: {username: carol, password: hunter2-of-the-cli}}\n";

/// A node's root and a directory of inputs, removed at the end.
pub struct Bed {
    temp: TempDir,
}

/// What a command said.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Bed {
    pub fn new() -> Self {
        let temp = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(temp.path().join("inputs")).expect("a directory of inputs");
        fs::create_dir(temp.path().join("node")).expect("a node's root");
        Self { temp }
    }

    /// With these inputs: names and manifests.
    pub fn with(inputs: &[(&str, &str)]) -> Self {
        let bed = Self::new();
        for (name, text) in inputs {
            bed.input(name, text);
        }
        bed
    }

    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    pub fn root(&self) -> PathBuf {
        self.path().join("node")
    }

    pub fn inputs(&self) -> PathBuf {
        self.path().join("inputs")
    }

    pub fn file(&self) -> PathBuf {
        self.root().join(FILE)
    }

    pub fn journal(&self, name: &str) -> PathBuf {
        self.root().join(JOURNAL).join(name)
    }

    /// The file's text.
    pub fn text(&self) -> String {
        fs::read_to_string(self.file()).expect("registries.yaml can be read")
    }

    pub fn input(&self, name: &str, text: &str) {
        put(&self.inputs().join(name), text.as_bytes(), 0o644);
    }

    /// Puts an administrator's file in place of ours.
    pub fn earlier(&self, text: &str, mode: u32) {
        put(&self.file(), text.as_bytes(), mode);
    }

    /// Runs the program in the bed's own directory, with nothing in its environment.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        ran(finish(command(arguments).current_dir(self.path()).spawn().expect("the program starts"), LONG))
    }

    pub fn apply(&self) -> Ran {
        self.run(&["apply", "--inputs", "inputs", "--root", "node"])
    }

    pub fn apply_json(&self) -> (i32, Value) {
        let ran = self.run(&["apply", "--inputs", "inputs", "--root", "node", "--output", "json"]);
        (ran.code, serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("no JSON: {error}\n{ran:?}")))
    }

    pub fn diff(&self) -> Ran {
        self.run(&["diff", "--inputs", "inputs", "--root", "node"])
    }

    pub fn restore(&self) -> Ran {
        self.run(&["restore", "--root", "node"])
    }

    /// What is remembered.
    pub fn record(&self) -> Value {
        let bytes = fs::read(self.journal("record.json")).expect("there is a record");
        serde_json::from_slice(&bytes).expect("the record is JSON")
    }
}

/// The program with these arguments, its output caught.
pub fn command(arguments: &[&str]) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the tests run the program itself")]
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A program of this machine, for what a test needs of it.
pub fn tool(name: &str) -> Command {
    #[expect(clippy::disallowed_methods, reason = "mounts and the like are made by the machine's own programs")]
    let mut command = Command::new(name);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits for the end of a process; one that takes too long is killed and fails the test.
pub fn finish(mut child: Child, limit: Duration) -> Output {
    // Read meanwhile: a full pipe would hold it.
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (out, err) = (std::thread::spawn(|| drain(out)), std::thread::spawn(|| drain(err)));
    let status = wait(&mut child, limit);
    let stdout = out.join().expect("stdout was read");
    let stderr = err.join().expect("stderr was read");
    match status {
        Some(status) => Output { status, stdout, stderr },
        None => panic!(
            "it did not end within {limit:?}\n{}\n{}",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        ),
    }
}

/// Waits for the end of a process, whose output somebody else reads; kills one that takes too long.
pub fn wait(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let ended = until(limit, || child.try_wait().expect("a child can be waited for"));
    if ended.is_none() {
        child.kill().expect("a child can be killed");
        child.wait().expect("a killed child ends");
    }
    ended
}

fn drain(pipe: Option<impl std::io::Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
    }
    bytes
}

pub fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

/// Asks again and again until there is an answer, at most so long.
#[expect(clippy::disallowed_methods, reason = "a deadline for another process, on the real clock")]
pub fn until<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if began.elapsed() > limit {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Ran {
    /// Everything that was said.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Fails unless it ended so and said each of these.
    #[track_caller]
    pub fn says(&self, code: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.code, code, "{}", self.all());
        for part in parts {
            assert!(self.all().contains(part), "nowhere {part:?} in:\n{}", self.all());
        }
        self
    }

    /// Fails if it said one of these.
    #[track_caller]
    pub fn never_says(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(!self.all().contains(part), "{part:?} in:\n{}", self.all());
        }
        self
    }
}

/// Writes a file, with its directories.
pub fn put(path: &Path, bytes: &[u8], mode: u32) {
    fs::create_dir_all(path.parent().expect("a file lies in a directory")).expect("directories can be made");
    #[expect(clippy::disallowed_methods, reason = "a test plays the operator, who writes in place")]
    fs::write(path, bytes).expect("a file can be written");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode can be set");
}

/// Everything below a directory: its path there, its mode, and what it holds (`None`: a directory).
pub type Snapshot = BTreeMap<String, (u32, Option<Vec<u8>>)>;

/// Looks at everything below a directory. Links are not followed.
pub fn snapshot(root: &Path) -> Snapshot {
    let mut seen = Snapshot::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).expect("a directory can be listed") {
            let path = entry.expect("an entry").path();
            let stat = path.symlink_metadata().expect("an entry can be looked at");
            let name = path.strip_prefix(root).expect("it lies below").display().to_string();
            let content = if stat.is_file() { Some(fs::read(&path).expect("a file can be read")) } else { None };
            seen.insert(name, (stat.mode() & 0o7777, content));
            if stat.is_dir() {
                left.push(path);
            }
        }
    }
    seen
}

/// A text under a key of a manifest.
fn block(key: &str, text: &str) -> String {
    let lines: String = text.lines().map(|line| format!("    {line}\n")).collect();
    format!("  {key}: |-\n{lines}")
}

/// The ConfigMap.
pub fn config_map(registries: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: registries\n  namespace: k3s-registry-agent\ndata:\n{}",
        block("registries.yaml", registries)
    )
}

/// The ConfigMap with a policy.
pub fn config_map_with_policy(registries: &str, policy: &str) -> String {
    format!("{}{}", config_map(registries), block("policy.yaml", policy))
}

/// A Secret; with `host` the annotation that says where it belongs.
pub fn secret(name: &str, kind: &str, host: Option<&str>, data: &[(&str, &str)]) -> String {
    let annotation =
        host.map_or_else(String::new, |host| format!("  annotations:\n    k3s-registry-agent/host: \"{host}\"\n"));
    let data: String = data.iter().map(|(key, text)| block(key, text)).collect();
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  namespace: k3s-registry-agent\n{annotation}type: {kind}\nstringData:\n{data}"
    )
}

/// A mirror of one host, in `registries.yaml`.
pub fn mirror(host: &str, endpoint: &str) -> String {
    format!("mirrors:\n  \"{host}\":\n    endpoint:\n      - \"{endpoint}\"\n")
}

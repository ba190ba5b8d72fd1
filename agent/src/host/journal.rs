//! The journal on the host: the record, the lock, the key and the two kept trees, all closed to others.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use agent_core::node::journal::JournalSeen;
use agent_core::node::journal::Record;
use agent_core::node::journal::SCHEMA;
use agent_core::secret::Secret;
use agent_core::tree::Tree;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::files;
use super::files::Attributes;
use super::files::Configuration;
use super::files::FilesError;
use super::files::Like;
use super::files::Temporary;
use super::files::failed;
use super::root::Root;
use crate::random;

/// The journal's directory, as the host names it.
pub const DIRECTORY: &str = "/var/lib/k3s-registry-agent";
const RECORD: &str = "record.json";
const KEY: &str = "key";
const LOCK: &str = "lock";
const ABSENT: &str = "absent";
const ATTRIBUTES: &str = "attributes";
const OURS: Like = Like::Mode(0o600);

/// Which tree is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The last proven one.
    Previous,
    /// The one before us.
    Original,
}

impl Kept {
    fn name(self) -> &'static str {
        match self {
            Self::Previous => "previous",
            Self::Original => "original",
        }
    }
}

/// What went wrong with the journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file could not be read or replaced.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Another process of ours works on this node.
    #[error("another process works on this node: {0}")]
    Held(String),
    /// A newer version of the agent wrote the record.
    #[error("the journal has schema {0}, which is newer than this version: it is left as it is")]
    Newer(u32),
    /// The system gave no random bytes.
    #[error("cannot draw a random key")]
    Random(#[source] io::Error),
    /// The key file holds something else than 32 bytes.
    #[error("{DIRECTORY}/{KEY} does not hold 32 bytes: move it away, and another is drawn")]
    Key,
    /// A kept tree holds something that we never put there.
    #[error("a kept tree is damaged: {0}")]
    Odd(String),
}

/// Held for as long as the process may change this node.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "closing it gives the lock back")] File);

/// The journal's directory, open.
#[derive(Debug)]
pub struct Journal {
    root: Root,
    dir: OwnedFd,
}

impl Journal {
    /// Opens the directory, makes it (0700) if there is none, and closes it to others.
    pub fn open(root: &Root) -> Result<Self, JournalError> {
        let parent = DIRECTORY.rsplit_once('/').map_or("/", |(parent, _)| parent);
        root.make_dir(parent, 0o755).map_err(failed("create", parent))?;
        let dir = root.make_dir(DIRECTORY, 0o700).map_err(failed("create", DIRECTORY))?;
        let stat = rustix::fs::fstat(&dir).map_err(failed("look at", DIRECTORY))?;
        if stat.st_mode & 0o077 != 0 {
            rustix::fs::fchmod(&dir, Mode::RWXU).map_err(failed("set the mode of", DIRECTORY))?;
        }
        Ok(Self { root: root.clone(), dir })
    }

    /// Takes the one lock of this node, or says who has it.
    pub fn lock(&self) -> Result<Lock, JournalError> {
        let shown = path(LOCK);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.dir, LOCK, flags, Mode::RUSR | Mode::WUSR).map_err(failed("open", &shown))?;
        let mut file = File::from(fd);
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // What cannot be read is left out: the lock itself is the answer.
                (&mut file).take(300).read_to_string(&mut holder).unwrap_or_default();
                let holder = holder.trim();
                let holder = if holder.is_empty() { "it did not say which" } else { holder };
                return Err(JournalError::Held(holder.to_owned()));
            }
            Err(error) => return Err(failed("lock", &shown)(error).into()),
        }
        let arguments: Vec<_> = std::env::args_os().map(|part| part.to_string_lossy().into_owned()).collect();
        let holder = format!("process {} ({})\n", std::process::id(), arguments.join(" "));
        file.set_len(0).and_then(|()| file.write_all(holder.as_bytes())).map_err(failed("write", &shown))?;
        Ok(Lock(file))
    }

    /// Reads the record. What is wrong with it is an answer; only a failing system call is an error.
    pub fn read(&self) -> Result<JournalSeen, JournalError> {
        let shown = path(RECORD);
        let Some(bytes) = self.root.read(&shown, files::LONGEST).map_err(failed("read", &shown))? else {
            return Ok(JournalSeen::Missing);
        };
        Ok(parse(&bytes))
    }

    /// Replaces the record. One of a newer schema is not overwritten.
    pub fn write(&self, record: &Record) -> Result<(), JournalError> {
        if let JournalSeen::Newer(schema) = self.read()? {
            return Err(JournalError::Newer(schema));
        }
        let shown = path(RECORD);
        let record = Record { schema: SCHEMA, ..record.clone() };
        let mut bytes =
            serde_json::to_vec_pretty(&record).map_err(io::Error::from).map_err(failed("encode", &shown))?;
        bytes.push(b'\n');
        files::replace(self.dir.as_fd(), RECORD, &shown, &bytes, OURS)?;
        Ok(())
    }

    /// The random key of this journal, drawn once.
    pub fn key(&self) -> Result<Secret<Vec<u8>>, JournalError> {
        let shown = path(KEY);
        if let Some(bytes) = self.root.read(&shown, 64).map_err(failed("read", &shown))? {
            let key = Secret::new(bytes);
            return if key.expose().len() == 32 { Ok(key) } else { Err(JournalError::Key) };
        }
        let mut bytes = vec![0_u8; 32];
        random::fill(&mut bytes).map_err(JournalError::Random)?;
        let key = Secret::new(bytes);
        files::replace(self.dir.as_fd(), KEY, &shown, key.expose(), OURS)?;
        Ok(key)
    }

    /// Keeps a tree in place of the one kept before, at once. `attributes` are those of its `registries.yaml`, where
    /// they have to be put back too.
    pub fn keep(&self, which: Kept, tree: &Tree, attributes: Option<Attributes>) -> Result<(), JournalError> {
        let shown = path(which.name());
        if self.kept(which).is_ok_and(|now| now.as_ref() == Some(tree)) && self.kept_attributes(which)? == attributes {
            return Ok(());
        }
        let (prepared, dir) = Temporary::directory(self.dir.as_fd(), &shown)?;
        self.place(&prepared.name).replace_tree(tree, OURS)?;
        if tree.registries.is_none() {
            files::replace(dir.as_fd(), ABSENT, &shown, b"", OURS)?;
        }
        if let Some(Attributes { mode, uid, gid }) = attributes {
            let text = format!("{mode:o} {uid} {gid}\n");
            files::replace(dir.as_fd(), ATTRIBUTES, &shown, text.as_bytes(), OURS)?;
        }
        rustix::fs::fsync(&dir).map_err(failed("sync", &shown))?;
        files::exchange(self.dir.as_fd(), prepared, which.name(), &shown)?;
        Ok(())
    }

    /// The kept tree; `None` if none was ever kept.
    pub fn kept(&self, which: Kept) -> Result<Option<Tree>, JournalError> {
        let disk = self.place(which.name()).read_tree()?;
        if let Some(oddity) = disk.oddity {
            return Err(JournalError::Odd(oddity));
        }
        let recorded = disk.tree.registries.is_some() || self.root.has(&format!("{}/{ABSENT}", path(which.name())));
        Ok(recorded.then_some(disk.tree))
    }

    /// Mode and owner that the kept `registries.yaml` had, if they were recorded.
    pub fn kept_attributes(&self, which: Kept) -> Result<Option<Attributes>, JournalError> {
        let shown = format!("{}/{ATTRIBUTES}", path(which.name()));
        let Some(bytes) = self.root.read(&shown, 64).map_err(failed("read", &shown))? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let mut words = text.split_whitespace();
        let mode = words.next().and_then(|word| u32::from_str_radix(word, 8).ok());
        let uid = words.next().and_then(|word| word.parse().ok());
        let gid = words.next().and_then(|word| word.parse().ok());
        match (mode, uid, gid) {
            (Some(mode), Some(uid), Some(gid)) => Ok(Some(Attributes { mode, uid, gid })),
            _ => Err(JournalError::Odd(format!("{shown} is no mode, user and group"))),
        }
    }

    /// Removes what a killed process of ours left. Only the holder of the lock may: it takes others' work away.
    pub fn sweep(&self, _lock: &Lock) -> Result<(), JournalError> {
        Ok(files::sweep(self.dir.as_fd(), DIRECTORY)?)
    }

    fn place(&self, name: &str) -> Configuration {
        Configuration::new(self.root.clone(), &format!("{}/registries.yaml", path(name)))
    }
}

fn path(name: &str) -> String {
    format!("{DIRECTORY}/{name}")
}

/// The schema is looked at first, since a newer record need not be readable as ours. A message of the JSON reader may
/// quote what it read: only the place of the fault is told.
fn parse(bytes: &[u8]) -> JournalSeen {
    let shown = path(RECORD);
    // Without a record every file is foreign, and nothing that is kept is lost: `original` is not written twice.
    let damaged = |fault: String| {
        JournalSeen::Damaged(format!(
            "{shown} {fault}: put it back from a backup, or move it away; then the agent begins anew, and keeps {DIRECTORY}/original"
        ))
    };
    let unreadable = |error: serde_json::Error| {
        damaged(format!("is no record of ours (line {}, column {})", error.line(), error.column()))
    };
    let value: serde_json::Value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(error) => return unreadable(error),
    };
    match value.get("schema").and_then(serde_json::Value::as_u64) {
        None | Some(0) => return damaged("names no schema".to_owned()),
        Some(schema) if schema > u64::from(SCHEMA) => {
            return JournalSeen::Newer(u32::try_from(schema).unwrap_or(u32::MAX));
        }
        Some(_) => {}
    }
    serde_json::from_slice(bytes).map_or_else(unreadable, |record| JournalSeen::Found(Box::new(record)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use tempfile::TempDir;

    use super::*;

    fn bed() -> (TempDir, Journal) {
        let temp = tempfile::tempdir().unwrap();
        let journal = Journal::open(&Root::open(temp.path()).unwrap()).unwrap();
        (temp, journal)
    }

    fn put(temp: &TempDir, name: &str, text: &str) {
        #[expect(clippy::disallowed_methods, reason = "a test plays a damaged disk")]
        fs::write(temp.path().join("var/lib/k3s-registry-agent").join(name), text).unwrap();
    }

    fn mode(temp: &TempDir, name: &str) -> u32 {
        fs::metadata(temp.path().join("var/lib/k3s-registry-agent").join(name)).unwrap().mode() & 0o7777
    }

    fn tree(text: &str) -> Tree {
        let tls = [("h/ca.crt".to_owned(), Secret::new(text.as_bytes().to_vec()))].into();
        Tree { registries: Some(Secret::new(text.as_bytes().to_vec())), tls }
    }

    #[test]
    fn a_record_is_read_back_and_every_file_is_closed_to_others() {
        let (temp, journal) = bed();
        assert_eq!(journal.read().unwrap(), JournalSeen::Missing);
        let record = Record { schema: SCHEMA, asks_used: vec!["0011".into()], ..Record::default() };
        journal.write(&record).unwrap();
        assert_eq!(journal.read().unwrap(), JournalSeen::Found(Box::new(record)));
        journal.key().unwrap();
        let _lock = journal.lock().unwrap();
        journal.keep(Kept::Previous, &tree("x"), None).unwrap();
        assert_eq!(mode(&temp, ""), 0o700);
        assert_eq!(mode(&temp, "previous"), 0o700);
        for name in ["record.json", "key", "lock", "previous/registries.yaml", "previous/registry-tls/h/ca.crt"] {
            assert_eq!(mode(&temp, name), 0o600, "{name}");
        }
    }

    #[test]
    fn a_record_of_the_version_before_is_read_with_its_open_intent() {
        let (temp, journal) = bed();
        let clock = r#"{"wall": "2026-01-01T00:00:00Z", "boot": {"secs": 1, "nanos": 0}, "boot_id": "b"}"#;
        let intent = format!(
            r#"{{"goal": {{"kind": "apply", "revision": "r"}}, "ask": "", "model": "m", "tree": "t", "treeBefore": "u",
            "restart": true, "rung": "goal", "passedBefore": [], "images": {{}}, "others": [], "invocationBefore": "i",
            "versionBefore": "v", "began": {clock}, "rungBegan": {clock}, "restartOrdered": null, "restartedOver": null,
            "away": {{"secs": 0, "nanos": 0}}, "looked": {clock}, "verdict": null, "credentialSources": {{}},
            "fileHosts": []}}"#
        );
        put(
            &temp,
            "record.json",
            &format!(r#"{{"schema": 1, "intent": {intent}, "credentialSources": {{"h": "o"}}}}"#),
        );
        let JournalSeen::Found(record) = journal.read().unwrap() else { panic!("{:?}", journal.read()) };
        assert_eq!((record.credential_sources["h"].as_str(), record.tls_sources.len()), ("o", 0));
        assert_eq!(record.intent.unwrap().tls_sources.len(), 0);
    }

    #[test]
    fn a_newer_record_is_refused_and_not_overwritten() {
        let (temp, journal) = bed();
        put(&temp, "record.json", r#"{"schema": 7, "applied": 3}"#);
        assert_eq!(journal.read().unwrap(), JournalSeen::Newer(7));
        let error = journal.write(&Record::default()).unwrap_err();
        assert!(matches!(error, JournalError::Newer(7)));
        assert_eq!(journal.read().unwrap(), JournalSeen::Newer(7));
    }

    #[test]
    fn a_damaged_record_is_named_by_its_place_and_not_by_its_content() {
        let (temp, journal) = bed();
        for text in ["", "{", r#"{"schema": 1, "failed": "canary"}"#, "{}", "canary", "[1]"] {
            put(&temp, "record.json", text);
            let JournalSeen::Damaged(why) = journal.read().unwrap() else { panic!("{text}") };
            assert!(why.starts_with("/var/lib/k3s-registry-agent/record.json ") && !why.contains("canary"), "{why}");
        }
    }

    #[test]
    fn a_second_process_is_told_who_works_here() {
        let (temp, journal) = bed();
        let lock = journal.lock().unwrap();
        let second = Journal::open(&Root::open(temp.path()).unwrap()).unwrap();
        let error = second.lock().unwrap_err().to_string();
        assert!(error.contains(&format!("process {} (", std::process::id())), "{error}");
        drop(lock);
        // A process that another test starts at this moment has the lock too, between its fork and its exec.
        let is_free = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            second.lock().is_ok()
        });
        assert!(is_free, "it was given up");
    }

    #[test]
    fn the_key_is_drawn_once_and_a_damaged_one_is_refused() {
        let (temp, journal) = bed();
        let key = journal.key().unwrap();
        assert_eq!(journal.key().unwrap(), key);
        assert_ne!(bed().1.key().unwrap(), key);
        put(&temp, "key", "short");
        assert!(matches!(journal.key(), Err(JournalError::Key)));
    }

    #[test]
    fn a_kept_tree_is_never_recorded_and_absent_are_three_things() {
        let (_temp, journal) = bed();
        assert_eq!(journal.kept(Kept::Previous).unwrap(), None);
        journal.keep(Kept::Previous, &Tree::default(), None).unwrap();
        assert_eq!(journal.kept(Kept::Previous).unwrap(), Some(Tree::default()));
        journal.keep(Kept::Previous, &tree("x"), None).unwrap();
        assert_eq!(journal.kept(Kept::Previous).unwrap(), Some(tree("x")));
        journal.keep(Kept::Previous, &tree("y"), None).unwrap();
        assert_eq!(journal.kept(Kept::Previous).unwrap(), Some(tree("y")));
        assert_eq!(journal.kept(Kept::Original).unwrap(), None);
    }

    #[test]
    fn the_original_keeps_mode_and_owner() {
        let (_temp, journal) = bed();
        let attributes = Attributes { mode: 0o644, uid: 7, gid: 8 };
        journal.keep(Kept::Original, &tree("x"), Some(attributes)).unwrap();
        assert_eq!(journal.kept_attributes(Kept::Original).unwrap(), Some(attributes));
        journal.keep(Kept::Original, &tree("x"), None).unwrap();
        assert_eq!(journal.kept_attributes(Kept::Original).unwrap(), None);
    }

    #[test]
    fn leftovers_are_swept_under_the_lock() {
        let (temp, journal) = bed();
        journal.keep(Kept::Previous, &tree("x"), None).unwrap();
        let left = temp.path().join("var/lib/k3s-registry-agent/.registries.0");
        fs::create_dir(&left).unwrap();
        journal.sweep(&journal.lock().unwrap()).unwrap();
        assert!(!left.exists());
        assert_eq!(journal.kept(Kept::Previous).unwrap(), Some(tree("x")));
    }
}

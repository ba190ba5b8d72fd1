//! Reads and replaces `registries.yaml` and `registry-tls/HOST/…` as one configuration.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use agent_core::node::observed::Disk;
use agent_core::node::observed::Writer;
use agent_core::secret::Secret;
use agent_core::tree::TLS_DIR;
use agent_core::tree::Tree;
use jiff::Timestamp;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;

use super::Attributes;
use super::FilesError;
use super::LONGEST;
use super::Like;
use super::TEMPORARY;
use super::Temporary;
use super::failed;
use super::oddity;
use crate::host::root;
use crate::host::root::Root;

/// The files of one directory: TLS files of one host, by name.
type Files<'a> = BTreeMap<&'a str, &'a [u8]>;

/// The place where k3s reads its registries: the directory and the name of the file.
#[derive(Clone, Debug)]
pub struct Configuration {
    root: Root,
    directory: String,
    name: String,
}

impl Configuration {
    /// `path` is that of `registries.yaml`, as the host names it.
    pub fn new(root: Root, path: &str) -> Self {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("/", path));
        let directory = if directory.is_empty() { "/" } else { directory };
        Self { root, directory: directory.to_owned(), name: name.to_owned() }
    }

    /// The directory that is to be watched.
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// The file, as the host names it.
    pub fn path(&self) -> String {
        self.shown(&self.name)
    }

    /// Reads what lies there. What is odd is named and left out of the tree; it is no error.
    pub fn read_tree(&self) -> Result<Disk, FilesError> {
        let mut disk = Disk { tree: Tree::default(), oddity: None, writer: None };
        let dir = match self.root.dir(&self.directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                disk.oddity = self.dangling();
                return Ok(disk);
            }
            other => other.map_err(failed("open", &self.directory))?,
        };
        let shown = self.shown(&self.name);
        if let Some(stat) = root::look(dir.as_fd(), &self.name).map_err(failed("look at", &shown))? {
            disk.writer = Some(writer(&stat));
            match read(dir.as_fd(), &self.name, &stat, &shown) {
                Ok(bytes) => disk.tree.registries = Some(Secret::new(bytes)),
                Err(what) => disk.oddity = Some(what),
            }
        }
        let shown = self.shown(TLS_DIR);
        let Some(tls) = subdirectory(dir.as_fd(), TLS_DIR, &shown)? else { return Ok(disk) };
        for host in root::names(tls.as_fd()).map_err(failed("list", &shown))? {
            // A plain file beside the hosts' directories is an administrator's; nothing of ours has this shape.
            if host.starts_with(TEMPORARY) || !is_directory(tls.as_fd(), &host, &shown)? {
                continue;
            }
            let shown = format!("{shown}/{host}");
            let Some(inner) = subdirectory(tls.as_fd(), &host, &shown)? else { continue };
            for name in root::names(inner.as_fd()).map_err(failed("list", &shown))? {
                let shown = format!("{shown}/{name}");
                let Some(stat) = root::look(inner.as_fd(), &name).map_err(failed("look at", &shown))? else { continue };
                match read(inner.as_fd(), &name, &stat, &shown) {
                    Ok(bytes) => drop(disk.tree.tls.insert(format!("{host}/{name}"), Secret::new(bytes))),
                    Err(what) => drop(disk.oddity.get_or_insert(what)),
                }
            }
        }
        Ok(disk)
    }

    /// The link on the way to the directory that leads nowhere: nothing can be made behind it.
    fn dangling(&self) -> Option<String> {
        let ends = self.directory.match_indices('/').map(|(at, _)| at).skip(1).chain([self.directory.len()]);
        let mut links = ends.filter_map(|end| {
            let path = &self.directory[..end];
            self.root.link(path).filter(|_| !self.root.has(path)).map(|to| (path, to))
        });
        let (path, to) = links.next()?;
        Some(format!("{path} is a symbolic link to {to}, which is not there: make that directory, or remove the link"))
    }

    /// Permission bits and owner of `registries.yaml`, if it is a plain file.
    pub fn attributes(&self) -> Result<Option<Attributes>, FilesError> {
        let Ok(dir) = self.root.dir(&self.directory) else { return Ok(None) };
        let stat = root::look(dir.as_fd(), &self.name).map_err(failed("look at", &self.shown(&self.name)))?;
        Ok(stat.filter(|stat| oddity(stat).is_none()).map(|stat| Attributes::from(&stat)))
    }

    /// Makes the disk hold this tree. New and changed TLS directories first, each exchanged whole; then the file that
    /// names them; then those that nothing names any more go. Running it twice is running it once. Tells whether
    /// anything was changed.
    pub fn replace_tree(&self, tree: &Tree, like: Like) -> Result<bool, FilesError> {
        let mut hosts = BTreeMap::<&str, Files<'_>>::new();
        for (path, bytes) in &tree.tls {
            let (host, name) = split(path)?;
            hosts.entry(host).or_default().insert(name, bytes.expose());
        }
        let dir = self.root.make_dir(&self.directory, 0o755).map_err(failed("create", &self.directory))?;
        let mut changed = false;
        if !hosts.is_empty() {
            changed |= self.put_hosts(dir.as_fd(), &hosts)?;
        }
        let shown = self.shown(&self.name);
        changed |= match &tree.registries {
            Some(bytes) => super::replace(dir.as_fd(), &self.name, &shown, bytes.expose(), like)?,
            None => super::remove(dir.as_fd(), &self.name, &shown)?,
        };
        Ok(self.drop_hosts(dir.as_fd(), &hosts.keys().copied().collect())? || changed)
    }

    /// Removes what a killed process of ours left.
    pub fn sweep(&self) -> Result<(), FilesError> {
        let Ok(dir) = self.root.dir(&self.directory) else { return Ok(()) };
        super::sweep(dir.as_fd(), &self.directory)?;
        let shown = self.shown(TLS_DIR);
        match subdirectory(dir.as_fd(), TLS_DIR, &shown)? {
            Some(tls) => super::sweep(tls.as_fd(), &shown)?,
            None => return Ok(()),
        }
        // Only an empty one goes: it was left by one killed before its last step.
        rustix::fs::unlinkat(&dir, TLS_DIR, AtFlags::REMOVEDIR).unwrap_or_default();
        Ok(())
    }

    fn put_hosts(&self, dir: BorrowedFd<'_>, hosts: &BTreeMap<&str, Files<'_>>) -> Result<bool, FilesError> {
        let shown = self.shown(TLS_DIR);
        let (tls, mut changed) = match subdirectory(dir, TLS_DIR, &shown)? {
            Some(tls) => (tls, false),
            None => {
                rustix::fs::mkdirat(dir, TLS_DIR, Mode::RWXU).map_err(failed("create", &shown))?;
                rustix::fs::fsync(dir).map_err(failed("sync", &self.directory))?;
                (subdirectory(dir, TLS_DIR, &shown)?.ok_or_else(|| gone(&shown))?, true)
            }
        };
        for (host, files) in hosts {
            changed |= put_host(tls.as_fd(), host, files, &format!("{shown}/{host}"))?;
        }
        Ok(changed)
    }

    fn drop_hosts(&self, dir: BorrowedFd<'_>, keep: &BTreeSet<&str>) -> Result<bool, FilesError> {
        let shown = self.shown(TLS_DIR);
        let Some(tls) = subdirectory(dir, TLS_DIR, &shown)? else { return Ok(false) };
        let mut changed = false;
        for host in root::names(tls.as_fd()).map_err(failed("list", &shown))? {
            if keep.contains(host.as_str()) || !is_directory(tls.as_fd(), &host, &shown)? {
                continue;
            }
            // Renamed first: a process killed in the middle of removing it leaves what the next one sweeps.
            let (shown, doomed) = (format!("{shown}/{host}"), super::temporary_name());
            rustix::fs::renameat(&tls, &host, &tls, &doomed).map_err(failed("move away", &shown))?;
            super::remove_all(tls.as_fd(), &doomed, &shown)?;
            changed = true;
        }
        if keep.is_empty() {
            // Only an empty one goes: a file of an administrator keeps it.
            changed |= rustix::fs::unlinkat(dir, TLS_DIR, AtFlags::REMOVEDIR).is_ok();
        }
        if changed {
            rustix::fs::fsync(&tls).map_err(failed("sync", &shown))?;
            rustix::fs::fsync(dir).map_err(failed("sync", &self.directory))?;
        }
        Ok(changed)
    }

    fn shown(&self, name: &str) -> String {
        format!("{}/{name}", self.directory.trim_end_matches('/'))
    }
}

fn put_host(tls: BorrowedFd<'_>, host: &str, files: &Files<'_>, shown: &str) -> Result<bool, FilesError> {
    if let Some(now) = subdirectory(tls, host, shown)?
        && holds(now.as_fd(), files, shown)?
    {
        return Ok(false);
    }
    let (prepared, fd) = Temporary::directory(tls, shown)?;
    for (name, bytes) in files {
        super::replace(fd.as_fd(), name, &format!("{shown}/{name}"), bytes, Like::Mode(0o600))?;
    }
    rustix::fs::fsync(&fd).map_err(failed("sync", shown))?;
    super::exchange(tls, prepared, host, shown)?;
    Ok(true)
}

/// Whether a directory holds these files and nothing else, all closed to others.
fn holds(dir: BorrowedFd<'_>, files: &Files<'_>, shown: &str) -> Result<bool, FilesError> {
    let stat = rustix::fs::fstat(dir).map_err(failed("look at", shown))?;
    let names = root::names(dir).map_err(failed("list", shown))?;
    if stat.st_mode & 0o077 != 0 || !names.iter().map(String::as_str).eq(files.keys().copied()) {
        return Ok(false);
    }
    for (name, bytes) in files {
        let Some(stat) = root::look(dir, name).map_err(failed("look at", shown))? else { return Ok(false) };
        if stat.st_mode & 0o077 != 0 || !read(dir, name, &stat, shown).is_ok_and(|now| now == *bytes) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn split(path: &str) -> Result<(&str, &str), FilesError> {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['/', '\0']) && part.len() < 256;
    match path.split_once('/') {
        Some((host, name)) if plain(host) && plain(name) && !host.starts_with(TEMPORARY) => Ok((host, name)),
        _ => Err(FilesError::BadName(path.to_owned())),
    }
}

/// Opens a directory in a directory; something else in its place, also a symlink, is refused.
fn subdirectory(dir: BorrowedFd<'_>, name: &str, shown: &str) -> Result<Option<OwnedFd>, FilesError> {
    let Some(stat) = root::look(dir, name).map_err(failed("look at", shown))? else { return Ok(None) };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        let what = oddity(&stat).unwrap_or("a plain file");
        return Err(FilesError::InTheWay { path: shown.to_owned(), what });
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).map(Some).map_err(failed("open", shown))
}

/// Whether a name of `registry-tls` is to be taken for a host's: all but plain files are.
fn is_directory(dir: BorrowedFd<'_>, name: &str, shown: &str) -> Result<bool, FilesError> {
    let stat = root::look(dir, name).map_err(failed("look at", shown))?;
    Ok(stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile))
}

/// Reads a plain file, or says in a sentence why not.
fn read(dir: BorrowedFd<'_>, name: &str, stat: &Stat, shown: &str) -> Result<Vec<u8>, String> {
    if let Some(what) = oddity(stat) {
        return Err(format!("{shown} is {what}: move it away, so that the agent can put its own there"));
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(std::io::Error::from);
    fd.and_then(|fd| root::read_plain(fd, LONGEST)).map_err(|error| format!("{shown} cannot be read: {error}"))
}

fn writer(stat: &Stat) -> Writer {
    let nanoseconds = i32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    let modified = Timestamp::new(stat.st_mtime, nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH);
    Writer { modified, uid: stat.st_uid, mode: stat.st_mode & 0o7777 }
}

fn gone(shown: &str) -> FilesError {
    failed("open", shown)(std::io::Error::from(std::io::ErrorKind::NotFound))
}

#[cfg(test)]
mod tests;

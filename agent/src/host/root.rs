//! The directory that stands for a host's `/`: every path is resolved inside it, also through absolute symlinks.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::Stat;
use rustix::io::Errno;

/// `/`, `/proc/1/root` (the host, seen from a pod with `hostPID`) or any directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
    fd: Arc<OwnedFd>,
}

/// Whose processes can be reached through a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// `/`: our own.
    Own,
    /// `/proc/1/root`: those in PID 1's mount namespace.
    Pid1,
    /// A directory: none.
    Directory,
}

impl Reach {
    /// Compares by components, so that a trailing slash does not turn the host into a directory.
    fn of(path: &Path) -> Self {
        if path.components().eq(Path::new("/").components()) {
            Self::Own
        } else if path.components().eq(Path::new("/proc/1/root").components()) {
            Self::Pid1
        } else {
            Self::Directory
        }
    }
}

impl Root {
    /// Opens the directory.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_owned();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::empty())?;
        let root = Self { path, fd: Arc::new(fd) };
        // Now, and not at the first file: what the kernel lacks is to be said before anything is done.
        root.dir(".")?;
        Ok(root)
    }

    /// The directory's own path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose processes can be reached.
    pub fn reach(&self) -> Reach {
        Reach::of(&self.path)
    }

    /// Opens a path inside the root. A symlink's absolute target is taken from the root, and `..` never leaves it.
    pub fn at(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        // The kernel answers EAGAIN when something was renamed while it looked; it asks us to try again.
        for _ in 0..16 {
            match rustix::fs::openat2(&*self.fd, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other.map_err(told),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Opens a directory.
    pub fn dir(&self, path: &str) -> io::Result<OwnedFd> {
        self.at(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens a directory and makes what is missing on the way to it, each level fsynced into its parent.
    pub fn make_dir(&self, path: &str, mode: u32) -> io::Result<OwnedFd> {
        match self.dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let trimmed = path.trim_end_matches('/');
        let (parent, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
        if name.is_empty() {
            return self.dir("/");
        }
        let above = self.make_dir(if parent.is_empty() { "/" } else { parent }, mode)?;
        match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(mode)) {
            Ok(()) => rustix::fs::fsync(&above)?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        self.dir(path)
    }

    /// What lies at a path, following symlinks inside the root; `None` if nothing does.
    pub fn stat(&self, path: &str) -> io::Result<Option<Stat>> {
        match self.at(path, OFlags::PATH) {
            Ok(fd) => Ok(Some(rustix::fs::fstat(&fd)?)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether something lies at a path; what cannot be looked at does not.
    pub fn has(&self, path: &str) -> bool {
        matches!(self.stat(path), Ok(Some(_)))
    }

    /// Target of the symlink at a path, or `None` if there is no symlink.
    pub fn link(&self, path: &str) -> Option<String> {
        let fd = self.at(path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        let target = rustix::fs::readlinkat(&fd, "", Vec::new()).ok()?;
        target.into_string().ok()
    }

    /// Reads a plain file of at most `limit` bytes; `None` if nothing lies there.
    pub fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        // NONBLOCK: a FIFO in place of the file must not hang the agent.
        match self.at(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(fd) => read_plain(fd, limit).map(Some),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Names in a directory, sorted; none if it does not exist.
    pub fn names(&self, path: &str) -> io::Result<Vec<String>> {
        match self.dir(path) {
            Ok(fd) => names(fd.as_fd()),
            Err(error) if is_missing(&error) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// What the kernel answers; one that is too old says only that it has no such function.
fn told(errno: Errno) -> io::Error {
    match errno {
        Errno::NOSYS => io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel cannot open a path inside a root (openat2): Linux 5.6 or newer is needed",
        ),
        other => other.into(),
    }
}

/// Reads an open plain file; a longer one, or one that is not plain, is an error.
pub(crate) fn read_plain(fd: OwnedFd, limit: u64) -> io::Result<Vec<u8>> {
    let file = File::from(fd);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {limit} bytes")));
    }
    Ok(bytes)
}

/// Names in an open directory, sorted, without `.` and `..`. A name that is no UTF-8 is left out: none of ours is.
pub(crate) fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        if let Ok(name) = entry?.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// What lies under a name of an open directory, without following a symlink.
pub(crate) fn look(dir: BorrowedFd<'_>, name: &str) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether an error says that nothing lies there.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_kernel_without_openat2_is_told_by_the_version_that_is_needed() {
        let error = told(Errno::NOSYS);
        assert!(error.to_string().contains("Linux 5.6"), "{error}");
        assert!(!is_missing(&error), "what cannot be looked for is not missing");
        assert_eq!(told(Errno::NOENT).kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn an_absolute_symlink_stays_inside_the_root() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("data/k3s")).unwrap();
        std::fs::create_dir_all(temp.path().join("etc")).unwrap();
        symlink("/data", temp.path().join("etc/rancher")).unwrap();
        symlink("/etc/passwd", temp.path().join("data/k3s/outside")).unwrap();
        symlink("../../../../../../etc/passwd", temp.path().join("data/k3s/above")).unwrap();
        let root = Root::open(temp.path()).unwrap();
        assert_eq!(root.names("/etc/rancher/k3s").unwrap(), ["above", "outside"]);
        assert_eq!(root.read("/etc/rancher/k3s/outside", 9).unwrap(), None);
        assert_eq!(root.read("/etc/rancher/k3s/above", 9).unwrap(), None);
        assert_eq!(root.link("/etc/rancher").as_deref(), Some("/data"));
        root.make_dir("/etc/rancher/rke2/deeper", 0o755).unwrap();
        assert!(temp.path().join("data/rke2/deeper").is_dir());
    }

    #[test]
    fn a_pipe_or_a_long_file_is_refused_and_does_not_hang() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::open(temp.path()).unwrap();
        let fifo = temp.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        rustix::fs::mkdirat(rustix::fs::CWD, temp.path().join("d"), Mode::RWXU).unwrap();
        assert_eq!(root.read("/fifo", 9).unwrap_err().to_string(), "it is no plain file");
        assert_eq!(root.read("/d", 9).unwrap_err().to_string(), "it is no plain file");
        assert_eq!(Root::open("/").unwrap().read("/etc/passwd", 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn the_host_is_known_by_its_path() {
        assert_eq!(Root::open("/").unwrap().reach(), Reach::Own);
        assert_eq!(Reach::of(Path::new("/proc/1/root/")), Reach::Pid1);
        assert_eq!(Reach::of(Path::new("/tmp")), Reach::Directory);
    }
}

//! Replaces one file so that a reader, and a crash at any instruction, finds the old one or the new one in full.

mod tree;

use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::fs::Stat;
use rustix::fs::Uid;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

pub use self::tree::Configuration;
use super::root;

/// How the names of our temporary files and directories begin.
pub const TEMPORARY: &str = ".registries.";
/// Longest file that is read as a configuration or TLS file.
pub(crate) const LONGEST: u64 = 4 << 20;
const LABEL: &str = "security.selinux";

/// What could not be done to which file. The path is as the host names it; no content is ever told.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Something else lies in place of the file, or of a directory of ours.
    #[error("{path} is {what}: move it away, so that the agent can put its own there")]
    InTheWay {
        /// The path.
        path: String,
        /// What lies there.
        what: &'static str,
    },
    /// A name in a tree is no plain name.
    #[error("{0:?} is no name for a file below registry-tls")]
    BadName(String),
    /// A system call failed.
    #[error("cannot {doing} {path}{}", remedy(source))]
    Io {
        /// The verb.
        doing: &'static str,
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl FilesError {
    /// The kind of fault, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::InTheWay { .. } => "in-the-way",
            Self::BadName(_) => "bad-name",
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "full",
                io::ErrorKind::ReadOnlyFilesystem => "read-only",
                _ => "io",
            },
        }
    }
}

impl FilesError {
    /// The cause alone, for a caller that has said the rest.
    pub fn into_source(self) -> Option<Box<dyn std::error::Error + Send + Sync>> {
        match self {
            Self::InTheWay { .. } | Self::BadName(_) => None,
            Self::Io { source, .. } => Some(Box::new(source)),
        }
    }
}

/// What a person can do about it, where the cause says it.
fn remedy(source: &io::Error) -> &'static str {
    // Nothing else forbids it to root.
    const ATTRIBUTE: &str =
        " (needs root; else `lsattr -d` shows an i or a on it or its directory: take it away with `chattr -ia`)";
    match source.kind() {
        _ if source.raw_os_error() == Some(Errno::PERM.raw_os_error()) => ATTRIBUTE,
        io::ErrorKind::PermissionDenied => " (run it as root)",
        io::ErrorKind::StorageFull => " (free some space on its file system)",
        io::ErrorKind::QuotaExceeded => " (raise the quota of its file system, or free some space)",
        io::ErrorKind::ReadOnlyFilesystem => " (its file system is mounted read-only: mount it writable)",
        _ => "",
    }
}

/// Writes a file of ours outside a node's root: manifests, a rendered file. Its directory is made if it is not there.
pub fn write_file(path: &std::path::Path, bytes: &[u8], mode: u32) -> Result<(), FilesError> {
    let shown = path.display().to_string();
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(std::path::Path::new("."));
    std::fs::create_dir_all(parent).map_err(failed("create the directory of", &shown))?;
    let dir = File::open(parent).map_err(failed("open the directory of", &shown))?;
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| FilesError::BadName(shown.clone()))?;
    replace(dir.as_fd(), name, &shown, bytes, Like::Mode(mode)).map(drop)
}

/// Turns an `io::Error` into [`FilesError::Io`].
pub(crate) fn failed<E: Into<io::Error>>(doing: &'static str, path: &str) -> impl FnOnce(E) -> FilesError {
    move |error| FilesError::Io { doing, path: path.to_owned(), source: error.into() }
}

/// Permission bits and owner of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl From<&Stat> for Attributes {
    fn from(stat: &Stat) -> Self {
        Self { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid }
    }
}

/// Which permission bits and owner the file gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Like {
    /// This mode, and the owner of the file that lies there now (ours, if none does).
    Mode(u32),
    /// Exactly these: what a file had that is put back.
    Exactly(Attributes),
}

impl Like {
    fn wanted(self, old: Option<Attributes>) -> Attributes {
        match self {
            Self::Mode(mode) => {
                let own = || (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
                let (uid, gid) = old.map_or_else(own, |old| (old.uid, old.gid));
                Attributes { mode, uid, gid }
            }
            Self::Exactly(attributes) => attributes,
        }
    }
}

/// Replaces the file `name` in an open directory; `shown` is its path for people. Equal bytes with equal attributes are
/// left alone. Tells whether anything was changed.
pub fn replace(dir: BorrowedFd<'_>, name: &str, shown: &str, bytes: &[u8], like: Like) -> Result<bool, FilesError> {
    let old = existing(dir, name, shown)?;
    let wanted = like.wanted(old.as_ref().map(|(_, attributes)| *attributes));
    if let Some((file, attributes)) = &old {
        let file = file.try_clone().map_err(failed("read", shown))?;
        // One that is too long to be read is certainly another one.
        if root::read_plain(file, LONGEST).is_ok_and(|now| now == bytes) {
            if *attributes == wanted {
                return Ok(false);
            }
            let (file, _) = old.as_ref().expect("it was just looked at");
            attribute(file, *attributes, wanted, shown)?;
            rustix::fs::fsync(file).map_err(failed("sync", shown))?;
            return Ok(true);
        }
    }
    let temporary = Temporary::file(dir, shown)?;
    temporary.fill(bytes, old.as_ref().map(|(file, _)| file), wanted, shown)?;
    rustix::fs::renameat(dir, &temporary.name, dir, name).map_err(failed("replace", shown))?;
    temporary.done();
    rustix::fs::fsync(dir).map_err(failed("sync the directory of", shown))?;
    Ok(true)
}

/// Removes a plain file. Tells whether one lay there.
pub fn remove(dir: BorrowedFd<'_>, name: &str, shown: &str) -> Result<bool, FilesError> {
    if existing(dir, name, shown)?.is_none() {
        return Ok(false);
    }
    rustix::fs::unlinkat(dir, name, AtFlags::empty()).map_err(failed("remove", shown))?;
    rustix::fs::fsync(dir).map_err(failed("sync the directory of", shown))?;
    Ok(true)
}

/// Removes temporary files and directories that a killed process of ours left in a directory.
pub fn sweep(dir: BorrowedFd<'_>, shown: &str) -> Result<(), FilesError> {
    for name in root::names(dir).map_err(failed("list", shown))? {
        if name.starts_with(TEMPORARY) {
            remove_all(dir, &name, shown)?;
        }
    }
    Ok(())
}

/// What something other than a plain file is called; `None` for a plain file.
pub(crate) fn oddity(stat: &Stat) -> Option<&'static str> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => None,
        FileType::Directory => Some("a directory"),
        FileType::Symlink => Some("a symbolic link"),
        FileType::Fifo => Some("a named pipe"),
        FileType::Socket => Some("a socket"),
        FileType::CharacterDevice | FileType::BlockDevice => Some("a device"),
        FileType::Unknown => Some("of a kind that is not known"),
    }
}

/// Puts a prepared sibling directory in place of another at once. Where the file system cannot exchange two names the
/// old one is moved away first: a crash between leaves none, which the next pass sees and mends.
pub(crate) fn exchange(
    dir: BorrowedFd<'_>,
    prepared: Temporary<'_>,
    name: &str,
    shown: &str,
) -> Result<(), FilesError> {
    match rustix::fs::renameat_with(dir, &prepared.name, dir, name, RenameFlags::EXCHANGE) {
        // Now the old one has the temporary name, and goes with `prepared`.
        Ok(()) => {}
        Err(Errno::NOENT) => {
            rustix::fs::renameat(dir, &prepared.name, dir, name).map_err(failed("put in place", shown))?;
        }
        Err(Errno::INVAL | Errno::NOSYS) => move_aside(dir, &prepared.name, name, shown)?,
        Err(error) => return Err(failed("exchange", shown)(error)),
    }
    rustix::fs::fsync(dir).map_err(failed("sync the directory of", shown))?;
    drop(prepared);
    Ok(())
}

fn move_aside(dir: BorrowedFd<'_>, prepared: &str, name: &str, shown: &str) -> Result<(), FilesError> {
    let aside = Temporary { dir, name: temporary_name() };
    rustix::fs::renameat(dir, name, dir, &aside.name).map_err(failed("move away", shown))?;
    if let Err(error) = rustix::fs::renameat(dir, prepared, dir, name) {
        // Best effort: the error below is what is told either way.
        rustix::fs::renameat(dir, &aside.name, dir, name).ok();
        return Err(failed("put in place", shown)(error));
    }
    Ok(())
}

/// A temporary file or directory, removed with all that is in it when it is dropped.
#[derive(Debug)]
pub(crate) struct Temporary<'a> {
    dir: BorrowedFd<'a>,
    pub(crate) name: String,
}

impl<'a> Temporary<'a> {
    fn file(dir: BorrowedFd<'a>, shown: &str) -> Result<Filling<'a>, FilesError> {
        let name = temporary_name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, &name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(failed("create a temporary file beside", shown))?;
        Ok(Filling { name: name.clone(), file: File::from(fd), temporary: Self { dir, name } })
    }

    /// A directory, 0700, for [`exchange`].
    pub(crate) fn directory(dir: BorrowedFd<'a>, shown: &str) -> Result<(Self, OwnedFd), FilesError> {
        let name = temporary_name();
        rustix::fs::mkdirat(dir, &name, Mode::RWXU).map_err(failed("create a directory beside", shown))?;
        let this = Self { dir, name };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, &this.name, flags, Mode::empty()).map_err(failed("open", shown))?;
        Ok((this, fd))
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // Nobody can be told here; what stays is swept at the next start.
        remove_all(self.dir, &self.name, "").ok();
    }
}

/// A temporary file that is being written.
struct Filling<'a> {
    name: String,
    file: File,
    temporary: Temporary<'a>,
}

impl Filling<'_> {
    fn fill(&self, bytes: &[u8], old: Option<&OwnedFd>, wanted: Attributes, shown: &str) -> Result<(), FilesError> {
        let Self { name: _, file, temporary: _ } = self;
        let mut writer = file;
        writer.write_all(bytes).map_err(failed("write a temporary file beside", shown))?;
        let stat = rustix::fs::fstat(file).map_err(failed("look at a temporary file beside", shown))?;
        attribute(file, Attributes::from(&stat), wanted, shown)?;
        if let Some(old) = old {
            copy_label(old, file).map_err(failed("copy the SELinux label of", shown))?;
        }
        rustix::fs::fsync(file).map_err(failed("sync a temporary file beside", shown))
    }

    /// The name is no longer ours to remove.
    fn done(self) {
        let Self { name: _, file: _, temporary } = self;
        std::mem::forget(temporary);
    }
}

fn existing(dir: BorrowedFd<'_>, name: &str, shown: &str) -> Result<Option<(OwnedFd, Attributes)>, FilesError> {
    let Some(stat) = root::look(dir, name).map_err(failed("look at", shown))? else { return Ok(None) };
    if let Some(what) = oddity(&stat) {
        return Err(FilesError::InTheWay { path: shown.to_owned(), what });
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(failed("open", shown))?;
    Ok(Some((fd, Attributes::from(&stat))))
}

/// The owner first: a change of owner takes bits of the mode away.
fn attribute(file: impl AsFd, now: Attributes, wanted: Attributes, shown: &str) -> Result<(), FilesError> {
    if (now.uid, now.gid) != (wanted.uid, wanted.gid) {
        let (uid, gid) = (Uid::from_raw(wanted.uid), Gid::from_raw(wanted.gid));
        rustix::fs::fchown(&file, Some(uid), Some(gid)).map_err(failed("give its owner to", shown))?;
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(wanted.mode)).map_err(failed("set the mode of", shown))
}

/// A renamed file keeps the label that the temporary file got, so that the old one's has to be copied.
fn copy_label(old: &OwnedFd, new: &File) -> rustix::io::Result<()> {
    let mut label = [0_u8; 1024];
    let length = match rustix::fs::fgetxattr(old, LABEL, &mut label[..]) {
        Ok(length) => length,
        Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error),
    };
    rustix::fs::fsetxattr(new, LABEL, &label[..length], XattrFlags::empty())
}

/// Removes a file, or a directory with the files and directories in it; never follows a symlink.
pub(crate) fn remove_all(dir: BorrowedFd<'_>, name: &str, shown: &str) -> Result<(), FilesError> {
    let Some(stat) = root::look(dir, name).map_err(failed("look at", shown))? else { return Ok(()) };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return rustix::fs::unlinkat(dir, name, AtFlags::empty()).map_err(failed("remove", shown));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(failed("open", shown))?;
    for entry in root::names(inner.as_fd()).map_err(failed("list", shown))? {
        remove_all(inner.as_fd(), &entry, shown)?;
    }
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR).map_err(failed("remove", shown))
}

fn temporary_name() -> String {
    let mut random = [0_u8; 8];
    // Without randomness the name only has to be unique; O_EXCL finds out if it is not.
    crate::random::fill(&mut random).unwrap_or_default();
    format!("{TEMPORARY}{:016x}", u64::from_le_bytes(random))
}

//! Tells when something in a directory may have changed. It says only *look again*; what changed is seen by reading.

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use notify::EventKind;
use notify::RecommendedWatcher;
use notify::RecursiveMode;
use notify::Watcher;
use rustix::fs::OFlags;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::files::TEMPORARY;
use super::root::Root;

const DEBOUNCE: Duration = Duration::from_millis(300);
const REREAD: Duration = Duration::from_secs(60);
/// How often a directory is looked for, and looked at for having been replaced.
const REARM: Duration = Duration::from_secs(5);

/// A watch on one directory, by its inode: a path through a symlink of the host stays inside the root.
#[derive(Debug)]
pub struct Watch {
    root: Root,
    path: String,
    armed: Option<Armed>,
    due: Option<Instant>,
    reread: Instant,
    rearm: Instant,
}

#[derive(Debug)]
struct Armed {
    directory: OwnedFd,
    _watcher: RecommendedWatcher,
    signals: mpsc::Receiver<()>,
}

/// Watches a directory, which need not exist yet.
pub fn directory(root: &Root, path: &str) -> Watch {
    let now = now();
    let mut watch =
        Watch { root: root.clone(), path: path.to_owned(), armed: None, due: None, reread: now + REREAD, rearm: now };
    watch.arm();
    watch
}

impl Watch {
    /// Waits until the directory has to be read again: 300 ms after a change in it or its replacement, and every 60 s
    /// whatever was seen. Cancel-safe: what was seen is kept in `self` until it is returned.
    pub async fn changed(&mut self) {
        loop {
            let next = self.due.unwrap_or(self.reread).min(self.rearm);
            let signal = async {
                match &mut self.armed {
                    Some(armed) => armed.signals.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Cancel-safe: `recv` loses nothing.
                signal = signal => match signal {
                    // From the first of a burst on, so that a file that is written without end is read all the same.
                    Some(()) => {
                        let due = *self.due.get_or_insert(now() + DEBOUNCE);
                        // It may have been the directory's own end: whoever reads then must find a watch on the new one.
                        self.rearm = self.rearm.min(due);
                    }
                    None => self.armed = None,
                },
                // Cancel-safe: a moment, not a length.
                () = tokio::time::sleep_until(next) => {}
            }
            let now = now();
            if now >= self.rearm && self.arm() {
                self.due.get_or_insert(now + DEBOUNCE);
            }
            if self.due.is_some_and(|due| now >= due) || now >= self.reread {
                self.due = None;
                self.reread = now + REREAD;
                return;
            }
        }
    }

    /// Watches the directory that is there now. Tells whether it is another one than before.
    fn arm(&mut self) -> bool {
        self.rearm = now() + REARM;
        let directory = self.root.at(&self.path, OFlags::RDONLY | OFlags::DIRECTORY).ok();
        let identity = |fd: &OwnedFd| rustix::fs::fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino));
        let before = self.armed.as_ref().and_then(|armed| identity(&armed.directory));
        let Some(directory) = directory else { return self.armed.take().is_some() };
        if before.is_some() && before == identity(&directory) {
            return false;
        }
        // Without a watcher (no inotify left) the slow reading goes on, and this is tried again.
        self.armed = watcher(directory).ok();
        true
    }
}

fn watcher(directory: OwnedFd) -> io::Result<Armed> {
    let (sender, signals) = mpsc::channel(1);
    let tell = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| is_of_interest(&event)) {
            // Full means that a signal waits already.
            sender.try_send(()).unwrap_or_default();
        }
    };
    let mut watcher = notify::recommended_watcher(tell).map_err(io::Error::other)?;
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    watcher.watch(path.as_ref(), RecursiveMode::NonRecursive).map_err(io::Error::other)?;
    Ok(Armed { directory, _watcher: watcher, signals })
}

/// Our own reading is an event too, and would feed itself; our temporary files are nobody's concern until the rename.
fn is_of_interest(event: &notify::Event) -> bool {
    let ours = |path: &std::path::PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(TEMPORARY))
    };
    let access = matches!(event.kind, EventKind::Access(_));
    event.need_rescan() || !(access || (!event.paths.is_empty() && event.paths.iter().all(ours)))
}

/// tokio's clock, which only measures waits here.
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn put(path: &Path, text: &str) {
        #[expect(clippy::disallowed_methods, reason = "a test plays another writer")]
        fs::write(path, text).unwrap();
    }

    async fn within(watch: &mut Watch, limit: u64) -> bool {
        tokio::time::timeout(Duration::from_millis(limit), watch.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn a_write_a_rename_and_a_symlink_swap_are_seen_and_a_read_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("registries.yaml");
        put(&file, "1");
        let mut watch = directory(&Root::open(temp.path()).unwrap(), "/");
        fs::read(&file).unwrap();
        put(&temp.path().join(".registries.temporary"), "x");
        assert!(!within(&mut watch, 700).await);
        put(&file, "2");
        assert!(within(&mut watch, 3000).await);
        put(&temp.path().join("new"), "3");
        fs::rename(temp.path().join("new"), &file).unwrap();
        assert!(within(&mut watch, 3000).await);
        put(&file, "4");
        assert!(within(&mut watch, 3000).await);
        symlink("1", temp.path().join("..data_tmp")).unwrap();
        fs::rename(temp.path().join("..data_tmp"), temp.path().join("..data")).unwrap();
        assert!(within(&mut watch, 3000).await);
    }

    #[tokio::test]
    async fn a_directory_that_comes_later_or_is_replaced_is_seen() {
        let temp = tempfile::tempdir().unwrap();
        let mut watch = directory(&Root::open(temp.path()).unwrap(), "/k3s");
        for _ in 0..2 {
            fs::create_dir(temp.path().join("k3s")).unwrap();
            assert!(within(&mut watch, 8000).await);
            put(&temp.path().join("k3s/registries.yaml"), "1");
            assert!(within(&mut watch, 3000).await);
            fs::rename(temp.path().join("k3s"), tempfile::tempdir().unwrap().path().join("away")).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_minute_it_is_read_again_whatever_was_seen() {
        let mut watch = directory(&Root::open("/").unwrap(), "/does-not-exist");
        let before = Instant::now();
        watch.changed().await;
        assert_eq!((Instant::now() - before).as_secs(), 60);
    }
}

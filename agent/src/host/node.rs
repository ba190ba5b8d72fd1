//! One node's host: opened, and looked at.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use agent_core::digest::Key;
use agent_core::node::discovery::openrc::unguarded;
use agent_core::node::discovery::{self, Hints, decide, parse_show};
use agent_core::node::journal::JournalSeen;
use agent_core::node::logs::{is_due, signs};
use agent_core::node::observed::{
    Clock, GuardSeen, HostSeen, Installation, LogSigns, RuntimeFiles, Service as ServiceSeen, Unsupported,
};
use agent_core::node::plan::Depth;
use agent_core::node::pulls::PullOrder;
use agent_core::registries::lint::FileFact;

use super::command::{CommandError, Commands};
use super::crictl::Crictl;
use super::files::{self, Configuration, FilesError};
use super::guard::{Guard, GuardError};
use super::journal::{self, Journal, JournalError, Lock};
use super::puller::Puller;
use super::root::{Reach, Root};
use super::service::{Backend, OpenRc, Service, Systemd};
use super::{discover, health, runtime};

/// How k3s is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceChoice {
    /// systemd or OpenRC, whichever runs the host.
    Auto,
    /// systemd.
    Systemd,
    /// OpenRC.
    OpenRc,
    /// Not at all.
    None,
}

/// Why the host could not be opened, or looked at.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The root.
    #[error("cannot open the node's root {path}")]
    Root {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The journal.
    #[error("cannot use the journal")]
    Journal(#[from] JournalError),
    /// The host was opened to be looked at.
    #[error("this process only looks")]
    NoJournal,
    /// The files that k3s reads.
    #[error("cannot read the files of k3s")]
    Files(#[from] FilesError),
    /// The guard.
    #[error("cannot use the guard")]
    Guard(#[from] GuardError),
    /// A program of the host.
    #[error("cannot ask the host")]
    Command(#[from] CommandError),
    /// A file of the host that k3s wrote or reads.
    #[error("cannot read what k3s wrote")]
    Read(#[source] io::Error),
    /// The clock.
    #[error("cannot read the clock")]
    Clock(#[source] io::Error),
    /// systemd or OpenRC was asked for, and is not there.
    #[error("the root {0} runs neither systemd nor OpenRC: say --service none to write files only")]
    NoService(String),
    /// The root is a directory: what lies in it is nobody's running service.
    #[error("the root {0} is a directory and no host, so nothing runs there: say --service none to write files only")]
    NoHost(String),
}

/// One node's host.
#[derive(Debug)]
pub struct Host {
    pub(super) root: Root,
    /// None while nothing was ever done here, and nothing is to be.
    pub(super) journal: Option<Journal>,
    pub(super) service: Option<Serving>,
    /// The last discovery, and for which hints and which invocation it holds: flags change only with a start.
    found: Mutex<Option<Found>>,
    /// What is pulled for proof.
    puller: Mutex<Puller>,
}

/// What starts and stops k3s here.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) backend: Backend,
    pub(super) commands: Commands,
    /// OpenRC has none.
    pub(super) guard: Option<Guard>,
}

#[derive(Clone, Debug)]
struct Found {
    hints: Hints,
    invocation: String,
    installation: Result<Installation, Unsupported>,
}

impl Host {
    /// Opens the host for work: makes the journal's directory, and the root if it only stands for one.
    ///
    /// # Errors
    ///
    /// The root, the journal or the service manager cannot be opened.
    pub fn open(path: &Path, choice: ServiceChoice) -> Result<Self, HostError> {
        if choice == ServiceChoice::None {
            std::fs::create_dir_all(path).map_err(|source| HostError::Root { path: path.to_owned(), source })?;
        }
        let mut host = Self::root_only(path)?;
        host.journal = Some(Journal::open(&host.root)?);
        host.service = host.serving(choice, true)?;
        Ok(host)
    }

    /// Opens the host to look at it. Nothing is made.
    ///
    /// # Errors
    ///
    /// The root, the journal or the service manager cannot be opened.
    pub fn look(path: &Path, choice: ServiceChoice) -> Result<Self, HostError> {
        let mut host = Self::root_only(path)?;
        if host.root.has(journal::DIRECTORY) {
            host.journal = Some(Journal::open(&host.root)?);
        }
        host.service = host.serving(choice, false)?;
        Ok(host)
    }

    fn root_only(path: &Path) -> Result<Self, HostError> {
        let root = Root::open(path).map_err(|source| HostError::Root { path: path.to_owned(), source })?;
        Ok(Self { root, journal: None, service: None, found: Mutex::new(None), puller: Mutex::default() })
    }

    fn serving(&self, choice: ServiceChoice, with_guard: bool) -> Result<Option<Serving>, HostError> {
        let is_systemd = match choice {
            ServiceChoice::None => return Ok(None),
            ServiceChoice::Auto | ServiceChoice::Systemd | ServiceChoice::OpenRc
                if self.root.reach() == Reach::Directory =>
            {
                return Err(HostError::NoHost(self.root.path().display().to_string()));
            }
            ServiceChoice::Systemd => true,
            ServiceChoice::OpenRc => false,
            // As k3s's own installer tells them apart: OpenRC first.
            ServiceChoice::Auto if self.root.has("/sbin/openrc-run") => false,
            ServiceChoice::Auto if !self.root.has("/run/systemd/system") => {
                return Err(HostError::NoService(self.root.path().display().to_string()));
            }
            ServiceChoice::Auto => true,
        };
        let commands = Commands::of(&self.root)?;
        let systemd = Systemd::new(commands.clone(), self.root.clone());
        let guard = if is_systemd && with_guard { Some(Guard::open(&self.root, systemd.clone())?) } else { None };
        let backend = if is_systemd {
            Backend::Systemd(systemd)
        } else {
            Backend::OpenRc(OpenRc::new(commands.clone(), self.root.clone()))
        };
        Ok(Some(Serving { backend, commands, guard }))
    }

    /// Takes this node's lock. `Err` in `Ok` says who has it.
    ///
    /// # Errors
    ///
    /// The lock file cannot be used.
    pub fn lock(&self) -> Result<Result<Lock, String>, HostError> {
        match self.journal.as_ref().ok_or(HostError::NoJournal)?.lock() {
            Ok(lock) => Ok(Ok(lock)),
            Err(JournalError::Held(holder)) => Ok(Err(holder)),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what a killed process of ours left.
    ///
    /// # Errors
    ///
    /// A directory cannot be listed, or a file not be removed.
    pub fn sweep(&self, lock: &Lock) -> Result<(), HostError> {
        if let Some(journal) = &self.journal {
            journal.sweep(lock)?;
        }
        Ok(self.configuration().sweep()?)
    }

    /// The journal's random key, drawn once; where there is no journal, one that is forgotten again.
    ///
    /// # Errors
    ///
    /// The key cannot be drawn, read or kept.
    pub fn key(&self) -> Result<Key, HostError> {
        let mut bytes = [0; 32];
        match &self.journal {
            Some(journal) => {
                let kept = journal.key()?;
                bytes.copy_from_slice(kept.expose().get(..32).ok_or(JournalError::Key)?);
            }
            None => {
                crate::random::fill(&mut bytes).map_err(JournalError::Random)?;
            }
        }
        Ok(Key::new(bytes))
    }

    /// What the journal remembers.
    ///
    /// # Errors
    ///
    /// It cannot be read at all; a damaged one is an answer.
    pub fn record(&self) -> Result<JournalSeen, HostError> {
        match &self.journal {
            Some(journal) => Ok(journal.read()?),
            None => Ok(JournalSeen::Missing),
        }
    }

    /// Whether there is a service that can be restarted.
    pub const fn has_service(&self) -> bool {
        self.service.is_some()
    }

    /// The moment, with the boot id that the host's own programs read.
    pub fn clock(&self) -> std::io::Result<agent_core::node::observed::Clock> {
        super::clock::clock_of(&self.root)
    }

    /// The root.
    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// The k3s of this node.
    ///
    /// # Errors
    ///
    /// The host cannot be asked.
    pub async fn installation(&self, hints: &Hints) -> Result<Result<Installation, Unsupported>, HostError> {
        let Some(serving) = &self.service else { return Ok(Ok(discovery::without_service())) };
        let last = self.found.lock().ok().and_then(|found| found.clone()).filter(|found| found.hints == *hints);
        if let Some(Found { installation, .. }) = last {
            return Ok(installation);
        }
        let units = match &serving.backend {
            Backend::Systemd(systemd) => parse_show(&systemd.show_all().await?),
            Backend::OpenRc(openrc) => openrc.units().await.map_err(HostError::Read)?,
        };
        let facts = discover::facts(&self.root, units, hints.node_args.clone()).map_err(HostError::Read)?;
        let mut installation = decide(&facts, &hints.unit);
        if let (Ok(found), Backend::OpenRc(_)) = (&installation, &serving.backend) {
            installation = Err(unguarded(found));
        }
        if let Ok(mut found) = self.found.lock() {
            // What is not supported may be mended at any time: only what was found is kept.
            *found = installation.is_ok().then(|| Found {
                hints: hints.clone(),
                invocation: String::new(),
                installation: installation.clone(),
            });
        }
        Ok(installation)
    }

    /// Pulls what a plan orders until the next look, and waits for nothing; without an order nothing is pulled.
    pub fn pull(&self, order: Option<&PullOrder>) {
        let crictl = || {
            let found =
                self.found.lock().ok().and_then(|found| found.clone()).and_then(|found| found.installation.ok());
            match (found, &self.service) {
                (Some(installation), Some(serving)) => Crictl::find(&self.root, &serving.commands, &installation),
                (Some(_) | None, _) => Err("the k3s of this node is not known".to_owned()),
            }
        };
        if let Ok(mut puller) = self.puller.lock() {
            puller.order(order, crictl);
        }
    }

    /// Forgets the discovery when the unit runs under another invocation: it may have other flags now.
    fn remember_invocation(&self, invocation: &str) {
        let Ok(mut found) = self.found.lock() else { return };
        match found.as_mut() {
            Some(known) if known.invocation.is_empty() => known.invocation = invocation.to_owned(),
            Some(known) if known.invocation != invocation => *found = None,
            Some(_) | None => {}
        }
    }

    /// The place of the file, as far as it is known.
    pub(super) fn configuration(&self) -> Configuration {
        let found = self.found.lock().ok().and_then(|found| found.clone());
        let path = match found.map(|found| found.installation) {
            Some(Ok(installation)) => installation.registries_path,
            Some(Err(_)) | None => discovery::without_service().registries_path,
        };
        Configuration::new(self.root.clone(), &path)
    }

    /// The unit that was found last.
    pub(super) fn found_unit(&self) -> Option<String> {
        let found = self.found.lock().ok().and_then(|found| found.clone())?;
        found.installation.ok().map(|installation| installation.unit)
    }

    /// The directory that k3s reads the file from, as the host names it.
    pub fn directory(&self) -> String {
        self.configuration().directory().to_owned()
    }

    /// The file, as a person finds it from outside the root.
    pub fn shown_path(&self) -> String {
        let path = self.configuration().path();
        self.root.path().join(path.trim_start_matches('/')).display().to_string()
    }

    /// The permission bits of the file that lies there.
    pub fn shown_mode(&self) -> Option<u32> {
        self.configuration().attributes().ok().flatten().map(|attributes| attributes.mode)
    }

    /// What a TLS file that a configuration names is.
    pub fn tls_fact(&self, path: &str) -> FileFact {
        match self.root.read(path, files::LONGEST) {
            Ok(Some(bytes)) => {
                let text = String::from_utf8_lossy(&bytes);
                if text.contains("-----BEGIN CERTIFICATE-----") {
                    FileFact::Certificate
                } else if text.contains("PRIVATE KEY-----") {
                    FileFact::Key
                } else {
                    FileFact::NotPem
                }
            }
            Ok(None) => FileFact::Missing,
            Err(_) => FileFact::Unreadable,
        }
    }

    /// Looks at everything.
    ///
    /// # Errors
    ///
    /// The host cannot be asked.
    pub async fn observe(
        &self,
        depth: Depth,
        hints: &Hints,
        clock: &Clock,
    ) -> Result<Result<HostSeen, Unsupported>, HostError> {
        let installation = match self.installation(hints).await? {
            Ok(installation) => installation,
            Err(why) => return Ok(Err(why)),
        };
        // These reads, and those of the journal, block the one thread. They are bounded in size, from the node's own disk,
        // and nothing that has a deadline on this thread counts in milliseconds. `block_in_place` panics on a runtime of
        // one thread, and `spawn_blocking` would want what it reads to outlive `self`, and a thread with its own stack and
        // heap in a small memory. While the disk hangs, neither would let a pass go on: it waits for the same bytes; and
        // `/livez` that is silent then is no lie. The guard runs outside of this process.
        let disk = self.configuration().read_tree()?;
        let (previous, original) = match &self.journal {
            Some(journal) => (journal.kept(journal::Kept::Previous)?, journal.kept(journal::Kept::Original)?),
            None => (None, None),
        };
        let mut seen = HostSeen {
            installation,
            disk,
            previous,
            original,
            service: ServiceSeen::None,
            runtime: RuntimeFiles::default(),
            log: LogSigns::default(),
            guard: GuardSeen::Idle,
            evidence: None,
            pulls: self.puller.lock().map(|mut puller| puller.answers()).unwrap_or_default(),
        };
        if let Some(serving) = &self.service {
            self.observe_service(serving, depth, clock, &mut seen).await?;
        }
        Ok(Ok(seen))
    }

    async fn observe_service(
        &self,
        serving: &Serving,
        depth: Depth,
        clock: &Clock,
        seen: &mut HostSeen,
    ) -> Result<(), HostError> {
        let name = seen.installation.unit.clone();
        let mut unit = serving.backend.show(&name).await?;
        unit.version = runtime::version(&self.root, &seen.installation.data_dir);
        self.remember_invocation(&unit.invocation);
        seen.runtime = runtime::runtime_files(&self.root, &seen.installation.data_dir).map_err(HostError::Read)?;
        if is_due(depth, &unit, &seen.runtime) {
            let mut lines = serving.backend.log(&name, &unit.invocation).await?;
            lines.extend(self.containerd_log(&seen.installation, unit.main_started_wall));
            seen.log = signs(&lines);
        }
        seen.guard = match &serving.guard {
            Some(guard) => guard.seen(clock)?,
            None => GuardSeen::Impossible,
        };
        if depth == Depth::Full {
            seen.evidence = Some(health::evidence(&self.root, &serving.commands, &seen.installation).await);
        }
        seen.service = ServiceSeen::Unit(unit);
        Ok(())
    }

    /// containerd's own log, if it was written since the main process started: there alone stands why it refuses its
    /// configuration.
    fn containerd_log(&self, installation: &Installation, since: Option<jiff::Timestamp>) -> Vec<String> {
        let path = format!("{}/agent/containerd/containerd.log", installation.data_dir);
        let written = self.root.stat(&path).ok().flatten().map(|stat| stat.st_mtime);
        match (written, since) {
            (Some(written), Some(since)) if written >= since.as_second() => {
                let text = runtime::tail(&self.root, &path).unwrap_or_default();
                String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
            }
            (Some(_), Some(_) | None) | (None, _) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;
    use crate::host::clock::clock;

    #[tokio::test]
    async fn a_directory_is_observed_without_a_service() {
        let temp = tempfile::tempdir().unwrap();
        let host = Host::open(temp.path(), ServiceChoice::None).unwrap();
        let seen = host.observe(Depth::Full, &Hints::default(), &clock().unwrap()).await.unwrap().unwrap();
        assert_eq!((seen.service, seen.evidence, seen.guard), (ServiceSeen::None, None, GuardSeen::Idle));
        assert!(seen.disk.tree.is_absent() && seen.previous.is_none());
    }

    #[tokio::test]
    async fn a_k3s_that_openrc_runs_is_found_and_refused_by_name() {
        let temp = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = temp.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut file = std::fs::OpenOptions::new();
            let mut file = file.write(true).create(true).mode(0o755).open(path).unwrap();
            std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        };
        put("sbin/rc-service", "#!/bin/sh\necho ' * status: started'\n");
        put("etc/rancher/k3s/own.yaml", "private-registry: /etc/rancher/own/registries.yaml\n");
        put("etc/rancher/k3s/k3s-one.env", "K3S_CONFIG_FILE='/etc/rancher/k3s/own.yaml'\n");
        put(
            "etc/init.d/k3s-one",
            "#!/sbin/openrc-run\ncommand=\"/usr/local/bin/k3s\"\ncommand_args=\"agent \\\n    >>/var/log/k3s-one.log 2>&1\"\n\
             if [ -f /etc/rancher/k3s/k3s-one.env ]; then . /etc/rancher/k3s/k3s-one.env; fi\n",
        );
        let mut host = Host::look(temp.path(), ServiceChoice::None).unwrap();
        let commands = Commands::scripted(temp.path());
        let backend = Backend::OpenRc(OpenRc::new(commands.clone(), host.root.clone()));
        host.service = Some(Serving { backend, commands, guard: None });
        let Unsupported(why) = host.installation(&Hints::default()).await.unwrap().unwrap_err();
        assert!(why.starts_with("OpenRC runs k3s-one (agent, reads /etc/rancher/own/registries.yaml)"), "{why}");
        put("etc/init.d/k3s-two", "command=/usr/local/bin/k3s\ncommand_args=server\n");
        let Unsupported(why) = host.installation(&Hints::default()).await.unwrap().unwrap_err();
        assert!(why.starts_with("k3s-one and k3s-two run k3s"), "{why}");
        std::fs::remove_dir_all(temp.path().join("etc/init.d")).unwrap();
        let Unsupported(why) = host.installation(&Hints::default()).await.unwrap().unwrap_err();
        assert!(why.contains("no enabled or running unit"), "{why}");
    }

    #[test]
    fn a_directory_has_no_service_to_be_found() {
        let temp = tempfile::tempdir().unwrap();
        // Also where it looks like a host, as a backup or a mounted disk does.
        for place in ["sbin", "sbin/openrc-run"] {
            std::fs::create_dir_all(temp.path().join(place)).unwrap();
            for choice in [ServiceChoice::Auto, ServiceChoice::Systemd, ServiceChoice::OpenRc] {
                let error = Host::open(temp.path(), choice).unwrap_err().to_string();
                assert!(error.contains("is a directory and no host") && error.contains("--service none"), "{error}");
            }
        }
    }

    #[test]
    fn looking_makes_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let host = Host::look(temp.path(), ServiceChoice::None).unwrap();
        assert_eq!(host.record().unwrap(), JournalSeen::Missing);
        host.key().unwrap();
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    }
}

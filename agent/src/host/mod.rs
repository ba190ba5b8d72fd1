//! The host edge: everything that is read from and done to the node's own files and processes.

pub mod clock;
pub mod command;
pub mod discover;
pub mod files;
pub mod guard;
pub mod health;
pub mod journal;
pub mod root;
pub mod runtime;
pub mod service;
pub mod watch;

use agent_core::node::discovery;
use agent_core::node::logs;
use agent_core::node::observed::Clock;
use agent_core::node::observed::GuardSeen;
use agent_core::node::observed::HostSeen;
use agent_core::node::observed::Installation;
use agent_core::node::observed::LogSigns;
use agent_core::node::observed::Unsupported;

use self::command::CommandError;
use self::command::Commands;
use self::files::Configuration;
use self::files::FilesError;
use self::guard::Guard;
use self::guard::GuardError;
use self::journal::Journal;
use self::journal::JournalError;
use self::journal::Kept;
use self::root::Root;
use self::service::Backend;
use self::service::OpenRc;
use self::service::Service;
use self::service::Systemd;

/// Which service manager runs k3s (`--service`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceChoice {
    /// Whichever the host has.
    Auto,
    /// systemd.
    Systemd,
    /// OpenRC.
    OpenRc,
    /// None: files only.
    None,
}

/// How closely a node is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Files and unit; the log too where the unit is not active.
    Steady,
    /// Also the log, and the checks that the node answers by itself.
    Full,
}

/// Why the host could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The root itself.
    #[error("cannot open the root {path}")]
    OpenRoot {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Neither systemd nor OpenRC was found.
    #[error("the host runs neither systemd nor OpenRC: give --service none to write files only")]
    NoService,
    /// The installation is one that cannot be managed.
    #[error("{}", .0.0)]
    Unsupported(Unsupported),
    /// Something on the host could not be read.
    #[error("cannot read {what}")]
    Read {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A process of the host.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A configuration file.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The guard.
    #[error(transparent)]
    Guard(#[from] GuardError),
}

/// Everything of the host that is read and changed.
#[derive(Debug)]
pub struct Host {
    root: Root,
    journal: Journal,
    managed: Option<Managed>,
}

#[derive(Debug)]
struct Managed {
    commands: Commands,
    service: Backend,
    guard: Option<Guard>,
}

impl Host {
    /// Opens the root, the journal and, where there is a service manager, the guard.
    pub fn new(path: &str, choice: ServiceChoice) -> Result<Self, HostError> {
        let root = Root::open(path).map_err(|source| HostError::OpenRoot { path: path.to_owned(), source })?;
        let journal = Journal::open(&root)?;
        let choice = match choice {
            ServiceChoice::Auto if root.has("/run/systemd/system") => ServiceChoice::Systemd,
            ServiceChoice::Auto if root.has("/sbin/openrc-run") => ServiceChoice::OpenRc,
            ServiceChoice::Auto => return Err(HostError::NoService),
            given @ (ServiceChoice::Systemd | ServiceChoice::OpenRc | ServiceChoice::None) => given,
        };
        let managed = match choice {
            ServiceChoice::None => None,
            ServiceChoice::OpenRc => {
                let commands = Commands::of(&root)?;
                let service = Backend::OpenRc(OpenRc::new(commands.clone(), root.clone()));
                Some(Managed { commands, service, guard: None })
            }
            ServiceChoice::Systemd | ServiceChoice::Auto => {
                let commands = Commands::of(&root)?;
                let systemd = Systemd::new(commands.clone(), root.clone());
                let guard = Some(Guard::open(&root, systemd.clone())?);
                Some(Managed { commands, service: Backend::Systemd(systemd), guard })
            }
        };
        Ok(Self { root, journal, managed })
    }

    /// The root.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The guard, where there is systemd.
    pub fn guard(&self) -> Option<&Guard> {
        self.managed.as_ref().and_then(|managed| managed.guard.as_ref())
    }

    /// The service, unless there is none.
    pub fn service(&self) -> Option<&Backend> {
        self.managed.as_ref().map(|managed| &managed.service)
    }

    /// The place where this installation reads its registries.
    pub fn configuration(&self, installation: &Installation) -> Configuration {
        Configuration::new(self.root.clone(), &installation.registries_path)
    }

    /// Finds out what runs here. `override_unit` is the policy's `unit`; `node_args` the Node's annotation, if known.
    pub async fn discover(
        &self,
        override_unit: &str,
        node_args: Option<Vec<String>>,
    ) -> Result<Installation, HostError> {
        let systemd = match self.service() {
            None => return Ok(discovery::without_service()),
            Some(Backend::Systemd(systemd)) => systemd,
            Some(Backend::OpenRc(_)) => {
                let why = "the host runs OpenRC, for which there is no guard yet: exclude the node";
                return Err(HostError::Unsupported(Unsupported(why.to_owned())));
            }
        };
        let units = discovery::parse_show(&systemd.show_all().await?);
        let read = |source| HostError::Read { what: "the configuration of k3s", source };
        let facts = discover::facts(&self.root, units, node_args).map_err(read)?;
        discovery::decide(&facts, override_unit).map_err(HostError::Unsupported)
    }

    /// Looks at everything on the host.
    pub async fn observe(
        &self,
        installation: Installation,
        depth: Depth,
        clock: &Clock,
    ) -> Result<HostSeen, HostError> {
        use agent_core::node::observed::Service as Seen;
        let disk = self.configuration(&installation).read_tree()?;
        let read = |source| HostError::Read { what: "what k3s wrote for containerd", source };
        let runtime = runtime::runtime_files(&self.root, &installation.data_dir).map_err(read)?;
        let (mut service, mut log, mut evidence) = (Seen::None, LogSigns::default(), None);
        if let Some(Managed { commands, service: backend, guard: _ }) = &self.managed {
            let mut unit = backend.show(&installation.unit, clock).await?;
            unit.version = runtime::version(&self.root, &installation.data_dir);
            if depth == Depth::Full || !unit.is_active() {
                let mut lines = backend.log(&installation.unit, &unit.invocation).await?;
                lines.extend(self.containerd_log(&installation, unit.main_started_wall));
                log = logs::signs(&lines);
            }
            if depth == Depth::Full {
                evidence = Some(health::evidence(&self.root, commands, &installation).await);
            }
            service = Seen::Unit(unit);
        }
        let guard = self.guard().map_or(Ok(GuardSeen::Impossible), |guard| guard.seen(clock))?;
        let previous = self.journal.kept(Kept::Previous)?;
        let original = self.journal.kept(Kept::Original)?;
        Ok(HostSeen { installation, disk, previous, original, service, runtime, log, guard, evidence })
    }

    /// containerd's own log, if it was written since the main process started: there alone stands why it refuses its
    /// configuration.
    fn containerd_log(&self, installation: &Installation, since: Option<jiff::Timestamp>) -> Vec<String> {
        let path = format!("{}/agent/containerd/containerd.log", installation.data_dir);
        let written = self.root.stat(&path).ok().flatten().map(|stat| stat.st_mtime);
        match (written, since) {
            (Some(written), Some(since)) if written >= since.as_second() => {
                runtime::tail(&self.root, &path).map_or_else(Vec::new, |text| service::last_lines(&text))
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use agent_core::node::observed::Service as Seen;

    use super::*;

    #[tokio::test]
    async fn a_directory_is_observed_without_a_service() {
        let temp = tempfile::tempdir().unwrap();
        let host = Host::new(temp.path().to_str().unwrap(), ServiceChoice::None).unwrap();
        let installation = host.discover("", None).await.unwrap();
        let clock = clock::clock().unwrap();
        let seen = host.observe(installation, Depth::Full, &clock).await.unwrap();
        assert_eq!((seen.service, seen.evidence, seen.guard), (Seen::None, None, GuardSeen::Impossible));
        assert!(seen.disk.tree.is_absent() && seen.previous.is_none());
        let error = Host::new(temp.path().to_str().unwrap(), ServiceChoice::Auto).unwrap_err();
        assert!(matches!(error, HostError::NoService));
    }
}

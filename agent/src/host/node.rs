//! One node's host: opened, and looked at.

mod found;
mod observe;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use agent_core::digest::Key;
use agent_core::node::discovery::Hints;
use agent_core::node::journal::JournalSeen;
use tracing::debug;

use self::found::Found;
use super::command::{CommandError, Commands};
use super::files::FilesError;
use super::guard::{Guard, GuardError};
use super::journal::{self, Journal, JournalError, Lock};
use super::puller::Puller;
use super::root::{Reach, Root};
use super::service::{Backend, OpenRc, Systemd};

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
    pub async fn sweep(&self, lock: &Lock) -> Result<(), HostError> {
        if let Some(journal) = &self.journal {
            journal.sweep(lock)?;
        }
        // It left it beside the file, wherever that is; in the usual place where the host cannot say.
        if let Err(error) = self.installation(&Hints::default()).await {
            debug!(%error, "the place of the file is not known yet");
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
}

#[cfg(test)]
mod tests;

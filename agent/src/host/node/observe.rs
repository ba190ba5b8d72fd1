//! One look at everything of a node's host.

use agent_core::node::discovery::Hints;
use agent_core::node::logs::{is_due, signs};
use agent_core::node::observed::{
    Clock, GuardSeen, HostSeen, Installation, LogSigns, RuntimeFiles, Service as ServiceSeen, Unsupported,
};
use agent_core::node::plan::Depth;
use agent_core::registries::lint::FileFact;
use agent_core::tree::Tree;

use super::{Host, HostError, Serving};
use crate::host::service::Service;
use crate::host::{files, health, journal, runtime};

impl Host {
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

    /// What lies there.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn tree(&self) -> Result<Tree, HostError> {
        Ok(self.configuration().read_tree()?.tree)
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

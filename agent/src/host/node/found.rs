//! The k3s of one node's host, found, and what is known by that.

use agent_core::node::discovery::openrc::unguarded;
use agent_core::node::discovery::{self, Hints, decide, parse_show};
use agent_core::node::observed::{Installation, Unsupported};
use agent_core::node::pulls::PullOrder;

use super::{Host, HostError};
use crate::host::crictl::Crictl;
use crate::host::discover;
use crate::host::files::Configuration;
use crate::host::service::Backend;

#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) hints: Hints,
    pub(super) invocation: String,
    pub(super) installation: Result<Installation, Unsupported>,
    /// The unit was started since: it is looked for again by the next pass. The present one goes on with what it saw.
    pub(super) is_stale: bool,
}

impl Host {
    /// The k3s of this node.
    ///
    /// # Errors
    ///
    /// The host cannot be asked.
    pub async fn installation(&self, hints: &Hints) -> Result<Result<Installation, Unsupported>, HostError> {
        let Some(serving) = &self.service else { return Ok(Ok(discovery::without_service())) };
        let last = self
            .found
            .lock()
            .ok()
            .and_then(|found| found.clone())
            .filter(|found| found.hints == *hints && !found.is_stale);
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
                is_stale: false,
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

    /// Has the discovery made anew when the unit runs under another invocation: it may have other flags now. Not before this
    /// pass is over, whose steps are for the place that it looked at.
    pub(super) fn remember_invocation(&self, invocation: &str) {
        let Ok(mut found) = self.found.lock() else { return };
        match found.as_mut() {
            Some(known) if known.invocation.is_empty() => known.invocation = invocation.to_owned(),
            Some(known) => known.is_stale |= known.invocation != invocation,
            None => {}
        }
    }

    /// The place of the file, as far as it is known.
    pub(in crate::host) fn configuration(&self) -> Configuration {
        let found = self.found.lock().ok().and_then(|found| found.clone());
        let path = match found.map(|found| found.installation) {
            Some(Ok(installation)) => installation.registries_path,
            Some(Err(_)) | None => discovery::without_service().registries_path,
        };
        Configuration::new(self.root.clone(), &path)
    }

    /// The unit that was found last.
    pub(in crate::host) fn found_unit(&self) -> Option<String> {
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
}

//! The registries are asked beside the passes of the loop.

use agent_core::node::discovery::Hints;
use agent_core::node::heard::ProbeSeen;
use agent_core::node::plan::Plan;
use agent_core::policy::{Mode, Policy};
use agent_core::preflight::{News, Scope, Wait};
use tokio::time::Instant;
use tracing::{info, warn};

use super::Loop;
use super::looping::READ_AGAIN;
use crate::asking::Asking;
use crate::cluster::events::{EventKind, Happening};
use crate::commands::probing::Probed;
use crate::host::clock::clock;

impl Loop {
    /// Asks the registries in the background if it is time to. Gives when to look again.
    pub(super) async fn probe(&mut self, plan: &Plan, policy: &Policy, hints: &Hints) -> Instant {
        let later = Instant::now() + READ_AGAIN;
        let is_busy = plan.inquiry.is_some() || plan.pull.is_some() || self.passes.is_busy();
        if is_busy {
            self.probing.stop();
        }
        let is_wanted = !is_busy && self.passes.is_node() && policy.mode == Mode::Manage && policy.preflight.is_on();
        if !is_wanted || plan.revision.is_none() {
            return later;
        }
        let (Some(lies), Ok(now)) = (self.passes.lies(), clock()) else { return later };
        self.probing.retried(self.passes.retried());
        let refused = self.passes.probe_refused().map(|refused| refused.revision);
        match self.probing.due(&lies, refused.as_deref(), now.boot) {
            Wait::Until(due) => return Instant::now() + due.saturating_sub(now.boot),
            Wait::ForInputs => return later,
            Wait::Now => {}
        }
        let host = self.passes.host();
        let Ok(Ok(installation)) = host.installation(hints).await else { return later };
        let scope = Scope::from(&policy.preflight);
        // What lies here, which containerd sends anyway: nothing new is tried without a turn.
        let asking = Asking::of_node(&installation, host.root(), scope);
        // What is heard must be remembered of what was asked, and somebody may have written meanwhile.
        if let Some(asking) = asking.filter(|_| self.passes.lies().as_ref() == Some(&lies)) {
            self.probing.begin(lies, now.boot, asking);
        }
        later
    }

    /// Takes note of what they said of what runs here.
    pub(super) fn probed(&mut self, probed: &Probed) {
        if let Ok(now) = clock() {
            self.passes.probed(ProbeSeen::of(&probed.report, &probed.revision, now.wall));
        }
        self.heard(probed);
    }

    /// Counts what the registries said, and makes known what changed.
    pub(super) fn heard(&mut self, probed: &Probed) {
        if let Ok(now) = clock() {
            self.metrics.asked(&probed.report, now.wall);
        }
        let Some(News { is_bad, text }) = self.probing.heard(probed) else { return };
        let (kind, reason) = if is_bad {
            warn!(%text, "registries are not as they should be");
            (EventKind::Warning, "RegistryFault")
        } else {
            info!(%text, "registries are well again");
            (EventKind::Normal, "RegistryWell")
        };
        let what = Happening { kind, reason, action: "Probe", note: text };
        if let Some(event) = self.sources.cluster.as_ref().and_then(|cluster| cluster.happened(what)) {
            self.probing.beside(event);
        }
    }
}

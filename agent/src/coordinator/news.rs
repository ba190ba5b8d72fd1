//! What the watches show the coordinator: Nodes, the agents' pods, the policy.

use agent_core::fleet::Fleet;
use agent_core::policy::Policy;
use tracing::{debug, info, warn};

use super::Coordinator;
use crate::cluster::nodes::{Agents, NodeNews, PolicyView};

impl Coordinator {
    pub(super) fn take(&mut self, item: Option<(u64, NodeNews)>) {
        let Some((number, item)) = item.filter(|(number, _)| *number == self.number) else { return };
        let now = self.now();
        match item {
            NodeNews::All(all) => {
                self.store.replace(&mut self.fleet.nodes, all);
                self.reread.clear();
                self.is_dirty = true;
                if let Some(holding) = self.fleet.holding.as_ref().filter(|_| !self.is_listed) {
                    self.is_listed = true;
                    let forget = self.revoking.take().map(|revoke| revoke.forget).unwrap_or_default();
                    let epoch = holding.epoch.clone();
                    let Fleet { ledger, nodes, kept, .. } = &mut self.fleet;
                    ledger.acquired(epoch, nodes, &kept.out, &forget, now);
                    info!(nodes = self.fleet.nodes.len(), number, "nodes listed");
                }
            }
            NodeNews::Set(node) => self.is_dirty |= self.store.watched(&mut self.fleet.nodes, *node),
            NodeNews::Unset(name) => {
                self.store.unset(&mut self.fleet.nodes, &name);
                self.is_dirty = true;
            }
            NodeNews::Trouble(trouble) => debug!(%trouble, "nodes not seen"),
        }
    }

    pub(super) fn take_agents(&mut self, agents: &Agents) {
        if let Some(pods) = agents {
            self.are_agents_seen = true;
            self.store.agents(&mut self.fleet.nodes, pods);
            self.is_dirty = true;
        }
    }

    pub(super) fn take_policy(&mut self, view: &PolicyView) {
        let text = match view {
            PolicyView::Waiting(why) => return debug!(why, "policy not seen"),
            PolicyView::Seen(text) => text,
        };
        self.is_policy_seen = true;
        self.is_dirty = true;
        match text.as_deref().map_or_else(|| Ok(Policy::default()), Policy::parse) {
            Ok(policy) => {
                self.policy = policy;
                self.fleet.policy_refused = None;
            }
            Err(errors) => {
                let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                let why = errors.join("; ");
                warn!(why, "policy refused: nothing is granted");
                self.fleet.policy_refused = Some(why);
            }
        }
    }
}

//! What was decided is done: Nodes are written, and read again where nobody knows, and the server gate is asked.

use agent_core::fleet::gate::{Purpose, interruption, judge};
use agent_core::fleet::{Change, Fleet, GateAnswer, GateAsk, NodeWrite};
use futures::future::join_all;
use tracing::{debug, info, warn};

use super::{BREATH, Coordinator};
use crate::cluster::gate::ask_addresses;
use crate::cluster::nodes::{NodeNow, read_node, write_node};
use crate::cluster::trouble::Trouble;
use crate::pass::Chain;

/// Nodes that are written at once.
const HANDFUL: usize = 8;

impl Coordinator {
    /// Reads the Nodes of which the last write was refused or is uncertain.
    pub(super) async fn read_again(&mut self) {
        let names: Vec<String> = self.reread.iter().take(HANDFUL).cloned().collect();
        let cluster = &self.setup.cluster;
        let read = join_all(names.iter().map(|name| read_node(cluster, name))).await;
        for (name, found) in names.into_iter().zip(read) {
            match found {
                Ok(node) => self.is_dirty |= self.store.put(&mut self.fleet.nodes, node),
                Err(Trouble::NotFound) => {
                    self.store.unset(&mut self.fleet.nodes, &name);
                    self.is_dirty = true;
                }
                Err(trouble) => {
                    self.fault(&name, &trouble);
                    continue;
                }
            }
            self.reread.remove(&name);
        }
    }

    /// Writes handful by handful, for a breath; the others follow from the next decision. Tells whether anything was sent.
    pub(super) async fn write(&mut self, writes: Vec<NodeWrite>) -> bool {
        let began = self.now();
        if !self.fleet.holding.as_ref().is_some_and(|holding| holding.may_act(&self.fleet.waits, began)) {
            return false;
        }
        let writable = writes.into_iter().filter(|write| !self.reread.contains(&write.node));
        let writable: Vec<(NodeWrite, String)> = writable
            .filter_map(|write| self.store.version(&write.node).map(str::to_owned).map(|version| (write, version)))
            .collect();
        for handful in writable.chunks(HANDFUL) {
            let now = self.now();
            if now >= began + BREATH || self.not_before > now {
                break;
            }
            // Before they are sent: whatever comes of them, they count.
            for (write, _) in handful {
                if let Change::Set(grant) = &write.grant {
                    self.fleet.ledger.granted(&write.node, &grant.ask, now);
                }
            }
            let cluster = &self.setup.cluster;
            let written = join_all(handful.iter().map(|(write, version)| write_node(cluster, write, version))).await;
            self.is_dirty = true;
            for ((write, _), written) in handful.iter().zip(written) {
                self.written(write, written);
            }
        }
        !writable.is_empty()
    }

    fn written(&mut self, write: &NodeWrite, written: Result<NodeNow, Trouble>) {
        let grant = match &write.grant {
            Change::Set(grant) => Some(grant),
            Change::Keep | Change::Remove => None,
        };
        let name = &write.node;
        match written {
            Ok(node) => {
                self.store.wrote(&mut self.fleet.nodes, node);
                if let Some(grant) = grant {
                    let note = self.interruption.take().unwrap_or_default();
                    info!(node = name, ask = %grant.ask, note, "granted");
                    self.setup.metrics.granted();
                }
            }
            Err(trouble) if trouble.is_refusal() => {
                if let Some(grant) = grant {
                    self.fleet.ledger.not_written(name, &grant.ask);
                }
                self.reread.insert(name.clone());
                if !matches!(trouble, Trouble::Conflict | Trouble::NotFound) {
                    self.fault(name, &trouble);
                }
            }
            Err(trouble) => {
                self.setup.metrics.uncertain();
                if grant.is_some() {
                    self.setup.metrics.granted();
                }
                self.reread.insert(name.clone());
                self.fault(name, &trouble);
            }
        }
    }

    pub(super) fn fault(&mut self, node: &str, trouble: &Trouble) {
        warn!(node, %trouble, "node neither read nor written");
        self.not_before = self.now() + BREATH;
    }

    pub(super) async fn ask(&mut self, ask: &GateAsk) {
        let GateAsk { node, is_cure } = ask;
        let asked_at = self.now();
        let Fleet { ledger, waits, .. } = &self.fleet;
        let servers = self.store.servers(|name| ledger.is_newly_cordoned(name, waits, asked_at));
        let purpose = if *is_cure { Purpose::Cure } else { Purpose::Change };
        let seen = ask_addresses(&self.setup.cluster, node, servers).await;
        let refusal = match &seen {
            Ok(seen) => judge(seen, node, purpose).err(),
            Err(error) => Some(format!("{:#}", Chain(error))),
        };
        self.interruption = seen.ok().and_then(|seen| interruption(&seen, node));
        debug!(node, refusal, "server gate asked");
        self.fleet.gate = Some(GateAnswer { target: node.clone(), asked_at, refusal });
    }
}

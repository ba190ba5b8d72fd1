//! What is true of the machines, and what others can see of it: Ready, the answers of API servers, turns that nobody knows.

use agent_core::fleet::Said;
use agent_core::fleet::gate::{AddressSeen, EtcdSeen, GateSeen, Purpose, ServerSeen, judge};
use agent_core::node::observed::Role;

use super::life::Life;
use super::machine::Machine;

/// kubelet is silent for so long before its Node is NotReady.
const NOT_READY: u64 = 40;
/// After its limit and ten minutes a node that went away in its turn is waited for no longer.
const AWAY: u64 = 120 + 600;

impl Life {
    /// Ready as the node controller has it, and whether somebody may forget a turn.
    pub fn kubelet(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        let is_for = self.now - machine.up_since;
        let is_ready = (machine.up && is_for >= 2) || (!machine.up && is_for < NOT_READY);
        if self.api.seen(index).is_some_and(|seen| seen.is_ready != is_ready && (machine.up || is_for >= NOT_READY)) {
            self.api.change(index, |seen| seen.is_ready = is_ready);
        }
        let is_away = self.api.seen(index).is_none_or(|seen| seen.is_excluded || seen.phase == Said::Nothing);
        let machine = &mut self.machines[index];
        if !machine.is_disturbed() {
            machine.is_forgotten = false;
        }
        machine.away_since = is_away.then(|| machine.away_since.unwrap_or(self.now));
        machine.is_forgotten |=
            machine.is_disturbed() && machine.away_since.is_some_and(|since| self.now >= since + AWAY);
    }

    /// A limit that is known: the Lease alone knows of a turn whose Node is gone, or says nothing. If it was deleted too, and
    /// made again without its list, nobody does but the process that granted.
    pub fn forget(&mut self, process: u64) {
        let Some(lease) = &self.api.lease else { return };
        for (index, machine) in self.machines.iter_mut().enumerate() {
            let says_nothing = self.api.nodes[index].as_ref().is_none_or(|node| node.seen.phase == Said::Nothing);
            let is_listed = lease.kept.out.contains_key(&self.api.names[index]);
            let is_another = machine.granted_under != lease.record.uid;
            machine.is_forgotten |=
                machine.is_disturbed() && says_nothing && machine.granted_by != process && is_another && !is_listed;
        }
    }

    /// What the other API servers would answer.
    pub fn gate(&self, target: usize, is_cure: bool) -> Result<(), String> {
        gate(&self.machines, target, is_cure)
    }
}

/// What the server gate says of the machines as they are.
pub fn gate(machines: &[Machine], target: usize, is_cure: bool) -> Result<(), String> {
    let servers = || machines.iter().enumerate().filter(|(_, machine)| machine.role == Role::Server);
    let address = |index: usize| format!("10.0.0.{index}");
    let seen = GateSeen {
        servers: servers()
            .map(|(index, machine)| ServerSeen {
                name: index.to_string(),
                addresses: [address(index)].into(),
                is_control_plane: true,
                is_ready: machine.up,
                is_counted: true,
                etcd: Some(EtcdSeen::Voter),
            })
            .collect(),
        answers: servers()
            .map(|(index, machine)| AddressSeen {
                address: address(index),
                answer: if machine.up { Ok(()) } else { Err("does not answer".to_owned()) },
            })
            .collect(),
    };
    judge(&seen, &target.to_string(), if is_cure { Purpose::Cure } else { Purpose::Change })
}

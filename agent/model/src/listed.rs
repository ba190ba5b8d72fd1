//! The list of who is out, on the Lease: written before a grant, read by the next leader.

use super::coordinator::{cached, caught_up};
use super::protocol::{Change, Landing, Model};
use super::state::{Coordinator, Entry, Lease, Phase, State};

impl Model {
    /// A grant to this node rests on a Lease that lists it.
    pub fn must_list(&self, state: &State, one: &Coordinator, node: usize) -> bool {
        let lists_first = self.change != Change::NoOut && self.change != Change::OutAfterGrant;
        lists_first && state.is_list_of_use() && one.listed & (1 << node) == 0
    }

    /// The mutation that lists a node when it was granted.
    pub fn is_late_to_list(&self, state: &State, one: &Coordinator, node: usize) -> bool {
        self.change == Change::OutAfterGrant
            && state.is_list_of_use()
            && one.ledger[node].is_open()
            && one.listed & (1 << node) == 0
    }

    /// It goes on with what it has listed, if nothing comes between.
    pub fn lists_another(&self, state: &State, one: &Coordinator, epoch: u8) -> bool {
        (0..state.nodes().len())
            .any(|node| one.listed & (1 << node) != 0 && !self.grants(state, one, node, epoch).is_empty())
    }

    /// A node is written on the list, and whose turn is over goes with the same write.
    pub fn enlist(&self, state: &mut State, index: usize, (node, mask): (usize, u8), landing: Landing) {
        let seen = *state;
        let one = &mut state.coordinators[index];
        let (Some(epoch), Some(lease)) = (one.holds, seen.lease) else { return };
        *one = caught_up(&seen, one, node);
        self.looks(&seen, one, mask, epoch);
        let open = (0..seen.nodes().len()).filter(|other| one.ledger[*other].is_open());
        let out = open.fold(1 << node, |bits, other| bits | 1 << other);
        let written = Lease { out, ..lease };
        one.listed = match landing {
            Landing::Heard => out,
            // What a read shows after a write whose answer did not come.
            Landing::Unheard if self.change == Change::OutUnsettled => out,
            Landing::Late if self.change == Change::OutUnsettled => lease.out,
            // Who does not know whether it was written needs another write before any grant.
            Landing::Unheard | Landing::Late => 0,
        };
        match landing {
            Landing::Heard | Landing::Unheard => self.write_lease(state, Some(written)),
            Landing::Late => one.late_lease = Some(written),
        }
        if landing != Landing::Heard {
            state.left.losses -= 1;
        }
    }

    /// What a new leader makes of a node that the Lease lists.
    pub fn inherit(&self, state: &State, one: &mut Coordinator, node: usize) {
        let counts = match cached(state, one, node) {
            None => true,
            Some(seen) => seen.phase == Phase::None && self.change != Change::BareIsFree,
        };
        if counts && one.listed & (1 << node) != 0 && one.ledger[node] == Entry::None {
            one.ledger[node] = Entry::Out(0);
        }
    }
}

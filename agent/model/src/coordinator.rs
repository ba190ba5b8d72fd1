//! The coordinator's side: it takes the Lease, lists, watches, grants, revokes, and learns that it lost the Lease.

use super::protocol::{Change, Landing, Model};
use super::state::{COORDINATORS, Coordinator, Entry, Grant, Lease, NODES, Object, Phase, State};

/// What a coordinator does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    Take(Landing),
    /// Nobody answered its grant for a minute: it takes the Lease from itself.
    TakeToRevoke,
    /// The mutation: it just forgets the grant.
    Forget(u8),
    /// The mutation without compare-and-swap.
    RenewBlindly,
    List,
    Waited(u8),
    /// Writes on the Lease that a node is out, after its cache moved on as for the grant.
    Enlist(u8, u8, Landing),
    /// To a node, after its cache moved on for it and for the nodes of the mask.
    Grant(u8, u8, Landing),
    Clear(u8),
    Learn,
    Restart,
    LateLands,
    LateLost,
    LateLeaseLands,
    LateLeaseLost,
}

impl Model {
    /// Each with whether it needs no trouble to happen.
    pub fn coordinator_acts(&self, state: &State, index: usize, mut may: impl FnMut(Act, bool)) {
        let one = &state.coordinators[index];
        if one.late.is_some() {
            may(Act::LateLands, true);
            may(Act::LateLost, true);
        }
        if one.late_lease.is_some() {
            may(Act::LateLeaseLands, true);
            may(Act::LateLeaseLost, true);
        }
        if !one.up {
            // One is enough: the other may stay away for good.
            if index < self.coordinators {
                may(Act::Restart, state.coordinators.iter().all(|other| !other.up));
            }
            return;
        }
        if let Some(lease) = state.lease {
            self.lease_acts(state, index, lease, &mut may);
        }
        let Some(epoch) = one.holds else {
            if self.change == Change::ListFirst && one.behind.is_none() {
                may(Act::List, true);
            }
            return;
        };
        let is_stale = state.lease.is_none_or(|lease| lease.epoch != epoch || lease.holder != Some(index as u8));
        if is_stale {
            may(Act::Learn, true);
        }
        if one.behind.is_none() {
            may(Act::List, true);
            return;
        }
        for node in 0..state.nodes().len() {
            let number = node as u8;
            let now = state.nodes()[node].now();
            let waits = now.is_some_and(|now| now.phase == Phase::None) && one.waited & (1 << node) == 0;
            if waits && !state.nodes()[node].agent.up {
                // A living agent writes its annotations again within that time; that is all that is known of it.
                may(Act::Waited(number), false);
            }
            if self.is_late_to_list(state, one, node) && !is_stale {
                may(Act::Enlist(number, 0, Landing::Heard), true);
            }
            for mask in self.grants(state, one, node, epoch) {
                if self.must_list(state, one, node) {
                    if !is_stale {
                        may(Act::Enlist(number, mask, Landing::Heard), !self.lists_another(state, one, epoch));
                        may(Act::Enlist(number, mask, Landing::Unheard), false);
                        may(Act::Enlist(number, mask, Landing::Late), false);
                    }
                    continue;
                }
                may(Act::Grant(number, mask, Landing::Heard), !is_stale);
                if !is_stale {
                    may(Act::Grant(number, mask, Landing::Late), false);
                }
            }
            let caught_up = caught_up(state, one, node);
            if now.is_some_and(|now| is_to_clear(caught_up.ledger[node], now)) && !is_stale {
                may(Act::Clear(number), true);
            }
        }
    }

    fn lease_acts(&self, state: &State, index: usize, lease: Lease, may: &mut impl FnMut(Act, bool)) {
        let one = &state.coordinators[index];
        let by_another = lease.holder.is_some_and(|holder| usize::from(holder) != index);
        let expired = match self.change {
            // The first one's clock is an hour ahead of the other's.
            Change::ClockExpiry if by_another => index == 0,
            _ => !state.is_renewed(),
        };
        let ready = self.change != Change::ListFirst || one.behind.is_some();
        if ready {
            may(Act::Take(Landing::Heard), expired);
            if expired {
                may(Act::Take(Landing::Unheard), false);
                may(Act::Take(Landing::Late), false);
            }
        }
        if one.holds.is_none() {
            return;
        }
        if self.change == Change::NoCas && one.holds.is_some_and(|epoch| epoch != lease.epoch) {
            may(Act::RenewBlindly, false);
        }
        if one.behind.is_none() {
            return;
        }
        for node in 0..state.nodes().len() {
            let Entry::Granted(number) = caught_up(state, one, node).ledger[node] else { continue };
            let now = state.nodes()[node].now();
            let answers = now.is_some_and(|now| {
                now.answered == number
                    || now
                        .open_grant()
                        .is_some_and(|grant| grant.ask.number == number && Some(grant.epoch) == one.holds)
            });
            // Nobody is going to answer it; before that it takes an agent that is slow.
            let nobody = now.is_some() && !answers && one.late.is_none();
            if self.change == Change::RevokeWithoutEpoch {
                may(Act::Forget(node as u8), nobody);
            } else if nobody && state.is_renewed() && one.holds == Some(lease.epoch) {
                may(Act::TakeToRevoke, true);
            }
        }
    }

    /// The ways to grant: which other nodes the cache has to move on for. It never moves further than a decision needs,
    /// because whatever could be done from further on can be done from there by moving on later; so no event is needed
    /// for the cache alone.
    pub(super) fn grants(&self, state: &State, one: &Coordinator, node: usize, epoch: u8) -> Vec<u8> {
        let nodes = state.nodes().len();
        // A write on an older version is refused, and changes nothing.
        let one = caught_up(state, one, node);
        let Some(seen) = cached(state, &one, node) else { return Vec::new() };
        let Some(ask) = seen.wanted.filter(|_| seen.phase == Phase::Pending) else { return Vec::new() };
        let known = one.ledger[node].number() == ask.number && self.change != Change::NoLedger;
        if known || seen.answered == ask.number || seen.absent == ask.number || self.is_busy(state, &one, node, epoch) {
            return Vec::new();
        }
        let masks = (0..1_u8 << nodes).filter(|mask| {
            let mut one = one;
            self.looks(state, &mut one, *mask, epoch) && {
                let halted =
                    (0..nodes).any(|other| cached(state, &one, other).is_some_and(|it| it.failed == ask.revision));
                let others = || (0..nodes).filter(|&other| self.is_busy(state, &one, other, epoch));
                let server = node < self.servers && others().any(|other| other < self.servers);
                !halted && !server && others().count() < self.allowed
            }
        });
        masks.collect()
    }

    /// Moves the cache on for each of these nodes until it is no longer busy; not, if that is in vain or needless.
    pub(super) fn looks(&self, state: &State, one: &mut Coordinator, mask: u8, epoch: u8) -> bool {
        (0..state.nodes().len()).filter(|node| mask & (1 << node) != 0).all(|node| {
            let needed = self.is_busy(state, one, node, epoch);
            while self.is_busy(state, one, node, epoch) {
                if !watch(state, one, node) {
                    return false;
                }
            }
            needed
        })
    }

    fn is_busy(&self, state: &State, one: &Coordinator, node: usize, epoch: u8) -> bool {
        let open = one.ledger[node].is_open() && self.change != Change::NoLedger;
        open || cached(state, one, node).is_some_and(|seen| match seen.phase {
            Phase::Applying => true,
            Phase::None => one.waited & (1 << node) == 0,
            Phase::Pending | Phase::Current | Phase::RolledBack => {
                seen.open_grant().is_some_and(|grant| grant.epoch == epoch)
            }
        })
    }

    pub fn coordinator_does(&self, state: &mut State, index: usize, act: Act) {
        let seen = *state;
        let one = &mut state.coordinators[index];
        match act {
            Act::Restart => one.up = true,
            Act::Take(landing) => {
                if seen.is_renewed() && landing == Landing::Heard && self.change != Change::ClockExpiry {
                    state.left.stalls -= 1;
                }
                self.take(state, index, landing);
            }
            Act::TakeToRevoke => self.take(state, index, Landing::Heard),
            Act::Forget(node) => {
                let node = usize::from(node);
                *one = caught_up(&seen, one, node);
                one.ledger[node] = Entry::Over(one.ledger[node].number());
                state.left.stalls = state.left.stalls.saturating_sub(1);
            }
            Act::RenewBlindly => {
                if let Some(epoch) = one.holds {
                    state.lease = Some(Lease { holder: Some(index as u8), epoch, out: one.listed });
                }
            }
            Act::List => {
                one.behind = Some([0; NODES]);
                one.waited = 0;
                for node in 0..seen.nodes().len() {
                    note(&seen, one, node, true);
                    self.inherit(&seen, one, node);
                }
            }
            Act::Waited(node) => {
                *one = caught_up(&seen, one, usize::from(node));
                one.waited |= 1 << node;
            }
            Act::Enlist(node, mask, landing) => self.enlist(state, index, (usize::from(node), mask), landing),
            Act::Grant(number, mask, landing) => {
                let node = usize::from(number);
                let (Some(epoch), Some(now)) = (one.holds, seen.nodes()[node].now()) else { return };
                let Some(ask) = now.wanted else { return };
                *one = caught_up(&seen, one, node);
                self.looks(&seen, one, mask, epoch);
                one.ledger[node] = Entry::Granted(ask.number);
                if seen.lease.is_none_or(|lease| lease.epoch != epoch) {
                    state.left.stale -= 1;
                }
                let object = Object { grant: Some(Grant { ask, epoch }), absent: 0, ..now };
                match landing {
                    Landing::Heard | Landing::Unheard => state.write_node(node, Some(object)),
                    Landing::Late => {
                        one.late = Some((number, object));
                        state.left.losses -= 1;
                    }
                }
            }
            Act::Clear(node) => {
                let node = usize::from(node);
                let Some(now) = seen.nodes()[node].now() else { return };
                *one = caught_up(&seen, one, node);
                let absent = one.ledger[node].number();
                state.write_node(node, Some(Object { grant: None, absent, ..now }));
            }
            Act::Learn => one.forget(),
            Act::LateLands => {
                if let Some((node, object)) = one.late.take() {
                    state.write_node(usize::from(node), Some(object));
                }
            }
            Act::LateLost => one.late = None,
            Act::LateLeaseLands => {
                if let Some(lease) = one.late_lease.take() {
                    self.write_lease(state, Some(lease));
                }
            }
            Act::LateLeaseLost => one.late_lease = None,
        }
        state.trim();
    }

    fn take(&self, state: &mut State, index: usize, landing: Landing) {
        let Some(before) = state.lease else { return };
        let same = self.change == Change::SameEpoch && before.holder == Some(index as u8);
        let epoch = if same {
            before.epoch
        } else {
            state.epochs += 1;
            state.epochs
        };
        let lease = Lease { holder: Some(index as u8), epoch, out: before.out };
        let one = &mut state.coordinators[index];
        match landing {
            Landing::Heard => {
                one.holds = Some(epoch);
                one.listed = before.out;
                if self.change != Change::ListFirst {
                    one.behind = None;
                }
            }
            Landing::Unheard | Landing::Late => {
                one.forget();
                state.left.losses -= 1;
            }
        }
        match landing {
            Landing::Heard | Landing::Unheard => self.write_lease(state, Some(lease)),
            Landing::Late => one.late_lease = Some(lease),
        }
    }

    pub fn write_lease(&self, state: &mut State, lease: Option<Lease>) {
        state.lease = lease;
        if self.change != Change::NoCas {
            for index in 0..COORDINATORS {
                state.coordinators[index].late_lease = None;
            }
        }
    }
}

pub(super) fn cached(state: &State, one: &Coordinator, node: usize) -> Option<Object> {
    state.nodes()[node].log.behind(one.behind.as_ref()?[node])
}

/// The cache moves on by one version of a node, if there is one.
fn watch(state: &State, one: &mut Coordinator, node: usize) -> bool {
    match &mut one.behind {
        Some(behind) if behind[node] > 0 => {
            behind[node] -= 1;
            note(state, one, node, false);
            true
        }
        Some(_) | None => false,
    }
}

pub(super) fn caught_up(state: &State, one: &Coordinator, node: usize) -> Coordinator {
    let mut one = *one;
    while watch(state, &mut one, node) {}
    one
}

/// The ledger takes note of what the cache now shows of a node; forward only.
fn note(state: &State, one: &mut Coordinator, node: usize, listed: bool) {
    let seen = cached(state, one, node);
    let entry = &mut one.ledger[node];
    let Some(seen) = seen.filter(|seen| seen.phase != Phase::None) else {
        // A LIST that does not show it proves nothing of it: it may have shown Applying before.
        if let (Entry::Granted(number), true) = (*entry, listed) {
            *entry = Entry::Out(number);
        }
        return;
    };
    one.waited &= !(1 << node);
    *entry = match *entry {
        _ if seen.phase == Phase::Applying => Entry::Out(seen.answered),
        Entry::Granted(number) if listed || seen.answered == number => Entry::Over(number),
        // From the list of the Lease, which the model keeps without numbers.
        Entry::Out(0) => Entry::None,
        Entry::Out(number) => Entry::Over(number),
        before => before,
    };
}

/// A revoked grant is taken away, and the node told that its N is dead.
fn is_to_clear(entry: Entry, seen: Object) -> bool {
    let Entry::Over(number) = entry else { return false };
    let asks = seen.wanted.is_some_and(|ask| ask.number == number);
    asks && seen.phase == Phase::Pending && seen.answered != number && seen.absent != number
}

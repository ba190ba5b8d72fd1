//! States that differ in nothing that can still matter are made equal: numbers and epochs are compared for equality only,
//! so they are counted anew from those that somebody still remembers.

use super::state::{Agent, Entry, Node, Object, State, Step};

impl State {
    /// The one of its equals that is explored.
    pub fn canonical(mut self) -> Self {
        self.forget_list();
        self.forget_epochs();
        for node in 0..self.count {
            self.forget_numbers(node);
        }
        self
    }

    fn forget_list(&mut self) {
        if self.is_list_of_use() {
            return;
        }
        let Self { lease, coordinators, .. } = self;
        let late = coordinators.iter_mut().map(|one| {
            one.listed = 0;
            &mut one.late_lease
        });
        for lease in late.chain([lease]).flatten() {
            lease.out = 0;
        }
    }

    fn forget_epochs(&mut self) {
        let Self { lease, all, coordinators, epochs, .. } = self;
        let mut known: Vec<&mut u8> = Vec::new();
        known.extend(lease.iter_mut().map(|lease| &mut lease.epoch));
        for coordinator in coordinators {
            known.extend(&mut coordinator.holds);
            known.extend(coordinator.late_lease.iter_mut().map(|lease| &mut lease.epoch));
            known.extend(coordinator.late.iter_mut().flat_map(|(_, object)| &mut object.grant).map(|it| &mut it.epoch));
        }
        for Node { log, agent } in all {
            let objects = log.versions_mut().iter_mut().flatten().chain(&mut agent.late);
            known.extend(objects.flat_map(|object| &mut object.grant).map(|grant| &mut grant.epoch));
            match &mut agent.step {
                Step::Idle => {}
                Step::Used(grant) | Step::Unsure(grant) | Step::Shown(grant) | Step::Verified(grant) => {
                    known.push(&mut grant.epoch);
                }
            }
        }
        *epochs = renumber(known);
    }

    fn forget_numbers(&mut self, node: usize) {
        let Self { all, coordinators, .. } = self;
        let Node { log, agent } = &mut all[node];
        let Agent { step, used, last_used, intent, drawn, begun, late, .. } = agent;
        let was = (*used, *begun);
        let mut known: Vec<&mut u8> = vec![last_used];
        known.extend(intent.iter_mut().map(|ask| &mut ask.number));
        match step {
            Step::Idle => {}
            Step::Used(grant) | Step::Unsure(grant) | Step::Shown(grant) | Step::Verified(grant) => {
                known.push(&mut grant.ask.number);
            }
        }
        let mut objects: Vec<&mut Object> = log.versions_mut().iter_mut().flatten().chain(late).collect();
        for coordinator in coordinators {
            let late = coordinator.late.iter_mut().filter(|(of, _)| usize::from(*of) == node);
            objects.extend(late.map(|(_, object)| object));
            match &mut coordinator.ledger[node] {
                Entry::None => {}
                Entry::Granted(number) | Entry::Out(number) | Entry::Over(number) => known.push(number),
            }
        }
        for object in objects {
            known.extend([&mut object.answered, &mut object.absent]);
            known.extend(object.wanted.iter_mut().map(|ask| &mut ask.number));
            known.extend(object.grant.iter_mut().map(|grant| &mut grant.ask.number));
        }
        let before: Vec<u8> = known.iter().map(|number| **number).collect();
        let bits = |bits: u8, known: &[&mut u8]| {
            let kept = before.iter().zip(known).filter(|(before, _)| bits & (1 << **before) != 0);
            kept.fold(0, |bits, (_, after)| bits | 1 << **after)
        };
        *drawn = renumber_in(&mut known);
        (*used, *begun) = (bits(was.0, &known), bits(was.1, &known));
    }
}

fn renumber(mut known: Vec<&mut u8>) -> u8 {
    renumber_in(&mut known)
}

/// Counts these anew, keeping their order; 0 stays what it is. Gives the last.
fn renumber_in(known: &mut [&mut u8]) -> u8 {
    let mut order: Vec<u8> = known.iter().map(|number| **number).filter(|number| *number != 0).collect();
    order.sort_unstable();
    order.dedup();
    for number in known {
        if **number != 0 {
            **number = 1 + order.iter().position(|other| *other == **number).map_or(0, |at| at as u8);
        }
    }
    order.len() as u8
}

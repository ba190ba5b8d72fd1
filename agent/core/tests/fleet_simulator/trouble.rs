//! Everything that may happen to a fleet, and how it ends.

use agent_core::fleet::Said;
use agent_core::node::observed::Role;
use jiff::SignedDuration;

use super::coordinator::Coordinator;
use super::dice::Dice;
use super::life::Life;
use super::machine::Body;

/// A policy that may lie there; one in so many is none that can be used.
pub fn policy(dice: &mut Dice, nodes: usize, is_rough: bool) -> String {
    // Thousands one by one would take days.
    let most = if nodes < 100 { dice.of(&["1", "1", "2", "3", "25%"]) } else { "10%" };
    let order = dice.of(&["canary", "servers-first"]);
    let mut text = format!("maxUnavailable: {most}\norder: {order}\n");
    if is_rough {
        match dice.below(12) {
            0 => text.push_str("pause: true\n"),
            1 => text.push_str("pause: perhaps\n"),
            2 => text.push_str("windows: [{start: \"12:05\", end: \"12:20\", zone: UTC}]\n"),
            3 => text.push_str("windows: [{start: \"13:00\", end: \"12:10\", zone: Europe/Berlin}]\n"),
            4 => text.push_str("mode: report\n"),
            _ => {}
        }
    }
    text
}

impl Life {
    pub fn happens(&mut self) {
        let index = self.dice.below(self.machines.len() as u64) as usize;
        let which = self.dice.below(2) as usize;
        let until = self.now + 1 + self.dice.below(300);
        let kind = self.dice.below(25);
        self.tell(format!("[event {kind} {} coordinator {which} until {until}]", self.api.names[index]));
        let now = self.now;
        match kind {
            0..=2 => self.machines[index].dies(now, until),
            3 => self.machines[index].cut_until = until,
            4 => self.machines[index].loses_power(now, until),
            5 | 6 => self.restarts_coordinator(which, until),
            7 => self.coordinators[which].cut_until = until,
            8 => self.coordinators[which].blind_until = until,
            9..=11 => {
                let is_bad = self.dice.one_in(3);
                self.edits(is_bad);
            }
            12 if self.dice.one_in(3) => self.api.ship_lease(),
            12 => self.api.lease = None,
            13 | 14 => {
                let text = policy(&mut self.dice, self.machines.len(), true);
                self.set_policy(text);
            }
            15..=18 => self.operates(index, kind),
            19 => self.deletes(index),
            20 => self.api.registers_again(index, self.machines[index].role),
            21 => {
                let token = format!("token-{}", self.api.draw());
                self.promises.is_retried = true;
                if let Some(lease) = self.api.lease.as_mut().filter(|_| which == 0) {
                    lease.retry = Some(token);
                } else {
                    self.api.change(index, |seen| seen.retry = Some(token));
                }
            }
            22 if self.machines.len() < 24 => self.joins_somebody(),
            22 => {}
            _ => self.skews(index),
        }
        self.machines[index].due = self.machines[index].due.min(now + 1);
    }

    /// What a person does to one Node.
    fn operates(&mut self, index: usize, kind: u64) {
        match kind {
            15 => drop(self.api.change(index, |seen| seen.is_cordoned = !seen.is_cordoned)),
            16 => drop(self.api.change(index, |seen| seen.is_paused = !seen.is_paused)),
            17 if self.api.seen(index).is_some_and(|seen| seen.is_excluded) => self.includes(index),
            17 => {
                self.api.change(index, |seen| seen.is_excluded = true);
                self.machines[index].is_leaving = true;
            }
            // Somebody evicts the pod; the DaemonSet brings it back or not.
            _ => {
                let has_agent = self.api.seen(index).is_some_and(|seen| seen.has_agent || seen.is_excluded);
                self.api.change(index, |seen| seen.has_agent = !has_agent && !seen.is_excluded);
                self.machines[index].dies(self.now, self.now);
            }
        }
    }

    fn includes(&mut self, index: usize) {
        self.machines[index].is_leaving = false;
        self.machines[index].dies(self.now, self.now + 2);
        self.api.change(index, |seen| (seen.is_excluded, seen.has_agent) = (false, true));
    }

    fn deletes(&mut self, index: usize) {
        if self.api.nodes[index].is_some() {
            self.api.set(index, None);
        }
    }

    fn restarts_coordinator(&mut self, which: usize, until: u64) {
        let process = self.api.draw();
        self.api.news[which] = None;
        self.coordinators[which] = Coordinator::new(which, process, until, &mut self.dice);
    }

    /// Troubles come together: a coordinator dies with its write under way, and somebody else goes ahead under the next. Only
    /// then does a grant of a dead epoch find another node in its turn.
    pub fn comes_at_once(&mut self, which: usize) {
        self.tell(format!("[coordinator {which} dies with a write under way]"));
        self.restarts_coordinator(which, self.now + 100);
        if self.machines.len() < 24 {
            let is_real = matches!(self.machines[0].body, Body::Real(_));
            self.joins(Role::Agent, is_real, true);
        }
    }

    /// Another server loses its power between the coordinator's gate and the agent's.
    pub fn fails_beside(&mut self, index: usize) {
        let other = |(at, machine): &(usize, &super::machine::Machine)| *at != index && machine.role == Role::Server;
        let Some((other, _)) = self.machines.iter().enumerate().find(other) else { return };
        let until = self.now + 60 + self.dice.below(60);
        self.tell(format!("[{} loses its power until {until}]", self.api.names[other]));
        let now = self.now;
        self.machines[other].loses_power(now, until);
    }

    /// In the middle of a turn its Node is deleted, and perhaps made again, its agent dies, and so does whoever granted: the
    /// Lease alone knows.
    pub fn loses(&mut self, index: usize) {
        self.tell(format!("[{} is lost in its turn, and who granted it dies]", self.api.names[index]));
        let until = self.now + self.dice.below(600);
        self.machines[index].dies(self.now, until);
        self.deletes(index);
        if self.dice.one_in(2) {
            self.api.registers_again(index, self.machines[index].role);
        }
        let by = self.machines[index].granted_by;
        if let Some(which) = self.coordinators.iter().position(|one| one.process == by) {
            self.restarts_coordinator(which, self.now + 30);
        }
    }

    fn joins_somebody(&mut self) {
        let is_real = matches!(self.machines[0].body, Body::Real(_));
        let is_new = self.dice.one_in(2);
        self.joins(Role::Agent, is_real, is_new);
    }

    /// What only an agent that decides for itself can meet.
    fn skews(&mut self, index: usize) {
        let by = self.dice.below(20_000).cast_signed() - 10_000;
        let takes = [2, 2, 5, 90, 400][self.dice.below(5) as usize];
        let is_sick = self.dice.one_in(3);
        if let Body::Real(agent) = &mut self.machines[index].body {
            agent.world.wall_set += SignedDuration::from_secs(by);
            agent.world.wall_was_set = true;
            agent.world.start_takes = std::time::Duration::from_secs(takes);
            agent.world.containerd_sick = is_sick;
        }
    }

    /// Nothing new happens, and what is broken is mended.
    pub fn calms_down(&mut self) {
        self.tell("the trouble is over".into());
        self.trouble = 0;
        if self.api.lease.is_none() {
            self.api.ship_lease();
        }
        let text = policy(&mut self.dice, self.machines.len(), false);
        self.set_policy(text);
        for index in 0..self.machines.len() {
            self.api.registers_again(index, self.machines[index].role);
            self.includes(index);
            self.api.change(index, |seen| (seen.is_paused, seen.is_cordoned) = (false, false));
            let (now, machine) = (self.now, &mut self.machines[index]);
            machine.off_until = machine.off_until.min(now);
            machine.cut_until = machine.cut_until.min(now);
            machine.down_until = machine.down_until.min(now + 3);
            machine.due = now + 3;
            if let Body::Real(agent) = &mut machine.body {
                agent.world.containerd_sick = false;
                agent.world.start_takes = std::time::Duration::from_secs(2);
            }
        }
        for coordinator in &mut self.coordinators {
            coordinator.down_until = coordinator.down_until.min(self.now);
        }
        // Whatever failed, or is halted for a reason that is gone, is not tried again: a corrected one is.
        self.edits(false);
    }
}

impl super::api::Api {
    /// kubelet registers a Node that was deleted.
    pub fn registers_again(&mut self, index: usize, role: Role) {
        if self.nodes[index].is_none() {
            self.registers(index, role);
            self.change(index, |seen| seen.phase = Said::Nothing);
        }
    }
}

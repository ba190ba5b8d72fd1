//! The agent's side of the world: what it sees, one pass of it, and what its steps do.

use std::time::Duration;

use agent_core::node::annotations::Phase;
use agent_core::node::evidence::{Answer, Check, Evidence};
use agent_core::node::journal::JournalSeen;
use agent_core::node::logs::is_due;
use agent_core::node::observed::{Disk, GuardSeen, HostSeen, LogSigns, Role, Service, UnitSeen, Writer};
use agent_core::node::plan::{Depth, Kept, Observed, Plan, Step, Wake, plan};
use agent_core::node::pulls::PullOrder;

use super::{Unit, World};

impl World {
    pub fn observe(&mut self) -> Observed {
        self.dice += 1;
        // The log of one invocation keeps its lines, also after the file was mended.
        let mut log = LogSigns { waits_for_server: !self.is_up() && self.supervisor_away, ..self.log.clone() };
        log.hosts_toml_dropped = self.drops && self.look == Depth::Full;
        let state = match self.unit {
            Unit::Up => ("active", "running"),
            Unit::Starting(_) if self.pre_fails || (self.flaps && self.dice.is_multiple_of(2)) => {
                ("activating", "auto-restart")
            }
            Unit::Starting(_) if self.exec_type => ("active", "running"),
            Unit::Starting(_) => ("activating", "start"),
            Unit::Stopped => ("inactive", "dead"),
            Unit::GivenUp => ("failed", "failed"),
        };
        let fails = self.pre_fails && matches!(self.unit, Unit::Starting(_));
        let unit = UnitSeen {
            active_state: state.0.into(),
            sub_state: state.1.into(),
            invocation: format!("invocation-{}", self.invocation),
            restarts: if fails { (self.now - self.started).as_secs() as u32 / 5 } else { self.crashes },
            start_pre_failed: fails,
            main_started: self.has_process().then_some(self.started),
            main_started_wall: self.has_process().then_some(self.started_wall),
            job_pending: false,
            version: self.version.clone(),
        };
        let writer = Writer { modified: self.modified, uid: 0, mode: self.mode };
        let log = if is_due(self.look, &unit, &self.runtime) { log } else { LogSigns::default() };
        let host = HostSeen {
            installation: self.installation(),
            disk: Disk { tree: self.disk.clone(), oddity: None, writer: Some(writer) },
            previous: self.previous.clone(),
            original: self.original.clone(),
            service: if self.service { Service::Unit(unit) } else { Service::None },
            runtime: self.runtime.clone(),
            log,
            guard: match (self.armed, self.fired) {
                (Some(acts_at), _) => GuardSeen::Armed { acts_at },
                (None, true) => GuardSeen::Fired,
                (None, false) => GuardSeen::Idle,
            },
            evidence: (self.look == Depth::Full && self.service).then(|| self.evidence()),
            pulls: self.pulls.clone(),
        };
        Observed {
            clock: self.clock(),
            desired: self.desired.clone(),
            host: Ok(host),
            journal: self.record.clone().map_or(JournalSeen::Missing, |record| JournalSeen::Found(Box::new(record))),
            key: self.key(),
            node: self.node.clone(),
            source: self.source,
            held: self.held.clone(),
            heard: self.cluster.heard.clone(),
            api: self.api(),
            ending: self.ending,
            dice: format!("{:08x}", self.dice),
        }
    }

    /// One image is answered until the next look; one that cannot be pulled fails at once.
    fn pull(&mut self, order: Option<&PullOrder>) {
        let Some(order) = order else { return self.pulls.clear() };
        assert_eq!(self.look, Depth::Full, "a pull in a steady pass");
        self.pulls.retain(|image, _| order.images.contains(image));
        let works =
            |image: &String| self.pullable.contains(image) && !(self.restarts > 1 && self.breaks.contains(image));
        let next = order.images.iter().find(|image| !self.pulls.contains_key(*image)).cloned();
        let again =
            order.images.iter().find(|image| order.again.is_some() && self.pulls.get(*image) != Some(&Answer::Passed));
        if let Some(image) = next.or_else(|| again.cloned()).filter(|_| self.pulls_end) {
            self.pulled.push(image.clone());
            let answer = if works(&image) { Answer::Passed } else { Answer::Failed("the registry refuses it".into()) };
            self.pulls.insert(image, answer);
        }
    }

    fn evidence(&self) -> Evidence {
        let answer = |holds: bool| if holds { Answer::Passed } else { Answer::Failed("does not answer".into()) };
        let server = self.role == Role::Server;
        let mut evidence = Evidence::from([
            (Check::Containerd, answer(self.is_up())),
            (Check::Kubelet, answer(self.is_up())),
            (
                Check::Supervisor,
                if server { Answer::NotApplicable } else { answer(self.has_process() && !self.supervisor_away) },
            ),
            (Check::Api, if server { answer(self.is_up() && !self.cluster.away) } else { Answer::NotApplicable }),
            (Check::Etcd, if server { answer(self.is_up()) } else { Answer::NotApplicable }),
        ]);
        evidence.extend(self.etcd_leader.clone().map(|leader| (Check::EtcdLeader, leader)));
        evidence
    }

    /// One pass. With `Some(n)` the process dies after n steps of it.
    pub fn pass(&mut self, dies_after: Option<usize>) -> Plan {
        self.inquire();
        let seen = self.observe();
        let plan = plan(&seen, &self.policy);
        self.cluster.inquiry = plan.inquiry;
        self.failed = false;
        self.look = plan.look;
        self.pull(plan.pull.as_ref());
        if let Some(Step::Restart(turn)) = plan.steps.iter().find(|step| matches!(step, Step::Restart(_))) {
            self.held = Some(turn.clone());
        }
        for (done, step) in plan.steps.iter().enumerate() {
            if dies_after == Some(done) {
                self.die();
                return plan;
            }
            self.story.push(step.name().into());
            self.permits(step);
            if self.fails(step) {
                self.story.push("fails".into());
                if let Step::Replace(tree) = step {
                    // The directories of TLS files go first; the disk was full at the file itself.
                    self.disk.tls.extend(tree.tls.clone());
                }
                self.failed = true;
                return plan;
            }
            self.begins(step);
            if !self.execute(step) {
                return plan;
            }
        }
        if dies_after == Some(plan.steps.len()) && !plan.steps.is_empty() {
            self.die();
        }
        if self.record.as_ref().is_none_or(|record| record.intent.is_none()) {
            self.held = None;
        }
        if dies_after != Some(plan.steps.len()) {
            self.tell(&plan);
        }
        plan
    }

    fn fails(&mut self, step: &Step) -> bool {
        let left = match step {
            Step::Restart(_) if self.failing == 0 => &mut self.failing_restarts,
            Step::Replace(_) if self.failing == 0 => &mut self.failing_replaces,
            _ => &mut self.failing,
        };
        let fails = *left > 0;
        *left = left.saturating_sub(1);
        fails
    }

    fn execute(&mut self, step: &Step) -> bool {
        match step {
            Step::Keep(Kept::Previous, tree) => self.previous = Some(tree.clone()),
            Step::Keep(Kept::Original, tree) => self.original = Some(tree.clone()),
            Step::Record(record) => {
                // It must survive its own file format.
                let text = serde_json::to_string(record).unwrap();
                self.record = Some(serde_json::from_str(&text).unwrap());
            }
            Step::ArmGuard { acts_at } => {
                assert!(self.previous.is_some(), "a guard with nothing to put back");
                self.armed = Some(*acts_at);
                self.fired = false;
            }
            Step::PushGuard { acts_at } => {
                if self.armed.is_some() {
                    self.armed = Some(*acts_at);
                }
            }
            Step::ClaimGuard => {
                if self.armed.take().is_none() {
                    return false;
                }
            }
            Step::ClearGuard => {
                self.armed = None;
                self.fired = false;
            }
            Step::Replace(tree) => self.write(tree.clone()),
            Step::Restart(_) => {
                self.restarts += 1;
                self.start();
            }
        }
        true
    }

    /// Passes until nothing is left to do or to wait for, or `limit` is over. Gives the last plan.
    pub fn settle(&mut self, limit: Duration) -> Plan {
        let until = self.now + limit;
        let mut quiet = 0;
        loop {
            let plan = self.pass(None);
            match plan.wake {
                Wake::Now => quiet += 1,
                Wake::After(time) => {
                    quiet = 0;
                    let open = self.record.as_ref().is_some_and(|record| record.intent.is_some());
                    let rests = plan.steps.is_empty() && !open && plan.phase != Phase::Pending;
                    if rests || self.now >= until {
                        return plan;
                    }
                    let longest = Duration::from_secs(if open { 1 } else { 10 });
                    self.pass_time(time.clamp(Duration::from_millis(500), longest));
                }
            }
            assert!(quiet < 50, "a loop without time: {:?}: {}", plan.phase, self.told());
        }
    }
}

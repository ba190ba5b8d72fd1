//! The cluster around the node: its annotations, a coordinator that follows a script, and what the agent asks of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agent_core::grant::{Ask, Grant};
use agent_core::node::annotations::{PREFIX, Phase, Told, sentence};
use agent_core::node::evidence::Answer;
use agent_core::node::heard::{Heard, Inquiry, LeaseSeen, PreflightSeen, ProbeSeen, Read, Shown};
use agent_core::node::observed::{ApiSeen, Renewed, Role};
use agent_core::node::others::{OtherServer, OthersSeen};
use agent_core::node::plan::{Desired, Plan, Step};
use agent_core::node::turn::{Reach, TurnSource};

use super::World;

/// What the API server and the coordinator know, and what this process of the agent heard of it.
#[derive(Default)]
pub struct Cluster {
    /// Nobody answers.
    pub away: bool,
    /// The Node is not what the plan was made on: nothing is written there.
    pub overtaken: bool,
    /// The coordinator's Lease.
    pub lease: LeaseSeen,
    /// The Lease cannot be read, although the rest can.
    pub lease_fails: Option<String>,
    /// The next uncached read of the inputs finds this.
    pub fresh: Option<Desired>,
    /// The registries refuse what is wanted.
    pub refused: Option<String>,
    /// Something else that the policy enforces is not as it should be.
    pub blocked: Option<String>,
    /// The other servers, which answer at the gate.
    pub servers: Vec<OtherServer>,
    /// What those of them who are not well do instead, by name.
    pub unwell: BTreeMap<String, Answer>,
    /// How often they were asked whether they are.
    pub others_asked: u32,
    /// How often the registries were asked.
    pub preflights: u32,
    /// Asks that the coordinator ever granted: never again.
    pub ledger: BTreeSet<String>,
    /// Patches of the Node by the agent.
    pub patches: u32,
    /// All requests of the agent that are no watch, and of the gate no readyz.
    pub requests: u32,
    /// Asks for which something was begun.
    pub begun: BTreeSet<String>,
    pub(super) heard: Heard,
    pub(super) inquiry: Option<Inquiry>,
    pub(super) renewed: Option<Renewed>,
    /// The phase that was to be told last, and since when.
    pub(super) phase: Option<(Phase, Duration)>,
    /// When a reason was written last.
    pub(super) reason_at: Option<Duration>,
    epochs: u32,
}

impl World {
    /// One pass that is told what the registries said of a revision.
    pub fn hears(&mut self, probe: ProbeSeen) {
        self.cluster.heard.probe = Some(probe);
        self.pass(None);
        self.cluster.heard.probe = None;
    }

    /// Puts the node into a cluster with a coordinator that holds its Lease.
    pub fn joins(&mut self) {
        self.source = TurnSource::Coordinator;
        self.takes_lease();
    }

    /// A coordinator takes the Lease: there is a new epoch.
    pub fn takes_lease(&mut self) {
        self.cluster.epochs += 1;
        let epoch = format!("{:016x}", self.cluster.epochs);
        self.cluster.lease = LeaseSeen { holder: "coordinator".into(), epoch: Some(epoch) };
    }

    pub fn says(&self, name: &str) -> Option<&str> {
        self.node.ours(name)
    }

    pub fn annotate(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => drop(self.node.annotations.insert(format!("{PREFIX}{name}"), value.to_owned())),
            None => drop(self.node.annotations.remove(&format!("{PREFIX}{name}"))),
        }
    }

    fn ask_standing(&self) -> Option<Ask> {
        self.says("wanted").and_then(|text| text.parse().ok())
    }

    /// Grants the ask that stands, once.
    pub fn grants(&mut self) -> bool {
        let Some(ask) = self.ask_standing().filter(|ask| !self.cluster.ledger.contains(&ask.number)) else {
            return false;
        };
        if self.says("answered") == Some(&ask.number) {
            return false;
        }
        self.cluster.ledger.insert(ask.number.clone());
        let epoch = self.cluster.lease.epoch.clone().unwrap().parse().unwrap();
        let grant = Grant { ask, epoch }.to_string();
        self.story.push(format!("[grant {grant}]"));
        self.annotate("turn", None);
        self.annotate("grant", Some(&grant));
        true
    }

    /// Takes a grant back that nobody answered: by a new epoch, and by nothing else.
    pub fn revokes(&mut self) {
        self.story.push("[revoke]".into());
        self.takes_lease();
        self.annotate("grant", None);
        self.annotate("turn", Some("absent"));
    }

    /// One look of the coordinator: what ended is tidied up, what is asked for is granted.
    pub fn coordinates(&mut self) {
        if self.cluster.away || self.source == TurnSource::Local {
            return;
        }
        let granted = self.says("grant").and_then(|text| text.parse::<Grant>().ok());
        let is_busy = self.says("phase").is_some_and(|phase| ["Applying", "Proving"].contains(&phase));
        if let Some(granted) = granted
            && self.says("answered") == Some(&granted.ask.number)
            && !is_busy
        {
            self.annotate("grant", None);
        }
        if self.says("grant").is_none() {
            self.grants();
        }
    }

    pub(super) fn api(&mut self) -> ApiSeen {
        if self.source == TurnSource::Local {
            return ApiSeen::default();
        }
        if self.is_up() && !self.cluster.away {
            self.cluster.renewed = Some(Renewed { seen: self.now, stamp: self.clock().wall });
        }
        ApiSeen { renewed: self.cluster.renewed, is_ready: Some(true) }
    }

    /// Asks what the last plan wanted to know.
    pub fn inquire(&mut self) {
        let inquiry = self.cluster.inquiry.take();
        let at = self.now;
        // As the edges ask: two lists of inputs; the Lease; servers by two labels and their addresses.
        self.cluster.requests += match inquiry {
            None | Some(Inquiry::Preflight | Inquiry::Others) => 0,
            Some(Inquiry::Inputs) => 2,
            Some(Inquiry::Turn { .. }) if self.role == Role::Server => 4,
            Some(Inquiry::Turn { .. }) => 1,
            Some(Inquiry::Gate) => 3,
        };
        let away = || "the API server does not answer in time".to_owned();
        let Cluster {
            heard,
            lease,
            lease_fails,
            fresh,
            refused,
            blocked,
            preflights,
            away: is_away,
            servers,
            unwell,
            others_asked,
            ..
        } = &mut self.cluster;
        let read = |heard: &mut Heard| {
            let answer = match (*is_away, &lease_fails) {
                (true, _) => Err(away()),
                (false, Some(why)) => Err(why.clone()),
                (false, None) => Ok(lease.clone()),
            };
            heard.lease = Some(Read { at, answer });
        };
        let gate = |gate: &Option<String>| match (*is_away, gate) {
            (true, _) => Err(away()),
            (false, Some(why)) => Err(why.clone()),
            (false, None) => Ok(servers.clone()),
        };
        match inquiry {
            None => {}
            Some(Inquiry::Inputs) if *is_away => heard.inputs = Some(Read { at, answer: Err(away()) }),
            Some(Inquiry::Inputs) => {
                if let Some(fresh) = fresh.take() {
                    self.desired = fresh;
                }
                heard.inputs = Some(Read { at, answer: Ok(()) });
            }
            Some(Inquiry::Preflight) => {
                *preflights += 1;
                if let Desired::Ready(wanted) = &self.desired {
                    let (refused, blocked) = (refused.clone(), blocked.clone());
                    let revision = wanted.revision.clone();
                    heard.preflight =
                        Some(PreflightSeen { at, revision, hosts: 1, refused, blocked, warnings: Vec::new() });
                }
            }
            Some(Inquiry::Turn { .. }) => {
                read(heard);
                heard.gate = Some(Read { at, answer: gate(&self.gate) });
            }
            Some(Inquiry::Others) => {
                *others_asked += 1;
                let intent = self.record.as_ref().and_then(|record| record.intent.as_ref());
                let others = intent.map(|intent| intent.others.clone()).unwrap_or_default();
                let answer = |other: OtherServer| {
                    let answer = unwell.get(&other.name).cloned().unwrap_or(Answer::Passed);
                    (other, answer)
                };
                heard.others = Some(OthersSeen { at, answers: others.into_iter().map(answer).collect() });
            }
            Some(Inquiry::Gate) => heard.gate = Some(Read { at, answer: gate(&self.gate) }),
        }
        if self.source == TurnSource::Local {
            self.cluster.heard.gate = self.gate.clone().map(|why| Read { at, answer: Err(why) });
        }
    }

    /// Says on the Node what came of a pass.
    pub(super) fn tell(&mut self, plan: &Plan) {
        if self.source == TurnSource::Local || self.cluster.away || self.cluster.overtaken {
            return;
        }
        let told = Told {
            phase: plan.phase,
            reason: sentence(&plan.reason),
            since: self.clock().wall,
            revision: plan.revision.clone(),
            failed: plan.failed.clone(),
            wanted: plan.wanted.clone(),
            answered: plan.answered.clone(),
        };
        let phase = self.cluster.phase.filter(|(phase, _)| *phase == told.phase).unwrap_or((told.phase, self.now));
        self.cluster.phase = Some(phase);
        let since_reason = self.cluster.reason_at.map_or(Duration::MAX, |at| self.now.saturating_sub(at));
        let told = told.paced(&self.node, self.now.saturating_sub(phase.1), since_reason);
        let annotations = told.annotations();
        if annotations.iter().any(|(name, value)| self.node.annotations.get(name) != value.as_ref()) {
            self.cluster.patches += 1;
            self.cluster.requests += 1 + u32::from(told.is_event(&self.node));
        }
        if self.says("reason") != Some(&told.reason) {
            self.cluster.reason_at = Some(self.now);
        }
        for (name, value) in annotations {
            match value {
                Some(value) => drop(self.node.annotations.insert(name, value)),
                None => drop(self.node.annotations.remove(&name)),
            }
        }
        let shown = &mut self.cluster.heard.shown;
        if !shown.as_ref().is_some_and(|shown| shown.phase == told.phase && shown.answered == told.answered) {
            *shown = Some(Shown { phase: told.phase, answered: told.answered, at: self.now });
        }
    }

    /// What must be true of the cluster the moment before a step is done.
    pub(super) fn permits(&mut self, step: &Step) {
        let Step::Restart(turn) = step else { return };
        if self.source == TurnSource::Local || turn.reach() != Reach::Goal {
            return;
        }
        let intent =
            self.record.as_ref().and_then(|record| record.intent.as_ref()).expect("an intent before a restart");
        let record = self.record.as_ref().unwrap();
        let story = self.story.join(" ");
        assert!(record.asks_used.contains(&intent.ask), "used before it is acted upon: {story}");
        let grant = self.node.ours("answered");
        assert_eq!(grant, Some(intent.ask.as_str()), "answered before the restart: {story}");
        let phase = self.node.ours("phase");
        assert!(phase.is_some_and(|phase| ["Applying", "Proving"].contains(&phase)), "{phase:?}: {story}");
        assert!(!turn.is_over(self.now), "in time: {story}");
        let lease = self.cluster.heard.lease.as_ref().expect("a Lease that was read");
        assert!(self.now - lease.at <= Duration::from_secs(30), "read lately: {story}");
        assert!(lease.answer.as_ref().is_ok_and(|lease| !lease.holder.is_empty()), "held by somebody: {story}");
        if self.role == Role::Server {
            let gate = self.cluster.heard.gate.as_ref().expect("a gate that was asked");
            assert!(gate.answer.is_ok() && self.now - gate.at <= Duration::from_secs(5), "{gate:?}: {story}");
        }
    }

    /// An ask is begun with once.
    pub(super) fn begins(&mut self, step: &Step) {
        let Step::Record(next) = step else { return };
        let before = self.record.as_ref().and_then(|record| record.intent.as_ref()).map(|intent| &intent.began);
        if let Some(intent) = &next.intent
            && before != Some(&intent.began)
            && !intent.ask.is_empty()
        {
            let story = self.story.join(" ");
            assert!(self.cluster.begun.insert(intent.ask.clone()), "ask {} is honoured again: {story}", intent.ask);
        }
    }

    /// Passes with a coordinator at work until the node is at rest.
    pub fn settle_in_cluster(&mut self, limit: Duration) -> Plan {
        let until = self.now + limit;
        loop {
            self.coordinates();
            let plan = self.pass(None);
            let open = self.record.as_ref().is_some_and(|record| record.intent.is_some());
            let rests = !open && plan.steps.is_empty() && !matches!(plan.phase, Phase::Pending | Phase::Applying);
            if rests || self.now >= until {
                return plan;
            }
            self.pass_time(Duration::from_millis(500));
        }
    }
}

//! What the agent counts, as a registry that is a value. Labels come from closed enums only: no host, no object's name.

pub mod fleet;
mod shared;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use agent_core::node::annotations::Phase;
use agent_core::node::journal::Rung;
use agent_core::node::plan::{Counted, Judged, TurnEnd};
use agent_core::preflight::{Kind, Report};
use agent_core::registries::finding::Severity;
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use self::shared::{Builder, Exchange, One, Seconds, Shown, seconds};
use crate::tally::{Outcome, Tally, Verb, Watch};

/// What the server sends `/metrics` as.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One metric, for the documentation and its test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// As Prometheus shows it, with `_total` of a counter.
    pub name: String,
    /// `counter`, `gauge`, `histogram`.
    pub kind: &'static str,
    /// What it counts.
    pub help: &'static str,
}

/// How a fault of a pass is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Tried again by itself.
    Retry,
    /// A person has to act.
    Operator,
    /// The process ends.
    Fatal,
}

impl FaultKind {
    /// All.
    pub const ALL: [Self; 3] = [Self::Retry, Self::Operator, Self::Fatal];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Operator => "operator",
            Self::Fatal => "fatal",
        }
    }
}

/// Everything that is counted. Shared by `Arc`.
#[derive(Debug)]
pub struct Metrics {
    shown: Shown,
    phase: Family<One, Gauge>,
    last_pass: Seconds,
    last_change: Seconds,
    passes: Counter,
    failures: Family<One, Counter>,
    restarts: Counter,
    restart_seconds: Histogram,
    rollbacks: Counter,
    heals: Counter,
    drift_restores: Counter,
    turns: Family<One, Counter>,
    verdicts: Family<One, Counter>,
    rungs: Family<One, Counter>,
    guard_fired: Counter,
    registries: Family<One, Gauge>,
    asked_at: Seconds,
    certificate_end: Seconds,
    findings: Family<One, Gauge>,
    exchange: Exchange,
    events_lost: Counter,
}

/// Lists name, type and help of every metric.
pub fn describe() -> Vec<Description> {
    Metrics::new(Arc::default()).shown.descriptions
}

impl Metrics {
    /// Makes the registry. `dropped` is the logger's own count of lines.
    pub fn new(dropped: Arc<AtomicU64>) -> Self {
        let mut b = Builder::new();
        // From 1 s on an agent to the limit of a verdict.
        let restart_seconds = Histogram::new([1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0]);
        let metrics = Self {
            phase: b.add("pass_phase", "Phase of this node: 1 for the one it is in", Family::default()),
            last_pass: b.add("pass_last_timestamp_seconds", "When the last pass ended", Seconds::default()),
            last_change: b.add(
                "pass_last_change_timestamp_seconds",
                "When a pass last changed something on the host",
                Seconds::default(),
            ),
            passes: b.add("pass_passes", "Passes that ended, failed ones included", Counter::default()),
            failures: b.add("pass_failures", "Passes that failed, by how the fault is met", Family::default()),
            restarts: b.add("execute_restarts", "Restarts of k3s that the agent asked for", Counter::default()),
            restart_seconds: b.add(
                "execute_restart_seconds",
                "Time from asking for a restart to its proof or the end of waiting for it",
                restart_seconds,
            ),
            rollbacks: b.add("execute_rollbacks", "Turns that ended with the earlier files", Counter::default()),
            heals: b.add("execute_heals", "Files put back on a node that was already down", Counter::default()),
            drift_restores: b.add("execute_drift_restores", "Foreign edits undone", Counter::default()),
            turns: b.add("execute_turns", "Turns that were given, by what became of them", Family::default()),
            verdicts: b.add("execute_verdicts", "What was begun, by how it was judged", Family::default()),
            rungs: b.add("execute_undo_rungs", "Rungs of the undo that were tried", Family::default()),
            guard_fired: b.add(
                "execute_guard_fired",
                "Times that the guard put the earlier file back while the agent was away",
                Counter::default(),
            ),
            registries: b.add(
                "probe_registries",
                "Registries by what they said when they were asked last",
                Family::default(),
            ),
            asked_at: b.add("probe_last_timestamp_seconds", "When the registries were asked last", Seconds::default()),
            certificate_end: b.add(
                "certificate_first_end_timestamp_seconds",
                "When the first certificate of the desired file ends",
                Seconds::default(),
            ),
            findings: b.add("lint_findings", "Findings in the desired file, by severity", Family::default()),
            exchange: Exchange::add(&mut b, &Watch::AGENT),
            events_lost: b.add("cluster_events_lost", "Events that could not be written", Counter::default()),
            shown: b.shown(dropped),
        };
        // Zeros from the start: a rate over a series that does not exist yet misses its first step.
        for phase in Phase::ALL {
            drop(metrics.phase.get_or_create(&[("phase", phase.as_str())]));
        }
        for kind in FaultKind::ALL {
            drop(metrics.failures.get_or_create(&[("kind", kind.as_str())]));
        }
        for end in TurnEnd::ALL {
            drop(metrics.turns.get_or_create(&[("outcome", end.as_str())]));
        }
        for judged in Judged::ALL {
            drop(metrics.verdicts.get_or_create(&[("verdict", judged.as_str())]));
        }
        for rung in [Rung::Previous, Rung::Original, Rung::Nothing, Rung::Stuck] {
            drop(metrics.rungs.get_or_create(&[("rung", rung_word(rung))]));
        }
        metrics.certificates(None);
        for severity in [Severity::Warning, Severity::Error] {
            drop(metrics.findings.get_or_create(&[("severity", word(severity))]));
        }
        metrics
    }

    /// The text of `/metrics`.
    pub fn encode(&self) -> String {
        self.shown.encode()
    }

    /// A pass ended in this phase.
    pub fn pass(&self, phase: Phase, at: Timestamp) {
        self.passes.inc();
        self.last_pass.set(seconds(at));
        for each in Phase::ALL {
            self.phase.get_or_create(&[("phase", each.as_str())]).set(i64::from(each == phase));
        }
    }

    /// A pass changed something on the host.
    pub fn change(&self, at: Timestamp) {
        self.last_change.set(seconds(at));
    }

    /// A pass failed. Count the pass, too.
    pub fn failure(&self, kind: FaultKind) {
        self.failures.get_or_create(&[("kind", kind.as_str())]).inc();
    }

    /// A restart was asked for.
    pub fn restart(&self) {
        self.restarts.inc();
    }

    /// What a plan brought about.
    pub fn counted(&self, what: Counted) {
        match what {
            Counted::Turn(end) => drop(self.turns.get_or_create(&[("outcome", end.as_str())]).inc()),
            Counted::Verdict(judged) => drop(self.verdicts.get_or_create(&[("verdict", judged.as_str())]).inc()),
            Counted::Rung(rung) => drop(self.rungs.get_or_create(&[("rung", rung_word(rung))]).inc()),
            Counted::GuardFired => drop(self.guard_fired.inc()),
            Counted::Proven(took) => {
                if let Some(took) = took {
                    self.restart_seconds.observe(took.as_secs_f64());
                }
            }
            Counted::RolledBack => drop(self.rollbacks.inc()),
            Counted::Healed => drop(self.heals.inc()),
            Counted::DriftRestored => drop(self.drift_restores.inc()),
        }
    }

    /// The registries were asked, for a turn or just so.
    pub fn asked(&self, report: &Report, at: Timestamp) {
        self.asked_at.set(seconds(at));
        // What is not counted any more goes on with a zero.
        for kind in Kind::ALL {
            let count = report.hosts.iter().filter(|host| host.verdict.kind == *kind).count();
            let label = [("verdict", kind.as_str())];
            if count > 0 || self.registries.get(&label).is_some() {
                self.registries.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
    }

    /// What an earlier process heard when it asked last: so many registries refused their credential.
    pub fn refused_before(&self, registries: usize, at: Timestamp) {
        self.asked_at.set(seconds(at));
        let label = [("verdict", Kind::CredentialRefused.as_str())];
        self.registries.get_or_create(&label).set(i64::try_from(registries).unwrap_or(i64::MAX));
    }

    /// When the first certificate of the desired file ends.
    pub fn certificates(&self, first: Option<Timestamp>) {
        self.certificate_end.set(first.map_or(f64::INFINITY, seconds));
    }

    /// The desired file has so many findings now.
    pub fn findings(&self, severity: Severity, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.findings.get_or_create(&[("severity", word(severity))]).set(count);
    }
}

impl Tally for Metrics {
    fn request(&self, verb: Verb, outcome: Outcome) {
        self.exchange.request(verb, outcome);
    }

    fn reconnect(&self, watch: Watch) {
        self.exchange.reconnect(watch);
    }

    fn event_lost(&self) {
        self.events_lost.inc();
    }
}

const fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

const fn rung_word(rung: Rung) -> &'static str {
    match rung {
        Rung::Goal => "goal",
        Rung::Previous => "previous",
        Rung::Original => "original",
        Rung::Nothing => "nothing",
        Rung::Stuck => "stuck",
    }
}

#[cfg(test)]
mod tests;

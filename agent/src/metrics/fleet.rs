//! What the coordinator counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use agent_core::node::annotations::Phase;
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::Description;
use super::shared::{Builder, Exchange, One, Seconds, Shown, seconds};
use crate::tally::{Outcome, Tally, Verb, Watch};

/// Everything that the coordinator counts. Shared by `Arc`.
#[derive(Debug)]
pub struct FleetMetrics {
    shown: Shown,
    nodes: Family<One, Gauge>,
    held: Gauge,
    acquisitions: Counter,
    revocations: Counter,
    grants: Counter,
    uncertain: Counter,
    halted: Gauge,
    decision_seconds: Histogram,
    last_decision: Seconds,
    exchange: Exchange,
}

/// Lists name, type and help of every metric.
pub fn describe() -> Vec<Description> {
    FleetMetrics::new(Arc::default()).shown.descriptions
}

/// The label of a node whose agent says nothing.
const SILENT: &str = "none";

impl FleetMetrics {
    /// Makes the registry. `dropped` is the logger's own count of lines.
    pub fn new(dropped: Arc<AtomicU64>) -> Self {
        let mut b = Builder::new();
        let decision_seconds = Histogram::new([0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1]);
        let metrics = Self {
            nodes: b.add("coordinator_nodes", "Nodes by phase, while the Lease is held", Family::default()),
            held: b.add("coordinator_lease_held", "1 while the Lease is held", Gauge::default()),
            acquisitions: b.add("coordinator_acquisitions", "Epochs taken", Counter::default()),
            revocations: b.add("coordinator_revocations", "Epochs taken to make grants void", Counter::default()),
            grants: b.add("coordinator_grants", "Grants written, uncertain ones included", Counter::default()),
            uncertain: b.add(
                "coordinator_uncertain_writes",
                "Writes of which it is not known whether they were carried out",
                Counter::default(),
            ),
            halted: b.add("coordinator_halted_revisions", "Revisions that are halted", Gauge::default()),
            decision_seconds: b.add(
                "coordinator_decision_seconds",
                "Time that a decision on all nodes took",
                decision_seconds,
            ),
            last_decision: b.add(
                "coordinator_last_decision_timestamp_seconds",
                "When the last decision was made",
                Seconds::default(),
            ),
            exchange: Exchange::add(&mut b, &Watch::COORDINATOR),
            shown: b.shown(dropped),
        };
        for phase in Phase::ALL.map(Phase::as_str).into_iter().chain([SILENT]) {
            drop(metrics.nodes.get_or_create(&[("phase", phase)]));
        }
        metrics
    }

    /// The text of `/metrics`.
    pub fn encode(&self) -> String {
        self.shown.encode()
    }

    /// The Lease was taken; `is_revocation` if only to make grants void.
    pub fn acquired(&self, is_revocation: bool) {
        self.held.set(1);
        self.acquisitions.inc();
        if is_revocation {
            self.revocations.inc();
        }
    }

    /// The Lease is not held any more; of the nodes nothing is known.
    pub fn lost(&self) {
        self.held.set(0);
        self.phases(std::iter::empty());
    }

    /// A decision was made.
    pub fn decided(&self, took: Duration, at: Timestamp) {
        self.decision_seconds.observe(took.as_secs_f64());
        self.last_decision.set(seconds(at));
    }

    /// The phase of each node.
    pub fn phases(&self, phases: impl Iterator<Item = Option<Phase>>) {
        let mut counts: BTreeMap<Option<Phase>, i64> = BTreeMap::new();
        for phase in phases {
            *counts.entry(phase).or_default() += 1;
        }
        for phase in Phase::ALL.map(Some).into_iter().chain([None]) {
            let count = counts.get(&phase).copied().unwrap_or_default();
            self.nodes.get_or_create(&[("phase", phase.map_or(SILENT, Phase::as_str))]).set(count);
        }
    }

    /// So many revisions are halted now.
    pub fn halted(&self, count: usize) {
        self.halted.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A grant was written, or may have been.
    pub fn granted(&self) {
        self.grants.inc();
    }

    /// It is not known whether a write was carried out.
    pub fn uncertain(&self) {
        self.uncertain.inc();
    }
}

impl Tally for FleetMetrics {
    fn request(&self, verb: Verb, outcome: Outcome) {
        self.exchange.request(verb, outcome);
    }

    fn reconnect(&self, watch: Watch) {
        self.exchange.reconnect(watch);
    }

    fn event_lost(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::shared::PREFIX;

    #[test]
    fn nodes_are_counted_by_phase_and_none_when_the_lease_is_lost() {
        let metrics = FleetMetrics::new(Arc::default());
        metrics.acquired(true);
        metrics.phases([Some(Phase::Current), None, Some(Phase::Current)].into_iter());
        metrics.decided(Duration::from_millis(2), "1970-01-01T00:00:05Z".parse().unwrap());
        metrics.granted();
        metrics.uncertain();
        metrics.halted(2);
        let text = metrics.encode();
        for line in [
            "coordinator_nodes{phase=\"Current\"} 2",
            "coordinator_nodes{phase=\"none\"} 1",
            "coordinator_nodes{phase=\"Stuck\"} 0",
            "coordinator_lease_held 1",
            "coordinator_acquisitions_total 1",
            "coordinator_revocations_total 1",
            "coordinator_grants_total 1",
            "coordinator_uncertain_writes_total 1",
            "coordinator_halted_revisions 2",
            "coordinator_decision_seconds_bucket{le=\"0.003\"} 1",
            "coordinator_last_decision_timestamp_seconds 5.0",
            "cluster_watch_reconnects_total{watch=\"nodes\"} 0",
        ] {
            assert!(text.lines().any(|shown| shown == format!("{PREFIX}_{line}")), "{line} is not in\n{text}");
        }
        metrics.lost();
        let text = metrics.encode();
        assert!(text.contains("lease_held 0") && text.contains("coordinator_nodes{phase=\"Current\"} 0"), "{text}");
    }
}

//! What agent and coordinator count alike, and how both are shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

use super::Description;
use crate::tally::{Outcome, Verb, Watch};

/// Begins every name.
pub(super) const PREFIX: &str = "k3s_registry_agent";

pub(super) type One = [(&'static str, &'static str); 1];
pub(super) type Two = [(&'static str, &'static str); 2];
pub(super) type Seconds = Gauge<f64, AtomicU64>;

/// A registry in the making.
pub(super) struct Builder {
    registry: Registry,
    descriptions: Vec<Description>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self { registry: Registry::with_prefix(PREFIX), descriptions: Vec::new() }
    }

    pub(super) fn add<M: Metric + Clone>(&mut self, name: &str, help: &'static str, metric: M) -> M {
        let kind = match EncodeMetric::metric_type(&metric) {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
            MetricType::Info => "info",
            MetricType::Unknown => "unknown",
        };
        let total = if kind == "counter" { "_total" } else { "" };
        self.descriptions.push(Description { name: format!("{PREFIX}_{name}{total}"), kind, help });
        self.registry.register(name, help, metric.clone());
        metric
    }

    /// Ends it. `dropped` is the logger's own count of lines.
    pub(super) fn shown(mut self, dropped: Arc<AtomicU64>) -> Shown {
        let lines_dropped =
            self.add("logging_lines_dropped", "Log lines dropped because nobody read them", Counter::default());
        let Self { registry, descriptions } = self;
        Shown { registry, descriptions, lines_dropped, dropped }
    }
}

/// A registry that is made.
#[derive(Debug)]
pub(super) struct Shown {
    registry: Registry,
    pub(super) descriptions: Vec<Description>,
    lines_dropped: Counter,
    dropped: Arc<AtomicU64>,
}

impl Shown {
    pub(super) fn encode(&self) -> String {
        self.lines_dropped.inner().store(self.dropped.load(Ordering::Relaxed), Ordering::Relaxed);
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("writing to a String cannot fail");
        out
    }
}

/// What is exchanged with the API server.
#[derive(Debug)]
pub(super) struct Exchange {
    reconnects: Family<One, Counter>,
    requests: Family<Two, Counter>,
}

impl Exchange {
    pub(super) fn add(b: &mut Builder, watches: &[Watch]) -> Self {
        let reconnects = b.add("cluster_watch_reconnects", "Watches that broke, by watch", Family::default());
        let requests = b.add("cluster_requests", "Requests to the API server, by verb and outcome", Family::default());
        let exchange = Self { reconnects, requests };
        for watch in watches {
            drop(exchange.reconnects.get_or_create(&[("watch", watch.as_str())]));
        }
        exchange
    }

    pub(super) fn request(&self, verb: Verb, outcome: Outcome) {
        self.requests.get_or_create(&[("verb", verb.as_str()), ("outcome", outcome.as_str())]).inc();
    }

    pub(super) fn reconnect(&self, watch: Watch) {
        self.reconnects.get_or_create(&[("watch", watch.as_str())]).inc();
    }
}

pub(super) fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

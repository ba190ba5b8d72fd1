//! What `/metrics` shows, and that it is documented.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::shared::PREFIX;
use super::*;

#[test]
fn every_metric_is_documented_with_its_type_and_nothing_else_is() {
    let page = include_str!("../../../docs/metrics.md");
    let rows: Vec<(&str, &str)> = page
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
            Some((cells.next()?.trim_end_matches('`').split('{').next()?, cells.next()?))
        })
        .collect();
    let mut known = describe();
    // What both count is documented once.
    known.extend(fleet::describe().into_iter().filter(|metric| !describe().contains(metric)));
    let wanted: Vec<(&str, &str)> = known.iter().map(|metric| (metric.name.as_str(), metric.kind)).collect();
    assert_eq!(rows, wanted);
}

#[test]
fn exactly_one_phase_holds() {
    let metrics = Metrics::new(Arc::default());
    metrics.pass(Phase::Applying, Timestamp::UNIX_EPOCH);
    metrics.pass(Phase::Current, "1970-01-01T00:01:40Z".parse().unwrap());
    let text = metrics.encode();
    let phases: Vec<&str> = text.lines().filter(|line| line.starts_with("k3s_registry_agent_pass_phase{")).collect();
    assert_eq!(phases.len(), Phase::ALL.len());
    assert_eq!(
        phases.iter().filter(|line| line.ends_with(" 1")).collect::<Vec<_>>(),
        [&"k3s_registry_agent_pass_phase{phase=\"Current\"} 1"]
    );
    assert!(text.contains("k3s_registry_agent_pass_last_timestamp_seconds 100.0"), "{text}");
    assert!(text.contains("k3s_registry_agent_pass_passes_total 2") && text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn what_is_counted_is_shown_under_its_labels() {
    let dropped = Arc::new(AtomicU64::new(7));
    let metrics = Metrics::new(dropped.clone());
    let tally: &dyn Tally = &metrics;
    tally.request(Verb::Patch, Outcome::Conflict);
    tally.reconnect(Watch::ExtraSecret);
    tally.event_lost();
    metrics.change("1970-01-01T00:00:02Z".parse().unwrap());
    metrics.failure(FaultKind::Operator);
    metrics.restart();
    for counted in [
        Counted::Proven(Some(Duration::from_secs(3))),
        Counted::RolledBack,
        Counted::Healed,
        Counted::DriftRestored,
        Counted::Turn(TurnEnd::Taken),
        Counted::Verdict(Judged::Inconclusive),
        Counted::Rung(Rung::Original),
        Counted::GuardFired,
    ] {
        metrics.counted(counted);
    }
    metrics.certificates(Some("1970-01-01T00:00:03Z".parse().unwrap()));
    metrics.findings(Severity::Error, 3);
    metrics.encode();
    dropped.store(9, Ordering::Relaxed);
    let text = metrics.encode();
    for line in [
        "cluster_requests_total{verb=\"patch\",outcome=\"conflict\"} 1",
        "cluster_watch_reconnects_total{watch=\"extra_secret\"} 1",
        "cluster_watch_reconnects_total{watch=\"node\"} 0",
        "cluster_events_lost_total 1",
        "pass_last_change_timestamp_seconds 2.0",
        "pass_failures_total{kind=\"operator\"} 1",
        "execute_restarts_total 1",
        "execute_restart_seconds_bucket{le=\"2.0\"} 0",
        "execute_restart_seconds_bucket{le=\"4.0\"} 1",
        "execute_rollbacks_total 1",
        "execute_heals_total 1",
        "execute_drift_restores_total 1",
        "execute_turns_total{outcome=\"taken\"} 1",
        "execute_turns_total{outcome=\"unused\"} 0",
        "execute_verdicts_total{verdict=\"inconclusive\"} 1",
        "execute_undo_rungs_total{rung=\"original\"} 1",
        "execute_guard_fired_total 1",
        "certificate_first_end_timestamp_seconds 3.0",
        "lint_findings{severity=\"error\"} 3",
        "logging_lines_dropped_total 9",
    ] {
        assert!(text.lines().any(|shown| shown == format!("{PREFIX}_{line}")), "{line} is not in\n{text}");
    }
}

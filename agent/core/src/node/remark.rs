//! What somebody should know of a node that runs as desired: said behind the reason, and no fault.

use super::journal::Intent;
use super::plan::Case;
use super::{judge, pulls};

/// What was seen while the goal was proven.
pub(crate) fn of_proof(case: &Case<'_>, intent: &Intent) -> Option<String> {
    let log = &case.host.log;
    let mut all = pulls::remarks(case, intent);
    if log.hosts_toml_dropped {
        all.push("containerd cannot read a hosts.toml and goes on without it (its log names it)".to_owned());
    }
    if log.rewrite_dropped {
        all.push("containerd skips a rewrite whose pattern does not compile (its log names it)".to_owned());
    }
    (!all.is_empty()).then(|| all.join("; "))
}

/// The reason, with what was seen at the proof and with what stands in certs.d now.
pub(crate) fn with(case: &Case<'_>, mut reason: String, proof: Option<&str>) -> String {
    let shadows = judge::shadowed(case);
    for remark in shadows.iter().map(String::as_str).chain(proof) {
        reason.push_str("; ");
        reason.push_str(remark);
    }
    reason
}

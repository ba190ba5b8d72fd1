//! What follows from a report under `policy.preflight`.

use super::report::{HostReport, Report};
use super::verdict::{Kind, Outcome, Stage};
use crate::policy::{Enforcement, Preflight};

/// What follows from a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Why the node is not to be disturbed: one sentence about the first host that says so.
    pub blocked: Option<String>,
    /// It is blocked, and by a refused credential: this revision must not be tried by another node.
    pub credential_refused: bool,
    /// What else should be known.
    pub warnings: Vec<String>,
}

/// Judges a report. What cannot be told never blocks; neither does a default endpoint that mirrors stand before, unless
/// it refuses a credential. A refused credential is named before anything else that blocks.
pub fn judge(report: &Report, policy: &Preflight) -> Judgement {
    let mut judgement = Judgement::default();
    for host in &report.hosts {
        if !host.counts() || host.verdict.outcome() == Outcome::Fine {
            continue;
        }
        let enforcement = enforcement(policy, host.verdict.kind.stage());
        match (enforcement, host.verdict.outcome()) {
            (Enforcement::Off, _) | (_, Outcome::Fine) => {}
            (Enforcement::Enforce, Outcome::Fault) => {
                let is_refusal = host.verdict.kind == Kind::CredentialRefused;
                if judgement.blocked.is_none() || (is_refusal && !judgement.credential_refused) {
                    judgement.warnings.extend(judgement.blocked.replace(sentence(host)));
                } else {
                    judgement.warnings.push(sentence(host));
                }
                judgement.credential_refused |= is_refusal;
            }
            (Enforcement::Enforce, Outcome::Inconclusive) | (Enforcement::Warn, _) => {
                judgement.warnings.push(sentence(host));
            }
        }
    }
    judgement
}

/// `registry.example.com: WHAT; REMEDY`.
fn sentence(host: &HostReport) -> String {
    format!("{}: {}", host.url.authority(), host.verdict)
}

fn enforcement(policy: &Preflight, stage: Stage) -> Enforcement {
    let Preflight { credential, tls, name, route, realm, api } = policy;
    match stage {
        Stage::Name => *name,
        Stage::Route => *route,
        Stage::Tls => *tls,
        Stage::Api => *api,
        Stage::Realm => *realm,
        Stage::Credential => *credential,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::preflight::{Place, Url, Verdict};

    fn host(name: &str, place: Place, kind: Kind) -> HostReport {
        HostReport {
            url: Url::parse(&format!("https://{name}/v2/")).unwrap(),
            images: Vec::new(),
            place,
            verdict: Verdict::new(kind, kind.as_str(), "do that"),
            stops: Vec::new(),
            took: Duration::ZERO,
        }
    }

    fn judged(hosts: &[(&str, Place, Kind)], policy: &Preflight) -> Judgement {
        let hosts = hosts.iter().map(|(name, place, kind)| host(name, *place, *kind)).collect();
        judge(&Report { hosts, took: Duration::ZERO }, policy)
    }

    #[test]
    fn by_default_only_a_refused_credential_blocks() {
        for kind in Kind::ALL {
            let judgement = judged(&[("r", Place::Endpoint, *kind)], &Preflight::default());
            let blocks = *kind == Kind::CredentialRefused || *kind == Kind::CredentialUnusable;
            assert_eq!(judgement.blocked.is_some(), blocks, "{kind:?}");
            assert_eq!(judgement.credential_refused, *kind == Kind::CredentialRefused, "{kind:?}");
            let is_silent = kind.outcome() == Outcome::Fine || blocks;
            assert_eq!(judgement.warnings.is_empty(), is_silent, "{kind:?}");
        }
    }

    #[test]
    fn each_stage_has_its_own_word() {
        use Enforcement::{Enforce, Off, Warn};
        for (kind, with) in [
            (Kind::NameUnknown, (|e| Preflight { name: e, ..Preflight::default() }) as fn(Enforcement) -> Preflight),
            (Kind::Refused, |e| Preflight { route: e, ..Preflight::default() }),
            (Kind::TlsExpired, |e| Preflight { tls: e, ..Preflight::default() }),
            (Kind::ApiNotFound, |e| Preflight { api: e, ..Preflight::default() }),
            (Kind::RealmScheme, |e| Preflight { realm: e, ..Preflight::default() }),
            (Kind::CredentialRefused, |e| Preflight { credential: e, ..Preflight::default() }),
        ] {
            let hosts = [("r", Place::Registry, kind)];
            let sentence = format!("r: {}; do that", kind.as_str());
            assert_eq!(judged(&hosts, &with(Enforce)).blocked, Some(sentence.clone()));
            let warned = judged(&hosts, &with(Warn));
            assert_eq!((warned.blocked, warned.credential_refused, warned.warnings), (None, false, vec![sentence]));
            assert_eq!(judged(&hosts, &with(Off)), Judgement::default());
        }
    }

    #[test]
    fn what_cannot_be_told_never_blocks() {
        use Enforcement::Enforce;
        let all = Preflight {
            credential: Enforce,
            tls: Enforce,
            name: Enforce,
            route: Enforce,
            realm: Enforce,
            api: Enforce,
        };
        for kind in Kind::ALL {
            let judgement = judged(&[("r", Place::Endpoint, *kind)], &all);
            assert_eq!(judgement.blocked.is_some(), kind.outcome() == Outcome::Fault, "{kind:?}");
        }
    }

    #[test]
    fn a_default_endpoint_behind_mirrors_counts_only_for_its_credential() {
        let hosts = [("a", Place::Fallback, Kind::NameUnknown), ("b", Place::Endpoint, Kind::Fine)];
        assert_eq!(judged(&hosts, &Preflight::default()), Judgement::default());
        let hosts = [("a", Place::Fallback, Kind::CredentialRefused)];
        assert!(judged(&hosts, &Preflight::default()).credential_refused);
    }

    #[test]
    fn a_refused_credential_is_named_first_and_nothing_is_lost() {
        let policy = Preflight { route: Enforcement::Enforce, ..Preflight::default() };
        let hosts = [
            ("a", Place::Endpoint, Kind::Refused),
            ("b", Place::Endpoint, Kind::CredentialRefused),
            ("c", Place::Endpoint, Kind::CredentialRefused),
        ];
        let judgement = judged(&hosts, &policy);
        assert_eq!(judgement.blocked.as_deref(), Some("b: credential-refused; do that"));
        assert_eq!(judgement.warnings, ["a: refused; do that", "c: credential-refused; do that"]);
    }
}

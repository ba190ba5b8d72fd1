//! What somebody should hear of a report: only what changed since the last one.

use std::collections::BTreeMap;

use super::report::Report;
use super::verdict::{Kind, Outcome};

/// The faults that are known, by what was asked. Starts with none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(BTreeMap<String, Kind>);

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// There is a fault that was not known.
    pub is_bad: bool,
    /// One sentence, no secret.
    pub text: String,
}

impl Faults {
    /// What an earlier process heard and made known: credentials that were refused.
    pub fn refused(urls: &[String]) -> Self {
        Self(urls.iter().map(|url| (url.clone(), Kind::CredentialRefused)).collect())
    }

    /// Takes note of a report. What cannot be told changes nothing, and a host that is not asked any more is forgotten.
    pub fn learn(&mut self, report: &Report) -> Option<News> {
        let Self(known) = self;
        let (mut worse, mut better) = (Vec::new(), Vec::new());
        let mut now = BTreeMap::new();
        for host in &report.hosts {
            let (url, kind) = (host.url.to_string(), host.verdict.kind);
            let before = known.get(&url).copied();
            match host.verdict.outcome() {
                Outcome::Fault if host.counts() => {
                    if before != Some(kind) {
                        worse.push(format!("{}: {}", host.url.authority(), host.verdict));
                    }
                    now.insert(url, kind);
                }
                Outcome::Fine if before.is_some() => better.push(format!("{} is well again", host.url.authority())),
                Outcome::Inconclusive => now.extend(before.map(|before| (url, before))),
                Outcome::Fine | Outcome::Fault => {}
            }
        }
        *known = now;
        let is_bad = !worse.is_empty();
        worse.append(&mut better);
        (!worse.is_empty()).then(|| News { is_bad, text: worse.join("; ") })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::preflight::{HostReport, Place, Url, Verdict};

    fn learn(faults: &mut Faults, hosts: &[(&str, Place, Kind)]) -> Option<(bool, String)> {
        let hosts = hosts.iter().map(|(name, place, kind)| HostReport {
            url: Url::parse(&format!("https://{name}/v2/")).unwrap(),
            images: Vec::new(),
            place: *place,
            verdict: Verdict::new(*kind, kind.as_str(), ""),
            stops: Vec::new(),
            took: Duration::ZERO,
        });
        let report = Report { hosts: hosts.collect(), took: Duration::ZERO };
        faults.learn(&report).map(|News { is_bad, text }| (is_bad, text))
    }

    #[test]
    fn only_a_change_is_news() {
        use Kind::{CredentialRefused, Fine, NotAsked, RateLimited, Refused};
        let (mut faults, e) = (Faults::default(), Place::Endpoint);
        let said = |bad: bool, text: &str| Some((bad, text.to_owned()));
        for (hosts, news) in [
            (vec![("a", e, Fine), ("b", e, RateLimited)], None),
            (vec![("a", e, CredentialRefused), ("b", e, Fine)], said(true, "a: credential-refused")),
            (vec![("a", e, CredentialRefused), ("b", e, Fine)], None),
            // It was not told, so it is as it was.
            (vec![("a", e, NotAsked), ("b", e, Fine)], None),
            (vec![("a", e, Refused), ("b", e, Fine)], said(true, "a: refused")),
            (vec![("a", e, Fine), ("b", e, Refused)], said(true, "b: refused; a is well again")),
            (vec![("a", e, Fine), ("b", e, Fine)], said(false, "b is well again")),
            // Only asked when the mirrors fail.
            (vec![("a", Place::Fallback, Refused)], None),
            (vec![("a", Place::Fallback, CredentialRefused)], said(true, "a: credential-refused")),
            (vec![("c", e, Fine)], None),
            (vec![("a", e, Fine)], None),
        ] {
            assert_eq!(learn(&mut faults, &hosts), news, "{hosts:?}");
        }
    }

    #[test]
    fn what_an_earlier_process_made_known_is_not_news_again() {
        let known = || Faults::refused(&["https://a/v2/".to_owned()]);
        assert_eq!(learn(&mut known(), &[("a", Place::Endpoint, Kind::CredentialRefused)]), None);
        let well = learn(&mut known(), &[("a", Place::Endpoint, Kind::Fine)]);
        assert_eq!(well, Some((false, "a is well again".to_owned())));
    }
}

//! Until when the certificates of a configuration hold: for the metric, and for a warning in time.

use jiff::{SignedDuration, Timestamp};

use super::pem::certificates_in;
use crate::certificate::facts;
use crate::registries::document::KeyPath;
use crate::registries::finding::{Finding, Severity};
use crate::registries::model::{Registries, Tls};
use crate::secret::Secret;

/// How long before its end a certificate is warned of.
const NOTICE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `ca_file`: it vouches for the registry.
    Ca,
    /// `cert_file`: it vouches for the node.
    Client,
}

impl Part {
    /// `ca` or `client`, for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::Client => "client",
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Self::Ca => "ca_file",
            Self::Client => "cert_file",
        }
    }
}

/// The first certificate of a file that ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The key under `configs`.
    pub host: String,
    /// What it is for.
    pub part: Part,
    /// When it ends.
    pub not_after: Timestamp,
}

/// The ends of all CA and client certificates. `file` gives the content of a file by its path on the node, or `None`.
pub fn expiries(registries: &Registries, file: &dyn Fn(&str) -> Option<Secret<Vec<u8>>>) -> Vec<Expiry> {
    let mut found = Vec::new();
    for (host, config) in &registries.configs {
        let Some(Tls { ca_file, cert_file, key_file: _, insecure_skip_verify: _ }) = &config.tls else { continue };
        for (part, path) in [(Part::Ca, ca_file), (Part::Client, cert_file)] {
            let Some(content) = Some(path).filter(|path| !path.is_empty()).and_then(|path| file(path)) else {
                continue;
            };
            let certificates = certificates_in(content.expose());
            let ends = certificates.iter().filter_map(|der| Some(facts(der)?.not_after));
            found.extend(ends.min().map(|not_after| Expiry { host: host.clone(), part, not_after }));
        }
    }
    found
}

/// What is to be said of them now.
pub fn notes(expiries: &[Expiry], now: Timestamp) -> Vec<Finding> {
    let near = expiries.iter().filter(|expiry| expiry.not_after.duration_since(now) < NOTICE);
    near.map(|Expiry { host, part, not_after }| {
        let what = match part {
            Part::Ca => "a CA certificate",
            Part::Client => "the client certificate",
        };
        let left = not_after.duration_since(now);
        let (rule, message) = if left.is_negative() {
            let message = format!("{what} of {host} ended at {not_after}: put a new one into its Secret or ConfigMap");
            ("certificate-expired", message)
        } else {
            let days = left.as_hours() / 24 + 1;
            let message = format!(
                "{what} of {host} ends at {not_after}, in less than {days} days: put a new one into its Secret or ConfigMap, which \
                 restarts nothing"
            );
            ("certificate-expires", message)
        };
        let path = KeyPath::of(["configs", host, "tls", part.key()]);
        Finding { rule, severity: Severity::Warning, path, at: None, message }
    })
    .collect()
}

/// The first of them that ends soon, in one sentence that stays the same from day to day.
pub fn remark(expiries: &[Expiry], now: Timestamp) -> Option<String> {
    let Expiry { host, part, not_after } = expiries.iter().min_by_key(|expiry| expiry.not_after)?;
    let what = match part {
        Part::Ca => "a CA certificate",
        Part::Client => "the client certificate",
    };
    let left = not_after.duration_since(now);
    let ends = if left.is_negative() { "ended" } else { "ends" };
    (left < NOTICE).then(|| format!("{what} of {host} {ends} at {not_after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::testing::{ISSUED, SELF_SIGNED};
    use crate::registries::model::HostConfig;

    fn pem(base64: &[&str]) -> Secret<Vec<u8>> {
        let block = |text: &&str| format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        Secret::new(base64.iter().map(block).collect::<String>().into_bytes())
    }

    fn found(ca_file: &str, cert_file: &str) -> Vec<Expiry> {
        let tls = Tls { ca_file: ca_file.to_owned(), cert_file: cert_file.to_owned(), ..Tls::default() };
        let mut registries = Registries::default();
        registries.configs.insert("r".to_owned(), HostConfig { auth: None, tls: Some(tls) });
        expiries(&registries, &|path| match path {
            "/2099" => Some(pem(&[SELF_SIGNED])),
            "/2030" => Some(pem(&[SELF_SIGNED, ISSUED])),
            "/rubbish" => Some(pem(&["MIIB"])),
            _ => None,
        })
    }

    fn said(expiries: &[Expiry], now: &str) -> Vec<String> {
        notes(expiries, now.parse().unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn of_a_bundle_the_first_that_ends_counts() {
        let all = found("/2030", "/2099");
        let shown: Vec<_> = all.iter().map(|expiry| format!("{:?} {}", expiry.part, expiry.not_after)).collect();
        assert_eq!(shown, ["Ca 2030-06-01T00:00:00Z", "Client 2099-12-31T23:59:59Z"]);
        assert!(found("/rubbish", "").is_empty() && found("/missing", "").is_empty());
    }

    #[test]
    fn the_remark_is_about_the_first_end_and_only_when_it_is_near() {
        let mut all = found("/2099", "/2030");
        all.extend(found("/missing", "/2099"));
        let said = |now: &str| remark(&all, now.parse().unwrap());
        assert_eq!(said("2030-05-02T00:00:00Z"), None);
        let near = Some("the client certificate of r ends at 2030-06-01T00:00:00Z".to_owned());
        assert_eq!((said("2030-05-03T00:00:00Z"), said("2030-05-31T00:00:00Z")), (near.clone(), near));
        let over = said("2030-06-02T00:00:00Z").unwrap();
        assert_eq!(over, "the client certificate of r ended at 2030-06-01T00:00:00Z");
        assert_eq!(remark(&[], "2030-05-03T00:00:00Z".parse().unwrap()), None);
    }

    #[test]
    fn an_end_is_said_thirty_days_before_and_after_it() {
        let all = found("/2030", "/2099");
        assert!(said(&all, "2030-05-02T00:00:01Z").len() == 1 && said(&all, "2030-05-02T00:00:00Z").is_empty());
        assert_eq!(
            said(&all, "2030-05-30T12:00:00Z"),
            ["warning [certificate-expires] configs.r.tls.ca_file: a CA certificate of r ends at \
                 2030-06-01T00:00:00Z, in less than 2 days: put a new one into its Secret or ConfigMap, which restarts nothing"]
        );
        assert!(
            said(&all, "2030-06-01T00:00:01Z")[0].starts_with("warning [certificate-expired] configs.r.tls.ca_file")
        );
    }
}

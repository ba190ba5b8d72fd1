//! The default endpoint that containerd itself gives a registry (`k3s.md` 3.2 rule 7).

use super::Capabilities;
use super::HostSeen;
use super::HostsSeen;
use crate::runtime::endpoint::default_host;
use crate::runtime::endpoint::is_local;

impl HostSeen {
    /// Where containerd looks for the images of a registry of which it knows nothing.
    pub fn default_of(registry: &str) -> Self {
        let port = registry.rsplit_once(':').map_or("", |(_, port)| port);
        let (scheme, skip_verify) = match (is_local(registry), port) {
            (false, _) => ("https", None),
            (true, "80") => ("http", None),
            (true, "" | "443") => ("https", Some(true)),
            (true, _) => ("http", Some(true)),
        };
        Self {
            scheme: scheme.to_owned(),
            host: default_host(registry).to_owned(),
            path: "/v2".to_owned(),
            capabilities: Capabilities { pull: true, resolve: true, push: true },
            skip_verify,
            ..Self::default()
        }
    }

    /// Whether https is tried first though the scheme is http: containerd does so where there are TLS settings, on any
    /// port but a written 80.
    pub fn tries_https_first(&self) -> bool {
        let has_tls = self.skip_verify.is_some() || !self.ca.is_empty() || !self.client.is_empty();
        self.scheme == "http" && has_tls && !self.host.ends_with(":80")
    }
}

impl HostsSeen {
    /// The places for the images of a registry: containerd fills in the last one if it names no host.
    #[must_use]
    pub fn completed(mut self, registry: &str) -> Self {
        if let Some(last) = self.0.last_mut()
            && last.host.is_empty()
        {
            let HostSeen { scheme, host, path, capabilities, skip_verify, .. } = HostSeen::default_of(registry);
            let kept = last.skip_verify;
            *last = HostSeen { scheme, host, path, capabilities, skip_verify: skip_verify.or(kept), ..last.clone() };
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_without_a_file_is_asked_where_its_name_leads() {
        for (registry, place, skip_verify) in [
            ("docker.io", "https://registry-1.docker.io/v2", None),
            ("ghcr.io", "https://ghcr.io/v2", None),
            ("r.example.com:5000", "https://r.example.com:5000/v2", None),
            ("localhost", "https://localhost/v2", Some(true)),
            ("localhost:443", "https://localhost:443/v2", Some(true)),
            ("127.0.0.1:80", "http://127.0.0.1:80/v2", None),
            ("localhost:5000", "http://localhost:5000/v2", Some(true)),
            ("[::1]:5000", "http://[::1]:5000/v2", Some(true)),
        ] {
            let HostSeen { scheme, host, path, skip_verify: skips, .. } = HostSeen::default_of(registry);
            assert_eq!((format!("{scheme}://{host}{path}"), skips), (place.to_owned(), skip_verify));
        }
    }

    #[test]
    fn only_an_empty_last_place_is_filled_in_and_keeps_its_tls() {
        let named = HostSeen { host: "m".to_owned(), scheme: "https".to_owned(), ..HostSeen::default() };
        let empty = HostSeen { skip_verify: Some(true), ca: vec!["/ca".to_owned()], ..HostSeen::default() };
        let HostsSeen(made) = HostsSeen(vec![empty.clone(), named.clone()]).completed("r");
        assert_eq!(made, [empty.clone(), named]);
        let HostsSeen(made) = HostsSeen(vec![empty]).completed("r");
        let [last] = made.as_slice() else { panic!("{made:?}") };
        assert_eq!((last.host.as_str(), last.skip_verify, last.ca.len()), ("r", Some(true), 1));
        assert!(last.capabilities.is_all());
    }

    #[test]
    fn http_with_tls_settings_is_https_first_but_on_a_written_port_80() {
        let place = |host: &str, skip_verify| HostSeen {
            scheme: "http".to_owned(),
            host: host.to_owned(),
            skip_verify,
            ..HostSeen::default()
        };
        assert!(place("r:5000", Some(true)).tries_https_first() && place("r", Some(false)).tries_https_first());
        assert!(!place("r:80", Some(true)).tries_https_first() && !place("r:5000", None).tries_https_first());
    }
}

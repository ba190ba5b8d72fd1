//! Where an endpoint leads, as far as placing a credential needs it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::docker_config::DOCKER_HUB;

/// Host and port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    /// As written: this is what containerd looks up.
    pub authority: String,
    /// The host, without brackets.
    pub name: String,
    /// The port, if one is written.
    pub port: Option<u16>,
    /// The port that the scheme means, if none is written; `None` for a host alone.
    default_port: Option<u16>,
}

impl Address {
    /// Where an endpoint of `registries.yaml` leads. `None` if that cannot be told.
    pub fn of_endpoint(endpoint: &str) -> Option<Self> {
        let (scheme, rest) = match endpoint.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, endpoint.strip_prefix("//").unwrap_or(endpoint)),
        };
        let authority = rest.split(['/', '?', '#']).next()?;
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let mut address = Self::of_host(if authority == "docker.io" { DOCKER_HUB } else { authority })?;
        address.default_port = match scheme.as_deref() {
            Some("http") => Some(80),
            Some(_) | None => Some(443),
        };
        Some(address)
    }

    /// A key of `configs` or the host of a Secret.
    pub fn of_host(authority: &str) -> Option<Self> {
        let (name, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (name, port) = rest.split_once(']')?;
                (name, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => authority.split_once(':').map_or((authority, None), |(name, port)| (name, Some(port))),
        };
        let port = port.map(str::parse).transpose().ok()?;
        (!name.is_empty()).then(|| Self {
            authority: authority.to_owned(),
            name: name.to_owned(),
            port,
            default_port: None,
        })
    }

    /// Tells whether an endpoint leads to this host and port: `r` and `https://r:443` are one place, as are `r:80` and
    /// `http://r`. A host without port is where an endpoint with its scheme's own port leads.
    pub fn is_where(&self, endpoint: &Self) -> bool {
        let scheme_port = endpoint.default_port;
        self.name == endpoint.name
            && (self.port == endpoint.port || self.port.or(scheme_port) == endpoint.port.or(scheme_port))
    }

    /// Tells whether this is an endpoint without TLS.
    pub fn is_plain_http(&self) -> bool {
        self.default_port == Some(80)
    }

    /// Tells whether this is the node itself or an address of a private network: nobody else can be reached there.
    pub fn is_private(&self) -> bool {
        match self.name.parse() {
            Ok(IpAddr::V4(ip)) => is_private_v4(ip),
            Ok(IpAddr::V6(ip)) => is_private_v6(ip),
            Err(_) => self.name == "localhost",
        }
    }

    /// Tells whether the name means nothing outside this node or the cluster's DNS, which the node does not ask: what
    /// is meant by it can only be where its mirror leads.
    pub fn is_unreachable_name(&self) -> bool {
        let is_loopback = self.name.parse::<IpAddr>().map_or(self.name == "localhost", |ip| ip.is_loopback());
        is_loopback || self.name.ends_with(".svc") || self.name.contains(".svc.")
    }

    /// Tells whether this is a registry of the public internet whose credentials belong to it and to nobody else: a
    /// mirror of it, be it a cache next door, is another registry.
    pub fn is_public_registry(&self) -> bool {
        const WHOLE: [&str; 12] = [
            "ghcr.io",
            "quay.io",
            "gcr.io",
            "registry.k8s.io",
            "mcr.microsoft.com",
            "public.ecr.aws",
            "registry.gitlab.com",
            "nvcr.io",
            "registry.redhat.io",
            "registry.suse.com",
            "docker.elastic.co",
            "cgr.dev",
        ];
        const ENDINGS: [&str; 9] = [
            "docker.io",
            ".docker.com",
            ".gcr.io",
            ".pkg.dev",
            ".azurecr.io",
            ".amazonaws.com",
            ".icr.io",
            ".jfrog.io",
            ".oracle.com",
        ];
        WHOLE.contains(&self.name.as_str()) || ENDINGS.iter().any(|ending| self.name.ends_with(ending))
    }
}

/// The places that endpoints lead to, each once.
pub(super) fn addresses(endpoints: &[String]) -> Vec<Address> {
    let mut found: Vec<Address> = Vec::new();
    for address in endpoints.iter().filter_map(|endpoint| Address::of_endpoint(endpoint)) {
        if !found.iter().any(|earlier| earlier.authority == address.authority) {
            found.push(address);
        }
    }
    found
}

fn is_private_v4(ip: Ipv4Addr) -> bool {
    let is_carrier_grade = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
    ip.is_private() || ip.is_loopback() || ip.is_link_local() || is_carrier_grade
}

fn is_private_v6(ip: Ipv6Addr) -> bool {
    ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_leads_where_its_url_says() {
        for (endpoint, authority) in [
            ("m.example.com", "m.example.com"),
            ("https://m.example.com:5000/v2?x=1", "m.example.com:5000"),
            ("http://u:p@10.77.0.1:5001", "10.77.0.1:5001"),
            ("https://[::1]:5000/p", "[::1]:5000"),
            ("docker.io", DOCKER_HUB),
            ("https://docker.io/v2", DOCKER_HUB),
        ] {
            assert_eq!(Address::of_endpoint(endpoint).map(|a| a.authority).as_deref(), Some(authority));
        }
        for bad in ["", "https:///v2", "a:b:c", "a:99999"] {
            assert_eq!(Address::of_endpoint(bad), None, "{bad}");
        }
    }

    #[test]
    fn one_place_has_one_port_whether_written_or_not() {
        let is_where = |host, endpoint| {
            Address::of_host(host).expect("host").is_where(&Address::of_endpoint(endpoint).expect("endpoint"))
        };
        for (host, endpoint) in [
            ("r", "https://r:443"),
            ("r:443", "https://r"),
            ("r", "r:443"),
            ("r:80", "http://r"),
            ("r", "http://r:80"),
            ("r:5000", "http://r:5000"),
        ] {
            assert!(is_where(host, endpoint), "{host} {endpoint}");
        }
        for (host, endpoint) in [("r", "https://r:5000"), ("r:443", "http://r"), ("r", "http://r:443"), ("r", "s")] {
            assert!(!is_where(host, endpoint), "{host} {endpoint}");
        }
    }

    #[test]
    fn private_unreachable_and_public_are_told_apart() {
        let address = |host| Address::of_host(host).expect("host");
        for host in
            ["10.77.0.1:5001", "127.0.0.1", "localhost:3000", "[::1]:5", "[fd00::1]", "100.64.1.1", "172.31.0.1"]
        {
            assert!(address(host).is_private(), "{host}");
        }
        for host in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "r.example.com", "[2001:db8::1]"] {
            assert!(!address(host).is_private(), "{host}");
        }
        for host in ["registry.gitea.svc.cluster.local:5000", "r.gitea.svc", "localhost:3000", "127.0.0.1:80"] {
            assert!(address(host).is_unreachable_name(), "{host}");
        }
        for host in ["r.example.com", "nas.lan", "registry:5000", "10.0.0.1"] {
            assert!(!address(host).is_unreachable_name(), "{host}");
        }
        for host in ["ghcr.io", DOCKER_HUB, "x.azurecr.io", "1.dkr.ecr.eu-west-1.amazonaws.com"] {
            assert!(address(host).is_public_registry(), "{host}");
        }
        assert!(!address("r.example.com").is_public_registry());
    }
}

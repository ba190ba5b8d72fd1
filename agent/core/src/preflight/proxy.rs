//! Whether containerd goes through a proxy, by the environment that k3s is started with.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::url::{Scheme, Url};

/// A proxy that k3s is told to use. Its address is not kept: it may hold a password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxy {
    http: bool,
    https: bool,
    /// `NO_PROXY`, taken apart.
    exempt: Vec<String>,
}

impl Proxy {
    /// Reads environment files and `Environment=` lines, the later over the earlier. `CONTAINERD_X` is what containerd is
    /// given as `X`. `None` if no proxy is set.
    pub fn read<'t>(texts: impl IntoIterator<Item = &'t str>) -> Option<Self> {
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        let mut own: BTreeMap<String, String> = BTreeMap::new();
        for line in texts.into_iter().flat_map(str::lines) {
            for part in assignments(line.trim()) {
                let Some((key, value)) = part.split_once('=') else { continue };
                let (key, value) = (key.trim().to_ascii_uppercase(), value.trim().trim_matches(['"', '\'']));
                let (map, key) = match key.strip_prefix("CONTAINERD_") {
                    Some(key) => (&mut own, key.to_owned()),
                    None => (&mut all, key),
                };
                if matches!(key.as_str(), "HTTP_PROXY" | "HTTPS_PROXY" | "NO_PROXY") {
                    map.insert(key, value.to_owned());
                }
            }
        }
        all.extend(own);
        let is_set = |key: &str| all.get(key).is_some_and(|value| !value.is_empty());
        let exempt = all.get("NO_PROXY").map(|list| list.split(',').map(|item| item.trim().to_owned()));
        let exempt = exempt.into_iter().flatten().filter(|item| !item.is_empty()).collect();
        let proxy = Self { http: is_set("HTTP_PROXY"), https: is_set("HTTPS_PROXY"), exempt };
        (proxy.http || proxy.https).then_some(proxy)
    }

    /// Whether a request goes through it, as Go decides: never for this machine, nor for what `NO_PROXY` names.
    pub fn is_for(&self, url: &Url) -> bool {
        let is_set = match url.scheme() {
            Scheme::Http => self.http,
            Scheme::Https => self.https,
        };
        let name = url.name().to_ascii_lowercase();
        let address: Option<IpAddr> = name.parse().ok();
        let is_own = name == "localhost" || address.is_some_and(|address| address.is_loopback());
        is_set && !is_own && !self.exempt.iter().any(|item| is_exempt(item, &name, url.port(), address))
    }
}

/// `Environment="A=1" "B=2"` has several, a line of a file one.
fn assignments(line: &str) -> Vec<&str> {
    match line.strip_prefix("Environment=") {
        _ if line.starts_with(['#', ';']) => Vec::new(),
        None => vec![line.strip_prefix("export ").unwrap_or(line)],
        Some(list) if list.contains(['"', '\'']) => list.split(['"', '\'']).filter(|part| part.contains('=')).collect(),
        Some(list) => list.split_whitespace().collect(),
    }
}

/// `*`, a name with its subdomains, `.name` for the subdomains alone, an address, a network; each with a port or none.
fn is_exempt(item: &str, name: &str, port: u16, address: Option<IpAddr>) -> bool {
    let item = item.to_ascii_lowercase();
    if item == "*" {
        return true;
    }
    if let (Some((network, bits)), Some(address)) = (item.split_once('/'), address) {
        let bits: Option<u32> = bits.parse().ok();
        return match (network.parse(), address, bits) {
            (Ok(IpAddr::V4(network)), IpAddr::V4(address), Some(bits @ 0..=32)) => {
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                u32::from(network) & mask == u32::from(address) & mask
            }
            (Ok(IpAddr::V6(network)), IpAddr::V6(address), Some(bits @ 0..=128)) => {
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                u128::from(network) & mask == u128::from(address) & mask
            }
            _ => false,
        };
    }
    let (item, wanted) = match item.rsplit_once(':') {
        Some((host, digits)) if !host.contains(':') => (host, digits.parse::<u16>().ok()),
        Some(_) | None => (item.as_str(), None),
    };
    if wanted.is_some_and(|wanted| wanted != port) {
        return false;
    }
    let item = item.strip_prefix('*').unwrap_or(item);
    match item.strip_prefix('.') {
        Some(domain) => name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
        None => name == item || name.strip_suffix(item).is_some_and(|rest| rest.ends_with('.')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_for(proxy: &Proxy, url: &str) -> bool {
        proxy.is_for(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_proxy_is_found_wherever_k3s_is_given_one() {
        for text in [
            "HTTPS_PROXY=http://u:canary@proxy:3128",
            "export https_proxy='http://proxy'",
            "K3S_TOKEN=x\nCONTAINERD_HTTPS_PROXY=\"http://proxy\"",
            "[Service]\nEnvironment=\"A=1\" \"HTTPS_PROXY=http://proxy\"",
            "Environment=A=1 HTTPS_PROXY=http://proxy",
        ] {
            let proxy = Proxy::read([text]).unwrap_or_else(|| panic!("{text}"));
            assert!(is_for(&proxy, "https://r") && !is_for(&proxy, "http://r"), "{text}");
            assert!(!format!("{proxy:?}").contains("canary"));
        }
        for text in ["", "#HTTPS_PROXY=x", "HTTPS_PROXY=", "NO_PROXY=a", "HTTPS_PROXY=x\nHTTPS_PROXY="] {
            assert_eq!(Proxy::read([text]), None, "{text}");
        }
    }

    #[test]
    fn no_proxy_is_read_as_go_reads_it() {
        let text = "HTTPS_PROXY=x\nHTTP_PROXY=x\nNO_PROXY=10.0.0.0/8,.svc,example.com,one.org:5000,fd00::/8,192.168.1.7, *.lan";
        let proxy = Proxy::read([text]).unwrap();
        for url in [
            "https://localhost:5000",
            "http://127.0.0.1:5000",
            "https://10.77.0.1:5001",
            "https://r.ns.svc",
            "https://example.com",
            "https://r.example.com",
            "https://one.org:5000",
            "https://[fd00::5]",
            "https://192.168.1.7",
            "https://nas.lan",
        ] {
            assert!(!is_for(&proxy, url), "{url}");
        }
        for url in ["https://r.io", "https://11.0.0.1", "https://svc", "https://badexample.com", "https://one.org"] {
            assert!(is_for(&proxy, url), "{url}");
        }
        assert!(!is_for(&Proxy::read(["HTTPS_PROXY=x\nNO_PROXY=*"]).unwrap(), "https://r.io"));
    }
}

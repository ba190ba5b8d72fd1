//! How k3s completes an endpoint (`normalizeEndpointAddress`): scheme, default host, path.

use super::url::Url;
pub use super::url::UrlError;
use super::url::is_localhost;

/// An endpoint, or the default endpoint of a host, as k3s writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Under which key of `configs` its credentials and TLS settings are looked up.
    pub registry: String,
    /// The URL's host and port, as compared with the embedded registry's address.
    pub host: String,
    /// The URL, as written into `hosts.toml`.
    pub url: String,
    /// Whether its path is taken as it stands, without `/v2` behind it.
    pub is_override: bool,
}

/// What k3s has for the embedded registry's address when that is off: `JoinHostPort("", "")`.
pub(super) const NO_MIRROR: &str = ":";

/// containerd's `DefaultHost`.
pub(crate) fn default_host(host: &str) -> &str {
    if host == "docker.io" { DOCKER_HUB } else { host }
}

const DOCKER_HUB: &str = "registry-1.docker.io";

/// Tells whether containerd and k3s take a host (with or without a port) for this machine.
pub fn is_local(host: &str) -> bool {
    is_localhost(host)
}

/// Completes an endpoint or a key of `mirrors` or `configs`. `mirror_addr` is the embedded registry's address.
pub fn normalize(text: &str, mirror_addr: Option<&str>) -> Result<Endpoint, UrlError> {
    let mirror_addr = mirror_addr.unwrap_or(NO_MIRROR);
    let mut url = if text.contains("://") { Url::parse(text)? } else { Url::parse(&format!("//{text}"))? };
    let registry = String::from_utf8_lossy(&url.host).into_owned();
    if url.scheme.is_empty() {
        let port = url.port();
        let has_odd_port = !port.is_empty() && port != b"443";
        let is_http = has_odd_port && is_localhost(&registry) && registry != mirror_addr;
        url.scheme = if is_http { "http" } else { "https" }.to_owned();
    }
    if registry == "docker.io" {
        url.host = DOCKER_HUB.as_bytes().to_vec();
    }
    let host = default_host(&registry).to_owned();
    let registry = if host == DOCKER_HUB { "docker.io".to_owned() } else { registry };
    let is_override = !matches!(url.path.as_slice(), b"" | b"/" | b"/v2");
    if !is_override {
        url.path = b"/v2".to_vec();
    }
    Ok(Endpoint { registry, host, url: url.text(), is_override })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> (String, bool) {
        let endpoint = normalize(text, None).unwrap();
        (endpoint.url, endpoint.is_override)
    }

    #[test]
    fn an_endpoint_becomes_the_url_that_k3s_was_seen_to_write() {
        let rows = [
            ("m.example.com", "https://m.example.com/v2", false),
            ("https://m.example.com", "https://m.example.com/v2", false),
            ("https://m.example.com/", "https://m.example.com/v2", false),
            ("https://m.example.com/v2", "https://m.example.com/v2", false),
            ("https://m.example.com/v2/", "https://m.example.com/v2/", true),
            ("m.example.com/p/v2", "https://m.example.com/p/v2", true),
            ("m.example.com:443", "https://m.example.com:443/v2", false),
            ("HTTPS://M.example.com", "https://M.example.com/v2", false),
            ("docker.io", "https://registry-1.docker.io/v2", false),
            ("https://docker.io", "https://registry-1.docker.io/v2", false),
            ("https://docker.io/p/v2", "https://registry-1.docker.io/p/v2", true),
            ("https://index.docker.io", "https://index.docker.io/v2", false),
            ("localhost", "https://localhost/v2", false),
            ("localhost:443", "https://localhost:443/v2", false),
            ("localhost:5000", "http://localhost:5000/v2", false),
            ("127.0.0.1:80", "http://127.0.0.1:80/v2", false),
            ("[::1]:5000", "http://[::1]:5000/v2", false),
            ("::1", "http://::1/v2", false),
            ("", "https:///v2", false),
            ("ftp://m.example.com", "ftp://m.example.com/v2", false),
            ("https://u:p@m.example.com", "https://u:p@m.example.com/v2", false),
            ("https://m.example.com?x=1", "https://m.example.com/v2?x=1", false),
            ("https://m.example.com#f", "https://m.example.com/v2#f", false),
            ("https://m/a\"b", "https://m/a%22b", true),
            ("https://m/a\\b", "https://m/a%5Cb", true),
            ("https://m/a b", "https://m/a%20b", true),
            ("https://m/é", "https://m/%C3%A9", true),
        ];
        for (text, meant, is_override) in rows {
            assert_eq!(url(text), (meant.to_owned(), is_override), "{text}");
        }
    }

    #[test]
    fn what_go_does_not_take_for_a_url_is_refused() {
        let rows = [
            ("a:b:c", UrlError::Port),
            ("%zz", UrlError::Escape),
            ("a%zz", UrlError::Escape),
            ("a b", UrlError::HostCharacter),
            ("://x", UrlError::MissingScheme),
            ("1a://x", UrlError::ColonInFirstSegment),
            ("https://a\u{1}", UrlError::ControlCharacter),
            ("https://[x]", UrlError::Brackets),
            ("https://[127.0.0.1]", UrlError::Brackets),
            ("https://u é@m", UrlError::UserPart),
        ];
        for (text, why) in rows {
            assert_eq!(normalize(text, None), Err(why), "{text}");
        }
    }

    #[test]
    fn docker_hub_is_looked_up_as_docker_io_whatever_its_spelling() {
        for text in ["docker.io", "registry-1.docker.io", "https://registry-1.docker.io/x"] {
            assert_eq!(normalize(text, None).unwrap().registry, "docker.io");
        }
        assert_eq!(normalize("index.docker.io", None).unwrap().registry, "index.docker.io");
    }

    #[test]
    fn the_embedded_registry_is_spoken_to_over_https() {
        assert_eq!(normalize("127.0.0.1:6443", Some("127.0.0.1:6443")).unwrap().url, "https://127.0.0.1:6443/v2");
        assert_eq!(normalize("127.0.0.1:6443", None).unwrap().url, "http://127.0.0.1:6443/v2");
    }

    #[test]
    fn escapes_stay_as_they_were_written() {
        assert_eq!(url("https://m/%76%32/a%2Fb").0, "https://m/%76%32/a%2Fb");
        assert_eq!(url("https://m/%762").0, "https://m/%762");
        // ... unless something beside them must be escaped.
        assert_eq!(url("https://m/a%2f\"").0, "https://m/a/%22");
    }

    #[test]
    fn an_error_never_shows_the_text() {
        let error = normalize("https://canary:hunter2 x@host", None).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}

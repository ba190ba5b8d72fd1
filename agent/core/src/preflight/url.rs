//! Where a request goes: a URL as an HTTP client needs it, which shows neither its user part nor its query.

use std::fmt;

use crate::secret::Secret;

/// How it is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A URL without user part and fragment. Shown, it has no query either: realms were seen that carry keys there.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    scheme: Scheme,
    authority: String,
    path: String,
    query: Secret<String>,
}

impl Url {
    /// Reads an absolute URL. `None` if it is none of http or https with a host.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let authority = rest[..end].rsplit_once('@').map_or(&rest[..end], |(_, host)| host);
        Self::of(scheme, authority, &rest[end..])
    }

    /// A path, with its query if there is one, at a host with an optional port.
    pub fn of(scheme: Scheme, authority: &str, path_and_query: &str) -> Option<Self> {
        let text = path_and_query.split('#').next().unwrap_or_default();
        // What stands in a request line must not break it.
        if text.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
            return None;
        }
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let url = Self { scheme, authority: authority.to_owned(), path, query: Secret::from(query) };
        let name = url.name();
        let is_name = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte))
            && (!name.contains(':') || name.parse::<std::net::Ipv6Addr>().is_ok());
        (is_name && url.written_port().is_some()).then_some(url)
    }

    /// Where a redirect leads from here.
    pub fn join(&self, location: &str) -> Option<Self> {
        if location.contains("://") {
            return Self::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.scheme.as_str()));
        }
        let path = if location.starts_with('/') {
            location.to_owned()
        } else {
            format!("{}/{location}", self.path.rsplit_once('/').map_or("", |(parent, _)| parent))
        };
        Self::of(self.scheme, &self.authority, &path)
    }

    /// The same with another scheme.
    #[must_use]
    pub fn with_scheme(&self, scheme: Scheme) -> Self {
        Self { scheme, ..self.clone() }
    }

    /// How it is spoken.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Host and port as written: what containerd looks a credential up by.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The host alone, an IPv6 address without its brackets.
    pub fn name(&self) -> &str {
        match self.authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => self.authority.split(':').next().unwrap_or_default(),
        }
    }

    /// The port, its scheme's if none is written.
    pub fn port(&self) -> u16 {
        self.written_port().flatten().unwrap_or(self.scheme.port())
    }

    /// The inner `None` is no port, the outer one a port that is no number.
    fn written_port(&self) -> Option<Option<u16>> {
        let rest = match self.authority.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?.1,
            None => self.authority.find(':').map_or("", |at| &self.authority[at..]),
        };
        match rest.strip_prefix(':') {
            None => rest.is_empty().then_some(None),
            Some("") => Some(None),
            Some(port) => port.parse().ok().map(Some),
        }
    }

    /// Path and query, as they stand in a request line.
    pub fn request_target(&self) -> Secret<String> {
        let query = self.query.expose();
        Secret::new(if query.is_empty() { self.path.clone() } else { format!("{}?{query}", self.path) })
    }

    /// The same with one more parameter.
    #[must_use]
    pub fn with_parameter(&self, name: &str, value: &str) -> Self {
        let query = self.query.expose();
        let and = if query.is_empty() { "" } else { "&" };
        Self { query: Secret::new(format!("{query}{and}{name}={}", percent_encoded(value))), ..self.clone() }
    }

    /// Whether both are one server.
    pub fn is_same_server(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.name().eq_ignore_ascii_case(other.name()) && self.port() == other.port()
    }
}

/// `https://registry.example.com:5000/v2/`.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, authority, path, query: _ } = self;
        write!(f, "{}://{authority}{path}", scheme.as_str())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As a value in a query or a form.
pub(crate) fn percent_encoded(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (text, shown, name, port, target) in [
            ("https://r", "https://r/", "r", 443, "/"),
            ("HTTP://r:5000/v2/", "http://r:5000/v2/", "r", 5000, "/v2/"),
            ("https://u:p@r/token?k=1#f", "https://r/token", "r", 443, "/token?k=1"),
            ("https://[::1]:8443?x", "https://[::1]:8443/", "::1", 8443, "/?x"),
            ("http://[fd00::5]/a", "http://[fd00::5]/a", "fd00::5", 80, "/a"),
        ] {
            let url = Url::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(
                (url.to_string().as_str(), url.name(), url.port(), url.request_target().expose().as_str()),
                (shown, name, port, target)
            );
        }
    }

    #[test]
    fn what_cannot_be_asked_is_none() {
        for text in
            ["", "r", "/v2/", "ftp://r", "https://", "https:///v2", "https://r:x", "https://r:99999", "https://a b"]
        {
            assert_eq!(Url::parse(text), None, "{text}");
        }
        assert_eq!(Url::parse("https://r/a\r\nHost: x"), None);
        assert_eq!(Url::parse("https://[::1"), None);
    }

    #[test]
    fn a_redirect_is_followed_from_where_it_was_given() {
        let from = Url::parse("http://r:5000/v2/x").unwrap();
        for (location, to) in [
            ("https://s/y", "https://s/y"),
            ("//s/y", "http://s/y"),
            ("/y", "http://r:5000/y"),
            ("y", "http://r:5000/v2/y"),
        ] {
            assert_eq!(from.join(location).unwrap().to_string(), to);
        }
    }

    #[test]
    fn neither_user_part_nor_query_is_ever_shown() {
        let url = Url::parse("https://u:canary@r/token?key=canary").unwrap().with_parameter("service", "a b&c");
        assert!(!format!("{url} {url:?}").contains("canary"));
        assert_eq!(url.request_target().expose(), "/token?key=canary&service=a%20b%26c");
    }

    proptest! {
        #[test]
        fn a_url_reads_back_as_it_is_shown(text in "https?://[a-z.]{1,9}(:[0-9]{1,4})?(/[a-z0-9/]{0,9})?") {
            let url = Url::parse(&text).unwrap();
            prop_assert_eq!(Url::parse(&url.to_string()), Some(url));
        }

        #[test]
        fn any_text_is_survived(text in ".{0,60}", location in ".{0,60}") {
            if let Some(url) = Url::parse(&text) {
                prop_assert!(!url.request_target().expose().contains(['\r', '\n', ' ']));
                let _ = url.join(&location);
            }
        }
    }
}

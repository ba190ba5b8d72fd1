//! As much of Go's `net/url` as k3s puts an endpoint through: what it refuses and how it writes a URL back.
//!
//! The `url` crate follows another standard (it lowers host names, drops `:443`, resolves dots), and the text that k3s
//! writes is what containerd selects a host by. So: Go's rules, byte by byte.

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use thiserror::Error;

/// Why Go does not take a text for a URL. Never shows the text: people write passwords there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// A byte below 0x20 or 0x7f.
    #[error("a control character in the URL")]
    ControlCharacter,
    /// `://host`.
    #[error("nothing before the URL's colon")]
    MissingScheme,
    /// `1a://host`: no scheme, and a path may not begin like one.
    #[error("a colon in the URL's first path segment")]
    ColonInFirstSegment,
    /// `%zz`, or `%41` in a host.
    #[error("a % in the URL that begins no valid escape")]
    Escape,
    /// A blank, `\`, `^` and the like in a host name.
    #[error("a character in the URL's host name that is not allowed there")]
    HostCharacter,
    /// `[x]`, `a[::1]`, `[::1`.
    #[error("brackets in the URL's host that hold no IPv6 address")]
    Brackets,
    /// A port that is no number, or a second colon.
    #[error("a port in the URL that is not a number")]
    Port,
    /// Before the `@`.
    #[error("a character in the URL's user part that is not allowed there")]
    UserPart,
}

/// A part of a URL: each leaves other characters unescaped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Path,
    Host,
    Zone,
    User,
    Fragment,
}

/// A URL as Go holds it. Bytes, since an escape may stand for any.
#[derive(Clone, Debug, Default)]
pub(super) struct Url {
    pub(super) scheme: String,
    opaque: String,
    user: Option<(Vec<u8>, Option<Vec<u8>>)>,
    pub(super) host: Vec<u8>,
    pub(super) path: Vec<u8>,
    raw_path: String,
    omits_host: bool,
    forces_query: bool,
    query: String,
    fragment: Vec<u8>,
    raw_fragment: String,
}

impl Url {
    /// Go's `url.Parse`.
    pub(super) fn parse(text: &str) -> Result<Self, UrlError> {
        let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
        if text.bytes().any(|b| b < b' ' || b == 0x7f) {
            return Err(UrlError::ControlCharacter);
        }
        let mut url = Self::default();
        let (scheme, mut rest) = split_scheme(text)?;
        url.scheme = scheme.to_ascii_lowercase();
        if rest.ends_with('?') && rest.matches('?').count() == 1 {
            url.forces_query = true;
            rest = &rest[..rest.len() - 1];
        } else if let Some((before, query)) = rest.split_once('?') {
            url.query = query.to_owned();
            rest = before;
        }
        if !rest.starts_with('/') {
            if !url.scheme.is_empty() {
                url.opaque = rest.to_owned();
                url.set_fragment(fragment)?;
                return Ok(url);
            }
            if rest.split('/').next().is_some_and(|segment| segment.contains(':')) {
                return Err(UrlError::ColonInFirstSegment);
            }
        }
        if rest.starts_with("//") && (!url.scheme.is_empty() || !rest.starts_with("///")) {
            let authority = &rest[2..];
            let end = authority.find('/').unwrap_or(authority.len());
            rest = &authority[end..];
            url.set_authority(&authority[..end])?;
        } else if !url.scheme.is_empty() && rest.starts_with('/') {
            url.omits_host = true;
        }
        url.path = unescape(rest, Part::Path)?;
        if escape(&url.path, Part::Path) != rest {
            url.raw_path = rest.to_owned();
        }
        url.set_fragment(fragment)?;
        Ok(url)
    }

    fn set_authority(&mut self, authority: &str) -> Result<(), UrlError> {
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        self.host = parse_host(&self.scheme, host)?;
        let Some(user) = user else { return Ok(()) };
        if !user.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&b)) {
            return Err(UrlError::UserPart);
        }
        self.user = Some(match user.split_once(':') {
            None => (unescape(user, Part::User)?, None),
            Some((name, password)) => (unescape(name, Part::User)?, Some(unescape(password, Part::User)?)),
        });
        Ok(())
    }

    fn set_fragment(&mut self, fragment: &str) -> Result<(), UrlError> {
        self.fragment = unescape(fragment, Part::Fragment)?;
        if escape(&self.fragment, Part::Fragment) != fragment {
            self.raw_fragment = fragment.to_owned();
        }
        Ok(())
    }

    /// Go's `URL.Port`: digits after the last colon, or nothing.
    pub(super) fn port(&self) -> &[u8] {
        match self.host.iter().rposition(|b| *b == b':') {
            Some(colon) if self.host[colon + 1..].iter().all(u8::is_ascii_digit) => &self.host[colon + 1..],
            Some(_) | None => &[],
        }
    }

    /// Go's `URL.String`.
    pub(super) fn text(&self) -> String {
        let Self {
            scheme,
            opaque,
            user,
            host,
            path,
            raw_path,
            omits_host,
            forces_query,
            query,
            fragment,
            raw_fragment,
        } = self;
        let mut text = String::new();
        if !scheme.is_empty() {
            text.push_str(scheme);
            text.push(':');
        }
        if opaque.is_empty() {
            let has_authority = !scheme.is_empty() || !host.is_empty() || user.is_some();
            if has_authority && !(*omits_host && host.is_empty() && user.is_none()) {
                if !host.is_empty() || !path.is_empty() || user.is_some() {
                    text.push_str("//");
                }
                if let Some((name, password)) = user {
                    text.push_str(&escape(name, Part::User));
                    if let Some(password) = password {
                        text.push(':');
                        text.push_str(&escape(password, Part::User));
                    }
                    text.push('@');
                }
                text.push_str(&escape(host, Part::Host));
            }
            let path = as_written_or_escaped(path, raw_path, Part::Path);
            if !path.is_empty() && !path.starts_with('/') && !host.is_empty() {
                text.push('/');
            }
            text.push_str(&path);
        } else {
            text.push_str(opaque);
        }
        if *forces_query || !query.is_empty() {
            text.push('?');
            text.push_str(query);
        }
        if !fragment.is_empty() {
            text.push('#');
            text.push_str(&as_written_or_escaped(fragment, raw_fragment, Part::Fragment));
        }
        text
    }
}

fn split_scheme(text: &str) -> Result<(&str, &str), UrlError> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err(UrlError::MissingScheme),
            b':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn parse_host(scheme: &str, host: &str) -> Result<Vec<u8>, UrlError> {
    match host.rfind('[') {
        Some(0) => return parse_bracketed(host),
        Some(_) => return Err(UrlError::Brackets),
        None => {}
    }
    if let Some(first) = host.find(':') {
        let last = host.rfind(':').unwrap_or(first);
        // Go 1.26 looks at the first colon only where the scheme is written out.
        let colon = if scheme == "http" || scheme == "https" { first } else { last };
        check_port(&host[colon..])?;
    }
    unescape(host, Part::Host)
}

fn parse_bracketed(host: &str) -> Result<Vec<u8>, UrlError> {
    let close = host.rfind(']').ok_or(UrlError::Brackets)?;
    check_port(&host[close + 1..])?;
    let name = &host[1..close];
    let address = match name.find("%25") {
        Some(zone) => {
            let mut address = unescape(&name[..zone], Part::Host)?;
            address.extend(unescape(&name[zone..], Part::Zone)?);
            address
        }
        None => unescape(name, Part::Host)?,
    };
    // Go's netip takes a zone after `%`, and so does not mind which; it may not be empty.
    let text = std::str::from_utf8(&address).map_err(|_| UrlError::Brackets)?;
    let is_address = match text.split_once('%') {
        Some((address, zone)) => !zone.is_empty() && address.parse::<Ipv6Addr>().is_ok(),
        None => text.parse::<Ipv6Addr>().is_ok(),
    };
    if !is_address {
        return Err(UrlError::Brackets);
    }
    let mut whole = vec![b'['];
    whole.extend(&address);
    whole.push(b']');
    whole.extend(host[close + 1..].bytes());
    Ok(whole)
}

/// Nothing, or a colon and digits (or none).
fn check_port(text: &str) -> Result<(), UrlError> {
    match text.strip_prefix(':') {
        None if text.is_empty() => Ok(()),
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
        None | Some(_) => Err(UrlError::Port),
    }
}

fn may_stand(byte: u8, part: Part) -> bool {
    let others: &[u8] = match part {
        Part::Path => b"$&+,/:;=@",
        Part::Host | Part::Zone => b"!\"$&'()*+,:;<=>[]",
        Part::User => b"$&+,;=",
        Part::Fragment => b"!$&()*+,/:;=?@",
    };
    byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || others.contains(&byte)
}

fn escape(bytes: &[u8], part: Part) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if may_stand(*byte, part) {
            text.push(char::from(*byte));
        } else {
            text.push('%');
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    text
}

fn unescape(text: &str, part: Part) -> Result<Vec<u8>, UrlError> {
    let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let is_host = part == Part::Host || part == Part::Zone;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            if is_host && byte < 0x80 && !may_stand(byte, part) {
                return Err(UrlError::HostCharacter);
            }
            bytes.push(byte);
            continue;
        }
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else { return Err(UrlError::Escape) };
        let meant = high * 16 + low;
        let is_allowed = match part {
            Part::Host => meant >= 0x80 || meant == b'%',
            Part::Zone => meant == b'%' || meant == b' ' || may_stand(meant, Part::Host),
            Part::Path | Part::User | Part::Fragment => true,
        };
        if !is_allowed {
            return Err(UrlError::Escape);
        }
        bytes.push(meant);
    }
    Ok(bytes)
}

/// Go keeps the escapes as they were written if they are valid and still say the same.
fn as_written_or_escaped(bytes: &[u8], written: &str, part: Part) -> String {
    let is_valid = written.bytes().all(|b| b"!$&'()*+,;=:@[]%".contains(&b) || may_stand(b, part));
    if !written.is_empty() && is_valid && unescape(written, part).is_ok_and(|meant| meant == bytes) {
        return written.to_owned();
    }
    escape(bytes, part)
}

/// containerd's `IsLocalhost`: a name or a loopback address, with or without a port.
pub(super) fn is_localhost(host: &str) -> bool {
    let name = without_port(host).unwrap_or(host);
    if name == "localhost" {
        return true;
    }
    match name.parse::<Ipv4Addr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => name
            .parse::<Ipv6Addr>()
            .is_ok_and(|address| address.is_loopback() || address.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback())),
    }
}

/// Go's `net.SplitHostPort`; `None` where it fails.
fn without_port(host: &str) -> Option<&str> {
    let colon = host.rfind(':')?;
    if let Some(inner) = host.strip_prefix('[') {
        let end = inner.find(']')?;
        let is_whole = end + 2 == colon && !inner[..end].contains(['[', ']']) && !inner[end + 1..].contains(['[', ']']);
        return is_whole.then_some(&inner[..end]);
    }
    let name = &host[..colon];
    (!name.contains(':') && !host.contains(['[', ']'])).then_some(name)
}

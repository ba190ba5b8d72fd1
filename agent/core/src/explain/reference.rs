//! An image's name as containerd reads it: `distribution`'s `ParseDockerRef`.

use std::fmt;

use thiserror::Error;

/// Where an image without a host comes from.
const HUB: &str = "docker.io";
/// The longest repository.
const LONGEST: usize = 255;

/// An image's name, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Host, with its port: `docker.io`, `r.example.com:5000`.
    pub registry: String,
    /// Path without registry: `library/busybox`.
    pub repository: String,
    /// Tag or digest. Of both the digest counts.
    pub object: Object,
}

/// Which of the repository's images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A tag.
    Tag(String),
    /// A digest.
    Digest(String),
}

impl Object {
    /// As it stands in a manifest's URL.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Tag(text) | Self::Digest(text) => text,
        }
    }
}

/// `docker.io/library/busybox:latest`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, repository, object } = self;
        let sign = match object {
            Object::Tag(_) => ':',
            Object::Digest(_) => '@',
        };
        write!(f, "{registry}/{repository}{sign}{}", object.as_str())
    }
}

/// Why a text is no image's name: containerd refuses the pull before it asks anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReferenceError {
    /// Nothing.
    #[error("no image is named")]
    Empty,
    /// `https://…`.
    #[error("an image's name has no scheme: leave out what stands before the host")]
    Scheme,
    /// 64 hexadecimal digits.
    #[error("64 hexadecimal digits are an image's ID, and no name")]
    Id,
    /// Before the first slash.
    #[error("the registry's host is none: letters, digits, dots and dashes, and a port of digits behind a colon")]
    Host,
    /// `Nginx`.
    #[error("a repository is written in lower case")]
    UpperCase,
    /// `a//b`, `-a`.
    #[error(
        "the repository is none: lower case letters and digits, between them single dots, one or two underscores or \
         dashes, and slashes"
    )]
    Repository,
    /// Over 255 characters.
    #[error("the repository is longer than 255 characters")]
    TooLong,
    /// Behind a colon.
    #[error("the tag is none: at most 128 letters, digits, underscores, dots and dashes, no dot or dash first")]
    Tag,
    /// Behind an `@`.
    #[error("the digest is none: `sha256:` and 64 hexadecimal digits in lower case")]
    Digest,
}

impl Reference {
    /// Reads an image's name as people write it in a pod.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.contains("://") {
            return Err(ReferenceError::Scheme);
        }
        if text.len() == 64 && is_hex(text) {
            return Err(ReferenceError::Id);
        }
        let (registry, rest) = split_host(text);
        let (rest, digest) = rest.split_once('@').map_or((rest, None), |(rest, digest)| (rest, Some(digest)));
        let (path, tag) = rest.split_once(':').map_or((rest, None), |(path, tag)| (path, Some(tag)));
        if !is_host(registry) {
            return Err(ReferenceError::Host);
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::UpperCase);
        }
        let repository =
            if registry == HUB && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        if !repository.split('/').all(is_component) {
            return Err(ReferenceError::Repository);
        }
        if repository.len() > LONGEST {
            return Err(ReferenceError::TooLong);
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag);
        }
        let object = match digest {
            Some(digest) if is_digest(digest) => Object::Digest(digest.to_owned()),
            Some(_) => return Err(ReferenceError::Digest),
            None => Object::Tag(tag.unwrap_or("latest").to_owned()),
        };
        Ok(Self { registry: registry.to_owned(), repository, object })
    }
}

/// A first part is a host if it can be nothing else.
fn split_host(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some(("index.docker.io", rest)) => (HUB, rest),
        Some((first, rest))
            if first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        Some(_) | None => (HUB, text),
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_host(text: &str) -> bool {
    let is_part = |part: &str| {
        let is_letter = |b: u8| b.is_ascii_alphanumeric();
        part.bytes().all(|b| is_letter(b) || b == b'-')
            && part.bytes().next().is_some_and(is_letter)
            && part.bytes().next_back().is_some_and(is_letter)
    };
    let (is_name, rest) = match text.strip_prefix('[') {
        Some(inner) => {
            let (address, rest) = inner.split_once(']').unwrap_or(("", inner));
            (!address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'), rest)
        }
        None => {
            let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            (name.split('.').all(is_part), rest)
        }
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    is_name && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

fn is_component(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_separator = |between: &str| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-');
    text.starts_with(is_letter) && text.ends_with(is_letter) && text.split(is_letter).all(is_separator)
}

fn is_tag(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

fn is_digest(text: &str) -> bool {
    let digits = |name: &str| match name {
        "sha256" => Some(64),
        "sha384" => Some(96),
        "sha512" => Some(128),
        _ => None,
    };
    text.split_once(':').is_some_and(|(name, hex)| digits(name) == Some(hex.len()) && is_hex(hex))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_name_is_completed_as_containerd_completes_it() {
        for (text, complete) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
            ("rancher/pause:3.6", "docker.io/rancher/pause:3.6"),
            ("ghcr.io/jaybrto/app", "ghcr.io/jaybrto/app:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("r.example.com:5000/a/b_c__d--e:T.1-x", "r.example.com:5000/a/b_c__d--e:T.1-x"),
            ("[fd00::5]:5000/x", "[fd00::5]:5000/x:latest"),
            ("REGISTRY/x", "REGISTRY/x:latest"),
        ] {
            assert_eq!(Reference::parse(text).map(|read| read.to_string()).as_deref(), Ok(complete), "{text}");
        }
        let both = Reference::parse(&format!("r.example.com:5000/x:1@{DIGEST}"));
        assert_eq!(
            both.map(|read| read.to_string()),
            Ok(format!("r.example.com:5000/x@{DIGEST}")),
            "the digest counts"
        );
    }

    #[test]
    fn what_containerd_refuses_is_refused_with_its_reason() {
        let long = format!("ghcr.io/{}", "a".repeat(256));
        let tag = format!("x:{}", "a".repeat(129));
        for (text, why) in [
            ("", ReferenceError::Empty),
            ("https://ghcr.io/x", ReferenceError::Scheme),
            (&DIGEST[7..], ReferenceError::Id),
            ("ghcr.io:/x", ReferenceError::Host),
            ("-a.b/x", ReferenceError::Host),
            ("a..b/x", ReferenceError::Host),
            ("[::1/x", ReferenceError::Host),
            ("u:p@r.example.com/x", ReferenceError::Host),
            ("Nginx", ReferenceError::UpperCase),
            ("ghcr.io/Jay/x", ReferenceError::UpperCase),
            ("ghcr.io/", ReferenceError::Repository),
            ("ghcr.io/a//b", ReferenceError::Repository),
            ("ghcr.io/a._b", ReferenceError::Repository),
            ("ghcr.io/a___b", ReferenceError::Repository),
            ("ghcr.io/-a", ReferenceError::Repository),
            ("a b", ReferenceError::Repository),
            (&long, ReferenceError::TooLong),
            ("nginx:", ReferenceError::Tag),
            ("nginx:.1", ReferenceError::Tag),
            ("nginx:a:b", ReferenceError::Tag),
            (&tag, ReferenceError::Tag),
            ("nginx@sha256:0123", ReferenceError::Digest),
            ("nginx@", ReferenceError::Digest),
        ] {
            assert_eq!(Reference::parse(text), Err(why), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_complete_name_stays_as_it_is(text in "[a-zA-Z0-9./:@_-]{0,24}") {
            if let Ok(read) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&read.to_string()), Ok(read));
            }
        }
    }
}

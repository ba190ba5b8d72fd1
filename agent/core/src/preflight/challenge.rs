//! `WWW-Authenticate`, as containerd reads it: which schemes a registry offers, and where the token is to be had.

use std::collections::BTreeMap;

/// One scheme of a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// Which.
    pub scheme: AuthScheme,
    /// `realm`, `service`, `error`, …: names in lower case.
    pub parameters: BTreeMap<String, String>,
}

/// The schemes that containerd knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthScheme {
    /// A token of the realm.
    Bearer,
    /// User and password at the registry itself.
    Basic,
    /// Something else, which containerd passes over.
    Other,
}

impl Challenge {
    /// A parameter's value, if it is there and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Reads the values of all `WWW-Authenticate` headers of an answer.
pub(super) fn parse<'v>(values: impl Iterator<Item = &'v str>) -> Vec<Challenge> {
    values.flat_map(one_header).collect()
}

/// The one that containerd uses: Bearer before Basic, whatever their order.
pub(super) fn chosen(challenges: &[Challenge]) -> Option<&Challenge> {
    let of = |scheme| challenges.iter().find(move |challenge| challenge.scheme == scheme);
    of(AuthScheme::Bearer).or_else(|| of(AuthScheme::Basic))
}

/// One header may hold several challenges (RFC 9110, 11.6.1): a word that no `=` follows begins the next one.
fn one_header(value: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        if end == 0 {
            return found;
        }
        let word = &rest[..end];
        rest = rest[end..].trim_start_matches([' ', '\t']);
        match rest.strip_prefix('=') {
            None => {
                let scheme = match word.to_ascii_lowercase().as_str() {
                    "bearer" => AuthScheme::Bearer,
                    "basic" => AuthScheme::Basic,
                    _ => AuthScheme::Other,
                };
                found.push(Challenge { scheme, parameters: BTreeMap::new() });
            }
            Some(after) => {
                let (text, after) = parameter(after.trim_start_matches([' ', '\t']));
                rest = after;
                if let Some(challenge) = found.last_mut() {
                    challenge.parameters.entry(word.to_ascii_lowercase()).or_insert(text);
                }
            }
        }
    }
}

/// A quoted string or a word, and what follows it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(values: &[&str]) -> Vec<String> {
        let all = parse(values.iter().copied());
        all.iter().map(|Challenge { scheme, parameters }| format!("{scheme:?} {parameters:?}")).collect()
    }

    #[test]
    fn challenges_of_real_registries_are_read() {
        for (value, read) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#,
                r#"Bearer {"realm": "https://auth.docker.io/token", "service": "registry.docker.io"}"#,
            ),
            (
                r#"Bearer realm="https://gitea.k3s.bto.bar/v2/token",service="container_registry",scope="*""#,
                r#"Bearer {"realm": "https://gitea.k3s.bto.bar/v2/token", "scope": "*", "service": "container_registry"}"#,
            ),
            (
                r#"bearer realm = "https://r/t" , error="insufficient_scope""#,
                r#"Bearer {"error": "insufficient_scope", "realm": "https://r/t"}"#,
            ),
            (r#"Basic realm="Registry Realm""#, r#"Basic {"realm": "Registry Realm"}"#),
            (r#"Basic"#, "Basic {}"),
            (r#"Basic realm="a \"b\", c=d""#, r#"Basic {"realm": "a \"b\", c=d"}"#),
            ("Bearer realm=https://r/t,service=s", r#"Bearer {"realm": "https://r/t", "service": "s"}"#),
            (r#"Bearer realm="https://r/t"#, r#"Bearer {"realm": "https://r/t"}"#),
        ] {
            assert_eq!(shown(&[value]), [read], "{value}");
        }
    }

    #[test]
    fn several_challenges_come_in_one_header_or_in_many() {
        let one = r#"Negotiate, Basic realm="x", Bearer realm="https://r/t",service="s""#;
        let many = ["Negotiate", r#"Basic realm="x""#, r#"Bearer realm="https://r/t",service="s""#];
        assert_eq!(shown(&[one]), shown(&many));
        assert_eq!(chosen(&parse([one].into_iter())).map(|c| c.scheme), Some(AuthScheme::Bearer));
        assert_eq!(chosen(&parse(["Negotiate", "NTLM"].into_iter())), None);
    }

    proptest! {
        #[test]
        fn any_header_is_survived(value in r#"[A-Za-z=", \\\t:/é]{0,80}"#) {
            let _ = parse([value.as_str()].into_iter());
        }
    }
}

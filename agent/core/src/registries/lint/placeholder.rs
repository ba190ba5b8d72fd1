//! Text that was meant to be replaced and was not: `$VAR`, `${VAR}`, `{{ … }}`, `<…>`, `YOUR_HOST`.

/// The placeholder in a host, key or URL, where none of these characters has a meaning.
pub(super) fn in_address(text: &str) -> Option<&str> {
    braced(text).or_else(|| variable(text)).or_else(|| word(text))
}

/// Tells whether a credential is one. Stricter than [`in_address`]: `$` and `<` are good characters of a password, and
/// robot accounts are called `robot$name`.
pub(super) fn is_credential(text: &str) -> bool {
    let is_variable = text.strip_prefix('$').is_some_and(|name| {
        name.len() > 1 && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    });
    let is_blank = text.len() >= 3 && (text.bytes().all(|b| b == b'x') || text.bytes().all(|b| b == b'*'));
    let is_angled = text.starts_with('<') && text.ends_with('>') && text.len() > 2;
    is_variable
        || is_blank
        || is_angled
        || between(text, "${", "}").is_some()
        || between(text, "$(", ")").is_some()
        || between(text, "{{", "}}").is_some()
        || word(text) == Some(text)
}

fn braced(text: &str) -> Option<&str> {
    between(text, "${", "}")
        .or_else(|| between(text, "$(", ")"))
        .or_else(|| between(text, "{{", "}}"))
        .or_else(|| between(text, "<", ">"))
}

fn between<'t>(text: &'t str, open: &str, close: &str) -> Option<&'t str> {
    let start = text.find(open)?;
    let length = text[start..].find(close)?;
    Some(&text[start..start + length + close.len()])
}

/// `$NAME`.
fn variable(text: &str) -> Option<&str> {
    let start = text.find('$')?;
    let name =
        text[start + 1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len() - start - 1);
    (name > 0).then(|| &text[start..=start + name])
}

/// `YOUR_NODE_IP`, `REGISTRY_HOST`, `PORT`: capitals with an underscore, or one of a few words.
fn word(text: &str) -> Option<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').find(|part| {
        let is_capital = part.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        let is_framed = part.len() > 4 && part.starts_with("__") && part.ends_with("__");
        let is_joined = part.trim_matches('_').contains('_') && part.bytes().any(|b| b.is_ascii_uppercase());
        is_capital
            && (is_joined || is_framed || matches!(*part, "PORT" | "HOST" | "HOSTNAME" | "IP" | "DOMAIN" | "REGISTRY"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_of_every_kind_are_found_in_addresses() {
        for (text, found) in [
            ("$MY_NODE1_IP:30005", "$MY_NODE1_IP"),
            ("http://${NODE_IP}:30002", "${NODE_IP}"),
            ("https://${var.system_default_registry}", "${var.system_default_registry}"),
            ("{{ default_mirror_url }}", "{{ default_mirror_url }}"),
            ("https://<registry host>:5000", "<registry host>"),
            ("https://YOUR_NODE_IP:30009", "YOUR_NODE_IP"),
            ("https://m.example.com:PORT", "PORT"),
            ("http://$(hostname -i):5000", "$(hostname -i)"),
            ("http://__HOST__:5000", "__HOST__"),
        ] {
            assert_eq!(in_address(text), Some(found), "{text}");
        }
    }

    #[test]
    fn ordinary_addresses_hold_no_placeholder() {
        for text in
            ["docker.io", "HTTPS://M.example.com", "http://[fd00::5]:5000", "https://m/v2/p_q", "*", "", "a>b<c", "$"]
        {
            assert_eq!(in_address(text), None, "{text}");
        }
    }

    #[test]
    fn a_credential_with_a_dollar_is_not_a_placeholder() {
        for text in ["robot$k9s", "$ecret", "p@$$w0rd", "a<b>c", "xx", "admin", "", "$1", "A_B-c"] {
            assert!(!is_credential(text), "{text}");
        }
        for text in ["$DOCKER_TOKEN", "${auth}", "$(cat token)", "{{ token }}", "<token>", "xxxx", "****", "YOUR_TOKEN"]
        {
            assert!(is_credential(text), "{text}");
        }
    }
}

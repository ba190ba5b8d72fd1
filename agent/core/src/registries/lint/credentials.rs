//! `configs.HOST.auth`: which field containerd uses, which it cannot use. No message shows a credential.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::GeneralPurpose;
use base64::engine::GeneralPurposeConfig;
use zeroize::Zeroizing;

use super::Findings;
use super::Source;
use super::placeholder;
use super::rules;
use super::view::View;
use super::view::WILDCARD;
use crate::registries::document::KeyPath;
use crate::registries::model::Auth;
use crate::secret::Secret;

/// Go's `base64.StdEncoding`: padding is needed, bits left over in the last letter do not matter.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

pub(super) fn check(view: &View<'_>, out: &mut Findings<'_>) {
    for (key, config) in &view.registries.configs {
        if let Some(auth) = &config.auth {
            check_auth(view, key, auth, out);
        }
    }
}

fn check_auth(view: &View<'_>, key: &str, fields: &Auth, out: &mut Findings<'_>) {
    let path = KeyPath::of(["configs", key, "auth"]);
    let Auth { username, password, auth, identity_token } = fields;
    let named = [("username", username), ("password", password), ("auth", auth), ("identity_token", identity_token)];
    for (field, value) in named {
        if value.satisfies(|text| text.chars().any(is_refused)) {
            let message = "the value holds a control character, which k3s writes into config.toml in a way containerd \
                           does not read: containerd does not start, and k3s restarts every 5 s; type the value anew";
            out.add(rules::AUTH_CONTROL_CHARACTER, path.child(field), message);
        }
        if value.satisfies(|text| placeholder::is_credential(text)) {
            let message = "the value looks like a placeholder, and k3s replaces none; write the real value";
            out.add(rules::AUTH_PLACEHOLDER, path.child(field), message);
        }
    }
    if key == WILDCARD {
        return;
    }
    if fields.is_empty() {
        let shadow = "k3s writes an empty table, which behaves as no credentials, and a directory for the host, which \
                      takes it out of the wildcard `\"*\"`";
        out.add(rules::AUTH_EMPTY, path, format!("no field is set: {shadow}; fill in, or leave `auth` out"));
        return;
    }
    if !username.is_empty() {
        if password.is_empty() && identity_token.is_empty() && auth.is_empty() {
            let message = "a user name without password: containerd asks for a token as nobody, and basic authentication \
                           fails; write `password` too";
            out.add(rules::AUTH_INCOMPLETE, path.child("username"), message);
        }
        if !identity_token.is_empty() {
            let message = "containerd uses `username` and `password` if there is a `username`, and this token never; \
                           leave out `username` and `password`, or the token";
            out.add(rules::AUTH_FIELD_IGNORED, path.child("identity_token"), message);
        }
        if !auth.is_empty() && !says_the_same(auth, username, password) {
            let message = "containerd uses `username` and `password` if there is a `username`, and this field, which says \
                           something else, never; keep one of the two";
            out.add(rules::AUTH_FIELD_IGNORED, path.child("auth"), message);
        }
        return;
    }
    if !password.is_empty() {
        let message = "a password without `username` is never used; write `username` (for an access token many registries \
                       take any name)";
        out.add(rules::AUTH_INCOMPLETE, path.child("password"), message);
    }
    if !identity_token.is_empty() {
        if !auth.is_empty() {
            let message =
                "containerd uses `identity_token` before this field, which it never looks at; keep one of the two";
            out.add(rules::AUTH_FIELD_IGNORED, path.child("auth"), message);
        }
        return;
    }
    let is_tolerated = view.context.source == Source::OnDisk && auth.satisfies(|text| placeholder::is_credential(text));
    if !auth.is_empty() && !is_tolerated && auth.satisfies(|text| !is_pair(text)) {
        let message = "the field must be base64 of `user:password`: with anything else every pull that needs it fails, and \
                       containerd may write the decoded text to its log; write `username` and `password`, with an access \
                       token as password";
        out.add(rules::AUTH_NOT_BASE64, path.child("auth"), message);
    }
}

/// What Go writes as `\a`, `\v` or `\x..`, which go-toml does not read.
fn is_refused(c: char) -> bool {
    (c < ' ' && !matches!(c, '\u{8}' | '\t' | '\n' | '\u{c}' | '\r')) || c == '\u{7f}'
}

/// Decodes as containerd does: line breaks are passed over.
fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text: Zeroizing<String> = Zeroizing::new(text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect());
    BASE64.decode(text.as_bytes()).ok().map(Zeroizing::new)
}

fn is_pair(text: &str) -> bool {
    decode(text).is_some_and(|decoded| decoded.contains(&b':'))
}

fn says_the_same(auth: &Secret<String>, username: &Secret<String>, password: &Secret<String>) -> bool {
    auth.satisfies(|auth| {
        decode(auth).is_some_and(|decoded| {
            let Some(colon) = decoded.iter().position(|byte| *byte == b':') else { return false };
            let (user, secret) = (&decoded[..colon], &decoded[colon + 1..]);
            let end = secret.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            username.satisfies(|text| text.as_bytes() == user)
                && password.satisfies(|text| text.as_bytes() == &secret[..end])
        })
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::Case;
    use super::super::tests::Subject;
    use super::super::tests::file;
    use super::super::tests::run;
    use super::*;

    fn with(username: &str, password: &str, auth: &str, identity_token: &str) -> Subject {
        file().auth(
            "r.example.com",
            Auth {
                username: username.into(),
                password: password.into(),
                auth: auth.into(),
                identity_token: identity_token.into(),
            },
        )
    }

    pub(crate) fn cases() -> Vec<Case> {
        vec![
            (
                rules::AUTH_CONTROL_CHARACTER,
                with("u", "a\u{7}b", "", ""),
                with("u", "a\t\n\r\u{8}\u{c}é\u{200b}", "", ""),
            ),
            (rules::AUTH_CONTROL_CHARACTER, with("u\u{7f}", "p", "", ""), with("u", "p", "", "")),
            // "user" alone, then "u:p".
            (rules::AUTH_NOT_BASE64, with("", "", "dXNlcg==", ""), with("", "", "dTpw", "")),
            (rules::AUTH_NOT_BASE64, with("", "", "inv_pat_xxx", ""), with("", "", "$DOCKER_TOKEN", "")),
            (rules::AUTH_NOT_BASE64, with("", "", "$DOCKER_TOKEN", "").our_input(), with("u", "p", "token", "")),
            // Padding is needed, a line break is not in the way.
            (rules::AUTH_NOT_BASE64, with("", "", "dTpwcA", ""), with("", "", "dTpw\ncA==", "")),
            (rules::AUTH_EMPTY, with("", "", "", ""), with("u", "p", "", "")),
            (rules::AUTH_INCOMPLETE, with("u", "", "", ""), with("", "", "", "t")),
            (rules::AUTH_INCOMPLETE, with("", "p", "", ""), with("u", "p", "", "")),
            (rules::AUTH_FIELD_IGNORED, with("u", "p", "", "t"), with("", "", "", "t")),
            (rules::AUTH_FIELD_IGNORED, with("u", "p", "dTpx", ""), with("u", "p", "dTpwAA==", "")),
            (rules::AUTH_FIELD_IGNORED, with("", "", "dTpw", "t"), with("", "", "dTpw", "")),
            (rules::AUTH_PLACEHOLDER, with("u", "${PASSWORD}", "", ""), with("robot$k9s", "pa$$", "", "")),
        ]
    }

    #[test]
    fn each_rule_names_its_mistake_and_not_its_near_miss() {
        run(&cases());
    }
}

//! Which credential containerd sends to a host, and what it makes of it (`k3s.md` 5).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::url::percent_encoded;
use crate::docker_config::DOCKER_HUB;
use crate::registries::model::Auth;
use crate::secret::Secret;

/// What is sent. The user is empty for an identity token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    user: Secret<String>,
    secret: Secret<String>,
}

/// `auth` that containerd cannot decode: every pull with it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Undecodable;

/// The entry under which containerd looks, and its name: exactly host and port, and all of Docker Hub's names for that one.
pub(crate) fn entry<'a>(auths: &'a BTreeMap<String, Auth>, authority: &str) -> Option<(&'a str, &'a Auth)> {
    let hub: &[&str] = if authority == DOCKER_HUB { &["docker.io", "index.docker.io"] } else { &[] };
    std::iter::once(authority)
        .chain(hub.iter().copied())
        .find_map(|host| auths.get_key_value(host))
        .map(|(host, auth)| (host.as_str(), auth))
}

impl Credential {
    /// containerd's `ParseAuth`. `None` is anonymous.
    pub(crate) fn of(auth: &Auth) -> Result<Option<Self>, Undecodable> {
        let Auth { username, password, auth, identity_token } = auth;
        if !username.is_empty() {
            // Without a password nothing is sent: the user name alone is dropped.
            let given = Self { user: username.clone(), secret: password.clone() };
            return Ok((!password.is_empty()).then_some(given));
        }
        if !identity_token.is_empty() {
            return Ok(Some(Self { user: Secret::default(), secret: identity_token.clone() }));
        }
        if auth.is_empty() {
            return Ok(None);
        }
        let decoded = Zeroizing::new(STANDARD.decode(auth.expose()).map_err(|_| Undecodable)?);
        let text = std::str::from_utf8(&decoded).map_err(|_| Undecodable)?;
        let (user, secret) = text.split_once(':').ok_or(Undecodable)?;
        let given = Self { user: Secret::from(user), secret: Secret::from(secret.trim_end_matches('\0')) };
        Ok((!given.secret.is_empty()).then_some(given))
    }

    /// The user: empty for an identity token. Some registries take a token in its place.
    pub(crate) const fn user(&self) -> &Secret<String> {
        &self.user
    }

    /// An identity token has no user, and so nothing for `Basic`.
    pub(super) fn has_user(&self) -> bool {
        !self.user.is_empty()
    }

    /// The value of `Authorization`.
    pub(super) fn basic(&self) -> Secret<String> {
        let pair = Zeroizing::new(format!("{}:{}", self.user.expose(), self.secret.expose()));
        Secret::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())))
    }

    /// The form of an OAuth token request.
    pub(super) fn form(&self, service: &str) -> Secret<String> {
        let service = percent_encoded(service);
        let user = Zeroizing::new(percent_encoded(self.user.expose()));
        let secret = Zeroizing::new(percent_encoded(self.secret.expose()));
        let common = format!("client_id=containerd-client&service={service}");
        Secret::new(if self.has_user() {
            format!("{common}&grant_type=password&username={}&password={}", &*user, &*secret)
        } else {
            format!("{common}&grant_type=refresh_token&refresh_token={}", &*secret)
        })
    }

    /// Whether a text of the other side holds what is never shown.
    pub(super) fn is_in(&self, text: &str) -> bool {
        let holds =
            |secret: &Secret<String>| !secret.is_empty() && secret.satisfies(|value| text.contains(value.as_str()));
        // A user of a letter or two is in every text, and none that has to be hidden.
        let is_hidden_user = self.user.satisfies(|user| user.len() > 3);
        let basic = self.basic();
        let packed = basic.satisfies(|basic| text.contains(basic.trim_start_matches("Basic ")));
        packed || holds(&self.secret) || (is_hidden_user && holds(&self.user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(username: &str, password: &str, auth: &str, identity_token: &str) -> Auth {
        Auth {
            username: username.into(),
            password: password.into(),
            auth: auth.into(),
            identity_token: identity_token.into(),
        }
    }

    fn pair(of: &Auth) -> Option<(String, String)> {
        let Credential { user, secret } = Credential::of(of).unwrap()?;
        Some((user.expose().clone(), secret.expose().clone()))
    }

    #[test]
    fn the_first_field_that_is_set_is_sent() {
        let both = |user: &str, secret: &str| Some((user.to_owned(), secret.to_owned()));
        assert_eq!(pair(&auth("u", "p", "eDp5", "t")), both("u", "p"));
        assert_eq!(pair(&auth("", "p", "eDp5", "t")), both("", "t"));
        assert_eq!(pair(&auth("", "p", "eDp5", "")), both("x", "y"));
        assert_eq!(pair(&auth("", "", "eDp5OnoA", "")), both("x", "y:z"), "cut at the first colon, NULs trimmed");
        assert_eq!(pair(&auth("u", "", "", "t")), None);
        assert_eq!(pair(&auth("", "p", "", "")), None);
        for bad in ["%%", "eHk="] {
            assert_eq!(Credential::of(&auth("", "", bad, "")), Err(Undecodable));
        }
    }

    #[test]
    fn a_host_is_looked_up_as_it_is_written_and_docker_hub_by_all_its_names() {
        let auths: BTreeMap<_, _> =
            ["r", "r:5000", "docker.io", "*"].map(|host| (host.to_owned(), auth(host, "p", "", ""))).into();
        let found = |authority: &str| entry(&auths, authority).map(|(_, auth)| auth.username.expose().clone());
        assert_eq!(found("r").as_deref(), Some("r"));
        assert_eq!(found("r:5000").as_deref(), Some("r:5000"));
        assert_eq!(found(DOCKER_HUB).as_deref(), Some("docker.io"));
        assert_eq!(found("r:443"), None);
        assert_eq!(found("s"), None);
    }

    #[test]
    fn what_is_sent_says_the_same_and_its_debug_nothing() {
        let given = Credential::of(&auth("canary&u", "can ary", "", "")).unwrap().unwrap();
        assert_eq!(given.basic().expose(), "Basic Y2FuYXJ5JnU6Y2FuIGFyeQ==");
        assert_eq!(
            given.form("s/1").expose(),
            "client_id=containerd-client&service=s%2F1&grant_type=password&username=canary%26u&password=can%20ary"
        );
        let token = Credential::of(&auth("", "", "", "canary")).unwrap().unwrap();
        assert!(token.form("s").expose().ends_with("&grant_type=refresh_token&refresh_token=canary"));
        assert!(!format!("{given:?} {token:?}").contains("can"));
        assert!(given.is_in("no canary&u here") && !given.is_in("none"));
    }
}

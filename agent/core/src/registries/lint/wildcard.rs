//! `"*"`: under `configs` almost never what it looks like, under `mirrors` less than it looks like.

use super::Findings;
use super::rules;
use super::view::View;
use super::view::WILDCARD;
use super::view::shown;
use crate::registries::document::KeyPath;
use crate::registries::model::HostConfig;

pub(super) fn check(view: &View<'_>, out: &mut Findings<'_>) {
    let registries = view.registries;
    if view.addresses_of(WILDCARD).next().is_some() {
        for (key, HostConfig { auth, tls }) in &registries.configs {
            let is_own = key != WILDCARD && !registries.mirrors.contains_key(key) && !key.contains('/');
            // The entry of an endpoint is there for the wildcard.
            if is_own && (auth.is_some() || tls.is_some()) && view.addresses_under(key).next().is_none() {
                let message = format!(
                    "an entry of its own takes the host out of `mirrors.\"*\"`: its images are pulled from {} itself; if \
                     they should come from the mirror too, add the host under `mirrors` with the wildcard's endpoints",
                    shown(key)
                );
                out.add(rules::WILDCARD_BYPASSED, KeyPath::of(["configs", key]), message);
            }
        }
    }
    let Some(HostConfig { auth, tls }) = registries.configs.get(WILDCARD) else { return };
    let path = KeyPath::of(["configs", WILDCARD]);
    if auth.is_some() {
        let message = "credentials are looked up by host and port, never under `\"*\"`, so these are used nowhere (and \
                       that is good: every registry would get them); write them under each endpoint's host and port";
        out.add(rules::WILDCARD_AUTH, path.child("auth"), message);
    }
    if tls.is_none() {
        return;
    }
    if registries.mirrors.contains_key(WILDCARD) {
        let message = format!(
            "`mirrors.\"*\"` replaces this entry, so its TLS settings are lost; write them under the host and port of the \
             wildcard's endpoint{}",
            view.addresses_of(WILDCARD)
                .next()
                .map(|address| format!(", {}", shown(&address.registry)))
                .unwrap_or_default()
        );
        out.add(rules::WILDCARD_TLS_LOST, path.child("tls"), message);
    } else if !registries.mirrors.is_empty() || registries.configs.len() > 1 {
        let message = "these TLS settings apply only to hosts that stand neither under `mirrors` nor under `configs`, and to \
                       no endpoint; write them under each endpoint's host and port";
        out.add(rules::WILDCARD_TLS_SHADOWED, path.child("tls"), message);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::Case;
    use super::super::tests::file;
    use super::super::tests::run;
    use super::*;

    pub(crate) fn cases() -> Vec<Case> {
        let star = || file().mirror("*", &["https://m.example.com:5000"]);
        vec![
            (rules::WILDCARD_AUTH, file().login("*"), star().login("m.example.com:5000")),
            (rules::WILDCARD_TLS_LOST, star().skip_verify("*"), star().skip_verify("m.example.com:5000")),
            (rules::WILDCARD_BYPASSED, star().login("quay.io"), star().login("m.example.com:5000")),
            (rules::WILDCARD_BYPASSED, star().skip_verify("quay.io"), star().config("quay.io")),
            (
                rules::WILDCARD_TLS_SHADOWED,
                file().skip_verify("*").mirror("docker.io", &["https://m.example.com"]),
                file().skip_verify("*"),
            ),
        ]
    }

    #[test]
    fn each_rule_names_its_mistake_and_not_its_near_miss() {
        run(&cases());
    }

    #[test]
    fn the_endpoint_that_needs_the_settings_is_named() {
        let message =
            file().mirror("*", &["https://m.example.com:5000"]).skip_verify("*").message(rules::WILDCARD_TLS_LOST);
        assert!(message.ends_with("endpoint, `m.example.com:5000`"), "{message}");
    }
}

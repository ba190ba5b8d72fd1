//! Mirrors as a whole: without endpoints, with the same endpoint twice, with the default endpoint in the list.

use std::collections::BTreeMap;

use super::Findings;
use super::rules;
use super::structure::SECTIONS;
use super::view::Address;
use super::view::Endpoint;
use super::view::View;
use super::view::WILDCARD;
use super::view::shown;
use crate::registries::document::KeyPath;
use crate::registries::model::Mirror;

pub(super) fn check(view: &View<'_>, out: &mut Findings<'_>) {
    for (host, Mirror { endpoints, rewrites }) in &view.registries.mirrors {
        if endpoints.is_empty() && !SECTIONS.contains(&host.as_str()) {
            without_endpoint(view, host, !rewrites.is_empty(), out);
        }
    }
    let mut seen: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for endpoint in &view.endpoints {
        let Some(address) = endpoint.address() else { continue };
        // A trailing slash is another URL to k3s and the same one to a registry.
        let url = address.url.trim_end_matches('/');
        match seen.get(&(endpoint.mirror, url)) {
            Some(first) => {
                let message = format!(
                    "the same as endpoint [{first}] once k3s has completed both ({}): it is skipped, or asked twice for \
                     nothing; leave one out",
                    shown(url)
                );
                out.add(rules::ENDPOINT_DUPLICATE, endpoint.path(), message);
            }
            None => {
                seen.insert((endpoint.mirror, url), endpoint.position);
                check_default(view, endpoint, address, out);
            }
        }
    }
}

fn without_endpoint(view: &View<'_>, host: &str, has_rewrites: bool, out: &mut Findings<'_>) {
    let path = KeyPath::of(["mirrors", host]);
    let settings = &view.context.settings;
    if has_rewrites {
        let message = "k3s applies rewrites to endpoints only, and this mirror has none: nothing is rewritten; list the \
                       upstream itself as `endpoint` (and not last, or with `:443`), if its names are to be rewritten";
        out.add(rules::REWRITE_WITHOUT_ENDPOINT, path.child("rewrite"), message);
    }
    if settings.embedded.is_none() {
        let consequence = if settings.disable_default_endpoint {
            "k3s writes nothing for it, so images are pulled from the upstream although default endpoints are disabled"
        } else {
            "k3s writes nothing for it"
        };
        let message = format!(
            "the mirror has no endpoint: {consequence}; only the embedded registry (`--embedded-registry`) gives such an \
             entry a meaning; write `endpoint:` with a list of URLs under it"
        );
        out.add(rules::MIRROR_WITHOUT_ENDPOINT, path, message);
    }
}

/// The upstream in its own list. Useful as an exception from the wildcard, as a name for the embedded registry to share,
/// and where the default endpoint is disabled.
fn check_default(view: &View<'_>, endpoint: &Endpoint<'_>, address: &Address, out: &mut Findings<'_>) {
    let registries = view.registries;
    let settings = &view.context.settings;
    let is_meant =
        registries.mirrors.contains_key(WILDCARD) || settings.embedded.is_some() || settings.disable_default_endpoint;
    let Some(default) = Address::of(endpoint.mirror).ok().filter(|default| default.url == address.url) else { return };
    let has_rewrites = registries.mirrors.get(endpoint.mirror).is_some_and(|mirror| !mirror.rewrites.is_empty());
    let message = match (has_rewrites, endpoint.is_last) {
        (true, true) => {
            "it is the registry's own address and stands last, so k3s takes it for the upstream, and the rewrites are not \
             applied to it; leave it out, or put `:443` behind the host if its names are to be rewritten"
        }
        (true, false) => {
            "it is the registry's own address, and k3s applies the rewrites to it too: the upstream is asked for the \
             rewritten names; move it to the end of the list or leave it out, since k3s asks the upstream last anyway"
        }
        (false, _) if is_meant => return,
        (false, true) if endpoint.position == 0 => {
            "it is the registry's own address and the mirror's only endpoint, so the mirror has no effect; leave it out"
        }
        (false, true) => {
            "it is the registry's own address, which k3s asks last anyway: the line has no effect; leave it out"
        }
        (false, false) => {
            "it is the registry's own address and stands before other endpoints: those are asked only when the upstream \
             fails; move them up, and leave it out, since k3s asks the upstream last anyway"
        }
    };
    // With the default disabled, the last place is how to allow it.
    if !(settings.disable_default_endpoint && endpoint.is_last) {
        out.add(rules::ENDPOINT_IS_DEFAULT, endpoint.path(), format!("{}: {message}", shown(&default.url)));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::Case;
    use super::super::tests::file;
    use super::super::tests::run;
    use super::*;

    pub(crate) fn cases() -> Vec<Case> {
        let hub = |endpoints: &[&str]| file().mirror("docker.io", endpoints);
        vec![
            (rules::MIRROR_WITHOUT_ENDPOINT, hub(&[]), hub(&[]).embedded()),
            (rules::MIRROR_WITHOUT_ENDPOINT, hub(&[]).no_default(), hub(&["https://m.example.com"])),
            (
                rules::REWRITE_WITHOUT_ENDPOINT,
                hub(&[]).rewrite("docker.io", "^a", "b"),
                hub(&["https://m.example.com"]).rewrite("docker.io", "^a", "b"),
            ),
            (
                rules::ENDPOINT_DUPLICATE,
                hub(&["m.example.com", "https://m.example.com/v2"]),
                hub(&["http://m.example.com", "https://m.example.com/v2"]),
            ),
            (
                rules::ENDPOINT_DUPLICATE,
                hub(&["https://m.example.com/v2/", "https://m.example.com/v2"]),
                hub(&["https://m.example.com:443", "https://m.example.com"]),
            ),
            (rules::ENDPOINT_IS_DEFAULT, hub(&["https://registry-1.docker.io"]), hub(&["https://index.docker.io"])),
            (
                rules::ENDPOINT_IS_DEFAULT,
                file().mirror("r.example.com", &["https://r.example.com"]),
                file().mirror("r.example.com", &["https://r.example.com"]).mirror("*", &["https://m.example.com"]),
            ),
            (
                rules::ENDPOINT_IS_DEFAULT,
                hub(&["docker.io", "https://m.example.com"]).rewrite("docker.io", "^a", "b").no_default(),
                hub(&["https://m.example.com", "docker.io"]).no_default(),
            ),
        ]
    }

    #[test]
    fn each_rule_names_its_mistake_and_not_its_near_miss() {
        run(&cases());
    }

    #[test]
    fn each_place_of_the_default_endpoint_has_its_own_consequence() {
        let own = "https://registry-1.docker.io";
        let other = "https://m.example.com";
        for (endpoints, has_rewrites, says) in [
            ([other, own], true, "not applied to it"),
            ([own, other], true, "applies the rewrites to it too"),
            ([other, own], false, "no effect"),
            ([own, other], false, "before other endpoints"),
            ([own, ""], false, "the mirror has no effect"),
        ] {
            let endpoints: Vec<&str> = endpoints.into_iter().filter(|text| !text.is_empty()).collect();
            let file = file().mirror("docker.io", &endpoints);
            let file = if has_rewrites { file.rewrite("docker.io", "^a", "b") } else { file };
            let message = file.message(rules::ENDPOINT_IS_DEFAULT);
            assert!(message.contains(says), "{endpoints:?} {has_rewrites}: {message}");
        }
    }
}

//! Endpoint URLs, each by itself: what k3s ignores, what breaks containerd's file, what containerd drops.

use super::Findings;
use super::Source;
use super::placeholder;
use super::rules;
use super::view::Address;
use super::view::Endpoint;
use super::view::View;
use super::view::shown;

pub(super) fn check(view: &View<'_>, out: &mut Findings<'_>) {
    for endpoint in &view.endpoints {
        check_endpoint(view, endpoint, out);
    }
}

fn check_endpoint(view: &View<'_>, endpoint: &Endpoint<'_>, out: &mut Findings<'_>) {
    let text = endpoint.text;
    if text.is_empty() {
        let message = "an empty item: k3s makes `https:///v2` of it, which names no host; write a URL or leave the line \
                       out";
        out.add(rules::ENDPOINT_EMPTY, endpoint.path(), message);
        return;
    }
    let found = placeholder::in_address(text);
    if let Some(found) = found {
        let message = format!("{} is a placeholder, and k3s replaces none; write the real address", shown(found));
        out.add(rules::PLACEHOLDER, endpoint.path(), message);
    }
    let address = match &endpoint.address {
        Ok(address) => address,
        Err(_) if found.is_some() && view.context.source == Source::OnDisk => return,
        Err(why) => {
            let message = format!(
                "k3s cannot read {} as a URL ({why}), notes that in its log only, and leaves the endpoint out: pulls go \
                 past it; write `https://HOST[:PORT][/PATH]`",
                shown(text)
            );
            out.add(rules::ENDPOINT_INVALID, endpoint.path(), message);
            return;
        }
    };
    if address.url.contains(['"', '\\']) {
        let message = "k3s writes this quote or backslash unescaped into hosts.toml, which containerd then drops as a \
                       whole: pulls go to the upstream without mirrors; leave it out (in a path it may be written as \
                       `%22` or `%5C`)";
        out.add(rules::URL_BREAKS_HOSTS_TOML, endpoint.path(), message);
    }
    if authority(address).contains('@') {
        user_part(view, endpoint, address, out);
    }
    if found.is_none() {
        check_address(endpoint, address, out);
    }
}

fn authority(address: &Address) -> &str {
    let after_scheme = address.url.split_once("://").map_or(address.url.as_str(), |(_, rest)| rest);
    after_scheme.split(['/', '?', '#']).next().unwrap_or_default()
}

/// A password on a node is where it was put; in our input it would be carried to every node, into files that are not
/// 0600 and into logs.
fn user_part(view: &View<'_>, endpoint: &Endpoint<'_>, address: &Address, out: &mut Findings<'_>) {
    let rule = match view.context.source {
        Source::OurInput => rules::ENDPOINT_CREDENTIAL,
        Source::OnDisk => rules::ENDPOINT_USER_PART,
    };
    let message = format!(
        "k3s writes the user part of the URL into hosts.toml and its log, and containerd drops it, so it logs nobody in; \
         leave it out, and put the credential into a Secret, or into `auth` under `configs`, for {}",
        shown(&address.registry)
    );
    out.add(rule, endpoint.path(), message);
}

fn check_address(endpoint: &Endpoint<'_>, address: &Address, out: &mut Findings<'_>) {
    let Address { registry: _, url, scheme, host, port, path } = address;
    let mut add = |rule, message: String| out.add(rule, endpoint.path(), message);
    if scheme != "http" && scheme != "https" {
        add(
            rules::ENDPOINT_SCHEME,
            format!(
                "containerd speaks http and https only and takes `{scheme}:` for a host, so the endpoint always fails; \
                 write `https://` or `http://`"
            ),
        );
        return;
    }
    if url.contains(['?', '#']) {
        add(
            rules::ENDPOINT_QUERY,
            "containerd drops query and fragment of an endpoint; leave out everything from the `?` or `#`".to_owned(),
        );
    }
    if !host.contains(':') || authority(address).contains('[') {
        if port.as_ref().is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
            add(
                rules::ENDPOINT_PORT,
                "the port is not one of 1 to 65535, so the endpoint always fails; correct it".to_owned(),
            );
        }
    } else {
        add(
            rules::ENDPOINT_IPV6_WITHOUT_BRACKETS,
            "an IPv6 address stands in brackets, as in `http://[fd00::5]:5000`; without them the endpoint always fails"
                .to_owned(),
        );
    }
    let has_version = path.split('/').any(|segment| segment == "v2");
    if !has_version {
        let path = path.trim_end_matches('/');
        add(
            rules::ENDPOINT_PATH,
            format!(
                "with a path in the URL containerd does not add `/v2`, so it asks {}, which no registry \
                 answers; for a folder of a registry write `/v2{path}`, or leave the path out and add a rewrite to \
                 `{}/$1`",
                shown(&format!(
                    "{}/NAME/manifests/TAG",
                    url.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/')
                )),
                path.trim_start_matches('/')
            ),
        );
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::Case;
    use super::super::tests::file;
    use super::super::tests::run;
    use super::*;

    pub(crate) fn cases() -> Vec<Case> {
        let to = |endpoint: &str| file().mirror("docker.io", &[endpoint]);
        vec![
            (rules::ENDPOINT_INVALID, to("a:b:c"), to("a.example.com:5000")),
            (rules::ENDPOINT_INVALID, to("https://m.example.com/%zz"), to("https://m.example.com/v2/%C3%A9")),
            (rules::ENDPOINT_INVALID, to("http://${IP}:5000").our_input(), to("http://${IP}:5000")),
            (rules::PLACEHOLDER, to("http://${IP}:5000"), to("http://10.0.0.1:5000")),
            (rules::PLACEHOLDER, to("{{ url }}"), to("url.example.com")),
            (rules::ENDPOINT_EMPTY, to(""), to("m.example.com")),
            (rules::URL_BREAKS_HOSTS_TOML, to("https://m.example.com\""), to("https://m.example.com/v2/a\"b")),
            (rules::URL_BREAKS_HOSTS_TOML, to("https://m.example.com?a=\\d"), to("https://m.example.com/v2/\\d")),
            (rules::ENDPOINT_SCHEME, to("ftp://m.example.com"), to("HTTPS://m.example.com")),
            (rules::ENDPOINT_USER_PART, to("https://u:p@m.example.com"), to("https://m.example.com/v2/@p")),
            (rules::ENDPOINT_CREDENTIAL, to("https://u:p@m.example.com").our_input(), to("https://u:p@m.example.com")),
            (rules::ENDPOINT_QUERY, to("https://m.example.com?x=1"), to("https://m.example.com/v2/x=1")),
            (rules::ENDPOINT_QUERY, to("https://m.example.com#f"), to("https://m.example.com")),
            (rules::ENDPOINT_PORT, to("https://m.example.com:99999"), to("https://m.example.com:9999")),
            (rules::ENDPOINT_PATH, to("https://m.example.com/team"), to("https://m.example.com/v2/team/")),
            (rules::ENDPOINT_PATH, to("https://m.example.com/team/v22"), to("https://m.example.com/team/v2")),
            (rules::ENDPOINT_IPV6_WITHOUT_BRACKETS, to("::1"), to("[::1]:30001")),
        ]
    }

    #[test]
    fn each_rule_names_its_mistake_and_not_its_near_miss() {
        run(&cases());
    }

    #[test]
    fn the_path_that_was_meant_is_named() {
        let message = file().mirror("docker.io", &["https://m.example.com/team/"]).message(rules::ENDPOINT_PATH);
        assert!(message.contains("`https://m.example.com/team/NAME/manifests/TAG`"), "{message}");
        assert!(message.contains("`/v2/team`") && message.contains("`team/$1`"), "{message}");
    }
}

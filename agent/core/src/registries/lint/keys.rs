//! Keys of `mirrors` and `configs`: which make k3s delete directories, which name no registry.

use super::Findings;
use super::Source;
use super::placeholder;
use super::rules;
use super::structure::SECTIONS;
use super::view::Address;
use super::view::HUB_ENDPOINT;
use super::view::View;
use super::view::WILDCARD;
use super::view::shown;
use crate::registries::document::KeyPath;

/// k3s stores the wildcard under this name, and does not guard it.
const RESERVED: &str = "_default";

pub(super) fn check(view: &View<'_>, out: &mut Findings<'_>) {
    for key in view.registries.mirrors.keys() {
        check_key(view, "mirrors", key, out);
    }
    for (key, config) in &view.registries.configs {
        let path = KeyPath::of(["configs", key]);
        if config.auth.is_some() && key.chars().any(|c| c == '\'' || c.is_control()) {
            let message = "k3s writes this key unescaped between '…' into containerd's config.toml; with a quote, line \
                           break or control character in it containerd does not start, and k3s restarts every 5 s; \
                           write the registry's host and port";
            out.add(rules::KEY_BREAKS_CONTAINERD_CONFIG, path, message);
        }
        check_key(view, "configs", key, out);
    }
}

fn check_key(view: &View<'_>, section: &str, key: &str, out: &mut Findings<'_>) {
    let path = KeyPath::of([section, key]);
    if key == WILDCARD || (section == "mirrors" && SECTIONS.contains(&key)) {
        return;
    }
    if matches!(key, "" | "." | "..") {
        let deleted = match key {
            ".." => "all of containerd's configuration with config.toml",
            _ => "the whole directory certs.d",
        };
        let message = format!(
            "k3s makes a directory of this key and empties it first: {deleted} is deleted at every start; write the \
             registry's host (for all registries `\"*\"`), or leave the entry out"
        );
        out.add(rules::KEY_DELETES_DIRECTORIES, path, message);
        return;
    }
    if key.contains('/') {
        let message = format!(
            "a key is a host, or host:port, without scheme and path: k3s makes nested directories of this one, outside \
             of where containerd looks and, with `..`, of certs.d; write {}",
            host_of(key).map_or_else(|| "the registry's host".to_owned(), shown)
        );
        out.add(rules::KEY_WITH_SLASH, path.clone(), message);
    }
    if key.contains('@') {
        let message = "a user part belongs into no key: containerd never looks the entry up, and k3s writes it into names \
                       of directories; write host or host:port, and credentials as `auth` under `configs`";
        out.add(rules::KEY_WITH_USER_PART, path.clone(), message);
    }
    let found = placeholder::in_address(key);
    if let Some(found) = found {
        let message = format!("{} is a placeholder, and k3s replaces none; write the real host", shown(found));
        out.add(rules::PLACEHOLDER, path.clone(), message);
    }
    let is_tolerated = found.is_some() && view.context.source == Source::OnDisk;
    match Address::of(key) {
        Err(why) if !is_tolerated => {
            let message = format!(
                "k3s cannot read {} as a host ({why}), notes that in its log only, and leaves the entry out: pulls go past it; \
                 write host or host:port, without spaces",
                shown(key)
            );
            out.add(rules::KEY_NOT_A_HOST, path.clone(), message);
        }
        Ok(address) if address.url.contains(['"', '\\']) => {
            let message = "k3s writes this key unescaped into hosts.toml, which containerd then drops as a whole: pulls \
                           go to the upstream without mirrors; write the host without quote or backslash";
            out.add(rules::URL_BREAKS_HOSTS_TOML, path.clone(), message);
        }
        Err(_) | Ok(_) => {}
    }
    if key == RESERVED {
        let message = format!(
            "k3s keeps the wildcard under this name: as a key it makes the upstream `https://{RESERVED}/v2`, and beside \
             `\"*\"` either wins by chance; write `\"*\"`"
        );
        out.add(rules::KEY_RESERVED, path, message);
        return;
    }
    if key.contains('*') {
        let message = "only `\"*\"` alone is a wildcard; this is looked up as it stands and matches no host; write each \
                       host, or `\"*\"` under `mirrors`";
        out.add(rules::KEY_PARTIAL_WILDCARD, path, message);
        return;
    }
    if found.is_none() && !key.contains('/') && key.bytes().any(|b| b.is_ascii_uppercase()) {
        let message = format!(
            "hosts are compared letter by letter: this key serves only images and endpoints in the very same spelling; \
             write {}",
            shown(&key.to_ascii_lowercase())
        );
        out.add(rules::KEY_UPPER_CASE, path.clone(), message);
    }
    if !key.contains('/') && !key.starts_with('[') && key.matches(':').count() > 1 {
        let message = "an IPv6 address stands in brackets, as in `\"[fd00::5]:5000\"`; without them host and port cannot \
                       be told apart and the entry is never used";
        out.add(rules::KEY_IPV6_WITHOUT_BRACKETS, path.clone(), message);
    }
    if section == "mirrors" {
        check_name(key, found.is_some(), path, out);
    }
}

/// Names under which no image is ever looked up.
fn check_name(key: &str, is_placeholder: bool, path: KeyPath, out: &mut Findings<'_>) {
    let instead = match key {
        "index.docker.io" | "docker.com" | "hub.docker.com" | "registry.hub.docker.com" | "index.docker.com" => {
            Some("docker.io")
        }
        HUB_ENDPOINT => Some("docker.io"),
        "k8s.io" => Some("registry.k8s.io"),
        "github.com" => Some("ghcr.io"),
        "gitlab.com" => Some("registry.gitlab.com"),
        _ => None,
    };
    if let Some(instead) = instead {
        let message = match key {
            "index.docker.io" => {
                "containerd turns this name of Docker Hub into docker.io before it looks for mirrors, \
                                  so the entry is never used; write `docker.io`"
                    .to_owned()
            }
            _ => format!(
                "images are not named `{key}/…`, so the entry is as good as never used; write `{instead}`, the name that \
                 images have"
            ),
        };
        out.add(rules::MIRROR_NEVER_USED, path, message);
    } else if !key.contains(['.', ':', '/']) && key != "localhost" && key == key.to_ascii_lowercase() && !is_placeholder
    {
        let known = ["docker.io", "ghcr.io", "quay.io", "gcr.io", "registry.k8s.io", "mcr.microsoft.com", "nvcr.io"];
        let instead = match known.into_iter().find(|host| host.split('.').any(|label| label == key)) {
            Some(host) => format!("write `{host}`"),
            None => "write the host as it stands in image names, with its domain or port".to_owned(),
        };
        let message = format!(
            "a host in an image name has a dot or a port: `{key}/app` means `docker.io/{key}/app`, so the entry is never \
             used; {instead}"
        );
        out.add(rules::MIRROR_NICKNAME, path, message);
    }
}

/// The host that was meant by a URL or path as key.
fn host_of(key: &str) -> Option<&str> {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest).trim_start_matches('/');
    let host = rest.split('/').next().unwrap_or_default();
    match host.rsplit_once('@').map_or(host, |(_, host)| host) {
        "index.docker.io" | "docker.io" => Some(HUB_ENDPOINT),
        "" | "." | ".." => None,
        host => Some(host).filter(|host| placeholder::in_address(host).is_none()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::Case;
    use super::super::tests::file;
    use super::super::tests::run;
    use super::*;

    pub(crate) fn cases() -> Vec<Case> {
        let mirror = |host: &str| file().mirror(host, &["https://m.example.com"]);
        vec![
            (rules::KEY_DELETES_DIRECTORIES, mirror(""), mirror("*")),
            (rules::KEY_DELETES_DIRECTORIES, file().login(".."), file().login("..example.com")),
            (rules::KEY_DELETES_DIRECTORIES, mirror("."), mirror("h.example.com")),
            (rules::KEY_WITH_SLASH, file().login("https://h.example.com"), file().login("h.example.com:443")),
            (rules::KEY_WITH_SLASH, mirror("h.example.com/path"), mirror("h.example.com")),
            (rules::KEY_NOT_A_HOST, mirror("a b"), mirror("a.b")),
            (rules::KEY_NOT_A_HOST, mirror("a\0b"), mirror("${HOST}:5000")),
            (rules::KEY_NOT_A_HOST, mirror("${HOST}:5000").our_input(), mirror("$HOST.example.com:5000").our_input()),
            (
                rules::KEY_BREAKS_CONTAINERD_CONFIG,
                file().login("it's.example.com"),
                file().skip_verify("it's.example.com"),
            ),
            (rules::KEY_BREAKS_CONTAINERD_CONFIG, file().login("a\nb"), file().login("a-b.example.com")),
            (rules::URL_BREAKS_HOSTS_TOML, mirror("h.example.com\""), mirror("h.example.com")),
            (rules::PLACEHOLDER, file().login("${HOST}:5000"), file().login("h.example.com:5000")),
            (rules::KEY_WITH_USER_PART, mirror("u:p@r.example.com"), mirror("r.example.com")),
            (rules::KEY_RESERVED, mirror("_default"), mirror("default.example.com")),
            (rules::KEY_PARTIAL_WILDCARD, file().login("*.example.com"), mirror("*")),
            (rules::KEY_UPPER_CASE, mirror("R.example.com"), mirror("r.example.com")),
            (rules::KEY_IPV6_WITHOUT_BRACKETS, mirror("fd00::5"), mirror("[fd00::5]:5000")),
            (rules::MIRROR_NEVER_USED, mirror("index.docker.io"), mirror("docker.io")),
            (rules::MIRROR_NEVER_USED, mirror("k8s.io"), mirror("registry.k8s.io")),
            (rules::MIRROR_NICKNAME, mirror("ghcr"), mirror("registry:5000")),
            (rules::MIRROR_NICKNAME, mirror("myregistry"), file().login("myregistry")),
        ]
    }

    #[test]
    fn each_rule_names_its_mistake_and_not_its_near_miss() {
        run(&cases());
    }

    #[test]
    fn the_host_that_was_meant_is_named() {
        for (key, meant) in [
            ("https://index.docker.io/v2/", "`registry-1.docker.io`"),
            ("https://r.example.com:5000", "`r.example.com:5000`"),
            ("r.example.com/path", "`r.example.com`"),
            ("https://u:p@r.example.com/", "`r.example.com`"),
            ("../x", "the registry's host"),
            ("https://${HOST}", "the registry's host"),
        ] {
            let message = file().login(key).message(rules::KEY_WITH_SLASH);
            assert!(message.ends_with(&format!("write {meant}")), "{key}: {message}");
        }
        let message = file().mirror("ghcr", &["https://ghcr.io"]).message(rules::MIRROR_NICKNAME);
        assert!(message.ends_with("write `ghcr.io`"), "{message}");
    }
}

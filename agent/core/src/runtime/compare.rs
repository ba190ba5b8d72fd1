//! What lies on the node against what k3s makes of a file, host by host and by meaning.

use std::collections::BTreeMap;
use std::fmt;

use super::auth_tables::canonical;
use super::config_toml::auth_tables;
use super::expect::DEFAULT_DIR;
use super::expect::Expected;
use super::hosts_toml::HostSeen;
use super::hosts_toml::HostsSeen;
use super::hosts_toml::header;
use super::hosts_toml::parse;
use super::settings::Program;
use crate::registries::document::without_user_part;
use crate::registries::model::Auth;
use crate::secret::Secret;

/// What k3s wrote for containerd, as it lies on the node.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SeenOnNode {
    /// Directory below `certs.d` to the bytes of its `hosts.toml`; `None` for a directory without one.
    pub hosts: BTreeMap<String, Option<Vec<u8>>>,
    /// `config.toml`; `None` if there is none.
    pub config: Option<Secret<Vec<u8>>>,
}

/// Names the directories only: an endpoint's URL may hold a password.
impl fmt::Debug for SeenOnNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dirs: Vec<_> = self.hosts.keys().map(|dir| without_user_part(dir)).collect();
        f.debug_struct("SeenOnNode").field("hosts", &dirs).field("config", &self.config).finish()
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The directory below `certs.d`, or the host of the auth table; empty where it is the whole `config.toml`.
    pub host: String,
    /// Whether it is about `config.toml` and not about `certs.d`.
    pub about_auth: bool,
    /// What differs, in words. Never shows a credential.
    pub what: String,
}

/// Whether an empty `_default`, which `configs."*".auth` leaves behind, counts: containerd does the same without it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum EmptyDefault {
    Counts,
    IsNothing,
}

/// Where the node differs from what k3s makes of a file. Directories that k3s does not manage are ignored, and so are
/// those whose content is random. A file that lies there byte for byte is right even if containerd cannot read it:
/// that is the lint's business.
pub fn compare(expected: &Expected, seen: &SeenOnNode) -> Vec<Mismatch> {
    let mut all = compare_hosts(expected, seen, EmptyDefault::Counts);
    all.extend(compare_auths(expected, seen));
    all
}

/// Directories of others that keep containerd from what k3s writes: no restart changes them.
///
/// `HOST_PORT_` goes before `HOST:PORT`; a directory without a `hosts.toml`, or with an empty one, hides `_default`.
pub fn shadows(expected: &Expected, seen: &SeenOnNode) -> Vec<Mismatch> {
    let mut all = Vec::new();
    for dir in expected.hosts.keys() {
        let Some((name, port)) = dir.rsplit_once(':').filter(|(name, _)| !name.is_empty()) else { continue };
        let other = format!("{name}_{port}_");
        if seen.hosts.contains_key(&other) {
            let (other, name) = (without_user_part(&other), without_user_part(dir));
            all.push(of_host(dir, format!("certs.d/{other} is there, and containerd looks into it instead of {name}")));
        }
    }
    if expected.hosts.contains_key(DEFAULT_DIR) {
        let is_empty = |bytes: &Option<Vec<u8>>| bytes.as_ref().is_none_or(Vec::is_empty);
        for (dir, _) in seen.hosts.iter().filter(|(dir, bytes)| is_empty(bytes) && !expected.knows(dir)) {
            let name = without_user_part(dir);
            all.push(of_host(dir, format!("certs.d/{name} is there without a hosts.toml, and hides _default")));
        }
    }
    all
}

fn of_host(dir: &str, what: String) -> Mismatch {
    Mismatch { host: without_user_part(dir), about_auth: false, what }
}

pub(crate) fn compare_hosts(expected: &Expected, seen: &SeenOnNode, empty_default: EmptyDefault) -> Vec<Mismatch> {
    let passes = |dir: &str, bytes: &[u8]| {
        empty_default == EmptyDefault::IsNothing
            && dir == DEFAULT_DIR
            && parse(bytes).is_ok_and(|seen| says_nothing(&seen))
    };
    let mut all = Vec::new();
    for (dir, hosts) in &expected.hosts {
        let name = without_user_part(dir);
        let wanted = hosts.to_bytes(expected.program);
        let what = match seen.hosts.get(dir) {
            Some(Some(lies)) => differences(&wanted, lies).map(|what| format!("certs.d/{name}: {what}")),
            Some(None) | None if passes(dir, &wanted) => None,
            Some(None) => Some(format!("certs.d/{name} has no hosts.toml")),
            None => Some(format!("certs.d/{name} is not there")),
        };
        all.extend(what.map(|what| of_host(dir, what)));
    }
    for (dir, bytes) in &seen.hosts {
        let Some(bytes) = bytes else { continue };
        if !expected.knows(dir) && is_managed(bytes, expected.program) && !passes(dir, bytes) {
            let name = without_user_part(dir);
            all.push(of_host(dir, format!("certs.d/{name} is there, and k3s would write none")));
        }
    }
    all
}

/// No host and no setting: as if the file were not there.
fn says_nothing(seen: &HostsSeen) -> bool {
    let all = HostSeen::default();
    match seen.0.as_slice() {
        [] => true,
        [only] => *only == HostSeen { capabilities: only.capabilities, ..all } && only.capabilities.is_all(),
        [_, _, ..] => false,
    }
}

/// Whether the program removes the directory when its host is gone: the header stands there, with its line break.
fn is_managed(bytes: &[u8], program: Program) -> bool {
    bytes.starts_with(header(program).as_bytes())
}

/// How what lies there differs from what is wanted, in words.
fn differences(wanted: &[u8], lies: &[u8]) -> Option<String> {
    if wanted == lies {
        return None;
    }
    let (wanted, lies) = match (parse(wanted), parse(lies)) {
        (Ok(wanted), Ok(lies)) => (wanted.0, lies.0),
        (Ok(_) | Err(_), Err(error)) => return Some(format!("containerd drops its hosts.toml: {error}")),
        (Err(error), Ok(_)) => return Some(format!("containerd would drop what k3s writes: {error}")),
    };
    let names = |hosts: &[HostSeen]| hosts.iter().map(name).collect::<Vec<_>>();
    let (wanted_names, lying_names) = (names(&wanted), names(&lies));
    if wanted_names != lying_names {
        let list = |names: &[String]| if names.is_empty() { "nowhere".to_owned() } else { names.join(", ") };
        return Some(format!("looks at {} instead of {}", list(&lying_names), list(&wanted_names)));
    }
    let differing = wanted.iter().zip(&lies).filter(|(wanted, lies)| wanted != lies);
    let words: Vec<_> = differing
        .map(|(wanted, lies)| format!("{} has another {}", name(wanted), fields(wanted, lies).join(", ")))
        .collect();
    (!words.is_empty()).then(|| words.join("; "))
}

/// The URL without a user part: containerd has dropped that.
fn name(host: &HostSeen) -> String {
    let HostSeen { scheme, host, path, .. } = host;
    if host.is_empty() { "the image's own host".to_owned() } else { format!("{scheme}://{host}{path}") }
}

fn fields(wanted: &HostSeen, lies: &HostSeen) -> Vec<&'static str> {
    let HostSeen { scheme, host, path, capabilities, ca, client, skip_verify, rewrites, headers, dial_timeout } =
        wanted;
    let all = [
        ("URL", (scheme, host, path) != (&lies.scheme, &lies.host, &lies.path)),
        ("capabilities", *capabilities != lies.capabilities),
        ("ca", *ca != lies.ca),
        ("client", *client != lies.client),
        ("skip_verify", *skip_verify != lies.skip_verify),
        ("rewrite", *rewrites != lies.rewrites),
        ("header", *headers != lies.headers),
        ("dial_timeout", *dial_timeout != lies.dial_timeout),
    ];
    all.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

pub(crate) fn compare_auths(expected: &Expected, seen: &SeenOnNode) -> Vec<Mismatch> {
    let whole = |what: String| vec![Mismatch { host: String::new(), about_auth: true, what }];
    let wanted = canonical(&expected.auths.0);
    let Some(config) = &seen.config else { return whole("config.toml is not there".to_owned()) };
    match auth_tables(config.expose()) {
        Err(error) => whole(format!("containerd refuses config.toml: {error}")),
        Ok(None) if wanted.is_empty() => Vec::new(),
        Ok(None) => {
            whole("config.toml has no registry table: a template of its own leaves the credentials out".to_owned())
        }
        Ok(Some(lies)) => differing_auths(&wanted, &canonical(&lies)),
    }
}

/// Where two canonical maps differ: host by host, without a value.
pub(crate) fn differing_auths(wanted: &BTreeMap<String, Auth>, lies: &BTreeMap<String, Auth>) -> Vec<Mismatch> {
    let mut all = Vec::new();
    for host in wanted.keys().chain(lies.keys().filter(|host| !wanted.contains_key(*host))) {
        let name = without_user_part(host);
        let what = match (wanted.get(host), lies.get(host)) {
            (Some(wanted), Some(lies)) if wanted == lies => continue,
            (Some(_), Some(_)) => format!("the credentials of {name} differ"),
            (Some(_), None) => format!("the credentials of {name} are not loaded"),
            (None, Some(_) | None) => format!("credentials of {name} are loaded that the file has not"),
        };
        all.push(Mismatch { host: name, about_auth: true, what });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registries::model::HostConfig;
    use crate::registries::model::Mirror;
    use crate::registries::model::Registries;
    use crate::registries::model::Tls;
    use crate::runtime::auth_tables::ConfigVersion;
    use crate::runtime::expect::expect;
    use crate::runtime::settings::Settings;

    fn expected() -> Expected {
        let mut file = Registries::default();
        let endpoints = vec!["https://u:canary@m.example.com:5000".to_owned()];
        for host in ["docker.io", "*"] {
            file.mirrors.insert(host.to_owned(), Mirror { endpoints: endpoints.clone(), ..Mirror::default() });
        }
        let auth = Some(Auth { username: "u".into(), password: "canary".into(), ..Auth::default() });
        let tls = Some(Tls { ca_file: "/ca.pem".to_owned(), ..Tls::default() });
        file.configs.insert("m.example.com:5000".to_owned(), HostConfig { auth, tls });
        expect(&file, &Settings::plain(Program::K3s))
    }

    fn seen(expected: &Expected) -> SeenOnNode {
        let hosts = expected.hosts.iter().map(|(dir, hosts)| (dir.clone(), Some(hosts.to_bytes(expected.program))));
        let config = expected.auths.to_bytes(ConfigVersion::V3, &Settings::plain(Program::K3s));
        SeenOnNode { hosts: hosts.collect(), config: Some(config) }
    }

    fn text(dir: &str) -> String {
        String::from_utf8(seen(&expected()).hosts[dir].clone().unwrap()).unwrap()
    }

    type Edit = Box<dyn Fn(&mut SeenOnNode)>;

    /// What is said of a node on which `edit` was done; never a credential.
    fn after(edit: impl FnOnce(&mut SeenOnNode)) -> Vec<String> {
        let expected = expected();
        let mut seen = seen(&expected);
        edit(&mut seen);
        let all = compare(&expected, &seen);
        assert!(!format!("{all:?} {seen:?}").contains("canary"));
        all.into_iter().map(|mismatch| mismatch.what).collect()
    }

    fn put(seen: &mut SeenOnNode, dir: &str, text: &str) {
        seen.hosts.insert(dir.to_owned(), Some(text.as_bytes().to_vec()));
    }

    #[test]
    fn what_k3s_wrote_is_no_mismatch() {
        assert_eq!(after(|_| ()), Vec::<String>::new());
    }

    #[test]
    fn another_text_of_the_same_meaning_is_no_mismatch() {
        let other = text("docker.io").replace("capabilities", "# a comment\n capabilities").replace("DO NOT", "do not");
        assert_eq!(after(|seen| put(seen, "docker.io", &other)), Vec::<String>::new());
    }

    #[test]
    fn directories_of_others_are_left_alone() {
        let edit = |seen: &mut SeenOnNode| {
            put(seen, "mine.example.com", "server = \"https://x\"\n");
            put(seen, "old.example.com", "# File generated by rke2. DO NOT EDIT.\n[host]\n");
            put(seen, "crlf.example.com", "# File generated by k3s. DO NOT EDIT.\r\n[host]\n");
            seen.hosts.insert("empty.example.com".to_owned(), None);
        };
        assert_eq!(after(edit), Vec::<String>::new());
    }

    #[test]
    fn each_difference_is_said_in_words() {
        let url = "https://u:canary@m.example.com:5000/v2";
        let rows: [(&str, Edit); 10] = [
            ("certs.d/docker.io is not there", Box::new(|seen| drop(seen.hosts.remove("docker.io")))),
            (
                "certs.d/docker.io has no hosts.toml",
                Box::new(|seen| drop(seen.hosts.insert("docker.io".to_owned(), None))),
            ),
            (
                "certs.d/docker.io: containerd drops its hosts.toml: it is empty",
                Box::new(|seen| put(seen, "docker.io", "")),
            ),
            (
                "certs.d/docker.io: containerd drops its hosts.toml: it is not valid TOML at line 1",
                Box::new(|seen| put(seen, "docker.io", "server = \"canary\\q\"")),
            ),
            (
                "certs.d/docker.io: looks at https://m.example.com:5000/v2 instead of https://m.example.com:5000/v2, \
                 https://registry-1.docker.io/v2",
                Box::new(move |seen| put(seen, "docker.io", &format!("[host.\"{url}\"]\ncapabilities = [\"pull\"]\n"))),
            ),
            (
                "certs.d/docker.io: https://m.example.com:5000/v2 has another ca, skip_verify",
                Box::new(|seen| {
                    put(seen, "docker.io", &text("docker.io").replace("  ca = [\"/ca.pem\"]", "skip_verify = true"));
                }),
            ),
            (
                "certs.d/ghcr.io is there, and k3s would write none",
                Box::new(|seen| put(seen, "ghcr.io", "# File generated by k3s. DO NOT EDIT.\n\n[host]\n")),
            ),
            ("config.toml is not there", Box::new(|seen| seen.config = None)),
            (
                "containerd refuses config.toml: it is not valid TOML at line 1",
                Box::new(|seen| seen.config = Some(Secret::new(b"a = \"canary".to_vec()))),
            ),
            (
                "config.toml has no registry table: a template of its own leaves the credentials out",
                Box::new(|seen| seen.config = Some(Secret::new(b"version = 3\n".to_vec()))),
            ),
        ];
        for (what, edit) in rows {
            assert_eq!(after(|seen| edit(seen)), [what]);
        }
    }

    #[test]
    fn credentials_are_compared_host_by_host() {
        let table = |host: &str, password: &str| {
            let text = format!(
                "[plugins.'io.containerd.cri.v1.images'.registry.configs.'{host}'.auth]\nusername = 'u'\npassword = '{password}'"
            );
            move |seen: &mut SeenOnNode| seen.config = Some(Secret::new(text.into_bytes()))
        };
        assert_eq!(after(table("m.example.com:5000", "canary")), Vec::<String>::new());
        assert_eq!(after(table("m.example.com:5000", "canary-2")), ["the credentials of m.example.com:5000 differ"]);
        assert_eq!(
            after(table("m.example.com", "canary")),
            [
                "the credentials of m.example.com:5000 are not loaded",
                "credentials of m.example.com are loaded that the file has not"
            ]
        );
    }

    #[test]
    fn a_directory_that_goes_before_ours_is_named_apart() {
        let expected = expected();
        let mut seen = seen(&expected);
        assert_eq!(shadows(&expected, &seen), []);
        seen.hosts.insert("m.example.com_5000_".to_owned(), Some(b"[host]\n".to_vec()));
        seen.hosts.insert("quay.io".to_owned(), None);
        seen.hosts.insert("ghcr.io".to_owned(), Some(Vec::new()));
        let words: Vec<_> = shadows(&expected, &seen).into_iter().map(|mismatch| mismatch.what).collect();
        assert_eq!(
            words,
            [
                "certs.d/m.example.com_5000_ is there, and containerd looks into it instead of m.example.com:5000",
                "certs.d/ghcr.io is there without a hosts.toml, and hides _default",
                "certs.d/quay.io is there without a hosts.toml, and hides _default",
            ]
        );
        assert_eq!(compare(&expected, &seen), []);
    }

    #[test]
    fn a_directory_of_others_is_named_without_its_user_part() {
        let mut file = Registries::default();
        file.mirrors
            .insert("u:canary@r:5000".into(), Mirror { endpoints: vec!["https://m".into()], ..Mirror::default() });
        let expected = expect(&file, &Settings::plain(Program::K3s));
        let hosts = [("u:canary@r_5000_".to_owned(), None)].into_iter().collect();
        let all = shadows(&expected, &SeenOnNode { hosts, config: None });
        let words: Vec<_> = all.iter().map(|mismatch| mismatch.what.as_str()).collect();
        assert_eq!(words, ["certs.d/…@r_5000_ is there, and containerd looks into it instead of …@r:5000"]);
    }
}

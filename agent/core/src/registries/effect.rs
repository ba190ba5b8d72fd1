//! What a change costs: nothing, a file, a file that containerd reads at its next pull, or a restart.

use std::collections::BTreeMap;
use std::fmt;

use super::model::Registries;
use crate::runtime::auth_tables::auth_map;
use crate::runtime::compare::EmptyDefault;
use crate::runtime::compare::Mismatch;
use crate::runtime::compare::SeenOnNode;
use crate::runtime::compare::compare_auths;
use crate::runtime::compare::compare_hosts;
use crate::runtime::compare::differing_auths;
use crate::runtime::endpoint::is_local;
use crate::runtime::expect::Expected;
use crate::runtime::expect::dir_of;
use crate::runtime::expect::expect;
use crate::runtime::settings::EmbeddedRegistry;
use crate::runtime::settings::Settings;

/// What it costs that the runtime holds what is desired; the dearer the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// The runtime holds the same.
    None,
    /// Only the content of a TLS file differs: containerd reads it at each pull.
    Files,
    /// Only `certs.d` differs: containerd reads it at each pull, k3s writes it at its start.
    Live,
    /// `config.toml` differs, or what is loaded is unknown: containerd reads it at its start.
    Restart,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Files => "files",
            Self::Live => "live",
            Self::Restart => "restart",
        })
    }
}

/// What the runtime holds.
#[derive(Clone, Debug)]
pub enum Loaded<'a> {
    /// What k3s made of this file at its last start.
    Known(&'a Registries),
    /// Nobody can say, and why.
    Unknown(String),
    /// What k3s wrote, newer than its last start.
    FromNode(&'a SeenOnNode),
}

/// An effect and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What it costs.
    pub effect: Effect,
    /// Why, in one sentence without a credential.
    pub why: String,
}

/// The reasons that are named; the rest is counted.
const NAMED: usize = 3;

/// Judges a change by what the runtime would hold. `files_differ` says that the content of a TLS file differs.
pub fn effect(loaded: Loaded<'_>, desired: &Registries, settings: &Settings, files_differ: bool) -> Verdict {
    let mut reasons = match loaded {
        Loaded::Unknown(why) => vec![(Effect::Restart, why)],
        Loaded::Known(known) if known == desired => Vec::new(),
        Loaded::Known(known) => from_known(known, desired, settings),
        Loaded::FromNode(seen) => from_node(seen, desired, settings),
    };
    if files_differ {
        reasons.push((Effect::Files, "the content of a TLS file differs".to_owned()));
    }
    reasons.sort_by_key(|(effect, _)| std::cmp::Reverse(*effect));
    let Some((effect, _)) = reasons.first() else {
        return Verdict { effect: Effect::None, why: "the runtime holds the same".to_owned() };
    };
    let mut words: Vec<String> = reasons.iter().take(NAMED).map(|(_, why)| why.clone()).collect();
    if reasons.len() > NAMED {
        words.push(format!("and {} more", reasons.len() - NAMED));
    }
    Verdict { effect: *effect, why: words.join("; ") }
}

fn from_known(known: &Registries, desired: &Registries, settings: &Settings) -> Vec<(Effect, String)> {
    let before = expect(known, settings);
    let after = expect(desired, settings);
    let seen = SeenOnNode { hosts: written(&before), config: None };
    let mut reasons = graded(differing_auths(&auth_map(desired), &auth_map(known)));
    reasons.extend(graded(compare_hosts(&without_random(&after, &before), &seen, EmptyDefault::IsNothing)));
    // The same keys may mean another throw of the dice; what the last one gave is not known.
    let random = before.random.union(&after.random).map(|dir| super::document::without_user_part(dir));
    reasons.extend(random.map(|dir| (Effect::Live, format!("what k3s writes into certs.d/{dir} is random"))));
    if settings.embedded.is_some() {
        // A local host is never shared, nor is a key that is no host.
        let is_shared = |key: &&String| !is_local(key) && after.knows(&dir_of(key));
        let new = desired.mirrors.keys().filter(|key| !known.mirrors.contains_key(*key)).filter(is_shared);
        reasons.extend(new.map(|key| not_shared(key)));
    }
    reasons
}

/// What k3s has written, directory by directory.
fn written(expected: &Expected) -> BTreeMap<String, Option<Vec<u8>>> {
    expected.hosts.iter().map(|(dir, hosts)| (dir.clone(), Some(hosts.to_bytes(expected.program)))).collect()
}

/// The directories that both sides can tell: those random on either are judged apart.
fn without_random(after: &Expected, before: &Expected) -> Expected {
    let mut after = after.clone();
    after.hosts.retain(|dir, _| !before.random.contains(dir));
    after.random.extend(before.random.iter().cloned());
    after
}

/// A random directory is not judged here: whatever lies there, k3s wrote, and a restart would only throw again.
fn from_node(seen: &SeenOnNode, desired: &Registries, settings: &Settings) -> Vec<(Effect, String)> {
    let after = expect(desired, settings);
    let mut reasons = graded(compare_auths(&after, seen));
    reasons.extend(graded(compare_hosts(&after, seen, EmptyDefault::IsNothing)));
    if let Some(EmbeddedRegistry { mirror_addr }) = &settings.embedded {
        let endpoint = format!("\"https://{mirror_addr}/v2\"");
        let is_new = |key: &&String| {
            let dir = dir_of(key);
            let lies = seen.hosts.get(&dir).cloned().flatten().unwrap_or_default();
            !is_local(key) && after.hosts.contains_key(&dir) && !String::from_utf8_lossy(&lies).contains(&endpoint)
        };
        reasons.extend(desired.mirrors.keys().filter(is_new).map(|key| not_shared(key)));
    }
    reasons
}

fn not_shared(key: &str) -> (Effect, String) {
    let name = super::document::without_user_part(key);
    (Effect::Restart, format!("{name} is new, and the embedded registry learns what it shares at its start"))
}

fn graded(mismatches: Vec<Mismatch>) -> Vec<(Effect, String)> {
    let grade = |about_auth| if about_auth { Effect::Restart } else { Effect::Live };
    mismatches.into_iter().map(|Mismatch { about_auth, what, .. }| (grade(about_auth), what)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::registries::model::Auth;
    use crate::registries::model::HostConfig;
    use crate::registries::model::Mirror;
    use crate::registries::model::Tls;
    use crate::runtime::auth_tables::ConfigVersion;
    use crate::runtime::settings::Program;

    /// A file with a mirror, a rewrite, a credential and a CA.
    fn file() -> Registries {
        let mut file = Registries::default();
        set_endpoints(&mut file, "docker.io", &["https://m.example.com", "n.example.com:5000"]);
        mirror(&mut file, "docker.io").rewrites.insert("^library/(.*)".to_owned(), "l/$1".to_owned());
        config(&mut file, "m.example.com").auth = Some(auth("u", "canary"));
        config(&mut file, "m.example.com").tls = Some(Tls { ca_file: "/ca.pem".to_owned(), ..Tls::default() });
        file
    }

    fn mirror<'f>(file: &'f mut Registries, host: &str) -> &'f mut Mirror {
        file.mirrors.entry(host.to_owned()).or_default()
    }

    fn set_endpoints(file: &mut Registries, host: &str, endpoints: &[&str]) {
        mirror(file, host).endpoints = endpoints.iter().map(|url| (*url).to_owned()).collect();
    }

    fn config<'f>(file: &'f mut Registries, host: &str) -> &'f mut HostConfig {
        file.configs.entry(host.to_owned()).or_default()
    }

    fn auth(username: &str, password: &str) -> Auth {
        Auth { username: username.into(), password: password.into(), ..Auth::default() }
    }

    fn plain() -> Settings {
        Settings::plain(Program::K3s)
    }

    fn embedded() -> Settings {
        Settings { embedded: Some(EmbeddedRegistry { mirror_addr: "127.0.0.1:6443".to_owned() }), ..plain() }
    }

    fn disabled() -> Settings {
        Settings { disable_default_endpoint: true, ..plain() }
    }

    fn on_node(file: &Registries, settings: &Settings) -> SeenOnNode {
        let expected = expect(file, settings);
        let config = Some(expected.auths.to_bytes(ConfigVersion::V3, settings));
        SeenOnNode { hosts: written(&expected), config }
    }

    /// The effect of an edit, asked of the file and of the node, there and back; they must agree.
    fn of_edit(settings: &Settings, edit: impl FnOnce(&mut Registries)) -> Effect {
        let before = file();
        let mut after = before.clone();
        edit(&mut after);
        assert_ne!(before, after, "an edit that edits nothing tests nothing");
        let known = effect(Loaded::Known(&before), &after, settings, false);
        let seen = effect(Loaded::FromNode(&on_node(&before, settings)), &after, settings, false);
        assert_eq!(known.effect, seen.effect, "{known:?} {seen:?}");
        assert!(!format!("{known:?} {seen:?}").contains("canary"));
        known.effect
    }

    #[test]
    fn writing_an_endpoint_another_way_changes_nothing() {
        for same in [
            &["m.example.com", "n.example.com:5000"][..],
            &["https://m.example.com/", "n.example.com:5000"],
            &["https://m.example.com/v2", "https://n.example.com:5000/v2"],
            &["HTTPS://m.example.com", "n.example.com:5000"],
        ] {
            assert_eq!(of_edit(&plain(), |file| set_endpoints(file, "docker.io", same)), Effect::None, "{same:?}");
        }
    }

    #[test]
    fn an_exact_duplicate_changes_nothing() {
        let twice = ["https://m.example.com", "n.example.com:5000", "https://m.example.com"];
        assert_eq!(of_edit(&plain(), |file| set_endpoints(file, "docker.io", &twice)), Effect::None);
    }

    #[test]
    fn the_default_endpoint_listed_last_changes_nothing_unless_it_is_disabled() {
        let with_default = ["https://m.example.com", "n.example.com:5000", "docker.io"];
        let edit = |file: &mut Registries| set_endpoints(file, "docker.io", &with_default);
        assert_eq!(of_edit(&plain(), edit), Effect::None);
        assert_eq!(of_edit(&disabled(), edit), Effect::Live);
    }

    #[test]
    fn rewrites_without_endpoints_change_nothing() {
        let edit = |file: &mut Registries| {
            mirror(file, "ghcr.io").rewrites.insert("a".to_owned(), "b".to_owned());
        };
        assert_eq!(of_edit(&plain(), edit), Effect::None);
    }

    #[test]
    fn a_config_that_says_nothing_changes_nothing_unless_it_brings_a_default_endpoint_back() {
        assert_eq!(of_edit(&plain(), |file| *config(file, "r.example.com") = HostConfig::default()), Effect::None);
        let edit = |file: &mut Registries| *config(file, "docker.io") = HostConfig::default();
        assert_eq!(of_edit(&plain(), edit), Effect::None);
        assert_eq!(of_edit(&disabled(), edit), Effect::Live);
    }

    #[test]
    fn credentials_of_the_wildcard_change_nothing() {
        let edit = |file: &mut Registries| config(file, "*").auth = Some(auth("u", "p"));
        assert_eq!(of_edit(&plain(), edit), Effect::None);
        let mut with = file();
        edit(&mut with);
        let back = effect(Loaded::FromNode(&on_node(&with, &plain())), &file(), &plain(), false);
        assert_eq!(back.effect, Effect::None, "{back:?}");
    }

    #[test]
    fn a_mirror_without_endpoints_changes_nothing_unless_images_are_shared() {
        let edit = |file: &mut Registries| *mirror(file, "ghcr.io") = Mirror::default();
        assert_eq!(of_edit(&plain(), edit), Effect::None);
        assert_eq!(of_edit(&embedded(), edit), Effect::Restart);
    }

    #[test]
    fn empty_maps_are_not_nothing() {
        assert_eq!(of_edit(&plain(), |file| config(file, "r").tls = Some(Tls::default())), Effect::Live);
        assert_eq!(of_edit(&plain(), |file| config(file, "r").auth = Some(Auth::default())), Effect::Live);
    }

    #[test]
    fn what_only_certs_d_holds_is_live() {
        assert_eq!(of_edit(&plain(), |file| set_endpoints(file, "docker.io", &["https://o"])), Effect::Live);
        let other_order = ["n.example.com:5000", "https://m.example.com"];
        assert_eq!(of_edit(&plain(), |file| set_endpoints(file, "docker.io", &other_order)), Effect::Live);
        assert_eq!(of_edit(&plain(), |file| mirror(file, "docker.io").rewrites.clear()), Effect::Live);
        assert_eq!(of_edit(&plain(), |file| config(file, "m.example.com").tls = None), Effect::Live);
        assert_eq!(of_edit(&plain(), |file| set_endpoints(file, "ghcr.io", &["https://o"])), Effect::Live);
        assert_eq!(of_edit(&plain(), |file| file.mirrors.clear()), Effect::Live);
        assert_eq!(of_edit(&embedded(), |file| set_endpoints(file, "docker.io", &["https://o"])), Effect::Live);
    }

    #[test]
    fn credentials_cost_a_restart() {
        assert_eq!(of_edit(&plain(), |file| config(file, "m.example.com").auth = None), Effect::Restart);
        assert_eq!(
            of_edit(&plain(), |file| config(file, "m.example.com").auth = Some(auth("u", "q"))),
            Effect::Restart
        );
        assert_eq!(of_edit(&plain(), |file| config(file, "r").auth = Some(auth("u", "p"))), Effect::Restart);
        assert_eq!(of_edit(&plain(), |file| file.configs.clear()), Effect::Restart);
    }

    #[test]
    fn a_new_mirror_costs_a_restart_where_images_are_shared() {
        assert_eq!(of_edit(&embedded(), |file| set_endpoints(file, "ghcr.io", &["https://o"])), Effect::Restart);
        // Its directory is there already, for its TLS settings, but without the embedded registry.
        assert_eq!(of_edit(&embedded(), |file| set_endpoints(file, "m.example.com", &["https://o"])), Effect::Restart);
        assert_eq!(of_edit(&embedded(), |file| file.mirrors.clear()), Effect::Live);
        // A local host is not shared.
        assert_eq!(of_edit(&embedded(), |file| set_endpoints(file, "localhost:5000", &["https://o"])), Effect::Live);
    }

    #[test]
    fn the_content_of_a_tls_file_is_a_matter_of_files_and_less_than_all_else() {
        let file = file();
        assert_eq!(effect(Loaded::Known(&file), &file, &plain(), true).effect, Effect::Files);
        let seen = on_node(&file, &plain());
        assert_eq!(effect(Loaded::FromNode(&seen), &file, &plain(), true).effect, Effect::Files);
        let verdict = effect(Loaded::Known(&Registries::default()), &file, &plain(), true);
        assert_eq!(verdict.effect, Effect::Restart);
        assert!(verdict.why.starts_with("the credentials of m.example.com are not loaded; "), "{}", verdict.why);
    }

    #[test]
    fn what_is_not_known_costs_a_restart() {
        let file = file();
        assert_eq!(effect(Loaded::Unknown("no record".to_owned()), &file, &plain(), false).why, "no record");
        let mut seen = on_node(&file, &plain());
        seen.config = None;
        assert_eq!(effect(Loaded::FromNode(&seen), &file, &plain(), false).effect, Effect::Restart);
        seen.config = Some(crate::secret::Secret::new(b"password = \"canary".to_vec()));
        let verdict = effect(Loaded::FromNode(&seen), &file, &plain(), false);
        assert_eq!(verdict.effect, Effect::Restart);
        assert!(!verdict.why.contains("canary"));
    }

    #[test]
    fn a_throw_of_dice_is_not_repeated_for_its_own_sake() {
        let mut both = file();
        set_endpoints(&mut both, "*", &["https://a"]);
        set_endpoints(&mut both, "_default", &["https://b"]);
        assert_eq!(effect(Loaded::Known(&both), &both, &plain(), false).effect, Effect::None);
        assert_eq!(effect(Loaded::FromNode(&on_node(&both, &plain())), &both, &plain(), false).effect, Effect::None);
        assert_eq!(effect(Loaded::Known(&file()), &both, &plain(), false).effect, Effect::Live);
        assert_eq!(effect(Loaded::Known(&both), &file(), &plain(), false).effect, Effect::Live);
    }

    fn small_files() -> impl Strategy<Value = Registries> {
        let host = || prop::sample::select(vec!["docker.io", "registry-1.docker.io", "*", "r", "localhost:5000"]);
        let url =
            prop::sample::select(vec!["docker.io", "https://r", "r/", "https://r/p", "%zz", "", "localhost:5000"]);
        let urls = prop::collection::vec(url.prop_map(str::to_owned), 0..4);
        let rewrites =
            prop::collection::btree_map(prop::sample::select(vec!["^a", "b"]).prop_map(str::to_owned), "[x-z]", 0..2);
        let mirrors = (urls, rewrites).prop_map(|(endpoints, rewrites)| Mirror { endpoints, rewrites });
        let auths = prop::option::of(("[u-v]?", "[p-q]?").prop_map(|(name, password)| auth(&name, &password)));
        let tls = prop::option::of(any::<bool>().prop_map(|skip| Tls { insecure_skip_verify: skip, ..Tls::default() }));
        let configs = (auths, tls).prop_map(|(auth, tls)| HostConfig { auth, tls });
        let mirrors = prop::collection::btree_map(host().prop_map(str::to_owned), mirrors, 0..3);
        let configs = prop::collection::btree_map(host().prop_map(str::to_owned), configs, 0..3);
        (mirrors, configs).prop_map(|(mirrors, configs)| Registries { mirrors, configs })
    }

    proptest! {
        #[test]
        fn a_record_and_the_node_tell_the_same(before in small_files(), after in small_files(), which in 0_usize..3) {
            let settings = [plain(), embedded(), disabled()][which].clone();
            let known = effect(Loaded::Known(&before), &after, &settings, false);
            let seen = effect(Loaded::FromNode(&on_node(&before, &settings)), &after, &settings, false);
            prop_assert_eq!(seen.effect, known.effect, "{:?} {:?}", known, seen);
            let same = effect(Loaded::FromNode(&on_node(&after, &settings)), &after, &settings, false);
            prop_assert_eq!(same.effect, Effect::None, "{:?}", same);
        }
    }

    #[test]
    fn a_key_of_a_random_directory_is_named_without_its_user_part() {
        let mut before = Registries::default();
        for host in ["u:canary@r", "./u:canary@r"] {
            set_endpoints(&mut before, host, &["https://m"]);
        }
        let mut after = before.clone();
        set_endpoints(&mut after, "s", &["https://m"]);
        let Verdict { why, .. } = effect(Loaded::Known(&before), &after, &plain(), false);
        assert!(why.contains("certs.d/…@r is random"), "{why}");
    }
}

//! Builds small documents for the rules' tests, and checks that no rule is without one.

use std::collections::BTreeSet;

use super::*;
use crate::registries::document::Note;
use crate::registries::document::NoteKind;
use crate::registries::finding::Severity;
use crate::registries::model::Auth;
use crate::registries::model::Tls;
use crate::runtime::settings::EmbeddedRegistry;
use crate::runtime::settings::Program;

/// A document and what is known around it: on disk, of k3s, without flags.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    document: Document,
    context: Context,
}

pub(crate) fn file() -> Subject {
    let settings = Settings::plain(Program::K3s);
    Subject {
        document: Document::default(),
        context: Context { settings, source: Source::OnDisk, files: FileFacts::new() },
    }
}

impl Subject {
    pub(crate) fn mirror(mut self, host: &str, endpoints: &[&str]) -> Self {
        let mirror = self.document.registries.mirrors.entry(host.to_owned()).or_default();
        mirror.endpoints.extend(endpoints.iter().map(|text| (*text).to_owned()));
        self
    }

    pub(crate) fn rewrite(mut self, host: &str, pattern: &str, replacement: &str) -> Self {
        let mirror = self.document.registries.mirrors.entry(host.to_owned()).or_default();
        mirror.rewrites.insert(pattern.to_owned(), replacement.to_owned());
        self
    }

    pub(crate) fn config(mut self, host: &str) -> Self {
        self.document.registries.configs.entry(host.to_owned()).or_default();
        self
    }

    pub(crate) fn auth(mut self, host: &str, auth: Auth) -> Self {
        self.document.registries.configs.entry(host.to_owned()).or_default().auth = Some(auth);
        self
    }

    pub(crate) fn login(self, host: &str) -> Self {
        self.auth(host, Auth { username: "u".into(), password: "p".into(), ..Auth::default() })
    }

    pub(crate) fn tls(mut self, host: &str, tls: Tls) -> Self {
        self.document.registries.configs.entry(host.to_owned()).or_default().tls = Some(tls);
        self
    }

    pub(crate) fn skip_verify(self, host: &str) -> Self {
        self.tls(host, Tls { insecure_skip_verify: true, ..Tls::default() })
    }

    pub(crate) fn ca(self, host: &str, ca_file: &str) -> Self {
        self.tls(host, Tls { ca_file: ca_file.to_owned(), ..Tls::default() })
    }

    pub(crate) fn note(mut self, kind: NoteKind, keys: &[&str]) -> Self {
        let path = KeyPath::of(keys.iter().copied());
        self.document.notes.push(Note { kind, path, at: Mark { line: 1, column: 1 } });
        self
    }

    pub(crate) fn unknown(self, keys: &[&str], nearest: Option<&'static str>) -> Self {
        self.note(NoteKind::UnknownKey { nearest }, keys)
    }

    pub(crate) fn mark(mut self, keys: &[&str], line: u32) -> Self {
        self.document.marks.insert(KeyPath::of(keys.iter().copied()), Mark { line, column: 1 });
        self
    }

    pub(crate) fn our_input(mut self) -> Self {
        self.context.source = Source::OurInput;
        self
    }

    pub(crate) fn no_default(mut self) -> Self {
        self.context.settings.disable_default_endpoint = true;
        self
    }

    pub(crate) fn embedded(mut self) -> Self {
        self.context.settings.embedded = Some(EmbeddedRegistry { mirror_addr: "127.0.0.1:6443".to_owned() });
        self
    }

    pub(crate) fn fact(mut self, path: &str, fact: FileFact) -> Self {
        self.context.files.insert(path.to_owned(), fact);
        self
    }

    pub(crate) fn lint(&self) -> Vec<Finding> {
        lint(&self.document, &self.context)
    }

    pub(crate) fn has(&self, rule: Rule) -> bool {
        self.lint().iter().any(|finding| finding.rule == rule.id)
    }

    /// The message of the only finding of a rule.
    pub(crate) fn message(&self, rule: Rule) -> String {
        let mut found: Vec<Finding> = self.lint().into_iter().filter(|finding| finding.rule == rule.id).collect();
        assert_eq!(found.len(), 1, "{found:#?}");
        found.remove(0).message
    }
}

/// A rule, a file that it must name, and one much like it that it must not.
pub(crate) type Case = (Rule, Subject, Subject);

pub(crate) fn run(cases: &[Case]) {
    for (rule, hit, near) in cases {
        assert!(hit.has(*rule), "{} does not name its mistake: {:#?}", rule.id, hit.lint());
        assert!(!near.has(*rule), "{} names a good file: {:#?}", rule.id, near.lint());
    }
}

#[test]
fn every_rule_has_a_mistake_that_it_names_and_a_near_miss() {
    let cases = [
        structure::tests::cases(),
        limits::tests::cases(),
        keys::tests::cases(),
        mirrors::tests::cases(),
        endpoints::tests::cases(),
        names::tests::cases(),
        placement::tests::cases(),
        credentials::tests::cases(),
        tls::tests::cases(),
        rewrites::tests::cases(),
        wildcard::tests::cases(),
    ]
    .concat();
    let shown: BTreeSet<&str> = cases.iter().map(|(rule, _, _)| rule.id).chain([rules::UNREADABLE.id]).collect();
    let all: BTreeSet<&str> = rules::ALL.iter().map(|rule| rule.id).collect();
    assert_eq!(shown, all);
}

#[test]
fn findings_stand_in_the_order_of_the_text() {
    let found = file()
        .mirror("z.example.com", &["ftp://m.example.com"])
        .mark(&["mirrors", "z.example.com"], 2)
        .mirror("a", &[])
        .mark(&["mirrors", "a"], 5)
        .mark(&["configs"], 1)
        .lint();
    let rules: Vec<_> = found.iter().map(|finding| (finding.at.map(|at| at.line), finding.rule)).collect();
    assert_eq!(
        rules,
        [
            (Some(1), "empty-section"),
            (Some(2), "endpoint-scheme"),
            (Some(5), "mirror-nickname"),
            (Some(5), "mirror-without-endpoint")
        ]
    );
}

/// The five installations of the product's scenarios, as they should be written.
#[test]
fn the_good_files_of_the_five_installations_have_no_error() {
    let hosts = ["registry.bto.bar", "registry.k3s.bto.bar", "gitea.k3s.bto.bar"];
    let a = hosts.into_iter().fold(file(), |file, host| file.skip_verify(host).login(host));
    let a_mirrored =
        a.clone().mirror("ghcr.io", &["https://registry.bto.bar"]).rewrite("ghcr.io", "^jaybrto/(.*)", "jay/$1");
    let b = file().login("gitea.treytartt.com");
    let c = file().login("gitea.coulomb.social");
    let d = file().mirror("registry.gitea.svc.cluster.local:5000", &["http://10.43.17.5:5000"]);
    let e = file().mirror("localhost:3000", &["http://127.0.0.1:30080"]).login("127.0.0.1:30080");
    for (name, good) in [("a", &a), ("b", &b), ("c", &c), ("d", &d), ("e", &e)] {
        assert_eq!(good.lint(), [], "{name}");
        assert_eq!(good.clone().our_input().lint(), [], "{name}");
    }
    let found = a_mirrored.lint();
    assert!(found.iter().all(|finding| finding.severity == Severity::Warning), "{found:#?}");
    assert_eq!(
        found.iter().map(|finding| finding.rule).collect::<BTreeSet<_>>(),
        BTreeSet::from(["config-realm-host"])
    );
}

#[test]
fn no_finding_shows_a_credential() {
    const CANARY: &str = "canary-hunter2";
    let secret = |text: String| crate::secret::Secret::new(text);
    let base64 = "Y2FuYXJ5LWh1bnRlcjI=";
    let found: Vec<Finding> = [
        Auth { username: secret(format!("{CANARY}\u{1}")), auth: secret(base64.to_owned()), ..Auth::default() },
        Auth { password: secret(format!("${{{CANARY}}}")), ..Auth::default() },
        Auth { auth: secret(CANARY.to_owned()), ..Auth::default() },
        Auth { auth: secret(base64.to_owned()), ..Auth::default() },
        Auth { username: secret(CANARY.to_owned()), identity_token: secret(CANARY.to_owned()), ..Auth::default() },
        Auth { password: secret(CANARY.repeat(10_000)), ..Auth::default() },
    ]
    .into_iter()
    .flat_map(|auth| {
        let url = format!("https://u:{CANARY}@m.example.com:0/p?token={CANARY}");
        let bad = format!("https://u:{CANARY}@[::/?t={CANARY}");
        let key = format!("https://u:{CANARY}@m.example.com/v2");
        let file =
            file().mirror("docker.io", &[&url, &url, &bad, "https://m.example.com:0"]).auth("m.example.com", auth);
        file.mirror(&key, &[]).login(&key).our_input().lint()
    })
    .collect();
    assert!(found.len() > 30, "{}", found.len());
    for finding in found {
        let text = format!("{finding} {}", finding.message);
        assert!(!text.contains(CANARY) && !text.contains(base64), "{text}");
    }
}

//! The lint on real people's files, read as k3s reads them: every mistake is named, and a file without one is let
//! through.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

use agent_core::registries::finding::Finding;
use agent_core::registries::finding::Severity;
use agent_core::registries::lint;
use agent_core::registries::lint::Context;
use agent_core::registries::lint::FileFacts;
use agent_core::registries::lint::Source;
use agent_core::registries::on_disk;
use agent_core::registries::on_disk::OnDisk;
use agent_core::runtime::settings::Program;
use agent_core::runtime::settings::Settings;

/// Each file and all rules that name something in it.
const FOUND: &[(&str, &[&str])] = &[
    ("001", &[]),
    ("003", &[]),
    ("005", &[]),
    ("007", &[]),
    ("009", &[]),
    ("011", &["auth-placeholder", "config-unused"]),
    ("013", &["unused-auths"]),
    ("015", &[]),
    ("017", &["mirror-never-used", "placeholder"]),
    ("019", &["config-empty", "key-with-slash", "placeholder"]),
    ("021", &["endpoint-is-default"]),
    ("023", &["key-deletes-directories", "mirror-never-used"]),
    ("025", &["auth-placeholder", "endpoint-is-default"]),
    ("027", &["auth-placeholder", "tls-on-http"]),
    ("029", &["auth-not-base64", "key-with-slash"]),
    ("031", &["endpoint-is-default"]),
    ("033", &[]),
    ("035", &[]),
    ("037", &[]),
    ("039", &["config-under-mirror-name", "placeholder"]),
    ("041", &["auth-placeholder", "mirror-nickname"]),
    ("043", &["auth-placeholder"]),
    ("045", &["config-under-mirror-name", "endpoint-duplicate"]),
    ("047", &["endpoint-is-default"]),
    ("049", &[]),
    ("051", &["endpoint-is-default"]),
    ("053", &["unreadable"]),
    ("055", &["mirror-without-endpoint", "unknown-key"]),
    ("057", &["unknown-key"]),
    ("059", &["auth-placeholder", "config-unused", "doubled-key", "tls-empty"]),
    ("061", &["auth-placeholder", "endpoint-is-default"]),
    ("063", &["unknown-key"]),
    ("065", &["empty-section", "unknown-key"]),
    ("067", &["section-under-mirrors"]),
    ("069", &["section-under-mirrors"]),
    ("071", &["unknown-key", "unreadable"]),
    ("073", &["auth-empty", "endpoint-bare-name", "tls-on-http"]),
    ("075", &["config-empty", "endpoint-path", "tls-on-http", "unknown-key"]),
    ("077", &["tls-empty", "unknown-key"]),
    ("079", &["unknown-key"]),
    ("081", &["mirror-without-endpoint"]),
    ("083", &["config-under-mirror-name"]),
    ("085", &["tls-on-http"]),
    ("087", &["endpoint-path"]),
    ("089", &["auth-placeholder"]),
    ("091", &["placeholder"]),
    ("093", &[]),
    ("095", &[]),
    ("097", &["endpoint-is-default", "placeholder"]),
    ("099", &[]),
    ("101", &[]),
    ("103", &["tls-on-http"]),
    ("105", &[]),
    ("107", &["unreadable"]),
    ("109", &[]),
    ("111", &[]),
    ("113", &["placeholder"]),
    ("115", &["tls-on-http"]),
    ("117", &["tls-on-http"]),
    ("119", &["tls-on-http"]),
];

/// What the authors most likely did not want, from the corpus' own description, and words of the finding that names it.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("011", "config-unused", "no endpoint has this host and port, and the entry must be written exactly as"),
    ("019", "key-with-slash", "a key is a host, or host:port, without scheme and path"),
    ("019", "config-empty", "the entry has neither `auth` nor `tls`"),
    ("029", "key-with-slash", "write `registry-1.docker.io`"),
    ("029", "auth-not-base64", "must be base64 of `user:password`"),
    ("041", "mirror-nickname", "write `ghcr.io`"),
    ("053", "unreadable", "replace each tab by two spaces"),
    ("055", "unknown-key", "write `endpoint`"),
    ("057", "unknown-key", "write `mirrors`"),
    ("063", "unknown-key", "below a line `mirrors:`"),
    ("065", "empty-section", "must be indented by two spaces more"),
    ("065", "unknown-key", "below a line `mirrors:`"),
    ("067", "section-under-mirrors", "`configs` stands under `mirrors:`"),
    ("067", "section-under-mirrors", "`auths` stands under `mirrors:`"),
    ("069", "section-under-mirrors", "move it to the left margin"),
    ("071", "unreadable", "put a colon behind the key above"),
    ("071", "unknown-key", "refresh token as `identity_token`"),
    ("075", "unknown-key", "write it under `mirrors.HOST`"),
    ("075", "config-empty", "the entry has neither `auth` nor `tls`"),
    ("077", "unknown-key", "write `insecure_skip_verify`"),
    ("079", "unknown-key", "write it into config.yaml"),
    ("083", "config-under-mirror-name", "`mynexusmirror.domain.example:9000`"),
    ("083", "config-under-mirror-name", "`mynexusmirror.domain.example:9001`"),
    ("083", "config-under-mirror-name", "`mynexusmirror.domain.example:9002`"),
    ("083", "config-under-mirror-name", "`mynexusmirror.domain.example:9003`"),
    ("107", "unreadable", "for `\\$1` write `$1`"),
];

fn corpus() -> BTreeMap<String, Vec<Finding>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let context = Context { settings: Settings::plain(Program::K3s), source: Source::OnDisk, files: FileFacts::new() };
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| {
            let number = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let found = match on_disk::read(&std::fs::read(&path).unwrap()) {
                OnDisk::Read(document) => lint::lint(&document, &context),
                OnDisk::Rejected(rejection) => lint::lint_rejected(&rejection),
                OnDisk::CannotTell(why) => panic!("{number}: cannot tell: {why}"),
            };
            (number, found)
        })
        .collect()
}

#[test]
fn each_file_of_the_corpus_has_exactly_the_findings_of_the_table() {
    let found: BTreeMap<String, BTreeSet<&str>> = corpus()
        .into_iter()
        .map(|(number, found)| (number, found.iter().map(|finding| finding.rule).collect()))
        .collect();
    let expected: BTreeMap<String, BTreeSet<&str>> =
        FOUND.iter().map(|(number, rules)| ((*number).to_owned(), rules.iter().copied().collect())).collect();
    for (number, rules) in &expected {
        assert_eq!(found.get(number), Some(rules), "{number}");
    }
    assert_eq!(found.len(), expected.len(), "a file stands in the corpus and not in the table");
}

#[test]
fn every_mistake_is_named_in_words_that_say_what_to_write() {
    let corpus = corpus();
    for (number, rule, words) in MISTAKES {
        let found = &corpus[*number];
        let is_named = found.iter().any(|finding| finding.rule == *rule && finding.message.contains(words));
        assert!(is_named, "{number}: no {rule} that says {words}: {found:#?}");
    }
}

#[test]
fn besides_the_mistakes_only_the_empty_key_is_an_error() {
    let with_mistake: BTreeSet<&str> = MISTAKES.iter().map(|(number, _, _)| *number).collect();
    let errors: Vec<(String, &str)> = corpus()
        .into_iter()
        .filter(|(number, _)| !with_mistake.contains(number.as_str()))
        .flat_map(|(number, found)| {
            let errors = found.into_iter().filter(|finding| finding.severity == Severity::Error);
            errors.map(|finding| (number.clone(), finding.rule)).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(errors, [("023".to_owned(), "key-deletes-directories")]);
}

/// Every credential of the corpus, as the files have them: none may stand in a finding.
#[test]
fn no_finding_shows_a_credential() {
    let texts: Vec<String> = corpus().into_values().flatten().map(|finding| finding.to_string()).collect();
    for credential in [
        "inv_pat",
        "Harbor67890",
        "plant9876",
        "Ab654321",
        "inventedP@ssword9876",
        "registry-secret0",
        "mypasswd",
        "7h4qX2sK9dLm1TzV5bNw8RcYe3GpJf6A",
        "YOUR_PRIVATE_ACCESS_TOKEN",
        "redacted",
    ] {
        assert!(texts.iter().all(|text| !text.contains(credential)), "{credential}");
    }
}

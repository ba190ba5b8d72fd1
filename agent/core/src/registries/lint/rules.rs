//! Every rule's id and severity: fixed for ever, documented in `docs/lint.md`.

use crate::registries::finding::Severity;

/// One rule of the lint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// In kebab case. Never given a second meaning.
    pub id: &'static str,
    /// Whether its findings block.
    pub severity: Severity,
}

/// Declares the rules as constants and lists them, so that none can be left out of [`ALL`].
macro_rules! rules {
    ($($name:ident = $severity:ident $id:literal;)*) => {
        $(pub(super) const $name: Rule = Rule { id: $id, severity: Severity::$severity };)*

        /// Every rule, in the order of `docs/lint.md`.
        pub const ALL: &[Rule] = &[$($name),*];
    };
}

rules! {
    // The whole file.
    UNREADABLE = Error "unreadable";
    LINE_TOO_LONG = Error "line-too-long";
    UNKNOWN_KEY = Warning "unknown-key";
    DOUBLED_KEY = Warning "doubled-key";
    EXTRA_DOCUMENT = Warning "extra-document";
    UNUSED_AUTHS = Warning "unused-auths";
    OLD_BOOLEAN = Warning "old-boolean";
    EMPTY_SECTION = Warning "empty-section";
    SECTION_UNDER_MIRRORS = Warning "section-under-mirrors";
    PLACEHOLDER = Warning "placeholder";

    // Keys of mirrors and configs.
    KEY_DELETES_DIRECTORIES = Error "key-deletes-directories";
    KEY_WITH_SLASH = Error "key-with-slash";
    KEY_NOT_A_HOST = Error "key-not-a-host";
    KEY_BREAKS_CONTAINERD_CONFIG = Error "key-breaks-containerd-config";
    KEY_TOO_LONG = Error "key-too-long";
    KEY_WITH_USER_PART = Warning "key-with-user-part";
    KEY_RESERVED = Warning "key-reserved";
    KEY_PARTIAL_WILDCARD = Warning "key-partial-wildcard";
    KEY_UPPER_CASE = Warning "key-upper-case";
    KEY_IPV6_WITHOUT_BRACKETS = Warning "key-ipv6-without-brackets";
    MIRROR_NICKNAME = Warning "mirror-nickname";
    MIRROR_NEVER_USED = Warning "mirror-never-used";
    MIRROR_WITHOUT_ENDPOINT = Warning "mirror-without-endpoint";
    LOCALHOST_IS_THE_NODE = Warning "localhost-is-the-node";
    CLUSTER_NAME_WITHOUT_MIRROR = Warning "cluster-name-without-mirror";

    // Endpoints.
    URL_BREAKS_HOSTS_TOML = Error "url-breaks-hosts-toml";
    ENDPOINT_INVALID = Error "endpoint-invalid";
    ENDPOINT_CREDENTIAL = Error "endpoint-credential";
    ENDPOINT_EMPTY = Warning "endpoint-empty";
    ENDPOINT_SCHEME = Warning "endpoint-scheme";
    ENDPOINT_USER_PART = Warning "endpoint-user-part";
    ENDPOINT_QUERY = Warning "endpoint-query";
    ENDPOINT_PORT = Warning "endpoint-port";
    ENDPOINT_PATH = Warning "endpoint-path";
    ENDPOINT_IPV6_WITHOUT_BRACKETS = Warning "endpoint-ipv6-without-brackets";
    ENDPOINT_CLUSTER_NAME = Warning "endpoint-cluster-name";
    ENDPOINT_BARE_NAME = Warning "endpoint-bare-name";
    ENDPOINT_LOOPBACK = Warning "endpoint-loopback";
    ENDPOINT_DUPLICATE = Warning "endpoint-duplicate";
    ENDPOINT_IS_DEFAULT = Warning "endpoint-is-default";

    // Where configs entries apply.
    CONFIG_EMPTY = Warning "config-empty";
    CONFIG_UNUSED = Warning "config-unused";
    CONFIG_UNDER_MIRROR_NAME = Warning "config-under-mirror-name";
    CONFIG_REALM_HOST = Warning "config-realm-host";
    CONFIG_DOCKER_HUB = Warning "config-docker-hub";
    DEFAULT_ENDPOINT_KEPT = Warning "default-endpoint-kept";

    // Credentials.
    AUTH_CONTROL_CHARACTER = Error "auth-control-character";
    AUTH_NOT_BASE64 = Error "auth-not-base64";
    AUTH_EMPTY = Warning "auth-empty";
    AUTH_INCOMPLETE = Warning "auth-incomplete";
    AUTH_FIELD_IGNORED = Warning "auth-field-ignored";
    AUTH_PLACEHOLDER = Warning "auth-placeholder";

    // TLS.
    TLS_HALF_CLIENT = Error "tls-half-client";
    TLS_FILE_MISSING = Error "tls-file-missing";
    TLS_FILE_UNREADABLE = Error "tls-file-unreadable";
    TLS_FILE_WRONG = Error "tls-file-wrong";
    TLS_PATH_CONTROL_CHARACTER = Error "tls-path-control-character";
    TLS_PATH_RELATIVE = Warning "tls-path-relative";
    TLS_EMPTY = Warning "tls-empty";
    TLS_CA_UNUSED = Warning "tls-ca-unused";
    TLS_ON_HTTP = Warning "tls-on-http";

    // Rewrites.
    REWRITE_BREAKS_HOSTS_TOML = Error "rewrite-breaks-hosts-toml";
    REWRITE_READ_DIFFERENTLY = Warning "rewrite-read-differently";
    REWRITE_REFUSED = Warning "rewrite-refused";
    REWRITE_UNDECIDED = Warning "rewrite-undecided";
    REWRITE_UNANCHORED = Warning "rewrite-unanchored";
    REWRITE_OVERLAP = Warning "rewrite-overlap";
    REWRITE_GROUP = Warning "rewrite-group";
    REWRITE_WITHOUT_ENDPOINT = Warning "rewrite-without-endpoint";

    // The wildcard.
    WILDCARD_AUTH = Warning "wildcard-auth";
    WILDCARD_BYPASSED = Warning "wildcard-bypassed";
    WILDCARD_TLS_LOST = Warning "wildcard-tls-lost";
    WILDCARD_TLS_SHADOWED = Warning "wildcard-tls-shadowed";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_in_kebab_case_and_given_once() {
        let ids: BTreeSet<_> = ALL.iter().map(|rule| rule.id).collect();
        assert_eq!(ids.len(), ALL.len());
        for id in ids {
            assert!(id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{id}");
        }
    }

    #[test]
    fn the_documentation_names_each_rule_with_its_severity_and_no_other() {
        let text = include_str!("../../../../../docs/lint.md");
        let documented: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .map(|row| {
                let (id, rest) = row.split_once("` | ").expect("a row begins with | `id` |");
                let cells: Vec<&str> = rest.trim_end_matches(" |").split(" | ").collect();
                assert_eq!(cells.len(), 3, "severity, what happens, what to write instead: {row}");
                (id, cells[0])
            })
            .collect();
        let known: BTreeMap<&str, &str> = ALL
            .iter()
            .map(|rule| match rule.severity {
                Severity::Error => (rule.id, "error"),
                Severity::Warning => (rule.id, "warning"),
            })
            .collect();
        assert_eq!(documented, known);
    }
}

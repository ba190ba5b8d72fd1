//! The keys that k3s knows, level by level, and which of them was meant by another.

use crate::yaml;

/// Where in the file a map with fixed keys stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Top,
    /// `mirrors.HOST`.
    Mirror,
    /// `configs.HOST`.
    Config,
    /// `configs.HOST.auth`, or an entry of `auths`.
    Auth,
    /// `configs.HOST.tls`.
    Tls,
}

impl Level {
    const ALL: [Self; 5] = [Self::Top, Self::Mirror, Self::Config, Self::Auth, Self::Tls];

    /// The keys that k3s reads there.
    pub(super) const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Top => &["mirrors", "configs", "auths"],
            Self::Mirror => &["endpoint", "rewrite"],
            Self::Config => &["auth", "tls"],
            Self::Auth => &["username", "password", "auth", "identity_token"],
            Self::Tls => &["ca_file", "cert_file", "key_file", "insecure_skip_verify"],
        }
    }

    /// Words that people write there and that no spelling rule brings near.
    const fn synonyms(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Top => &[("registries", "mirrors"), ("registry", "mirrors")],
            Self::Mirror => &[
                ("url", "endpoint"),
                ("urls", "endpoint"),
                ("server", "endpoint"),
                ("host", "endpoint"),
                ("hosts", "endpoint"),
            ],
            Self::Config => &[("authentication", "auth"), ("credentials", "auth")],
            Self::Auth => &[
                ("token", "identity_token"),
                ("registrytoken", "identity_token"),
                ("user", "username"),
                ("login", "username"),
                ("pass", "password"),
                ("passwd", "password"),
            ],
            Self::Tls => &[
                ("ca", "ca_file"),
                ("cacert", "ca_file"),
                ("cafile", "ca_file"),
                ("cert", "cert_file"),
                ("certificate", "cert_file"),
                ("key", "key_file"),
                ("insecure", "insecure_skip_verify"),
                ("skipverify", "insecure_skip_verify"),
                ("skiptlsverify", "insecure_skip_verify"),
            ],
        }
    }

    /// An unknown key as it may be shown. `{password:hunter2}`, with the space forgotten, is a single key, and where
    /// credentials belong `{hunter2}` is one as well: below `auth` only a word that resembles a key is shown.
    pub(super) fn shown(self, key: &str) -> String {
        match self {
            Self::Auth => {
                let end = key.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-'));
                let word = &key[..end.unwrap_or(key.len())];
                let is_close = self.meant(word).is_some_and(|meant| word.len() <= meant.len() + 2);
                let is_word = is_close || Self::place_of(word).is_some();
                match (is_word, end) {
                    (true, None) => word.to_owned(),
                    (true, Some(_)) => format!("{word}…"),
                    (false, _) => "…".to_owned(),
                }
            }
            Self::Top | Self::Mirror | Self::Config | Self::Tls => key.to_owned(),
        }
    }

    /// The key of this level that was probably meant by a word that is none.
    pub(super) fn meant(self, word: &str) -> Option<&'static str> {
        let letters: String =
            word.chars().filter(|c| !matches!(c, '_' | '-')).take(64).flat_map(char::to_lowercase).collect();
        let synonym = self.synonyms().iter().find(|(known, _)| *known == letters).map(|(_, meant)| *meant);
        // `auths` is known, but never what anybody should write.
        let keys = self.keys().strip_suffix(&["auths"]).unwrap_or(self.keys());
        synonym.or_else(|| yaml::nearest(word, keys))
    }

    /// Where a word would be a key, if not here.
    pub(super) fn place_of(word: &str) -> Option<&'static str> {
        let level = Self::ALL.into_iter().find(|level| level.keys().contains(&word))?;
        Some(match level {
            Self::Top => "at the top level",
            Self::Mirror => "under mirrors.HOST",
            Self::Config => "under configs.HOST",
            Self::Auth => "under configs.HOST.auth",
            Self::Tls => "under configs.HOST.tls",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_look_right_find_the_right_key() {
        for (level, word, meant) in [
            (Level::Top, "mirror", "mirrors"),
            (Level::Top, "mirrros", "mirrors"),
            (Level::Top, "config", "configs"),
            (Level::Mirror, "endpoints", "endpoint"),
            (Level::Mirror, "endpoint\"", "endpoint"),
            (Level::Mirror, "rewrites", "rewrite"),
            (Level::Mirror, "server", "endpoint"),
            (Level::Auth, "identitytoken", "identity_token"),
            (Level::Auth, "identityToken", "identity_token"),
            (Level::Auth, "token", "identity_token"),
            (Level::Tls, "ca", "ca_file"),
            (Level::Tls, "caFile", "ca_file"),
            (Level::Tls, "insecure", "insecure_skip_verify"),
            (Level::Tls, "skip_verify", "insecure_skip_verify"),
        ] {
            assert_eq!(level.meant(word), Some(meant), "{word}");
        }
    }

    #[test]
    fn words_with_another_meaning_find_nothing() {
        for (level, word) in [
            (Level::Top, "auth_config"),
            (Level::Top, "disable-default-registry-endpoint"),
            (Level::Mirror, "override_path"),
            (Level::Mirror, "capabilities"),
            (Level::Config, "endpoint"),
        ] {
            assert_eq!(level.meant(word), None, "{word}");
        }
        assert_eq!(Level::place_of("endpoint"), Some("under mirrors.HOST"));
        assert_eq!(Level::place_of("auth"), Some("under configs.HOST"));
        assert_eq!(Level::place_of("docker.io"), None);
    }
}

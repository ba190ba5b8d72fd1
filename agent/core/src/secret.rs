//! A value that must not leave the node's 0600 files.

use std::fmt;

use zeroize::Zeroize;

/// Holds a value that is never printed: `Debug` shows `…`, there is no `Display` and no `Serialize`, and the memory is
/// overwritten when it is dropped. [`Secret::expose`] is called by the renderer, the parser of our own tables, the file
/// writer and the preflight's requests, of a user name by `explain --show-users`, and nowhere else.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps a value as soon as it is read.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Gives the value out. Whoever calls this must not log, format or hash it without a key.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// Asks a question with a yes or a no about the value: what the lint needs, which must judge a credential and never
    /// hold one.
    pub fn satisfies(&self, question: impl FnOnce(&T) -> bool) -> bool {
        question(&self.0)
    }
}

impl Secret<String> {
    /// Tells whether the text is empty: k3s and containerd treat an empty field as an absent one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl From<&str> for Secret<String> {
    fn from(value: &str) -> Self {
        Self::new(value.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_asked_of_the_value_itself() {
        let secret = Secret::from("canary-hunter2");
        assert!(secret.satisfies(|text| text.starts_with("canary")));
        assert!(!secret.satisfies(|text| text.contains(' ')));
    }

    #[test]
    fn debug_never_shows_the_value() {
        let secret = Secret::from("canary-hunter2");
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "… Some(\n    …,\n)");
    }
}

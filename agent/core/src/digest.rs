//! Keyed names for models and trees: a digest of a secret without a key could be guessed by whoever reads it.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::node::journal::Digest;
use crate::registries::model::{Auth, HostConfig, Mirror, Registries, Tls};
use crate::secret::Secret;
use crate::tree::Tree;

/// The journal's random key. It never leaves the node's 0600 files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(Secret<[u8; 32]>);

impl Key {
    /// Takes the 32 random bytes that the journal drew once.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(Secret::new(bytes))
    }

    /// The bytes, for the revision of a directory of inputs, which is keyed too.
    pub fn bytes(&self) -> Secret<Vec<u8>> {
        Secret::new(self.0.expose().to_vec())
    }

    /// Names what a file means to k3s, whatever its bytes.
    pub fn model(&self, model: &Registries) -> Digest {
        let mut sum = Sum::new(self, "model");
        let Registries { mirrors, configs } = model;
        sum.count(mirrors.len());
        for (host, Mirror { endpoints, rewrites }) in mirrors {
            sum.text(host);
            sum.count(endpoints.len());
            endpoints.iter().for_each(|endpoint| sum.text(endpoint));
            sum.count(rewrites.len());
            for (pattern, replacement) in rewrites {
                sum.text(pattern);
                sum.text(replacement);
            }
        }
        sum.count(configs.len());
        for (host, HostConfig { auth, tls }) in configs {
            sum.text(host);
            sum.count(usize::from(auth.is_some()));
            if let Some(Auth { username, password, auth, identity_token }) = auth {
                for field in [username, password, auth, identity_token] {
                    sum.text(field.expose());
                }
            }
            sum.count(usize::from(tls.is_some()));
            if let Some(Tls { ca_file, cert_file, key_file, insecure_skip_verify }) = tls {
                for field in [ca_file, cert_file, key_file] {
                    sum.text(field);
                }
                sum.count(usize::from(*insecure_skip_verify));
            }
        }
        sum.finish()
    }

    /// Names the bytes of a tree.
    pub fn tree(&self, tree: &Tree) -> Digest {
        let mut sum = Sum::new(self, "tree");
        let Tree { registries, tls } = tree;
        sum.count(usize::from(registries.is_some()));
        if let Some(registries) = registries {
            sum.bytes(registries.expose());
        }
        sum.count(tls.len());
        for (path, content) in tls {
            sum.text(path);
            sum.bytes(content.expose());
        }
        sum.finish()
    }
}

/// Every field is preceded by its length, so that no two values give the same sequence.
struct Sum(Hmac<Sha256>);

impl Sum {
    fn new(key: &Key, kind: &str) -> Self {
        let mut sum = Self(Hmac::new_from_slice(key.0.expose()).expect("HMAC takes a key of any length"));
        sum.text(kind);
        sum
    }

    fn count(&mut self, count: usize) {
        self.0.update(&(count as u64).to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn finish(self) -> Digest {
        Digest(self.0.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_password(password: &str) -> Registries {
        let auth = Auth { username: "u".into(), password: password.into(), ..Auth::default() };
        let config = HostConfig { auth: Some(auth), tls: None };
        Registries { configs: [("r.example.com".to_owned(), config)].into(), ..Registries::default() }
    }

    #[test]
    fn a_digest_depends_on_key_and_every_field() {
        let key = Key::new([1; 32]);
        assert_eq!(key.model(&with_password("a")), key.model(&with_password("a")));
        assert_ne!(key.model(&with_password("a")), key.model(&with_password("b")));
        assert_ne!(key.model(&with_password("a")), Key::new([2; 32]).model(&with_password("a")));
        let mut skipping = with_password("a");
        skipping.configs.get_mut("r.example.com").unwrap().tls = Some(Tls::default());
        assert_ne!(key.model(&with_password("a")), key.model(&skipping), "an empty tls is not none");
    }

    #[test]
    fn an_absent_file_is_not_an_empty_one() {
        let key = Key::new([1; 32]);
        let empty = Tree { registries: Some(Secret::new(Vec::new())), ..Tree::default() };
        assert_ne!(key.tree(&Tree::default()), key.tree(&empty));
    }
}

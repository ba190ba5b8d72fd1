//! The files of these tests, and what they mean.

use std::collections::BTreeMap;

use agent_core::registries::model::{Auth, HostConfig, Mirror, Registries};
use agent_core::registries::on_disk::{self, OnDisk};
use agent_core::registries::render::render;
use agent_core::secret::Secret;
use agent_core::tree::Tree;

/// The tree of a model, as the product writes it.
pub fn tree(registries: &Registries) -> Tree {
    Tree { registries: Some(render(registries)), ..Tree::default() }
}

/// What k3s takes a tree for.
pub fn meaning(tree: &Tree) -> Option<Registries> {
    let Some(bytes) = &tree.registries else { return Some(Registries::default()) };
    match on_disk::read(bytes.expose()) {
        OnDisk::Read(document) => Some(document.registries),
        OnDisk::Rejected(_) | OnDisk::CannotTell(_) => None,
    }
}

/// A tree of this text.
pub fn text(text: &str) -> Tree {
    Tree { registries: Some(Secret::new(text.as_bytes().to_vec())), ..Tree::default() }
}

/// One mirror and one credential.
pub fn model(mirror: &str, password: &str) -> Registries {
    let auth = Auth { username: "u".into(), password: password.into(), ..Auth::default() };
    Registries {
        mirrors: [(
            mirror.to_owned(),
            Mirror { endpoints: vec!["https://m.example.com".into()], rewrites: BTreeMap::new() },
        )]
        .into(),
        configs: [("m.example.com".to_owned(), HostConfig { auth: Some(auth), tls: None })].into(),
    }
}

/// The configuration that most tests begin with.
pub fn first() -> Registries {
    model("docker.io", "one")
}

/// The one that follows it: another credential, so it costs a restart.
pub fn second() -> Registries {
    model("docker.io", "two")
}

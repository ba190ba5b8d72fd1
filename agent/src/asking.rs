//! Who is asked on a node with what: the node's files and the probe, put together.

use agent_core::node::observed::Installation;
use agent_core::preflight::{Report, Scope, Target, node_targets};
use agent_core::registries::model::Registries;
use agent_core::registries::on_disk::{self, OnDisk};
use agent_core::secret::Secret;
use agent_core::tree::Tree;

use crate::host::root::Root;
use crate::host::surroundings;
use crate::probe::{Ground, Limits, run};

/// Largest file that is read.
pub const LONGEST: u64 = 4 << 20;

/// Everything that is needed to ask the registries of a configuration, read from the node beforehand.
#[derive(Debug)]
pub struct Asking {
    targets: Vec<Target>,
    ground: Ground,
    scope: Scope,
}

impl Asking {
    /// For these files on this node: those of the tree count before those that lie there.
    pub fn new(registries: &Registries, tree: &Tree, installation: &Installation, root: &Root, scope: Scope) -> Self {
        let on_host = |path: &str| root.read(path, LONGEST).ok().flatten().map(Secret::new);
        let targets = node_targets(registries, tree, installation, &on_host);
        let ground = Ground::new(&surroundings::trusted(root), surroundings::proxy(root, &installation.unit));
        Self { targets, ground, scope }
    }

    /// For what lies on this node; nothing, if no file lies there or k3s could not read it.
    pub fn of_node(installation: &Installation, root: &Root, scope: Scope) -> Option<Self> {
        let bytes = root.read(&installation.registries_path, LONGEST).ok()??;
        match on_disk::read(&bytes) {
            OnDisk::Read(document) => {
                Some(Self::new(&document.registries, &Tree::default(), installation, root, scope))
            }
            OnDisk::Rejected(_) | OnDisk::CannotTell(_) => None,
        }
    }

    /// Asks them, for a minute at most.
    pub async fn run(self) -> Report {
        run(self.targets, &self.ground, self.scope, &Limits::default()).await
    }
}

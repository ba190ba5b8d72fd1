//! The right to disturb this node.

/// Where turns come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnSource {
    /// There is no cluster: this node is all there is, and a turn is free.
    Local,
    /// The coordinator grants them.
    Coordinator,
}

/// The right to replace a working file and to restart the unit. It has no public constructor but those below, so that
/// *no turn, no restart* is a compile error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    reach: Reach,
}

/// How far a turn reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A new configuration.
    Goal,
    /// Only proving and undo: what an open intent in the journal permits.
    Undo,
}

impl Turn {
    /// The turn of a node without a cluster.
    pub const fn local(source: TurnSource) -> Option<Self> {
        match source {
            TurnSource::Local => Some(Self { reach: Reach::Goal }),
            TurnSource::Coordinator => None,
        }
    }

    /// What an open intent permits after its process died.
    pub(crate) const fn resume(_: &super::journal::Intent) -> Self {
        Self { reach: Reach::Undo }
    }

    /// How far it reaches.
    pub const fn reach(&self) -> Reach {
        self.reach
    }
}

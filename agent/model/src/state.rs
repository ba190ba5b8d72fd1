//! What there is: the Lease and the Nodes at the API server, the agents with their journals, the coordinators with their
//! ledgers and their caches, and what is still under way.
//!
//! No resource version is counted. A write carries the one it was decided on, and any write to an object makes all the
//! others stale, so that "fresh" is all there is to know: a stale write cannot land, and is forgotten.

use std::fmt;
use std::hash::{Hash, Hasher};

/// Coordinators there can be.
pub const COORDINATORS: usize = 2;
/// Nodes there can be.
pub const NODES: usize = 3;
/// Versions of a Node that a cache can lag behind.
const VERSIONS: usize = 24;

/// The phases that the exchange tells apart. Proving is Applying to everybody else; Stuck is left to the simulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The Node came back without annotations.
    None,
    Pending,
    Applying,
    Current,
    RolledBack,
}

/// `R/N`. Numbers count up from one on each node: random, so never drawn twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    pub revision: u8,
    pub number: u8,
}

/// `R/N@E`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    pub ask: Ask,
    pub epoch: u8,
}

/// A Node's annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Object {
    pub phase: Phase,
    pub wanted: Option<Ask>,
    /// The last N answered; 0 is none.
    pub answered: u8,
    /// The R that failed; 0 is none.
    pub failed: u8,
    pub grant: Option<Grant>,
    /// `turn: absent`, with the N that it is said of; 0 is not said.
    pub absent: u8,
}

impl Object {
    pub const BLANK: Self = Self { phase: Phase::None, wanted: None, answered: 0, failed: 0, grant: None, absent: 0 };

    /// The grant that stands and was not answered, if the node still asks for it.
    pub fn open_grant(&self) -> Option<Grant> {
        self.grant.filter(|grant| self.wanted == Some(grant.ask) && self.answered != grant.ask.number)
    }
}

/// A Node at the API server, and the agent that belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub log: Log,
    pub agent: Agent,
}

impl Node {
    pub fn now(&self) -> Option<Object> {
        self.log.behind(0)
    }
}

/// What a Node was and is, as far back as some cache lags; the last is what it is. `None`: deleted. Without a pointer,
/// because states are copied by the million.
#[derive(Clone, Copy)]
pub struct Log {
    versions: [Option<Object>; VERSIONS],
    length: usize,
}

impl Log {
    fn new(first: Object) -> Self {
        let mut versions = [None; VERSIONS];
        versions[0] = Some(first);
        Self { versions, length: 1 }
    }

    fn versions(&self) -> &[Option<Object>] {
        &self.versions[..self.length]
    }

    pub(super) fn versions_mut(&mut self) -> &mut [Option<Object>] {
        &mut self.versions[..self.length]
    }

    fn push(&mut self, version: Option<Object>) {
        self.versions[self.length] = version;
        self.length += 1;
    }

    fn keep_last(&mut self, kept: usize) {
        self.versions.copy_within(self.length - kept..self.length, 0);
        self.length = kept;
    }

    /// The version so many changes ago.
    pub fn behind(&self, changes: u8) -> Option<Object> {
        self.versions[self.length - 1 - usize::from(changes)]
    }
}

impl PartialEq for Log {
    fn eq(&self, other: &Self) -> bool {
        self.versions() == other.versions()
    }
}

impl Eq for Log {}

impl Hash for Log {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.versions().hash(state);
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.versions()).finish()
    }
}

/// How far the living process came with a grant. Lost when it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Idle,
    /// The ask is journalled as used, and the Node is as it was then.
    Used(Grant),
    /// `phase=Applying` was written, and no answer came.
    Unsure(Grant),
    /// `phase=Applying` stands.
    Shown(Grant),
    /// The Lease was read after that: it has the turn.
    Verified(Grant),
}

/// A node's agent. `used`, `intent`, `proven`, `failed` are its journal and survive everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Agent {
    pub up: bool,
    pub step: Step,
    /// One bit for each N that was used.
    pub used: u8,
    /// The last of them.
    pub last_used: u8,
    pub intent: Option<Ask>,
    pub proven: u8,
    pub failed: u8,
    /// The last N drawn.
    pub drawn: u8,
    /// One bit for each N that began a turn: what the checker looks at, no agent does.
    pub begun: u8,
    /// A write that timed out and may still land.
    pub late: Option<Object>,
}

impl Agent {
    pub fn is_used(&self, number: u8) -> bool {
        self.used & (1 << number) != 0
    }

    pub fn is_disturbed(&self) -> bool {
        self.intent.is_some() || matches!(self.step, Step::Verified(_))
    }

    pub fn is_out(&self) -> bool {
        self.is_disturbed() || matches!(self.step, Step::Shown(_))
    }
}

/// The Lease's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    pub holder: Option<u8>,
    /// 0: never held.
    pub epoch: u8,
    /// One bit for each node that it lists as out.
    pub out: u8,
}

/// What a coordinator knows of the last N that it granted to a node, or saw in use there. It never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    None,
    Granted(u8),
    /// Seen Applying, or it may be: the Node went away before it was seen.
    Out(u8),
    Over(u8),
}

impl Entry {
    pub fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Granted(number) | Self::Out(number) | Self::Over(number) => number,
        }
    }

    pub fn is_open(self) -> bool {
        matches!(self, Self::Granted(_) | Self::Out(_))
    }
}

/// One coordinator's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator {
    pub up: bool,
    /// The epoch it believes to hold.
    pub holds: Option<u8>,
    /// For each node, how many changes its cache is behind; `None` without a LIST.
    pub behind: Option<[u8; NODES]>,
    pub ledger: [Entry; NODES],
    /// One bit for each Node without a phase that was waited for long enough.
    pub waited: u8,
    /// A write to a Node that timed out and may still land.
    pub late: Option<(u8, Object)>,
    /// The same for the Lease.
    pub late_lease: Option<Lease>,
    /// What it knows to be listed on the Lease, and to stay.
    pub listed: u8,
}

impl Coordinator {
    pub fn forget(&mut self) {
        self.holds = None;
        self.behind = None;
        self.waited = 0;
        self.listed = 0;
        self.ledger.fill(Entry::None);
    }
}

/// Troubles that are still to come, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Troubles {
    /// Of any process.
    pub crashes: u8,
    /// Writes that land late, unheard, or never.
    pub losses: u8,
    /// A holder that does nothing for a minute, or an agent that answers nothing for one.
    pub stalls: u8,
    /// Grants by one that lost the Lease and does not know it yet.
    pub stale: u8,
    pub lease_deleted: u8,
    pub node_deleted: u8,
    /// A newer revision.
    pub edits: u8,
    /// A turn that cannot be used, or ends without a verdict.
    pub vain: u8,
    /// A turn that fails.
    pub failures: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// `None`: deleted.
    pub lease: Option<Lease>,
    /// Epochs drawn so far.
    pub epochs: u8,
    /// What the ConfigMap says.
    pub revision: u8,
    pub(super) all: [Node; NODES],
    pub(super) count: usize,
    pub coordinators: [Coordinator; COORDINATORS],
    pub left: Troubles,
    /// An ask began a second turn.
    pub twice: bool,
}

impl State {
    pub fn new(nodes: usize, coordinators: usize, left: Troubles) -> Self {
        let node = Node {
            log: Log::new(Object { phase: Phase::Current, ..Object::BLANK }),
            agent: Agent {
                up: true,
                step: Step::Idle,
                used: 0,
                last_used: 0,
                intent: None,
                proven: 0,
                failed: 0,
                drawn: 0,
                begun: 0,
                late: None,
            },
        };
        let coordinator = |index| Coordinator {
            up: index < coordinators,
            holds: None,
            behind: None,
            ledger: [Entry::None; NODES],
            waited: 0,
            late: None,
            late_lease: None,
            listed: 0,
        };
        Self {
            lease: Some(Lease { holder: None, epoch: 0, out: 0 }),
            epochs: 0,
            revision: 1,
            all: [node; NODES],
            count: nodes,
            coordinators: [coordinator(0), coordinator(1)],
            left,
            twice: false,
        }
    }

    pub fn nodes(&self) -> &[Node] {
        &self.all[..self.count]
    }

    pub fn agent(&mut self, node: usize) -> &mut Agent {
        &mut self.all[node].agent
    }

    /// The API server takes a write to a Node.
    pub fn write_node(&mut self, node: usize, object: Option<Object>) {
        if self.all[node].now() == object && object.is_some() {
            return;
        }
        self.all[node].log.push(object);
        let agent = &mut self.all[node].agent;
        agent.late = None;
        if matches!(agent.step, Step::Used(_)) {
            // Its next write would be refused, and it decides anew.
            agent.step = Step::Idle;
        }
        for coordinator in &mut self.coordinators {
            if coordinator.late.is_some_and(|(of, _)| usize::from(of) == node) {
                coordinator.late = None;
            }
            if let Some(behind) = &mut coordinator.behind {
                behind[node] += 1;
            }
        }
        self.trim();
    }

    /// Forgets what no cache will show again.
    pub fn trim(&mut self) {
        let Self { all, coordinators, .. } = self;
        for (index, node) in all.iter_mut().enumerate() {
            let caches = coordinators.iter().filter_map(|coordinator| coordinator.behind.as_ref());
            let kept = 1 + caches.map(|behind| usize::from(behind[index])).max().unwrap_or(0);
            node.log.keep_last(kept);
        }
    }

    /// Whether it can still matter what the Lease lists: a Node can be deleted, is gone, or has not said its phase since it
    /// came back.
    pub fn is_list_of_use(&self) -> bool {
        let says_nothing = |node: &Node| node.now().is_none_or(|now| now.phase == Phase::None);
        self.left.node_deleted > 0 || self.nodes().iter().any(says_nothing)
    }

    /// Whether somebody renews the Lease as it stands.
    pub fn is_renewed(&self) -> bool {
        self.lease.is_some_and(|lease| {
            lease.holder.is_some_and(|holder| {
                let holder = &self.coordinators[usize::from(holder)];
                holder.up && holder.holds == Some(lease.epoch)
            })
        })
    }

    /// Every node has proven what is wanted or stands there with the reason why not, and nothing is under way.
    pub fn is_ended(&self) -> bool {
        let halted = self.nodes().iter().any(|node| node.agent.failed == self.revision);
        self.nodes()
            .iter()
            .all(|Node { agent, .. }| agent.up && agent.late.is_none() && !agent.is_out() && agent.step == Step::Idle)
            && self.coordinators.iter().all(|one| one.late.is_none() && one.late_lease.is_none())
            && self.nodes().iter().all(|node| {
                node.now().is_some_and(|object| match object.phase {
                    Phase::Current => node.agent.proven == self.revision,
                    Phase::RolledBack => node.agent.failed == self.revision,
                    Phase::Pending => halted,
                    Phase::None | Phase::Applying => false,
                })
            })
    }
}

//! What proves that a node runs on the file that lies there.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that is looked at. The unit and what k3s wrote for containerd are judged from what is seen of them and are
/// not in this list of answers from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The unit is active; after a restart with a new invocation whose main process is newer than the restart.
    Unit,
    /// What k3s wrote in certs.d equals what the core says it makes of the file.
    CertsD,
    /// The auth tables of config.toml equal those of the file.
    AuthTables,
    /// containerd answers (`crictl version`).
    Containerd,
    /// `http://127.0.0.1:10248/healthz`.
    Kubelet,
    /// On a server with embedded etcd: `http://127.0.0.1:2381/health`.
    Etcd,
    /// On a server with embedded etcd: its member sees a leader (`etcd_server_has_leader`).
    EtcdLeader,
    /// On an agent: `https://127.0.0.1:6444/ping` reaches the supervisor. Explains a failure; never a failure itself.
    Supervisor,
    /// On a server: its own `/readyz`.
    Api,
    /// The node's Lease was renewed after the restart.
    NodeLease,
    /// The Node is Ready.
    NodeReady,
    /// The policy's images are pulled through the node's own CRI. Asked apart, since it takes its time.
    Pull,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unit => "unit",
            Self::CertsD => "certs.d",
            Self::AuthTables => "auth tables",
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::Etcd => "etcd",
            Self::EtcdLeader => "etcd leader",
            Self::Supervisor => "supervisor",
            Self::Api => "API server",
            Self::NodeLease => "node Lease",
            Self::NodeReady => "node Ready",
            Self::Pull => "pull",
        })
    }
}

/// The answer to a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It holds.
    Passed,
    /// It does not hold: one sentence, no secret.
    Failed(String),
    /// It could not be asked: one sentence.
    Unknown(String),
    /// It does not apply to this node.
    NotApplicable,
}

/// The checks that were asked, with their answers.
pub type Evidence = BTreeMap<Check, Answer>;

//! The flags of a node that change what k3s makes of the file.

use std::fmt;

/// Which distribution runs on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// k3s.
    K3s,
    /// RKE2.
    Rke2,
}

impl Program {
    /// Its name, as it stands in paths and in the header of `hosts.toml`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::K3s => "k3s",
            Self::Rke2 => "rke2",
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The flags in force on the node.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Which program.
    pub program: Program,
    /// `--data-dir`, without a slash at the end.
    pub data_dir: String,
    /// `--disable-default-registry-endpoint`.
    pub disable_default_endpoint: bool,
    /// `--embedded-registry` of the servers.
    pub embedded: Option<EmbeddedRegistry>,
    /// `--snapshotter=stargz`: the auth tables are written a second time.
    pub snapshotter_stargz: bool,
}

/// The registry that shares images between nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddedRegistry {
    /// Its address on this node: `127.0.0.1:6443`, on RKE2 port 9345, `[::1]` where services are IPv6.
    pub mirror_addr: String,
}

impl Settings {
    /// The settings of a node started without any flag.
    pub fn plain(program: Program) -> Self {
        let data_dir = format!("/var/lib/rancher/{program}");
        Self { program, data_dir, disable_default_endpoint: false, embedded: None, snapshotter_stargz: false }
    }

    /// `DATA/agent/etc/containerd/certs.d`.
    pub fn certs_d(&self) -> String {
        format!("{}/agent/etc/containerd/certs.d", self.data_dir)
    }
}

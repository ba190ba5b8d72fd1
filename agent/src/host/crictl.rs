//! The node's own CRI client: that of the k3s which the unit starts, with k3s's own settings.

use std::time::Duration;

use agent_core::node::observed::Installation;
use agent_core::node::observed::Program;

use super::command::CommandError;
use super::command::Commands;
use super::command::Invocation;
use super::command::Output;
use super::root::Root;

const SOCKET: &str = "--runtime-endpoint=unix:///run/k3s/containerd/containerd.sock";

/// What is said of one that a signal ended: it found nothing out.
pub const KILLED: &str = "crictl was killed before it answered (is the agent's pod short of memory?)";

/// Where the client is, and how it is called.
#[derive(Clone, Debug)]
pub struct Crictl {
    commands: Commands,
    program: String,
    is_k3s: bool,
    data_dir: String,
}

impl Crictl {
    /// Finds it. An `Err` says where none is.
    pub fn find(root: &Root, commands: &Commands, installation: &Installation) -> Result<Self, String> {
        let data = &installation.data_dir;
        let is_k3s = installation.program == Program::K3s;
        let places: Vec<String> = match installation.program {
            Program::K3s => {
                let bins = ["/usr/local/bin/k3s", "/usr/bin/k3s", "/opt/bin/k3s", "/run/current-system/sw/bin/k3s"];
                let unpacked = format!("{data}/data/current/bin/k3s");
                // The unit's own first: another k3s on the host may be of another version.
                let own = Some(installation.executable.clone()).filter(|path| !path.is_empty());
                own.into_iter().chain(bins.map(str::to_owned)).chain([unpacked]).collect()
            }
            Program::Rke2 => vec![format!("{data}/bin/crictl")],
        };
        let Some(program) = places.iter().find(|path| root.has(path)) else {
            return Err(format!("the host has no {}", places[0]));
        };
        Ok(Self { commands: commands.clone(), program: program.clone(), is_k3s, data_dir: data.clone() })
    }

    /// The same, whose processes die with this one: what takes long must not go on when nobody listens.
    pub fn mortal(self) -> Self {
        Self { commands: self.commands.mortal(), ..self }
    }

    /// Runs it. Credentials are never among the arguments: containerd has its own.
    pub async fn ask(&self, args: &[&str], timeout: Duration) -> Result<Output, CommandError> {
        let first: &[&str] = if self.is_k3s { &["crictl"] } else { &[] };
        let args = [first, &["--timeout=5s", SOCKET], args].concat();
        // k3s finds what it unpacked, and crictl.yaml, by it; else it unpacks itself anew into the usual directory.
        let env = [("K3S_DATA_DIR", self.data_dir.as_str())];
        self.commands.ask(&Invocation { program: &self.program, args: &args, env: &env, timeout }).await
    }
}

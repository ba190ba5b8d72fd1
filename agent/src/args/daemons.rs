//! What runs for ever: `agent` and `coordinator`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use agent_core::fleet::Waits;
use clap::Args;

use super::NodeArgs;

/// `agent`.
#[derive(Args, Debug)]
pub struct AgentArgs {
    /// A directory of manifests instead of a cluster, watched.
    #[arg(long, env = "K3S_REGISTRY_AGENT_INPUTS")]
    pub inputs: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened: its own fields are documented")]
    pub node: NodeArgs,
    /// Name of this Node, in a cluster.
    #[arg(long, env = "NODE_NAME", required_unless_present = "inputs")]
    pub node_name: Option<String>,
    /// Namespace of the inputs.
    #[arg(long, env = "POD_NAMESPACE", default_value = agent_core::inputs::NAMESPACE)]
    pub namespace: String,
    /// Kubeconfig, outside a pod.
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Where /livez, /readyz and /metrics are served; "off" serves none.
    #[arg(long, env = "K3S_REGISTRY_AGENT_LISTEN", default_value = "127.0.0.1:9617", value_parser = listen)]
    pub listen: Listen,
}

/// `coordinator`.
#[derive(Args, Debug)]
pub struct CoordinatorArgs {
    /// Name of this process on the Lease: no other may have it at the same time [default: random].
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// Namespace of the Lease, of the policy and of the agents' pods.
    #[arg(long, env = "POD_NAMESPACE", default_value = agent_core::inputs::NAMESPACE)]
    pub namespace: String,
    /// Kubeconfig, outside a pod.
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Where /livez, /readyz and /metrics are served; "off" serves none.
    #[arg(long, env = "K3S_REGISTRY_AGENT_LISTEN", default_value = "127.0.0.1:9617", value_parser = listen)]
    pub listen: Listen,
    /// Other waits than those that are right, for tests: "renew=1s,answer=5s".
    #[arg(long, env = "K3S_REGISTRY_AGENT_WAITS", hide = true, default_value = "", value_parser = waits)]
    pub waits: Waits,
}

fn waits(text: &str) -> Result<Waits, String> {
    let mut waits = Waits::default();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (name, time) = pair.split_once('=').ok_or("write NAME=TIME,...")?;
        let time: jiff::SignedDuration =
            time.parse().map_err(|_| format!("{name}: write a time, such as 10s or 300ms"))?;
        let time = Duration::try_from(time).map_err(|_| format!("{name}: a time is not negative"))?;
        let Waits {
            renew,
            act,
            expire,
            settle,
            silent,
            answer,
            not_ready,
            cordoned,
            held,
            away,
            gather,
            gate,
            gate_again,
        } = &mut waits;
        *match name {
            "renew" => renew,
            "act" => act,
            "expire" => expire,
            "settle" => settle,
            "silent" => silent,
            "answer" => answer,
            "not-ready" => not_ready,
            "cordoned" => cordoned,
            "held" => held,
            "away" => away,
            "gather" => gather,
            "gate" => gate,
            "gate-again" => gate_again,
            _ => return Err(format!("there is no wait named {name}")),
        } = time;
    }
    Ok(waits)
}

/// `--listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Not at all.
    Off,
    /// There.
    At(SocketAddr),
}

fn listen(text: &str) -> Result<Listen, String> {
    if text == "off" {
        return Ok(Listen::Off);
    }
    text.parse().map(Listen::At).map_err(|_| "write ADDRESS:PORT, or off".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_shortened_by_name_and_a_wrong_one_is_refused() {
        let parsed = waits("renew=1s,not-ready=300ms").unwrap();
        let expected =
            Waits { renew: Duration::from_secs(1), not_ready: Duration::from_millis(300), ..Waits::default() };
        assert_eq!((parsed, waits("")), (expected, Ok(Waits::default())));
        for wrong in ["renew", "renew=x", "renew=-1s", "never=1s"] {
            assert!(waits(wrong).is_err(), "{wrong}");
        }
    }
}

//! The command line. Every flag has its environment name beside it, and its unit in its name.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use agent_core::fleet::Waits;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Keeps registries.yaml right on every node of a k3s cluster, from one ConfigMap and Secrets.
///
/// Restarts k3s or k3s-agent only when the running configuration would otherwise be wrong, proves it, and undoes it by
/// itself when it does not hold.
#[derive(Debug, Parser)]
#[command(name = "k3s-registry-agent", version, after_help = EXIT_CODES, propagate_version = true)]
pub struct Cli {
    /// How log lines are written, to standard error.
    #[arg(long, global = true, env = "K3S_REGISTRY_AGENT_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What is logged, as in RUST_LOG ("debug", "info,k3s_registry_agent=trace").
    #[arg(long, global = true, env = "K3S_REGISTRY_AGENT_LOG")]
    pub log: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done, or nothing to do; status: every node is Current
  1  a fault, or not reached (paused, outside a window, undone): the last lines say which
  2  input refused: nothing was written, the message says what to do
  3  the file is written, a restart is needed and was not done (--service none); status: not every node is Current
  4  probe: at least one registry is not as it should be";

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// JSON.
    Json,
}

/// How k3s is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ServiceArg {
    /// Whatever runs the host: systemd; under OpenRC k3s is found and named, and nothing is written: no undo can be armed.
    Auto,
    /// systemd.
    Systemd,
    /// OpenRC: k3s is found and named, and nothing is written, since no undo can be armed.
    Openrc,
    /// Not at all: only files are written, and what would be restarted is said.
    None,
}

/// The sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep this node right, for ever: what the DaemonSet runs.
    #[command(after_help = "\
Examples:
  k3s-registry-agent agent --inputs /root/registries --root /          without a cluster
  k3s-registry-agent agent --root /proc/1/root --service auto          in a privileged pod")]
    Agent(AgentArgs),
    /// Decide whose turn it is, for the whole cluster, for ever: what the Deployment runs.
    #[command(after_help = "\
Example:
  k3s-registry-agent coordinator                                       in a pod of its own, without any privilege")]
    Coordinator(CoordinatorArgs),
    /// Do one pass from a directory of manifests: the file, and if needed the restart, its proof or its undo.
    #[command(after_help = "\
Examples:
  k3s-registry-agent apply --inputs examples/ghcr-migration --root ./node     a directory: only files
  k3s-registry-agent apply --inputs /root/registries --root /                 this node")]
    Apply(ApplyArgs),
    /// Show the file that the inputs make, redacted; or write it.
    #[command(after_help = "\
Examples:
  k3s-registry-agent render --inputs examples/ghcr-migration
  k3s-registry-agent render --inputs DIR --output registries.yaml              with credentials, mode 0600
  k3s-registry-agent render --inputs DIR --runtime ./runtime                   what k3s would make of it for containerd")]
    Render(RenderArgs),
    /// Show what would change on a node, redacted.
    #[command(after_help = "Example:\n  k3s-registry-agent diff --inputs DIR --root /")]
    Diff(DiffArgs),
    /// Say what is wrong with inputs, or with a plain registries.yaml.
    #[command(after_help = "\
Examples:
  k3s-registry-agent lint /etc/rancher/k3s/registries.yaml
  k3s-registry-agent lint --inputs DIR

Every rule: docs/lint.md. Exit code 2 if there is an error.")]
    Lint(LintArgs),
    /// Ask the registries of a configuration as this node's containerd would, and say what is in the way.
    #[command(after_help = "\
Examples:
  k3s-registry-agent probe                                                     this node's own file
  k3s-registry-agent probe --inputs DIR                                        what the manifests would make of it
  k3s-registry-agent probe --file registries.yaml                              a plain file, from a workstation too
  k3s-registry-agent probe --root /proc/1/root --service auto                  in an agent's pod

Nothing is pulled and nothing written. Every verdict: docs/preflight.md. Exit code 4 if pulls will fail.")]
    Probe(ProbeArgs),
    /// Make ConfigMap and Secret manifests out of an existing registries.yaml.
    #[command(after_help = "\
Examples:
  k3s-registry-agent import /etc/rancher/k3s/registries.yaml --output DIR      files of mode 0600
  k3s-registry-agent import registries.yaml                                    the ConfigMap; credentials are not shown")]
    Import(ImportArgs),
    /// Put back what lay there before us, byte for byte, with a restart if one is needed.
    #[command(after_help = "Example:\n  k3s-registry-agent restore --root /")]
    Restore(RestoreArgs),
    /// Say where the rollout stands: its own sentence, then a line a node.
    #[command(after_help = "\
Examples:
  k3s-registry-agent status
  k3s-registry-agent status --watch                            shown again when it changes, until Ctrl-C
  k3s-registry-agent status --output json
  until k3s-registry-agent status; do sleep 5; done            until every node is Current

Exit codes: 0 every node is Current, all with one revision; 3 not every one; 1 a fault (no cluster, no rights).
Nodes with the label k3s-registry-agent/exclude=true do not count.")]
    Status(StatusArgs),
    /// Start nothing new: on one node, or in the whole cluster. What has begun is proven or undone.
    #[command(after_help = "\
Examples:
  k3s-registry-agent pause                    the cluster: \"pause: true\" in policy.yaml, whose other text stays
  k3s-registry-agent pause lenovomini         one node: its annotation k3s-registry-agent/pause

Where the ConfigMap is kept in Git, write \"pause: true\" there: the next apply takes it away here.")]
    Pause(OperateArgs),
    /// Take a pause away again, of one node or of the cluster.
    #[command(after_help = "\
Examples:
  k3s-registry-agent resume
  k3s-registry-agent resume lenovomini")]
    Resume(OperateArgs),
    /// Let what failed be tried once more: on one node, or everywhere, where a halted revision is let through again.
    #[command(after_help = "\
Examples:
  k3s-registry-agent retry lenovomini         its annotation k3s-registry-agent/retry
  k3s-registry-agent retry                    the same annotation of the coordinator's Lease

Each call counts once. Other inputs are tried without it.")]
    Retry(OperateArgs),
}

/// Where the node is.
#[derive(Args, Debug)]
pub struct NodeArgs {
    /// The node's root: "/", "/proc/1/root" in a pod, or a directory that stands for one.
    #[arg(long, env = "K3S_REGISTRY_AGENT_ROOT", default_value = "/")]
    pub root: PathBuf,
    /// How k3s is restarted [default: auto for the root "/", none for any other].
    #[arg(long, env = "K3S_REGISTRY_AGENT_SERVICE", value_enum)]
    pub service: Option<ServiceArg>,
}

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

/// `apply`.
#[derive(Args, Debug)]
pub struct ApplyArgs {
    /// A directory of manifests, as one would give it to "kubectl apply -f".
    #[arg(long, env = "K3S_REGISTRY_AGENT_INPUTS")]
    pub inputs: PathBuf,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened: its own fields are documented")]
    pub node: NodeArgs,
    /// Try once more what failed here, and write again where another writer was given way to.
    #[arg(long)]
    pub retry: bool,
    /// How the result is written.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// `render`.
#[derive(Args, Debug)]
pub struct RenderArgs {
    /// A directory of manifests.
    #[arg(long, env = "K3S_REGISTRY_AGENT_INPUTS")]
    pub inputs: PathBuf,
    /// Write the file there, with credentials, mode 0600.
    #[arg(long)]
    pub output: Option<PathBuf>,
    /// Write there what k3s would make of it: certs.d/HOST/hosts.toml, and the auth tables of config.toml (mode 0600).
    #[arg(long)]
    pub runtime: Option<PathBuf>,
    /// For --runtime: as k3s has it.
    #[arg(long)]
    pub disable_default_registry_endpoint: bool,
    /// For --runtime: the address of the embedded registry on the node ("127.0.0.1:6443").
    #[arg(long, value_name = "ADDR")]
    pub embedded_registry: Option<String>,
}

/// `diff`.
#[derive(Args, Debug)]
pub struct DiffArgs {
    /// A directory of manifests.
    #[arg(long, env = "K3S_REGISTRY_AGENT_INPUTS")]
    pub inputs: PathBuf,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened: its own fields are documented")]
    pub node: NodeArgs,
    /// How the result is written.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// `lint`.
#[derive(Args, Debug)]
pub struct LintArgs {
    /// A plain registries.yaml, judged as k3s reads it; "-" is standard input.
    #[arg(required_unless_present = "inputs", conflicts_with = "inputs")]
    pub file: Option<PathBuf>,
    /// A directory of manifests, judged as ours.
    #[arg(long)]
    pub inputs: Option<PathBuf>,
    /// How the result is written.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// `probe`.
#[derive(Args, Debug)]
pub struct ProbeArgs {
    /// A directory of manifests, instead of the file that lies on the node.
    #[arg(long, env = "K3S_REGISTRY_AGENT_INPUTS", conflicts_with = "file")]
    pub inputs: Option<PathBuf>,
    /// A plain registries.yaml, instead of the file that lies on the node.
    #[arg(long)]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened: its own fields are documented")]
    pub node: NodeArgs,
    /// How the result is written.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// `import`.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// An existing registries.yaml.
    pub file: PathBuf,
    /// A directory to write the manifests to (mode 0600: one of them holds the credentials).
    #[arg(long)]
    pub output: Option<PathBuf>,
    /// Namespace of the objects.
    #[arg(long, default_value = agent_core::inputs::NAMESPACE)]
    pub namespace: String,
}

/// `restore`.
#[derive(Args, Debug)]
pub struct RestoreArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened: its own fields are documented")]
    pub node: NodeArgs,
    /// How the result is written.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Which cluster.
#[derive(Args, Debug)]
pub struct ClusterArgs {
    /// Kubeconfig [default: KUBECONFIG, ~/.kube/config, /etc/rancher/k3s/k3s.yaml, or the pod's own].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one].
    #[arg(long)]
    pub context: Option<String>,
    /// Namespace of the agent and its inputs.
    #[arg(long, short, env = "POD_NAMESPACE", default_value = agent_core::inputs::NAMESPACE)]
    pub namespace: String,
}

/// `status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened: its own fields are documented")]
    pub cluster: ClusterArgs,
    /// Show it again whenever it changes, until Ctrl-C; an API server that is away for a time does not end it.
    #[arg(long, short)]
    pub watch: bool,
    /// For --watch: how often is looked.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval_seconds: u64,
    /// No colours on a terminal, either.
    #[arg(long, env = "NO_COLOR", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_color: bool,
    /// How the result is written.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// `pause`, `resume` and `retry`.
#[derive(Args, Debug)]
pub struct OperateArgs {
    /// The node; without one the whole cluster.
    pub node: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened: its own fields are documented")]
    pub cluster: ClusterArgs,
    /// How the result is written.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

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

    #[test]
    fn an_agent_without_inputs_must_know_its_node() {
        assert!(Cli::try_parse_from(["x", "agent", "--inputs", "d"]).is_ok());
        assert!(Cli::try_parse_from(["x", "agent", "--listen", "nowhere", "--inputs", "d"]).is_err());
    }
}

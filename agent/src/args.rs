//! The command line. Every flag has its environment name beside it, and its unit in its name.

mod cluster;
mod daemons;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::cluster::{ClusterArgs, ExplainArgs, OperateArgs, PlanArgs, StatusArgs};
pub use self::daemons::{AgentArgs, CoordinatorArgs, Listen};

/// Keeps registries.yaml right on every node of a k3s cluster, from one ConfigMap and Secrets.
///
/// Restarts k3s or k3s-agent only when the running configuration would otherwise be wrong, proves it, and undoes it by
/// itself when it does not hold.
#[derive(Debug, Parser)]
#[command(name = "k3s-registry-agent", version, after_help = AFTER_HELP, propagate_version = true)]
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

const AFTER_HELP: &str = "\
Examples:
  k3s-registry-agent lint /etc/rancher/k3s/registries.yaml
  k3s-registry-agent diff --inputs DIR --root /
  k3s-registry-agent apply --inputs examples/ghcr-migration --root ./node
  k3s-registry-agent COMMAND --help                                   more of each command

Exit codes:
  0  done, or nothing to do; status: every node is Current
  1  a fault, or not reached (paused, outside a window, undone): the last lines say which
  2  input, or the command line, refused: nothing was written, the message says what to do
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

impl Output {
    /// What `--output` means where it may also name a place. Everywhere else its values are forms, and whoever writes
    /// `--output json` here too must not get credentials in a file of that name: such a file is `./json`.
    pub fn or_place(value: Option<&Path>) -> (Self, Option<&Path>) {
        match value.and_then(Path::to_str) {
            Some("json") => (Self::Json, None),
            Some("text") => (Self::Text, None),
            Some(_) | None => (Self::Text, value),
        }
    }
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
  k3s-registry-agent render --inputs DIR --output json                         redacted, with the lint's findings
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
    /// Say what would happen, and in which order: to the nodes of the cluster, or to this one. Nothing is written.
    #[command(after_help = "\
Examples:
  k3s-registry-agent plan                                      the cluster: who has it, whose turn comes when
  k3s-registry-agent plan --inputs DIR --root /                this node: what changes, redacted, and what it costs

A cluster's Secrets are read for the name of what they make, and nothing of them is shown.")]
    Plan(PlanArgs),
    /// Say what containerd does with an image: which entry applies, whom it asks in which order, how, and as whom.
    #[command(after_help = "\
Examples:
  k3s-registry-agent explain ghcr.io/jaybrto/app:v1                          with the cluster's ConfigMap and Secrets
  k3s-registry-agent explain nginx rancher/pause:3.6 --inputs DIR            what the manifests would make of it
  k3s-registry-agent explain nginx --file /etc/rancher/k3s/registries.yaml   a plain file
  k3s-registry-agent explain nginx --disable-default-registry-endpoint       flags of k3s are not looked for, but given

Nobody is asked and nothing is written; \"probe\" asks. A pod's imagePullSecrets are not known here: where one matches the
image, containerd uses it alone, for every endpoint.

Exit codes: 0 explained; 2 an image's name or the input is refused; 1 a fault (no cluster, no rights, no such file).")]
    Explain(ExplainArgs),
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
    /// Let what failed be tried once more: on the node where it failed, or let a halted revision through to all others.
    #[command(after_help = "\
Examples:
  k3s-registry-agent retry lenovomini         its annotation k3s-registry-agent/retry
  k3s-registry-agent retry                    the same annotation of the coordinator's Lease

A node remembers what failed there: for that node name it, also after a retry of the cluster. Each call counts once. Other inputs are tried without it.")]
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
    /// Write the file there, with credentials, mode 0600; "json" shows the result as JSON instead, redacted.
    #[arg(long, value_name = "FILE|json")]
    pub output: Option<PathBuf>,
    /// Write there what k3s would make of it: certs.d/HOST/hosts.toml, and the auth tables of config.toml (mode 0600).
    #[arg(long)]
    pub runtime: Option<PathBuf>,
    /// For --runtime: as k3s has it.
    #[arg(long)]
    pub disable_default_registry_endpoint: bool,
    /// For --runtime: the address of the embedded registry on the node ("127.0.0.1:6443").
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub embedded_registry: Option<String>,
}

/// k3s has it at an address of the node itself. The name of a directory is made of it: `../x` would lead out of `--runtime`.
fn address(text: &str) -> Result<String, String> {
    let parsed: Result<SocketAddr, _> = text.parse();
    parsed.map(|address| address.to_string()).map_err(|_| "write ADDRESS:PORT, such as 127.0.0.1:6443".to_owned())
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
    /// A directory to write the manifests to (mode 0600: one of them holds the credentials); "json" shows the result as
    /// JSON instead, without them.
    #[arg(long, value_name = "DIR|json")]
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_shows_an_example() {
        let cli = Cli::command();
        for command in std::iter::once(&cli).chain(cli.get_subcommands()) {
            let shown = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(shown.contains("Example") && shown.contains("  k3s-registry-agent "), "{}", command.get_name());
        }
    }

    #[test]
    fn an_embedded_registry_is_an_address_and_no_way_out_of_the_directory() {
        let parsed = |arguments: &[&str], address: &str| {
            Cli::try_parse_from([arguments, &["--embedded-registry", address]].concat()).is_ok()
        };
        let given = |address: &str| {
            let render = parsed(&["x", "render", "--inputs", "d", "--runtime", "r"], address);
            assert_eq!(parsed(&["x", "explain", "busybox"], address), render, "{address}");
            render
        };
        assert!(given("127.0.0.1:6443") && given("[::1]:6443"));
        for wrong in ["127.0.0.1", "junk", "../../x", "/etc/x", "a\"b:1", ""] {
            assert!(!given(wrong), "{wrong}");
        }
    }

    #[test]
    fn an_agent_without_inputs_must_know_its_node() {
        assert!(Cli::try_parse_from(["x", "agent", "--inputs", "d"]).is_ok());
        assert!(Cli::try_parse_from(["x", "agent", "--listen", "nowhere", "--inputs", "d"]).is_err());
    }
}

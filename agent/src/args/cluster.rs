//! What a person asks of a cluster: `status`, `plan`, `explain`, `pause`, `resume` and `retry`.

use std::path::PathBuf;

use clap::Args;

use super::{NodeArgs, Output};

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

/// `plan`.
#[derive(Args, Debug)]
pub struct PlanArgs {
    /// A directory of manifests for one node, instead of a cluster.
    #[arg(long, env = "K3S_REGISTRY_AGENT_INPUTS")]
    pub inputs: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened: its own fields are documented")]
    pub node: NodeArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened: its own fields are documented")]
    pub cluster: ClusterArgs,
    /// How the result is written.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// `explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// The image, as a pod names it; several are explained one after the other.
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// A directory of manifests, instead of a cluster.
    #[arg(long, env = "K3S_REGISTRY_AGENT_INPUTS", conflicts_with = "file")]
    pub inputs: Option<PathBuf>,
    /// A plain registries.yaml, read as k3s reads it, instead of a cluster; "-" is standard input.
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// As k3s has it on the nodes.
    #[arg(long)]
    pub disable_default_registry_endpoint: bool,
    /// The address of the embedded registry on the nodes, where k3s has it ("127.0.0.1:6443").
    #[arg(long, value_name = "ADDR", value_parser = super::address)]
    pub embedded_registry: Option<String>,
    /// Show the user names of credentials. Some registries take a token there, so without it they are hidden.
    #[arg(long)]
    pub show_users: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened: its own fields are documented")]
    pub cluster: ClusterArgs,
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

//! The settings that are in force for one unit: configuration files, then flags over them, then what the process says.

use std::collections::BTreeMap;

use super::Candidate;
use super::default_data;
use crate::node::observed::Program;
use crate::secret::Secret;
use crate::yaml::{self, Content, NodeId, Resolved, Tree, resolve};

/// Variables that discovery looks at. Others, the cluster's token among them, are never kept.
const VARIABLES: [&str; 9] = [
    "K3S_DATA_DIR",
    "K3S_CONFIG_FILE",
    "K3S_SNAPSHOTTER",
    "RKE2_DATA_DIR",
    "RKE2_CONFIG_FILE",
    "RKE2_SNAPSHOTTER",
    "K3S_ROOTLESS",
    "K3S_DATASTORE_ENDPOINT",
    "RKE2_DATASTORE_ENDPOINT",
];
/// How deep a value is looked for in lists and aliases, which may lie within themselves.
const DEEPEST: usize = 8;

/// What discovery wants to know of the flags. A datastore's address holds a password: only that there is one is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `--data-dir`, or the default.
    pub data_dir: String,
    /// `--private-registry`, if it is given.
    pub registries_path: Option<String>,
    /// `--disable-default-registry-endpoint`.
    pub disable_default_endpoint: bool,
    /// `--embedded-registry`.
    pub embedded_registry: bool,
    /// `--snapshotter=stargz`.
    pub stargz: bool,
    /// `--docker`.
    pub docker: bool,
    /// `--container-runtime-endpoint`.
    pub runtime_endpoint: Option<String>,
    /// `--rootless`.
    pub rootless: bool,
    /// `--disable-agent`.
    pub disable_agent: bool,
    /// `--disable-etcd`.
    pub disable_etcd: bool,
    /// `--datastore-endpoint` is given.
    pub external_datastore: bool,
    /// `--supervisor-port`, or `--https-listen-port`.
    pub supervisor_port: Option<String>,
}

/// Reads an environment file of systemd and keeps the variables that discovery looks at.
pub fn env_file(text: &str) -> BTreeMap<String, String> {
    let assignments = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    assignments
        .filter_map(|line| line.split_once('='))
        .filter(|(key, _)| VARIABLES.contains(&key.trim()))
        .map(|(key, value)| {
            let (key, value) = (key.trim(), value.trim().trim_matches(['"', '\'']));
            // It holds a password.
            let is_datastore = key.ends_with("_DATASTORE_ENDPOINT") && !value.is_empty();
            (key.to_owned(), if is_datastore { "given" } else { value }.to_owned())
        })
        .collect()
}

/// The configuration file that a unit reads; what is in its `.d` (`config.yaml.d/*.yaml`) comes after it. k3s looks for
/// it by itself before it reads its flags, and asks the variable first.
pub fn config_path(candidate: &Candidate) -> String {
    let program = candidate.unit.program().unwrap_or(Program::K3s);
    let variable = format!("{}_CONFIG_FILE", program.to_string().to_uppercase());
    let named = candidate.env.get(&variable).filter(|path| !path.is_empty()).cloned();
    let flags = flags(&candidate.unit.exec);
    named.or_else(|| flags.get("config").cloned()).unwrap_or_else(|| format!("/etc/rancher/{program}/config.yaml"))
}

/// Settles what is in force. An `Err` names the file that is no YAML.
pub fn settings(candidate: &Candidate, node_args: Option<&[String]>) -> Result<Settings, String> {
    let program = candidate.unit.program().unwrap_or(Program::K3s);
    let mut all = BTreeMap::new();
    let prefix = program.to_string().to_uppercase();
    let variables = [
        ("DATA_DIR", "data-dir"),
        ("SNAPSHOTTER", "snapshotter"),
        ("ROOTLESS", "rootless"),
        ("DATASTORE_ENDPOINT", "datastore-endpoint"),
    ];
    for (name, flag) in variables {
        if let Some(value) = candidate.env.get(&format!("{prefix}_{name}")) {
            all.insert(flag.to_owned(), value.clone());
        }
    }
    all.extend(merged(&candidate.config)?);
    all.extend(flags(&candidate.unit.exec));
    // The process tells its arguments with the files merged in: what it says is what is in force.
    all.extend(flags(node_args.unwrap_or_default()));
    let on = |flag: &str| {
        all.get(flag).is_some_and(|value| matches!(value.as_str(), "true" | "1" | "t" | "T" | "TRUE" | "True"))
    };
    let text = |flag: &str| all.get(flag).filter(|value| !value.is_empty()).cloned();
    Ok(Settings {
        data_dir: text("data-dir").map_or_else(|| default_data(program), |path| path.trim_end_matches('/').to_owned()),
        registries_path: text("private-registry"),
        disable_default_endpoint: on("disable-default-registry-endpoint"),
        embedded_registry: on("embedded-registry"),
        stargz: text("snapshotter").as_deref() == Some("stargz"),
        docker: on("docker"),
        runtime_endpoint: text("container-runtime-endpoint"),
        rootless: on("rootless"),
        disable_agent: on("disable-agent"),
        disable_etcd: on("disable-etcd"),
        external_datastore: text("datastore-endpoint").is_some(),
        supervisor_port: text("supervisor-port").or_else(|| text("https-listen-port")),
    })
}

/// Merges the files as k3s does: a later file's key replaces an earlier one's, `key+` adds to it. Of a list, and of a
/// key that is given twice, the last item counts for a flag that takes one value.
fn merged(files: &[(String, Secret<String>)]) -> Result<BTreeMap<String, String>, String> {
    let mut all = BTreeMap::new();
    for (path, text) in files {
        let tree = yaml::parse(text.expose().as_bytes()).map_err(|_| path.clone())?;
        let Some(root) = tree.root() else { continue };
        let pairs = match &tree.node(root).content {
            Content::Mapping(pairs) => pairs,
            Content::Scalar(scalar) if resolve(scalar) == Resolved::Null => continue,
            Content::Scalar(_) | Content::Sequence(_) | Content::Alias(_) => return Err(path.clone()),
        };
        for (key, value) in pairs {
            let Content::Scalar(key) = &tree.node(*key).content else { continue };
            let value = last_text(&tree, *value, 0).unwrap_or_default();
            match key.text.strip_suffix('+') {
                Some(_) if value.is_empty() => {}
                added => {
                    all.insert(long(added.unwrap_or(&key.text)).to_owned(), value);
                }
            }
        }
    }
    Ok(all)
}

/// A scalar as k3s makes an argument of it, or the last one of a list.
fn last_text(tree: &Tree, id: NodeId, depth: usize) -> Option<String> {
    if depth > DEEPEST {
        return None;
    }
    match &tree.node(id).content {
        Content::Alias(of) => last_text(tree, *of, depth + 1),
        Content::Sequence(items) => last_text(tree, *items.last()?, depth + 1),
        Content::Mapping(_) => None,
        Content::Scalar(scalar) => Some(match resolve(scalar) {
            Resolved::Bool { value, is_old: _ } => value.to_string(),
            Resolved::Null => String::new(),
            Resolved::Text | Resolved::Binary(_) | Resolved::Contradiction | Resolved::Doubtful => scalar.text.clone(),
        }),
    }
}

/// The long name of a flag.
fn long(flag: &str) -> &str {
    match flag {
        "d" => "data-dir",
        "c" => "config",
        other => other,
    }
}

/// The flags of a command line: `--flag=value`, `--flag value`, `--flag`.
fn flags(args: &[String]) -> BTreeMap<String, String> {
    const SWITCHES: [&str; 6] = [
        "disable-default-registry-endpoint",
        "embedded-registry",
        "docker",
        "rootless",
        "disable-agent",
        "disable-etcd",
    ];
    let mut all = BTreeMap::new();
    let mut args = args.iter().peekable();
    while let Some(arg) = args.next() {
        let Some(flag) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else { continue };
        let (flag, value) = match flag.split_once('=') {
            Some((flag, value)) => (flag, value.to_owned()),
            // A switch takes its value only after `=`; `k3s.io/node-args` gives it as the next argument.
            None if SWITCHES.contains(&flag) => match args.next_if(|next| matches!(next.as_str(), "true" | "false")) {
                Some(value) => (flag, value.clone()),
                None => (flag, "true".to_owned()),
            },
            None => (flag, args.next_if(|next| !next.starts_with("--")).cloned().unwrap_or_else(|| "true".to_owned())),
        };
        all.insert(long(flag).to_owned(), value);
    }
    all
}

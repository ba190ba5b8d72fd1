//! Which k3s runs on this node, from plain facts: units, flags, configuration files and what lies in the data directory.

pub mod openrc;
mod settings;
mod units;

use std::collections::BTreeMap;

pub use self::settings::Settings;
pub use self::settings::config_path;
pub use self::settings::env_file;
pub use self::settings::settings;
pub use self::units::Unit;
pub use self::units::parse_show;

use super::annotations::NodeSeen;
use super::observed::Installation;
use super::observed::Program;
use super::observed::Role;
use super::observed::Unsupported;
use crate::runtime::hosts_toml::header;
use crate::secret::Secret;

/// What was found out about one unit that may be the node's k3s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// The unit.
    pub unit: Unit,
    /// Variables of its environment and environment files, as [`env_file`] lets them through.
    pub env: BTreeMap<String, String>,
    /// The configuration file and those of its `.d`, in the order in which k3s reads them: path and text,
    /// which may hold the cluster's token.
    pub config: Vec<(String, Secret<String>)>,
    /// What lies in the data directory.
    pub data: Data,
}

/// What lies in a data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Data {
    /// `agent/etc/containerd` exists.
    pub has_containerd: bool,
    /// `agent/etc/containerd/certs.d` exists.
    pub has_certs_d: bool,
    /// Names in `certs.d` for which [`is_embedded`] holds.
    pub embedded: Vec<String>,
    /// `config.toml`; it holds passwords.
    pub config_toml: Option<Secret<Vec<u8>>>,
    /// A template of the user's: path and text.
    pub template: Option<(String, String)>,
    /// `server/db/etcd` exists.
    pub has_etcd: bool,
}

/// Everything that discovery looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Units whose executable is k3s or RKE2, as [`Unit::program`] says.
    pub candidates: Vec<Candidate>,
    /// The arguments that the running process says it has (Node annotation `k3s.io/node-args`), if they are known.
    pub node_args: Option<Vec<String>>,
}

/// What others say about the k3s of this node.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// The unit: the Node's annotation, else the policy's; empty if nobody says.
    pub unit: String,
    /// The arguments of the running process, from the Node's annotation. They may be of any length and are not printed.
    pub node_args: Option<Vec<String>>,
}

impl std::fmt::Debug for Hints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { unit, node_args } = self;
        f.debug_struct("Hints").field("unit", unit).field("has_node_args", &node_args.is_some()).finish()
    }
}

impl Hints {
    /// Reads the Node's annotations; `unit` is the policy's.
    pub fn of(node: &NodeSeen, unit: &str) -> Self {
        let args = ["k3s.io/node-args", "rke2.io/node-args"].iter().find_map(|name| node.annotations.get(*name));
        Self {
            unit: node.ours("unit").unwrap_or(unit).to_owned(),
            // One that is no list of texts says nothing.
            node_args: args.and_then(|list| serde_json::from_str(list).ok()),
        }
    }
}

/// Decides which installation is managed. `override_unit` is the policy's `unit`, or empty.
pub fn decide(facts: &Facts, override_unit: &str) -> Result<Installation, Unsupported> {
    let candidate = choose(&facts.candidates, override_unit)?;
    let Some((program, role)) = candidate.unit.program().zip(candidate.unit.role()) else {
        return no(format!("unit {} does not run k3s or rke2 as server or agent", candidate.unit.id));
    };
    let settings = settings(candidate, facts.node_args.as_deref())
        .map_err(|path| Unsupported(format!("{path} cannot be read as YAML: correct it before k3s reads it")))?;
    supported(&settings, &candidate.data, program)?;
    let port = match program {
        Program::K3s => settings.supervisor_port.as_deref().unwrap_or("6443"),
        Program::Rke2 => "9345",
    };
    let stands = candidate.data.embedded.first().cloned();
    let embedded = match role {
        // What stands there may be left from the start before.
        Role::Server => settings.embedded_registry.then(|| stands.unwrap_or_else(|| format!("127.0.0.1:{port}"))),
        // The flag is the server's: that it is on shows only in what k3s wrote here.
        Role::Agent => stands,
    };
    let server = role == Role::Server;
    Ok(Installation {
        program,
        role,
        unit: candidate.unit.id.clone(),
        executable: candidate.unit.executable.clone(),
        registries_path: settings.registries_path.unwrap_or_else(|| default_registries(program)),
        data_dir: settings.data_dir,
        disable_default_endpoint: settings.disable_default_endpoint,
        embedded_registry: embedded,
        stargz: settings.stargz,
        has_etcd: server && !settings.disable_etcd && !settings.external_datastore && candidate.data.has_etcd,
    })
}

/// The installation where no service is looked at (`--service none`): k3s's defaults.
pub fn without_service() -> Installation {
    Installation {
        program: Program::K3s,
        role: Role::Agent,
        unit: String::new(),
        executable: String::new(),
        registries_path: default_registries(Program::K3s),
        data_dir: default_data(Program::K3s),
        disable_default_endpoint: false,
        embedded_registry: None,
        stargz: false,
        has_etcd: false,
    }
}

fn choose<'a>(candidates: &'a [Candidate], override_unit: &str) -> Result<&'a Candidate, Unsupported> {
    let wanted = override_unit.trim_end_matches(".service");
    let named = |candidate: &&Candidate| candidate.unit.id.trim_end_matches(".service") == wanted;
    let found: Vec<_> = match wanted {
        "" => {
            let used: Vec<_> = candidates.iter().filter(|candidate| candidate.unit.is_used()).collect();
            // Both may be enabled after a server was made an agent; the file is for the one that runs.
            let running: Vec<_> = used.iter().copied().filter(|candidate| candidate.unit.is_running()).collect();
            if running.len() == 1 { running } else { used }
        }
        _ => candidates.iter().filter(named).collect(),
    };
    match found.as_slice() {
        [one] => Ok(one),
        [] if wanted.is_empty() => {
            no("no enabled or running unit runs k3s or rke2 as server or agent: install k3s as \
                                       a service, or name its unit in `unit` of policy.yaml")
        }
        [] => no(format!("there is no unit {override_unit} that runs k3s or rke2: correct `unit` in policy.yaml")),
        several => {
            let names: Vec<_> = several.iter().map(|candidate| candidate.unit.id.as_str()).collect();
            no(format!(
                "{} run k3s or rke2: disable all but one, or name it in `unit` of policy.yaml",
                names.join(" and ")
            ))
        }
    }
}

fn supported(settings: &Settings, data: &Data, program: Program) -> Result<(), Unsupported> {
    if settings.docker {
        return no("k3s runs with --docker, which does not read registries.yaml: remove the flag or exclude the node");
    }
    if let Some(endpoint) = &settings.runtime_endpoint {
        return no(format!(
            "k3s uses the external runtime at {endpoint}, for which it writes no registries: remove \
             --container-runtime-endpoint or exclude the node"
        ));
    }
    if settings.rootless {
        return no("k3s runs rootless, which is not supported: run it as root or exclude the node");
    }
    if settings.disable_agent {
        return no("k3s runs with --disable-agent, so that no containerd reads registries.yaml: exclude the node");
    }
    if !is_plain(&settings.data_dir) {
        return no(
            "--data-dir is not an absolute path without `.`, `..` and control characters: name the directory in full",
        );
    }
    if settings.registries_path.as_ref().is_some_and(|path| path.contains(char::is_control)) {
        return no("--private-registry names a path with a control character: give the directory another name");
    }
    if let Some(path) = &settings.registries_path
        && !(path.starts_with("/etc/rancher/") && is_plain(path))
    {
        return no(format!("--private-registry names {path}, which is outside /etc/rancher: move the file there"));
    }
    if data.has_containerd
        && !data.has_certs_d
        && data.config_toml.as_ref().is_some_and(|text| has_mirrors(text.expose()))
    {
        return no(format!("this {program} writes mirrors into config.toml and knows no certs.d: upgrade it"));
    }
    match &data.template {
        Some((path, text)) if !has_auth(text) => no(format!(
            "the containerd template {path} has no registry auth tables: put {{{{ template \"base\" . }}}} into it"
        )),
        Some(_) | None => Ok(()),
    }
}

/// Whether a path leads where it says, and is one line wherever it is written: it stands in the guard's unit, and whoever
/// may annotate the Node may have named it.
pub fn is_plain(path: &str) -> bool {
    let is_line = !path.contains(char::is_control);
    is_line && path.starts_with('/') && path.split('/').all(|part| !matches!(part, "." | ".."))
}

fn has_mirrors(config: &[u8]) -> bool {
    let table = |line: &str| line.trim_start().starts_with('[') && line.contains("registry.mirrors");
    String::from_utf8_lossy(config).lines().any(table)
}

/// Whether a file of certs.d is the one that k3s makes for its embedded registry: a loopback address, k3s's own header,
/// and the certificate that only that registry is asked with.
pub fn is_embedded(program: Program, name: &str, hosts_toml: &[u8]) -> bool {
    let text = String::from_utf8_lossy(hosts_toml);
    may_be_embedded(name)
        && text.starts_with(&header(program))
        && text.contains(&format!("/client-{program}-controller.crt\""))
}

/// Whether a name in certs.d is worth a look for [`is_embedded`].
pub fn may_be_embedded(name: &str) -> bool {
    let port = name.strip_prefix("127.0.0.1:").or_else(|| name.strip_prefix("[::1]:"));
    port.is_some_and(|port| port.parse::<u16>().is_ok())
}

/// A template brings the auth tables with the base template, or writes them itself.
fn has_auth(template: &str) -> bool {
    let base = template.split("{{").skip(1).any(|action| {
        let words: Vec<_> = action.trim_start_matches(['-', ' ']).split_whitespace().take(2).collect();
        words == ["template", "\"base\""]
    });
    base || (template.contains("config_path") && template.contains(".auth"))
}

fn default_registries(program: Program) -> String {
    format!("/etc/rancher/{program}/registries.yaml")
}

pub(super) fn default_data(program: Program) -> String {
    format!("/var/lib/rancher/{program}")
}

fn no<T>(why: impl Into<String>) -> Result<T, Unsupported> {
    Err(Unsupported(why.into()))
}

#[cfg(test)]
mod tests;

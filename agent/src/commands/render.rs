//! `render`: the file that the inputs make, and what k3s would make of it.

use std::path::{Path, PathBuf};

use agent_core::desired::expiry;
use agent_core::digest::Key;
use agent_core::inputs::NAMESPACE;
use agent_core::node::journal::Record;
use agent_core::node::observed::{Installation, Program, Role};
use agent_core::node::plan::{Desired, Wanted};
use agent_core::node::prepare::{Ground, policy, prepare};
use agent_core::registries::lint::FileFacts;
use agent_core::registries::render::render_redacted;
use agent_core::runtime::auth_tables::ConfigVersion;
use agent_core::runtime::expect::expect;
use agent_core::runtime::settings::{EmbeddedRegistry, Settings};
use serde_json::json;

use super::apply::{findings_json, findings_text};
use super::session::{self, SessionError};
use super::{Answer, Code, line};
use crate::args::RenderArgs;
use crate::host::HostError;
use crate::host::clock::clock;
use crate::host::files::{FilesError, write_file};

/// Why `render` could not be done.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The inputs.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: FilesError,
    },
}

/// Runs `render`. Without `--output` and `--runtime` nothing is written.
pub fn render(args: &RenderArgs) -> Result<Answer, RenderError> {
    let RenderArgs { inputs, output, runtime, disable_default_registry_endpoint, embedded_registry } = args;
    let inputs = session::read_inputs(inputs)?;
    let installation = installation(*disable_default_registry_endpoint, embedded_registry.clone());
    let (policy, mut refused) = policy(&inputs, NAMESPACE, None);
    // Names nothing here: the revision of a directory is the node's own.
    let key = Key::new([0; 32]);
    let record = Record::default();
    let files = FileFacts::new();
    let ground =
        Ground { namespace: NAMESPACE, key: &key, record: &record, installation: &installation, files: &files };
    let mut prepared = prepare(&inputs, &policy, &ground);
    if let Desired::Ready(wanted) = &prepared.desired {
        let brought = |path: &str| wanted.tree.tls_file(&installation.registries_path, path).cloned();
        let now = clock().map_err(|error| SessionError::Host(HostError::Clock(error)))?.wall;
        prepared.findings.extend(expiry::notes(&expiry::expiries(&wanted.registries, &brought), now));
    }
    let sentences: Vec<String> = refused.drain(..).map(|refusal| refusal.to_string()).collect();
    let wanted = match prepared.desired {
        _ if !sentences.is_empty() => return Ok(refusal(&sentences, &prepared.findings)),
        Desired::Ready(wanted) if wanted.errors.is_empty() => wanted,
        Desired::Ready(wanted) => return Ok(refusal(&wanted.errors, &prepared.findings)),
        Desired::Refused(sentences) => return Ok(refusal(&sentences, &prepared.findings)),
        Desired::None | Desired::Waiting(_) => {
            let none = "no ConfigMap \"registries\" with a key \"registries.yaml\" in it".to_owned();
            return Ok(refusal(&[none], &prepared.findings));
        }
    };
    let mut text = findings_text(&prepared.findings, &[]);
    let redacted = render_redacted(&wanted.registries);
    if output.is_none() && runtime.is_none() {
        text.push_str(&redacted);
    }
    if let Some(path) = output {
        let bytes = wanted.tree.registries.as_ref().map_or(&[][..], |bytes| bytes.expose());
        write(path, bytes, 0o600)?;
        line(&mut text, "written", &format!("{} (mode 0600, with credentials)", path.display()));
    }
    if let Some(dir) = runtime {
        write_runtime(dir, &wanted, &installation)?;
        line(&mut text, "written", &format!("{} (what k3s would make of it)", dir.display()));
    }
    let json = json!({ "registries": redacted, "findings": findings_json(&prepared.findings) });
    Ok(Answer { text, json, code: Code::Done })
}

fn refusal(sentences: &[String], findings: &[agent_core::registries::finding::Finding]) -> Answer {
    let mut text = findings_text(findings, sentences);
    for sentence in sentences {
        line(&mut text, "refused", sentence);
    }
    Answer { text, json: json!({ "refused": sentences, "findings": findings_json(findings) }), code: Code::Refused }
}

/// certs.d as k3s lays it out, and the tables of config.toml that hold credentials.
fn write_runtime(dir: &Path, wanted: &Wanted, installation: &Installation) -> Result<(), RenderError> {
    let settings = Settings {
        program: Program::K3s,
        data_dir: installation.data_dir.clone(),
        disable_default_endpoint: installation.disable_default_endpoint,
        embedded: installation.embedded_registry.clone().map(|mirror_addr| EmbeddedRegistry { mirror_addr }),
        snapshotter_stargz: false,
    };
    let expected = expect(&wanted.registries, &settings);
    for (name, hosts) in &expected.hosts {
        write(&dir.join("certs.d").join(name).join("hosts.toml"), &hosts.to_bytes(Program::K3s), 0o644)?;
    }
    let tables = expected.auths.to_bytes(ConfigVersion::V3, &settings);
    write(&dir.join("config.toml"), tables.expose(), 0o600)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), RenderError> {
    write_file(path, bytes, mode).map_err(|source| RenderError::Write { path: path.to_owned(), source })
}

/// A plain k3s with these flags.
fn installation(disable_default_endpoint: bool, embedded_registry: Option<String>) -> Installation {
    Installation {
        program: Program::K3s,
        role: Role::Agent,
        unit: String::new(),
        executable: String::new(),
        registries_path: "/etc/rancher/k3s/registries.yaml".to_owned(),
        data_dir: "/var/lib/rancher/k3s".to_owned(),
        disable_default_endpoint,
        embedded_registry,
        stargz: false,
        has_etcd: false,
    }
}

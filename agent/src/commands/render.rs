//! `render`: the file that the inputs make, and what k3s would make of it.

use std::path::{Path, PathBuf};

use agent_core::desired::expiry;
use agent_core::digest::Key;
use agent_core::inputs::{Inputs, NAMESPACE};
use agent_core::node::journal::Record;
use agent_core::node::observed::{Installation, Program, Role};
use agent_core::node::plan::{Desired, Wanted};
use agent_core::node::prepare::{Ground, Prepared, policy, prepare};
use agent_core::registries::lint::FileFacts;
use agent_core::registries::render::render_redacted;
use agent_core::runtime::auth_tables::ConfigVersion;
use agent_core::runtime::expect::expect;
use agent_core::runtime::settings::{EmbeddedRegistry, Settings};
use serde_json::json;

use super::apply::{findings_json, findings_text};
use super::session::{self, SessionError};
use super::{Answer, Code, line};
use crate::args::{Output, RenderArgs};
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
    let (_, output) = Output::or_place(output.as_deref());
    let inputs = session::read_inputs(inputs)?;
    let installation = installation(*disable_default_registry_endpoint, embedded_registry.clone());
    let (mut prepared, refused) = made(&inputs, NAMESPACE, &installation);
    if let Desired::Ready(wanted) = &prepared.desired {
        let brought = |path: &str| wanted.tree.tls_file(&installation.registries_path, path).cloned();
        let now = clock().map_err(|error| SessionError::Host(HostError::Clock(error)))?.wall;
        prepared.findings.extend(expiry::notes(&expiry::expiries(&wanted.registries, &brought), now));
    }
    let wanted = match usable(prepared.desired, refused, &inputs, NAMESPACE) {
        Ok(wanted) => wanted,
        Err(sentences) => return Ok(refusal(&sentences, &prepared.findings)),
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

/// What a plain k3s makes of inputs, and why the policy beside them is refused.
pub(super) fn made(inputs: &Inputs, namespace: &str, installation: &Installation) -> (Prepared, Vec<String>) {
    let (policy, refused) = policy(inputs, namespace, None);
    // Names nothing here: the revision of a directory is the node's own.
    let key = Key::new([0; 32]);
    let record = Record::default();
    let files = FileFacts::new();
    let prepared =
        prepare(inputs, &policy, &Ground { namespace, key: &key, record: &record, installation, files: &files });
    (prepared, refused.iter().map(ToString::to_string).collect())
}

/// What can be used of it, or why nothing can.
pub(super) fn usable(
    desired: Desired,
    refused: Vec<String>,
    inputs: &Inputs,
    namespace: &str,
) -> Result<Box<Wanted>, Vec<String>> {
    match desired {
        _ if !refused.is_empty() => Err(refused),
        Desired::Ready(wanted) if wanted.errors.is_empty() => Ok(wanted),
        Desired::Ready(wanted) => Err(wanted.errors),
        Desired::Refused(sentences) => Err(sentences),
        Desired::None | Desired::Waiting(_) => Err(vec![session::without_file(inputs, namespace)]),
    }
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
    let settings = settings(installation);
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

/// Its flags, as the prediction of its files takes them.
pub(super) fn settings(installation: &Installation) -> Settings {
    Settings {
        program: Program::K3s,
        data_dir: installation.data_dir.clone(),
        disable_default_endpoint: installation.disable_default_endpoint,
        embedded: installation.embedded_registry.clone().map(|mirror_addr| EmbeddedRegistry { mirror_addr }),
        snapshotter_stargz: false,
    }
}

/// A plain k3s with these flags.
pub(super) fn installation(disable_default_endpoint: bool, embedded_registry: Option<String>) -> Installation {
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

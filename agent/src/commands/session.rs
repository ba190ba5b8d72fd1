//! What `apply`, `diff`, `render` and the agent share: a node's host, its journal, and inputs made into what is wanted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_core::desired::expiry::{self, Expiry};
use agent_core::digest::Key;
use agent_core::inputs::{CONFIG_MAP, InputObject, Inputs, Kind, REGISTRIES_KEY};
use agent_core::node::annotations::NodeSeen;
use agent_core::node::discovery::{self, Hints};
use agent_core::node::journal::{JournalSeen, Record};
use agent_core::node::observed::{Installation, Unsupported};
use agent_core::node::plan::Desired;
use agent_core::node::prepare::{Ground, Prepared, policy, prepare, tls_paths};
use agent_core::policy::Policy;
use agent_core::registries::lint::FileFacts;
use agent_core::secret::Secret;
use tracing::warn;

use crate::args::{NodeArgs, ServiceArg};
use crate::asking::LONGEST;
use crate::host::clock::clock;
use crate::host::{Host, HostError, ServiceChoice, journal};

/// How long to wait before trying for another process's lock again.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// The directory of the inputs is not one.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The directory cannot be read.
    #[error("cannot read the inputs in {path}: it is no directory")]
    NoInputs {
        /// Which.
        path: PathBuf,
    },
    /// The host cannot be reached.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// What to do with the service when nothing is said: only the root `/` has one that is ours to restart.
pub fn service_of(args: &NodeArgs) -> ServiceChoice {
    match args.service {
        Some(ServiceArg::Auto) => ServiceChoice::Auto,
        Some(ServiceArg::Systemd) => ServiceChoice::Systemd,
        Some(ServiceArg::Openrc) => ServiceChoice::OpenRc,
        Some(ServiceArg::None) => ServiceChoice::None,
        None if args.root == Path::new("/") => ServiceChoice::Auto,
        None => ServiceChoice::None,
    }
}

/// Waits for the journal's lock, and says who holds it.
pub async fn lock(host: &Host) -> Result<journal::Lock, HostError> {
    let mut said = false;
    loop {
        match host.lock()? {
            Ok(lock) => return Ok(lock),
            Err(holder) => {
                if !said {
                    warn!(holder, "another process works on this node: waiting until it ends");
                    said = true;
                }
                tokio::time::sleep(LOCK_WAIT).await;
            }
        }
    }
}

/// Reads a directory of manifests.
pub fn read_inputs(dir: &Path) -> Result<Inputs, SessionError> {
    if !dir.is_dir() {
        return Err(SessionError::NoInputs { path: dir.to_owned() });
    }
    Ok(crate::inputs::directory::read(dir))
}

/// Why inputs name nothing that is wanted, and what to do.
pub fn without_file(inputs: &Inputs, namespace: &str) -> String {
    let none = format!("no ConfigMap \"{CONFIG_MAP}\" with a key \"{REGISTRIES_KEY}\"");
    let is_so_named = |object: &&InputObject| object.id.kind == Kind::ConfigMap && object.id.name == CONFIG_MAP;
    let named: Vec<&InputObject> = inputs.objects.iter().filter(is_so_named).collect();
    if named.iter().any(|object| object.id.namespace == namespace) {
        return format!("{none}: the one that is there has other keys; put the file under that one");
    }
    match named.first() {
        Some(other) => format!("{none} in the namespace {namespace}: {} is in another; move it", other.id),
        None => format!("{none} in the namespace {namespace}: write one, or let \"import\" make it of a file"),
    }
}

/// What the inputs make for this node, under which policy.
#[derive(Debug)]
pub struct Made {
    /// The policy in force.
    pub policy: Policy,
    /// Why the policy that is written is not in force.
    pub policy_refused: Vec<String>,
    /// What is wanted, and the findings.
    pub prepared: Prepared,
    /// Until when the certificates of what is wanted hold.
    pub expiries: Vec<Expiry>,
}

/// Makes what is wanted out of inputs.
pub async fn make(
    host: &Host,
    key: &Key,
    inputs: &Inputs,
    namespace: &str,
    node: &NodeSeen,
    last: Option<&Policy>,
) -> Result<Made, HostError> {
    let (policy, refusals) = policy(inputs, namespace, last);
    let policy_refused = refusals.iter().map(ToString::to_string).collect();
    let installation = match host.installation(&Hints::of(node, &policy.unit)).await? {
        Ok(installation) => installation,
        // The plan will name it; inputs are judged as for a plain k3s.
        Err(Unsupported(_)) => discovery::without_service(),
    };
    let record = record(host)?;
    let mut prepared = judge(host, key, inputs, namespace, &policy, &installation, &record);
    let expiries = expiries(host, &installation.registries_path, &prepared.desired);
    let now = clock().map_err(HostError::Clock)?.wall;
    prepared.findings.extend(expiry::notes(&expiries, now));
    Ok(Made { policy, policy_refused, prepared, expiries })
}

fn expiries(host: &Host, registries: &str, desired: &Desired) -> Vec<Expiry> {
    let Desired::Ready(wanted) = desired else { return Vec::new() };
    let on_host = |path: &str| host.root().read(path, LONGEST).ok().flatten().map(Secret::new);
    let file = |path: &str| wanted.tree.tls_file(registries, path).cloned().or_else(|| on_host(path));
    expiry::expiries(&wanted.registries, &file)
}

fn judge(
    host: &Host,
    key: &Key,
    inputs: &Inputs,
    namespace: &str,
    policy: &Policy,
    installation: &Installation,
    record: &Record,
) -> Prepared {
    let mut files = FileFacts::new();
    let mut prepared = prepare(inputs, policy, &Ground { namespace, key, record, installation, files: &files });
    if let Desired::Ready(wanted) = &prepared.desired {
        // Only now it is known which files on the node somebody has to look at.
        for path in tls_paths(&wanted.registries) {
            if !wanted.tree.tls.keys().any(|ours| path.ends_with(&format!("/{ours}"))) {
                files.insert(path.clone(), host.tls_fact(&path));
            }
        }
        if !files.is_empty() {
            prepared = prepare(inputs, policy, &Ground { namespace, key, record, installation, files: &files });
        }
    }
    prepared
}

/// What is remembered; a record that cannot be used counts as none here, and is refused by the plan.
pub fn record(host: &Host) -> Result<Record, HostError> {
    Ok(match host.record()? {
        JournalSeen::Found(record) => *record,
        JournalSeen::Missing | JournalSeen::Newer(_) | JournalSeen::Damaged(_) => Record::default(),
    })
}

//! `probe`: asks the registries of a configuration, and shows what came of each.

use std::path::{Path, PathBuf};

use agent_core::inputs::NAMESPACE;
use agent_core::node::annotations::NodeSeen;
use agent_core::node::discovery::{self, Hints};
use agent_core::node::observed::{Installation, Unsupported};
use agent_core::node::plan::Desired;
use agent_core::preflight::{End, HostReport, Outcome, Place, Report, Scope, Stop};
use agent_core::registries::model::Registries;
use agent_core::registries::on_disk::{self, OnDisk};
use agent_core::tree::Tree;
use serde_json::{Value, json};

use super::session::{self, SessionError};
use super::{Answer, Code, line};
use crate::args::{NodeArgs, ProbeArgs};
use crate::asking::{Asking, LONGEST};
use crate::host::{Host, HostError, ServiceChoice};

/// Why nobody was asked.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The inputs, or the node.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl From<HostError> for ProbeError {
    fn from(error: HostError) -> Self {
        Self::Session(error.into())
    }
}

/// What is to be asked, or why nobody is.
enum Asked {
    /// These files on this node.
    Files(Box<(Registries, Tree)>),
    /// Refused.
    Refused(Vec<String>),
}

/// Runs `probe`. Nothing is written.
pub async fn probe(args: &ProbeArgs) -> Result<Answer, ProbeError> {
    let ProbeArgs { inputs, file, node, output: _ } = args;
    let host = Host::look(&node.root, service(node, file.is_some() || inputs.is_some()))?;
    let (asked, installation) = match inputs {
        Some(inputs) => of_inputs(&host, inputs).await?,
        None => match host.installation(&Hints::default()).await? {
            Ok(installation) => (of_file(&host, &installation, file.as_deref())?, installation),
            Err(Unsupported(why)) => (Asked::Refused(vec![why]), discovery::without_service()),
        },
    };
    let (registries, tree) = match asked {
        Asked::Files(files) => *files,
        Asked::Refused(sentences) => return Ok(refusal(&sentences)),
    };
    let asking = Asking::new(&registries, &tree, &installation, host.root(), Scope::WHOLE);
    Ok(answer(&asking.run().await))
}

/// A workstation has no k3s to be found: with a file or inputs in hand none is looked for unless it is asked for.
fn service(node: &NodeArgs, has_source: bool) -> ServiceChoice {
    match (node.service, has_source) {
        (None, true) => ServiceChoice::None,
        (None, false) | (Some(_), _) => session::service_of(node),
    }
}

async fn of_inputs(host: &Host, dir: &Path) -> Result<(Asked, Installation), ProbeError> {
    let inputs = session::read_inputs(dir)?;
    let key = host.key()?;
    let node = NodeSeen::default();
    let made = session::make(host, &key, &inputs, NAMESPACE, &node, None).await?;
    let installation = match host.installation(&Hints::of(&node, &made.policy.unit)).await? {
        Ok(installation) => installation,
        Err(Unsupported(why)) => return Ok((Asked::Refused(vec![why]), discovery::without_service())),
    };
    let mut refused = made.policy_refused;
    let files = match made.prepared.desired {
        Desired::Refused(sentences) => return Ok((Asked::Refused(sentences), installation)),
        Desired::None | Desired::Waiting(_) => {
            return Ok((Asked::Refused(vec![session::without_file(&inputs, NAMESPACE)]), installation));
        }
        Desired::Ready(wanted) => {
            refused.extend(wanted.errors);
            (wanted.registries, wanted.tree)
        }
    };
    let asked = if refused.is_empty() { Asked::Files(Box::new(files)) } else { Asked::Refused(refused) };
    Ok((asked, installation))
}

fn of_file(host: &Host, installation: &Installation, file: Option<&Path>) -> Result<Asked, ProbeError> {
    let shown = file.map_or_else(|| host.shown_path().into(), Path::to_owned);
    let read = match file {
        Some(path) => std::fs::read(path).map(Some),
        None => host.root().read(&installation.registries_path, LONGEST),
    };
    let bytes = read.map_err(|source| ProbeError::Read { path: shown.clone(), source })?;
    let shown = shown.display();
    // No file is an empty one, to k3s.
    Ok(match on_disk::read(&bytes.unwrap_or_default()) {
        OnDisk::Read(document) => Asked::Files(Box::new((document.registries, Tree::default()))),
        OnDisk::Rejected(rejection) => Asked::Refused(vec![format!("k3s cannot read {shown}: {rejection}")]),
        OnDisk::CannotTell(why) => Asked::Refused(vec![format!("cannot tell what k3s makes of {shown}: {why}")]),
    })
}

fn refusal(sentences: &[String]) -> Answer {
    let mut text = String::new();
    for sentence in sentences {
        line(&mut text, "refused", sentence);
    }
    Answer { text, json: json!({ "refused": sentences }), code: Code::Refused }
}

fn answer(report: &Report) -> Answer {
    let code = if report.has_fault() { Code::RegistryFault } else { Code::Done };
    Answer { text: table(report), json: as_json(report), code }
}

/// A line for each host, and under it what is to be known.
fn table(report: &Report) -> String {
    if report.hosts.is_empty() {
        return "no registry is configured: nobody was asked\n".to_owned();
    }
    let mut rows = vec![["REGISTRY", "OUTCOME", "VERDICT", "STATUS", "TIME", "FOR"].map(str::to_owned)];
    for host in &report.hosts {
        let status = host.verdict.status.map_or("-".to_owned(), |status| status.to_string());
        let time = format!("{:.2}s", host.took.as_secs_f64());
        let images = match host.place {
            Place::Endpoint | Place::Registry => host.images.join(","),
            Place::Fallback => format!("{} (fallback)", host.images.join(",")),
        };
        rows.push([
            host.url.to_string(),
            outcome(host).to_owned(),
            host.verdict.kind.as_str().to_owned(),
            status,
            time,
            images,
        ]);
    }
    let widths: Vec<usize> =
        (0..6).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(cell);
            text.push_str(&" ".repeat(width - cell.chars().count() + 2));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        if let Some(host) = number.checked_sub(1).and_then(|number| report.hosts.get(number)) {
            details(&mut text, host);
        }
    }
    text
}

fn details(text: &mut String, host: &HostReport) {
    let mut detail = |label: &str, what: &str| {
        if !what.is_empty() {
            text.push_str("  ");
            line(text, label, what);
        }
    };
    detail("says", &host.verdict.what);
    detail("header", host.verdict.header.as_deref().unwrap_or_default());
    detail("do", &host.verdict.remedy);
    detail("steps", &host.stops.iter().map(step).collect::<Vec<_>>().join(", "));
}

fn step(stop: &Stop) -> String {
    let Stop { step, at, status, end, took } = stop;
    let status = status.map_or_else(String::new, |status| format!(" {status}"));
    let took = took.as_millis();
    match end {
        End::Passed => format!("{step} {at}{status} {took}ms"),
        End::Failed => format!("{step} {at}{status} failed {took}ms"),
        End::Withheld => format!("{step} {at} not sent, the credential is kept back"),
        End::Proxied => format!("{step} {at} not done, containerd goes through a proxy"),
    }
}

/// What it means for pulls. A fallback that does not answer is worth knowing, and no fault.
fn outcome(host: &HostReport) -> &'static str {
    match (host.verdict.outcome(), host.counts()) {
        (Outcome::Fine, _) => "ok",
        (Outcome::Inconclusive, _) => "unknown",
        (Outcome::Fault, true) => "FAULT",
        (Outcome::Fault, false) => "away",
    }
}

/// For programs, and for whoever shows a report elsewhere.
pub fn as_json(report: &Report) -> Value {
    let hosts: Vec<Value> = report
        .hosts
        .iter()
        .map(|host| {
            let steps: Vec<Value> = host
                .stops
                .iter()
                .map(|stop| {
                    json!({
                        "step": stop.step,
                        "host": stop.at,
                        "status": stop.status,
                        "passed": stop.end == End::Passed,
                        "ended": stop.end.as_str(),
                        "milliseconds": milliseconds(stop.took),
                    })
                })
                .collect();
            json!({
                "url": host.url.to_string(),
                "images": host.images,
                "place": host.place.as_str(),
                "outcome": outcome(host),
                "stage": host.verdict.kind.stage().as_str(),
                "verdict": host.verdict.kind.as_str(),
                "status": host.verdict.status,
                "header": host.verdict.header,
                "says": host.verdict.what,
                "do": host.verdict.remedy,
                "milliseconds": milliseconds(host.took),
                "steps": steps,
            })
        })
        .collect();
    json!({ "registries": hosts, "milliseconds": milliseconds(report.took) })
}

fn milliseconds(took: std::time::Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

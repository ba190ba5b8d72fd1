//! `apply` and `restore`: one pass to its end.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::inputs::NAMESPACE;
use agent_core::node::annotations::{NodeSeen, PREFIX, Phase};
use agent_core::node::observed::Unsupported;
use agent_core::node::plan::{Desired, Plan, Wake};
use agent_core::node::turn::TurnSource;
use agent_core::policy::{Mode, Policy};
use agent_core::registries::effect::Effect;
use agent_core::registries::finding::Finding;
use serde_json::json;

use super::session::{self, Made, SessionError};
use super::{Answer, Code, line};
use crate::args::{ApplyArgs, NodeArgs, RestoreArgs};
use crate::host::Host;
use crate::pass::{Chain, Given, PassError, Passes};

/// A pass that failed is followed by a few more, which only end what was begun.
const ENDING_PASSES: usize = 20;
/// Where no service is, nothing was disturbed: one more pass closes what was never written, and the rest is for the run
/// after the fault was mended. Nobody waits meanwhile for a disk to have room.
const ENDING_PASSES_FILES_ONLY: usize = 2;

/// Runs `apply`.
pub async fn apply(args: &ApplyArgs) -> Result<Answer, SessionError> {
    let inputs = session::read_inputs(&args.inputs)?;
    let (host, _lock) = open(&args.node).await?;
    let key = host.key()?;
    let made = session::make(&host, &key, &inputs, NAMESPACE, &NodeSeen::default(), None).await?;
    let mut said = Said::new(format!("inputs {}", args.inputs.display()));
    said.findings = made.prepared.findings.clone();
    if !made.policy_refused.is_empty() {
        return Ok(said.refused(&made.policy_refused));
    }
    match &made.prepared.desired {
        Desired::Refused(sentences) => return Ok(said.refused(sentences)),
        Desired::None => {
            return Ok(said.refused(&[session::without_file(&inputs, NAMESPACE)]));
        }
        Desired::Ready(wanted) if !wanted.errors.is_empty() => return Ok(said.refused(&wanted.errors)),
        Desired::Ready(_) | Desired::Waiting(_) => {}
    }
    let Made { policy, prepared, .. } = made;
    let passes = Passes::new(host, key, TurnSource::Local);
    let mut node = NodeSeen::default();
    if args.retry {
        // What the annotation of a Node says in a cluster: a token that was never honoured before.
        node.annotations.insert(format!("{PREFIX}retry"), crate::random::dice());
    }
    Ok(run(passes, prepared.desired, policy, node, said).await)
}

/// Runs `restore`.
pub async fn restore(args: &RestoreArgs) -> Result<Answer, SessionError> {
    let (host, _lock) = open(&args.node).await?;
    let key = host.key()?;
    let policy = Policy { mode: Mode::Restore, ..Policy::default() };
    let passes = Passes::new(host, key, TurnSource::Local);
    let said = Said::new("the file from before us".to_owned());
    Ok(run(passes, Desired::None, policy, NodeSeen::default(), said).await)
}

async fn open(node: &NodeArgs) -> Result<(Host, crate::host::journal::Lock), SessionError> {
    let host = Host::open(&node.root, session::service_of(node))?;
    let lock = session::lock(&host).await?;
    host.sweep(&lock).await?;
    Ok((host, lock))
}

/// Passes until nothing is left to do.
async fn run(mut passes: Passes, desired: Desired, mut policy: Policy, node: NodeSeen, mut said: Said) -> Answer {
    let mut failed: Option<PassError> = None;
    let mut left = if passes.host().has_service() { ENDING_PASSES } else { ENDING_PASSES_FILES_ONLY };
    loop {
        drop(passes.preflight(&desired, &policy, &NodeSeen::default()).await);
        let given = Given { node: node.clone(), ..Given::alone(desired.clone(), &policy) };
        match passes.pass(given).await {
            Ok(passed) => {
                let plan = passed.plan;
                said.take(&plan);
                let rests = plan.steps.is_empty()
                    && plan.pull.is_none()
                    && !passes.is_open()
                    && !matches!(plan.wake, Wake::Now);
                if rests || (failed.is_some() && !passes.is_open()) {
                    break;
                }
                if let Wake::After(time) = plan.wake {
                    tokio::time::sleep(time.min(Duration::from_secs(1))).await;
                }
            }
            Err(error) => {
                // Nothing new is begun after a fault; what was begun is ended or undone.
                policy.pause = true;
                left -= 1;
                let wait = passes.wait_after_failure();
                let is_over = !passes.is_open() || left == 0;
                if !is_over {
                    // What is waited for must be seen while it is waited for.
                    passes.say(&error);
                }
                failed.get_or_insert(error);
                if is_over {
                    break;
                }
                tokio::time::sleep(wait).await;
            }
        }
    }
    said.answer(failed.as_ref(), &passes)
}

/// What is told at the end.
#[derive(Debug)]
struct Said {
    what: String,
    findings: Vec<Finding>,
    first: Option<Plan>,
    last: Option<Plan>,
    wrote: bool,
    restarted: bool,
    restart_left: bool,
}

impl Said {
    const fn new(what: String) -> Self {
        Self {
            what,
            findings: Vec::new(),
            first: None,
            last: None,
            wrote: false,
            restarted: false,
            restart_left: false,
        }
    }

    fn take(&mut self, plan: &Plan) {
        let names: Vec<&str> = plan.steps.iter().map(agent_core::node::plan::Step::name).collect();
        self.wrote |= names.contains(&"replace");
        self.restarted |= names.contains(&"restart");
        self.restart_left |= plan.restart_left;
        if plan.effect.is_some() && self.first.is_none() {
            self.first = Some(plan.clone());
        }
        self.last = Some(plan.clone());
    }

    fn refused(self, sentences: &[String]) -> Answer {
        let mut text = findings_text(&self.findings, sentences);
        line(&mut text, "from", &format!("{}: refused, nothing was written", self.what));
        for sentence in sentences {
            line(&mut text, "refused", sentence);
        }
        let json = json!({
            "phase": Phase::Invalid.as_str(),
            "refused": sentences,
            "findings": findings_json(&self.findings),
            "wrote": false,
        });
        Answer { text, json, code: Code::Refused }
    }

    fn answer(self, failed: Option<&PassError>, passes: &Passes) -> Answer {
        let Self { what, findings, first, last, wrote, restarted, restart_left } = self;
        let mut text = findings_text(&findings, &[]);
        let phase = last.as_ref().map_or(Phase::Pending, |plan| plan.phase);
        let unseen = || "the node could not be looked at".to_owned();
        let reason = last.as_ref().map_or_else(unseen, |plan| plan.reason.clone());
        let effect = first.as_ref().and_then(|plan| plan.effect);
        let changes = first.as_ref().map(|plan| plan.changes.clone()).unwrap_or_default();
        line(&mut text, "from", &what);
        for change in &changes {
            line(&mut text, "change", &change.to_string());
        }
        if let Some(effect) = effect {
            let why = first.as_ref().map_or("", |plan| plan.effect_why.as_str());
            line(&mut text, "effect", &effect_words(effect, why));
        }
        let path = passes.host().shown_path();
        let file = match (wrote, passes.host().shown_mode()) {
            (false, _) => format!("{path} not touched"),
            (true, Some(mode)) => format!("{path} written, mode {mode:04o}"),
            (true, None) => format!("{path} removed"),
        };
        line(&mut text, "file", &file);
        let restart = match (restarted, restart_left) {
            (true, _) => "done",
            (false, true) => "needed, not done",
            (false, false) => "not needed",
        };
        let code = match (failed, phase) {
            (Some(_), _) => Code::Fault,
            (None, Phase::Invalid) => Code::Refused,
            (None, Phase::Current) if restart_left => Code::RestartLeft,
            (None, Phase::Current) => Code::Done,
            (
                None,
                Phase::Pending | Phase::Applying | Phase::Proving | Phase::RolledBack | Phase::Stuck | Phase::Paused,
            ) => Code::Fault,
        };
        let revision = last.as_ref().and_then(|plan| plan.revision.clone());
        if phase == Phase::Current {
            line(&mut text, "revision", revision.as_deref().unwrap_or("none"));
            line(&mut text, "evidence", &evidence(passes));
            line(&mut text, "restart", restart);
        }
        line(&mut text, "phase", &format!("{phase}: {reason}"));
        let chain = failed.map(|error| Chain(error).to_string());
        if let Some(chain) = &chain {
            line(&mut text, "fault", chain);
        }
        let json = json!({
            "phase": phase.as_str(),
            "reason": reason,
            "revision": revision,
            "failed": last.as_ref().and_then(|plan| plan.failed.clone()),
            "effect": effect.map(|effect| effect.to_string()),
            "changes": changes,
            "findings": findings_json(&findings),
            "path": path,
            "wrote": wrote,
            "evidence": evidence(passes),
            "restart": restart,
            "fault": chain,
        });
        Answer { text, json, code }
    }
}

fn evidence(passes: &Passes) -> String {
    let applied = session::record(passes.host()).ok().and_then(|record| record.applied);
    match applied {
        Some(applied) if !applied.evidence.is_empty() => {
            applied.evidence.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }
        Some(_) | None => "files only".to_owned(),
    }
}

/// The effect, what it means, and why.
pub(crate) fn effect_words(effect: Effect, why: &str) -> String {
    let meaning = match effect {
        Effect::None => "nothing to restart",
        Effect::Files => "containerd reads the files at its next pull, no restart",
        Effect::Live => "could be applied live, is executed as a restart",
        Effect::Restart => "k3s has to be restarted",
    };
    format!("{effect} ({meaning}): {why}")
}

/// The findings, but for those that are refusals already.
pub(crate) fn findings_text(findings: &[Finding], but: &[String]) -> String {
    let mut text = String::new();
    for finding in findings {
        let shown = finding.to_string();
        if !but.contains(&shown) {
            line(&mut text, "lint", &shown);
        }
    }
    text
}

/// The findings, for programs.
pub(crate) fn findings_json(findings: &[Finding]) -> serde_json::Value {
    findings
        .iter()
        .map(|finding| {
            let mut object = BTreeMap::from([
                ("rule", json!(finding.rule)),
                ("severity", json!(format!("{:?}", finding.severity).to_lowercase())),
                ("key", json!(finding.path.to_string())),
                ("message", json!(finding.message)),
            ]);
            if let Some(at) = finding.at {
                object.insert("line", json!(at.line));
                object.insert("column", json!(at.column));
            }
            json!(object)
        })
        .collect()
}

/// A node that cannot be managed, as a refusal.
pub(crate) fn unsupported(Unsupported(sentence): &Unsupported) -> Answer {
    let mut text = String::new();
    line(&mut text, "refused", sentence);
    Answer { text, json: json!({ "refused": [sentence] }), code: Code::Refused }
}

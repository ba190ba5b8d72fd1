//! `diff`: what would change on a node.

use std::path::Path;

use agent_core::inputs::NAMESPACE;
use agent_core::node::annotations::{NodeSeen, Phase};
use agent_core::node::discovery::Hints;
use agent_core::node::plan::{Desired, Plan, Step};
use agent_core::node::turn::TurnSource;
use agent_core::policy::Policy;
use agent_core::registries::effect::Effect;
use agent_core::registries::finding::Finding;
use serde_json::json;

use super::apply::{effect_words, findings_json, findings_text, unsupported};
use super::session::{self, SessionError};
use super::{Answer, Code, line};
use crate::args::{DiffArgs, NodeArgs};
use crate::host::Host;
use crate::pass::{Given, Passes};

/// A node that was looked at with what is wanted of it.
pub(super) struct Looked {
    pub(super) passes: Passes,
    pub(super) policy: Policy,
    pub(super) plan: Plan,
    findings: Vec<Finding>,
}

/// Runs `diff`. Nothing is written.
pub async fn diff(args: &DiffArgs) -> Result<Answer, SessionError> {
    Ok(match look(&args.inputs, &args.node).await? {
        Ok(looked) => looked.answer(),
        Err(refused) => refused,
    })
}

/// Looks. `Err` in `Ok` says why the inputs, or the node, are refused.
pub(super) async fn look(inputs: &Path, node: &NodeArgs) -> Result<Result<Looked, Answer>, SessionError> {
    let inputs = session::read_inputs(inputs)?;
    let host = Host::look(&node.root, session::service_of(node))?;
    let key = host.key()?;
    let made = session::make(&host, &key, &inputs, NAMESPACE, &NodeSeen::default(), None).await?;
    if let Err(why) = host.installation(&Hints::of(&NodeSeen::default(), &made.policy.unit)).await? {
        return Ok(Err(unsupported(&why)));
    }
    // As `apply`: what it would refuse is refused here.
    let mut refused = made.policy_refused;
    match &made.prepared.desired {
        Desired::Refused(sentences) => refused.extend(sentences.iter().cloned()),
        Desired::Ready(wanted) => refused.extend(wanted.errors.iter().cloned()),
        Desired::None => refused.push(session::without_file(&inputs, NAMESPACE)),
        Desired::Waiting(_) => {}
    }
    let findings = made.prepared.findings;
    if !refused.is_empty() {
        let mut text = findings_text(&findings, &refused);
        for sentence in &refused {
            line(&mut text, "refused", sentence);
        }
        let json = json!({ "refused": refused, "findings": findings_json(&findings) });
        return Ok(Err(Answer { text, json, code: Code::Refused }));
    }
    let passes = Passes::new(host, key, TurnSource::Local);
    let given = Given::alone(made.prepared.desired, &made.policy);
    let plan = passes.plan(given).await?;
    Ok(Ok(Looked { passes, policy: made.policy, plan, findings }))
}

impl Looked {
    pub(super) fn answer(&self) -> Answer {
        let Self { passes, policy: _, plan, findings } = self;
        let path = passes.host().shown_path();
        let mut text = findings_text(findings, &[]);
        line(&mut text, "file", &path);
        for change in &plan.changes {
            line(&mut text, "change", &change.to_string());
        }
        let rewrites = plan.steps.iter().any(|step| matches!(step, Step::Replace(_)));
        let is_refused = plan.phase == Phase::Invalid;
        // Nothing was compared where nothing would be written.
        if plan.changes.is_empty() && !is_refused {
            let same = match (rewrites, plan.effect) {
                (false, _) => "none",
                (true, Some(Effect::Files)) => "the content of TLS files alone",
                (true, Some(Effect::None | Effect::Live | Effect::Restart) | None) => {
                    "none in meaning; its bytes would be rewritten"
                }
            };
            line(&mut text, "change", same);
        }
        if let Some(effect) = plan.effect {
            line(&mut text, "effect", &effect_words(effect, &plan.effect_why));
        }
        let would = if rewrites { "write the file" } else { "write nothing" };
        line(&mut text, "apply", &format!("would {would}: {}", plan.reason));
        let json = json!({
            "path": path,
            "changes": plan.changes,
            "effect": plan.effect.map(|effect| effect.to_string()),
            "phase": plan.phase.as_str(),
            "reason": plan.reason,
            "findings": findings_json(findings),
        });
        Answer { text, json, code: if is_refused { Code::Refused } else { Code::Done } }
    }
}

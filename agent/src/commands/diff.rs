//! `diff`: what would change on a node.

use agent_core::inputs::NAMESPACE;
use agent_core::node::annotations::NodeSeen;
use agent_core::node::discovery::Hints;
use agent_core::node::plan::{Desired, Step};
use agent_core::node::turn::TurnSource;
use serde_json::json;

use super::apply::{effect_words, findings_json, findings_text, unsupported};
use super::session::{self, SessionError};
use super::{Answer, Code, line};
use crate::args::DiffArgs;
use crate::host::Host;
use crate::pass::{Given, Passes};

/// Runs `diff`. Nothing is written.
pub async fn diff(args: &DiffArgs) -> Result<Answer, SessionError> {
    let inputs = session::read_inputs(&args.inputs)?;
    let host = Host::look(&args.node.root, session::service_of(&args.node))?;
    let key = host.key()?;
    let made = session::make(&host, &key, &inputs, NAMESPACE, &NodeSeen::default(), None).await?;
    if let Err(why) = host.installation(&Hints::of(&NodeSeen::default(), &made.policy.unit)).await? {
        return Ok(unsupported(&why));
    }
    // As `apply`: what it would refuse is refused here.
    let mut refused = made.policy_refused;
    match &made.prepared.desired {
        Desired::Refused(sentences) => refused.extend(sentences.iter().cloned()),
        Desired::Ready(wanted) => refused.extend(wanted.errors.iter().cloned()),
        Desired::None => refused.push("no ConfigMap \"registries\" with a key \"registries.yaml\" in it".to_owned()),
        Desired::Waiting(_) => {}
    }
    let findings = made.prepared.findings;
    let mut text = findings_text(&findings, &refused);
    if !refused.is_empty() {
        for sentence in &refused {
            line(&mut text, "refused", sentence);
        }
        let json = json!({ "refused": refused, "findings": findings_json(&findings) });
        return Ok(Answer { text, json, code: Code::Refused });
    }
    let path = host.shown_path();
    let passes = Passes::new(host, key, TurnSource::Local);
    let given = Given::alone(made.prepared.desired, &made.policy);
    let plan = passes.plan(given).await?;
    line(&mut text, "file", &path);
    for change in &plan.changes {
        line(&mut text, "change", &change.to_string());
    }
    let rewrites = plan.steps.iter().any(|step| matches!(step, Step::Replace(_)));
    if plan.changes.is_empty() {
        let same = if rewrites { "none in meaning; its bytes would be rewritten" } else { "none" };
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
        "findings": findings_json(&findings),
    });
    Ok(Answer { text, json, code: Code::Done })
}

//! `lint`: what is wrong with inputs, or with a plain registries.yaml.

use std::io::Read;
use std::path::{Path, PathBuf};

use agent_core::registries::finding::{Finding, Severity};
use agent_core::registries::lint::{self as rules, Context, FileFacts, Source};
use agent_core::registries::on_disk::{self, OnDisk};
use agent_core::runtime::settings::{Program, Settings};
use serde_json::json;

use super::apply::{findings_json, findings_text};
use super::{Answer, Code, line};
use crate::args::{LintArgs, RenderArgs};
use crate::commands::render::{RenderError, render};

/// The file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LintError {
    /// The file.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The inputs.
    #[error(transparent)]
    Inputs(#[from] RenderError),
}

/// Runs `lint`.
pub fn lint(args: &LintArgs) -> Result<Answer, LintError> {
    match (&args.file, &args.inputs) {
        (Some(file), _) => file_answer(file),
        (None, Some(inputs)) => {
            let render_args = RenderArgs {
                inputs: inputs.clone(),
                output: None,
                runtime: None,
                disable_default_registry_endpoint: false,
                embedded_registry: None,
            };
            let mut answer = render(&render_args)?;
            if answer.code == Code::Done {
                let findings = answer.json["findings"].clone();
                let count = findings.as_array().map_or(0, Vec::len);
                let lints = answer.text.lines().filter(|text| text.starts_with("lint "));
                answer.text = lints.map(|text| format!("{text}\n")).collect();
                line(&mut answer.text, "lint", &summary(0, count));
                answer.json = json!({ "findings": findings });
            }
            Ok(answer)
        }
        (None, None) => unreachable!("clap demands one of them"),
    }
}

fn file_answer(path: &Path) -> Result<Answer, LintError> {
    let bytes = read(path).map_err(|source| LintError::Read { path: path.to_owned(), source })?;
    let settings = Settings::plain(Program::K3s);
    let context = Context { settings, source: Source::OnDisk, files: FileFacts::new() };
    let findings = match on_disk::read(&bytes) {
        OnDisk::Read(document) => rules::lint(&document, &context),
        OnDisk::Rejected(rejection) => rules::lint_rejected(&rejection),
        OnDisk::CannotTell(why) => {
            let mut text = String::new();
            line(&mut text, "lint", &format!("cannot tell what k3s makes of this file: {why}"));
            return Ok(Answer { text, json: json!({ "cannotTell": why }), code: Code::Fault });
        }
    };
    Ok(answer(&findings))
}

fn answer(findings: &[Finding]) -> Answer {
    let mut text = findings_text(findings, &[]);
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    line(&mut text, "lint", &summary(errors, findings.len() - errors));
    let code = if errors > 0 { Code::Refused } else { Code::Done };
    Answer { text, json: json!({ "findings": findings_json(findings) }), code }
}

fn summary(errors: usize, warnings: usize) -> String {
    format!("{errors} errors, {warnings} warnings")
}

/// Reads a plain file, or standard input.
pub(super) fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    std::fs::read(path)
}

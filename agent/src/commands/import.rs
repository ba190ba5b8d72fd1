//! `import`: an existing registries.yaml as ConfigMap and Secret manifests.

use std::path::PathBuf;

use agent_core::inputs::CONFIG_MAP;
use agent_core::registries::document::Document;
use agent_core::registries::finding::{Finding, Severity};
use agent_core::registries::import::manifests;
use agent_core::registries::lint::{Context, FileFacts, Source, lint, lint_rejected};
use agent_core::registries::on_disk::{self, OnDisk};
use agent_core::runtime::settings::{Program, Settings};
use serde_json::json;

use super::apply::{findings_json, findings_text};
use super::{Answer, Code, line};
use crate::args::{ImportArgs, Output};
use crate::host::files::{FilesError, write_file};

/// Why `import` could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A manifest cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: FilesError,
    },
}

/// Runs `import`. A Secret is written to a file of mode 0600, and never shown.
pub fn import(args: &ImportArgs) -> Result<Answer, ImportError> {
    let ImportArgs { file, output, namespace } = args;
    let (_, output) = Output::or_place(output.as_deref());
    let bytes = std::fs::read(file).map_err(|source| ImportError::Read { path: file.clone(), source })?;
    let document = match on_disk::read(&bytes) {
        OnDisk::Read(document) => document,
        OnDisk::Rejected(rejection) => {
            let findings = lint_rejected(&rejection);
            let json = json!({ "findings": findings_json(&findings) });
            return Ok(Answer { text: findings_text(&findings, &[]), json, code: Code::Refused });
        }
        OnDisk::CannotTell(why) => {
            let text = format!("cannot tell what k3s makes of this file: {why}\n");
            return Ok(Answer { text, json: json!({ "cannotTell": why }), code: Code::Refused });
        }
    };
    let imported = manifests(&document, CONFIG_MAP, namespace);
    let mut text = String::new();
    for warning in &imported.warnings {
        line(&mut text, "# note", warning);
    }
    let refused = refused(&document);
    for finding in &refused {
        line(&mut text, "# note", &format!("apply refuses this until it is mended: {finding}"));
    }
    match output {
        Some(dir) => {
            write(dir.join("configmap.yaml"), imported.config_map.as_bytes(), &mut text)?;
            if let Some(secret) = &imported.secret {
                write(dir.join("secret.yaml"), secret.expose().as_bytes(), &mut text)?;
            }
        }
        None => {
            text.push_str(&imported.config_map);
            if imported.secret.is_some() {
                text.push_str("# The credentials are not shown: --output DIR writes their Secret, mode 0600.\n");
            }
        }
    }
    let json = json!({
        "configMap": imported.config_map,
        "hasSecret": imported.secret.is_some(),
        "warnings": imported.warnings,
        "findings": findings_json(&refused),
    });
    Ok(Answer { text, json, code: Code::Done })
}

/// What k3s lets pass, to nobody's good, and our own input may not hold. Whether TLS files lie on a node is not looked at.
fn refused(document: &Document) -> Vec<Finding> {
    let settings = Settings::plain(Program::K3s);
    let context = Context { settings, source: Source::OurInput, files: FileFacts::new() };
    let is_section = |finding: &Finding| finding.rule == "section-under-mirrors";
    let findings = lint(document, &context).into_iter();
    findings.filter(|finding| finding.severity == Severity::Error || is_section(finding)).collect()
}

fn write(path: PathBuf, bytes: &[u8], text: &mut String) -> Result<(), ImportError> {
    write_file(&path, bytes, 0o600).map_err(|source| ImportError::Write { path: path.clone(), source })?;
    line(text, "written", &format!("{} (mode 0600)", path.display()));
    Ok(())
}

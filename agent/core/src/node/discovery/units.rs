//! Reads `systemctl show` of many units.

use std::fmt;

use crate::node::observed::Program;
use crate::node::observed::Role;

/// One unit, as systemd holds it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// `Id`.
    pub id: String,
    /// Path and arguments of `ExecStart`, the program's own name first.
    pub exec: Vec<String>,
    /// `ExecStart`'s `path`.
    pub executable: String,
    /// `Environment`, assignments with their values.
    pub environment: Vec<String>,
    /// Paths of `EnvironmentFiles`, in order.
    pub environment_files: Vec<String>,
    /// `ActiveState`.
    pub active_state: String,
    /// `UnitFileState`.
    pub file_state: String,
}

/// Arguments and environment may hold the cluster's token: they are left out.
impl fmt::Debug for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unit").field("id", &self.id).field("executable", &self.executable).finish_non_exhaustive()
    }
}

impl Unit {
    /// Which of the two programs it runs, if any.
    pub fn program(&self) -> Option<Program> {
        match self.executable.rsplit('/').next() {
            Some("k3s") => Some(Program::K3s),
            Some("rke2") => Some(Program::Rke2),
            _ => None,
        }
    }

    /// What it runs as; other commands of k3s (a backup job, say) are no role.
    pub fn role(&self) -> Option<Role> {
        match self.exec.get(1).map(String::as_str) {
            Some("server") => Some(Role::Server),
            Some("agent") => Some(Role::Agent),
            _ => None,
        }
    }

    /// Whether it runs, or tries to.
    pub fn is_running(&self) -> bool {
        !matches!(self.active_state.as_str(), "" | "inactive" | "failed")
    }

    /// Whether it runs, tries to, or will at the next boot.
    pub fn is_used(&self) -> bool {
        self.role().is_some()
            && (self.active_state != "inactive" || matches!(self.file_state.as_str(), "enabled" | "enabled-runtime"))
    }
}

/// Reads the units of `systemctl show` that run k3s or RKE2: blocks of `Key=value`, a blank line between two units.
pub fn parse_show(text: &str) -> Vec<Unit> {
    let units = text.split("\n\n").map(|block| {
        let mut unit = Unit::default();
        for line in block.lines() {
            let Some((key, value)) = line.split_once('=') else { continue };
            match key {
                "Id" => unit.id = value.to_owned(),
                "ActiveState" => unit.active_state = value.to_owned(),
                "UnitFileState" => unit.file_state = value.to_owned(),
                "Environment" => unit.environment = words(value),
                "EnvironmentFiles" => {
                    // `/etc/default/k3s (ignore_errors=yes)`, one line for each.
                    let path = value.rsplit_once(" (ignore_errors=").map_or(value, |(path, _)| path);
                    unit.environment_files.push(path.to_owned());
                }
                "ExecStart" => {
                    let path = value.split_once("path=").and_then(|(_, rest)| rest.split_once(" ; "));
                    let args = value.split_once("argv[]=").and_then(|(_, rest)| rest.split_once(" ; ignore_errors="));
                    if let (Some((path, _)), Some((args, _))) = (path, args) {
                        unit.executable = path.to_owned();
                        unit.exec = words(args);
                    }
                }
                _ => {}
            }
        }
        unit
    });
    units.filter(|unit| unit.program().is_some()).collect()
}

/// Splits at blanks outside quotes, as systemd joins them.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, ' ' | '\t') => words.extend(word.take()),
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (Some(open), close) if open == close => quote = None,
            (Some('"') | None, '\\') => word.get_or_insert_default().extend(letters.next()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

//! Collects the facts from which the core decides what runs here.

use std::collections::BTreeMap;

use agent_core::node::discovery::Candidate;
use agent_core::node::discovery::Facts;
use agent_core::node::discovery::Unit;
use agent_core::node::discovery::config_path;
use agent_core::node::discovery::env_file;
use agent_core::node::discovery::is_plain;
use agent_core::node::discovery::settings;
use agent_core::node::observed::Program;
use agent_core::secret::Secret;

use super::root::Root;
use super::runtime;

const LONGEST: u64 = 1 << 20;

/// Reads what belongs to each of these units.
pub fn facts(root: &Root, units: Vec<Unit>, node_args: Option<Vec<String>>) -> std::io::Result<Facts> {
    let candidates = units.into_iter().filter(|unit| unit.role().is_some());
    let candidates: Result<_, _> = candidates.map(|unit| candidate(root, unit, node_args.as_deref())).collect();
    Ok(Facts { candidates: candidates?, node_args })
}

fn candidate(root: &Root, unit: Unit, node_args: Option<&[String]>) -> std::io::Result<Candidate> {
    let mut env: BTreeMap<_, _> = env_file(&unit.environment.join("\n"));
    // systemd: a file beats `Environment=`, a later file an earlier one.
    for path in &unit.environment_files {
        if let Some(text) = text(root, path)? {
            env.extend(env_file(&text));
        }
    }
    let mut candidate = Candidate { unit, env, ..Candidate::default() };
    let path = config_path(&candidate);
    let directory = format!("{path}.d");
    let more = root.names(&directory)?.into_iter().filter(|name| name.ends_with(".yaml") || name.ends_with(".yml"));
    for path in std::iter::once(path).chain(more.map(|name| format!("{directory}/{name}"))) {
        if let Some(text) = text(root, &path)? {
            candidate.config.push((path, Secret::new(text)));
        }
    }
    // A file that is no YAML, or a path that leads elsewhere, is refused by the core: there is nothing to look into.
    if let Ok(settings) = settings(&candidate, node_args)
        && is_plain(&settings.data_dir)
    {
        candidate.data = runtime::data(root, candidate.unit.program().unwrap_or(Program::K3s), &settings.data_dir)?;
    }
    Ok(candidate)
}

fn text(root: &Root, path: &str) -> std::io::Result<Option<String>> {
    Ok(root.read(path, LONGEST)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use agent_core::node::discovery::decide;

    use super::*;

    #[test]
    fn environment_files_and_configuration_of_the_host_lead_to_the_data_directory() {
        let temp = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = temp.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            #[expect(clippy::disallowed_methods, reason = "a test plays the host")]
            std::fs::write(path, text).unwrap();
        };
        put("etc/k3s.env", "K3S_CONFIG_FILE=/etc/own.yaml\nK3S_TOKEN=canary\n");
        put("etc/own.yaml", "token: canary\ndata-dir: /one\n");
        put("etc/own.yaml.d/2.yaml", "data-dir: /two\n");
        put("etc/own.yaml.d/3.txt", "data-dir: /three\n");
        put("two/server/db/etcd/x", "");
        let exec = vec!["/usr/local/bin/k3s".to_owned(), "server".to_owned()];
        let unit = Unit {
            id: "k3s.service".into(),
            executable: exec[0].clone(),
            exec,
            active_state: "active".into(),
            environment_files: vec!["/etc/missing".into(), "/etc/k3s.env".into()],
            ..Unit::default()
        };
        let facts = facts(&Root::open(temp.path()).unwrap(), vec![unit], None).unwrap();
        let found = decide(&facts, "").unwrap();
        assert_eq!((found.data_dir.as_str(), found.has_etcd), ("/two", true));
    }
}

use super::*;

const SHOWN: &str = "\
Id=k3s.service
ActiveState=active
UnitFileState=enabled
ExecStart={ path=/usr/local/bin/k3s ; argv[]=/usr/local/bin/k3s server --embedded-registry --data-dir \"/srv/k 3s\" ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }
Environment=A=b \"K3S_ROOTLESS=x y\"
EnvironmentFiles=/etc/default/k3s (ignore_errors=yes)
EnvironmentFiles=/etc/systemd/system/k3s.service.env (ignore_errors=yes)

Id=cron.service
ActiveState=active
ExecStart={ path=/usr/sbin/cron ; argv[]=/usr/sbin/cron -f ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }

Id=k3s-backup.service
ActiveState=failed
ExecStart={ path=/usr/local/bin/k3s ; argv[]=/usr/local/bin/k3s etcd-snapshot save ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }
";

fn candidate(id: &str, args: &[&str]) -> Candidate {
    let program = if id.starts_with("rke2") { "rke2" } else { "k3s" };
    let executable = format!("/usr/local/bin/{program}");
    let mut exec = vec![executable.clone()];
    exec.extend(args.iter().map(|arg| (*arg).to_owned()));
    let unit =
        Unit { id: format!("{id}.service"), exec, executable, active_state: "active".to_owned(), ..Unit::default() };
    Candidate { unit, ..Candidate::default() }
}

fn one(candidate: Candidate) -> Result<Installation, Unsupported> {
    decide(&Facts { candidates: vec![candidate], node_args: None }, "")
}

fn with_config(files: &[(&str, &str)]) -> Candidate {
    let config = files.iter().map(|(path, text)| ((*path).to_owned(), Secret::from(*text))).collect();
    Candidate { config, ..candidate("k3s", &["server"]) }
}

#[test]
fn systemd_output_is_read_by_property_and_only_k3s_stays() {
    let units = parse_show(SHOWN);
    assert_eq!(units.iter().map(|unit| unit.id.as_str()).collect::<Vec<_>>(), ["k3s.service", "k3s-backup.service"]);
    assert_eq!(units[0].exec[1..], ["server", "--embedded-registry", "--data-dir", "/srv/k 3s"]);
    assert_eq!(units[0].environment, ["A=b", "K3S_ROOTLESS=x y"]);
    assert_eq!(units[0].environment_files, ["/etc/default/k3s", "/etc/systemd/system/k3s.service.env"]);
    let candidates = units.into_iter().map(|unit| Candidate { unit, ..Candidate::default() }).collect();
    let found = decide(&Facts { candidates, node_args: None }, "").unwrap();
    assert_eq!((found.unit.as_str(), found.data_dir.as_str()), ("k3s.service", "/srv/k 3s"));
    assert_eq!(found.embedded_registry.as_deref(), Some("127.0.0.1:6443"));
}

#[test]
fn defaults_follow_program_and_role() {
    let server = one(candidate("k3s", &["server"])).unwrap();
    assert_eq!((server.role, server.registries_path.as_str()), (Role::Server, "/etc/rancher/k3s/registries.yaml"));
    let agent = one(candidate("rke2-agent", &["agent"])).unwrap();
    assert_eq!((agent.program, agent.role), (Program::Rke2, Role::Agent));
    assert_eq!(agent.registries_path, "/etc/rancher/rke2/registries.yaml");
    assert_eq!(agent.data_dir, "/var/lib/rancher/rke2");
    assert_eq!((server.executable.as_str(), without_service().executable.as_str()), ("/usr/local/bin/k3s", ""));
    assert_eq!(without_service().unit, "");
}

#[test]
fn a_later_file_replaces_and_a_flag_beats_the_files() {
    let files = [
        ("config.yaml", "data-dir: /a\nsnapshotter: stargz\ndisable-default-registry-endpoint: true\n# x\n"),
        ("config.yaml.d/10.yaml", "data-dir: /b\nnode-label+: [a=b]\nprivate-registry: /etc/rancher/mine.yaml\n"),
    ];
    let found = one(with_config(&files)).unwrap();
    assert_eq!((found.data_dir.as_str(), found.stargz, found.disable_default_endpoint), ("/b", true, true));
    assert_eq!(found.registries_path, "/etc/rancher/mine.yaml");
    let mut flagged = with_config(&files);
    flagged.unit.exec.extend(["--data-dir=/c".to_owned(), "--disable-default-registry-endpoint=false".to_owned()]);
    let found = one(flagged.clone()).unwrap();
    assert_eq!((found.data_dir.as_str(), found.disable_default_endpoint), ("/c", false));
    let node_args =
        Some(["server", "--data-dir", "/d", "--disable-default-registry-endpoint", "true"].map(str::to_owned));
    let facts = Facts { candidates: vec![flagged], node_args: node_args.map(Vec::from) };
    let found = decide(&facts, "").unwrap();
    assert_eq!((found.data_dir.as_str(), found.disable_default_endpoint), ("/d", true));
}

#[test]
fn a_file_is_read_as_k3s_reads_it() {
    let read = |text: &str| one(with_config(&[("/etc/rancher/k3s/config.yaml", text)]));
    assert!(read("disable-default-registry-endpoint: yes\n").unwrap().disable_default_endpoint);
    assert!(read("x: &x on\ndisable-default-registry-endpoint: *x\n").unwrap().disable_default_endpoint);
    assert!(read("disable-default-registry-endpoint: \"True\"\n").unwrap().disable_default_endpoint);
    assert!(!read("disable-default-registry-endpoint: off\n").unwrap().disable_default_endpoint);
    assert_eq!(read("data-dir: /a\ndata-dir: /b\n").unwrap().data_dir, "/b", "a doubled key is no fault");
    assert_eq!(read("node-label: [a=b]\nnode-label: [c=d]\n1: x\n").unwrap().data_dir, "/var/lib/rancher/k3s");
    assert!(read("snapshotter: [native, stargz]\n").unwrap().stargz);
    for nothing in ["", "# nothing\n", "---\n", "~\n"] {
        read(nothing).unwrap();
    }
    let Unsupported(why) = read("- canary\n").unwrap_err();
    assert!(why.contains("config.yaml") && !why.contains("canary"), "{why}");
    let files = [("config.yaml", "snapshotter: stargz\n"), ("config.yaml.d/1.yaml", "snapshotter+:\n")];
    assert!(one(with_config(&files)).unwrap().stargz, "nothing is added");
}

#[test]
fn a_short_flag_is_the_long_one() {
    let mut flagged = with_config(&[("config.yaml", "data-dir: /file\n")]);
    flagged.unit.exec.extend(["-d".to_owned(), "/line".to_owned()]);
    assert_eq!(one(flagged).unwrap().data_dir, "/line");
    assert_eq!(one(with_config(&[("config.yaml", "d: /file\n")])).unwrap().data_dir, "/file");
}

#[test]
fn a_data_directory_is_one_plain_path() {
    let of = |path: &str| one(candidate("k3s", &["server", "--data-dir", path]));
    assert_eq!(of("/srv/k3s//").unwrap().data_dir, "/srv/k3s");
    for path in ["/srv/../etc", "data", "/srv/./k3s", "/"] {
        let Unsupported(why) = of(path).unwrap_err();
        assert!(why.contains("--data-dir") && why.contains(": "), "{path}: {why}");
    }
}

#[test]
fn an_environment_file_gives_what_is_looked_at_and_never_a_token() {
    let text = "# x\nK3S_TOKEN=canary\nK3S_DATA_DIR='/srv/k3s'\nK3S_CONFIG_FILE=\"/etc/k.yaml\"\n";
    let mut with = candidate("k3s", &["server"]);
    with.env = env_file(text);
    assert!(!format!("{:?}", with.env).contains("canary"));
    assert_eq!(config_path(&with), "/etc/k.yaml");
    assert_eq!(one(with).unwrap().data_dir, "/srv/k3s");
}

#[test]
fn what_is_not_supported_is_named_with_its_remedy() {
    let data = |data: Data| Candidate { data, ..candidate("k3s", &["server"]) };
    let mirrors = b"[plugins.cri.registry.mirrors.\"docker.io\"]\n password = \"canary\"".to_vec();
    let old = Data { has_containerd: true, config_toml: Some(Secret::new(mirrors)), ..Data::default() };
    let template = |text: &str| Data { template: Some(("/t.tmpl".to_owned(), text.to_owned())), ..Data::default() };
    let rows = [
        (candidate("k3s", &["server", "--docker"]), "--docker"),
        (candidate("k3s", &["agent", "--container-runtime-endpoint", "unix:///x"]), "unix:///x"),
        (candidate("k3s", &["server", "--rootless"]), "rootless"),
        (candidate("k3s", &["server", "--disable-agent"]), "--disable-agent"),
        (candidate("k3s", &["server", "--private-registry", "/root/r.yaml"]), "/root/r.yaml"),
        (candidate("k3s", &["server", "--private-registry", "/etc/rancher/../r.yaml"]), "outside /etc/rancher"),
        (candidate("k3s", &["server", "--private-registry", "/etc/rancher/a\n[Service]/r.yaml"]), "control character"),
        (candidate("k3s", &["server", "--data-dir", "/a\nb"]), "control characters"),
        (with_config(&[("/etc/rancher/k3s/config.yaml", "a: [canary")]), "/etc/rancher/k3s/config.yaml cannot be read"),
        (data(old), "upgrade"),
        (data(template("version = 3")), "/t.tmpl has no registry auth tables"),
    ];
    for (candidate, part) in rows {
        let Unsupported(why) = one(candidate).unwrap_err();
        assert!(why.contains(part) && !why.contains("canary") && !why.contains('\n'), "{part}: {why}");
    }
    one(data(template("{{- template \"base\" . -}}\n[x]"))).unwrap();
}

#[test]
fn none_and_two_units_are_refused_and_the_policy_decides() {
    let facts = |candidates| Facts { candidates, node_args: None };
    let Unsupported(why) = decide(&facts(vec![]), "").unwrap_err();
    assert!(why.contains("no enabled or running unit"), "{why}");
    let both = facts(vec![candidate("k3s", &["server"]), candidate("k3s-agent", &["agent"])]);
    let Unsupported(why) = decide(&both, "").unwrap_err();
    assert!(why.starts_with("k3s.service and k3s-agent.service run k3s"), "{why}");
    for name in ["k3s-agent", "k3s-agent.service"] {
        assert_eq!(decide(&both, name).unwrap().role, Role::Agent);
    }
    let Unsupported(why) = decide(&both, "other").unwrap_err();
    assert!(why.contains("no unit other"), "{why}");
    let mut left = candidate("k3s-old", &["server"]);
    left.unit.active_state = "inactive".to_owned();
    left.unit.file_state = "disabled".to_owned();
    assert_eq!(decide(&facts(vec![left, candidate("k3s", &["server"])]), "").unwrap().unit, "k3s.service");
}

#[test]
fn of_two_enabled_units_the_one_that_runs_counts() {
    let choose = |first: &str, second: &str| {
        let with = |id: &str, role: &str, state: &str| {
            let mut candidate = candidate(id, &[role]);
            candidate.unit.active_state = state.to_owned();
            candidate.unit.file_state = "enabled".to_owned();
            candidate
        };
        let candidates = vec![with("k3s", "server", first), with("k3s-agent", "agent", second)];
        decide(&Facts { candidates, node_args: None }, "").map(|found| found.unit).map_err(|why| why.0)
    };
    assert_eq!(choose("active", "inactive").unwrap(), "k3s.service");
    assert_eq!(choose("failed", "activating").unwrap(), "k3s-agent.service");
    for (first, second) in [("active", "activating"), ("inactive", "failed"), ("inactive", "inactive")] {
        assert!(choose(first, second).unwrap_err().contains("k3s.service and k3s-agent.service"), "{first} {second}");
    }
}

#[test]
fn the_variable_names_the_configuration_and_beats_the_flag() {
    let mut named = candidate("k3s", &["server", "--config", "/flag.yaml"]);
    assert_eq!(config_path(&named), "/flag.yaml");
    named.env = env_file("K3S_CONFIG_FILE=\n");
    assert_eq!(config_path(&named), "/flag.yaml");
    named.env = env_file("K3S_CONFIG_FILE=/variable.yaml\nRKE2_CONFIG_FILE=/other.yaml\n");
    assert_eq!(config_path(&named), "/variable.yaml");
}

#[test]
fn the_embedded_registry_is_a_servers_flag_and_an_agents_file() {
    let stands = |args: &[&str]| {
        let mut candidate = candidate("k3s", args);
        candidate.data.embedded = vec!["[::1]:7443".to_owned()];
        one(candidate).unwrap().embedded_registry
    };
    assert_eq!(stands(&["agent"]).as_deref(), Some("[::1]:7443"));
    assert_eq!(stands(&["server"]), None, "left from when the flag was on");
    assert_eq!(stands(&["server", "--embedded-registry"]).as_deref(), Some("[::1]:7443"));
    let address = |id: &str, args: &[&str]| one(candidate(id, args)).unwrap().embedded_registry;
    let own = ["server", "--embedded-registry", "--https-listen-port=8443"];
    assert_eq!(address("k3s", &own).as_deref(), Some("127.0.0.1:8443"));
    assert_eq!(address("rke2", &["server", "--embedded-registry"]).as_deref(), Some("127.0.0.1:9345"));
    assert_eq!(address("k3s-agent", &["agent"]), None);
}

#[test]
fn only_what_k3s_made_for_its_embedded_registry_is_taken_for_it() {
    const EMBEDDED: &[u8] = b"# File generated by k3s. DO NOT EDIT.\nserver = \"https://127.0.0.1:6443/v2\"\n\
        client = [[\"/d/agent/client-k3s-controller.crt\", \"/d/agent/client-k3s-controller.key\"]]\n\n[host]\n";
    let is = |name: &str, text: &[u8]| is_embedded(Program::K3s, name, text);
    assert!(is("127.0.0.1:6443", EMBEDDED) && is("[::1]:7443", EMBEDDED));
    assert!(!is_embedded(Program::Rke2, "127.0.0.1:6443", EMBEDDED));
    for name in ["127.0.0.1", "10.0.0.1:6443", "127.0.0.1:x", "localhost:6443"] {
        assert!(!is(name, EMBEDDED), "{name}");
    }
    assert!(!is("127.0.0.1:5000", b"# File generated by k3s. DO NOT EDIT.\n[host]\n"), "a registry of this host");
    assert!(!is("127.0.0.1:6443", &EMBEDDED[2..]), "not k3s's file");
}

#[test]
fn facts_never_show_a_token() {
    let mut seen = with_config(&[("config.yaml", "token: canary")]);
    seen.unit.exec.push("--token=canary".to_owned());
    seen.unit.environment.push("K3S_TOKEN=canary".to_owned());
    assert!(!format!("{:?}", Facts { candidates: vec![seen], node_args: None }).contains("canary"));
}

#[test]
fn etcd_runs_on_a_server_with_its_own_datastore() {
    let with = |args: &[&str]| {
        let mut candidate = candidate("k3s", args);
        candidate.data.has_etcd = true;
        one(candidate).unwrap().has_etcd
    };
    assert!(with(&["server"]));
    assert!(!with(&["agent"]));
    assert!(!with(&["server", "--disable-etcd"]));
    assert!(!with(&["server", "--datastore-endpoint=mysql://canary"]));
    let mut external = candidate("k3s", &["server"]);
    external.data.has_etcd = true;
    external.env = env_file("K3S_DATASTORE_ENDPOINT=mysql://canary\n");
    assert!(!format!("{external:?}").contains("canary") && !format!("{:?}", external.env).contains("canary"));
    assert!(!one(external).unwrap().has_etcd);
}

#[test]
fn the_node_says_unit_and_arguments_and_the_policy_is_asked_after_it() {
    let mut node = NodeSeen::default();
    assert_eq!(Hints::of(&node, "k3s-two"), Hints { unit: "k3s-two".into(), node_args: None });
    node.annotations.insert("k3s-registry-agent/unit".into(), "k3s-one".into());
    node.annotations.insert("k3s.io/node-args".into(), r#"["agent","--token","********"]"#.into());
    let args = ["agent", "--token", "********"].map(str::to_owned).to_vec();
    assert_eq!(Hints::of(&node, "k3s-two"), Hints { unit: "k3s-one".into(), node_args: Some(args) });
    node.annotations.insert("k3s.io/node-args".into(), "{}".into());
    assert_eq!(Hints::of(&node, "").node_args, None);
}

//! The operator's commands as a person runs them: which cluster they ask, how they end, and under which name.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::{LONG, PROGRAM, Ran, command, finish, put, ran, tool};
use serde_json::{Value, json};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/k3s-registry-agent/leases/k3s-registry-agent-coordinator";

/// An API server that gives the same answers for ever, and 404 for what it has not.
fn api(answers: BTreeMap<String, Value>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let path = head.split_whitespace().nth(1).unwrap_or_default().split('?').next().unwrap().to_owned();
            let (code, body) = match answers.get(&path) {
                Some(body) => (200, body.clone()),
                None => (404, json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"})),
            };
            let body = body.to_string();
            let answer = format!(
                "HTTP/1.1 {code} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}")
}

/// A cluster of nodes in these phases, with a sentence.
fn cluster(sentence: &str, phases: &[&str]) -> String {
    let node = |(at, phase): (usize, &&str)| {
        json!({"metadata": {"name": format!("n{at}"), "annotations": {"k3s-registry-agent/phase": phase,
            "k3s-registry-agent/reason": "so", "k3s-registry-agent/revision": "0123456789ab"}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    };
    let pod = |at: usize| json!({"metadata": {"labels": {"app.kubernetes.io/component": "agent"}}, "spec": {"nodeName": format!("n{at}")}, "status": {"phase": "Running"}});
    let nodes: Vec<Value> = phases.iter().enumerate().map(node).collect();
    let pods: Vec<Value> = (0..phases.len()).map(pod).collect();
    let registries = json!({"registries.yaml": "mirrors: {docker.io: {endpoint: [\"https://m.example\"]}}\n"});
    let map = json!({"metadata": {"namespace": "k3s-registry-agent", "name": "registries", "uid": "u", "resourceVersion": "1"},
        "data": registries});
    let ours = "/api/v1/namespaces/k3s-registry-agent";
    api(BTreeMap::from([
        (format!("{ours}/configmaps"), json!({"metadata": {}, "items": [map]})),
        (format!("{ours}/secrets"), json!({"metadata": {}, "items": []})),
        (LEASE.into(), json!({"metadata": {"annotations": {"k3s-registry-agent/rollout": sentence}}})),
        ("/api/v1/nodes".into(), json!({"metadata": {}, "items": nodes})),
        ("/api/v1/namespaces/k3s-registry-agent/pods".into(), json!({"metadata": {}, "items": pods})),
    ]))
}

fn kubeconfig(path: &Path, server: &str) -> String {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    put(path, config.to_string().as_bytes(), 0o600);
    path.display().to_string()
}

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
    ran(finish(command(arguments).envs(environment.iter().copied()).spawn().unwrap(), LONG))
}

#[test]
fn status_ends_with_0_when_every_node_is_current_and_with_3_when_not() {
    let temp = tempfile::tempdir().unwrap();
    let config = kubeconfig(&temp.path().join("all"), &cluster("2 of 2", &["Current", "Current"]));
    run(&["status", "--kubeconfig", &config], &[])
        .says(0, &["2 of 2\n2 nodes: 2 Current\n", "n1    agent  Current  0123456789ab  -      so\n"])
        .never_says(&["\u{1b}"]);
    let config = kubeconfig(&temp.path().join("one"), &cluster("1 of 2", &["Current", "RolledBack"]));
    run(&["status", "--kubeconfig", &config], &[]).says(3, &["1 of 2\n2 nodes: 1 Current, 1 RolledBack\n"]);
    let said = run(&["status", "--kubeconfig", &config, "--output", "json"], &[]);
    let json: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((said.code, &json["allCurrent"], &json["nodes"][1]["phase"]), (3, &json!(false), &json!("RolledBack")));
}

#[test]
fn plan_names_the_turns_in_their_order() {
    let temp = tempfile::tempdir().unwrap();
    let config = kubeconfig(&temp.path().join("config"), &cluster("2 of 2", &["Current", "Invalid", "Current"]));
    run(&["plan", "--kubeconfig", &config], &[]).says(
        0,
        &[
            ": what the inputs make now\nnow        2 of 2\nhave it    none\nturn 1     n0\nturn 2     n2\n",
            "aside      n1: says Invalid",
            "restarts   2 at most",
            "duration   unknown",
        ],
    );
}

#[test]
fn the_cluster_is_looked_for_where_kubectl_does() {
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path().join("home").display().to_string();
    kubeconfig(&temp.path().join("home/.kube/config"), &cluster("from home", &["Current"]));
    let named = kubeconfig(&temp.path().join("named"), &cluster("from the environment", &["Current"]));
    let flag = kubeconfig(&temp.path().join("flag"), &cluster("from the flag", &["Current"]));
    run(&["status"], &[("HOME", &home)]).says(0, &["from home\n"]);
    run(&["status"], &[("HOME", &home), ("KUBECONFIG", &named)]).says(0, &["from the environment\n"]);
    run(&["status", "--kubeconfig", &flag], &[("HOME", &home), ("KUBECONFIG", &named)]).says(0, &["from the flag\n"]);
    run(&["status", "--context", "other"], &[("KUBECONFIG", &named)]).says(1, &["cannot read the kubeconfig", "other"]);
}

#[test]
fn an_end_by_a_fault_names_what_to_do() {
    let temp = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = kubeconfig(&temp.path().join("nobody"), &format!("http://{free}"));
    run(&["status", "--kubeconfig", &nobody], &[])
        .says(1, &["cannot read the Lease", "is the cluster up", "--kubeconfig", "Connection refused"]);
    let bare = kubeconfig(&temp.path().join("bare"), &api(BTreeMap::new()));
    for arguments in [&["status"][..], &["plan"], &["pause"], &["resume"], &["retry"]] {
        let arguments = [arguments, &["--kubeconfig", &bare]].concat();
        run(&arguments, &[])
            .says(1, &["there is no namespace k3s-registry-agent", "kubectl apply -f manifests/install.yaml"]);
    }
    run(&["pause", "n9", "--kubeconfig", &bare], &[]).says(1, &["there is no Node n9: kubectl get nodes"]);
    let missing = temp.path().join("missing").display().to_string();
    run(&["status", "--kubeconfig", &missing], &[]).says(1, &["cannot read the kubeconfig", "missing"]);
}

#[test]
fn a_broken_kubeconfig_is_named_by_its_place_and_not_quoted() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("broken");
    for user in ["{token: canary-hunter2", "canary-hunter2", "{token: [canary-hunter2]}"] {
        let text = format!("apiVersion: v1\nkind: Config\nusers:\n- name: u\n  user: {user}\nclusters: []\n");
        put(&path, text.as_bytes(), 0o600);
        run(&["status", "--kubeconfig", &path.display().to_string()], &[])
            .says(1, &["cannot read the kubeconfig", "at line "])
            .never_says(&["canary", "hunter2"]);
    }
}

#[test]
fn what_a_credential_plugin_wrote_and_the_password_of_a_proxy_are_not_quoted() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("config").display().to_string();
    let config = |cluster: Value, script: &str| {
        let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
            "command": "/bin/sh", "args": ["-c", script]});
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"exec": exec}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        put(Path::new(&path), config.to_string().as_bytes(), 0o600);
    };
    let server = json!({"server": "https://127.0.0.1:1"});
    for (script, said) in [
        ("echo canary; echo hunter2 >&2; exit 7", "credential plugin failed (exit status: 7)"),
        ("echo canary", "credential plugin wrote no ExecCredential"),
        ("echo 'apiVersion: v1\nstatus: {token: [canary]}'", "credential plugin wrote no ExecCredential"),
    ] {
        config(server.clone(), script);
        run(&["status", "--kubeconfig", &path], &[])
            .says(1, &["cannot build a client: ", said])
            .never_says(&["canary", "hunter2"]);
    }
    let proxy = "http://carol:canary-hunter2@127.0.0.1:9";
    config(json!({"server": "https://127.0.0.1:1", "proxy-url": proxy}), "exit 0");
    run(&["status", "--kubeconfig", &path], &[]).says(1, &["a proxy is set", "HTTPS_PROXY"]).never_says(&["canary"]);
    config(server, "exit 0");
    run(&["status", "--kubeconfig", &path], &[("HTTPS_PROXY", proxy)])
        .says(1, &["a proxy is set", "unset it"])
        .never_says(&["canary"]);
}

#[test]
fn watching_goes_on_after_the_first_sight() {
    let temp = tempfile::tempdir().unwrap();
    let config = kubeconfig(&temp.path().join("all"), &cluster("all is well", &["Current"]));
    let mut child =
        command(&["status", "--watch", "--output", "json", "--interval-seconds", "1", "--kubeconfig", &config])
            .spawn()
            .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut first = vec![0; 12];
    out.read_exact(&mut first).unwrap();
    assert_eq!(first, b"{\"allCurrent");
    assert_eq!(child.try_wait().unwrap(), None, "it goes on");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn as_a_plugin_of_kubectl_it_has_kubectls_name_for_it() {
    let temp = tempfile::tempdir().unwrap();
    let plugin: PathBuf = temp.path().join("kubectl-registries");
    symlink(PROGRAM, &plugin).unwrap();
    let plugin = plugin.display().to_string();
    let help = |program: &str| {
        let mut command = tool(program);
        ran(finish(command.args(["status", "--help"]).env_clear().spawn().unwrap(), LONG))
    };
    help(&plugin).says(0, &["Usage: kubectl registries status [OPTIONS]", "Exit codes: 0 every node is Current"]);
    help(PROGRAM).says(0, &["Usage: k3s-registry-agent status [OPTIONS]"]);
}

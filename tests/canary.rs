//! No secret leaves the node's 0600 files: planted ones are looked for in everything else, plain and packed.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::agent::{Agent, get};
use common::{
    Bed, FILE, JOURNAL, LONG, PROGRAM, config_map, config_map_with_policy, mirror, secret, snapshot, tool, until,
};
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};

const USER: &str = "canary-user-name";
const PASSWORD: &str = "canary-pass-word";
/// User and password of a registry token, `auth` in a Docker credential file.
const TOKEN_USER: &str = "canary-token-user";
const TOKEN: &str = "canary-token-pass";
const IDENTITY: &str = "canary-identity-token";
/// In the private key of a client certificate.
const KEY: &str = "canary-private-key-of-tls";
/// User part of a URL in a file that somebody wrote by hand.
const URL_USER: &str = "canary-url-user";
const URL_PASSWORD: &str = "canary-url-pass";
/// Credentials of that file.
const EARLIER: &str = "canary-earlier-pass";

const ALL: [&str; 9] = [USER, PASSWORD, TOKEN_USER, TOKEN, IDENTITY, KEY, URL_USER, URL_PASSWORD, EARLIER];

/// A canary as it may be seen: as it is, and within base64 at each of the three offsets.
fn forms(canary: &str) -> Vec<String> {
    let mut forms = vec![canary.to_owned()];
    for offset in 0..3 {
        let packed = STANDARD.encode(format!("{}{canary}", "x".repeat(offset)));
        let packed = packed.trim_end_matches('=');
        // The first characters are also of what stands before, the last ones also of what follows.
        forms.push(packed[4.min(offset * 4)..packed.len() - 2].to_owned());
    }
    forms
}

/// The canaries that can be seen in a text.
fn seen(text: &str) -> Vec<String> {
    // Base64 may be wrapped.
    let joined: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    ALL.iter().flat_map(|canary| forms(canary)).filter(|form| text.contains(form) || joined.contains(form)).collect()
}

#[track_caller]
fn hides(what: &str, text: &str) {
    let seen = seen(text);
    assert!(seen.is_empty(), "{what} shows {seen:?}:\n{text}");
}

/// Nothing below the root that others may read holds a canary, names included; ours is closed, and no temporary file is left.
#[track_caller]
fn closed(what: &str, root: &Path) {
    for (name, (mode, content)) in snapshot(root) {
        hides(what, &name);
        assert!(!name.contains("/.registries."), "{what}: {name} is left");
        if name.starts_with(JOURNAL) {
            let wanted = if content.is_some() { 0o600 } else { 0o700 };
            assert_eq!(mode, wanted, "{what}: {name}");
        }
        if let Some(content) = content
            && mode & 0o077 != 0
        {
            hides(&format!("{what}: {name}, mode {mode:o},"), &String::from_utf8_lossy(&content));
        }
    }
}

#[test]
fn a_canary_is_found_plain_and_packed() {
    for canary in ALL {
        assert!(!seen(&format!("x{canary}y")).is_empty());
        for before in ["", "a", "ab", "abc"] {
            let packed = STANDARD.encode(format!("{before}{canary}tail"));
            assert!(!seen(&packed).is_empty(), "{canary} after {before:?} in {packed}");
            let (first, rest) = packed.split_at(9);
            assert!(!seen(&format!("{first}\n  {rest}")).is_empty(), "{canary} wrapped");
        }
    }
    assert!(seen("canary, but none of ours").is_empty());
}

fn docker(auths: &str) -> String {
    secret(
        "login",
        "kubernetes.io/dockerconfigjson",
        None,
        &[(".dockerconfigjson", &format!("{{\"auths\": {{{auths}}}}}"))],
    )
}

fn pem(label: &str, content: &str) -> String {
    let der = [&[0x30, u8::try_from(content.len()).expect("it is short")], content.as_bytes()].concat();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----", STANDARD.encode(der))
}

/// Inputs that are used, with every kind of secret in them.
fn good() -> Vec<(&'static str, String)> {
    let token = STANDARD.encode(format!("{TOKEN_USER}:{TOKEN}"));
    let auths = format!(
        "\"m.example\": {{\"username\": \"{USER}\", \"password\": \"{PASSWORD}\"}}, \"t.example\": {{\"auth\": \"{token}\"}}, \
         \"i.example\": {{\"identitytoken\": \"{IDENTITY}\"}}"
    );
    let tls = [("tls.crt", pem("CERTIFICATE", "")), ("tls.key", pem("PRIVATE KEY", KEY))];
    let tls: Vec<(&str, &str)> = tls.iter().map(|(key, text)| (*key, text.as_str())).collect();
    vec![
        (
            "registries.yaml",
            config_map_with_policy(
                &mirror("docker.io", "https://m.example"),
                "version: 1\nadopt: replace\nsettle: 100ms\n",
            ),
        ),
        ("login.yaml", docker(&auths)),
        ("client.yaml", secret("client", "kubernetes.io/tls", Some("k.example"), &tls)),
        (
            "part.yaml",
            secret(
                "part",
                "Opaque",
                None,
                &[("registries.yaml", &format!("configs:\n  p.example:\n    auth:\n      auth: {token}\n"))],
            ),
        ),
    ]
}

/// One input of the good ones replaced by one that is refused, with a canary where the mistake is.
fn bad() -> Vec<(&'static str, (&'static str, String))> {
    let auth = |text: &str| format!("configs:\n  m.example:\n    auth:\n{text}");
    let part = |text: &str| ("part.yaml", secret("part", "Opaque", None, &[("registries.yaml", text)]));
    vec![
        (
            "a credential in the ConfigMap",
            ("registries.yaml", config_map(&auth(&format!("      password: {PASSWORD}\n")))),
        ),
        ("a password for a key", part(&auth(&format!("      {PASSWORD}: x\n")))),
        ("a doubled password", part(&auth(&format!("      password: {PASSWORD}\n      password: {TOKEN}\n")))),
        ("a list for a password", part(&auth(&format!("      password: [{PASSWORD}]\n")))),
        ("a scalar for a login", part(&format!("configs:\n  m.example:\n    auth: {PASSWORD}\n"))),
        ("broken YAML in a part", part(&auth(&format!("      password: \"{PASSWORD}\n")))),
        ("an alias for a password", part(&auth(&format!("      password: *{PASSWORD}\n")))),
        ("a tag before a password", part(&auth(&format!("      password: !!int {PASSWORD}\n")))),
        ("a URL with a user part", part(&mirror("u.example", &format!("https://{URL_USER}:{URL_PASSWORD}@m.example")))),
        (
            "a URL with a user part in the ConfigMap",
            (
                "registries.yaml",
                config_map(&mirror("u.example", &format!("https://{URL_USER}:{URL_PASSWORD}@m.example"))),
            ),
        ),
        (
            "a broken URL with a user part",
            part(&mirror("u.example", &format!("https://{URL_USER}:{URL_PASSWORD}@m.example:port/%zz"))),
        ),
        (
            "a host with a user part",
            part(&mirror(&format!("{URL_USER}:{URL_PASSWORD}@u.example"), "https://m.example")),
        ),
        (
            "a login that says otherwise",
            (
                "other.yaml",
                secret(
                    "other",
                    "kubernetes.io/basic-auth",
                    Some("m.example"),
                    &[("username", USER), ("password", TOKEN)],
                ),
            ),
        ),
        ("no JSON", ("login.yaml", docker(&format!("\"m.example\": {{\"password\": \"{PASSWORD}\", {TOKEN}}}")))),
        ("a JSON of another shape", ("login.yaml", docker(&format!("\"m.example\": [\"{PASSWORD}\"]")))),
        (
            "a JSON with an unknown field",
            ("login.yaml", docker(&format!("\"m.example\": {{\"{PASSWORD}\": \"{TOKEN}\"}}"))),
        ),
        ("a token that is none", ("login.yaml", docker(&format!("\"m.example\": {{\"auth\": \"{TOKEN}\"}}")))),
        ("a manifest that is no YAML", ("login.yaml", format!("kind: Secret\nstringData: {{password: {PASSWORD}\n"))),
        (
            "plain text for base64",
            (
                "login.yaml",
                format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: x}}\ndata: {{password: {PASSWORD}}}\n"),
            ),
        ),
        (
            "a key for a certificate",
            ("client.yaml", secret("client", "Opaque", Some("k.example"), &[("ca.crt", &pem("PRIVATE KEY", KEY))])),
        ),
        (
            "a damaged private key",
            (
                "client.yaml",
                secret(
                    "client",
                    "kubernetes.io/tls",
                    Some("k.example"),
                    &[("tls.crt", &pem("CERTIFICATE", "")), ("tls.key", KEY)],
                ),
            ),
        ),
        (
            "a password for a host",
            (
                "client.yaml",
                secret(
                    "client",
                    "kubernetes.io/basic-auth",
                    Some(&format!("{USER}:{PASSWORD}@k.example")),
                    &[("username", USER), ("password", PASSWORD)],
                ),
            ),
        ),
        (
            "a line break in a password",
            (
                "other.yaml",
                secret(
                    "other",
                    "kubernetes.io/basic-auth",
                    Some("o.example"),
                    &[("username", USER), ("password", &format!("{PASSWORD}\n{TOKEN}"))],
                ),
            ),
        ),
        (
            "a colon in a user name",
            (
                "other.yaml",
                secret(
                    "other",
                    "kubernetes.io/basic-auth",
                    Some("o.example"),
                    &[("username", &format!("{USER}:x")), ("password", PASSWORD)],
                ),
            ),
        ),
    ]
}

/// Files that somebody wrote by hand.
fn by_hand() -> Vec<(&'static str, String)> {
    let url = format!("https://{URL_USER}:{URL_PASSWORD}@m.example");
    let auth = format!("configs:\n  m.example: {{auth: {{username: {USER}, password: {EARLIER}}}}}\n");
    vec![
        ("a good one", format!("mirrors:\n  docker.io: {{endpoint: [\"{url}\"]}}\n{auth}")),
        (
            "one with unknown and doubled keys",
            format!(
                "configs:\n  m.example:\n    auth: {{username: {USER}, password: {EARLIER}}}\n    auth: {{passwd: {PASSWORD}, {TOKEN}: x, {IDENTITY}:, password: {PASSWORD}, password: {TOKEN}}}\n  \"{URL_USER}:{URL_PASSWORD}@h.example\": {{}}\n"
            ),
        ),
        (
            "one with odd URLs",
            format!("mirrors:\n  a: {{endpoint: [\"{url}:port\", \"{URL_USER}:{URL_PASSWORD}@x\"]}}\n{auth}"),
        ),
        ("one that k3s rejects", format!("{auth}  - {PASSWORD}: [\n")),
        ("one of the wrong shape", format!("configs: [{PASSWORD}]\nmirrors: {TOKEN}\n")),
        ("one with an alias of nothing", format!("configs:\n  m.example: {{auth: *{PASSWORD}}}\n")),
    ]
}

/// Every way to say something, at its most talkative.
const LOGS: [[&str; 4]; 2] = [["--log", "trace", "--log-format", "text"], ["--log", "trace", "--log-format", "json"]];

/// Runs every command that looks or writes, and looks at what it shows and leaves.
fn everything(what: &str, bed: &Bed) {
    for logs in LOGS {
        let run = |arguments: &[&str]| {
            let ran = bed.run(&[&logs, arguments].concat());
            let what = format!("{what}: {}", arguments.join(" "));
            hides(&what, &ran.all());
            closed(&what, &bed.root());
            ran.code
        };
        for output in ["text", "json"] {
            run(&["lint", "--inputs", "inputs", "--output", output]);
            run(&["diff", "--inputs", "inputs", "--root", "node", "--output", output]);
            run(&["lint", &format!("node/{FILE}"), "--output", output]);
            for given in [["--inputs", "inputs"], ["--file", &format!("node/{FILE}")]] {
                run(&[&["explain", "m.example/x", "nginx", "u.example/x", "--output", output], &given[..]].concat());
            }
        }
        run(&["render", "--inputs", "inputs"]);
        run(&["render", "--inputs", "inputs", "--output", "node/rendered.yaml", "--runtime", "node/runtime"]);
        run(&["import", &format!("node/{FILE}")]);
        run(&["import", &format!("node/{FILE}"), "--output", "node/imported"]);
        run(&["apply", "--inputs", "inputs", "--root", "node"]);
        run(&["diff", "--inputs", "inputs", "--root", "node"]);
        run(&["apply", "--inputs", "inputs", "--root", "node", "--output", "json"]);
        run(&["lint", &format!("node/{FILE}")]);
        run(&["restore", "--root", "node"]);
        run(&["restore", "--root", "node", "--output", "json"]);
    }
}

fn bed(inputs: &[(&str, String)], earlier: &str) -> Bed {
    let bed = Bed::new();
    for (name, text) in inputs {
        bed.input(name, text);
    }
    bed.earlier(earlier, 0o600);
    bed
}

#[test]
fn good_inputs_show_no_secret_and_the_closed_files_hold_them() {
    let bed = bed(&good(), &by_hand()[0].1);
    let ran = bed.apply();
    ran.says(3, &["configs.\"m.example\".auth.password", "configs.\"i.example\".auth.identity_token"]);
    // What is hidden above is there to be found.
    let text = bed.text();
    for canary in [USER, PASSWORD, TOKEN, IDENTITY] {
        assert!(seen(&text).iter().any(|form| forms(canary).contains(form)), "{canary} is in no file");
    }
    let key = fs::read_to_string(bed.root().join("etc/rancher/k3s/registry-tls/k.example/tls.key")).unwrap();
    assert!(!seen(&key).is_empty());
    assert!(!seen(&fs::read_to_string(bed.journal("original/registries.yaml")).unwrap()).is_empty());
    everything("good inputs", &bed);
}

#[test]
fn inputs_that_are_refused_show_no_secret() {
    for (what, (name, text)) in bad() {
        let mut inputs = good();
        inputs.retain(|(kept, _)| *kept != name);
        inputs.push((name, text));
        let bed = bed(&inputs, "mirrors: {}\n");
        for logs in LOGS {
            for command in ["apply", "diff"] {
                let ran = bed.run(&[&logs[..], &[command, "--inputs", "inputs", "--root", "node"]].concat());
                hides(&format!("{what}: {command}"), &ran.all());
            }
            let ran = bed.run(&[&logs[..], &["render", "--inputs", "inputs"]].concat());
            hides(&format!("{what}: render"), &ran.all());
        }
        closed(what, &bed.root());
    }
}

#[test]
fn files_written_by_hand_show_no_secret() {
    for (what, earlier) in by_hand() {
        everything(what, &bed(&good(), &earlier));
        // And as long as nobody agreed to replace it.
        let mut inputs = good();
        inputs[0].1 = config_map(&mirror("docker.io", "https://m.example"));
        everything(&format!("{what}, not to be replaced"), &bed(&inputs, &earlier));
    }
}

/// A core file holds all that a process has read. The kernel writes none of a process that is not dumpable, and gives what
/// `/proc` has of it to root: that is seen on any machine, whether it wants cores or not.
#[test]
fn no_core_is_left_of_a_process_of_ours() {
    const NOBODY: u32 = 65_534;
    assert!(geteuid().is_root(), "run the tests as root: only root may start a process as another user");
    let temp = tempfile::tempdir().expect("a directory");
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).expect("its mode is set");
    let program = temp.path().join("program");
    fs::copy(PROGRAM, &program).expect("the program is copied");
    let pipe = temp.path().join("pipe");
    mkfifo(&pipe, Mode::from_bits_truncate(0o666)).expect("a pipe");
    fs::set_permissions(&pipe, fs::Permissions::from_mode(0o666)).expect("its mode is set");
    // Each waits for somebody who writes into the pipe.
    let belongs_to = |owner: u32, command: &mut Command| {
        let mut child = command.arg(&pipe).uid(NOBODY).spawn().expect("it starts");
        let of = || fs::metadata(format!("/proc/{}/fd", child.id())).ok().map(|process| process.uid());
        let seen = until(LONG, || (of() == Some(owner)).then_some(()));
        let is_running = child.try_wait().expect("it is asked for").is_none();
        child.kill().expect("it is killed");
        child.wait().expect("it ends");
        seen.is_some() && is_running
    };
    assert!(belongs_to(NOBODY, &mut tool("cat")), "any other process could be dumped");
    assert!(belongs_to(0, tool(&program.to_string_lossy()).arg("lint")));
}

#[test]
fn the_running_agent_shows_no_secret() {
    for logs in LOGS {
        let bed = bed(&good(), &by_hand()[0].1);
        let mut agent = Agent::start(&bed, &logs);
        agent.is_ready();
        agent.waits_for("the file is replaced", || bed.text().contains(PASSWORD));
        // Drift, then inputs that are refused, and back.
        bed.earlier(&by_hand()[1].1, 0o600);
        agent.waits_for("drift is restored", || bed.text().contains(PASSWORD));
        let (_, (name, text)) = bad().swap_remove(0);
        bed.input(name, &text);
        let listen = agent.listen;
        let metrics = || get(listen, "/metrics").map(|(_, body)| body).unwrap_or_default();
        agent.waits_for("the refusal is counted", || metrics().contains("phase=\"Invalid\"} 1"));
        hides("/metrics", &metrics());
        for page in ["/livez", "/readyz", "/nowhere"] {
            hides(page, &get(listen, page).map(|(_, body)| body).unwrap_or_default());
        }
        let (code, said) = agent.end();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("pass done") && said.contains("step done"), "it speaks at trace: {said}");
        hides("the agent's log", &said);
        closed("the agent", &bed.root());
    }
}

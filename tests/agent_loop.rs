//! The agent as it runs for ever on a directory of inputs: what it sees, when it acts, how it ends.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::agent::{Agent, get};
use common::{Bed, LONG, config_map, config_map_with_policy, mirror, put, secret, until};

const SETTLE: Duration = Duration::from_millis(1500);

/// The ConfigMap, under a policy with a settle time that is long enough to be seen.
fn inputs(endpoint: &str) -> String {
    config_map_with_policy(&mirror("docker.io", endpoint), "version: 1\nsettle: 1500ms\n")
}

fn running(text: &str) -> (Bed, Agent) {
    let bed = Bed::with(&[("registries.yaml", text)]);
    let mut agent = Agent::start(&bed, &[]);
    agent.waits_for("the first inputs are applied", || bed.file().exists() && holds_none(&bed));
    (bed, agent)
}

/// No intent is open.
fn holds_none(bed: &Bed) -> bool {
    fs::read_to_string(bed.journal("record.json")).is_ok_and(|text| text.contains("\"intent\": null"))
}

fn holds(bed: &Bed, text: &str) -> bool {
    fs::read_to_string(bed.file()).is_ok_and(|file| file.contains(text))
}

#[expect(clippy::disallowed_methods, reason = "another process is measured, on the real clock")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn changed_inputs_count_only_when_they_stand_still() {
    let (bed, mut agent) = running(&inputs("https://first.example"));
    // As `kubectl apply` and people do: one object after the other, each within the settle time of the one before.
    let mut last = now();
    for number in 0..6 {
        bed.input("registries.yaml", &inputs(&format!("https://{number}.example")));
        last = now();
        let seen = common::until(Duration::from_millis(700), || (!holds(&bed, "first.example")).then_some(()));
        assert!(seen.is_none(), "applied while the inputs still change:\n{}", agent.said());
    }
    agent.waits_for("the last inputs are applied", || holds(&bed, "https://5.example"));
    assert!(last.elapsed() >= SETTLE, "they did not stand still for {SETTLE:?}");
    // None of those between was ever taken.
    let (_, said) = agent.end();
    assert_eq!(said.matches("replacing the file").count(), 2, "{said}");
}

#[test]
fn a_file_renamed_into_place_by_an_editor_is_seen() {
    let (bed, mut agent) = running(&inputs("https://first.example"));
    put(&bed.inputs().join("4913"), b"", 0o644);
    fs::remove_file(bed.inputs().join("4913")).unwrap();
    fs::rename(bed.inputs().join("registries.yaml"), bed.inputs().join("registries.yaml~")).unwrap();
    put(&bed.inputs().join(".registries.yaml.swp"), inputs("https://second.example").as_bytes(), 0o600);
    fs::rename(bed.inputs().join(".registries.yaml.swp"), bed.inputs().join("registries.yaml")).unwrap();
    agent.waits_for("the renamed file is applied", || holds(&bed, "https://second.example"));
}

#[test]
fn the_swap_of_a_mounted_volume_is_seen() {
    let bed = Bed::new();
    let inputs_dir = bed.inputs();
    for (generation, endpoint) in [("..2026_1", "https://first.example"), ("..2026_2", "https://second.example")] {
        put(&inputs_dir.join(generation).join("registries.yaml"), inputs(endpoint).as_bytes(), 0o644);
    }
    symlink("..2026_1", inputs_dir.join("..data")).unwrap();
    symlink("..data/registries.yaml", inputs_dir.join("registries.yaml")).unwrap();
    let mut agent = Agent::start(&bed, &[]);
    agent.waits_for("the first generation is applied", || holds(&bed, "https://first.example"));
    symlink("..2026_2", inputs_dir.join("..data_tmp")).unwrap();
    fs::rename(inputs_dir.join("..data_tmp"), inputs_dir.join("..data")).unwrap();
    agent.waits_for("the second generation is applied", || holds(&bed, "https://second.example"));
}

#[test]
fn drift_is_restored_and_its_writer_is_named() {
    let (bed, mut agent) = running(&inputs("https://first.example"));
    agent.is_ready();
    bed.earlier("mirrors: {docker.io: {endpoint: [https://foreign.example]}}\n", 0o644);
    agent.waits_for("the edit is undone", || holds(&bed, "https://first.example"));
    agent.waits_for("it is closed again", || {
        std::os::unix::fs::MetadataExt::mode(&fs::metadata(bed.file()).unwrap()) & 0o7777 == 0o600
    });
    // At once: the pass that proves the first restore finds the file gone.
    fs::remove_file(bed.file()).unwrap();
    agent.waits_for("the removed file is back", || holds(&bed, "https://first.example"));
    let listen = agent.listen;
    agent.waits_for("a restore is counted", || {
        let text = get(listen, "/metrics").map(|(_, text)| text).unwrap_or_default();
        ["1", "2"]
            .iter()
            .any(|count| text.contains(&format!("k3s_registry_agent_execute_drift_restores_total {count}\n")))
    });
    let (_, said) = agent.end();
    assert!(said.contains("the file was changed by uid ") && !said.contains("phase=Stuck"), "{said}");
}

#[test]
fn inputs_that_vanish_remove_nothing() {
    let (bed, mut agent) = running(&inputs("https://first.example"));
    agent.is_ready();
    let listen = agent.listen;
    let phase = move |phase: &str| {
        get(listen, "/metrics").is_some_and(|(_, text)| text.contains(&format!("phase=\"{phase}\"}} 1")))
    };
    fs::remove_file(bed.inputs().join("registries.yaml")).unwrap();
    agent.waits_for("the missing ConfigMap is seen", || phase("Pending"));
    bed.input("registries.yaml", "kind: [");
    agent.waits_for("the broken manifest is seen", || phase("Invalid"));
    fs::rename(bed.inputs(), bed.path().join("elsewhere")).unwrap();
    agent.waits_for("the missing directory is seen", || phase("Pending"));
    assert!(holds(&bed, "https://first.example"));
    fs::create_dir(bed.inputs()).unwrap();
    bed.input("registries.yaml", &inputs("https://second.example"));
    agent.waits_for("the new directory is read", || holds(&bed, "https://second.example"));
}

#[test]
fn a_steady_agent_is_ready_alive_and_silent_and_ends_when_it_is_asked_to() {
    let (bed, mut agent) = running(&inputs("https://first.example"));
    agent.is_ready();
    let listen = agent.listen;
    let page = |path: &str| get(listen, path).unwrap();
    assert_eq!((page("/livez").0, page("/readyz").0, page("/nowhere").0), (200, 200, 404));
    let (status, metrics) = page("/metrics");
    assert_eq!(status, 200);
    for metric in
        ["k3s_registry_agent_pass_phase{phase=\"Current\"} 1", "k3s_registry_agent_pass_passes_total", "# EOF"]
    {
        assert!(metrics.contains(metric), "{metric} in:\n{metrics}");
    }
    // The pass after the one that wrote the file finds nothing to do, and is the last one.
    let settled = until(LONG, || agent.said().contains("reason=as desired").then_some(()));
    assert_eq!(settled, Some(()), "{}", agent.said());
    let said = agent.said();
    let before = fs::metadata(bed.file()).unwrap();
    let (code, all) = agent.end();
    assert_eq!(code, Some(0), "{all}");
    assert!(all.strip_prefix(&said).is_some_and(|end| end.lines().count() == 2), "only its end is said:\n{all}");
    assert_eq!(fs::metadata(bed.file()).unwrap().modified().unwrap(), before.modified().unwrap());
    assert!(get(listen, "/livez").is_none(), "nobody listens any more");
}

#[test]
fn an_agent_without_inputs_touches_nothing_and_ends_when_it_is_asked_to() {
    let bed = Bed::new();
    bed.earlier("mirrors: {}\n", 0o644);
    let mut agent = Agent::start(&bed, &[]);
    agent.is_ready();
    let (code, said) = agent.end();
    assert_eq!(code, Some(0), "{said}");
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(bed.file()).unwrap());
    assert_eq!((bed.text().as_str(), mode & 0o7777), ("mirrors: {}\n", 0o644));
}

/// While k3s is down nobody reads what the agent says. The pipe is full from the start, at trace level. What happens when
/// the log's own queue is full as well is tested beside it: no agent says so much in a test.
#[test]
fn with_a_full_pipe_that_nobody_reads_it_still_applies_a_change() {
    let bed = Bed::with(&[("registries.yaml", &inputs("https://first.example"))]);
    let (reader, writer) = std::io::pipe().unwrap();
    fill(&writer);
    let (out, err) = (writer.try_clone().unwrap(), writer);
    let mut agent = Agent::spawn(&bed, &["--log", "trace"], Stdio::from(out), Stdio::from(err));
    agent.waits_for("the first inputs are applied", || holds(&bed, "https://first.example"));
    let login = secret("login", "kubernetes.io/basic-auth", Some("r.example"), &[("username", "u"), ("password", "p")]);
    for round in 0..3 {
        bed.input("login.yaml", &login.replace("p\n", &format!("p{round}\n")));
        bed.input("registries.yaml", &inputs(&format!("https://{round}.example")));
        agent.waits_for("a change is applied", || holds(&bed, &format!("https://{round}.example")) && holds_none(&bed));
        bed.earlier("mirrors: {}\n", 0o600);
        agent.waits_for("drift is restored", || holds(&bed, &format!("https://{round}.example")));
        if round == 1 {
            // Three restores an hour is what the policy allows.
            break;
        }
    }
    assert_eq!(get(agent.listen, "/livez").map(|(status, _)| status), Some(200));
    // It also ends: the last lines are waited for only a moment.
    let began = now();
    assert_eq!(agent.end().0, Some(0));
    assert!(began.elapsed() < LONG / 2);
    drop(reader);
}

/// Writes to a pipe until nothing more goes in.
fn fill(mut pipe: &std::io::PipeWriter) {
    use std::io::Write;
    use std::os::fd::AsFd;
    let flags = rustix::fs::fcntl_getfl(pipe.as_fd()).expect("a pipe has flags");
    rustix::fs::fcntl_setfl(pipe, flags | rustix::fs::OFlags::NONBLOCK).expect("a pipe has flags");
    for part in [&[b'x'; 4096][..], b"x"] {
        while pipe.write(part).is_ok() {}
    }
    rustix::fs::fcntl_setfl(pipe, flags).expect("a pipe has flags");
}

#[test]
fn an_invalid_policy_leaves_the_last_valid_one_in_force() {
    let (bed, mut agent) = running(&inputs("https://first.example"));
    agent.is_ready();
    bed.input(
        "registries.yaml",
        &config_map_with_policy(&mirror("docker.io", "https://second.example"), "version: 1\nmod: report\n"),
    );
    agent.waits_for("the change is applied all the same", || holds(&bed, "https://second.example"));
    let (_, said) = agent.end();
    assert!(said.contains("policy refused") && said.contains("did you mean `mode`"), "{said}");
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_taken_once_the_policy_agrees() {
    let bed = Bed::with(&[("registries.yaml", &config_map(&mirror("docker.io", "https://first.example")))]);
    let foreign = "mirrors: {quay.io: {endpoint: [https://q.example]}}\n";
    bed.earlier(foreign, 0o644);
    let mut agent = Agent::start(&bed, &[]);
    agent.is_ready();
    let listen = agent.listen;
    agent.waits_for("it is refused", || {
        get(listen, "/metrics").is_some_and(|(_, text)| text.contains("phase=\"Invalid\"} 1"))
    });
    assert_eq!(bed.text(), foreign);
    bed.input(
        "registries.yaml",
        &config_map_with_policy(&mirror("docker.io", "https://first.example"), "version: 1\nadopt: replace\n"),
    );
    agent.waits_for("it is replaced", || holds(&bed, "https://first.example"));
    let (_, said) = agent.end();
    assert!(said.contains("quay.io") && said.contains("adopt: replace"), "{said}");
    assert_eq!(fs::read_to_string(bed.journal("original/registries.yaml")).unwrap(), foreign);
}

//! With a registry of its own: what is asked of it when, and what follows.

use agent_core::policy::Drift;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::host::clock::clock;

const USER: &str = "canary-user";
const PASSWORD: &str = "canary-pass-word";

/// How the registry answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// It takes the credential.
    Takes,
    /// It takes none.
    Refuses,
    /// It takes connections and says nothing.
    Sleeps,
}

/// A registry on this machine, with Basic. It writes into the log when it is asked.
async fn registry(mood: Arc<Mutex<Mood>>, log: Arc<Mutex<Vec<String>>>, file: PathBuf) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut asleep = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).await.unwrap_or_default() == 0 {
                    break;
                }
                head.extend(byte);
            }
            let head = String::from_utf8(head).unwrap().to_lowercase();
            let has_credential = head.contains("authorization: basic");
            let with = if has_credential { "credential" } else { "nothing" };
            log.lock().unwrap().push(format!("registry with {with} file={}", file.exists()));
            let mood = *mood.lock().unwrap();
            let status = match (mood, has_credential) {
                (Mood::Sleeps, _) => {
                    asleep.push(stream);
                    continue;
                }
                (Mood::Takes, true) => "200 OK",
                (Mood::Refuses, true) | (_, false) => "401 Unauthorized",
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\nDocker-Distribution-Api-Version: registry/2.0\r\n\
                 WWW-Authenticate: Basic realm=\"r\"\r\nContent-Length: 0\r\n\r\n"
            );
            drop(stream.write_all(answer.as_bytes()).await);
        }
    });
    (address, tasks)
}

/// A node that asks for a configuration with the registry and a credential for it.
async fn with_registry(mood: Mood) -> (Bed, Arc<Mutex<Vec<String>>>, Registry) {
    let bed = given();
    let log = spied(&bed);
    let mood = Arc::new(Mutex::new(mood));
    let (at, tasks) = registry(mood.clone(), log.clone(), bed.file()).await;
    let text = format!("mirrors: {{\"{at}\": {{endpoint: [\"http://{at}\"]}}}}\n");
    bed.fake.put(&format!("{OURS}/configmaps/registries"), json!({"data": {"registries.yaml": text}}));
    let base64 = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    bed.fake.put(
        &format!("{OURS}/secrets/token"),
        json!({
            "metadata": {"annotations": {format!("{PREFIX}host"): at}},
            "type": "kubernetes.io/basic-auth",
            "data": {"username": base64(USER), "password": base64(PASSWORD)},
        }),
    );
    (bed, log, Registry { at, mood, _tasks: tasks })
}

struct Registry {
    at: String,
    mood: Arc<Mutex<Mood>>,
    _tasks: JoinSet<()>,
}

/// The node has proven a configuration with the registry, and six hours have passed.
async fn probing() -> (Bed, Arc<Mutex<Vec<String>>>, Registry) {
    let (mut bed, log, registry) = with_registry(Mood::Takes).await;
    bed.grants().await;
    bed.until(|bed| bed.says("phase").as_deref() == Some("Current")).await;
    bed.looping.probing.is_due();
    log.lock().unwrap().clear();
    (bed, log, registry)
}

/// Everything that leaves the process.
fn said(bed: &Bed) -> String {
    let bodies: Vec<String> = bed.fake.bodies().iter().map(ToString::to_string).collect();
    format!("{}{:?}{}", bodies.join("\n"), bed.looping.passes, bed.looping.metrics.encode())
}

#[tokio::test(start_paused = true)]
async fn the_registries_are_asked_after_the_inputs_and_before_the_lease_and_the_file() {
    let (mut bed, log, _registry) = with_registry(Mood::Takes).await;
    bed.until(|bed| bed.says("wanted").is_some()).await;
    assert_eq!(log.lock().unwrap().iter().filter(|line| line.contains("registry")).count(), 0, "not without a grant");
    log.lock().unwrap().clear();
    bed.grants().await;
    bed.until(|bed| bed.says("phase").as_deref() == Some("Current")).await;
    let log = log.lock().unwrap().clone();
    assert_eq!(
        log[..6],
        [
            "n1Applying used=true file=false",
            "configmaps used=true file=false",
            "secrets used=true file=false",
            "registry with nothing file=false",
            "registry with credential file=false",
            "k3s-registry-agent-coordinator used=true file=false"
        ],
        "{log:?}"
    );
    assert!(bed.file().exists() && !said(&bed).contains("canary"));
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_is_sent_once_and_nothing_is_written() {
    let (mut bed, log, _registry) = with_registry(Mood::Refuses).await;
    let grant = bed.grants().await;
    bed.until(|bed| bed.says("phase").as_deref() == Some("Invalid")).await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        bed.looping.turn_of_the_loop(false).await;
    }
    let sent = log.lock().unwrap().iter().filter(|line| line.contains("with credential")).count();
    assert_eq!((sent, bed.file().exists()), (1, false), "{log:?}");
    assert_eq!((bed.says("failed"), bed.says("wanted")), (Some(grant.ask.revision), None));
    let reason = bed.says("reason").unwrap();
    assert!(reason.contains("127.0.0.1") && reason.contains("credential"), "{reason}");
    assert!(!said(&bed).contains("canary"), "{}", said(&bed));
    let lease = bed.fake.requests().iter().filter(|request| request.ends_with("-coordinator")).count();
    assert_eq!(lease, 0, "nothing was to be begun");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_sleeps_costs_ten_seconds_and_the_turn_holds_after_it() {
    let (mut bed, log, _registry) = with_registry(Mood::Sleeps).await;
    let begun = Instant::now();
    bed.grants().await;
    bed.until(|bed| bed.says("phase").as_deref() == Some("Current")).await;
    let took = begun.elapsed();
    assert!((Duration::from_secs(10)..Duration::from_secs(20)).contains(&took), "{took:?}");
    let coordinator = log.lock().unwrap().iter().filter(|line| line.contains("coordinator")).count();
    assert_eq!(coordinator, 1, "the Lease is read once, after it: {log:?}");
    assert!(bed.file().exists() && bed.looping.liveness.is_alive());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expired_later_is_reported_once_and_not_sent_again() {
    let (mut bed, log, registry) = probing().await;
    let fine = "k3s_registry_agent_probe_registries{verdict=\"fine\"} 1";
    assert!(bed.looping.metrics.encode().contains(fine), "the preflight counts, too: {}", said(&bed));
    *registry.mood.lock().unwrap() = Mood::Refuses;
    bed.looping.turn_of_the_loop(false).await;
    let probed = bed.looping.probing.done().await.unwrap();
    bed.looping.probed(&probed);
    let told = |bed: &Bed, reason: &str| {
        let bodies = bed.fake.bodies();
        bodies.iter().filter(|body| body["reason"] == reason).map(|body| body["note"].to_string()).collect::<Vec<_>>()
    };
    crate::cluster::fake::until(|| !told(&bed, "RegistryFault").is_empty()).await;
    let notes = told(&bed, "RegistryFault");
    assert!(notes.len() == 1 && notes[0].contains(&registry.at) && notes[0].contains("credential"), "{notes:?}");
    let metrics = bed.looping.metrics.encode();
    assert!(metrics.contains("probe_registries{verdict=\"credential-refused\"} 1"), "{metrics}");
    assert!(metrics.contains("probe_registries{verdict=\"fine\"} 0"), "{metrics}");
    bed.looping.turn_of_the_loop(false).await;
    assert!(!bed.looping.probing.is_asking(), "the same credential would only be refused again");
    let sent = log.lock().unwrap().iter().filter(|line| line.contains("with credential")).count();
    assert_eq!((sent, bed.says("phase").as_deref()), (1, Some("Current")));
    assert!(!said(&bed).contains("canary"), "{}", said(&bed));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_starts_anew_sends_no_refused_credential_again_until_retry() {
    let (mut bed, log, registry) = probing().await;
    *registry.mood.lock().unwrap() = Mood::Refuses;
    bed.looping.turn_of_the_loop(false).await;
    let probed = bed.looping.probing.done().await.unwrap();
    bed.looping.probed(&probed);
    bed.looping.turn_of_the_loop(false).await;
    let sent = || log.lock().unwrap().iter().filter(|line| line.contains("with credential")).count();
    let record = bed.dir.path().join("node/var/lib/k3s-registry-agent/record.json");
    let kept = || fs::read_to_string(&record).unwrap();
    let url = format!("http://{}/v2/", registry.at);
    assert!(kept().contains(&url) && !kept().contains("canary"), "{}", kept());
    let goes_round = async |bed: &mut Bed| {
        bed.until(|bed| bed.looping.metrics.encode().contains("pass_phase{phase=\"Current\"} 1")).await;
        bed.looping.probing.is_due();
        bed.looping.turn_of_the_loop(false).await;
    };
    for _ in 0..3 {
        bed.dies();
        goes_round(&mut bed).await;
        assert!(!bed.looping.probing.is_asking() && sent() == 1, "{log:?}");
        let metrics = bed.looping.metrics.encode();
        assert!(metrics.contains("probe_registries{verdict=\"credential-refused\"} 1"), "{metrics}");
        assert!(!metrics.contains("probe_last_timestamp_seconds 0"), "{metrics}");
    }
    bed.annotate("retry", "unlocked".into());
    bed.until(|_| !kept().contains(&url)).await;
    goes_round(&mut bed).await;
    let probed = bed.looping.probing.done().await.unwrap();
    assert!(probed.report.has_refusal() && sent() == 2, "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn a_retry_has_the_registries_asked_at_once_and_once() {
    let (mut bed, log, registry) = probing().await;
    let sent = || log.lock().unwrap().iter().filter(|line| line.contains("with credential")).count();
    *registry.mood.lock().unwrap() = Mood::Refuses;
    bed.looping.turn_of_the_loop(false).await;
    let probed = bed.looping.probing.done().await.unwrap();
    bed.looping.probed(&probed);
    let turns = async |bed: &mut Bed| {
        for _ in 0..3 {
            bed.looping.turn_of_the_loop(false).await;
        }
        bed.looping.probing.is_asking()
    };
    assert!(!turns(&mut bed).await && sent() == 1, "{log:?}");
    for (token, mood) in [("locked", Mood::Refuses), ("unlocked", Mood::Takes), ("again", Mood::Takes)] {
        let before = sent();
        *registry.mood.lock().unwrap() = mood;
        bed.annotate("retry", token.into());
        bed.until(|bed| bed.looping.probing.is_asking()).await;
        let probed = bed.looping.probing.done().await.unwrap();
        assert_eq!(probed.report.has_refusal(), mood == Mood::Refuses);
        bed.looping.probed(&probed);
        assert!(!turns(&mut bed).await && sent() == before + 1, "{token}: {log:?}");
    }
    let fine = "probe_registries{verdict=\"fine\"} 1";
    assert!(bed.looping.metrics.encode().contains(fine), "{}", said(&bed));
    let before = sent();
    bed.dies();
    bed.until(|bed| bed.looping.metrics.encode().contains("pass_phase{phase=\"Current\"} 1")).await;
    assert!(!turns(&mut bed).await && sent() == before, "a process that starts anew knows the token");
}

#[tokio::test(start_paused = true)]
async fn what_is_being_asked_when_a_retry_comes_is_asked_anew() {
    let (mut bed, log, registry) = probing().await;
    *registry.mood.lock().unwrap() = Mood::Sleeps;
    bed.until(|_| log.lock().unwrap().iter().any(|line| line.starts_with("registry"))).await;
    assert!(bed.looping.probing.is_asking());
    *registry.mood.lock().unwrap() = Mood::Takes;
    bed.annotate("retry", "awake".into());
    bed.until(|bed| bed.looping.passes.retried().as_deref() == Some("awake")).await;
    let probed = bed.looping.probing.done().await.unwrap();
    bed.looping.probed(&probed);
    assert!(bed.looping.metrics.encode().contains("probe_registries{verdict=\"fine\"} 1"), "{}", said(&bed));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_what_somebody_else_wrote_says_nothing_of_what_was_proven() {
    let (mut bed, log, registry) = probing().await;
    let path = format!("{OURS}/configmaps/registries");
    let mut config_map = bed.fake.object(&path);
    config_map["data"]["policy.yaml"] = "drift: report\n".into();
    bed.fake.put(&path, config_map);
    tokio::time::sleep(Duration::from_secs(1)).await;
    bed.until(|bed| bed.looping.last_policy.as_ref().is_some_and(|policy| policy.drift == Drift::Report)).await;
    let ours = fs::read_to_string(bed.file()).unwrap();
    let write = |bed: &Bed, text: &str| {
        #[expect(clippy::disallowed_methods, reason = "a test plays another writer")]
        fs::write(bed.file(), text).unwrap();
    };
    let sent = || log.lock().unwrap().iter().filter(|line| line.contains("with credential")).count();
    let probed = bed.looping.probing.done().await.unwrap();
    bed.looping.probed(&probed);
    write(&bed, &ours.replace(PASSWORD, "canary-theirs"));
    bed.until(|bed| bed.says("reason").is_some_and(|reason| reason.ends_with("the policy only reports it"))).await;
    *registry.mood.lock().unwrap() = Mood::Refuses;
    let before = sent();
    let probes = async |bed: &mut Bed| {
        bed.looping.probing.is_due();
        bed.looping.turn_of_the_loop(false).await;
        if !bed.looping.probing.is_asking() {
            return false;
        }
        let probed = bed.looping.probing.done().await.unwrap();
        bed.looping.probed(&probed);
        bed.looping.turn_of_the_loop(false).await;
        true
    };
    assert!(probes(&mut bed).await && sent() == before + 1, "{log:?}");
    assert!(!probes(&mut bed).await, "theirs would only be refused again");
    *registry.mood.lock().unwrap() = Mood::Takes;
    write(&bed, &ours);
    // Its time had come before, and ours was never refused.
    bed.until(|bed| bed.looping.probing.is_asking()).await;
    let probed = bed.looping.probing.done().await.unwrap();
    bed.looping.probed(&probed);
    assert_eq!(sent(), before + 2, "{log:?}");
    assert!(bed.looping.metrics.encode().contains("probe_registries{verdict=\"fine\"} 1"), "{}", said(&bed));
}

#[tokio::test(start_paused = true)]
async fn no_pass_waits_for_a_probe_and_a_turn_ends_it() {
    let (mut bed, _, registry) = probing().await;
    *registry.mood.lock().unwrap() = Mood::Sleeps;
    let begun = Instant::now();
    bed.looping.turn_of_the_loop(false).await;
    bed.looping.turn_of_the_loop(false).await;
    assert!(bed.looping.probing.is_asking() && begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    bed.fake.put(&format!("{OURS}/configmaps/registries"), config_map("https://second.example"));
    bed.looping.look_at_inputs();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let grant = bed.grants().await;
    bed.until(|bed| bed.says("answered").as_ref() == Some(&grant.ask.number)).await;
    assert!(!bed.looping.probing.is_asking());
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_ends_soon_is_said_behind_the_reason_and_measured() {
    let end = |days: i64| {
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let end = clock().unwrap().wall.as_second() + days * 86_400;
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(end.unsigned_abs());
        (end, params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem())
    };
    for (days, is_said) in [(20, true), (40, false)] {
        let mut bed = given();
        let (end, pem) = end(days);
        let ca = json!({
            "metadata": {"annotations": {format!("{PREFIX}host"): "first.example"}}, "data": {"ca.crt": pem},
        });
        bed.fake.put(&format!("{OURS}/configmaps/ca"), ca);
        bed.grants().await;
        bed.until(|bed| bed.says("phase").as_deref() == Some("Current")).await;
        let said = |bed: &Bed| bed.says("reason").unwrap().contains("; a CA certificate of first.example ends at 20");
        if is_said {
            bed.until(said).await;
        }
        assert_eq!(said(&bed), is_said, "{:?}", bed.says("reason"));
        let shown = bed.looping.metrics.encode();
        let name = "k3s_registry_agent_certificate_first_end_timestamp_seconds ";
        let value: f64 = shown.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap();
        assert!((value - end as f64).abs() < 1.0, "{value} {end}");
    }
}

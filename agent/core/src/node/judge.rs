//! Compares what is seen of a node with what a file would make of it.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::evidence::{Answer, Check};
use super::journal::{Goal, Intent};
use super::observed::{Clock, Installation, RuntimeFiles, Service, UnitSeen};
use super::plan::Case;
use super::turn::TurnSource;
use crate::registries::effect::{self, Effect, Loaded};
use crate::registries::model::Registries;
use crate::registries::on_disk::{self, OnDisk};
use crate::runtime::compare::{Mismatch, SeenOnNode, compare, shadows};
use crate::runtime::expect::expect;
use crate::runtime::settings::{EmbeddedRegistry, Settings};
use crate::tree::Tree;

/// How far the start of a process, read in ticks, may lie before an order on the same clock.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// kubelet renews its Lease every ten seconds.
const LEASE_AGES: Duration = Duration::from_secs(40);

/// What a change costs, and why, in one sentence without a secret.
pub(crate) struct Cost {
    pub(crate) effect: Effect,
    pub(crate) why: String,
}

/// Whether what is demanded is given.
pub(crate) enum Standing {
    Passed,
    Missing(Vec<(Check, String)>),
}

impl Standing {
    /// What is missing, in words: at most the first three.
    pub(crate) fn missing(&self) -> String {
        match self {
            Self::Passed => "nothing".to_owned(),
            Self::Missing(missing) => {
                missing.iter().take(3).map(|(check, why)| format!("{check}: {why}")).collect::<Vec<_>>().join("; ")
            }
        }
    }

    /// Whether the node itself is proven, and only what the API server says of it is missing.
    pub(crate) fn is_only_api(&self) -> bool {
        match self {
            Self::Passed => false,
            Self::Missing(missing) => {
                missing.iter().all(|(check, _)| matches!(check, Check::Api | Check::NodeLease | Check::NodeReady))
            }
        }
    }

    /// Whether nothing but the proof by pull is missing.
    pub(crate) fn is_only_pull(&self) -> bool {
        match self {
            Self::Passed => false,
            Self::Missing(missing) => missing.iter().all(|(check, _)| *check == Check::Pull),
        }
    }

    /// Whether only the runtime's own files are in the way: it holds something else than what lies there.
    pub(crate) fn is_about_what_is_loaded(&self) -> bool {
        match self {
            Self::Passed => false,
            Self::Missing(missing) => {
                missing.iter().any(|(check, _)| matches!(check, Check::CertsD | Check::AuthTables))
            }
        }
    }
}

/// What a tree means to k3s; the sentence says why it means nothing.
pub(crate) fn model_of(tree: &Tree) -> Result<Registries, String> {
    let Some(bytes) = &tree.registries else { return Ok(Registries::default()) };
    match on_disk::read(bytes.expose()) {
        OnDisk::Read(document) => Ok(document.registries),
        OnDisk::Rejected(rejection) => Err(rejection.to_string()),
        OnDisk::CannotTell(why) => Err(why),
    }
}

/// Hosts, and credentials of hosts, that `before` has and `after` has not.
pub(crate) fn lost_hosts(before: &Registries, after: &Registries) -> Vec<String> {
    let mut lost: Vec<String> = before
        .mirrors
        .keys()
        .filter(|host| !after.mirrors.contains_key(*host))
        .chain(before.configs.keys().filter(|host| !after.configs.contains_key(*host)))
        .map(|host| crate::registries::document::without_user_part(host))
        .collect();
    lost.sort();
    lost.dedup();
    let credentials = before.configs.iter().filter(|(host, config)| {
        let has =
            |config: &crate::registries::model::HostConfig| config.auth.as_ref().is_some_and(|auth| !auth.is_empty());
        has(config) && after.configs.get(*host).is_some_and(|after| !has(after))
    });
    let credentials = credentials.map(|(host, _)| crate::registries::document::without_user_part(host));
    lost.extend(credentials.map(|host| format!("a credential for {host}")));
    lost
}

/// What it costs that the node runs on `model` and `tree`.
pub(crate) fn effect(case: &Case<'_>, model: &Registries, tree: &Tree) -> Cost {
    let settings = settings(&case.host.installation);
    // Only files that the new tree uses: one that is swept away was used by nobody any more.
    let disk = &case.host.disk.tree.tls;
    let files_differ = tree.tls.iter().any(|(path, content)| disk.get(path).is_some_and(|lies| lies != content));
    let verdict = match &case.host.service {
        Service::None => match model_of(&case.host.disk.tree) {
            Ok(lies) => effect::effect(Loaded::Known(&lies), model, &settings, files_differ),
            Err(why) => effect::effect(Loaded::Unknown(why), model, &settings, files_differ),
        },
        Service::Unit(unit) => loaded_by(case, unit, model, &settings, files_differ),
    };
    Cost { effect: verdict.effect, why: verdict.why }
}

/// From what k3s wrote at this start; else from the record of this invocation; else it is unknown.
fn loaded_by(
    case: &Case<'_>,
    unit: &UnitSeen,
    model: &Registries,
    settings: &Settings,
    files_differ: bool,
) -> effect::Verdict {
    if !unit.is_active() {
        let why = format!("{} is {}", case.host.installation.unit, unit.active_state);
        return effect::effect(Loaded::Unknown(why), model, settings, files_differ);
    }
    if has_written(case, unit) {
        let seen = seen_on_node(&case.host.runtime);
        return effect::effect(Loaded::FromNode(&seen), model, settings, files_differ);
    }
    let Some(recorded) = recorded(case, unit) else {
        let why = "what the runtime holds is not known".to_owned();
        return effect::effect(Loaded::Unknown(why), model, settings, files_differ);
    };
    let known = [Some(model.clone()), case.host.previous.as_ref().and_then(|tree| model_of(tree).ok())];
    match known.into_iter().flatten().find(|known| case.seen.key.model(known) == recorded.model) {
        Some(known) => effect::effect(Loaded::Known(&known), model, settings, files_differ),
        None => {
            let why = "the runtime holds a configuration that is kept nowhere".to_owned();
            effect::effect(Loaded::Unknown(why), model, settings, files_differ)
        }
    }
}

/// Whether what is demanded holds. With a restart, the unit must run since then under a new invocation.
pub(crate) fn standing(case: &Case<'_>, demanded: &BTreeSet<Check>, restarted: Option<(&Clock, &str)>) -> Standing {
    let mut missing = Vec::new();
    let Service::Unit(unit) = &case.host.service else { return Standing::Passed };
    let evidence = case.host.evidence.as_ref();
    for check in demanded {
        let why = match check {
            Check::Unit => unit_missing(case, unit, restarted),
            Check::CertsD | Check::AuthTables | Check::Pull => None,
            Check::Containerd | Check::Kubelet | Check::Etcd | Check::EtcdLeader | Check::Supervisor | Check::Api => {
                match evidence.and_then(|evidence| evidence.get(check)) {
                    Some(answer) => missing_of(answer),
                    None => Some("not looked at yet".to_owned()),
                }
            }
            Check::NodeLease => missing_of(&node_lease(case, unit)),
            Check::NodeReady => missing_of(&node_ready(case)),
        };
        missing.extend(why.map(|why| (*check, why)));
    }
    if demanded.contains(&Check::CertsD) || demanded.contains(&Check::AuthTables) {
        missing.extend(not_loaded(case, unit));
    }
    if missing.is_empty() { Standing::Passed } else { Standing::Missing(missing) }
}

fn missing_of(answer: &Answer) -> Option<String> {
    match answer {
        Answer::Passed | Answer::NotApplicable => None,
        Answer::Failed(why) | Answer::Unknown(why) => Some(why.clone()),
    }
}

/// The Lease was renewed by the kubelet of this start: seen since, and stamped since by this node's own clock, so that a
/// renewal from before that was only seen late does not count.
fn node_lease(case: &Case<'_>, unit: &UnitSeen) -> Answer {
    if case.seen.source == TurnSource::Local {
        return Answer::NotApplicable;
    }
    let Some(renewed) = &case.seen.api.renewed else {
        return Answer::Unknown("no renewal of its Lease was seen yet".to_owned());
    };
    let age = case.seen.clock.boot.saturating_sub(renewed.seen);
    let is_of_this_start = unit.main_started.is_none_or(|started| renewed.seen > started)
        && started_wall(case, unit).is_none_or(|started| renewed.stamp > started);
    if !is_of_this_start {
        Answer::Failed("it was not renewed since k3s was started".to_owned())
    } else if age > LEASE_AGES {
        Answer::Failed(format!("it was not renewed for more than {} s", LEASE_AGES.as_secs()))
    } else {
        Answer::Passed
    }
}

fn node_ready(case: &Case<'_>) -> Answer {
    match (case.seen.source, case.seen.api.is_ready) {
        (TurnSource::Local, _) => Answer::NotApplicable,
        (TurnSource::Coordinator, Some(true)) => Answer::Passed,
        (TurnSource::Coordinator, Some(false)) => Answer::Failed("the Node is not Ready".to_owned()),
        (TurnSource::Coordinator, None) => Answer::Unknown("the Node was not seen".to_owned()),
    }
}

/// Whether this server's own API serves somebody, as far as is known. Where it could not be asked before, its silence now
/// says nothing.
pub(crate) fn serves(case: &Case<'_>, intent: &Intent) -> bool {
    let answer = case.host.evidence.as_ref().and_then(|evidence| evidence.get(&Check::Api));
    let was_down = matches!(intent.goal, Goal::Heal(_));
    matches!(answer, Some(Answer::Passed)) || !(was_down || intent.passed_before.contains(&Check::Api))
}

/// What the API server confirms now.
pub(crate) fn confirmed(case: &Case<'_>) -> impl Iterator<Item = Check> {
    let lease = match &case.host.service {
        Service::Unit(unit) => node_lease(case, unit),
        Service::None => Answer::NotApplicable,
    };
    let answers = [(Check::NodeLease, lease), (Check::NodeReady, node_ready(case))];
    answers.into_iter().filter(|(_, answer)| *answer == Answer::Passed).map(|(check, _)| check)
}

fn unit_missing(case: &Case<'_>, unit: &UnitSeen, restarted: Option<(&Clock, &str)>) -> Option<String> {
    let name = &case.host.installation.unit;
    if !unit.is_active() {
        // Nothing that changes from one try to the next: what a node that is stuck says is written when it changes.
        return Some(match unit.active_state.as_str() {
            "activating" if unit.restarts >= 2 => format!("{name} does not come up: systemd starts it again and again"),
            state => format!("{name} is {state}"),
        });
    }
    if unit.job_pending {
        return Some(format!("{name} has a job in systemd"));
    }
    let (ordered, before) = restarted?;
    if !before.is_empty() && unit.invocation == before {
        return Some(format!("{name} was not restarted yet"));
    }
    let started = unit.main_started?;
    let too_old = ordered.boot_id == case.seen.clock.boot_id && started.saturating_add(TICK) < ordered.boot;
    too_old.then(|| format!("{name}'s main process is older than the restart"))
}

/// Where what k3s wrote at this start differs from what it makes of the file that lies there.
fn not_loaded(case: &Case<'_>, unit: &UnitSeen) -> Vec<(Check, String)> {
    if !has_written(case, unit) {
        return vec![(Check::AuthTables, "k3s has not written config.toml since its start".to_owned())];
    }
    let model = match model_of(&case.host.disk.tree) {
        Ok(model) => model,
        Err(why) => return vec![(Check::AuthTables, format!("the file that lies there cannot be read: {why}"))],
    };
    let expected = expect(&model, &settings(&case.host.installation));
    compare(&expected, &seen_on_node(&case.host.runtime))
        .into_iter()
        .map(|Mismatch { about_auth, what, .. }| (if about_auth { Check::AuthTables } else { Check::CertsD }, what))
        .collect()
}

/// Directories of others in certs.d that go before ours.
pub(crate) fn shadowed(case: &Case<'_>) -> Vec<String> {
    let (Service::Unit(_), Ok(model)) = (&case.host.service, model_of(&case.host.disk.tree)) else { return Vec::new() };
    let expected = expect(&model, &settings(&case.host.installation));
    shadows(&expected, &seen_on_node(&case.host.runtime)).into_iter().map(|shadow| shadow.what).collect()
}

/// What holds before the change, to be demanded after it.
pub(crate) fn passed_before(case: &Case<'_>) -> BTreeSet<Check> {
    let Service::Unit(unit) = &case.host.service else { return BTreeSet::new() };
    if !unit.is_active() {
        return BTreeSet::new();
    }
    let asked = case.host.evidence.iter().flatten();
    let passed = asked.filter(|(_, answer)| **answer == Answer::Passed).map(|(check, _)| *check);
    passed.chain(confirmed(case)).collect()
}

/// Whether k3s wrote `config.toml` since its start.
pub(crate) fn has_written(case: &Case<'_>, unit: &UnitSeen) -> bool {
    case.host.runtime.are_of(started_wall(case, unit))
}

/// Whether the unit does not come up. With `Type=exec` systemd calls it active all the same: then k3s has to say itself that
/// it cannot read the file, and to have written nothing since its start.
pub(crate) fn is_down(case: &Case<'_>, unit: &UnitSeen) -> bool {
    !unit.is_active() || (case.host.log.registries_error && !has_written(case, unit))
}

/// The start of the main process, to compare what is stamped by this node's clock with. Both were written down as they
/// happened, from one clock, and stay when it is set. Only if it was set back between the two is the stamp as much older.
fn started_wall(case: &Case<'_>, unit: &UnitSeen) -> Option<Timestamp> {
    let set_back = case.record.intent.as_ref().map_or(SignedDuration::ZERO, |intent| set_back(case, &intent.began));
    unit.main_started_wall?.checked_sub(set_back).ok()
}

/// How far the wall clock was set back since that moment of this boot.
fn set_back(case: &Case<'_>, since: &Clock) -> SignedDuration {
    let now = &case.seen.clock;
    if since.boot_id != now.boot_id {
        return SignedDuration::ZERO;
    }
    let passed = SignedDuration::try_from(now.boot.saturating_sub(since.boot)).unwrap_or(SignedDuration::MAX);
    passed.saturating_sub(now.wall.duration_since(since.wall)).max(SignedDuration::ZERO)
}

/// Whether the runtime holds what lies there.
pub(crate) fn holds_what_lies(case: &Case<'_>) -> bool {
    matches!(&case.host.service, Service::Unit(unit) if not_loaded(case, unit).is_empty())
}

/// Whether k3s has just been started and has not written anything yet, so that what it holds will be known soon.
pub(crate) fn is_starting(case: &Case<'_>, unit: &UnitSeen) -> bool {
    let age = unit.main_started.map(|started| case.seen.clock.boot.saturating_sub(started));
    !has_written(case, unit) && recorded(case, unit).is_none() && age.is_some_and(|age| age < case.limit())
}

/// Whether k3s wrote nothing since its start, as far as the clocks tell, and containerd does not answer either: a slow
/// start of a unit that is active from its first moment (`Type=exec`). Another restart would only begin it anew.
pub(crate) fn is_still_starting(case: &Case<'_>, unit: &UnitSeen) -> bool {
    let answer = case.host.evidence.as_ref().and_then(|evidence| evidence.get(&Check::Containerd));
    let is_away = matches!(answer, Some(Answer::Failed(_) | Answer::Unknown(_)));
    is_away && !has_written(case, unit) && recorded(case, unit).is_none()
}

/// What the record says of this invocation.
fn recorded<'a>(case: &Case<'a>, unit: &UnitSeen) -> Option<&'a super::journal::Loaded> {
    let boot_id = &case.seen.clock.boot_id;
    case.record.loaded.as_ref().filter(|loaded| {
        !loaded.invocation.is_empty() && loaded.invocation == unit.invocation && loaded.boot_id == *boot_id
    })
}

fn seen_on_node(runtime: &RuntimeFiles) -> SeenOnNode {
    SeenOnNode { hosts: runtime.hosts.clone(), config: runtime.config.clone() }
}

/// What the core's prediction of k3s has to know of the node.
pub(crate) fn settings(installation: &Installation) -> Settings {
    Settings {
        program: installation.program,
        data_dir: installation.data_dir.clone(),
        disable_default_endpoint: installation.disable_default_endpoint,
        embedded: installation
            .embedded_registry
            .as_ref()
            .map(|mirror_addr| EmbeddedRegistry { mirror_addr: mirror_addr.clone() }),
        snapshotter_stargz: installation.stargz,
    }
}

//! The rollout's sentence: what goes on, what it waits for, what to do.

use super::Revoke;
use super::busy::{Busy, Shaky, Survey, Why, and_more};
use super::order::Line;
use super::seen::{NodeSeen, Said, Word};
use super::stop::Stop;
use crate::node::annotations::{Phase, sentence};
use crate::node::observed::Role;

/// While a new epoch is taken.
pub(crate) fn revoking(revoke: &Revoke) -> String {
    sentence(&revoke.why)
}

/// For all other times.
pub(crate) fn rollout(line: &Line<'_>) -> String {
    let mut text = stopped(line)
        .or_else(|| halted(line))
        .or_else(|| working(line))
        .or_else(|| waiting(line))
        .unwrap_or_else(|| resting(line));
    for note in [absent(line), garbage(line)].into_iter().flatten() {
        text = format!("{text}; {note}");
    }
    sentence(&text)
}

/// `a`, `a and 2 more`.
fn names(mut names: impl Iterator<Item = impl AsRef<str>>) -> Option<String> {
    let first = names.next()?;
    Some(format!("{}{}", first.as_ref(), and_more(names.count())))
}

fn waiting_for(line: &Line<'_>, word: Word) -> Option<String> {
    names(line.words.iter().filter(move |(_, found)| **found == Some(word)).map(|(node, _)| *node))
}

/// Nothing is granted to anybody.
fn stopped(line: &Line<'_>) -> Option<String> {
    let asking = line.words.len();
    let text = match line.stop? {
        Stop::Refused(why) => {
            format!("no turns: policy.yaml in ConfigMap registries is invalid, the last valid one is in force: {why}")
        }
        Stop::Report | Stop::Paused | Stop::Settling if asking == 0 && line.survey.busy.is_empty() => return None,
        Stop::Report => format!("mode report: no turns for {asking} nodes that ask"),
        Stop::Paused => {
            let first = names(line.words.keys()).map(|names| format!(": {names} wait")).unwrap_or_default();
            let open = busy(&line.survey).map(|busy| format!("; {busy} goes on")).unwrap_or_default();
            format!("paused by the policy{first}{open}")
        }
        Stop::Held(busy) => held(&busy),
        Stop::Silent(node) => format!("no turns for a moment: the agent on {node} has not said where it stands"),
        Stop::Settling => "no turns for a moment: this coordinator has just taken over".to_owned(),
    };
    Some(text)
}

fn held(busy: &Busy<'_>) -> String {
    let Busy { node, is_away, .. } = busy;
    let state = state(busy);
    if *is_away {
        return format!(
            "held: {node} was {state} when it was deleted or excluded, and keeps its place for some minutes: make sure \
             that it is off, or back"
        );
    }
    format!(
        "held: {node} is {state} for longer than any turn takes: look at its agent and at k3s there; if it is gone for \
         good, delete its Node or label it k3s-registry-agent/exclude=true"
    )
}

fn state(busy: &Busy<'_>) -> &'static str {
    match busy.why {
        Why::Working(phase) => phase.as_str(),
        Why::Granted => "granted its turn",
        Why::Stuck => "Stuck",
        Why::NotReady => "NotReady",
    }
}

/// `a is Applying and 2 more`: who is disturbed by us.
fn busy(survey: &Survey<'_>) -> Option<String> {
    let mut engaged = survey.busy.values().filter(|busy| busy.is_engaged());
    let first = engaged.next()?;
    let state = if first.is_away {
        "deleted or excluded in its turn: its place is kept for some minutes"
    } else {
        state(first)
    };
    Some(format!("{} ({state}){}", first.node, and_more(engaged.count())))
}

/// Somebody asks for what failed elsewhere, or says that it failed.
fn halted(line: &Line<'_>) -> Option<String> {
    let fleet = line.fleet;
    let fails = |revision: &str| {
        let tells = move |seen: &NodeSeen| seen.failed.value().is_some_and(|failed| failed == revision);
        names(fleet.nodes.iter().filter(move |(_, seen)| tells(seen)).map(|(name, _)| name))
    };
    // The last is the newest.
    let revision = line.halted.iter().rev().find(|revision| {
        let asked = fleet.nodes.values().any(|seen| seen.wanted.value().is_some_and(|ask| ask.revision == **revision));
        asked || fails(revision).is_some()
    })?;
    let is_overtaken = fleet.nodes.values().any(|seen| {
        let goes_on = |ask: &crate::grant::Ask| !line.halted.contains(&ask.revision.as_str());
        seen.wanted.value().is_some_and(goes_on)
    });
    if is_overtaken || line.survey.busy.values().any(Busy::is_engaged) {
        return None;
    }
    let wait = waiting_for(line, Word::Halted).map(|names| format!("; {names} wait")).unwrap_or_default();
    let at = fails(revision).unwrap_or_else(|| "a node that tells of it no more".to_owned());
    Some(format!(
        "halted: {revision} failed on {at}: see its reason there; correct the inputs, or set retry when the cause is gone{wait}"
    ))
}

/// How far the revision is that most ask for, or have.
fn progress(line: &Line<'_>) -> String {
    let nodes = || line.fleet.nodes.values().filter(|seen| seen.is_ours());
    let asked = line.revisions.keys().copied().max_by_key(|revision| {
        let asks = nodes().filter(|seen| seen.wanted.value().is_some_and(|ask| ask.revision == **revision)).count();
        (!line.halted.contains(revision), asks)
    });
    let in_turn = || {
        let engaged = line.survey.busy.values().filter(|busy| busy.is_engaged());
        engaged
            .filter_map(|busy| line.fleet.ledger.of(busy.node)?.granted.as_ref())
            .map(|g| g.ask.revision.as_str())
            .next()
    };
    let Some(revision) = asked.or_else(in_turn) else { return String::new() };
    let proven = nodes().filter(|seen| seen.revision.value().is_some_and(|proven| proven == revision)).count();
    format!("{revision}: {proven} of {} nodes have proven it; ", nodes().count())
}

/// Somebody has a turn.
fn working(line: &Line<'_>) -> Option<String> {
    let busy = busy(&line.survey)?;
    let wait = line.words.len();
    let wait = if wait == 0 { String::new() } else { format!("; {wait} wait") };
    Some(format!("{}in turn: {busy}{}{wait}", progress(line), interruption(line)))
}

/// Nobody can be asked why the API is away while it is: it is said before. With two servers it depends on their datastore;
/// the coordinator's log tells.
fn interruption(line: &Line<'_>) -> &'static str {
    let mut servers = line.fleet.nodes.iter().filter(|(_, seen)| seen.role == Role::Server).map(|(name, _)| name);
    let (Some(only), None) = (servers.next(), servers.next()) else { return "" };
    let is_out = line.survey.busy.values().any(|busy| busy.is_engaged() && busy.node == only.as_str());
    if is_out { ", the only server: the API stops while k3s restarts there" } else { "" }
}

/// Nobody has a turn, and somebody asks for one.
fn waiting(line: &Line<'_>) -> Option<String> {
    if line.words.is_empty() {
        return None;
    }
    let progress = progress(line);
    let why = owing(line)
        .or_else(|| gate(line))
        .or_else(|| budget(line))
        .or_else(|| waiting_for(line, Word::Window).map(|names| format!("{names} wait for a maintenance window")))
        .or_else(|| {
            waiting_for(line, Word::Paused).map(|names| format!("paused on {names}: resume them by \"resume NODE\""))
        })
        .or_else(|| {
            let names = waiting_for(line, Word::Absent)?;
            Some(format!("{names} asked and does not answer: is the agent there alive, the node Ready?"))
        })
        .unwrap_or_else(|| "the next turn is being given".to_owned());
    Some(format!("{progress}{why}"))
}

/// A node that failed an earlier revision has to try this one first, and cannot.
fn owing(line: &Line<'_>) -> Option<String> {
    waiting_for(line, Word::Order)?;
    let node = line.revisions.values().flat_map(|revision| revision.failed_before.iter()).find(|node| {
        // It waits for something else, which is said further down.
        !matches!(line.words.get(**node), Some(Some(Word::Budget | Word::Window | Word::ServerGate) | None))
    })?;
    let seen = line.fleet.nodes.get(*node)?;
    let state = match &seen.phase {
        Said::Is(_) if seen.is_paused => "paused",
        Said::Is(_) if !seen.is_ready => "NotReady",
        Said::Is(_) if !seen.has_agent => "without its agent",
        Said::Is(phase) => phase.as_str(),
        Said::Nothing | Said::Garbage => "silent",
    };
    Some(format!("an earlier revision failed on {node}, which is to try this one first and is {state}: see its reason"))
}

fn gate(line: &Line<'_>) -> Option<String> {
    let server = line.words.iter().find(|(_, word)| **word == Some(Word::ServerGate)).map(|(node, _)| *node)?;
    if let Some((other, shaky)) = line.survey.shaky.iter().find(|(node, _)| *node != server) {
        let why = match shaky {
            Shaky::Stuck => "is Stuck: see its reason",
            Shaky::NotReady => "is NotReady: bring it back, or delete its Node",
            Shaky::Cordoned => "was cordoned within the last hour: uncordon it, or wait",
        };
        return Some(format!("server {server} waits, since server {other} {why}"));
    }
    let refusal = line.fleet.gate.as_ref().filter(|answer| answer.target == server)?.refusal.as_ref()?;
    Some(format!("server {server} waits: {refusal}"))
}

fn budget(line: &Line<'_>) -> Option<String> {
    waiting_for(line, Word::Budget)?;
    let Survey { busy, allowed, .. } = &line.survey;
    let mut out = busy.values();
    let first = out.next()?;
    let remedy = match (first.why, first.role) {
        (Why::Stuck, _) => "see its reason",
        (Why::NotReady, Role::Agent) => "counted for ten minutes",
        (Why::NotReady, Role::Server) => "bring it back, or delete its Node",
        (Why::Working(_) | Why::Granted, _) => "in its turn",
    };
    let more = and_more(out.count());
    let nodes = if *allowed == 1 { "node" } else { "nodes" };
    Some(format!("{allowed} {nodes} may be out, and {} is {} ({remedy}){more}", first.node, state(first)))
}

/// Nobody asks and nobody has a turn.
fn resting(line: &Line<'_>) -> String {
    let ours = || line.fleet.nodes.iter().filter(|(_, seen)| seen.is_ours());
    let count = ours().count();
    if count == 0 {
        return "no node runs an agent".to_owned();
    }
    let other = |phase: Phase| {
        let named = names(ours().filter(|(_, seen)| seen.phase == Said::Is(phase)).map(|(name, _)| name))?;
        Some(format!("{named} {phase}"))
    };
    let odd: Vec<String> = [Phase::Stuck, Phase::Invalid, Phase::RolledBack, Phase::Paused, Phase::Pending]
        .into_iter()
        .filter_map(other)
        .collect();
    let current = ours().filter(|(_, seen)| seen.phase == Said::Is(Phase::Current)).count();
    if odd.is_empty() {
        return format!("nothing to do: {current} of {count} nodes are Current");
    }
    format!("nobody asks for a turn: {current} of {count} nodes are Current, {}: see their reasons", odd.join(", "))
}

fn absent(line: &Line<'_>) -> Option<String> {
    names(line.survey.absent.iter()).map(|names| format!("absent: {names}"))
}

/// Somebody else writes our annotations.
fn garbage(line: &Line<'_>) -> Option<String> {
    let (node, key) = line.fleet.nodes.iter().find_map(|(name, seen)| Some((name, seen.garbage()?)))?;
    Some(format!("annotation {key} of {node} is none that we write"))
}

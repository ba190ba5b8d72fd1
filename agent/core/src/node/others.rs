//! The other API servers while a server is proven: one that stopped answering since the gate explains a missing proof, and
//! the file is not to blame.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::evidence::Answer;
use super::journal::Intent;
use super::plan::Case;
use super::turn::TurnSource;
use crate::fleet::gate::{GateSeen, interruption};

/// What the others answer holds this long: longer than it may take to ask them, so that a verdict asks once.
const HOLDS: Duration = Duration::from_secs(15);

/// Another API server, as the gate knew it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OtherServer {
    /// Its Node; empty where no Node has its address.
    pub name: String,
    /// `ADDRESS:PORT`, as a URL names it: it is asked again without the help of any API.
    pub authority: String,
}

/// What the others answered when they were asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OthersSeen {
    /// When they were asked, on the boot-time clock.
    pub at: Duration,
    /// Each with its answer; the sentences go on from its name.
    pub answers: Vec<(OtherServer, Answer)>,
}

impl OtherServer {
    /// Who answered at a gate that is open. Nobody where the target's own restart stops the API of the others, too, as it
    /// does with two members of etcd: their silence is no explanation then, but a consequence.
    pub fn at_gate(seen: &GateSeen, target: &str, port: u16) -> Vec<Self> {
        if interruption(seen, target).is_some() {
            return Vec::new();
        }
        let answered = seen.answers.iter().filter(|seen| seen.answer.is_ok()).map(|seen| &seen.address);
        let named = answered.map(|address| {
            let server = seen.servers.iter().find(|server| server.addresses.contains(address));
            let name = server.map(|server| server.name.clone()).unwrap_or_default();
            Self { name, authority: authority(address, port) }
        });
        // One without a name may be another address of the target's own.
        named.filter(|other| !other.name.is_empty() && other.name != target).collect()
    }
}

/// An address and a port as a URL names them.
pub fn authority(address: &str, port: u16) -> String {
    match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    }
}

/// What is known of the others at the time of a verdict.
pub(crate) enum Others {
    /// They answer, or nobody can be asked.
    Answer,
    /// They have to be asked first.
    Unasked,
    /// One of them answers no more: which, and what it does instead.
    Stopped(String),
}

/// Whether one of those that answered at the gate answers no more.
pub(crate) fn others(case: &Case<'_>, intent: &Intent) -> Others {
    if intent.others.is_empty() || case.seen.source != TurnSource::Coordinator {
        return Others::Answer;
    }
    let now = case.seen.clock.boot;
    let asked = case.seen.heard.others.as_ref().filter(|seen| now.saturating_sub(seen.at) <= HOLDS);
    let answer = |other| asked.and_then(|seen| seen.answers.iter().find(|(asked, _)| asked == other));
    for other in &intent.others {
        match answer(other) {
            None => return Others::Unasked,
            Some((OtherServer { name, authority }, Answer::Failed(why))) => {
                let of = if name.is_empty() { String::new() } else { format!(" of {name}") };
                return Others::Stopped(format!("the API server{of} ({authority}) {why}, and was well at the gate"));
            }
            // One that refuses our token is there, and where etcd has no quorum it cannot know it.
            Some((_, Answer::Passed | Answer::Unknown(_) | Answer::NotApplicable)) => {}
        }
    }
    Others::Answer
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::fleet::gate::{AddressSeen, EtcdSeen, ServerSeen};

    /// s1 (10.0.0.1) to s`count`, and the answers of all but s1, whom nobody asked.
    fn servers(count: u8, etcd: Option<EtcdSeen>) -> GateSeen {
        let server = |at: u8| ServerSeen {
            name: format!("s{at}"),
            addresses: BTreeSet::from([format!("10.0.0.{at}")]),
            is_control_plane: true,
            is_ready: true,
            is_counted: true,
            etcd: etcd.clone(),
        };
        let answer = |at: u8| if at == 1 { Err("was not asked".to_owned()) } else { Ok(()) };
        let seen = |at: u8| AddressSeen { address: format!("10.0.0.{at}"), answer: answer(at) };
        GateSeen { servers: (1..=count).map(server).collect(), answers: (1..=count).map(seen).collect() }
    }

    fn named(seen: &GateSeen) -> Vec<(String, String)> {
        let others = OtherServer::at_gate(seen, "s1", 6443);
        others.into_iter().map(|OtherServer { name, authority }| (name, authority)).collect()
    }

    #[test]
    fn the_others_are_those_that_answered_and_not_the_target() {
        let mut seen = servers(3, Some(EtcdSeen::Voter));
        let expected = [("s2", "10.0.0.2:6443"), ("s3", "10.0.0.3:6443")].map(|(name, at)| (name.into(), at.into()));
        assert_eq!(named(&seen), expected);
        // The target's own address, should it have been asked.
        seen.answers[0].answer = Ok(());
        assert_eq!(named(&seen), expected);
        seen.answers.push(AddressSeen { address: "2001:db8::9".into(), answer: Ok(()) });
        assert_eq!(named(&seen), expected, "an address that is no server's may be the target's own, too");
        seen.servers[2].addresses.insert("2001:db8::9".into());
        assert_eq!(named(&seen)[2], ("s3".to_owned(), "[2001:db8::9]:6443".to_owned()));
    }

    #[test]
    fn whom_the_targets_own_restart_silences_explains_nothing() {
        assert!(named(&servers(2, Some(EtcdSeen::Voter))).is_empty(), "two members have no quorum without one");
        assert!(named(&servers(1, Some(EtcdSeen::Voter))).is_empty());
        assert_eq!(named(&servers(2, None)).len(), 1, "with an external datastore the other one serves on");
    }
}

//! The server gate: whether one server may be disturbed now, by what all others answered a moment ago (`design.md` 7).
//!
//! Asked by the coordinator before it grants a server its turn, and by the server's own agent before every restart.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// The Node runs an API server.
pub const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";
/// The Node is a member of the embedded etcd.
pub const ETCD_LABEL: &str = "node-role.kubernetes.io/etcd";
/// The condition that etcd's leader writes on every member's Node: membership, not health.
pub const VOTER_CONDITION: &str = "EtcdIsVoter";

/// What the gate is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The server works and is to be changed.
    Change,
    /// The server is stuck, or is being undone: it is healed by a restart, so what only its own failure explains does not
    /// stand in its way.
    Cure,
}

/// What was seen, all of it at most a few seconds ago.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GateSeen {
    /// Every server Node, the target among them.
    pub servers: Vec<ServerSeen>,
    /// Every address of EndpointSlice `default/kubernetes` and what it answered; one that was not asked (the target's own)
    /// may be left out.
    pub answers: Vec<AddressSeen>,
}

/// A server Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSeen {
    /// Its name.
    pub name: String,
    /// All that it may be reached at, without port.
    pub addresses: BTreeSet<String>,
    /// It runs an API server.
    pub is_control_plane: bool,
    /// Its condition Ready is `True`.
    pub is_ready: bool,
    /// Unless it was cordoned so long ago that nobody waits for it any more.
    pub is_counted: bool,
    /// Its place in the embedded etcd.
    pub etcd: Option<EtcdSeen>,
}

/// What a Node says of its etcd member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EtcdSeen {
    /// It has a vote.
    Voter,
    /// It has none, or it is not known; the word is the condition's reason.
    NotVoter(String),
    /// Somebody asked for it to be removed from etcd.
    Leaving,
}

/// One API server, asked for `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressSeen {
    /// The address, without port.
    pub address: String,
    /// Healthy, or what it did instead: the rest of a sentence that begins with the server (`answers 500`).
    pub answer: Result<(), String>,
}

/// What the gate reads of a Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRead<'a> {
    /// Its name.
    pub name: &'a str,
    /// Labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Annotations.
    pub annotations: &'a BTreeMap<String, String>,
    /// Of `status.addresses`.
    pub addresses: Vec<String>,
    /// Conditions: type, status, reason.
    pub conditions: Vec<(&'a str, &'a str, &'a str)>,
    /// `spec.unschedulable`.
    pub is_cordoned: bool,
}

impl ServerSeen {
    /// Reads a Node; none if it is no server. A cordoned one is not counted: whoever remembers since when sets it.
    pub fn read(node: NodeRead<'_>) -> Option<Self> {
        let NodeRead { name, labels, annotations, addresses, conditions, is_cordoned } = node;
        let has = |label: &str| labels.get(label).is_some_and(|value| value != "false");
        let is_control_plane = has(CONTROL_PLANE_LABEL);
        let condition = |kind: &str| conditions.iter().find(|(found, _, _)| *found == kind);
        let etcd = has(ETCD_LABEL).then(|| {
            let is_leaving = ["etcd.k3s.cattle.io/remove", "etcd.rke2.cattle.io/remove"]
                .iter()
                .any(|key| annotations.get(*key).is_some_and(|value| value == "true"));
            match condition(VOTER_CONDITION) {
                _ if is_leaving => EtcdSeen::Leaving,
                Some((_, "True", _)) => EtcdSeen::Voter,
                Some((_, status, "")) => EtcdSeen::NotVoter((*status).to_owned()),
                Some((_, _, reason)) => EtcdSeen::NotVoter((*reason).to_owned()),
                None => EtcdSeen::NotVoter("not said".to_owned()),
            }
        });
        (is_control_plane || etcd.is_some()).then(|| Self {
            name: name.to_owned(),
            addresses: addresses.into_iter().chain(advertised(annotations)).collect(),
            is_control_plane,
            is_ready: condition("Ready").is_some_and(|(_, status, _)| *status == "True"),
            is_counted: !is_cordoned,
            etcd,
        })
    }
}

/// Where k3s was told to reach this Node's API server, which need not be an address of the Node.
fn advertised(annotations: &BTreeMap<String, String>) -> Vec<String> {
    let lists = ["k3s.io/internal-ip", "k3s.io/external-ip", "rke2.io/internal-ip", "rke2.io/external-ip"];
    let lists = lists.iter().filter_map(|key| annotations.get(*key));
    let mut found: Vec<String> =
        lists.flat_map(|list| list.split(',').map(|address| address.trim().to_owned())).collect();
    for key in ["k3s.io/node-args", "rke2.io/node-args"] {
        let args: Option<Vec<String>> = annotations.get(key).and_then(|text| serde_json::from_str(text).ok());
        let args = args.unwrap_or_default();
        for (at, arg) in args.iter().enumerate() {
            match arg.split_once('=') {
                Some(("--advertise-address", address)) => found.push(address.to_owned()),
                None if arg == "--advertise-address" => found.extend(args.get(at + 1).cloned()),
                Some(_) | None => {}
            }
        }
    }
    found.retain(|address| !address.is_empty());
    found
}

/// Judges whether `target` may be disturbed now.
///
/// # Errors
///
/// One sentence: which address or Node stands in the way, and what to look at.
pub fn judge(seen: &GateSeen, target: &str, purpose: Purpose) -> Result<(), String> {
    let GateSeen { servers, answers } = seen;
    let Some(own) = servers.iter().find(|server| server.name == target) else {
        return Err(format!(
            "{target} is a server but its Node carries neither label {CONTROL_PLANE_LABEL} nor {ETCD_LABEL}"
        ));
    };
    let others = || servers.iter().filter(|server| server.name != target);
    let counted = || others().filter(|server| server.is_counted);
    if let Some(leaving) = servers.iter().find(|server| server.etcd == Some(EtcdSeen::Leaving)) {
        return Err(format!(
            "{} is being removed from etcd (annotation etcd.k3s.cattle.io/remove): wait, or take the annotation back",
            leaving.name
        ));
    }
    let asked: BTreeMap<&str, &Result<(), String>> = answers
        .iter()
        .filter(|seen| !own.addresses.contains(&seen.address))
        .map(|seen| (seen.address.as_str(), &seen.answer))
        .collect();
    for (address, answer) in &asked {
        if let Err(why) = answer {
            return Err(match others().find(|server| server.addresses.contains(*address)) {
                Some(server) => format!("the API server of {} ({address}) {why}: look at k3s on {0}", server.name),
                None => format!(
                    "the API server at {address} {why}: no server Node has this address; it is in EndpointSlice default/kubernetes"
                ),
            });
        }
    }
    let apis: Vec<&ServerSeen> = counted().filter(|server| server.is_control_plane).collect();
    if asked.len() < apis.len() + usize::from(may_be_own(own, answers, servers)) {
        let missing: Vec<&str> = apis
            .iter()
            .filter(|server| !server.addresses.iter().any(|address| asked.contains_key(address.as_str())))
            .map(|server| server.name.as_str())
            .collect();
        return Err(format!(
            "EndpointSlice default/kubernetes has {} healthy API servers besides {target}, and there are {} other servers \
             (no address of {}): look at k3s there, and at --advertise-address",
            asked.len(),
            apis.len(),
            missing.join(", "),
        ));
    }
    let is_change = match purpose {
        Purpose::Change => true,
        Purpose::Cure => false,
    };
    if let Some(server) = counted().find(|server| is_change && !server.is_ready) {
        return Err(format!("server {} is not Ready: look at k3s on {0}", server.name));
    }
    for server in counted().chain(is_change.then_some(own)) {
        match &server.etcd {
            None | Some(EtcdSeen::Voter | EtcdSeen::Leaving) => {}
            Some(EtcdSeen::NotVoter(why)) => {
                return Err(format!(
                    "the etcd member of {} has no vote ({VOTER_CONDITION}: {why}): look at k3s on {0}",
                    server.name
                ));
            }
        }
    }
    Ok(())
}

/// Whether one of the addresses that nobody is known by may be the target's own: then it proves nothing about the others.
fn may_be_own(own: &ServerSeen, answers: &[AddressSeen], servers: &[ServerSeen]) -> bool {
    let is_seen = answers.iter().any(|seen| own.addresses.contains(&seen.address));
    let is_known = |address: &String| servers.iter().any(|server| server.addresses.contains(address));
    own.is_control_plane && !is_seen && answers.iter().any(|seen| !is_known(&seen.address))
}

/// Says what a restart of `target` interrupts though all others are healthy; none if nothing.
pub fn interruption(seen: &GateSeen, target: &str) -> Option<String> {
    let has = |server: &ServerSeen, etcd: bool| if etcd { server.etcd.is_some() } else { server.is_control_plane };
    let own = seen.servers.iter().find(|server| server.name == target)?;
    let others = |etcd: bool| {
        let others = seen.servers.iter().filter(|server| server.name != target && server.is_counted);
        others.filter(|server| has(server, etcd)).count()
    };
    let members = seen.servers.iter().filter(|server| server.etcd.is_some()).count();
    if own.is_control_plane && others(false) == 0 {
        return Some("it is the only server: the API stops while it restarts".to_owned());
    }
    (own.etcd.is_some() && others(true) < members / 2 + 1)
        .then(|| format!("etcd has {members} members: the API stops while one of them restarts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, address: &str) -> ServerSeen {
        ServerSeen {
            name: name.into(),
            addresses: BTreeSet::from([address.to_owned()]),
            is_control_plane: true,
            is_ready: true,
            is_counted: true,
            etcd: Some(EtcdSeen::Voter),
        }
    }

    fn healthy(address: &str) -> AddressSeen {
        AddressSeen { address: address.into(), answer: Ok(()) }
    }

    /// s1 (10.0.0.1) to s`count`.
    fn servers(count: u8) -> GateSeen {
        let address = |at: u8| format!("10.0.0.{at}");
        GateSeen {
            servers: (1..=count).map(|at| server(&format!("s{at}"), &address(at))).collect(),
            answers: (1..=count).map(|at| healthy(&address(at))).collect(),
        }
    }

    fn refused(seen: &GateSeen, purpose: Purpose) -> String {
        judge(seen, "s1", purpose).expect_err("it had to be refused")
    }

    #[test]
    fn a_server_is_disturbed_when_every_other_answers() {
        for count in 1..=5 {
            for purpose in [Purpose::Change, Purpose::Cure] {
                assert_eq!(judge(&servers(count), "s1", purpose), Ok(()), "{count}");
            }
        }
    }

    #[test]
    fn one_other_that_does_not_answer_stops_it_and_is_named() {
        for purpose in [Purpose::Change, Purpose::Cure] {
            let mut seen = servers(3);
            seen.answers[1].answer = Err("answers 500".into());
            let why = refused(&seen, purpose);
            assert_eq!(why, "the API server of s2 (10.0.0.2) answers 500: look at k3s on s2");
        }
        let mut seen = servers(3);
        seen.answers.push(AddressSeen { address: "10.9.9.9".into(), answer: Err("does not answer in time".into()) });
        assert!(refused(&seen, Purpose::Change).starts_with("the API server at 10.9.9.9 does not answer in time"));
    }

    #[test]
    fn its_own_address_is_not_asked_and_proves_nothing() {
        let mut seen = servers(3);
        seen.answers[0].answer = Err("does not answer".into());
        assert_eq!(judge(&seen, "s1", Purpose::Cure), Ok(()));
        seen.answers.remove(0);
        assert_eq!(judge(&seen, "s1", Purpose::Change), Ok(()), "it may be left out");
    }

    #[test]
    fn an_other_server_that_has_left_the_slice_is_missed() {
        for purpose in [Purpose::Change, Purpose::Cure] {
            let mut seen = servers(3);
            seen.answers.remove(2);
            let why = refused(&seen, purpose);
            assert!(why.contains("has 1 healthy") && why.contains("2 other servers (no address of s3)"), "{why}");
        }
        let mut seen = servers(2);
        seen.answers.clear();
        assert!(refused(&seen, Purpose::Change).contains("no address of s2"), "an empty slice is no consent");
    }

    #[test]
    fn addresses_that_belong_to_no_node_count_only_when_none_can_be_the_targets_own() {
        let mut seen = servers(3);
        for (at, server) in seen.servers.iter_mut().enumerate() {
            server.addresses = BTreeSet::from([format!("192.168.0.{at}")]);
        }
        assert_eq!(judge(&seen, "s1", Purpose::Change), Ok(()), "three of three answer");
        seen.answers.remove(0);
        // Of the two that are left one may be the target's, and one of the others is gone then.
        assert!(refused(&seen, Purpose::Change).contains("--advertise-address"));
    }

    #[test]
    fn an_other_server_that_is_not_ready_stops_a_change_and_not_a_cure() {
        let mut seen = servers(3);
        seen.servers[2].is_ready = false;
        assert!(refused(&seen, Purpose::Change).contains("server s3 is not Ready"));
        assert_eq!(judge(&seen, "s1", Purpose::Cure), Ok(()));
        let mut seen = servers(3);
        seen.servers[0].is_ready = false;
        assert_eq!(judge(&seen, "s1", Purpose::Change), Ok(()), "its own place is the turn's matter");
    }

    #[test]
    fn every_etcd_member_must_have_its_vote_but_the_one_that_is_cured() {
        for at in 0..3 {
            let mut seen = servers(3);
            seen.servers[at].etcd = Some(EtcdSeen::NotVoter("MemberIsLearner".into()));
            let why = refused(&seen, Purpose::Change);
            assert!(why.contains(&format!("s{}", at + 1)) && why.contains("MemberIsLearner"), "{why}");
            assert_eq!(judge(&seen, "s1", Purpose::Cure).is_ok(), at == 0, "{at}");
        }
    }

    #[test]
    fn a_member_that_is_being_removed_stops_everything() {
        for at in 0..3 {
            let mut seen = servers(3);
            seen.servers[at].etcd = Some(EtcdSeen::Leaving);
            for purpose in [Purpose::Change, Purpose::Cure] {
                assert!(refused(&seen, purpose).contains("is being removed from etcd"));
            }
        }
    }

    #[test]
    fn with_an_external_datastore_only_the_api_servers_are_asked() {
        let mut seen = servers(2);
        for server in &mut seen.servers {
            server.etcd = None;
        }
        assert_eq!(judge(&seen, "s1", Purpose::Change), Ok(()));
        assert_eq!(interruption(&seen, "s1"), None, "the other one serves on");
        seen.answers[1].answer = Err("answers 503".into());
        assert!(judge(&seen, "s1", Purpose::Change).is_err());
    }

    #[test]
    fn a_server_that_is_not_counted_is_not_missed_but_must_answer_while_it_is_in_the_slice() {
        let mut seen = servers(3);
        seen.servers[2] = ServerSeen {
            is_counted: false,
            is_ready: false,
            etcd: Some(EtcdSeen::NotVoter("Unhealthy".into())),
            ..seen.servers[2].clone()
        };
        assert_eq!(judge(&seen, "s1", Purpose::Change), Ok(()));
        seen.answers[2].answer = Err("does not answer".into());
        assert!(refused(&seen, Purpose::Change).contains("s3"));
        seen.answers.remove(2);
        assert_eq!(judge(&seen, "s1", Purpose::Change), Ok(()));
        assert!(interruption(&seen, "s1").is_some_and(|said| said.contains("3 members")), "two are left, one restarts");
    }

    #[test]
    fn a_member_without_an_api_server_is_judged_by_its_vote_alone() {
        let mut seen = servers(3);
        seen.servers[2].is_control_plane = false;
        seen.answers.remove(2);
        assert_eq!(judge(&seen, "s1", Purpose::Change), Ok(()));
        seen.servers[2].etcd = Some(EtcdSeen::NotVoter("Unhealthy".into()));
        assert!(refused(&seen, Purpose::Change).contains("s3"));
        seen.servers[2].etcd = Some(EtcdSeen::Voter);
        assert_eq!(judge(&seen, "s3", Purpose::Change), Ok(()));
        seen.answers[0].answer = Err("answers 500".into());
        assert!(judge(&seen, "s3", Purpose::Change).is_err(), "the two with an API server are both others");
    }

    #[test]
    fn a_target_that_is_no_server_node_is_refused_with_the_label_that_it_lacks() {
        let why = judge(&servers(3), "w1", Purpose::Change).expect_err("no such server");
        assert!(why.contains("w1") && why.contains(CONTROL_PLANE_LABEL), "{why}");
    }

    #[test]
    fn one_and_two_etcd_servers_are_said_to_stop_the_api_and_three_are_not() {
        assert!(interruption(&servers(1), "s1").is_some_and(|said| said.contains("only server")));
        assert!(interruption(&servers(2), "s1").is_some_and(|said| said.contains("2 members")));
        assert_eq!(interruption(&servers(3), "s1"), None);
    }

    fn read(labels: &[&str], annotations: &[(&str, &str)], conditions: &[(&str, &str, &str)]) -> Option<ServerSeen> {
        let labels = labels.iter().map(|label| ((*label).to_owned(), "true".to_owned())).collect();
        let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        ServerSeen::read(NodeRead {
            name: "s1",
            labels: &labels,
            annotations: &annotations,
            addresses: vec!["10.0.0.1".into()],
            conditions: conditions.to_vec(),
            is_cordoned: false,
        })
    }

    #[test]
    fn a_node_is_read_as_k3s_labels_it() {
        assert_eq!(read(&[], &[], &[]), None, "a worker");
        let ready = ("Ready", "True", "KubeletReady");
        let voter = ("EtcdIsVoter", "True", "MemberNotLearner");
        let seen = read(&[CONTROL_PLANE_LABEL, ETCD_LABEL], &[], &[ready, voter]);
        assert_eq!(seen, Some(server("s1", "10.0.0.1")));
        fn etcd(annotations: &[(&str, &str)], conditions: &[(&str, &str, &str)]) -> Option<EtcdSeen> {
            read(&[ETCD_LABEL], annotations, conditions).and_then(|seen| seen.etcd)
        }
        assert_eq!(etcd(&[], &[]), Some(EtcdSeen::NotVoter("not said".into())));
        let learner = ("EtcdIsVoter", "False", "MemberIsLearner");
        assert_eq!(etcd(&[], &[learner]), Some(EtcdSeen::NotVoter("MemberIsLearner".into())));
        for key in ["etcd.k3s.cattle.io/remove", "etcd.rke2.cattle.io/remove"] {
            assert_eq!(etcd(&[(key, "true")], &[voter]), Some(EtcdSeen::Leaving));
            assert_eq!(etcd(&[(key, "false")], &[voter]), Some(EtcdSeen::Voter));
        }
        let none = read(&[CONTROL_PLANE_LABEL], &[], &[("Ready", "Unknown", "NodeStatusUnknown")]).unwrap();
        assert!(!none.is_ready && none.etcd.is_none());
    }

    #[test]
    fn an_address_that_k3s_was_told_to_advertise_is_the_nodes_own() {
        let args =
            r#"["server","--advertise-address","203.0.113.7","--node-ip=10.0.0.1","--advertise-address=203.0.113.8"]"#;
        let annotations = [("k3s.io/node-args", args), ("k3s.io/external-ip", "198.51.100.1,2001:db8::1")];
        let seen = read(&[CONTROL_PLANE_LABEL], &annotations, &[]).unwrap();
        let expected = ["10.0.0.1", "198.51.100.1", "2001:db8::1", "203.0.113.7", "203.0.113.8"];
        assert_eq!(seen.addresses, expected.map(String::from).into());
        let broken = read(&[CONTROL_PLANE_LABEL], &[("k3s.io/node-args", "no JSON")], &[]).unwrap();
        assert_eq!(broken.addresses, BTreeSet::from(["10.0.0.1".to_owned()]));
    }
}

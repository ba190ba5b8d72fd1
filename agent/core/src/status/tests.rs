use proptest::prelude::*;

use super::*;

const NOW: &str = "2026-11-21T15:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn node(name: &str, annotations: &[(&str, &str)], labels: &[(&str, &str)]) -> Member {
    let annotations = annotations.iter().map(|(key, value)| (format!("{PREFIX}{key}"), (*value).to_owned())).collect();
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Member { name: name.into(), labels, annotations, is_ready: true, is_cordoned: false }
}

fn current(name: &str) -> Member {
    let annotations =
        [("phase", "Current"), ("revision", "0123456789ab"), ("since", "2026-11-21T14:57:00Z"), ("reason", "proven")];
    node(name, &annotations, &[])
}

fn lease(annotations: &[(&str, &str)]) -> Option<LeaseSaid> {
    let annotations = node("", annotations, &[]).annotations;
    Some(LeaseSaid { annotations, renewed: "2026-11-21T14:59:55.000000Z".parse().ok() })
}

fn agents(names: &[&str]) -> Option<BTreeSet<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn the_sentence_stands_first_then_a_line_a_node_servers_before_workers() {
    let waiting = [
        ("phase", "Pending"),
        ("reason", "asks for a turn"),
        ("revision", "ba9876543210"),
        ("since", "2026-11-21T14:59:20Z"),
        ("turn", "order"),
    ];
    let mut dead = node("dead", &[], &[("kubernetes.io/os", "linux")]);
    dead.is_ready = false;
    let seen = Seen {
        lease: lease(&[("rollout", "1 of 4 nodes has 0123456789ab"), ("halted", "aaaaaaaaaaaa,bbbbbbbbbbbb")]),
        nodes: vec![
            node("worker", &waiting, &[]),
            node("out", &[("phase", "Current")], &[("k3s-registry-agent/exclude", "true")]),
            node("win", &[], &[("kubernetes.io/os", "windows")]),
            dead,
            node(
                "server",
                &current("").annotations.iter().map(|(k, v)| (&k[PREFIX.len()..], v.as_str())).collect::<Vec<_>>(),
                &[("node-role.kubernetes.io/control-plane", "true")],
            ),
        ],
        agents: agents(&["worker", "server"]),
    };
    let status = Status::of(&seen, now());
    assert_eq!(
        status.lines(now(), Paint::Plain),
        "\
1 of 4 nodes has 0123456789ab
halted: aaaaaaaaaaaa, bbbbbbbbbbbb
3 nodes: 1 Current, 1 Pending, 1 without a phase; 2 without an agent on purpose

NODE    ROLE    PHASE    REVISION      SINCE  REASON
server  server  Current  0123456789ab  3m     proven
dead    agent   -        -             -      no agent runs here: its pod is missing or does not start; the Node is not Ready
out     agent   Current  -             -      excluded by its label k3s-registry-agent/exclude: no agent here
win     agent   -        -             -      does not run Linux: no agent here
worker  agent   Pending  ba9876543210  40s    asks for a turn; no turn yet: others go first (order)
"
    );
    assert!(!status.is_all_current);
}

#[test]
fn all_are_current_only_if_each_that_counts_is_with_one_revision_and_its_agent() {
    let all = |nodes: Vec<Member>, agents| Status::of(&Seen { lease: lease(&[]), nodes, agents }, now()).is_all_current;
    let excluded = node("x", &[], &[("k3s-registry-agent/exclude", "true")]);
    assert!(all(vec![current("a"), current("b"), excluded.clone()], agents(&["a", "b"])));
    assert!(all(vec![current("a")], None), "where pods may not be listed the phase counts");
    assert!(!all(vec![current("a"), current("b")], agents(&["a"])), "the last word of an agent that is gone");
    assert!(!all(vec![excluded], agents(&[])), "none is not all");
    assert!(!all(vec![], None));
    let mut behind = current("b");
    behind.annotations.insert(format!("{PREFIX}revision"), "ba9876543210".into());
    assert!(!all(vec![current("a"), behind], None), "a revision of yesterday");
    for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::Current) {
        let mut other = current("b");
        other.annotations.insert(format!("{PREFIX}phase"), phase.to_string());
        assert!(!all(vec![current("a"), other], None), "{phase}");
    }
}

#[test]
fn a_cluster_without_a_coordinator_says_so_and_so_does_one_whose_coordinator_is_silent() {
    let status = Status::of(&Seen::default(), now());
    assert!(status.rollout.starts_with("no coordinator: "), "{status:?}");
    assert_eq!(status.lines(now(), Paint::Plain).lines().nth(1), Some("0 nodes"));
    let mut seen = Seen { lease: lease(&[]), ..Seen::default() };
    let status = Status::of(&seen, now());
    assert_eq!((status.rollout.as_str(), status.warning), ("the coordinator has said nothing yet", None));
    seen.lease.as_mut().unwrap().renewed = "2026-11-21T14:48:00Z".parse().ok();
    let warning = Status::of(&seen, now()).warning.unwrap();
    assert!(warning.contains("has not renewed its Lease for 12m"), "{warning}");
}

#[test]
fn a_word_of_turn_is_explained_and_one_that_is_none_is_shown() {
    for word in Word::ALL {
        assert!(waits_for(word.as_str()).ends_with(&format!(" ({})", word.as_str())), "{word:?}");
    }
    assert_eq!(waits_for("moon"), "moon");
}

#[test]
fn only_a_phase_that_we_know_has_a_colour_and_columns_stay_aligned() {
    let mut odd = current("odd");
    odd.annotations.insert(format!("{PREFIX}phase"), "Whatever".into());
    let mut stuck = current("stuck");
    stuck.annotations.insert(format!("{PREFIX}phase"), "Stuck".into());
    let seen = Seen { nodes: vec![current("one"), odd, stuck], ..Seen::default() };
    let status = Status::of(&seen, now());
    let (plain, painted) = (status.lines(now(), Paint::Plain), status.lines(now(), Paint::Coloured));
    assert!(!plain.contains('\u{1b}'));
    assert!(painted.contains("\u{1b}[32mCurrent\u{1b}[0m") && painted.contains("\u{1b}[31mStuck\u{1b}[0m"));
    assert!(painted.contains("  Whatever  "));
    let mut bare = painted;
    for code in ["\u{1b}[32m", "\u{1b}[31m", "\u{1b}[33m", "\u{1b}[0m"] {
        bare = bare.replace(code, "");
    }
    assert_eq!(bare, plain);
}

#[test]
fn an_age_has_its_largest_unit() {
    let at = |seconds: i64| (now() - jiff::SignedDuration::from_secs(seconds)).to_string();
    for (seconds, wanted) in
        [(-5, "0s"), (0, "0s"), (59, "59s"), (60, "1m"), (3_599, "59m"), (3_600, "1h"), (86_399, "23h"), (90_000, "1d")]
    {
        assert_eq!(age(&at(seconds), now()).as_deref(), Some(wanted), "{seconds}");
    }
    assert_eq!(age("yesterday", now()), None);
}

proptest! {
    /// Whoever may write an annotation must not move the cursor of whoever reads.
    #[test]
    fn no_annotation_writes_to_the_readers_terminal(
        text in "[\\x00-\\x1f\\x7f-\u{9f}a-z ]{0,20}",
        name in "[\\x00-\\x1fa-z]{0,9}",
    ) {
        let keys = ["phase", "reason", "revision", "failed", "since", "turn", "pause"];
        let annotations: Vec<_> = keys.iter().map(|key| (*key, text.as_str())).collect();
        let seen = Seen {
            lease: lease(&[("rollout", &text), ("halted", &text)]),
            nodes: vec![node(&name, &annotations, &[])],
            agents: None,
        };
        let status = Status::of(&seen, now());
        let lines = status.lines(now(), Paint::Plain);
        prop_assert!(lines.chars().all(|c| c == '\n' || !c.is_control()), "{lines:?}");
        prop_assert_eq!(lines.lines().filter(|line| line.starts_with("NODE ")).count(), 1);
    }
}

//! What the Lease keeps beside its holder, as annotations: all that is kept in a second place.

use std::collections::BTreeMap;

use super::out::Out;
use crate::node::annotations::PREFIX;
use crate::revision::Revision;

/// Revisions that are kept as halted.
pub(crate) const HALTED_LIMIT: usize = 16;
/// Excused failures that are kept.
pub(crate) const EXCUSED_LIMIT: usize = 64;

/// What is kept on the Lease and nowhere else, since Nodes forget it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseKept {
    /// `halted`: revisions that failed on a node, the oldest first.
    pub halted: Vec<String>,
    /// `excused`: failures that a `retry` on the Lease let pass while their Nodes still tell of them.
    pub excused: Vec<Failure>,
    /// `retry-honoured`: the last `retry` token on the Lease that was honoured.
    pub honoured: Option<String>,
    /// `out`: who holds a grant, or may, by node. An entry stands there before its grant is written.
    pub out: BTreeMap<String, Out>,
    /// `rollout`: the sentence on all of it.
    pub rollout: String,
}

/// A revision that failed on a node: `NODE=R`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failure {
    /// The node's name.
    pub node: String,
    /// The revision.
    pub revision: String,
}

impl LeaseKept {
    /// Reads the annotations of the Lease. What is no revision is left out: we never wrote it.
    pub fn read(annotations: &BTreeMap<String, String>) -> Self {
        let ours = |name: &str| annotations.get(&format!("{PREFIX}{name}"));
        let list = |name: &str| ours(name).into_iter().flat_map(|text| text.split(','));
        let is_revision = |text: &str| text.parse::<Revision>().is_ok();
        Self {
            halted: list("halted").filter(|text| is_revision(text)).map(str::to_owned).collect(),
            excused: list("excused")
                .filter_map(|text| text.rsplit_once('='))
                .filter(|(_, revision)| is_revision(revision))
                .map(|(node, revision)| Failure { node: node.to_owned(), revision: revision.to_owned() })
                .collect(),
            honoured: ours("retry-honoured").cloned(),
            out: ours("out").map(|text| Out::read_all(text)).unwrap_or_default(),
            rollout: ours("rollout").cloned().unwrap_or_default(),
        }
    }

    /// The annotations to write, by full name; `None` removes.
    pub fn annotations(&self) -> BTreeMap<String, Option<String>> {
        let Self { halted, excused, honoured, out, rollout } = self;
        let excused: Vec<String> =
            excused.iter().map(|Failure { node, revision }| format!("{node}={revision}")).collect();
        let text = |text: String| (!text.is_empty()).then_some(text);
        [
            ("halted", text(halted.join(","))),
            ("excused", text(excused.join(","))),
            ("retry-honoured", honoured.clone()),
            ("out", text(Out::write_all(out))),
            ("rollout", text(rollout.clone())),
        ]
        .into_iter()
        .map(|(name, value)| (format!("{PREFIX}{name}"), value))
        .collect()
    }

    /// Tells whether grants that are decided with this may be written while `standing` is what the Lease says. The sentence
    /// may differ, and whose turn is over may still be listed: both wait for the next write.
    pub fn may_rest_on(&self, standing: &Self) -> bool {
        let Self { halted, excused, honoured, out, rollout: _ } = self;
        let is_same = (halted, excused, honoured) == (&standing.halted, &standing.excused, &standing.honoured);
        is_same && out.iter().all(|(node, out)| standing.out.get(node) == Some(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_reads_back_as_it_was_written() {
        let kept = LeaseKept {
            halted: vec!["0123456789ab".into(), "restore".into()],
            excused: vec![Failure { node: "node-1.example.com".into(), revision: "0123456789ab".into() }],
            honoured: Some("token".into()),
            out: Out::read_all("node-1=0123456789ab/00c0ffee,node-2=restore/00c0ffee/server"),
            rollout: "all is well".into(),
        };
        for kept in [kept, LeaseKept::default()] {
            let written = kept.annotations();
            assert_eq!(written.len(), 5);
            let there = written.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            assert_eq!(LeaseKept::read(&there), kept);
        }
    }

    #[test]
    fn nothing_rests_on_a_lease_that_lacks_a_grant_or_says_otherwise_what_is_halted() {
        let out = |text: &str| LeaseKept { out: Out::read_all(text), ..LeaseKept::default() };
        let (one, both) = (out("a=restore/00000001"), out("a=restore/00000001,b=restore/00000002"));
        let said = LeaseKept { rollout: "all is well".into(), ..one.clone() };
        assert!(said.may_rest_on(&both), "b's turn is over");
        assert!(!both.may_rest_on(&one));
        assert!(!out("a=restore/00000003").may_rest_on(&one), "another grant to the same node");
        assert!(!out("a=restore/00000001/server").may_rest_on(&one));
        let halted = LeaseKept { halted: vec!["restore".into()], ..one.clone() };
        assert!(!halted.may_rest_on(&one) && !one.may_rest_on(&halted));
    }

    #[test]
    fn what_is_no_revision_halts_nothing() {
        let annotations = BTreeMap::from([
            (format!("{PREFIX}halted"), "0123456789ab,,x".to_owned()),
            (format!("{PREFIX}excused"), "a,b=c,=,d=0123456789ab".to_owned()),
        ]);
        let kept = LeaseKept::read(&annotations);
        assert_eq!(kept.halted, ["0123456789ab"]);
        assert_eq!(kept.excused, [Failure { node: "d".into(), revision: "0123456789ab".into() }]);
    }
}

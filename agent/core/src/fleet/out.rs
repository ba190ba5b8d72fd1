//! Who holds a grant, or may hold one, as the Lease lists it: a Node that is deleted in its turn takes with it all that it
//! says, and the process that granted may be gone too.

use std::collections::BTreeMap;

use super::Fleet;
use crate::grant::Ask;
use crate::node::observed::Role;
use crate::revision::Revision;

/// Bytes of the list at most, since the annotations of one object may have 256 KiB: about 3,000 nodes whose names have 20
/// characters, and 460 of the longest. What does not fit is not granted.
const LIMIT: usize = 128 * 1024;
/// Behind the ask of a server.
const SERVER: &str = "server";

/// One that holds a grant, or may: `NODE=R/N`, of a server `NODE=R/N/server`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    /// What it was granted.
    pub ask: Ask,
    /// What it was when it was granted that: a Node that is gone does not tell.
    pub role: Role,
}

impl Out {
    /// Reads the list. What names no node or no ask is left out, since we never wrote it; a word behind the ask that is not
    /// known is some later version's, and the node is taken for a server, which stops most.
    pub(crate) fn read_all(text: &str) -> BTreeMap<String, Self> {
        let entry = |entry: &str| {
            let (node, out) = entry.split_once('=').filter(|(node, _)| !node.is_empty())?;
            let mut parts = out.split('/');
            let (revision, number, word) = (parts.next()?, parts.next()?, parts.next());
            let ask: Ask = format!("{revision}/{number}").parse().ok()?;
            ask.revision.parse::<Revision>().ok()?;
            let role = if word.is_some() { Role::Server } else { Role::Agent };
            Some((node.to_owned(), Self { ask, role }))
        };
        text.split(',').filter_map(entry).collect()
    }

    /// The list as it is written.
    pub(crate) fn write_all(all: &BTreeMap<String, Self>) -> String {
        let entries: Vec<String> = all.iter().map(|(node, out)| out.entry(node)).collect();
        entries.join(",")
    }

    fn entry(&self, node: &str) -> String {
        let Self { ask, role } = self;
        match role {
            Role::Server => format!("{node}={ask}/{SERVER}"),
            Role::Agent => format!("{node}={ask}"),
        }
    }
}

/// The list while it is made.
#[derive(Clone, Debug, Default)]
pub(crate) struct List {
    all: BTreeMap<String, Out>,
    bytes: usize,
}

impl List {
    /// Those that may be in their turn now.
    pub(crate) fn of(fleet: &Fleet) -> Self {
        let mut list = Self::default();
        // Those that stand there first: they had room when they were granted.
        for is_listed in [true, false] {
            for (node, memory) in fleet.ledger.all() {
                if let Some(ask) = memory.turn()
                    && fleet.kept.out.contains_key(node) == is_listed
                {
                    list.add(node, Out { ask: ask.clone(), role: memory.role });
                }
            }
        }
        list
    }

    /// Adds one, if there is room for it.
    pub(crate) fn add(&mut self, node: &str, out: Out) -> bool {
        let bytes = self.bytes + out.entry(node).len() + 1;
        let has_room = bytes <= LIMIT;
        if has_room {
            self.bytes = bytes;
            self.all.insert(node.to_owned(), out);
        }
        has_room
    }

    /// The list.
    pub(crate) fn into_all(self) -> BTreeMap<String, Out> {
        self.all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ASK: &str = "0123456789ab/00c0ffee";

    fn out(role: Role) -> Out {
        Out { ask: ASK.parse().unwrap(), role }
    }

    proptest! {
        #[test]
        fn the_list_reads_back_as_it_was_written(nodes in prop::collection::btree_map("[a-z0-9.-]{1,20}", any::<bool>(), 0..20)) {
            let role = |is_server| if is_server { Role::Server } else { Role::Agent };
            let all: BTreeMap<String, Out> = nodes.into_iter().map(|(node, is_server)| (node, out(role(is_server)))).collect();
            prop_assert_eq!(Out::read_all(&Out::write_all(&all)), all);
        }

        #[test]
        fn whatever_stands_there_is_read(text in "[a-z0-9=/,.]{0,60}") {
            Out::read_all(&text);
        }
    }

    #[test]
    fn what_we_never_wrote_is_left_out_and_what_a_later_version_adds_counts_as_a_server() {
        let text = format!("a={ASK},,b,=,={ASK},c=x/00c0ffee,d=0123456789ab,e={ASK}/other/word,f={ASK}/server");
        let read = Out::read_all(&text);
        let expected = [("a", Role::Agent), ("e", Role::Server), ("f", Role::Server)];
        assert_eq!(read, expected.map(|(node, role)| (node.to_owned(), out(role))).into());
    }

    #[test]
    fn the_list_ends_at_its_limit() {
        let mut list = List::default();
        let name = |number: usize| format!("{number:0>253}");
        let fits = (0..1000).take_while(|number| list.add(&name(*number), out(Role::Server))).count();
        assert_eq!(fits, 463);
        assert!(list.add("a", out(Role::Agent)), "one with a shorter name");
        let text = Out::write_all(&list.into_all());
        assert!(text.len() <= LIMIT && text.len() + 300 > LIMIT, "{}", text.len());
    }
}

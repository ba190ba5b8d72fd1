//! Whether two rewrites match one and the same repository name, decided on the patterns themselves: both are run side
//! by side over all names at once, and a name that both match is the proof.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use regex_syntax::hir::Class;
use regex_syntax::hir::Hir;
use regex_syntax::hir::HirKind;
use regex_syntax::hir::Look;

/// The characters of a repository name. Letters first, so that the shortest proof reads like a name.
const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789/-._";
/// More states of one pattern than this are not built. No real rewrite comes near.
const MOST_STATES: usize = 1000;

/// How many states may still be looked at: a hostile file must cost no more than a blink.
pub(super) struct Budget(u32);

impl Budget {
    /// Enough for one file.
    pub(super) fn new() -> Self {
        Self(5_000_000)
    }

    fn spend(&mut self, states: usize) -> Option<()> {
        self.0 = self.0.checked_sub(u32::try_from(states).ok()?)?;
        Some(())
    }
}

/// A repository name that both patterns match. `None`: there is none, or it is not decidable here, or costs too much.
pub(super) fn common_name(one: &Hir, other: &Hir, budget: &mut Budget) -> Option<String> {
    let programs = [Program::compile(one)?, Program::compile(other)?];
    let start = Place { threads: programs.each_ref().map(Program::start), name: Name::ComponentStart };
    let mut names: BTreeMap<Place, String> = BTreeMap::from([(start.clone(), String::new())]);
    let mut queue = VecDeque::from([start]);
    while let Some(place) = queue.pop_front() {
        let name = names.get(&place).cloned().unwrap_or_default();
        for &symbol in ALPHABET {
            let Some(next_name) = place.name.after(symbol) else { continue };
            budget.spend(programs[0].states.len() + programs[1].states.len())?;
            let [Some(first), Some(second)] = [0, 1].map(|side| programs[side].after(&place.threads[side], symbol))
            else {
                continue;
            };
            let next = Place { threads: [first, second], name: next_name };
            if names.contains_key(&next) {
                continue;
            }
            let longer = format!("{name}{}", char::from(symbol));
            if next.name == Name::InComponent && next.threads.iter().all(|threads| threads.is_matched_at_end) {
                return Some(longer);
            }
            names.insert(next.clone(), longer);
            queue.push_back(next);
        }
    }
    None
}

/// Tells whether the pattern is one character, whichever a name may hold.
pub(super) fn is_any_symbol(pattern: &Hir) -> bool {
    match pattern.kind() {
        HirKind::Class(class) => of_class(class) == symbols(|_| true),
        HirKind::Capture(capture) => is_any_symbol(&capture.sub),
        HirKind::Empty
        | HirKind::Literal(_)
        | HirKind::Look(_)
        | HirKind::Repetition(_)
        | HirKind::Concat(_)
        | HirKind::Alternation(_) => false,
    }
}

/// Where a search stands.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    threads: [Threads; 2],
    name: Name,
}

/// How far the text so far is a repository name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    /// At the start, or after a slash.
    ComponentStart,
    /// After a letter or digit: a name may end here.
    InComponent,
    /// After `-`, `.` or `_`.
    Separator,
}

impl Name {
    fn after(self, symbol: u8) -> Option<Self> {
        match (self, symbol) {
            (_, b'a'..=b'z' | b'0'..=b'9') => Some(Self::InComponent),
            (Self::InComponent, b'/') => Some(Self::ComponentStart),
            (Self::InComponent, _) => Some(Self::Separator),
            (Self::ComponentStart | Self::Separator, _) => None,
        }
    }
}

/// What a pattern can still become after some text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Threads {
    /// Sorted states; empty once it has matched, since a match in the text so far stays one.
    states: Vec<usize>,
    is_matched: bool,
    /// As `is_matched`, if the text ends here.
    is_matched_at_end: bool,
}

#[derive(Clone)]
enum State {
    /// One symbol of the set (a bit for each of [`ALPHABET`]).
    Symbol(u64, usize),
    Split(Vec<usize>),
    Start(usize),
    End(usize),
    Match,
}

/// A pattern as a nondeterministic automaton, built from its end.
struct Program {
    states: Vec<State>,
    entry: usize,
}

impl Program {
    fn compile(pattern: &Hir) -> Option<Self> {
        let mut program = Self { states: vec![State::Match], entry: 0 };
        program.entry = program.add(pattern, 0)?;
        Some(program)
    }

    fn push(&mut self, state: State) -> Option<usize> {
        self.states.push(state);
        (self.states.len() <= MOST_STATES).then_some(self.states.len() - 1)
    }

    /// Adds a pattern that goes on at `next`; gives the state it begins with.
    fn add(&mut self, pattern: &Hir, next: usize) -> Option<usize> {
        match pattern.kind() {
            HirKind::Empty => Some(next),
            HirKind::Literal(literal) => {
                let mut next = next;
                for byte in literal.0.iter().rev() {
                    next = self.push(State::Symbol(symbols(|symbol| symbol == *byte), next))?;
                }
                Some(next)
            }
            HirKind::Class(class) => {
                let set = of_class(class);
                self.push(State::Symbol(set, next))
            }
            HirKind::Look(Look::Start) => self.push(State::Start(next)),
            HirKind::Look(Look::End) => self.push(State::End(next)),
            HirKind::Look(_) => None,
            HirKind::Capture(capture) => self.add(&capture.sub, next),
            HirKind::Concat(parts) => {
                let mut next = next;
                for part in parts.iter().rev() {
                    next = self.add(part, next)?;
                }
                Some(next)
            }
            HirKind::Alternation(parts) => {
                let ways = parts.iter().map(|part| self.add(part, next)).collect::<Option<Vec<_>>>()?;
                self.push(State::Split(ways))
            }
            HirKind::Repetition(repetition) => {
                let mut next = next;
                match repetition.max {
                    None => {
                        let again = self.push(State::Split(Vec::new()))?;
                        let body = self.add(&repetition.sub, again)?;
                        self.states[again] = State::Split(vec![body, next]);
                        next = again;
                    }
                    Some(max) => {
                        let after = next;
                        for _ in repetition.min..max {
                            let body = self.add(&repetition.sub, next)?;
                            next = self.push(State::Split(vec![body, after]))?;
                        }
                    }
                }
                for _ in 0..repetition.min {
                    next = self.add(&repetition.sub, next)?;
                }
                Some(next)
            }
        }
    }

    fn start(&self) -> Threads {
        self.threads(vec![self.entry], true)
    }

    /// `None` where the pattern can no longer match: an anchored one that failed.
    fn after(&self, threads: &Threads, symbol: u8) -> Option<Threads> {
        if threads.is_matched {
            return Some(threads.clone());
        }
        let bit = ALPHABET.iter().position(|known| *known == symbol).map_or(0, |at| 1_u64 << at);
        let mut reached: Vec<usize> = threads
            .states
            .iter()
            .filter_map(|state| match self.states[*state] {
                State::Symbol(set, next) if set & bit != 0 => Some(next),
                State::Symbol(..) | State::Split(_) | State::Start(_) | State::End(_) | State::Match => None,
            })
            .collect();
        // A match may begin anywhere.
        reached.push(self.entry);
        let threads = self.threads(reached, false);
        (threads.is_matched_at_end || !threads.states.is_empty()).then_some(threads)
    }

    fn threads(&self, from: Vec<usize>, at_start: bool) -> Threads {
        let (states, is_matched) = self.closure(from.clone(), at_start, false);
        let (_, is_matched_at_end) = self.closure(from, at_start, true);
        let states = if is_matched { Vec::new() } else { states };
        Threads { states, is_matched, is_matched_at_end }
    }

    /// The symbol states that can be reached without reading, and whether the pattern can end there.
    fn closure(&self, mut stack: Vec<usize>, at_start: bool, at_end: bool) -> (Vec<usize>, bool) {
        let mut seen = vec![false; self.states.len()];
        let mut is_matched = false;
        let mut symbols = Vec::new();
        while let Some(state) = stack.pop() {
            if std::mem::replace(&mut seen[state], true) {
                continue;
            }
            match &self.states[state] {
                State::Symbol(..) => symbols.push(state),
                State::Split(ways) => stack.extend(ways),
                State::Start(next) => stack.extend(at_start.then_some(*next)),
                State::End(next) => stack.extend(at_end.then_some(*next)),
                State::Match => is_matched = true,
            }
        }
        symbols.sort_unstable();
        (symbols, is_matched)
    }
}

fn of_class(class: &Class) -> u64 {
    match class {
        Class::Unicode(class) => {
            symbols(|symbol| class.ranges().iter().any(|r| (r.start()..=r.end()).contains(&char::from(symbol))))
        }
        Class::Bytes(class) => symbols(|symbol| class.ranges().iter().any(|r| (r.start()..=r.end()).contains(&symbol))),
    }
}

fn symbols(is_in: impl Fn(u8) -> bool) -> u64 {
    ALPHABET.iter().enumerate().filter(|(_, symbol)| is_in(**symbol)).fold(0, |set, (at, _)| set | 1 << at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn common(one: &str, other: &str) -> Option<String> {
        common_name(&regex_syntax::parse(one).unwrap(), &regex_syntax::parse(other).unwrap(), &mut Budget::new())
    }

    #[test]
    fn patterns_with_different_anchored_prefixes_share_no_name() {
        assert_eq!(common("^rancher/(.*)", "^library/(.*)"), None);
        assert_eq!(common("^a$", "^b$"), None);
        assert_eq!(common("^[A-Z]+$", ".*"), None, "a repository name has no capitals");
        assert_eq!(common("^a//b", ".*"), None, "nor two slashes");
        assert_eq!(common("x{3}$", "^x{2}$"), None);
    }

    #[test]
    fn a_common_name_is_the_proof() {
        assert_eq!(common("^rancher/(.*)", "(.*)").as_deref(), Some("rancher/a"));
        assert_eq!(common("^library/", "^library/nginx$").as_deref(), Some("library/nginx"));
        assert_eq!(common("rancher", "^my/").as_deref(), Some("my/rancher"), "not anchored: matches in the middle");
        assert_eq!(common("a{2,4}$", "^a{3}$").as_deref(), Some("aaa"));
        assert_eq!(common("^(x|y)/", "^y").as_deref(), Some("y/a"));
        assert_eq!(common("(^.+$)", "^a?b").as_deref(), Some("b"));
    }

    #[test]
    fn what_cannot_be_decided_is_not_claimed() {
        assert_eq!(common(r"\bfoo", "foo"), None);
        assert_eq!(common("(a{30}){40}", "a"), None, "too many states");
    }

    #[test]
    fn a_hostile_pair_ends_when_the_budget_does() {
        let pattern = |last: char| regex_syntax::parse(&format!("(a|b)*a(a|b){{60}}{last}$")).unwrap();
        let mut budget = Budget::new();
        assert_eq!(common_name(&pattern('a'), &pattern('b'), &mut budget), None);
        assert!(budget.spend(1000).is_none(), "it was not spent: the pair is too easy");
    }

    proptest! {
        #[test]
        fn literals_share_a_name_when_one_begins_with_the_other(a in "[a-z]{1,4}", b in "[a-z]{1,4}") {
            let found = common(&format!("^{a}"), &format!("^{b}"));
            prop_assert_eq!(found.is_some(), a.starts_with(&b) || b.starts_with(&a));
            if let Some(name) = found {
                prop_assert!(name.starts_with(&a) && name.starts_with(&b));
            }
        }
    }
}

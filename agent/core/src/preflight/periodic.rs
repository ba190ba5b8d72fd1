//! When registries are asked again while nothing changes: a token expires without anybody editing anything.

use std::time::Duration;

/// Between two probes.
const EVERY: Duration = Duration::from_secs(6 * 3600);
/// The first one of a process comes within this time, the later ones by half of it earlier or later: nodes that start
/// together must not ask together.
const SPREAD: Duration = Duration::from_secs(3600);

/// When to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Now.
    Now,
    /// Not before that.
    Until(Duration),
    /// Not before the inputs change: the same credential would only be refused again, and at some point the account
    /// locked.
    ForInputs,
}

/// When to ask next. `last` is when all hosts were asked last, by a probe or by a preflight, on the clock of `now`; `refused`
/// is the revision of which a host refused a credential, in this process or in an earlier one; `seed` is random, drawn once
/// by a process; `started` is when it began to have inputs; `is_retried` tells of a `retry` since: whoever unlocked an
/// account wants to see that it helped.
pub fn next_probe(
    last: Option<Duration>,
    refused: Option<&str>,
    revision: &str,
    started: Duration,
    now: Duration,
    seed: u64,
    is_retried: bool,
) -> Wait {
    if refused == Some(revision) {
        return Wait::ForInputs;
    }
    if is_retried {
        return Wait::Now;
    }
    let due = match last {
        Some(last) => {
            // Another number for each turn, so that nodes that once met part again.
            let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(last.as_secs());
            last + EVERY - SPREAD / 2 + jitter(seed)
        }
        None => started + jitter(seed),
    };
    if now >= due { Wait::Now } else { Wait::Until(due) }
}

/// A part of the spread.
fn jitter(seed: u64) -> Duration {
    let mut mixed = seed ^ (seed >> 31);
    mixed = mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^= mixed >> 27;
    Duration::from_secs(mixed % SPREAD.as_secs())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn next(last: Option<u64>, refused: Option<&str>, now: Duration, seed: u64) -> Wait {
        next_probe(last.map(Duration::from_secs), refused, "r1", Duration::ZERO, now, seed, false)
    }

    #[test]
    fn nodes_that_start_together_do_not_ask_together() {
        let first = |seed| next(None, None, Duration::ZERO, seed);
        let times: BTreeSet<_> = (1..200).map(|seed| format!("{:?}", first(seed))).collect();
        assert!(times.len() > 150, "{}", times.len());
        assert_eq!(next(None, None, SPREAD, 7), Wait::Now);
    }

    #[test]
    fn it_is_asked_every_six_hours_more_or_less() {
        for seed in 0..500 {
            let Wait::Until(due) = next(Some(100), None, Duration::ZERO, seed) else { panic!("not yet") };
            let hours = (due.as_secs() - 100) as f64 / 3600.0;
            assert!((5.5..6.5).contains(&hours), "{hours}");
            assert_eq!(next(Some(100), None, due, seed), Wait::Now);
        }
    }

    #[test]
    fn after_a_retry_it_is_asked_at_once_and_not_what_was_refused_since() {
        let now = Duration::from_secs(101);
        for last in [None, Some(Duration::from_secs(100))] {
            let next = |refused, is_retried| next_probe(last, refused, "r1", now, now, 7, is_retried);
            assert!(matches!(next(None, false), Wait::Until(_)));
            assert_eq!((next(None, true), next(Some("r0"), true)), (Wait::Now, Wait::Now));
            assert_eq!(next(Some("r1"), true), Wait::ForInputs);
        }
    }

    #[test]
    fn after_one_refusal_it_is_silent_until_the_inputs_change() {
        let late = Duration::from_secs(1_000_000);
        for last in [Some(0), None] {
            assert_eq!(next(last, Some("r1"), late, 1), Wait::ForInputs, "in this process, or in an earlier one");
            assert_eq!(next(last, Some("r0"), late, 1), Wait::Now);
        }
    }
}

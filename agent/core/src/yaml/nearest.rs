//! Which known word was probably meant by an unknown one.

/// The longest word that is compared: no key of ours comes near, and a hostile one costs nothing.
const LONGEST: usize = 64;

/// The known word nearest to `word`: at most a third of the letters may be missing, added, exchanged or swapped with
/// their neighbour. Case, `_` and `-` do not count, so that `caFile` finds `ca_file`. Of two that are equally near the
/// one spelt more alike wins, then the first.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let meant = letters(word);
    if meant.is_empty() || meant.len() > LONGEST {
        return None;
    }
    let exact: Vec<char> = word.chars().take(2 * LONGEST).collect();
    known
        .iter()
        .filter_map(|candidate| {
            let candidate_letters = letters(candidate);
            let longer = meant.len().max(candidate_letters.len());
            let shorter = meant.len().min(candidate_letters.len());
            if (longer - shorter) * 3 > longer {
                return None;
            }
            let apart = distance(&meant, &candidate_letters);
            let spelling = distance(&exact, &candidate.chars().collect::<Vec<_>>());
            (apart * 3 <= longer).then_some((apart, spelling, *candidate))
        })
        .min_by_key(|(apart, spelling, _)| (*apart, *spelling))
        .map(|(_, _, candidate)| candidate)
}

fn letters(word: &str) -> Vec<char> {
    let letters = word.chars().filter(|c| !matches!(c, '_' | '-'));
    // One more than the longest is enough to see that it is too long.
    letters.flat_map(char::to_lowercase).take(LONGEST + 1).collect()
}

/// Damerau-Levenshtein in its restricted form: insert, delete, exchange, swap two neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, right) in b.iter().enumerate() {
            let exchanged = last[j] + usize::from(left != right);
            let mut best = exchanged.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *left == b[j - 1] && a[i - 1] == *right {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KNOWN: &[&str] = &["mirrors", "configs", "endpoint", "rewrite", "auth", "tls", "ca_file", "maxUnavailable"];

    #[test]
    fn a_slip_finds_the_word_that_was_meant() {
        for (word, meant) in [
            ("mirrros", "mirrors"),
            ("mirror", "mirrors"),
            ("Mirrors", "mirrors"),
            ("endpoints", "endpoint"),
            ("endpoint\"", "endpoint"),
            ("rewrites", "rewrite"),
            ("tsl", "tls"),
            ("caFile", "ca_file"),
            ("ca-file", "ca_file"),
            ("max_unavailable", "maxUnavailable"),
        ] {
            assert_eq!(nearest(word, KNOWN), Some(meant), "{word}");
        }
    }

    #[test]
    fn a_word_of_its_own_finds_nothing() {
        for word in ["", "_", "token", "ca", "docker.io", "server", &"m".repeat(100_000)] {
            assert_eq!(nearest(word, KNOWN), None, "{:.20}", word);
        }
    }

    #[test]
    fn the_spelling_decides_between_equally_near_words() {
        assert_eq!(nearest("aaXb", &["aabb", "aaxb", "aaXc"]), Some("aaxb"));
        assert_eq!(nearest("key_fil", &["keyfile", "key_file"]), Some("key_file"));
    }

    proptest! {
        #[test]
        fn distance_is_symmetric_and_zero_only_for_equal_words(a in "[ab]{0,6}", b in "[ab]{0,6}") {
            let (left, right): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
            let apart = distance(&left, &right);
            prop_assert_eq!(apart, distance(&right, &left));
            prop_assert_eq!(apart == 0, a == b);
            prop_assert!(apart <= left.len().max(right.len()));
        }

        #[test]
        fn any_text_is_survived(word in ".{0,80}") {
            let _ = nearest(&word, KNOWN);
        }
    }
}

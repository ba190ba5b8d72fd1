//! Which known word was probably meant.

/// The known word that was probably meant: nearly the same, the same beginning, or the same
/// letters in another order.
pub(super) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let word = word.to_ascii_lowercase();
    let letters = |text: &str| {
        let mut letters = text.as_bytes().to_vec();
        letters.sort_unstable();
        letters
    };
    let distance_to = |known: &str| {
        let known = known.to_ascii_lowercase();
        let is_beginning =
            (known.len() >= 3 && word.starts_with(&known)) || (word.len() >= 3 && known.starts_with(&word));
        if is_beginning || letters(&word) == letters(&known) { 1 } else { distance(&word, &known) }
    };
    known
        .map(|known| (distance_to(known), known))
        .filter(|(distance, known)| *distance <= (known.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_are_understood_and_other_words_are_not() {
        let known = ["tls", "timeout", "Sat", "maxUnavailable"];
        for (word, meant) in [
            ("tsl", Some("tls")),
            ("timeuot", Some("timeout")),
            ("Saturday", Some("Sat")),
            ("max_unavailable", Some("maxUnavailable")),
            ("MAXUNAVAILABLE", Some("maxUnavailable")),
            ("x", None),
            ("", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), meant, "{word}");
        }
    }
}

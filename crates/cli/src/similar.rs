//! Which word was probably meant by one that does not exist. For the error messages of all programs.

/// The word that was probably meant: one that begins so, or the nearest by at most a third of its letters. A single
/// letter begins too many words, among them some that halt a machine.
pub fn similar<'a>(given: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    given.chars().nth(1)?;
    let distance = |word: &str| match word.starts_with(given) {
        true => 0,
        false => edits(given, word),
    };
    let (distance, word) = words
        .map(|word| (distance(word), word))
        .min_by_key(|(d, _)| *d)?;
    (distance <= word.len().div_ceil(3)).then_some(word)
}

/// How many letters must be changed, added or removed (Levenshtein), two swapped neighbours counting as one.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let at = |row: &[usize], k: usize| row.get(k).copied().unwrap_or(usize::MAX - 1);
            let replaced = at(&row, j) + usize::from(from != *to);
            let mut least = replaced.min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            if j > 0 && previous == Some(*to) && b.get(j - 1) == Some(&from) {
                least = least.min(at(&before, j - 1) + 1);
            }
            next.push(least);
        }
        previous = Some(from);
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_no_hint() {
        let words = || ["halt", "help"].into_iter();
        assert_eq!(similar("h", words()), None);
        assert_eq!(similar("ha", words()), Some("halt"));
        assert_eq!(similar("hepl", words()), Some("help"));
    }

    #[test]
    fn distances() {
        for (a, b, n) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "", 3),
            ("inof", "info", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edits(a, b), n, "{a} {b}");
        }
    }
}

//! The known name that a mistyped one was probably meant to be.

/// The candidate with the smallest edit distance to `name`, if it is near enough to be meant: at
/// most a third of the name may differ. Of equals the first wins.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.chars().collect();
    let limit = name.len() / 3;
    candidates
        .into_iter()
        // A length that differs by more than the limit cannot be within it, so a hostile long
        // name costs no quadratic work.
        .filter(|candidate| candidate.chars().count().abs_diff(name.len()) <= limit)
        .map(|candidate| (edit_distance(&name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance: inserted, deleted and replaced characters.
fn edit_distance(a: &[char], b: &str) -> usize {
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (j, b) in b.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = j + 1;
        for i in 0..a.len() {
            let replaced = diagonal + usize::from(a[i] != b);
            diagonal = row[i + 1];
            row[i + 1] = replaced.min(row[i] + 1).min(diagonal + 1);
        }
    }
    row[a.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_key_and_nonsense_finds_none() {
        let keys = ["log.retention.ms", "log.retention.bytes", "num.partitions", "listeners"];
        let find = |name| nearest(name, keys);
        assert_eq!(find("log.retenton.ms"), Some("log.retention.ms"));
        assert_eq!(find("num.partition"), Some("num.partitions"));
        assert_eq!(find("listener"), Some("listeners"));
        assert_eq!(find("favourite.colour"), None);
        assert_eq!(find(""), None);
    }
}

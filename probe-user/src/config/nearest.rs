// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a misspelt name probably meant.

/// The candidate with the fewest edits, if these are few for the length of the name.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A name longer than any option is no misspelling, and must not cost time.
    if name.len() > 64 {
        return None;
    }
    candidates
        .map(|candidate| (edits(name, candidate), candidate))
        .min_by_key(|(edits, _)| *edits)
        .filter(|(edits, candidate)| *edits <= 1 + candidate.len() / 4)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance over octets, one row at a time.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        for (a, b, distance) in [
            ("", "", 0),
            ("iface", "iface", 0),
            ("ifaces", "iface", 1),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edits(a, b), distance, "{a} {b}");
            assert_eq!(edits(b, a), distance, "{b} {a}");
        }
    }

    #[test]
    fn finds_the_nearest_or_none() {
        let names = ["idle-timeout", "active-timeout", "key", "iface"];
        let find = |name| nearest(name, names.into_iter());
        assert_eq!(find("idle_timeout"), Some("idle-timeout"));
        assert_eq!(find("active-timout"), Some("active-timeout"));
        assert_eq!(find("interface"), None);
        assert_eq!(find("sampling"), None);
        assert_eq!(find(&"x".repeat(1_000_000)), None);
    }
}

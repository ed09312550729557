// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lists of small numbers as Linux writes them: `0-3,8`.

use std::fmt::Write;

/// Reads numbers and ranges separated by commas, in the order given.
///
/// `None` if it is no such list, a range runs backwards, or a number comes twice.
pub(super) fn parse_list(text: &str) -> Option<Vec<u16>> {
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse_number(first)?, parse_number(last)?);
        if first > last || numbers.iter().any(|known| (first..=last).contains(known)) {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// Digits only: `+1`, which `u16` would read, is no number of a CPU or a queue.
fn parse_number(text: &str) -> Option<u16> {
    text.bytes().all(|octet| octet.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Shows numbers so that [`parse_list`] reads them back; neighbours become ranges.
pub(super) fn format_list(numbers: &[u16]) -> String {
    let mut text = String::new();
    for run in numbers.chunk_by(|before, after| before.checked_add(1) == Some(*after)) {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a text cannot fail.
        match run {
            [first, .., last] => write!(text, "{comma}{first}-{last}").ok(),
            [only] => write!(text, "{comma}{only}").ok(),
            [] => None,
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_and_ranges_and_shows_them_in_the_same_form() {
        for (text, numbers) in [
            ("0", &[0][..]),
            ("0-3,8", &[0, 1, 2, 3, 8]),
            ("7,2-3", &[7, 2, 3]),
            ("65534-65535", &[65534, 65535]),
        ] {
            assert_eq!(parse_list(text).as_deref(), Some(numbers), "{text}");
            assert_eq!(format_list(numbers), text);
        }
        assert_eq!(format_list(&[1, 2, 3, 5]), "1-3,5");
        assert_eq!(parse_list("4-4"), Some(vec![4]));
        assert_eq!(format_list(&[]), "");
    }

    #[test]
    fn refuses_what_is_no_list() {
        for text in ["", ",", "1,", "a", "-1", "1-", "3-2", "1,1", "0-3,2", "65536", "1 ,2", "+1", "1-2-3"] {
            assert_eq!(parse_list(text), None, "{text}");
        }
    }
}

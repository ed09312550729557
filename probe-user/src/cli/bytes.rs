// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Amounts of memory as people write them: `512M`, `2G`. Units are powers of 1024.

use serde::Serializer;

const UNITS: [(char, u64); 3] = [('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

/// Reads a whole number of bytes, with `K`, `M` or `G` after it or nothing.
///
/// # Errors
/// Says what is wrong.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let unit = UNITS.iter().find(|(name, _)| text.ends_with([*name, name.to_ascii_lowercase()]));
    let (number, size) = match unit {
        Some((_, size)) => (&text[..text.len() - 1], *size),
        None => (text, 1),
    };
    if number.is_empty() || !number.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err("memory is a whole number of bytes, or one with K, M or G, such as 512M".into());
    }
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(size));
    match bytes {
        Some(0) => Err("memory must be more than 0".into()),
        Some(bytes) => Ok(bytes),
        None => Err("more memory than any machine has".into()),
    }
}

/// Shows an amount in the largest unit that divides it; [`parse_bytes`] reads it back.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    match UNITS.iter().find(|(_, size)| bytes != 0 && bytes.is_multiple_of(*size)) {
        Some((unit, size)) => format!("{}{unit}", bytes / size),
        None => bytes.to_string(),
    }
}

pub(super) fn serialize<S: Serializer>(bytes: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&bytes.map(format_bytes).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_units_and_shows_them_in_the_same_form() {
        for (text, bytes) in [("1000", 1000), ("64K", 65_536), ("512M", 512 << 20), ("2G", 2 << 30)] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
            assert_eq!(format_bytes(bytes), text);
        }
        assert_eq!(parse_bytes("2g"), Ok(2 << 30));
    }

    #[test]
    fn refuses_what_is_not_an_amount() {
        for text in
            ["", "M", "0", "0G", "-1", "1.5G", "1GB", "1 G", "18446744073709551616", "99999999999G", "é"]
        {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}

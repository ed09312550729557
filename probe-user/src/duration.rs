// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Durations as people write them: `500ms`, `15s`, `5m`, `12h`, `7d`.

use std::time::Duration;

/// Units and their milliseconds, largest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a whole number with one of the units `ms s m h d`.
///
/// # Errors
/// Says what is missing or wrong.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err("a duration is a whole number and a unit (ms, s, m, h or d), such as 15s".into());
    }
    let Some((_, milliseconds)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(if unit.is_empty() {
            format!("the unit is missing: ms, s, m, h or d, such as {number}s")
        } else {
            format!("unknown unit '{unit}': use ms, s, m, h or d")
        });
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*milliseconds))
        .map(Duration::from_millis)
        .ok_or_else(|| "the duration is too long".into())
}

/// Shows a duration in the largest unit that divides it; [`parse_duration`] reads it back.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    if milliseconds == 0 {
        return "0s".into();
    }
    let (unit, size) = UNITS
        .into_iter()
        .find(|(_, size)| milliseconds.is_multiple_of(u128::from(*size)))
        .unwrap_or(("ms", 1));
    format!("{}{unit}", milliseconds / u128::from(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit_and_shows_it_in_the_same_form() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("15s", 15_000),
            ("5m", 300_000),
            ("12h", 43_200_000),
            ("7d", 604_800_000),
            ("0s", 0),
            ("1500ms", 1_500),
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration, Duration::from_millis(milliseconds), "{text}");
            assert_eq!(format_duration(duration), text);
        }
        assert_eq!(format_duration(parse_duration("60s").unwrap()), "1m");
    }

    #[test]
    fn refuses_what_is_not_a_duration() {
        for text in ["", "s", "15", "15 s", "1.5s", "-1s", "15S", "15us", "99999999999999999999d", "1m30s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Options that are durations.

use std::{ops::RangeInclusive, time::Duration};

use serde::Serializer;

use crate::duration::{format_duration, parse_duration};

/// A parser that also checks a range.
pub(super) fn duration_within(
    range: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| {
        let duration = parse_duration(text)?;
        if range.contains(&duration) {
            Ok(duration)
        } else {
            Err(format!(
                "allowed are {} to {}",
                format_duration(*range.start()),
                format_duration(*range.end())
            ))
        }
    }
}

pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_duration(*duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_allowed_range() {
        let parse = duration_within(Duration::from_millis(100)..=Duration::from_secs(60));
        assert_eq!(parse("99ms").unwrap_err(), "allowed are 100ms to 1m");
        assert!(parse("100ms").is_ok());
        assert!(parse("1m").is_ok());
    }
}

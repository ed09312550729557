// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How the texts of options become values, and values texts again.

use std::{fmt, ops::RangeInclusive, path::PathBuf, str::FromStr};

use serde::{Serialize, Serializer};

use crate::{export::CollectorUrl, flow::Sampling};

/// Reads `on` or `off` (and what people write instead).
pub(super) fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err("allowed are on and off".into()),
    }
}

/// Reads an interface name as Linux allows it (`dev_valid_name` in net/core/dev.c).
pub(super) fn parse_interface(text: &str) -> Result<String, String> {
    let valid = !text.is_empty()
        && text.len() < 16
        && text != "."
        && text != ".."
        && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
    if valid {
        Ok(text.into())
    } else {
        Err("an interface name has 1 to 15 characters, without blanks, '/' and ':' (see: ip -br link)".into())
    }
}

/// Checks a collector; what it means is read again where it is used.
pub(super) fn parse_collector(url: &str) -> Result<String, String> {
    CollectorUrl::from_str(url).map(|_| url.into()).map_err(|error| {
        // Option and value stand before this already.
        let error = error.to_string();
        error.strip_prefix(&format!("collector '{url}': ")).unwrap_or(&error).into()
    })
}

/// Reads which part of the traffic is metered.
pub(super) fn parse_sampling(text: &str) -> Result<Sampling, String> {
    text.parse().map_err(|_| {
        "allowed are off, 1:N (every Nth packet), random:N and flow:N, with N from 1 to 4294967295".into()
    })
}

/// Reads a power of two within a range.
pub(super) fn power_of_two_within(
    range: RangeInclusive<u32>,
) -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync + 'static {
    move |text| match text.parse::<u32>() {
        Ok(number) if number.is_power_of_two() && range.contains(&number) => Ok(number),
        _ => Err(format!("allowed are powers of two from {} to {}", range.start(), range.end())),
    }
}

/// Reads a whole number within a range.
pub(super) fn number_within<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse::<u64>().ok().filter(|number| range.contains(number));
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("allowed are whole numbers from {} to {}", range.start(), range.end()))
    }
}

pub(super) fn serialize_path<S: Serializer>(
    path: &Option<PathBuf>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    path.clone().unwrap_or_default().serialize(serializer)
}

pub(super) fn serialize_switch<S: Serializer>(on: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *on { "on" } else { "off" })
}

pub(super) fn serialize_display<T: fmt::Display, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

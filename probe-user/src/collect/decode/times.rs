// SPDX-License-Identifier: Apache-2.0 OR MIT
//! When a flow began and ended, in Unix time, from whichever form its exporter has chosen.
//!
//! Uptimes have 32 bits of milliseconds, so one before the 49.7-day wrap of its header has a larger number
//! than the header. Some exporters also write records a little after their header; up to 100 s ahead is
//! taken for that (as nfdump does), more for a wrap.

use crate::element::{ElementId, Value};

const MAX_AHEAD_MS: u32 = 100_000;
const MILLISECOND: u64 = 1_000_000;

const START_MS: ElementId = ElementId::iana(152);
const END_MS: ElementId = ElementId::iana(153);
/// systemInitTimeMilliseconds.
const INIT: ElementId = ElementId::iana(160);

/// Unix time of an uptime, given both of its header; all in milliseconds.
#[must_use]
pub(super) fn unix_ms(header_unix_ms: u64, header_uptime_ms: u32, uptime_ms: u32) -> u64 {
    let ahead = uptime_ms.wrapping_sub(header_uptime_ms);
    if ahead <= MAX_AHEAD_MS {
        return header_unix_ms + u64::from(ahead);
    }
    header_unix_ms.saturating_sub(u64::from(header_uptime_ms.wrapping_sub(uptime_ms)))
}

/// What uptimes count from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Boot {
    /// The header tells its own uptime, in milliseconds (NetFlow v9).
    Uptime(u32),
    /// Unix time in nanoseconds, from the exporter's options (IPFIX).
    Init(Option<u64>),
}

/// Adds flowStartMilliseconds and flowEndMilliseconds to a record that has its times in another form.
pub(super) fn complete(elements: &mut Vec<(ElementId, Value)>, exported_ns: u64, boot: Boot) {
    for (wanted, absolute, delta, uptime) in
        [(START_MS, [150, 154, 156], 158, 22), (END_MS, [151, 155, 157], 159, 21)]
    {
        let get = |id| elements.iter().find(|(found, _)| *found == id).map(|(_, value)| value);
        if get(wanted).is_some() {
            continue;
        }
        let number = |id| get(ElementId::iana(id)).and_then(Value::unsigned);
        let absolute = || absolute.iter().find_map(|id| get(ElementId::iana(*id)).and_then(Value::time));
        // Microseconds before the message was exported (RFC 5102 section 5.9.9).
        let before_export = || Some(exported_ns.saturating_sub(number(delta)?.saturating_mul(1000)));
        let since_boot = || {
            let uptime_ms = u32::try_from(number(uptime)?).ok()?;
            match boot {
                Boot::Uptime(header) => Some(unix_ms(exported_ns / MILLISECOND, header, uptime_ms)),
                Boot::Init(init) => {
                    let init = get(INIT).and_then(Value::time).or(init)?;
                    Some(since_init(init / MILLISECOND, uptime_ms, exported_ns / MILLISECOND))
                }
            }
            .map(|ms| ms.saturating_mul(MILLISECOND))
        };
        if let Some(ns) = absolute().or_else(before_export).or_else(since_boot) {
            elements.push((wanted, Value::Time(ns / MILLISECOND * MILLISECOND)));
        }
    }
}

/// Unix time of an uptime that may have wrapped: the last one that is not after the export. A flow that began
/// before its exporter did has wrapped below zero. Milliseconds.
fn since_init(init_ms: u64, uptime_ms: u32, exported_ms: u64) -> u64 {
    let first = init_ms.saturating_add(uptime_ms.into());
    let latest = exported_ms.saturating_add(MAX_AHEAD_MS.into());
    if first > latest {
        return first.saturating_sub(1 << 32);
    }
    first.saturating_add((latest - first) >> 32 << 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPORTED: u64 = 1_700_000_000_000_000_000;

    fn completed(elements: &[(u16, Value)], boot: Boot) -> (Option<u64>, Option<u64>) {
        let mut all = elements.iter().map(|(id, value)| (ElementId::iana(*id), value.clone())).collect();
        complete(&mut all, EXPORTED, boot);
        assert_eq!(all[..elements.len()].len(), elements.len(), "what came is kept");
        let get = |id| all.iter().find(|(found, _)| *found == id).and_then(|(_, value)| value.time());
        (get(START_MS), get(END_MS))
    }

    #[test]
    fn every_form_of_time() {
        let at = |ns: u64| Value::Time(EXPORTED - ns);
        let none = Boot::Init(None);
        for (start, end, unit) in [(150, 151, 1_000_000_000), (152, 153, MILLISECOND), (154, 155, 1000)] {
            let expected = |ns: u64| Some((EXPORTED - ns) / MILLISECOND * MILLISECOND);
            let (first, last) = (7 * unit, 3 * unit);
            let times = completed(&[(start, at(first)), (end, at(last))], none);
            assert_eq!(times, (expected(first), expected(last)), "{start}");
        }
        let deltas = [(158, Value::Unsigned(5_000_000)), (159, Value::Unsigned(2000))];
        assert_eq!(
            completed(&deltas, none),
            (Some(EXPORTED - 5_000_000_000), Some(EXPORTED - 2 * MILLISECOND))
        );
        assert_eq!(completed(&[(152, at(5)), (156, at(9))], none), (Some(EXPORTED - 5), None), "152 stays");
        assert_eq!(completed(&[], none), (None, None));
    }

    #[test]
    fn uptimes_count_from_the_header_or_from_the_start_that_was_told() {
        let uptimes = [(22, Value::Unsigned(1000)), (21, Value::Unsigned(4000))];
        let ago = |ms: u64| Some(EXPORTED - ms * MILLISECOND);
        assert_eq!(completed(&uptimes, Boot::Uptime(5000)), (ago(4000), ago(1000)));
        assert_eq!(completed(&uptimes, Boot::Init(None)), (None, None), "nobody told the start");
        let init = EXPORTED - 5000 * MILLISECOND;
        assert_eq!(completed(&uptimes, Boot::Init(Some(init))), (ago(4000), ago(1000)));
        let in_record = [uptimes[0].clone(), uptimes[1].clone(), (160, Value::Time(init))];
        assert_eq!(completed(&in_record, Boot::Init(None)), (ago(4000), ago(1000)));
        let wraps = init - 3 * (1 << 32) * MILLISECOND;
        assert_eq!(completed(&uptimes, Boot::Init(Some(wraps))), (ago(4000), ago(1000)), "wrapped");
        let below = [(22, Value::Unsigned(u64::from(u32::MAX) - 9_999)), (21, Value::Unsigned(1000))];
        assert_eq!(
            completed(&below, Boot::Init(Some(init))),
            (ago(15_000), ago(4000)),
            "began before the start"
        );
    }
}

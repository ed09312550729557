// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Times as milliseconds of an uptime (v1, v5, v7, v9), counted from a boot that the encoder chooses.
//!
//! The header says which Unix time the uptime is; both come from one clock, so a collector gets back each
//! record's times to the millisecond. The boot moves only between datagrams, and early enough that
//! `First <= Last <= SysUptime < 2^31` holds in every one: there is no 49.7-day wrap on our wire, and
//! collectors that compute with signed numbers are right as well.
//!
//! The header's clock is the clock that was passed in, or the latest end of the datagram's records where
//! that is later (the clock was set back) or where the clock is more than 24 days from the records (an
//! old capture file): what is kept exact is the time of the flows.
//!
//! `GRAIN_MS` is what the header's Unix time counts in: 1 where it has nanoseconds, 1000 where it has
//! seconds only (v9). The uptime is always that Unix time minus the boot, so the boot never jitters.

use crate::flow::FlowRecord;

/// Virtual boot lies this long before the first record, so that flows which began earlier fit too.
const LEAD_MS: u64 = 24 * 3600 * 1000;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct VirtualBoot<const GRAIN_MS: u64> {
    boot_ms: u64,
    latest_ms: u64,
}

/// When a flow began and ended, in Unix milliseconds, as far as the format can tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start_ms: u64,
    pub(super) end_ms: u64,
    /// Whether that is not all of it.
    pub(super) cut: bool,
}

impl<const GRAIN_MS: u64> VirtualBoot<GRAIN_MS> {
    /// Largest uptime: 24.8 days, less what rounding to the header's unit may add.
    const MAX_UPTIME_MS: u64 = (1 << 31) - GRAIN_MS;
    /// Last millisecond that the header can tell: in February 2106.
    const MAX_UNIX_MS: u64 = (1 << 32) * 1000 - GRAIN_MS;

    pub(super) fn new() -> Self {
        // Later than any record: the first one sets it.
        Self { boot_ms: u64::MAX, latest_ms: 0 }
    }

    #[inline]
    fn unix_ms(ns: u64) -> u64 {
        (ns / 1_000_000).min(Self::MAX_UNIX_MS)
    }

    #[inline]
    pub(super) fn span(record: &FlowRecord) -> Span {
        let end_ms = Self::unix_ms(record.start_ns.max(record.end_ns));
        let first_seen = Self::unix_ms(record.start_ns.min(record.end_ns));
        // No flow lasts 24 days (the active timeout ends it), but a capture file may claim so.
        let start_ms = first_seen.max(end_ms.saturating_sub(Self::MAX_UPTIME_MS));
        let beyond = record.start_ns.max(record.end_ns) / 1_000_000 != end_ms;
        Span { start_ms, end_ms, cut: start_ms != first_seen || beyond }
    }

    /// Whether a datagram with this boot can tell of `span`.
    #[inline]
    pub(super) fn holds(&self, span: Span) -> bool {
        span.start_ms >= self.boot_ms && span.end_ms.saturating_sub(self.boot_ms) <= Self::MAX_UPTIME_MS
    }

    /// Begins a datagram whose first record is `span`; returns whether the boot had to move.
    #[inline]
    pub(super) fn begin(&mut self, span: Span, now_unix_ns: u64) -> bool {
        let now = Self::unix_ms(now_unix_ns);
        self.latest_ms = span.end_ms;
        // Where the header's clock will be. The clock of the host does not serve for old captures.
        let lives = now >= span.end_ms && now - span.start_ms <= Self::MAX_UPTIME_MS;
        let header = if lives { now } else { span.end_ms };
        if span.start_ms >= self.boot_ms && header - self.boot_ms <= Self::MAX_UPTIME_MS {
            return false;
        }
        self.boot_ms = span.start_ms.saturating_sub(LEAD_MS).max(header.saturating_sub(Self::MAX_UPTIME_MS));
        true
    }

    /// Begins a datagram without flows at the present time; returns whether the boot had to move.
    pub(super) fn begin_now(&mut self, now_unix_ns: u64) -> bool {
        let now = Self::unix_ms(now_unix_ns);
        self.begin(Span { start_ms: now, end_ms: now, cut: false }, now_unix_ns)
    }

    /// Takes note of one more record of the datagram; gives its uptimes.
    #[inline]
    pub(super) fn uptimes(&mut self, span: Span) -> (u32, u32) {
        self.latest_ms = self.latest_ms.max(span.end_ms);
        (self.uptime(span.start_ms), self.uptime(span.end_ms))
    }

    /// The header's Unix time in milliseconds, a multiple of the grain.
    #[inline]
    pub(super) fn header_ms(&self, now_unix_ns: u64) -> u64 {
        let now = Self::unix_ms(now_unix_ns) / GRAIN_MS * GRAIN_MS;
        let fits = now >= self.latest_ms && now.saturating_sub(self.boot_ms) <= Self::MAX_UPTIME_MS;
        if fits { now } else { self.latest_ms.next_multiple_of(GRAIN_MS) }
    }

    /// Milliseconds since the boot; callers have checked that they are fewer than 2^31.
    #[inline]
    pub(super) fn uptime(&self, unix_ms: u64) -> u32 {
        u32::try_from(unix_ms.saturating_sub(self.boot_ms)).unwrap_or(u32::MAX)
    }
}

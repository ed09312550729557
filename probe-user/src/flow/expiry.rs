// SPDX-License-Identifier: Apache-2.0 OR MIT
//! When a flow is over, and why. The same rules decide for a packet that comes and for the timer.

use std::time::Duration;

use probe_common::HashSeed;

use super::{
    live_flow::{Flow, Seen},
    record::EndReason,
    spread::{ActiveTimer, Spread},
    time::{Moment, Timestamp},
};

/// How long a TCP connection stays in the table after its FIN or RST: the last acknowledgements, and
/// packets that overtook each other, still belong to it. A shorter idle timeout shortens this too.
pub const TCP_LINGER: Duration = Duration::from_secs(1);

const TCP: u8 = 6;
// RFC 9293 section 3.1.
const FIN: u16 = 1;
const SYN: u16 = 2;
const RST: u16 = 4;

/// What may change while the table runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExpiryOptions {
    /// A flow without a packet for longer than this is over.
    pub idle: Duration,
    /// A flow is exported when its first packet lies this far back; what follows is a new flow.
    pub active: Duration,
    /// Whether FIN and RST end a TCP flow.
    pub tcp_end: bool,
    /// How the active timeouts of flows that began together are kept apart.
    pub spread: Spread,
}

/// The rules, in the units of the table: they are asked for every slot.
#[derive(Clone, Copy)]
pub(super) struct Expiry {
    pub(super) options: ExpiryOptions,
    idle_ns: u64,
    linger_ns: u64,
    active: ActiveTimer,
    /// FIN and RST, or nothing.
    end_flags: u16,
    /// Of the hash that spreads active timeouts.
    seed: HashSeed,
    key_mask: u64,
}

/// The first instant at which a flow is over if nothing more is seen of it, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Deadline {
    pub(super) at: Timestamp,
    pub(super) reason: EndReason,
}

impl Expiry {
    pub(super) fn new(options: ExpiryOptions, seed: HashSeed, key_mask: u64) -> Self {
        let nanoseconds = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self {
            options,
            idle_ns: nanoseconds(options.idle),
            linger_ns: nanoseconds(options.idle.min(TCP_LINGER)),
            active: ActiveTimer::new(options.active, options.spread),
            end_flags: if options.tcp_end { FIN | RST } else { 0 },
            seed,
            key_mask,
        }
    }

    /// Whether a FIN or RST was seen.
    #[inline(always)]
    pub(super) fn has_ended(&self, flow: &Flow) -> bool {
        flow.tcp_flags() & self.end_flags != 0 && flow.key().protocol() == TCP
    }

    /// Learns what time it is; to be called before flows are judged.
    #[inline(always)]
    pub(super) fn follow(&mut self, moment: Moment) {
        self.active.follow(moment);
    }

    /// When the flow is over if only its silence counts. Idle means longer than the timeout.
    #[inline(always)]
    fn quiet(&self, flow: &Flow) -> Deadline {
        let (quiet_ns, reason) = if self.has_ended(flow) {
            (self.linger_ns, EndReason::End)
        } else {
            (self.idle_ns, EndReason::Idle)
        };
        Deadline { at: Timestamp(flow.last.0.saturating_add(quiet_ns).saturating_add(1)), reason }
    }

    /// When the flow is over. Active means as long as the timeout, less what the spread takes, by the hash of
    /// the conversation: both directions have the same, so that their records can be paired. It is worked
    /// out only where it matters.
    #[inline(always)]
    pub(super) fn deadline(&self, flow: &Flow) -> Deadline {
        let quiet = self.quiet(flow);
        if quiet.at <= self.active.soonest(flow.first) {
            return quiet;
        }
        let active = self.active.deadline(flow.first, self.seed.conversation(&flow.key(), self.key_mask));
        if quiet.at <= active { quiet } else { Deadline { at: active, reason: EndReason::Active } }
    }

    /// Why the flow is over at `now`, if it is.
    #[inline(always)]
    fn reason_at(&self, flow: &Flow, now: Timestamp) -> Option<EndReason> {
        if now < self.quiet(flow).at.min(self.active.soonest(flow.first)) {
            return None;
        }
        let deadline = self.deadline(flow);
        (now >= deadline.at).then_some(deadline.reason)
    }

    /// Why what was seen does not belong to the flow of its key but begins a new one.
    #[inline(always)]
    pub(super) fn reason_before(&self, flow: &Flow, seen: &Seen) -> Option<EndReason> {
        self.reason_at(flow, seen.first).or_else(|| {
            // The ports are used again for a new connection.
            let reopened = seen.tcp_flags & SYN != 0 && seen.first > flow.last && self.has_ended(flow);
            reopened.then_some(EndReason::End)
        })
    }
}

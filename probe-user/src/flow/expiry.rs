// SPDX-License-Identifier: Apache-2.0 OR MIT
//! When a flow is over, and why. The same rules decide for a packet that comes and for the timer.

use std::time::Duration;

use super::{
    record::EndReason,
    slab::{Flow, Seen},
    time::Timestamp,
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
}

/// The rules in the units of the table.
#[derive(Clone, Copy)]
pub(super) struct Expiry {
    pub(super) options: ExpiryOptions,
}

/// The first instant at which a flow is over if nothing more is seen of it, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Deadline {
    pub(super) at: Timestamp,
    pub(super) reason: EndReason,
}

impl Expiry {
    /// Whether a FIN or RST was seen.
    #[inline(always)]
    pub(super) fn has_ended(&self, flow: &Flow) -> bool {
        self.options.tcp_end && flow.tcp_flags() & (FIN | RST) != 0 && flow.key().protocol() == TCP
    }

    /// When the flow is over. Idle means longer than the timeout, active as long as the timeout.
    #[inline(always)]
    pub(super) fn deadline(&self, flow: &Flow) -> Deadline {
        let (quiet, reason) = if self.has_ended(flow) {
            (self.options.idle.min(TCP_LINGER), EndReason::End)
        } else {
            (self.options.idle, EndReason::Idle)
        };
        let quiet = Timestamp((flow.last + quiet).0.saturating_add(1));
        let active = flow.first + self.options.active;
        if quiet <= active {
            Deadline { at: quiet, reason }
        } else {
            Deadline { at: active, reason: EndReason::Active }
        }
    }

    /// Why the flow is over at `now`, if it is.
    #[inline(always)]
    pub(super) fn reason_at(&self, flow: &Flow, now: Timestamp) -> Option<EndReason> {
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

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the flow table merges: slots from the kernel, observations from engines in user space.

use probe_common::{Detail, DetailedSlot, FlowKey, Slot};

use super::time::Timestamp;

/// Packets of one flow, counted somewhere. `now` places the short times of a slot; it must be within
/// hours of them.
pub trait Metered {
    /// The flow.
    fn key(&self) -> FlowKey;
    /// Packets; nothing is merged when there are none.
    fn packets(&self) -> u64;
    /// Octets of their IP packets.
    fn octets(&self) -> u64;
    /// When the first came.
    fn first(&self, now: Timestamp) -> Timestamp;
    /// When the last came.
    fn last(&self, now: Timestamp) -> Timestamp;
    /// All TCP flags seen, 12 bits.
    fn tcp_flags(&self) -> u16;
    /// What its packets had in common, if this kind of item can tell.
    #[inline(always)]
    fn detail(&self) -> Option<&Detail> {
        None
    }
}

impl Metered for Slot {
    #[inline(always)]
    fn key(&self) -> FlowKey {
        Slot::key(self)
    }

    #[inline(always)]
    fn packets(&self) -> u64 {
        u64::from(self.packets)
    }

    #[inline(always)]
    fn octets(&self) -> u64 {
        u64::from(self.octets)
    }

    #[inline(always)]
    fn first(&self, now: Timestamp) -> Timestamp {
        Timestamp(self.first.to_ns(now.0))
    }

    #[inline(always)]
    fn last(&self, now: Timestamp) -> Timestamp {
        Timestamp(self.last.to_ns(now.0))
    }

    #[inline(always)]
    fn tcp_flags(&self) -> u16 {
        Slot::tcp_flags(self)
    }
}

impl Metered for DetailedSlot {
    #[inline(always)]
    fn key(&self) -> FlowKey {
        self.slot.key()
    }

    #[inline(always)]
    fn packets(&self) -> u64 {
        Metered::packets(&self.slot)
    }

    #[inline(always)]
    fn octets(&self) -> u64 {
        Metered::octets(&self.slot)
    }

    #[inline(always)]
    fn first(&self, now: Timestamp) -> Timestamp {
        Metered::first(&self.slot, now)
    }

    #[inline(always)]
    fn last(&self, now: Timestamp) -> Timestamp {
        Metered::last(&self.slot, now)
    }

    #[inline(always)]
    fn tcp_flags(&self) -> u16 {
        self.slot.tcp_flags()
    }

    #[inline(always)]
    fn detail(&self) -> Option<&Detail> {
        Some(&self.detail)
    }
}

/// Packets of one flow with exact times, as capture files give them; with details or, unless said otherwise, without.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observation<D = ()> {
    /// The flow.
    pub key: FlowKey,
    /// Packets.
    pub packets: u64,
    /// Octets of their IP packets.
    pub octets: u64,
    /// When the first came.
    pub first: Timestamp,
    /// When the last came.
    pub last: Timestamp,
    /// All TCP flags seen, 12 bits.
    pub tcp_flags: u16,
    /// What they had in common.
    pub detail: D,
}

impl Observation {
    /// One packet of which no details are kept.
    #[inline(always)]
    #[must_use]
    pub fn packet(key: FlowKey, octets: u64, at: Timestamp, tcp_flags: u16) -> Self {
        Self { key, packets: 1, octets, first: at, last: at, tcp_flags, detail: () }
    }

    /// The same with details.
    #[inline(always)]
    #[must_use]
    pub fn with_detail(self, detail: Detail) -> Observation<Detail> {
        let Self { key, packets, octets, first, last, tcp_flags, detail: () } = self;
        Observation { key, packets, octets, first, last, tcp_flags, detail }
    }
}

/// What is known of details: nothing, or some.
pub trait Details {
    /// Them, if they are kept.
    fn known(&self) -> Option<&Detail>;
}

impl Details for () {
    #[inline(always)]
    fn known(&self) -> Option<&Detail> {
        None
    }
}

impl Details for Detail {
    #[inline(always)]
    fn known(&self) -> Option<&Detail> {
        Some(self)
    }
}

impl<D: Details> Metered for Observation<D> {
    #[inline(always)]
    fn key(&self) -> FlowKey {
        self.key
    }

    #[inline(always)]
    fn packets(&self) -> u64 {
        self.packets
    }

    #[inline(always)]
    fn octets(&self) -> u64 {
        self.octets
    }

    #[inline(always)]
    fn first(&self, _now: Timestamp) -> Timestamp {
        self.first
    }

    #[inline(always)]
    fn last(&self, _now: Timestamp) -> Timestamp {
        self.last
    }

    #[inline(always)]
    fn tcp_flags(&self) -> u16 {
        self.tcp_flags
    }

    #[inline(always)]
    fn detail(&self) -> Option<&Detail> {
        self.detail.known()
    }
}

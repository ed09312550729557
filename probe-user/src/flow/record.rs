// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One record, ready to encode.

use probe_common::{Detail, FlowKey};

/// Why a flow ended; the values are those of IANA element 136, flowEndReason.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EndReason {
    /// No packet for the idle timeout.
    Idle = 1,
    /// The active timeout passed; the flow may go on in another record.
    Active = 2,
    /// TCP FIN or RST.
    End = 3,
    /// The probe was asked to, or stopped.
    Forced = 4,
    /// The flow table was full.
    LackOfResources = 5,
}

impl EndReason {
    /// All reasons in the order of their values.
    pub const ALL: [Self; 5] = [Self::Idle, Self::Active, Self::End, Self::Forced, Self::LackOfResources];

    /// Name in the ledger and in the metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Active => "active",
            Self::End => "end",
            Self::Forced => "forced",
            Self::LackOfResources => "lack_of_resources",
        }
    }
}

/// A flow that left the table. Times are Unix time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowRecord {
    /// The key, with the VLANs of the flow's first packet where they are not part of it.
    pub key: FlowKey,
    /// Packets.
    pub packets: u64,
    /// Octets of the IP packets.
    pub octets: u64,
    /// First packet, Unix time in nanoseconds.
    pub start_ns: u64,
    /// Last packet, Unix time in nanoseconds.
    pub end_ns: u64,
    /// All TCP flags seen, 12 bits.
    pub tcp_flags: u16,
    /// Why it was exported.
    pub end_reason: EndReason,
    /// MAC addresses, lengths, TTLs, …, as far as they are known.
    pub detail: Detail,
}

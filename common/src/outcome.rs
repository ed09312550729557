// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What became of a packet that was not simply metered. One counter each, in the kernel and in user space.

/// Why a packet was not metered.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Neither IPv4 nor IPv6: ARP, MPLS, ….
    NotIp = 0,
    /// The frame ends (or was cut by the capture) before the ports.
    Truncated = 1,
    /// A header contradicts itself: wrong version, header longer than the packet, ….
    Malformed = 2,
    /// More VLAN tags than the parser follows.
    TooDeep = 3,
    /// The probe's own datagram on its way to a collector.
    OwnExport = 4,
    /// Not selected by sampling. Packet sampling comes before parsing, so it may have been anything.
    SampledOut = 5,
    /// An IEEE 802.3 frame with a length in place of a type: LLC (spanning tree, CDP, IS-IS, …).
    Llc = 6,
    /// Seen going out after it was metered coming in on another interface.
    AlreadyMetered = 7,
    /// Dropped by the kernel because the probe's packet socket was full (engine `af_packet`).
    SocketFull = 8,
}

/// Number of outcomes.
pub const OUTCOMES: usize = 9;

impl Outcome {
    /// All outcomes, in the order of their counters.
    pub const ALL: [Self; OUTCOMES] = [
        Self::NotIp,
        Self::Truncated,
        Self::Malformed,
        Self::TooDeep,
        Self::OwnExport,
        Self::SampledOut,
        Self::Llc,
        Self::AlreadyMetered,
        Self::SocketFull,
    ];

    /// Name in the ledger and in the metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotIp => "not_ip",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::TooDeep => "too_deep",
            Self::OwnExport => "own_export",
            Self::SampledOut => "sampled_out",
            Self::Llc => "llc",
            Self::AlreadyMetered => "already_metered",
            Self::SocketFull => "socket_full",
        }
    }
}

/// What was special about a packet that was metered all the same.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note {
    /// A later fragment whose first is not known: metered with ports 0.
    LaterFragment = 0,
    /// More IPv6 extension headers than the parser follows: metered with ports 0 and, as protocol, the
    /// first header that was not read.
    DeepHeaders = 1,
    /// A later fragment, metered with the ports of its first.
    JoinedFragment = 2,
}

/// Number of notes.
pub const NOTES: usize = 3;

impl Note {
    /// All notes, in the order of their counters.
    pub const ALL: [Self; NOTES] = [Self::LaterFragment, Self::DeepHeaders, Self::JoinedFragment];

    /// Name in the metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LaterFragment => "later_fragment",
            Self::DeepHeaders => "deep_headers",
            Self::JoinedFragment => "joined_fragment",
        }
    }
}

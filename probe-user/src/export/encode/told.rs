// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the probe tells collectors about itself: sampling in headers, the rest in options records.

use std::time::Duration;

use crate::flow::Sampling;

/// One interface.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct InterfaceName {
    /// ifIndex.
    pub index: u32,
    /// Name (interfaceName, element 82).
    pub name: String,
    /// Alias that the operator gave, or what it is (interfaceDescription, element 83).
    pub description: String,
}

/// The metering process in the words of RFC 7012 section 5.5 and the elements 163 to 168. Since start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MeteringStatistics {
    /// Flows (observedFlowTotalCount, 163).
    pub observed_flows: u64,
    /// Packets that were not metered (ignoredPacketTotalCount, 164).
    pub ignored_packets: u64,
    /// Their octets, as far as known (ignoredOctetTotalCount, 165).
    pub ignored_octets: u64,
    /// Flow records lost before export (notSentFlowTotalCount, 166).
    pub not_sent_flows: u64,
    /// Packets in them (notSentPacketTotalCount, 167).
    pub not_sent_packets: u64,
    /// Octets in them (notSentOctetTotalCount, 168).
    pub not_sent_octets: u64,
}

/// All of it, at one moment.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Told {
    /// Metered interfaces.
    pub interfaces: Vec<InterfaceName>,
    /// What the metering process saw and lost.
    pub metering: MeteringStatistics,
    /// Selection before metering, as configured.
    pub sampling: Sampling,
    /// Flows are sampled one in so many on top of it, because the probe is overloaded; 1 (or 0): no.
    pub overload_sampling: u32,
    /// Idle timeout (flowIdleTimeout, 37).
    pub idle_timeout: Duration,
    /// Active timeout (flowActiveTimeout, 36).
    pub active_timeout: Duration,
}

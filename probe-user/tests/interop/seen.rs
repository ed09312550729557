// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A flow record as a collector shows it, and how far two collectors may differ.

use std::fmt::Write as _;

use probe_lab::{FlowId, Sums};

/// One record.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Seen {
    /// The flow.
    pub(crate) flow: FlowId,
    /// VLAN id, 0 without one.
    pub(crate) vlan: u16,
    /// Packets.
    pub(crate) packets: u64,
    /// Octets.
    pub(crate) octets: u64,
    /// The lower eight TCP flags.
    pub(crate) tcp_flags: u8,
    /// Ingress interface.
    pub(crate) interface: u32,
    /// First packet, Unix time in milliseconds.
    pub(crate) start_ms: u64,
    /// Last packet, Unix time in milliseconds.
    pub(crate) end_ms: u64,
}

impl Seen {
    /// Its counts.
    pub(crate) fn sums(&self) -> Sums {
        Sums { packets: self.packets, octets: self.octets }
    }

    /// The same as a format without VLANs tells it.
    pub(crate) fn without_vlan(&self) -> Self {
        Self { vlan: 0, ..self.clone() }
    }

    /// The same with counts multiplied, as by a collector that knows of sampling.
    pub(crate) fn scaled(&self, factor: u64) -> Self {
        Self { packets: self.packets * factor, octets: self.octets * factor, ..self.clone() }
    }

    /// Whether all but the times is the same, and the times differ by no more than `tolerance_ms`.
    fn is_like(&self, other: &Self, tolerance_ms: u64) -> bool {
        let apart = |a: u64, b: u64| a.abs_diff(b) > tolerance_ms;
        !apart(self.start_ms, other.start_ms)
            && !apart(self.end_ms, other.end_ms)
            && *self == Self { start_ms: self.start_ms, end_ms: self.end_ms, ..other.clone() }
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { flow, vlan, packets, octets, tcp_flags, interface, start_ms, end_ms } = self;
        write!(
            f,
            "{flow}, VLAN {vlan}: {packets} packets, {octets} octets, flags {tcp_flags:#04x}, \
             interface {interface}, {start_ms} to {end_ms}"
        )
    }
}

/// Fails unless both are the same records, in whatever order.
pub(crate) fn assert_same(who: &str, expected: &[Seen], found: &[Seen], tolerance_ms: u64) {
    const SHOWN: usize = 6;
    let mut extra: Vec<&Seen> = found.iter().collect();
    let mut missing = Vec::new();
    for record in expected {
        match extra.iter().position(|other| record.is_like(other, tolerance_ms)) {
            Some(place) => drop(extra.swap_remove(place)),
            None => missing.push(record),
        }
    }
    if missing.is_empty() && extra.is_empty() {
        return;
    }
    let mut text = String::new();
    for (what, records) in [("not found", &missing), ("found instead", &extra)] {
        for record in records.iter().take(SHOWN) {
            writeln!(text, "  {what}: {record}").unwrap();
        }
    }
    panic!(
        "{who}: of {} records {} are not found, and {} others are:\n{text}",
        expected.len(),
        missing.len(),
        extra.len()
    );
}

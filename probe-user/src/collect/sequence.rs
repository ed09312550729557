// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What never arrived: gaps in the flow sequence of each exporter.
//!
//! `flow_sequence` counts the flows sent before a datagram, by exporter (address and port) and engine. A
//! jump ahead is so many flows missed; a small step back is a datagram overtaken by a later one, and takes
//! its flows off the missed ones again; a larger one is an exporter that started anew.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::netflow_v5_decode::Header;

/// Most exporters that are followed; others are counted without looking for gaps.
const MAX_EXPORTERS: usize = 4096;
/// A datagram this many flows late was overtaken, not sent by an exporter that started anew.
const REORDER_WINDOW: u32 = 30_000;

/// One exporter, as far as its sequence goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Exporter {
    /// Address and port.
    pub address: SocketAddr,
    /// Engine type.
    pub engine_type: u8,
    /// Engine id.
    pub engine_id: u8,
}

#[derive(Clone, Copy, Debug)]
struct State {
    next: u32,
    uptime_ms: u32,
    missed: u64,
}

/// What a datagram's sequence number tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// The first datagram of this exporter.
    New,
    /// The one expected.
    InOrder,
    /// So many flows came before it and not to us.
    Gap(u32),
    /// Overtaken by a later one; so many flows were missed too early.
    Late(u32),
    /// The exporter started anew.
    Restart,
    /// Too many exporters to follow this one.
    Untracked,
}

/// Sequences of all exporters.
#[derive(Default, Debug)]
pub struct SequenceTable {
    exporters: HashMap<Exporter, State>,
    /// Flows that never arrived.
    pub missed: u64,
    /// Exporters that started anew.
    pub restarts: u64,
    /// Datagrams that were overtaken.
    pub late: u64,
    /// Datagrams of exporters beyond the table.
    pub untracked: u64,
}

impl SequenceTable {
    /// Takes note of a datagram.
    pub fn note(&mut self, address: SocketAddr, header: &Header) -> Arrival {
        let exporter =
            Exporter { address, engine_type: header.engine_type, engine_id: header.engine_id };
        let count = u32::from(header.count);
        let after = header.sequence.wrapping_add(count);
        let Some(state) = self.exporters.get_mut(&exporter) else {
            if self.exporters.len() == MAX_EXPORTERS {
                self.untracked += 1;
                return Arrival::Untracked;
            }
            self.exporters.insert(exporter, State { next: after, uptime_ms: header.uptime_ms, missed: 0 });
            return Arrival::New;
        };
        let ahead = header.sequence.wrapping_sub(state.next);
        let behind = state.next.wrapping_sub(header.sequence);
        let arrival = if ahead == 0 {
            Arrival::InOrder
        } else if ahead < 1 << 31 {
            state.missed += u64::from(ahead);
            self.missed += u64::from(ahead);
            Arrival::Gap(ahead)
        } else if behind <= REORDER_WINDOW && header.sequence != 0 && state.missed >= u64::from(count) {
            state.missed -= u64::from(count);
            self.missed -= u64::from(count);
            self.late += 1;
            return Arrival::Late(count);
        } else {
            self.restarts += 1;
            state.missed = 0;
            Arrival::Restart
        };
        state.next = after;
        state.uptime_ms = header.uptime_ms;
        arrival
    }

    /// Exporters seen.
    #[must_use]
    pub fn exporters(&self) -> usize {
        self.exporters.len()
    }
}

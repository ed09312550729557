// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What never arrived: gaps in the flow sequence of each exporter.
//!
//! `flow_sequence` counts the flows sent before a datagram, by exporter (address and port) and engine. A
//! jump ahead is so many flows missed. A step back with a header that is no younger is a datagram overtaken
//! by a later one (or doubled), and takes its flows off the missed ones again; with a younger header it is
//! an exporter that started anew.

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
    /// Sequence number expected next.
    next: u32,
    /// Clock of the youngest header.
    unix_ms: u64,
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
    /// Overtaken by a later one, or come twice.
    Late,
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
    /// Datagrams that were overtaken or came twice.
    pub late: u64,
    /// Datagrams of exporters beyond the table.
    pub untracked: u64,
}

impl SequenceTable {
    /// Takes note of a datagram.
    pub fn note(&mut self, address: SocketAddr, header: &Header) -> Arrival {
        let exporter = Exporter { address, engine_type: header.engine_type, engine_id: header.engine_id };
        let count = u32::from(header.count);
        let after = header.sequence.wrapping_add(count);
        let Some(state) = self.exporters.get_mut(&exporter) else {
            if self.exporters.len() == MAX_EXPORTERS {
                self.untracked += 1;
                return Arrival::Untracked;
            }
            self.exporters.insert(exporter, State { next: after, unix_ms: header.unix_ms, missed: 0 });
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
        } else if behind <= REORDER_WINDOW && header.unix_ms <= state.unix_ms {
            let found = state.missed.min(u64::from(count));
            state.missed -= found;
            self.missed -= found;
            self.late += 1;
            return Arrival::Late;
        } else {
            self.restarts += 1;
            state.missed = 0;
            Arrival::Restart
        };
        state.next = after;
        state.unix_ms = header.unix_ms;
        arrival
    }

    /// Exporters seen.
    #[must_use]
    pub fn exporters(&self) -> usize {
        self.exporters.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(table: &mut SequenceTable, port: u16, engine_id: u8, sequence: u32, unix_ms: u64) -> Arrival {
        let address = SocketAddr::from(([192, 0, 2, 1], port));
        let (count, uptime_ms, sampling, engine_type) = (30, 0, 0, 0);
        table.note(address, &Header { count, uptime_ms, unix_ms, sequence, engine_type, engine_id, sampling })
    }

    #[test]
    fn gaps_are_counted_for_each_exporter_and_engine() {
        let mut table = SequenceTable::default();
        assert_eq!(note(&mut table, 1, 0, u32::MAX - 29, 5), Arrival::New);
        assert_eq!(note(&mut table, 2, 0, 7, 5), Arrival::New, "another port");
        assert_eq!(note(&mut table, 1, 1, 9, 5), Arrival::New, "another engine");
        assert_eq!(note(&mut table, 1, 0, 0, 6), Arrival::InOrder, "across the wrap of the sequence");
        assert_eq!(note(&mut table, 1, 0, 90, 7), Arrival::Gap(60));
        assert_eq!(note(&mut table, 2, 0, 37, 7), Arrival::InOrder);
        assert_eq!((table.missed, table.exporters()), (60, 3));
    }

    #[test]
    fn an_overtaken_datagram_is_not_missed_and_a_doubled_one_changes_nothing() {
        let mut table = SequenceTable::default();
        note(&mut table, 1, 0, 0, 5);
        assert_eq!(note(&mut table, 1, 0, 60, 6), Arrival::Gap(30));
        assert_eq!(note(&mut table, 1, 0, 30, 6), Arrival::Late);
        assert_eq!(table.missed, 0);
        assert_eq!(note(&mut table, 1, 0, 60, 6), Arrival::Late);
        assert_eq!(note(&mut table, 1, 0, 90, 8), Arrival::InOrder);
        assert_eq!((table.missed, table.late, table.restarts), (0, 2, 0));
    }

    #[test]
    fn a_restart_is_not_taken_for_a_gap() {
        let mut table = SequenceTable::default();
        note(&mut table, 1, 0, 600, 5);
        assert_eq!(note(&mut table, 1, 0, 0, 9), Arrival::Restart);
        assert_eq!(note(&mut table, 1, 0, 30, 9), Arrival::InOrder);
        assert_eq!((table.missed, table.restarts), (0, 1));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut table = SequenceTable::default();
        for port in 0..4096 {
            assert_eq!(note(&mut table, port, 0, 0, 5), Arrival::New);
        }
        assert_eq!(note(&mut table, 5000, 0, 0, 5), Arrival::Untracked);
        assert_eq!(note(&mut table, 7, 0, 30, 5), Arrival::InOrder);
        assert_eq!((table.exporters(), table.untracked), (4096, 1));
    }
}

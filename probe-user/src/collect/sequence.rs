// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What never arrived: gaps in the sequence of each exporter.
//!
//! A sequence number counts what was sent before its message: flows in NetFlow v5 and v7, messages in v9
//! (RFC 3954 section 5.1), data records in IPFIX, those of options included (RFC 7011 section 3.1). It runs
//! for each exporter (address and port, or connection), version and domain. A jump ahead is so many missed.
//! A step back in a message that is no younger is one overtaken by a later one (or doubled), and takes its
//! part off the missed again; in a younger one it is an exporter that started anew.

use super::{
    decode::{Message, SessionId, Source},
    lru::Lru,
};

/// Most sequences that are followed; for another one, that of who has been silent longest is forgotten.
const MAX_EXPORTERS: usize = 4096;
/// A message this many messages (v9) or flows and records late was overtaken, not sent by an exporter that
/// started anew.
const REORDER_MESSAGES: u32 = 1000;
const REORDER_RECORDS: u32 = 30_000;

/// What a sequence counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Flows: v5 and v7.
    Flows,
    /// Messages: v9.
    Messages,
    /// Data records: IPFIX.
    Records,
}

impl Unit {
    /// All of them, with their names.
    pub const NAMES: [(Self, &'static str); 3] = [
        (Self::Flows, "missed flows"),
        (Self::Messages, "missed messages of v9"),
        (Self::Records, "missed records of IPFIX"),
    ];
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// Sequence number expected next; `None` after a message of which it is not known how many it held.
    next: Option<u32>,
    /// Clock of the youngest header.
    exported_ns: u64,
    missed: u64,
}

/// What a message's sequence number tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// The first message of this exporter.
    New,
    /// The one expected, or nobody knows which was.
    InOrder,
    /// So many came before it and not to us.
    Gap(u32),
    /// Overtaken by a later one, or come twice.
    Late,
    /// The exporter started anew.
    Restart,
    /// A version without sequence.
    Untracked,
}

/// Sequences of all exporters.
#[derive(Default, Debug)]
pub struct SequenceTable {
    exporters: Lru<SessionId, State>,
    /// Exporters that were ever followed, those that have been forgotten included.
    pub met: u64,
    /// What never arrived, in all units together: 0 when nothing is missing.
    pub missed: u64,
    /// The same by [`Unit`].
    missed_of: [u64; Unit::NAMES.len()],
    /// Exporters that started anew.
    pub restarts: u64,
    /// Messages that were overtaken or came twice.
    pub late: u64,
    /// Exporters forgotten to make room for others.
    pub forgotten: u64,
}

impl SequenceTable {
    /// Takes note of a message.
    pub fn note(&mut self, source: Source, message: &Message) -> Arrival {
        let Message { version, domain, sequence, exported_ns, records, complete, broken: _ } = *message;
        // Version 1 has no sequence, but is an exporter.
        let (count, unit, window) = match version {
            9 => (Some(1), Unit::Messages, REORDER_MESSAGES),
            10 => (complete.then_some(records), Unit::Records, REORDER_RECORDS),
            _ => (Some(records), Unit::Flows, REORDER_RECORDS),
        };
        let known = sequence.zip(count);
        let after = known.map(|(sequence, count)| sequence.wrapping_add(count));
        let id = SessionId { source, version, domain };
        let Some(state) = self.exporters.get(id) else {
            if self.exporters.len() == MAX_EXPORTERS {
                self.exporters.pop_oldest();
                self.forgotten += 1;
            }
            self.exporters.insert(id, State { next: after, exported_ns, missed: 0 });
            self.met += 1;
            return Arrival::New;
        };
        let Some(sequence) = sequence else { return Arrival::Untracked };
        let Some(next) = state.next else {
            (state.next, state.exported_ns) = (after, exported_ns);
            return Arrival::InOrder;
        };
        let missed_of = &mut self.missed_of[unit as usize];
        let ahead = sequence.wrapping_sub(next);
        let arrival = if ahead == 0 {
            Arrival::InOrder
        } else if ahead < 1 << 31 {
            state.missed += u64::from(ahead);
            *missed_of += u64::from(ahead);
            self.missed += u64::from(ahead);
            Arrival::Gap(ahead)
        } else if next.wrapping_sub(sequence) <= window && exported_ns <= state.exported_ns {
            let found = state.missed.min(count.unwrap_or(0).into());
            state.missed -= found;
            *missed_of -= found;
            self.missed -= found;
            self.late += 1;
            return Arrival::Late;
        } else {
            self.restarts += 1;
            state.missed = 0;
            Arrival::Restart
        };
        (state.next, state.exported_ns) = (after, exported_ns);
        arrival
    }

    /// What never arrived of one unit.
    #[must_use]
    pub fn missed_of(&self, unit: Unit) -> u64 {
        self.missed_of[unit as usize]
    }

    /// Forgets a connection that has ended.
    pub fn forget(&mut self, stream: u64) {
        let ended = self.exporters.iter().map(|(id, _)| *id).filter(|id| id.source.stream == stream);
        for id in ended.collect::<Vec<_>>() {
            self.exporters.remove(id);
        }
    }

    /// Exporters that are followed.
    #[must_use]
    pub fn exporters(&self) -> usize {
        self.exporters.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn message(version: u16, domain: u32, sequence: u32, records: u32, seconds: u64) -> Message {
        Message {
            version,
            domain,
            sequence: Some(sequence),
            exported_ns: seconds * 1_000_000_000,
            records,
            complete: true,
            broken: false,
        }
    }

    fn source(port: u16) -> Source {
        Source { exporter: Some(SocketAddr::from(([192, 0, 2, 1], port))), stream: 0 }
    }

    fn note(table: &mut SequenceTable, port: u16, domain: u32, sequence: u32, seconds: u64) -> Arrival {
        table.note(source(port), &message(5, domain, sequence, 30, seconds))
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
        assert_eq!((table.missed_of(Unit::Flows), table.exporters()), (60, 3));
    }

    #[test]
    fn an_overtaken_message_is_not_missed_and_a_doubled_one_changes_nothing() {
        let mut table = SequenceTable::default();
        note(&mut table, 1, 0, 0, 5);
        assert_eq!(note(&mut table, 1, 0, 60, 6), Arrival::Gap(30));
        assert_eq!(note(&mut table, 1, 0, 30, 6), Arrival::Late);
        assert_eq!(table.missed_of(Unit::Flows), 0);
        assert_eq!(note(&mut table, 1, 0, 60, 6), Arrival::Late);
        assert_eq!(note(&mut table, 1, 0, 90, 8), Arrival::InOrder);
        assert_eq!((table.missed_of(Unit::Flows), table.late, table.restarts), (0, 2, 0));
    }

    #[test]
    fn a_restart_is_not_taken_for_a_gap() {
        let mut table = SequenceTable::default();
        note(&mut table, 1, 0, 600, 5);
        assert_eq!(note(&mut table, 1, 0, 0, 9), Arrival::Restart);
        assert_eq!(note(&mut table, 1, 0, 30, 9), Arrival::InOrder);
        assert_eq!((table.missed_of(Unit::Flows), table.restarts), (0, 1));
    }

    #[test]
    fn version_9_counts_messages_and_ipfix_counts_records() {
        let mut table = SequenceTable::default();
        let mut v9 = |sequence| table.note(source(1), &message(9, 7, sequence, 12, 5));
        assert_eq!([v9(u32::MAX), v9(0), v9(3)], [Arrival::New, Arrival::InOrder, Arrival::Gap(2)]);
        assert_eq!(v9(1), Arrival::Late);
        let mut ipfix = |sequence, records| table.note(source(1), &message(10, 7, sequence, records, 5));
        assert_eq!(
            [ipfix(u32::MAX - 4, 12), ipfix(7, 0), ipfix(7, 3)],
            [Arrival::New, Arrival::InOrder, Arrival::InOrder]
        );
        assert_eq!(ipfix(20, 1), Arrival::Gap(10));
        assert_eq!(
            Unit::NAMES.map(|(unit, _)| table.missed_of(unit)),
            [0, 1, 10],
            "one of the two messages came late"
        );
    }

    #[test]
    fn after_a_message_that_was_not_read_whole_nothing_is_expected() {
        let mut table = SequenceTable::default();
        let unread = Message { complete: false, ..message(10, 0, 0, 0, 5) };
        assert_eq!(table.note(source(1), &unread), Arrival::New);
        assert_eq!(table.note(source(1), &message(10, 0, 900, 10, 5)), Arrival::InOrder);
        assert_eq!(table.note(source(1), &message(10, 0, 911, 10, 5)), Arrival::Gap(1));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut table = SequenceTable::default();
        for port in 0..4096 {
            assert_eq!(note(&mut table, port, 0, 0, 5), Arrival::New);
        }
        assert_eq!(note(&mut table, 0, 0, 30, 5), Arrival::InOrder);
        // Port 1 has been silent longest.
        assert_eq!(note(&mut table, 5000, 0, 0, 5), Arrival::New);
        assert_eq!(note(&mut table, 0, 0, 60, 5), Arrival::InOrder);
        assert_eq!((table.exporters(), table.forgotten), (4096, 1));
        assert_eq!(note(&mut table, 1, 0, 30, 5), Arrival::New);
        let stream = Source { stream: 9, ..source(1) };
        assert_eq!(table.note(stream, &message(10, 0, 0, 1, 5)), Arrival::New);
        table.forget(9);
        assert_eq!((table.exporters(), table.met, table.forgotten), (4095, 4099, 3));
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A bounded ring of encoded messages, written once and read by any number of collectors.
//!
//! ```text
//! octets  │ m7 │ m8 │ ……… waste │ m3 │ m4   │ m5 │ m6 │ waste
//!         0    next position ↑    ↑ oldest            ↑ the next one did not fit before the end
//! ```
//!
//! Messages of any length lie back to back, so that those of one length leave in one call; a message is never
//! split over the end. A cursor that was overtaken skips to the oldest message there is, and learns how many
//! records it missed.

/// Largest UDP payload, and most segments of one call that every kernel with `UDP_SEGMENT` takes.
const MAX_RUN_OCTETS: usize = 65_507;
const MAX_RUN_DATAGRAMS: usize = 64;
/// Cells for messages that are this part of the largest on average; more short ones evict early.
const SHORT: usize = 8;
const MIN_CELLS: usize = 64;

#[derive(Clone, Copy, Default)]
struct Cell {
    /// Octets written before this message, waste included.
    at: u64,
    /// The remainder of that by the capacity, where it lies. Kept, because a division for each message shows.
    place: usize,
    /// Records in all messages before this one.
    records_before: u64,
    len: usize,
}

/// The ring.
pub struct DatagramRing {
    octets: Vec<u8>,
    /// Largest message that is to be expected.
    largest: usize,
    /// A power of two of them.
    cells: Vec<Cell>,
    /// Position of the oldest message, and of the next one.
    oldest: u64,
    next: u64,
    /// Where the next message begins, if it fits before the end.
    at: u64,
    place: usize,
    records: u64,
}

/// Where one collector is.
#[derive(Clone, Copy, Default, Debug)]
pub struct Cursor {
    position: u64,
    records: u64,
}

/// Datagrams that lie back to back: all of `segment` octets, the last perhaps shorter.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// All of them.
    pub octets: &'a [u8],
    /// Octets of each but the last.
    pub segment: usize,
    /// How many.
    pub datagrams: usize,
}

impl<'a> Run<'a> {
    /// The datagrams, one by one.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        self.octets.chunks(self.segment.max(1))
    }

    /// What is left after the first `count`.
    #[must_use]
    pub fn after(&self, count: usize) -> Self {
        let at = (count * self.segment).min(self.octets.len());
        Self { octets: &self.octets[at..], datagrams: self.datagrams.saturating_sub(count), ..*self }
    }
}

impl DatagramRing {
    /// A ring with room for `datagrams` messages of `datagram_len` octets.
    #[must_use]
    pub fn new(datagrams: usize, datagram_len: usize) -> Self {
        Self::with_octets(datagrams.max(1) * datagram_len.max(1), datagram_len)
    }

    /// A ring of `octets`, for messages of up to `largest` octets, of which it holds one at least.
    #[must_use]
    pub fn with_octets(octets: usize, largest: usize) -> Self {
        let largest = largest.max(1);
        let octets = octets.max(largest);
        Self {
            octets: vec![0; octets],
            largest,
            cells: vec![Cell::default(); cells(octets, largest)],
            oldest: 0,
            next: 0,
            at: 0,
            place: 0,
            records: 0,
        }
    }

    /// Memory that a ring of `octets` takes, its cells included.
    #[must_use]
    pub fn memory_octets(octets: usize, largest: usize) -> usize {
        octets + cells(octets, largest) * size_of::<Cell>()
    }

    /// Octets of messages that it holds.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.octets.len() as u64
    }

    #[inline]
    fn index(&self, position: u64) -> usize {
        usize::try_from(position & (self.cells.len() as u64 - 1)).unwrap_or(0)
    }

    #[inline]
    fn cell(&self, position: u64) -> &Cell {
        &self.cells[self.index(position)]
    }

    /// Appends a message of `records` records, over the oldest ones where the ring is full. What a message
    /// has beyond the ring's capacity is cut.
    pub fn push(&mut self, datagram: &[u8], records: u64) {
        let len = datagram.len().min(self.octets.len());
        let before_end = self.octets.len() - self.place;
        if len > before_end {
            self.at += before_end as u64;
            self.place = 0;
        }
        let end = self.at + len as u64;
        while self.oldest < self.next
            && (end - self.cell(self.oldest).at > self.capacity()
                || self.next - self.oldest == self.cells.len() as u64)
        {
            self.oldest += 1;
        }
        self.octets[self.place..self.place + len].copy_from_slice(&datagram[..len]);
        let index = self.index(self.next);
        self.cells[index] = Cell { at: self.at, place: self.place, records_before: self.records, len };
        self.at = end;
        self.place += len;
        self.next += 1;
        self.records += records;
    }

    /// Brings a cursor that fell behind back into the ring; returns the records it missed.
    pub fn catch_up(&self, cursor: &mut Cursor) -> u64 {
        if cursor.position >= self.oldest {
            return 0;
        }
        self.advance(cursor, self.oldest - cursor.position)
    }

    /// Moves the cursor over `datagrams`; returns their records.
    pub fn advance(&self, cursor: &mut Cursor, datagrams: u64) -> u64 {
        let position = cursor.position.saturating_add(datagrams).min(self.next);
        let records = if position == self.next { self.records } else { self.cell(position).records_before };
        let moved = records - cursor.records;
        *cursor = Cursor { position, records };
        moved
    }

    /// Datagrams between the cursor and the newest one.
    #[must_use]
    pub fn backlog(&self, cursor: &Cursor) -> u64 {
        self.next - cursor.position
    }

    /// Records between the cursor and the newest datagram.
    #[must_use]
    pub fn records_waiting(&self, cursor: &Cursor) -> u64 {
        self.records - cursor.records
    }

    /// Octets that can be pushed before a message is overwritten that the cursor has not passed, in messages
    /// that are an eighth of the largest on average, or longer.
    #[must_use]
    pub fn room(&self, cursor: &Cursor) -> u64 {
        if cursor.position < self.oldest {
            return 0;
        }
        let tail = if cursor.position == self.next { self.at } else { self.cell(cursor.position).at };
        // The end of the memory may be wasted once.
        let octets = (self.capacity() - (self.at - tail)).saturating_sub(self.largest as u64);
        let cells = self.cells.len() as u64 - self.backlog(cursor);
        octets.min(cells * (self.largest / SHORT).max(1) as u64)
    }

    /// The next datagrams for a cursor (that has caught up), at most `limit`: as many of one length as lie
    /// together, the last perhaps shorter.
    #[must_use]
    pub fn run(&self, cursor: &Cursor, limit: u64) -> Option<Run<'_>> {
        let limit = limit.min(self.backlog(cursor)).min(MAX_RUN_DATAGRAMS as u64);
        if limit == 0 {
            return None;
        }
        let first = *self.cell(cursor.position);
        let start = first.place;
        let (mut datagrams, mut len) = (1, first.len);
        while (datagrams as u64) < limit {
            let next = self.cell(cursor.position + datagrams as u64);
            // Only the last segment may be shorter, and the end of the memory ends a run.
            let joins = next.at == first.at + len as u64 && start + len + next.len <= self.octets.len();
            if !joins || next.len > first.len || len + next.len > MAX_RUN_OCTETS {
                break;
            }
            datagrams += 1;
            len += next.len;
            if next.len < first.len {
                break;
            }
        }
        let octets = self.octets.get(start..start + len)?;
        Some(Run { octets, segment: first.len, datagrams })
    }
}

/// Cells of a ring: a power of two, and no more than the short messages that it has room for.
fn cells(octets: usize, largest: usize) -> usize {
    let short = octets / (largest.max(1) / SHORT).max(1);
    1 << short.max(MIN_CELLS).ilog2()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn datagrams(run: Option<Run<'_>>) -> Vec<Vec<u8>> {
        run.map(|run| run.iter().map(<[u8]>::to_vec).collect()).unwrap_or_default()
    }

    #[test]
    fn datagrams_of_one_length_leave_together_and_a_shorter_one_ends_the_run() {
        let mut ring = DatagramRing::new(8, 4);
        for (datagram, records) in [(&b"aaaa"[..], 2), (b"bbbb", 2), (b"cc", 1), (b"dd", 1), (b"eeee", 2)] {
            ring.push(datagram, records);
        }
        let mut cursor = Cursor::default();
        let mut seen = Vec::new();
        let mut records = Vec::new();
        while let Some(run) = ring.run(&cursor, 10) {
            assert_eq!(run.iter().len(), run.datagrams);
            seen.push(datagrams(Some(run)));
            records.push(ring.advance(&mut cursor, run.datagrams as u64));
        }
        assert_eq!(
            seen,
            [
                vec![b"aaaa".to_vec(), b"bbbb".to_vec(), b"cc".to_vec()],
                vec![b"dd".to_vec()],
                vec![b"eeee".to_vec()]
            ]
        );
        assert_eq!(records, [5, 1, 2]);
    }

    #[test]
    fn a_cursor_left_behind_learns_what_it_missed() {
        let mut ring = DatagramRing::new(4, 2);
        let (mut fast, mut slow) = (Cursor::default(), Cursor::default());
        let mut sent = 0;
        for n in 0u8..10 {
            ring.push(&[n, n], u64::from(n));
            assert_eq!(ring.catch_up(&mut fast), 0);
            assert_eq!(datagrams(ring.run(&fast, 1)), [[n, n]]);
            sent += ring.advance(&mut fast, 1);
        }
        assert_eq!(sent, 45);
        assert_eq!(ring.room(&slow), 0);
        assert_eq!(ring.catch_up(&mut slow), 15);
        // Positions 6 and 7 lie at the end of the memory, 8 and 9 at its start.
        assert_eq!(datagrams(ring.run(&slow, 9)), [[6, 6], [7, 7]]);
        assert_eq!(ring.advance(&mut slow, 2), 13);
        assert_eq!(datagrams(ring.run(&slow, 9)), [[8, 8], [9, 9]]);
        assert_eq!(ring.records_waiting(&slow), 17);
        assert_eq!(ring.advance(&mut slow, 2), 17);
        assert!(ring.run(&slow, 9).is_none());
    }

    #[test]
    fn a_run_stays_below_the_largest_datagram_and_the_most_segments() {
        let mut ring = DatagramRing::with_octets(1 << 20, 9000);
        (0..20).for_each(|_| ring.push(&[1; 9000], 1));
        (0..200).for_each(|_| ring.push(&[2; 100], 1));
        let mut cursor = Cursor::default();
        let mut runs = Vec::new();
        while let Some(run) = ring.run(&cursor, u64::MAX) {
            runs.push(run.datagrams);
            ring.advance(&mut cursor, run.datagrams as u64);
        }
        // A shorter one ends a run of longer ones.
        assert_eq!(runs, [7, 7, 7, 64, 64, 64, 7]);
    }

    proptest::proptest! {
        /// Against a queue of whole messages: what is read is what was written, in order; what is missed is
        /// counted; and nothing is overwritten within the room that the ring promised.
        #[test]
        fn like_a_queue(
            octets in 64usize..400,
            largest in 1usize..64,
            steps in proptest::collection::vec((0usize..64, 0u64..9), 1..300),
        ) {
            let mut ring = DatagramRing::with_octets(octets, largest);
            let mut cursor = Cursor::default();
            let mut model: VecDeque<(Vec<u8>, u64)> = VecDeque::new();
            let (mut promised, mut missed) = (ring.room(&cursor), 0);
            for (n, (len, take)) in steps.into_iter().enumerate() {
                let message = vec![u8::try_from(n % 251).unwrap(); len.clamp(1, largest)];
                ring.push(&message, n as u64);
                let before = cursor;
                let lost = ring.catch_up(&mut cursor);
                if (message.len() as u64) <= promised {
                    proptest::prop_assert_eq!(lost, 0);
                }
                model.push_back((message, n as u64));
                for _ in 0..cursor.position - before.position {
                    missed += model.pop_front().unwrap().1;
                }
                proptest::prop_assert_eq!(lost, missed);
                missed = 0;
                if let Some(run) = ring.run(&cursor, take) {
                    let read = datagrams(Some(run));
                    proptest::prop_assert!(read.len() as u64 <= take);
                    let count = read.len() as u64;
                    let mut records = 0;
                    for datagram in read {
                        let (expected, of) = model.pop_front().unwrap();
                        proptest::prop_assert_eq!(datagram, expected);
                        records += of;
                    }
                    proptest::prop_assert_eq!(ring.advance(&mut cursor, count), records);
                }
                proptest::prop_assert_eq!(ring.backlog(&cursor), model.len() as u64);
                proptest::prop_assert_eq!(ring.records_waiting(&cursor), model.iter().map(|m| m.1).sum::<u64>());
                promised = ring.room(&cursor);
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A bounded ring of encoded datagrams, written once and read by any number of collectors.
//!
//! A cursor that falls a whole ring behind skips to the oldest datagram there is, and learns how many
//! records it missed. Every cell has room for a full datagram, so full ones lie back to back in memory
//! and leave in one call.

/// Largest UDP payload, and most segments of one call that every kernel with `UDP_SEGMENT` takes.
const MAX_RUN_OCTETS: usize = 65_507;
const MAX_RUN_DATAGRAMS: usize = 64;

#[derive(Clone, Copy, Default)]
struct Cell {
    len: u32,
    /// Records in all datagrams before this one.
    records_before: u64,
}

/// The ring.
pub struct DatagramRing {
    octets: Vec<u8>,
    stride: usize,
    cells: Vec<Cell>,
    next: u64,
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
    /// A ring of `datagrams` cells of `datagram_len` octets.
    #[must_use]
    pub fn new(datagrams: usize, datagram_len: usize) -> Self {
        let datagrams = datagrams.max(1);
        Self {
            octets: vec![0; datagrams * datagram_len],
            stride: datagram_len,
            cells: vec![Cell::default(); datagrams],
            next: 0,
            records: 0,
        }
    }

    /// Datagrams that it holds.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.cells.len() as u64
    }

    fn index(&self, position: u64) -> usize {
        // A remainder of a `usize` is one.
        usize::try_from(position % self.capacity()).unwrap_or(0)
    }

    /// Appends a datagram of `records` records, over the oldest one where the ring is full.
    pub fn push(&mut self, datagram: &[u8], records: u64) {
        let index = self.index(self.next);
        let len = datagram.len().min(self.stride);
        self.octets[index * self.stride..][..len].copy_from_slice(&datagram[..len]);
        self.cells[index] =
            Cell { len: u32::try_from(len).unwrap_or(u32::MAX), records_before: self.records };
        self.next += 1;
        self.records += records;
    }

    /// Brings a cursor that fell behind back into the ring; returns the records it missed.
    pub fn catch_up(&self, cursor: &mut Cursor) -> u64 {
        let oldest = self.next.saturating_sub(self.capacity());
        if cursor.position >= oldest {
            return 0;
        }
        self.advance(cursor, oldest - cursor.position)
    }

    /// Moves the cursor over `datagrams`; returns their records.
    pub fn advance(&self, cursor: &mut Cursor, datagrams: u64) -> u64 {
        let position = (cursor.position + datagrams).min(self.next);
        let records = if position == self.next {
            self.records
        } else {
            self.cells[self.index(position)].records_before
        };
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

    /// The next datagrams for a cursor (that has caught up), at most `limit`.
    #[must_use]
    pub fn run(&self, cursor: &Cursor, limit: u64) -> Option<Run<'_>> {
        let fitting = (MAX_RUN_OCTETS / self.stride.max(1)).clamp(1, MAX_RUN_DATAGRAMS);
        let limit = usize::try_from(limit.min(self.backlog(cursor))).unwrap_or(usize::MAX).min(fitting);
        let start = self.index(cursor.position);
        let cells = self.cells[start..].get(..limit).unwrap_or(&self.cells[start..]);
        let first = cells.first()?;
        let (mut datagrams, mut len) = (0, 0);
        for cell in cells {
            datagrams += 1;
            len += cell.len as usize;
            // Only a full cell touches the next one, and only the last segment may be shorter.
            if cell.len as usize != self.stride {
                break;
            }
        }
        let octets = self.octets.get(start * self.stride..)?.get(..len)?;
        Some(Run { octets, segment: first.len as usize, datagrams })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagrams(run: Option<Run<'_>>) -> Vec<Vec<u8>> {
        run.map(|run| run.iter().map(<[u8]>::to_vec).collect()).unwrap_or_default()
    }

    #[test]
    fn full_datagrams_leave_together_and_a_short_one_ends_the_run() {
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
        assert_eq!(ring.catch_up(&mut slow), 15);
        // Positions 6 and 7 lie at the end of the memory, 8 and 9 at its start.
        assert_eq!(datagrams(ring.run(&slow, 9)), [[6, 6], [7, 7]]);
        assert_eq!(ring.advance(&mut slow, 2), 13);
        assert_eq!(datagrams(ring.run(&slow, 9)), [[8, 8], [9, 9]]);
        assert_eq!(ring.records_waiting(&slow), 17);
        assert_eq!(ring.advance(&mut slow, 2), 17);
        assert!(ring.run(&slow, 9).is_none());
    }
}

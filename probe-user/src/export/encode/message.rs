// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A message of v9 or IPFIX while it is filled: a header, then sets of records.
//!
//! One set is open at a time; a record of another template opens the next. That costs 4 octets (and in v9
//! up to 3 of padding) where IPv4 and IPv6 flows take turns, and keeps one message open instead of two.

use super::template::{Dialect, SET_HEADER};

/// See the module.
#[derive(Debug)]
pub(super) struct Message {
    buffer: Box<[u8]>,
    header: usize,
    alignment: usize,
    len: usize,
    set_id: u16,
    set_start: usize,
    /// Records of any kind.
    pub(super) records: u32,
}

impl Message {
    /// Empty, with room for a header of `header` octets in `limit` octets.
    pub(super) fn new(dialect: Dialect, header: usize, limit: usize) -> Self {
        Self {
            buffer: vec![0; limit].into(),
            header,
            alignment: dialect.alignment(),
            len: header,
            set_id: 0,
            set_start: 0,
            records: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == self.header
    }

    /// Where a record in a set of `id` begins.
    #[inline]
    fn place(&self, id: u16) -> usize {
        if self.set_id == id { self.len } else { self.len.next_multiple_of(self.alignment) + SET_HEADER }
    }

    /// Whether there is room for a record of `len` octets in a set of `id`.
    #[inline]
    pub(super) fn has_room(&self, id: u16, len: usize) -> bool {
        (self.place(id) + len).next_multiple_of(self.alignment) <= self.buffer.len()
    }

    /// Where such a record goes; `None` if there is no room.
    #[inline]
    pub(super) fn record(&mut self, id: u16, len: usize) -> Option<&mut [u8]> {
        if !self.has_room(id, len) {
            return None;
        }
        let start = self.place(id);
        let end = start + len;
        if self.set_id != id {
            self.close_set();
            self.set_id = id;
            self.set_start = self.len;
            self.buffer[self.len..self.len + 2].copy_from_slice(&id.to_be_bytes());
        }
        self.len = end;
        self.records += 1;
        self.buffer.get_mut(start..end)
    }

    /// Adds a set as it is, of one record or template; returns whether there was room.
    pub(super) fn set(&mut self, set: &[u8]) -> bool {
        self.close_set();
        let Some(out) = self.buffer.get_mut(self.len..self.len + set.len()) else { return false };
        out.copy_from_slice(set);
        self.len += set.len();
        self.records += 1;
        true
    }

    fn close_set(&mut self) {
        if self.set_id == 0 {
            return;
        }
        let end = self.len.next_multiple_of(self.alignment);
        self.buffer[self.len..end].fill(0);
        // A message has no more than 65535 octets.
        let len = u16::try_from(end - self.set_start).unwrap_or(u16::MAX);
        self.buffer[self.set_start + 2..self.set_start + 4].copy_from_slice(&len.to_be_bytes());
        self.len = end;
        self.set_id = 0;
    }

    /// Ends the last set and gives the message, whose header is still to be written. The next one begins
    /// empty.
    pub(super) fn take(&mut self) -> &mut [u8] {
        self.close_set();
        self.records = 0;
        let len = std::mem::replace(&mut self.len, self.header);
        &mut self.buffer[..len]
    }
}

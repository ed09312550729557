// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A file to which whole records are added, one after the other.

use std::io::{self, Seek, SeekFrom, Write};

use super::part_file::PartFile;

/// Octets of one write.
const BUFFER: usize = 256 << 10;

/// See the module. The buffer holds whole records only, so the file can always be cut after the last one
/// that is in it as a whole.
pub(super) struct Appender {
    part: PartFile,
    buffer: Vec<u8>,
    buffered: u64,
    /// Octets and records of the file.
    len: u64,
    records: u64,
}

impl Appender {
    pub(super) fn new(part: PartFile) -> Self {
        Self { part, buffer: Vec::with_capacity(BUFFER), buffered: 0, len: 0, records: 0 }
    }

    /// Adds what `encode` appends, as so many records. On failure the file is cut after its last whole
    /// record, and the caller closes it.
    pub(super) fn append(&mut self, records: u64, encode: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        encode(&mut self.buffer);
        self.buffered += records;
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Writes what is buffered.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if let Err(error) = self.part.file().write_all(&self.buffer) {
            self.part.file().set_len(self.len)?;
            self.part.file().seek(SeekFrom::Start(self.len))?;
            return Err(error);
        }
        self.len += u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
        self.records += std::mem::take(&mut self.buffered);
        self.buffer.clear();
        Ok(())
    }

    /// The file, the records in it, and those that are not because the last write failed.
    pub(super) fn into_parts(self) -> (PartFile, u64, u64) {
        (self.part, self.records, self.buffered)
    }
}

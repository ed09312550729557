// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A file, standard input or gzip, as a bounded window of octets.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::error::CaptureFault;

/// Octets asked of the file at a time: the window stays in the L2 cache between the copy out of the page
/// cache and the parser.
const CHUNK: usize = 256 * 1024;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The window. It grows to the longest thing asked for and no further; callers bound what they ask for.
pub(super) struct Input {
    reader: Box<dyn Read + Send>,
    window: Vec<u8>,
    start: usize,
    end: usize,
    /// Octets of the stream before `start`.
    offset: u64,
    ended: bool,
}

impl Input {
    /// Opens a file, or standard input for `-`; looks for gzip.
    pub(super) fn open(path: &Path) -> Result<Self, CaptureFault> {
        if path.as_os_str() == "-" {
            return Self::new(Box::new(io::stdin()));
        }
        Self::new(Box::new(File::open(path).map_err(CaptureFault::Open)?))
    }

    /// Any reader; looks for gzip.
    pub(super) fn new(mut reader: Box<dyn Read + Send>) -> Result<Self, CaptureFault> {
        let mut magic = Vec::with_capacity(GZIP_MAGIC.len());
        let limit = GZIP_MAGIC.len() as u64;
        reader.by_ref().take(limit).read_to_end(&mut magic).map_err(CaptureFault::Read)?;
        let compressed = magic == GZIP_MAGIC;
        let whole = Cursor::new(magic).chain(reader);
        let reader: Box<dyn Read + Send> = if compressed {
            Box::new(MultiGzDecoder::new(BufReader::with_capacity(CHUNK / 4, whole)))
        } else {
            Box::new(whole)
        };
        Ok(Self { reader, window: vec![0; CHUNK], start: 0, end: 0, offset: 0, ended: false })
    }

    /// Octets of the stream that have been taken.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Makes `count` octets ready, or as many as are left. Says whether all are.
    #[inline]
    pub(super) fn prepare(&mut self, count: usize) -> Result<bool, CaptureFault> {
        if self.end - self.start >= count {
            return Ok(true);
        }
        self.refill(count)
    }

    #[cold]
    fn refill(&mut self, count: usize) -> Result<bool, CaptureFault> {
        self.window.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.window.len() < count {
            self.window.resize(count.next_multiple_of(CHUNK), 0);
        }
        while self.end < count && !self.ended {
            match self.reader.read(&mut self.window[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(CaptureFault::Read(error)),
            }
        }
        Ok(self.end >= count)
    }

    /// What is ready.
    #[inline]
    pub(super) fn ready(&self) -> &[u8] {
        &self.window[self.start..self.end]
    }

    /// Takes `count` octets that are ready.
    #[inline]
    pub(super) fn take(&mut self, count: usize) -> &[u8] {
        let start = self.start;
        self.start = (start + count).min(self.end);
        self.offset += (self.start - start) as u64;
        &self.window[start..self.start]
    }

    /// Steps over `count` octets, however many, in bounded memory. Says how many there were.
    pub(super) fn skip(&mut self, count: u64) -> Result<u64, CaptureFault> {
        let mut left = count;
        while left > 0 {
            let step = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            self.prepare(step)?;
            let taken = self.take(step).len() as u64;
            if taken == 0 {
                break;
            }
            left -= taken;
        }
        Ok(count - left)
    }
}

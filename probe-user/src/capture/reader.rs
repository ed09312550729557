// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One capture file, packet by packet, without a copy.

use std::io::Read;
use std::path::Path;

use super::error::{CaptureError, CaptureFault};
use super::input::Input;
use super::packet::{Packet, Record};
use super::pcap::{self, Pcap};
use super::pcapng::{self, Pcapng};

/// A capture file that is being read. After an error or the end there are no more packets.
pub struct CaptureReader {
    name: String,
    input: Input,
    format: Format,
}

enum Format {
    Pcap(Pcap),
    Pcapng(Pcapng),
    Ended,
}

impl CaptureReader {
    /// Opens a pcap or pcapng file, also compressed by gzip; `-` is standard input.
    ///
    /// # Errors
    /// When it cannot be opened or does not begin as such a file.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let name = if path.as_os_str() == "-" { "standard input".into() } else { path.display().to_string() };
        match Input::open(path) {
            Ok(input) => Self::with_input(name, input),
            Err(fault) => Err(CaptureError { file: name, offset: 0, fault }),
        }
    }

    /// Reads from anything; `name` is for messages.
    ///
    /// # Errors
    /// When it does not begin as a capture file.
    pub fn new(name: &str, reader: Box<dyn Read + Send>) -> Result<Self, CaptureError> {
        match Input::new(reader) {
            Ok(input) => Self::with_input(name.into(), input),
            Err(fault) => Err(CaptureError { file: name.into(), offset: 0, fault }),
        }
    }

    fn with_input(name: String, mut input: Input) -> Result<Self, CaptureError> {
        match Format::recognise(&mut input) {
            Ok(format) => Ok(Self { name, input, format }),
            Err(fault) => Err(CaptureError { file: name, offset: input.offset(), fault }),
        }
    }

    /// Name of the file, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Octets read so far; of a compressed file, after decompression.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.input.offset()
    }

    /// The next packet, or `None` at the end.
    ///
    /// # Errors
    /// When the file cannot be read on; the packets before it stand.
    #[inline]
    pub fn next_packet(&mut self) -> Result<Option<Packet<'_>>, CaptureError> {
        let next = match &mut self.format {
            Format::Pcap(pcap) => pcap.next(&mut self.input),
            Format::Pcapng(pcapng) => pcapng.next(&mut self.input),
            Format::Ended => Ok(None),
        };
        let record = match next {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(None),
            Err(fault) => {
                self.format = Format::Ended;
                return Err(CaptureError { file: self.name.clone(), offset: self.input.offset(), fault });
            }
        };
        let Record { timestamp_ns, wire_length, link_type, interface, length, data } = record;
        let data = &self.input.take(length)[data];
        Ok(Some(Packet { timestamp_ns, data, wire_length, link_type, interface }))
    }
}

impl Format {
    fn recognise(input: &mut Input) -> Result<Self, CaptureFault> {
        input.prepare(4)?;
        let Some(magic) = input.ready().first_chunk().copied() else {
            let left = input.ready().len() as u64;
            if left == 0 {
                return Err(CaptureFault::Empty);
            }
            return Err(CaptureFault::Cut { what: "the file header", needed: 24, left });
        };
        if pcapng::is_magic(magic) {
            Ok(Self::Pcapng(Pcapng::default()))
        } else if pcap::is_magic(magic) {
            Pcap::open(input).map(Self::Pcap)
        } else {
            Err(CaptureFault::Unrecognised(magic))
        }
    }
}

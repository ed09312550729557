// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes pcap files, in every variant that readers must know.

use std::io::{self, Write};

/// What the file says about itself.
#[derive(Clone, Copy, Debug)]
pub struct PcapFormat {
    /// Octets of every number from the most significant one.
    pub big_endian: bool,
    /// Times in nanoseconds, else in microseconds.
    pub nanoseconds: bool,
    /// Link type, 1 for Ethernet.
    pub link_type: u32,
    /// Longest part of a packet that is kept.
    pub snap_length: u32,
}

impl Default for PcapFormat {
    /// What tcpdump writes on a PC.
    fn default() -> Self {
        Self { big_endian: false, nanoseconds: false, link_type: 1, snap_length: 262_144 }
    }
}

/// A pcap file that is being written.
pub struct PcapWriter<W: Write> {
    out: W,
    format: PcapFormat,
}

impl<W: Write> PcapWriter<W> {
    /// Writes the file header.
    ///
    /// # Errors
    /// When writing fails.
    pub fn new(out: W, format: PcapFormat) -> io::Result<Self> {
        let mut writer = Self { out, format };
        writer.word(if format.nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 })?;
        // Version 2.4: two numbers of 16 bits.
        writer.word(if format.big_endian { 0x0002_0004 } else { 0x0004_0002 })?;
        writer.word(0)?;
        writer.word(0)?;
        writer.word(format.snap_length)?;
        writer.word(format.link_type)?;
        Ok(writer)
    }

    /// Writes a packet.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write(&mut self, unix_ns: u64, packet: &[u8]) -> io::Result<()> {
        let unit_ns = if self.format.nanoseconds { 1 } else { 1000 };
        let wire_length = u32::try_from(packet.len()).map_err(io::Error::other)?;
        let captured = wire_length.min(self.format.snap_length);
        self.word(u32::try_from(unix_ns / 1_000_000_000).map_err(io::Error::other)?)?;
        self.word(u32::try_from(unix_ns % 1_000_000_000 / unit_ns).map_err(io::Error::other)?)?;
        self.word(captured)?;
        self.word(wire_length)?;
        self.out.write_all(&packet[..captured as usize])
    }

    /// Hands everything to the system and gives the output back.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    fn word(&mut self, word: u32) -> io::Result<()> {
        let octets = if self.format.big_endian { word.to_be_bytes() } else { word.to_le_bytes() };
        self.out.write_all(&octets)
    }
}

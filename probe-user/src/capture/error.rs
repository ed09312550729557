// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why a capture file could not be read on.

use std::fmt;
use std::io;

/// What went wrong, in which file, and where.
#[derive(Debug)]
pub struct CaptureError {
    /// Name of the file, `standard input` for `-`.
    pub file: String,
    /// Octets before the fault; of a compressed file, after decompression.
    pub offset: u64,
    /// The fault.
    pub fault: CaptureFault,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum CaptureFault {
    /// The file could not be opened.
    #[error("it cannot be opened: {0}; check the name and the permissions")]
    Open(#[source] io::Error),
    /// Reading failed; a damaged gzip file ends here too.
    #[error("reading failed: {0}; copy the file again, or test it with 'gzip -t' if it is compressed")]
    Read(#[source] io::Error),
    /// Nothing in it.
    #[error("the file is empty; capture again")]
    Empty,
    /// Neither pcap nor pcapng.
    #[error(
        "it is neither pcap nor pcapng (it begins with {0:02x?}); look what it is with 'file', and \
         convert it with 'editcap -F pcapng' if it is another capture format"
    )]
    Unrecognised([u8; 4]),
    /// A version of pcap or pcapng that nobody has defined.
    #[error("{format} version {major} is not known; convert the file with 'editcap -F pcapng'")]
    Version {
        /// `pcap` or `pcapng`.
        format: &'static str,
        /// Major version.
        major: u16,
    },
    /// The file ends too early.
    #[error(
        "it ends within {what}: {needed} octets are announced, {left} are left; the copy may be incomplete"
    )]
    Cut {
        /// What is incomplete.
        what: &'static str,
        /// Octets announced.
        needed: u64,
        /// Octets there.
        left: u64,
    },
    /// A length that cannot be.
    #[error("{what} claims {length} octets, where {least} to {most} are possible; the file is damaged")]
    Length {
        /// What claims it.
        what: &'static str,
        /// The claim.
        length: u64,
        /// The least it can be.
        least: u64,
        /// The most it can be.
        most: u64,
    },
    /// A block that contradicts itself.
    #[error("{0}; the file is damaged")]
    Block(&'static str),
    /// A packet of an interface that the file has not described.
    #[error(
        "a packet names interface {interface}, the section has described {described}; the file is damaged"
    )]
    Interface {
        /// The number in the packet.
        interface: u32,
        /// How many interfaces there are.
        described: usize,
    },
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read {}", self.file)?;
        if self.offset > 0 {
            write!(f, " at octet {}", self.offset)?;
        }
        write!(f, ": {}", self.fault)
    }
}

impl std::error::Error for CaptureError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.fault)
    }
}

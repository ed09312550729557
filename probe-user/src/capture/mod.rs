// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Capture files: octets of a file → packets → observations.
//!
//! - [`input`]: a file, standard input or gzip, as a bounded window of octets
//! - [`pcap`] and [`pcapng`]: records and blocks, cut out of that window
//! - [`reader`]: one capture file of either format, packet by packet, without a copy
//! - [`link`]: where the IP packet begins, by link type
//! - [`replay`]: packets → observations → flows → records, one step at a time

mod batch;
mod error;
mod input;
mod link;
mod packet;
mod pcap;
mod pcapng;
mod reader;
mod replay;
#[cfg(test)]
mod replay_tests;
#[cfg(test)]
mod tests;

pub use error::{CaptureError, CaptureFault};
pub use link::LinkType;
pub use packet::{MAX_PACKET, Packet};
pub use reader::CaptureReader;
pub use replay::{Replay, ReplayCounts, Step};

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NetFlow version 5: a header of 24 octets, then 1 to 30 records of 48 octets, IPv4 only.
//!
//! Source: Cisco, "NetFlow Export Datagram Format", tables of version 5.

use super::fixed::{FixedEncoder, HeaderFacts, Layout};
pub use super::{
    Unfit,
    fixed::{Full, split},
};
use crate::flow::FlowRecord;

/// Octets of the header.
pub const HEADER_LEN: usize = 24;
/// Octets of a record.
pub const RECORD_LEN: usize = 48;
/// Most records in a datagram.
pub const MAX_RECORDS: usize = 30;

/// What version 5 adds to the common layout.
#[derive(Debug)]
pub struct V5;

/// One engine.
pub type Encoder = FixedEncoder<V5>;

impl Layout for V5 {
    const VERSION: u16 = 5;
    const HEADER_LEN: usize = HEADER_LEN;
    const RECORD_LEN: usize = RECORD_LEN;
    const MAX_RECORDS: usize = MAX_RECORDS;

    fn header(out: &mut [u8], facts: &HeaderFacts) {
        out[0..4].copy_from_slice(&facts.sequence.to_be_bytes());
        out[4] = facts.engine_type;
        out[5] = facts.engine_id;
        out[6..8].copy_from_slice(&facts.sampling.to_be_bytes());
    }

    #[inline]
    fn record(out: &mut [u8], record: &FlowRecord) {
        let [_, flags] = record.tcp_flags.to_be_bytes();
        out[0..4].copy_from_slice(&[0, flags, record.key.protocol(), record.key.tos()]);
        // AS numbers, prefix lengths, padding.
        out[4..12].copy_from_slice(&[0; 8]);
    }
}

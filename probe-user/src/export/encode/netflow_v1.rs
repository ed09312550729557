// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NetFlow version 1: a header of 16 octets without a sequence, then 1 to 24 records of 48 octets, IPv4
//! only.
//!
//! ```text
//! record from octet 36: pad 2, prot 1, tos 1, flags 1, pad 7
//! ```
//!
//! The record has 48 octets in Wireshark (`V1PDU_SIZE`, packet-netflow.c) and nfdump (netflow_v1.c), which
//! take a datagram apart by that length.

use super::fixed::{HeaderFacts, Layout};
use crate::flow::FlowRecord;

/// What version 1 adds to the common layout.
#[derive(Debug)]
pub(super) struct V1;

impl Layout for V1 {
    const VERSION: u16 = 1;
    const HEADER_LEN: usize = 16;
    const RECORD_LEN: usize = 48;
    const MAX_RECORDS: usize = 24;

    fn header(_out: &mut [u8], _facts: &HeaderFacts) {}

    #[inline]
    fn record(out: &mut [u8], record: &FlowRecord) {
        let [_, flags] = record.tcp_flags.to_be_bytes();
        out[0..5].copy_from_slice(&[0, 0, record.key.protocol(), record.key.tos(), flags]);
        out[5..12].copy_from_slice(&[0; 7]);
    }
}

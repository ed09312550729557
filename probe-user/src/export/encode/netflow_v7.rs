// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NetFlow version 7, of the Catalyst 5000: a header of 24 octets, then 1 to 28 records of 52 octets, IPv4
//! only.
//!
//! ```text
//! header from octet 16: flow_sequence 4, reserved 4
//! record from octet 36: flags 1 (which fields are invalid: none), tcp_flags 1, prot 1, tos 1, src_as 2,
//!                       dst_as 2, src_mask 1, dst_mask 1, flags 2 (likewise), router_sc 4
//! ```
//!
//! The first two of the reserved octets carry engine type and id as in version 5, so that nfdump, which reads both
//! versions alike, keeps the sequences of several interfaces apart.

use super::fixed::{HeaderFacts, Layout};
use crate::flow::FlowRecord;

/// What version 7 adds to the common layout.
#[derive(Debug)]
pub(super) struct V7;

impl Layout for V7 {
    const VERSION: u16 = 7;
    const HEADER_LEN: usize = 24;
    const RECORD_LEN: usize = 52;
    const MAX_RECORDS: usize = 28;

    fn header(out: &mut [u8], facts: &HeaderFacts) {
        out[0..4].copy_from_slice(&facts.sequence.to_be_bytes());
        out[4..8].copy_from_slice(&[facts.engine_type, facts.engine_id, 0, 0]);
    }

    #[inline]
    fn record(out: &mut [u8], record: &FlowRecord) {
        let [_, flags] = record.tcp_flags.to_be_bytes();
        out[0..4].copy_from_slice(&[0, flags, record.key.protocol(), record.key.tos()]);
        out[4..16].copy_from_slice(&[0; 12]);
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! IPFIX (RFC 7011): a header of 16 octets, then sets. Times are Unix milliseconds; the sequence counts data
//! records, those of options among them (section 3.1).
//!
//! ```text
//! header  version 2, length 2, export time 4 (s), sequence 4, observation domain 4
//! ```

use super::{Now, template::Dialect, templated::Format};
use crate::flow::FlowRecord;

const VERSION: u16 = 10;
const MS: u64 = 1_000_000;

/// What IPFIX has beside version 9.
#[derive(Clone, Debug)]
pub(super) struct Ipfix;

impl Format for Ipfix {
    const DIALECT: Dialect = Dialect::Ipfix;
    const HEADER_LEN: usize = 16;
    type Span = (u64, u64);

    fn new() -> Self {
        Self
    }

    #[inline]
    fn span(record: &FlowRecord) -> Self::Span {
        let (start, end) = (record.start_ns, record.end_ns);
        (start.min(end) / MS, start.max(end) / MS)
    }

    #[inline]
    fn holds(&self, _span: Self::Span) -> bool {
        true
    }

    fn begin(&mut self, _span: Self::Span, _now: Now) -> bool {
        false
    }

    fn begin_now(&mut self, _now: Now) -> bool {
        false
    }

    #[inline]
    fn times(&mut self, span: Self::Span) -> (u64, u64) {
        span
    }

    fn header(&self, message: &mut [u8], _records: u32, sequence: u32, domain: u32, now: Now) {
        let len = u16::try_from(message.len()).unwrap_or(u16::MAX);
        let seconds = u32::try_from(now.unix_ns / (1000 * MS)).unwrap_or(u32::MAX);
        message[0..2].copy_from_slice(&VERSION.to_be_bytes());
        message[2..4].copy_from_slice(&len.to_be_bytes());
        message[4..8].copy_from_slice(&seconds.to_be_bytes());
        message[8..12].copy_from_slice(&sequence.to_be_bytes());
        message[12..16].copy_from_slice(&domain.to_be_bytes());
    }

    fn advance(data_records: u32) -> u32 {
        data_records
    }

    fn cut(&self) -> u64 {
        0
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NetFlow version 9 (RFC 3954): a header of 20 octets, then flowsets. Times are uptimes, counted from a
//! virtual boot; the sequence counts datagrams, the header's count all records, templates among them.
//!
//! ```text
//! header  version 2, count 2, sysUpTime 4 (ms), unix_secs 4, sequence 4, source id 4
//! ```
//!
//! The header tells Unix time in seconds: the uptime is that of this second's beginning, so that the boot
//! never jitters; where a flow ended within this second, of the next one's, so that no flow ends after
//! sysUpTime, which collectors take for a wrap. When the boot moves, collectors that take that for a restart forget
//! the templates: they are sent again at once.

use super::{
    Now,
    template::Dialect,
    templated::Format,
    virtual_boot::{Span, VirtualBoot},
};
use crate::flow::FlowRecord;

const VERSION: u16 = 9;

type Boot = VirtualBoot<1000>;

/// What version 9 has beside IPFIX.
#[derive(Clone, Debug)]
pub(super) struct V9 {
    boot: Boot,
    cut: u64,
}

impl Format for V9 {
    const DIALECT: Dialect = Dialect::V9;
    const HEADER_LEN: usize = 20;
    type Span = Span;

    fn new() -> Self {
        Self { boot: Boot::new(), cut: 0 }
    }

    #[inline]
    fn span(record: &FlowRecord) -> Span {
        Boot::span(record)
    }

    #[inline]
    fn holds(&self, span: Span) -> bool {
        self.boot.holds(span)
    }

    fn begin(&mut self, span: Span, now: Now) -> bool {
        self.boot.begin(span, now.unix_ns)
    }

    fn begin_now(&mut self, now: Now) -> bool {
        self.boot.begin_now(now.unix_ns)
    }

    #[inline]
    fn times(&mut self, span: Span) -> (u64, u64) {
        self.cut += u64::from(span.cut);
        let (first, last) = self.boot.uptimes(span);
        (first.into(), last.into())
    }

    fn header(&self, message: &mut [u8], records: u32, sequence: u32, domain: u32, now: Now) {
        let header_ms = self.boot.header_ms(now.unix_ns);
        let count = u16::try_from(records).unwrap_or(u16::MAX);
        let seconds = u32::try_from(header_ms / 1000).unwrap_or(u32::MAX);
        message[0..2].copy_from_slice(&VERSION.to_be_bytes());
        message[2..4].copy_from_slice(&count.to_be_bytes());
        message[4..8].copy_from_slice(&self.boot.uptime(header_ms).to_be_bytes());
        message[8..12].copy_from_slice(&seconds.to_be_bytes());
        message[12..16].copy_from_slice(&sequence.to_be_bytes());
        message[16..20].copy_from_slice(&domain.to_be_bytes());
    }

    fn advance(_data_records: u32) -> u32 {
        1
    }

    fn cut(&self) -> u64 {
        self.cut
    }
}

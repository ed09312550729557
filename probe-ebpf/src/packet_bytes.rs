// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The packet, with the bounds checks that the verifier wants to see.

use aya_ebpf::programs::XdpContext;
use probe_common::parse::PacketBytes;

/// The linear part of the packet.
pub(crate) struct XdpBytes {
    start: usize,
    end: usize,
}

impl XdpBytes {
    #[inline(always)]
    pub(crate) fn new(context: &XdpContext) -> Self {
        Self { start: context.data(), end: context.data_end() }
    }
}

impl PacketBytes for XdpBytes {
    #[inline(always)]
    fn header<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        let start = self.start + offset;
        if start + N > self.end {
            return None;
        }
        // SAFETY: `N` octets from `start` lie before `data_end`; the packet outlives the program's run
        // and nobody writes it meanwhile. The verifier checks the same.
        Some(unsafe { &*(start as *const [u8; N]) })
    }

    #[inline(always)]
    fn wire_length(&self) -> usize {
        self.end - self.start
    }
}

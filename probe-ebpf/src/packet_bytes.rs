// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The packet, with the bounds checks that the verifier wants to see.

use aya_ebpf::{
    helpers::generated::bpf_xdp_get_buff_len,
    programs::{TcContext, XdpContext},
};
use probe_common::parse::{MAX_EXTENSION_HEADERS, PacketBytes};

use crate::unknown_zero;

/// Beyond every offset: 14 octets of Ethernet, two tags, 40 of IPv6, and eight extension headers of at most 2048 (RFC
/// 8200 section 4.2) with 8 behind.
///
/// Behind an extension header the verifier would know other bounds of the offset for each way there, and follow each
/// to the end: kernel 6.1 comes to a million instructions so, and gives up. With this mask, on a number of which it
/// knows nothing, the bounds are the same wherever it comes from, so it follows one way only.
const MOST: usize = 0x7fff;

const _: () = assert!(14 + 2 * 4 + 40 + MAX_EXTENSION_HEADERS * 2048 + 8 < MOST);

/// Octets from `start` to `end`, as the verifier knows them.
#[derive(Clone, Copy)]
struct Linear {
    start: usize,
    end: usize,
}

impl Linear {
    #[inline(always)]
    fn header<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        let start = self.start + offset;
        if start + N > self.end {
            return None;
        }
        // SAFETY: `N` octets from `start` lie before the end of the packet's linear part; the packet outlives the
        // program's run and nobody writes it meanwhile. The verifier checks the same.
        Some(unsafe { &*(start as *const [u8; N]) })
    }

    /// See `MOST`.
    #[inline(always)]
    fn settled(offset: usize) -> usize {
        offset.wrapping_add(unknown_zero()) & MOST
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.end - self.start
    }
}

/// The linear part of a packet at XDP. `FRAGS`: the packet may go on in other buffers.
pub(crate) struct XdpBytes<'a, const FRAGS: bool> {
    context: &'a XdpContext,
    linear: Linear,
}

impl<'a, const FRAGS: bool> XdpBytes<'a, FRAGS> {
    #[inline(always)]
    pub(crate) fn new(context: &'a XdpContext) -> Self {
        Self { context, linear: Linear { start: context.data(), end: context.data_end() } }
    }

    /// Octets of the frame.
    #[inline(always)]
    pub(crate) fn frame_octets(&self) -> u64 {
        self.wire_length() as u64
    }
}

impl<const FRAGS: bool> PacketBytes for XdpBytes<'_, FRAGS> {
    #[inline(always)]
    fn header<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.linear.header(offset)
    }

    #[inline(always)]
    fn settled(&self, offset: usize) -> usize {
        Linear::settled(offset)
    }

    #[inline(always)]
    fn wire_length(&self) -> usize {
        if FRAGS {
            // SAFETY: the context is the one this program was called with.
            unsafe { bpf_xdp_get_buff_len(self.context.ctx) as usize }
        } else {
            self.linear.length()
        }
    }
}

/// The linear part of a socket buffer.
pub(crate) struct SkbBytes {
    linear: Linear,
    length: usize,
}

impl SkbBytes {
    /// The octets of a buffer. If fewer than `least` of its octets lie in its linear part, it is asked to have `want`
    /// there; that changes nothing of the packet.
    #[inline(always)]
    pub(crate) fn pulled(context: &TcContext, least: u32, want: u32) -> Self {
        let length = context.len();
        if context.data() + least as usize > context.data_end() && length > least {
            // If it fails, what is there has to do.
            let _refused = context.pull_data(if length < want { length } else { want });
        }
        Self { linear: Linear { start: context.data(), end: context.data_end() }, length: length as usize }
    }
}

impl PacketBytes for SkbBytes {
    #[inline(always)]
    fn header<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.linear.header(offset)
    }

    #[inline(always)]
    fn settled(&self, offset: usize) -> usize {
        Linear::settled(offset)
    }

    #[inline(always)]
    fn wire_length(&self) -> usize {
        self.length
    }
}

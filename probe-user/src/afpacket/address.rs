// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The address that a packet socket is bound to.
//!
//! JUSTIFICATION for unsafe: no crate at hand makes a `sockaddr_ll` but from raw memory.

use nix::sys::socket::{LinkAddr, SockaddrLike};

/// All protocols of an interface. None when the index is not one.
pub(super) fn all_of(interface: u32) -> Option<LinkAddr> {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).ok()?,
        sll_protocol: u16::try_from(libc::ETH_P_ALL).ok()?.to_be(),
        sll_ifindex: i32::try_from(interface).ok()?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).ok()?;
    // SAFETY: the pointer is to a whole sockaddr_ll of this length and family, which is only read.
    unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) }
}

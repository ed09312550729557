// SPDX-License-Identifier: Apache-2.0 OR MIT
//! packet → AF_XDP socket of its receive queue.

use aya_ebpf::{bindings::xdp_action, programs::XdpContext};

use crate::{
    maps::{INTERFACES, XSKS},
    place::Place,
};

/// Hands a packet to the socket of its queue and returns the verdict; nothing where there is no socket.
#[inline(always)]
pub(crate) fn steer(context: &XdpContext, place: &Place) -> Option<u32> {
    let interface = context.ingress_ifindex() as u32;
    // SAFETY: the value is read at once; user space replaces it as a whole.
    let entry = unsafe { INTERFACES.get(interface) }?;
    // SAFETY: the context is valid for the program's run.
    let queue = unsafe { (*context.ctx).rx_queue_index };
    if queue >= entry.sockets {
        return None;
    }
    let index = entry.first_socket + queue;
    // Whether one is there is asked first: a redirect that finds none would lose the packet.
    XSKS.get(index)?;
    let verdict = XSKS.redirect(index, xdp_action::XDP_DROP.into()).ok()?;
    place.counters().steered_packets += 1;
    Some(verdict)
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lab's sender: makes one frame of a stream and redirects it to an interface. Run by
//! `BPF_PROG_TEST_RUN` with live frames, never attached.
//!
//! The kernel hands the same few pages round and round, so a frame keeps what was written to it; only
//! what differs between packets is written here.
#![no_std]
#![no_main]

#[path = "../../../bench/lab/src/generator/plan.rs"]
#[allow(unreachable_pub, reason = "public in the crate that shares the file")]
mod plan;

use aya_ebpf::{
    Global,
    bindings::xdp_action::XDP_ABORTED,
    helpers::bpf_redirect,
    macros::{map, xdp},
    maps::Array,
    programs::XdpContext,
};
use plan::{Plan, Position};

/// Interface to send on.
#[unsafe(no_mangle)]
static INTERFACE: Global<u32> = Global::new(0);
/// Offset of the IP header.
#[unsafe(no_mangle)]
static NETWORK_OFFSET: Global<u32> = Global::new(14);
/// 1 for IPv6, 0 for IPv4.
#[unsafe(no_mangle)]
static IPV6: Global<u32> = Global::new(0);
/// Last four octets of the first flow's source address, as a number.
#[unsafe(no_mangle)]
static FIRST_SOURCE: Global<u32> = Global::new(0);
/// `Plan::flows`.
#[unsafe(no_mangle)]
static FLOWS: Global<u32> = Global::new(0);
/// `Plan::first_flow`.
#[unsafe(no_mangle)]
static FIRST_FLOW: Global<u32> = Global::new(0);
/// `Plan::stride`.
#[unsafe(no_mangle)]
static STRIDE: Global<u32> = Global::new(1);
/// `Plan::shortest`.
#[unsafe(no_mangle)]
static SHORTEST: Global<u32> = Global::new(64);
/// `Plan::length_mask`.
#[unsafe(no_mangle)]
static LENGTH_MASK: Global<u32> = Global::new(0);

/// Octets of an IPv4 header without options, and of an IPv6 header.
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

/// How far a sender is.
#[repr(C)]
struct Progress {
    /// Frames handed to the interface.
    sent: u64,
    position: Position,
    reserved: u32,
}

/// One entry: the program runs on one CPU at a time. Read by user space to know what was sent.
#[map]
static PROGRESS: Array<Progress> = Array::with_max_entries(1, 0);

/// Writes the next packet of the plan into the frame and sends it.
#[xdp]
pub fn generate(context: XdpContext) -> u32 {
    next(&context).unwrap_or(XDP_ABORTED)
}

#[inline(always)]
fn next(context: &XdpContext) -> Option<u32> {
    let plan = Plan {
        flows: FLOWS.load(),
        first_flow: FIRST_FLOW.load(),
        stride: STRIDE.load(),
        shortest: SHORTEST.load() as u16,
        length_mask: LENGTH_MASK.load() as u16,
    };
    let network = NETWORK_OFFSET.load() as usize;
    let progress = PROGRESS.get_ptr_mut(0)?;
    // SAFETY: a value of the array lives as long as the program, and only this CPU runs it.
    let progress = unsafe { &mut *progress };
    // The frame is checked before the plan advances: what is counted was written.
    let length_at = network + if IPV6.load() == 0 { 2 } else { 4 };
    let address_at = network + if IPV6.load() == 0 { 12 } else { 20 };
    let port_at = network + if IPV6.load() == 0 { IPV4_HEADER } else { IPV6_HEADER };
    let length: *mut [u8; 2] = octets(context, length_at)?;
    let address: *mut [u8; 4] = octets(context, address_at)?;
    let port: *mut [u8; 2] = octets(context, port_at)?;

    let planned = plan.advance(&mut progress.position);
    progress.sent += 1;
    let length_field = planned.length.wrapping_sub(if IPV6.load() == 0 { 0 } else { IPV6_HEADER as u16 });
    let source = FIRST_SOURCE.load().wrapping_add(planned.flow);
    // SAFETY: `octets` checked that these lie in the frame.
    unsafe {
        *length = length_field.to_be_bytes();
        *address = source.to_be_bytes();
        *port = plan::source_port(planned.flow).to_be_bytes();
    }
    // SAFETY: a helper call without pointers.
    Some(unsafe { bpf_redirect(INTERFACE.load(), 0) } as u32)
}

/// `N` octets of the frame, for writing. The IPv6 source address lies at offset 8 of its header; its last
/// four octets, which carry the flow's number, at 20.
#[inline(always)]
fn octets<const N: usize>(context: &XdpContext, offset: usize) -> Option<*mut [u8; N]> {
    let start = context.data() + offset;
    if start + N > context.data_end() {
        return None;
    }
    Some(start as *mut [u8; N])
}

/// Loops, so that the verifier refuses a program in which a panic can be reached.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's part: parse → meter, or steer. Where packets come in, at XDP or at the tc hook; where they go out, at
//! the tc hook.
//!
//! One CPU runs one of these programs at a time for its own half of every map (both hooks run with bottom halves
//! off), so nothing here takes a lock.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "atomic_xadd: core::sync::atomic has no read-modify-write on BPF")]

mod ingress;
mod maps;
mod micro_flow_cache;
mod packet_bytes;
mod place;
mod sampler;
mod spill_ring;
mod steer;
mod tc;

use aya_ebpf::{
    bindings::xdp_action,
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use probe_common::{ClockReading, KernelSettings};

use crate::{
    ingress::{Host, Tap},
    maps::{CLOCK, CONTROL},
    tc::{Egress, Ingress},
};

/// Written by the loader before the program is verified.
#[unsafe(no_mangle)]
static SETTINGS: KernelSettings = KernelSettings::UNSET;

macro_rules! xdp_program {
    ($(#[$doc:meta])* $name:ident, $kind:tt, $role:ty, details: $details:literal, frags: $frags:literal) => {
        xdp_program!(@ $kind, $(#[$doc])* $name, ingress::run::<$role, $details, $frags>);
    };
    (@ linear, $(#[$doc:meta])* $name:ident, $run:expr) => {
        $(#[$doc])*
        #[xdp]
        pub(crate) fn $name(context: XdpContext) -> u32 {
            $run(&context)
        }
    };
    (@ frags, $(#[$doc:meta])* $name:ident, $run:expr) => {
        $(#[$doc])*
        #[xdp(frags)]
        pub(crate) fn $name(context: XdpContext) -> u32 {
            $run(&context)
        }
    };
}

// Programs of their own, and no branches, because what a branch might need of the packet would occupy registers of
// those who do not take it.
xdp_program!(
    /// For a TAP or mirror port: every packet ends here, or in an AF_XDP socket.
    probe_tap, linear, Tap, details: false, frags: false
);
xdp_program!(
    /// For a host's own interface: every packet goes on to the stack.
    probe_host, linear, Host, details: false, frags: false
);
xdp_program!(
    /// As `probe_tap`, with details.
    probe_tap_details, linear, Tap, details: true, frags: false
);
xdp_program!(
    /// As `probe_host`, with details.
    probe_host_details, linear, Host, details: true, frags: false
);
xdp_program!(
    /// As `probe_tap`, where a frame may lie in several buffers (kernel 5.18).
    probe_tap_frags, frags, Tap, details: false, frags: true
);
xdp_program!(
    /// As `probe_host`, where a frame may lie in several buffers.
    probe_host_frags, frags, Host, details: false, frags: true
);
xdp_program!(
    /// As `probe_tap_details`, where a frame may lie in several buffers.
    probe_tap_details_frags, frags, Tap, details: true, frags: true
);
xdp_program!(
    /// As `probe_host_details`, where a frame may lie in several buffers.
    probe_host_details_frags, frags, Host, details: true, frags: true
);

/// At the tc hook of a host's own interface: what comes in.
#[classifier]
pub(crate) fn probe_ingress(context: TcContext) -> i32 {
    tc::run::<Ingress, false>(&context)
}

/// At the tc hook of a host's own interface: what goes out.
#[classifier]
pub(crate) fn probe_egress(context: TcContext) -> i32 {
    tc::run::<Egress, false>(&context)
}

/// As `probe_ingress`, with details.
#[classifier]
pub(crate) fn probe_ingress_details(context: TcContext) -> i32 {
    tc::run::<Ingress, true>(&context)
}

/// As `probe_egress`, with details.
#[classifier]
pub(crate) fn probe_egress_details(context: TcContext) -> i32 {
    tc::run::<Egress, true>(&context)
}

/// Never attached: run by user space (`BPF_PROG_TEST_RUN`) to learn how jiffies and `CLOCK_MONOTONIC`
/// relate.
#[xdp]
pub(crate) fn probe_clock(_: XdpContext) -> u32 {
    if let Some(reading) = CLOCK.get_ptr_mut(0) {
        // SAFETY: the helpers have no preconditions.
        let (jiffies, monotonic_ns) = unsafe { (bpf_jiffies64(), bpf_ktime_get_coarse_ns()) };
        // SAFETY: a value of an array lives as long as the map; user space runs this program once at a time.
        unsafe { *reading = ClockReading { jiffies, monotonic_ns } };
    }
    xdp_action::XDP_DROP
}

/// The settings as the loader wrote them. The read is volatile because the compiler sees only the
/// placeholder above.
#[inline(always)]
pub(crate) fn settings() -> &'static KernelSettings {
    core::hint::black_box(&SETTINGS)
}

/// Zero, which neither compiler nor verifier knows.
#[inline(always)]
pub(crate) fn unknown_zero() -> usize {
    CONTROL.zero() as usize
}

/// Loops, so that the verifier refuses a program in which a panic can be reached.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

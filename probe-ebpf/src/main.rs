// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The XDP program: parse → meter, and nothing else.
//!
//! One CPU runs it at a time for its own half of every map (XDP runs with bottom halves off), so nothing
//! here takes a lock.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "atomic_xadd: core::sync::atomic has no read-modify-write on BPF")]

mod maps;
mod micro_flow_cache;
mod packet_bytes;
mod place;
mod sampler;
mod spill_ring;

use aya_ebpf::{
    bindings::xdp_action,
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns},
    macros::xdp,
    programs::XdpContext,
};
use probe_common::{
    ClockReading, KernelSettings, Outcome,
    parse::{self, Handler, ParsedPacket},
};

use crate::{maps::CLOCK, packet_bytes::XdpBytes, place::Place};

/// Written by the loader before the program is verified.
#[unsafe(no_mangle)]
static SETTINGS: KernelSettings = KernelSettings::UNSET;

/// For a TAP or mirror port: every packet ends here.
#[xdp]
pub(crate) fn probe_tap(context: XdpContext) -> u32 {
    run::<false>(&context);
    xdp_action::XDP_DROP
}

/// For a host's own interface: every packet goes on to the stack.
#[xdp]
pub(crate) fn probe_host(context: XdpContext) -> u32 {
    run::<false>(&context);
    xdp_action::XDP_PASS
}

/// As `probe_tap`, with details. A program of its own, and not a branch, because what a branch might need of
/// the packet would occupy registers of those who ask for no details.
#[xdp]
pub(crate) fn probe_tap_details(context: XdpContext) -> u32 {
    run::<true>(&context);
    xdp_action::XDP_DROP
}

/// As `probe_host`, with details.
#[xdp]
pub(crate) fn probe_host_details(context: XdpContext) -> u32 {
    run::<true>(&context);
    xdp_action::XDP_PASS
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

#[inline(always)]
fn run<const DETAILS: bool>(context: &XdpContext) {
    let settings = settings();
    if let Some(place) = Place::of_this_cpu(settings) {
        meter::<DETAILS>(context, settings, &place);
    }
}

#[inline(always)]
fn meter<const DETAILS: bool>(context: &XdpContext, settings: &KernelSettings, place: &Place) {
    place.received(&XdpBytes::new(context));
    let outcome = sampler::select(settings, place).and_then(|()| {
        // Made anew, so that nothing of the packet lives across the calls that sampling may make.
        parse::parse_and(&XdpBytes::new(context), Meter::<DETAILS> { context, settings, place })
    });
    if let Err(outcome) = outcome {
        place.unmetered(outcome);
        log(context, outcome);
    }
}

/// What is done with a parsed packet.
struct Meter<'a, const DETAILS: bool> {
    context: &'a XdpContext,
    settings: &'a KernelSettings,
    place: &'a Place,
}

impl<const DETAILS: bool> Handler for Meter<'_, DETAILS> {
    type Output = ();

    #[inline(always)]
    fn handle(self, mut packet: ParsedPacket) -> Result<(), Outcome> {
        packet.key.set_ingress_interface(self.context.ingress_ifindex() as u32);
        micro_flow_cache::meter::<DETAILS>(self.settings, self.place, &packet)
    }
}

/// The settings as the loader wrote them. The read is volatile because the compiler sees only the
/// placeholder above.
#[inline(always)]
fn settings() -> &'static KernelSettings {
    core::hint::black_box(&SETTINGS)
}

#[cfg(feature = "log")]
fn log(context: &XdpContext, outcome: Outcome) {
    aya_log_ebpf::debug!(context, "not metered: outcome {}", outcome as u32);
}

#[cfg(not(feature = "log"))]
#[inline(always)]
fn log(_: &XdpContext, _: Outcome) {}

/// Loops, so that the verifier refuses a program in which a panic can be reached.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

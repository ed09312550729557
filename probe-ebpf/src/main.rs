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
mod spill_ring;

use aya_ebpf::{macros::xdp, programs::XdpContext};
use probe_common::{KernelSettings, Outcome, parse};

use crate::{micro_flow_cache::Place, packet_bytes::XdpBytes};

/// Written by the loader before the program is verified.
#[unsafe(no_mangle)]
static SETTINGS: KernelSettings = KernelSettings::UNSET;

/// Meters one packet and returns the verdict of the role: drop on a mirror port, pass on a host's own
/// interface.
#[xdp]
pub(crate) fn probe(context: XdpContext) -> u32 {
    let settings = settings();
    if let Some(place) = Place::of_this_cpu(settings) {
        meter(&context, settings, &place);
    }
    settings.verdict
}

#[inline(always)]
fn meter(context: &XdpContext, settings: &KernelSettings, place: &Place) {
    let bytes = XdpBytes::new(context);
    place.received(&bytes);
    let outcome = match parse::parse(&bytes) {
        Ok(mut packet) => {
            packet.key.set_ingress_interface(context.ingress_ifindex() as u32);
            micro_flow_cache::meter(settings, place, &packet)
        }
        Err(outcome) => Err(outcome),
    };
    if let Err(outcome) = outcome {
        place.unmetered(outcome);
        log(context, outcome);
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

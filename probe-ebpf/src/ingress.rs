// SPDX-License-Identifier: Apache-2.0 OR MIT
//! packet → slot at XDP, where packets come in.

use core::marker::PhantomData;

use aya_ebpf::{bindings::xdp_action, programs::XdpContext};
use probe_common::{
    KernelSettings, Outcome,
    parse::{self, Handler, ParsedPacket},
};

use crate::{
    micro_flow_cache::{self, Counted},
    packet_bytes::XdpBytes,
    place::Place,
    sampler, settings, steer,
};

/// What becomes of a packet after metering.
pub(crate) trait Role {
    /// The verdict.
    const VERDICT: u32;
    /// Whether packets may be redirected: of a host's own, none is taken away.
    const MAY_STEER: bool;
}

/// A TAP or mirror port.
pub(crate) struct Tap;

impl Role for Tap {
    const VERDICT: u32 = xdp_action::XDP_DROP;
    const MAY_STEER: bool = true;
}

/// A host's own interface.
pub(crate) struct Host;

impl Role for Host {
    const VERDICT: u32 = xdp_action::XDP_PASS;
    const MAY_STEER: bool = false;
}

/// Meters or steers a packet; returns the verdict.
#[inline(always)]
pub(crate) fn run<R: Role, const DETAILS: bool, const FRAGS: bool>(context: &XdpContext) -> u32 {
    let settings = settings();
    let Some(place) = Place::of_this_cpu(settings) else { return R::VERDICT };
    place.received(1, XdpBytes::<FRAGS>::new(context).frame_octets());
    let metered = sampler::select(settings, &place).and_then(|()| {
        if R::MAY_STEER && settings.steer == KernelSettings::STEER_ALL {
            if let Some(verdict) = steer::steer(context, &place) {
                return Ok(verdict);
            }
        }
        // Made anew, so that nothing of the packet lives across the calls that sampling may make.
        let bytes = XdpBytes::<FRAGS>::new(context);
        parse::parse_and(&bytes, Meter::<R, DETAILS> { context, settings, place: &place, role: PhantomData })
    });
    match metered {
        Ok(verdict) => verdict,
        Err(outcome) => {
            if R::MAY_STEER
                && settings.steer == KernelSettings::STEER_DEEP
                && outcome as u32 == Outcome::TooDeep as u32
            {
                if let Some(verdict) = steer::steer(context, &place) {
                    return verdict;
                }
            }
            place.unmetered(1, outcome);
            log(context, outcome);
            R::VERDICT
        }
    }
}

/// What is done with a parsed packet.
struct Meter<'a, R, const DETAILS: bool> {
    context: &'a XdpContext,
    settings: &'a KernelSettings,
    place: &'a Place,
    role: PhantomData<R>,
}

impl<R: Role, const DETAILS: bool> Handler for Meter<'_, R, DETAILS> {
    type Output = u32;

    #[inline(always)]
    fn handle(self, mut packet: ParsedPacket) -> Result<u32, Outcome> {
        // What this program cannot meter by itself: fragments have no ports, but for the first, which tells those of
        // the others; and of a header that was not reached nothing is known.
        if R::MAY_STEER
            && self.settings.steer == KernelSettings::STEER_DEEP
            && (packet.fragment.is_part() || packet.note.is_some())
        {
            if let Some(verdict) = steer::steer(self.context, self.place) {
                return Ok(verdict);
            }
        }
        packet.key.set_ingress_interface(self.context.ingress_ifindex() as u32);
        let counted = Counted { packets: 1, octets: packet.octets };
        micro_flow_cache::meter::<DETAILS>(self.settings, self.place, &packet, counted)?;
        Ok(R::VERDICT)
    }
}

#[cfg(feature = "log")]
fn log(context: &XdpContext, outcome: Outcome) {
    aya_log_ebpf::debug!(context, "not metered: outcome {}", outcome as u32);
}

#[cfg(not(feature = "log"))]
#[inline(always)]
fn log(_: &XdpContext, _: Outcome) {}

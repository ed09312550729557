// SPDX-License-Identifier: Apache-2.0 OR MIT
//! packet → slot at the tc hook of a host's own interface: what goes out, and what comes in where XDP would cost more
//! than it saves. A buffer here may stand for several packets, and its VLAN tag may lie beside it.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_UNSPEC},
    programs::TcContext,
};
use probe_common::{
    Direction, KernelSettings, Outcome,
    parse::{self, Handler, ParsedPacket},
};

use crate::{
    maps::INTERFACES,
    micro_flow_cache::{self, Counted},
    packet_bytes::SkbBytes,
    place::Place,
    sampler, settings,
};

/// On which way through the interface.
pub(crate) trait Way {
    /// As in the key.
    const DIRECTION: Direction;
}

/// Coming in.
pub(crate) struct Ingress;

impl Way for Ingress {
    const DIRECTION: Direction = Direction::Ingress;
}

/// Going out.
pub(crate) struct Egress;

impl Way for Egress {
    const DIRECTION: Direction = Direction::Egress;
}

/// Ethernet, IPv4 and TCP without options. Whoever made the buffer put at least so much of a packet into its linear
/// part; where not, it is pulled in there.
const LINEAR: u32 = 54;
/// How much is pulled.
const PULL: u32 = 128;

/// Meters what a buffer stands for; the buffer goes on as it is, to the next program or the next step.
#[inline(always)]
pub(crate) fn run<W: Way, const DETAILS: bool>(context: &TcContext) -> i32 {
    let settings = settings();
    if let Some(place) = Place::of_this_cpu(settings) {
        meter::<W, DETAILS>(context, settings, &place);
    }
    TC_ACT_UNSPEC
}

#[inline(always)]
fn meter<W: Way, const DETAILS: bool>(context: &TcContext, settings: &KernelSettings, place: &Place) {
    let skb = context.skb.skb;
    // SAFETY: the context is valid for the program's run, and the kernel checks each access to it.
    let gso_size = unsafe { (*skb).gso_size };
    // 0 where the buffer's maker is not trusted, as with what a virtual machine sends (`SKB_GSO_DODGY`).
    // SAFETY: as above.
    let segments = if gso_size == 0 { 1 } else { unsafe { (*skb).gso_segs } };
    place.received(segments.max(1), frame_octets(skb).into());
    let outcome = select::<W>(skb, settings, place).and_then(|()| {
        let bytes = SkbBytes::pulled(context, LINEAR, PULL);
        parse::parse_untagged_and(
            &bytes,
            stripped_tag(skb),
            Meter::<DETAILS> { skb, settings, place, gso_size, segments, direction: W::DIRECTION },
        )
    });
    if let Err(outcome) = outcome {
        place.unmetered(segments.max(1), outcome);
    }
}

/// Octets of the frames that the buffer stands for: the queueing layer has added up the headers that segmentation
/// will repeat (`qdisc_pkt_len_init` in net/core/dev.c); where it has not, the buffer's own.
#[inline(always)]
fn frame_octets(skb: *mut __sk_buff) -> u32 {
    // SAFETY: as in `meter`.
    let (length, wire_length) = unsafe { ((*skb).len, (*skb).wire_len) };
    length.max(wire_length)
}

#[inline(always)]
fn stripped_tag(skb: *mut __sk_buff) -> Option<u16> {
    // SAFETY: as in `meter`.
    let (present, tag) = unsafe { ((*skb).vlan_present, (*skb).vlan_tci) };
    if present != 0 { Some(tag as u16) } else { None }
}

/// Whether the packet is looked at.
#[inline(always)]
fn select<W: Way>(skb: *mut __sk_buff, settings: &KernelSettings, place: &Place) -> Result<(), Outcome> {
    if W::DIRECTION == Direction::Egress && settings.once != 0 {
        // SAFETY: as in `meter`.
        let came_in_on = unsafe { (*skb).ingress_ifindex };
        // SAFETY: the value is read at once; user space replaces it as a whole.
        if came_in_on != 0 && unsafe { INTERFACES.get(came_in_on) }.is_some_and(|entry| entry.ingress != 0) {
            return Err(Outcome::AlreadyMetered);
        }
    }
    sampler::select(settings, place)
}

/// What is done with a parsed packet.
struct Meter<'a, const DETAILS: bool> {
    skb: *mut __sk_buff,
    settings: &'a KernelSettings,
    place: &'a Place,
    gso_size: u32,
    /// 0: not known.
    segments: u32,
    direction: Direction,
}

impl<const DETAILS: bool> Handler for Meter<'_, DETAILS> {
    type Output = ();

    #[inline(always)]
    fn handle(self, mut packet: ParsedPacket) -> Result<(), Outcome> {
        // SAFETY: as in `meter`.
        packet.key.set_interface(unsafe { (*self.skb).ifindex }, self.direction);
        let (packets, octets) = packet.segments(self.gso_size, self.segments);
        micro_flow_cache::meter::<DETAILS>(self.settings, self.place, &packet, Counted { packets, octets })?;
        if self.segments == 0 {
            // Counted for one before its headers told how many it stands for.
            self.place.received(packets - 1, 0);
        }
        Ok(())
    }
}

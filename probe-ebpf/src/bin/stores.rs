// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs for the bench `xdp_cost`: an empty one, one that varies the flow from round to round and then
//! calls the program under test, and the probe's parser in front of the kernel's own hash maps. And one that lets
//! everything pass, for the bench `host`.
#![no_std]
#![no_main]

#[path = "../packet_bytes.rs"]
#[allow(dead_code, reason = "part of it is for socket buffers")]
mod packet_bytes;

use aya_ebpf::{
    bindings::xdp_action,
    helpers::generated::bpf_jiffies64,
    macros::{map, xdp},
    maps::{Array, LruPerCpuHashMap, PerCpuHashMap, ProgramArray},
    programs::XdpContext,
};
use probe_common::{FlowKey, Slot, Tick, parse};

use crate::packet_bytes::XdpBytes;

/// As at HZ=250; only the cost of using it counts here.
const JIFFY_NS: u64 = 4_000_000;

/// What to vary. Value: [state of the generator, mask of the flow number, offset of 4 octets in the frame].
#[map]
static VARY: Array<[u64; 3]> = Array::with_max_entries(1, 0);

/// The program under test, at 0.
#[map]
static UNDER_TEST: ProgramArray = ProgramArray::with_max_entries(1, 0);

#[map]
static PERCPU_HASH: PerCpuHashMap<FlowKey, Slot> = PerCpuHashMap::with_max_entries(1, 0);

#[map]
static LRU_PERCPU_HASH: LruPerCpuHashMap<FlowKey, Slot> = LruPerCpuHashMap::with_max_entries(1, 0);

/// What the cost of every other program is measured above.
#[xdp]
pub(crate) fn empty(_: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// What XDP itself takes of a host's traffic.
#[xdp]
pub(crate) fn pass(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Writes a random flow number into the frame (uniform over a power of two) and calls the program under
/// test.
#[xdp]
pub(crate) fn vary(context: XdpContext) -> u32 {
    if let Some(state) = VARY.get_ptr_mut(0) {
        // SAFETY: the value lives as long as the map, and only one test runs at a time.
        let [random, mask, offset] = unsafe { &mut *state };
        // Knuth's multiplier (MMIX); the high half is random enough to pick a flow.
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let flow = ((*random >> 32) & *mask) as u32;
        let at = context.data() + (*offset as usize & 0x3f);
        if at + 4 <= context.data_end() {
            // SAFETY: 4 octets from `at` lie before `data_end`.
            unsafe { (at as *mut u32).write_unaligned(flow) };
        }
    }
    // SAFETY: the context is the one this program was called with.
    let _failed = unsafe { UNDER_TEST.tail_call(&context, 0) };
    xdp_action::XDP_ABORTED
}

#[inline(always)]
fn parse_frame(context: &XdpContext) -> Option<parse::ParsedPacket> {
    let mut packet = parse::parse(&XdpBytes::<false>::new(context)).ok()?;
    packet.key.set_ingress_interface(context.ingress_ifindex() as u32);
    Some(packet)
}

macro_rules! hash_map_program {
    ($name:ident, $map:ident) => {
        /// The same parser and the same slot, in one of the kernel's hash maps.
        #[xdp]
        pub(crate) fn $name(context: XdpContext) -> u32 {
            let Some(packet) = parse_frame(&context) else { return xdp_action::XDP_DROP };
            // SAFETY: the helper has no preconditions.
            let now = Tick::from_ns(unsafe { bpf_jiffies64() }.wrapping_mul(JIFFY_NS));
            if let Some(slot) = $map.get_ptr_mut(&packet.key) {
                // SAFETY: a per-CPU value; only this CPU writes it.
                let slot = unsafe { &mut *slot };
                slot.packets += 1;
                slot.octets = slot.octets.wrapping_add(packet.octets);
                slot.last = now;
                slot.add_tcp_flags(packet.tcp_flags);
            } else {
                let slot = Slot::new(&packet.key, packet.octets, packet.tcp_flags, now, 0);
                let _full = $map.insert(&packet.key, &slot, 0);
            }
            xdp_action::XDP_DROP
        }
    };
}

hash_map_program!(percpu_hash, PERCPU_HASH);
hash_map_program!(lru_percpu_hash, LRU_PERCPU_HASH);

/// For `packet_bytes`. The verifier may know it: these programs are small enough, and run on the kernel at hand only.
#[inline(always)]
pub(crate) fn unknown_zero() -> usize {
    0
}

/// Loops, so that the verifier refuses a program in which a panic can be reached.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

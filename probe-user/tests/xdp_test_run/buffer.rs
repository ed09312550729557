// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Buffers that are not one frame in one piece: those of the stack, which may stand for several packets and know where
//! they came in, and frames in several buffers.

use std::net::Ipv4Addr;

use probe_common::{Detail, Direction, FlowKey, InterfaceEntry, parse::SliceBytes};
use probe_lab::{
    packets::{Packet, Transport},
    require_root,
};
use probe_user::net::Role;

use super::kernel::{Account, Hook, Kernel, LOOPBACK};

/// `struct __sk_buff` (include/uapi/linux/bpf.h) as far as the kernel lets a test fill it in
/// (`convert___skb_to_skb` in net/bpf/test_run.c).
#[derive(Clone, Copy, Default)]
struct Buffer {
    ingress_ifindex: u32,
    wire_len: u32,
    gso_segs: u32,
    gso_size: u32,
}

impl Buffer {
    fn octets(self) -> Vec<u8> {
        let mut octets = vec![0; 192];
        for (at, value) in
            [(36, self.ingress_ifindex), (160, self.wire_len), (164, self.gso_segs), (176, self.gso_size)]
        {
            octets[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        octets
    }
}

fn frame(transport: Transport, payload: usize) -> Vec<u8> {
    let (from, to) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    Packet { payload: vec![7; payload], ..Packet::new(from.into(), to.into(), transport) }.frame()
}

const UDP: Transport = Transport::Udp { source: 1, destination: 2 };
const TCP: Transport =
    Transport::Tcp { source: 1, destination: 2, flags: 0x10, sequence: 0, acknowledgement: 0 };

fn key(frame: &[u8], direction: Direction) -> FlowKey {
    let mut key = probe_common::parse::parse(&SliceBytes::new(frame)).unwrap().key;
    key.set_interface(LOOPBACK, direction);
    key
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_buffer_counts_for_its_segments() {
    require_root();
    for direction in [Direction::Ingress, Direction::Egress] {
        let mut kernel = Kernel::load_hook(Hook::Tc(direction), |_| {});
        for (transport, headers) in [(TCP, 40), (UDP, 28)] {
            // Two full segments and one of a single octet.
            let frame = frame(transport, 2801);
            // `qdisc_pkt_len_init` adds the headers that are repeated; a buffer whose segments were not counted by its
            // maker has 0 of them.
            let wire_len = u32::try_from(frame.len()).unwrap() + 2 * (14 + headers);
            for gso_segs in [3, 0] {
                let context = Buffer { wire_len, gso_segs, gso_size: 1400, ..Buffer::default() };
                kernel.run_in(&frame, Some(&context.octets()));
                let account = kernel.counted();
                let flow = account.flows[key(&frame, direction).words()];
                assert_eq!((flow.0, flow.1), (3, u64::from(2801 + 3 * headers)), "{gso_segs} segments");
                assert_eq!(account.received, (3, wire_len.into()), "{gso_segs} segments");
                assert!(account.outcomes.is_empty());
            }
        }
        // What is not metered counts for as many as are known.
        let mut other = frame(UDP, 2801);
        other[12..14].copy_from_slice(&[8, 6]);
        for (gso_segs, packets) in [(3, 3), (0, 1)] {
            let context = Buffer { gso_segs, gso_size: 1400, ..Buffer::default() };
            kernel.run_in(&other, Some(&context.octets()));
            let account = kernel.counted();
            assert_eq!(account.outcomes.get("not_ip"), Some(&packets));
            assert_eq!(account.received.0, packets);
        }
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn what_came_in_on_a_metered_interface_is_not_metered_going_out() {
    require_root();
    let frame = frame(UDP, 100);
    for (once, ingress, came_in_on, hook, metered) in [
        (true, 1, LOOPBACK, Direction::Egress, false),
        // It came from this host, or from an interface that is not metered, or only going out.
        (true, 1, 0, Direction::Egress, true),
        (true, 0, LOOPBACK, Direction::Egress, true),
        // What comes in is metered wherever it came in before (a tunnel, a bridge).
        (true, 1, LOOPBACK, Direction::Ingress, true),
        // As asked for.
        (false, 1, LOOPBACK, Direction::Egress, true),
    ] {
        let mut kernel = Kernel::load_hook(Hook::Tc(hook), |options| options.once = once);
        kernel
            .program
            .set_interface(LOOPBACK, InterfaceEntry { ingress, egress: 1, ..InterfaceEntry::default() })
            .unwrap();
        let context = Buffer { ingress_ifindex: came_in_on, ..Buffer::default() };
        kernel.run_in(&frame, Some(&context.octets()));
        let mut expected = Account { received: (1, frame.len() as u64), ..Account::default() };
        if metered {
            expected.add(&key(&frame, hook), 1, 128, 0, Detail::UNKNOWN);
        } else {
            expected.outcomes.insert("already_metered", 1);
        }
        assert_eq!(kernel.counted(), expected, "once {once}, ingress {ingress}, from {came_in_on}, {hook:?}");
    }
    let mut kernel = Kernel::load_hook(Hook::Tc(Direction::Egress), |options| options.once = true);
    let context = Buffer { ingress_ifindex: LOOPBACK, ..Buffer::default() };
    kernel.run_in(&frame, Some(&context.octets()));
    assert_eq!(kernel.counted().flows.len(), 1, "an interface that nobody meters");
}

#[test]
#[ignore = "needs root: run `make test`"]
fn frames_in_several_buffers_count_whole() {
    require_root();
    for role in [Role::Tap, Role::Host] {
        for details in [false, true] {
            let mut kernel = Kernel::load_hook(Hook::XdpFrags(role), |options| {
                options.sizing = options.sizing.with_details(details);
            });
            // On both sides of what a page holds, jumbo frames, and the largest packet.
            let lengths = [100, 3000, 3500, 3600, 4096, 8972, 9000, 40_000, 65_507];
            kernel.check(&lengths.map(|length| frame(UDP, length)));
            // A total length of 0 (BIG TCP): the frame tells, over all its buffers.
            for length in [1000, 9000, 65_000] {
                let mut big = frame(TCP, length);
                big[16..18].fill(0);
                kernel.check(&[big]);
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Details and sampling in the program: what is kept beside the slots, and which packets come into them.

use std::{collections::BTreeSet, net::Ipv4Addr};

use probe_common::{Detail, DetailedSlot, Direction, PacketSampling};
use probe_lab::{
    packets::{Packet, Transport},
    require_root,
};
use probe_user::{kernel::possible_cpus, net::Role, slots::Sizing};

use super::kernel::{Account, Kernel};

/// A UDP frame of a flow, with a TTL of its own.
fn udp_frame(flow: u8, ttl: u8, length: usize, source_mac: u8) -> Vec<u8> {
    let from = Ipv4Addr::new(10, 0, 0, flow);
    let transport = Transport::Udp { source: 1000, destination: 2000 };
    let mut packet = Packet::new(from.into(), Ipv4Addr::new(192, 0, 2, 1).into(), transport);
    packet.payload = vec![0; length - packet.ip_length()];
    let mut frame = packet.frame();
    (frame[11], frame[14 + 8]) = (source_mac, ttl);
    frame
}

#[test]
#[ignore = "needs root: run `make test`"]
fn details_are_written_on_a_miss_and_widened_on_a_hit() {
    require_root();
    let mut kernel = Kernel::load_detailed();
    for round in 0..2 {
        let mut first = udp_frame(1, 64, 100, 7);
        first[14 + 6] = 0x40;
        let mut last = udp_frame(1, 60, 1400, 8);
        last[14 + 6] = 0x20;
        kernel.run(&[first, udp_frame(1, 200, 60, 9), last]);
        let slots = kernel.slots();
        let [DetailedSlot { slot, detail }] = slots.as_slice() else { panic!("{slots:?}") };
        assert_eq!((slot.packets, slot.octets), (3, 1560));
        let [.., last_of_destination] = detail.destination_mac;
        assert_eq!((detail.source_mac[5], last_of_destination), (7, udp_frame(1, 1, 60, 0)[5]));
        assert_eq!((detail.min_length, detail.max_length), (60, 1400), "round {round}");
        assert_eq!((detail.min_ttl, detail.max_ttl), (60, 200));
        // Nothing is left over for the next round, in the other half or in this one.
        assert_eq!((detail.fragment_flags, detail.known), (0x60, Detail::IP | Detail::MAC));
        kernel.run(&[udp_frame(1, 1, 70, 1)]);
        assert_eq!(kernel.slots()[0].detail.max_ttl, 1);
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn spilled_details_arrive_with_their_slots() {
    require_root();
    // More flows than slots, so that most are evicted, some more than once; and the ring wraps.
    let mut kernel = Kernel::load_with(Role::Tap, |options| {
        options.sizing = Sizing::new(possible_cpus().unwrap(), 128, 1024).with_details(true);
    });
    let mut spilled = 0;
    for _ in 0..4 {
        let mut frames = Vec::new();
        for turn in 0..3u8 {
            for flow in 0..250 {
                frames.push(udp_frame(flow, flow ^ turn, 60 + usize::from(flow) + usize::from(turn), flow));
            }
        }
        let before: u64 = kernel.rings.iter().map(|ring| ring.head()).sum();
        kernel.run(&frames);
        let mut account = Account::default();
        for DetailedSlot { slot, detail } in kernel.slots() {
            account.add(&slot.key(), slot.packets.into(), slot.octets.into(), slot.tcp_flags(), detail);
        }
        assert_eq!(account.flows, Account::of_slices(&frames, true, Direction::Ingress).flows);
        spilled += kernel.rings.iter().map(|ring| ring.head()).sum::<u64>() - before;
    }
    assert!(spilled > 1024, "only {spilled} were spilled: the ring did not wrap");
}

/// Metered and sampled out, of frames that the program was given.
fn sampled(kernel: &mut Kernel, frames: &[Vec<u8>]) -> (u64, u64) {
    let account = kernel.account(frames);
    let sampled_out = account.outcomes.get("sampled_out").copied().unwrap_or(0);
    let metered = account.flows.values().map(|flow| flow.0).sum::<u64>();
    assert_eq!(account.received.0, frames.len() as u64);
    (metered, sampled_out)
}

#[test]
#[ignore = "needs root: run `make test`"]
fn every_nth_packet_of_a_cpu_is_metered_across_swaps() {
    require_root();
    let mut kernel =
        Kernel::load_with(Role::Tap, |options| options.packet_sampling = PacketSampling::every(7));
    let mut received = 0;
    let mut all = 0;
    for packets in [5, 1, 20, 100] {
        // Each account swaps the halves: the count goes on. One of them is ARP, and nobody looks at it.
        let mut frames: Vec<_> = (0..packets).map(|flow| udp_frame(flow, 64, 60, 1)).collect();
        frames[0][12..14].copy_from_slice(&[8, 6]);
        received += u64::from(packets);
        let account = kernel.account(&frames);
        all += account.flows.values().map(|flow| flow.0).sum::<u64>();
        all += account.outcomes.get("not_ip").copied().unwrap_or(0);
        assert_eq!(all, received / 7, "of {received} received");
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn packets_are_metered_by_chance() {
    require_root();
    let mut kernel =
        Kernel::load_with(Role::Tap, |options| options.packet_sampling = PacketSampling::one_in(4));
    let frames: Vec<_> = (0..100).cycle().take(8000).map(|flow| udp_frame(flow, 64, 60, 1)).collect();
    let (metered, sampled_out) = sampled(&mut kernel, &frames);
    assert_eq!(metered + sampled_out, 8000);
    // Six sigma of a binomial distribution.
    assert!((2000 - 233..=2000 + 233).contains(&metered), "{metered} of 8000");
}

#[test]
#[ignore = "needs root: run `make test`"]
fn flows_are_metered_whole_or_not_and_nested_while_the_rate_changes() {
    require_root();
    let mut kernel = Kernel::load_with(Role::Tap, |options| options.flow_sampling = 2);
    let frames: Vec<_> =
        (0..4).flat_map(|turn| (0..250).map(move |flow| udp_frame(flow, 64, 60 + turn, 1))).collect();
    let mut kept = |adaptive: u32| {
        kernel.control.set_flow_sampling(adaptive).unwrap();
        let account = kernel.account(&frames);
        let metered: u64 = account.flows.values().map(|flow| flow.0).sum();
        assert_eq!(metered + account.outcomes.get("sampled_out").copied().unwrap_or(0), 1000);
        assert!(account.flows.values().all(|flow| flow.0 == 4), "each flow whole or not at all");
        account.flows.into_keys().collect::<BTreeSet<_>>()
    };
    let (one, two, eight, back) = (kept(1), kept(2), kept(8), kept(0));
    assert_eq!(one, back);
    assert!(eight.is_subset(&two) && two.is_subset(&one));
    // Six sigma of 250 flows.
    assert!((125 - 48..=125 + 48).contains(&one.len()), "{} of 250 at 1 in 2", one.len());
    assert!((62 - 42..=62 + 42).contains(&two.len()), "{} of 250 at 1 in 4", two.len());
    assert!((15 - 14..=15 + 24).contains(&eight.len()), "{} of 250 at 1 in 16", eight.len());
}

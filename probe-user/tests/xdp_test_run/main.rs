// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The parser in the kernel is the parser in user space: packets through `BPF_PROG_TEST_RUN` of the real
//! program, and its maps read back, against the same octets through a slice.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod buffer;
mod kernel;
mod metering;
mod selection;
mod steering;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kernel::{Account, Hook, Kernel, LOOPBACK, SHORTEST};
use probe_common::{KernelSettings, PacketSampling};
use probe_lab::{
    packets::{Packet, Transport},
    require_root, vectors,
};
use probe_user::net::Role;
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};

/// So many batches; the message of a failure has the frame, so none is kept in a file.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<(Ipv4Addr, Ipv4Addr)>().prop_map(|(from, to)| (from.into(), to.into())),
        any::<(Ipv6Addr, Ipv6Addr)>().prop_map(|(from, to)| (from.into(), to.into())),
    ]
}

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![
        any::<(u16, u16)>().prop_map(|(source, destination)| Transport::Udp { source, destination }),
        any::<(u16, u16, u8)>().prop_map(|(source, destination, flags)| Transport::Tcp {
            source,
            destination,
            flags,
            sequence: 1,
            acknowledgement: 2
        }),
        any::<(u8, u8)>().prop_map(|(kind, code)| Transport::Icmp { kind, code, rest: 0 }),
        // Extension headers, SCTP, UDP-Lite and anything else, with a random payload behind.
        any::<u8>().prop_map(Transport::Other),
    ]
}

prop_compose! {
    /// A valid packet, then some octets changed, then perhaps cut.
    fn frame()(
        (source, destination) in addresses(),
        transport in transport(),
        tos in any::<u8>(),
        vlans in vec(any::<u16>(), 0..4),
        payload in vec(any::<u8>(), 0..120),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        length in prop::option::weighted(0.3, any::<prop::sample::Index>()),
    ) -> Vec<u8> {
        let packet = Packet { payload, tos, vlans, ..Packet::new(source, destination, transport) };
        let mut frame = packet.frame();
        for (at, octet) in changes {
            let at = at.index(frame.len());
            frame[at] = octet;
        }
        if let Some(length) = length {
            frame.truncate(SHORTEST + length.index(frame.len() - SHORTEST));
        }
        frame
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn packets_of_every_kind_agree() {
    require_root();
    for (hook, details) in Hook::ALL.into_iter().flat_map(|hook| [(hook, false), (hook, true)]) {
        let mut kernel =
            Kernel::load_hook(hook, |options| options.sizing = options.sizing.with_details(details));
        let mut runner = TestRunner::new(config(20));
        let kernel = std::cell::RefCell::new(&mut kernel);
        runner
            .run(&vec(frame(), 100), |frames| {
                kernel.borrow_mut().check(&frames);
                Ok(())
            })
            .unwrap();
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn arbitrary_octets_agree() {
    require_root();
    let mut kernel = Kernel::load_detailed();
    let mut runner = TestRunner::new(config(30));
    let kernel = std::cell::RefCell::new(&mut kernel);
    // Half of them say IPv4 or IPv6 where the type of an Ethernet frame stands.
    let noise = (vec(any::<u8>(), SHORTEST..200), 0..4u8).prop_map(|(mut octets, kind)| {
        match kind {
            0 => octets[12..14].copy_from_slice(&[0x08, 0x00]),
            1 => octets[12..14].copy_from_slice(&[0x86, 0xdd]),
            _ => {}
        }
        octets
    });
    runner
        .run(&vec(noise, 100), |frames| {
            kernel.borrow_mut().check(&frames);
            Ok(())
        })
        .unwrap();
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_cut_anywhere_agrees() {
    require_root();
    let mut kernel = Kernel::load(Role::Host);
    let from: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let to: Ipv6Addr = "2001:db8::2".parse().unwrap();
    for vlans in [vec![], vec![1], vec![1, 2], vec![1, 2, 3]] {
        for (source, destination) in [
            (IpAddr::from(Ipv4Addr::new(10, 0, 0, 1)), IpAddr::from(Ipv4Addr::new(10, 0, 0, 2))),
            (from.into(), to.into()),
        ] {
            let transport =
                Transport::Tcp { source: 1, destination: 2, flags: 0x12, sequence: 0, acknowledgement: 0 };
            let packet = Packet { vlans: vlans.clone(), ..Packet::new(source, destination, transport) };
            let whole = packet.frame();
            let cuts: Vec<Vec<u8>> =
                (SHORTEST..=whole.len()).map(|length| whole[..length].to_vec()).collect();
            kernel.check(&cuts);
        }
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn every_vector_agrees_with_its_answer() {
    require_root();
    for hook in Hook::ALL {
        let mut kernel =
            Kernel::load_hook(hook, |options| options.sizing = options.sizing.with_details(true));
        let mut compared = 0;
        for vector in vectors::all().unwrap() {
            if !hook.takes(&vector.frame) {
                continue;
            }
            let mut expected = Account { received: (1, vector.frame.len() as u64), ..Account::default() };
            match vector.expected {
                Ok(mut packet) => {
                    packet.key.set_interface(LOOPBACK, hook.direction());
                    expected.add(&packet.key, 1, packet.octets.into(), packet.tcp_flags, packet.detail);
                    expected.noted = u64::from(packet.note.is_some());
                }
                Err(outcome) => {
                    expected.outcomes.insert(outcome.name(), 1);
                }
            }
            let found = kernel.account(std::slice::from_ref(&vector.frame));
            assert_eq!(found, expected, "{hook:?}, {}: {}", vector.name, vector.sentence);
            compared += 1;
        }
        assert!(compared >= 55, "only {compared} vectors could be compared");
    }
}

/// The kernel's verifier takes each program with each setting that changes what it looks at.
#[test]
#[ignore = "needs root: run `make test`"]
fn every_program_is_taken_by_the_verifier() {
    require_root();
    for (steer, once) in [
        (KernelSettings::STEER_NONE, false),
        (KernelSettings::STEER_DEEP, true),
        (KernelSettings::STEER_ALL, true),
    ] {
        for (hook, details) in Hook::ALL.into_iter().flat_map(|hook| [(hook, false), (hook, true)]) {
            let mut kernel = Kernel::load_hook(hook, |options| {
                options.sizing = options.sizing.with_details(details);
                (options.steer, options.once) = (steer, once);
                options.packet_sampling = PacketSampling::every(1);
            });
            kernel.run(&[vec![0; 60]]);
        }
    }
}

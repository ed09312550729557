// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The parser in the kernel is the parser in user space: packets through `BPF_PROG_TEST_RUN` of the real
//! program, and its maps read back, against the same octets through a slice.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use aya::{TestRun, TestRunOptions};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use probe_common::{
    FlowKey, HashSeed, KEY_CUSTOMER_VLAN_MASK, KEY_VLAN_MASK, KEY_WORDS, Outcome,
    parse::{self, SliceBytes},
};
use probe_lab::{
    packets::{Packet, Transport},
    require_root, vectors,
};
use probe_user::{
    kernel::{Barrier, KernelOptions, LoadedProgram, Readers, Sizing, possible_cpus},
    net::Role,
};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};

/// The kernel refuses shorter test packets: an Ethernet header must be there.
const SHORTEST: usize = 14;
/// And longer ones too: a page has to hold them.
const LONGEST: usize = 3000;
/// A program that runs as a test is told the loopback interface of its namespace.
const LOOPBACK: u32 = 1;

/// What was counted, by either side.
#[derive(PartialEq, Eq, Default, Debug)]
struct Account {
    /// Packets, octets and flags for each key.
    flows: BTreeMap<[u64; KEY_WORDS], (u64, u64, u16)>,
    outcomes: BTreeMap<&'static str, u64>,
    noted: u64,
    received: (u64, u64),
}

impl Account {
    /// By the parser over slices.
    fn of_slices(frames: &[Vec<u8>]) -> Self {
        let mut account = Self::default();
        for frame in frames {
            account.received.0 += 1;
            account.received.1 += frame.len() as u64;
            match parse::parse(&SliceBytes::new(frame)) {
                Ok(mut packet) => {
                    packet.key.set_ingress_interface(LOOPBACK);
                    account.add(&packet.key, 1, packet.octets.into(), packet.tcp_flags);
                    account.noted += u64::from(packet.note.is_some());
                }
                Err(outcome) => *account.outcomes.entry(outcome.name()).or_default() += 1,
            }
        }
        account
    }

    fn add(&mut self, key: &FlowKey, packets: u64, octets: u64, flags: u16) {
        let flow = self.flows.entry(*key.words()).or_default();
        flow.0 += packets;
        flow.1 += octets;
        flow.2 |= flags;
    }
}

/// The program in the kernel, not attached.
struct Kernel {
    program: LoadedProgram,
    readers: Readers,
    barrier: Barrier,
    role: Role,
    seen: Account,
}

impl Kernel {
    fn load(role: Role) -> Self {
        // One CPU: a test run counts where it runs.
        let mut cpu = CpuSet::new();
        cpu.set(0).unwrap();
        sched_setaffinity(Pid::from_raw(0), &cpu).unwrap();
        let options = KernelOptions {
            sizing: Sizing::new(possible_cpus().unwrap(), 256, 4096),
            key_mask: KEY_VLAN_MASK | KEY_CUSTOMER_VLAN_MASK,
            seed: HashSeed::from_random([0x5a; 56]),
        };
        let mut program = LoadedProgram::load(options).unwrap();
        let readers = program.readers().unwrap();
        let barrier = program.barrier().unwrap();
        Self { program, readers, barrier, role, seen: Account::default() }
    }

    /// Runs the program over each frame and returns what its maps say.
    fn account(&mut self, frames: &[Vec<u8>]) -> Account {
        let program = self.program.program(self.role).unwrap();
        // enum xdp_action (include/uapi/linux/bpf.h): XDP_DROP, XDP_PASS.
        let verdict = if self.role == Role::Tap { 1 } else { 2 };
        for frame in frames {
            let result = program
                .test_run(TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() })
                .unwrap_or_else(|error| panic!("{} octets {frame:02x?}: {error}", frame.len()));
            assert_eq!(result.return_value, verdict);
        }
        self.readers.cache.flip().unwrap();
        self.barrier.wait().unwrap();
        let mut slots = Vec::new();
        while self.readers.cache.drain(1 << 20, &mut slots) {}
        for ring in &mut self.readers.spill {
            while ring.drain(1 << 20, &mut slots) > 0 {}
        }
        let mut account = Account::default();
        for slot in &slots {
            account.add(&slot.key(), slot.packets.into(), slot.octets.into(), slot.tcp_flags());
        }
        // The counters are never reset: what is new is the difference.
        let counters = self.readers.counters.of_epoch(0).plus(&self.readers.counters.of_epoch(1));
        let all = Account {
            flows: BTreeMap::new(),
            outcomes: Outcome::ALL
                .iter()
                .map(|outcome| (outcome.name(), counters.outcomes[*outcome as usize]))
                .collect(),
            noted: counters.notes.iter().sum(),
            received: (counters.received_packets, counters.received_octets),
        };
        for (name, count) in &all.outcomes {
            let new = count - self.seen.outcomes.get(name).copied().unwrap_or(0);
            if new > 0 {
                account.outcomes.insert(name, new);
            }
        }
        account.noted = all.noted - self.seen.noted;
        account.received = (all.received.0 - self.seen.received.0, all.received.1 - self.seen.received.1);
        self.seen = all;
        assert_eq!(counters.lost_records, 0, "the ring is large enough");
        account
    }

    /// Compares frame by frame once a batch differs, so that the message shows the one frame.
    fn check(&mut self, frames: &[Vec<u8>]) {
        let frames: Vec<Vec<u8>> = frames.iter().filter(|frame| frame.len() >= SHORTEST).cloned().collect();
        if self.account(&frames) == Account::of_slices(&frames) {
            return;
        }
        for frame in &frames {
            let one = std::slice::from_ref(frame);
            assert_eq!(self.account(one), Account::of_slices(one), "frame {frame:02x?}");
        }
        panic!("the whole differs although each frame agrees: {} frames", frames.len());
    }
}

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
    for role in [Role::Tap, Role::Host] {
        let mut kernel = Kernel::load(role);
        let mut runner = TestRunner::new(config(60));
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
    let mut kernel = Kernel::load(Role::Tap);
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
    let mut kernel = Kernel::load(Role::Host);
    let mut compared = 0;
    for vector in vectors::all().unwrap() {
        if !(SHORTEST..=LONGEST).contains(&vector.frame.len()) {
            continue;
        }
        let mut expected = Account { received: (1, vector.frame.len() as u64), ..Account::default() };
        match vector.expected {
            Ok(mut packet) => {
                packet.key.set_ingress_interface(LOOPBACK);
                expected.add(&packet.key, 1, packet.octets.into(), packet.tcp_flags);
                expected.noted = u64::from(packet.note.is_some());
            }
            Err(outcome) => {
                expected.outcomes.insert(outcome.name(), 1);
            }
        }
        let found = kernel.account(std::slice::from_ref(&vector.frame));
        assert_eq!(found, expected, "{}: {}", vector.name, vector.sentence);
        compared += 1;
    }
    assert!(compared >= 35, "only {compared} vectors could be compared");
}

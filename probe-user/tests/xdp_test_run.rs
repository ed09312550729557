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
    Detail, DetailedSlot, FlowKey, HashSeed, KEY_CUSTOMER_VLAN_MASK, KEY_VLAN_MASK, KEY_WORDS, Outcome,
    PacketSampling,
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
    /// Packets, octets, flags and details for each key; with a program without details, none are known.
    flows: BTreeMap<[u64; KEY_WORDS], (u64, u64, u16, Detail)>,
    outcomes: BTreeMap<&'static str, u64>,
    noted: u64,
    received: (u64, u64),
}

impl Account {
    /// By the parser over slices.
    fn of_slices(frames: &[Vec<u8>], details: bool) -> Self {
        let mut account = Self::default();
        for frame in frames {
            account.received.0 += 1;
            account.received.1 += frame.len() as u64;
            match parse::parse(&SliceBytes::new(frame)) {
                Ok(mut packet) => {
                    packet.key.set_ingress_interface(LOOPBACK);
                    let detail = if details { packet.detail } else { Detail::UNKNOWN };
                    account.add(&packet.key, 1, packet.octets.into(), packet.tcp_flags, detail);
                    account.noted += u64::from(packet.note.is_some());
                }
                Err(outcome) => *account.outcomes.entry(outcome.name()).or_default() += 1,
            }
        }
        account
    }

    /// In the order in which the packets came.
    fn add(&mut self, key: &FlowKey, packets: u64, octets: u64, flags: u16, detail: Detail) {
        let flow = self.flows.entry(*key.words()).or_default();
        flow.0 += packets;
        flow.1 += octets;
        flow.2 |= flags;
        flow.3.add_later(&detail);
    }
}

/// The program in the kernel, not attached.
struct Kernel {
    program: LoadedProgram,
    readers: Readers,
    barrier: Barrier,
    role: Role,
    details: bool,
    seen: Account,
}

impl Kernel {
    fn load(role: Role) -> Self {
        Self::load_with(role, |_| {})
    }

    fn load_with(role: Role, change: impl FnOnce(&mut KernelOptions)) -> Self {
        // One CPU: a test run counts where it runs.
        let mut cpu = CpuSet::new();
        cpu.set(0).unwrap();
        sched_setaffinity(Pid::from_raw(0), &cpu).unwrap();
        let mut options = KernelOptions {
            sizing: Sizing::new(possible_cpus().unwrap(), 256, 4096),
            packet_sampling: PacketSampling::OFF,
            flow_sampling: 1,
            key_mask: KEY_VLAN_MASK | KEY_CUSTOMER_VLAN_MASK,
            seed: HashSeed::from_random([0x5a; 56]),
        };
        change(&mut options);
        let details = options.sizing.details;
        let mut program = LoadedProgram::load(options).unwrap();
        let readers = program.readers().unwrap();
        let barrier = program.barrier().unwrap();
        Self { program, readers, barrier, role, details, seen: Account::default() }
    }

    /// With details, for the role of a mirror port.
    fn load_detailed() -> Self {
        Self::load_with(Role::Tap, |options| options.sizing = options.sizing.with_details(true))
    }

    /// Runs the program over each frame.
    fn run(&mut self, frames: &[Vec<u8>]) {
        let program = self.program.program(self.role).unwrap();
        // enum xdp_action (include/uapi/linux/bpf.h): XDP_DROP, XDP_PASS.
        let verdict = if self.role == Role::Tap { 1 } else { 2 };
        for frame in frames {
            let result = program
                .test_run(TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() })
                .unwrap_or_else(|error| panic!("{} octets {frame:02x?}: {error}", frame.len()));
            assert_eq!(result.return_value, verdict);
        }
    }

    /// What the ring holds, then what the cache does: the oldest first, for one key.
    fn slots(&mut self) -> Vec<DetailedSlot> {
        self.readers.cache.flip().unwrap();
        self.barrier.wait().unwrap();
        let mut slots: Vec<DetailedSlot> = Vec::new();
        for ring in &mut self.readers.spill {
            while ring.drain(1 << 20, &mut slots) > 0 {}
        }
        while self.readers.cache.drain(1 << 20, &mut slots) {}
        slots
    }

    /// Runs the program over each frame and returns what its maps say.
    fn account(&mut self, frames: &[Vec<u8>]) -> Account {
        self.run(frames);
        let mut account = Account::default();
        for DetailedSlot { slot, detail } in self.slots() {
            account.add(&slot.key(), slot.packets.into(), slot.octets.into(), slot.tcp_flags(), detail);
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
        if self.account(&frames) == Account::of_slices(&frames, self.details) {
            return;
        }
        for frame in &frames {
            let one = std::slice::from_ref(frame);
            assert_eq!(self.account(one), Account::of_slices(one, self.details), "frame {frame:02x?}");
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
    for (role, details) in [(Role::Tap, false), (Role::Host, false), (Role::Tap, true), (Role::Host, true)] {
        let mut kernel =
            Kernel::load_with(role, |options| options.sizing = options.sizing.with_details(details));
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
    let mut kernel = Kernel::load_detailed();
    let mut compared = 0;
    for vector in vectors::all().unwrap() {
        if !(SHORTEST..=LONGEST).contains(&vector.frame.len()) {
            continue;
        }
        let mut expected = Account { received: (1, vector.frame.len() as u64), ..Account::default() };
        match vector.expected {
            Ok(mut packet) => {
                packet.key.set_ingress_interface(LOOPBACK);
                expected.add(&packet.key, 1, packet.octets.into(), packet.tcp_flags, packet.detail);
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
        let before: u64 = kernel.readers.spill.iter().map(|ring| ring.head()).sum();
        kernel.run(&frames);
        let mut account = Account::default();
        for DetailedSlot { slot, detail } in kernel.slots() {
            account.add(&slot.key(), slot.packets.into(), slot.octets.into(), slot.tcp_flags(), detail);
        }
        assert_eq!(account.flows, Account::of_slices(&frames, true).flows);
        spilled += kernel.readers.spill.iter().map(|ring| ring.head()).sum::<u64>() - before;
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
        kernel.readers.cache.set_flow_sampling(adaptive).unwrap();
        let account = kernel.account(&frames);
        let metered: u64 = account.flows.values().map(|flow| flow.0).sum();
        assert_eq!(metered + account.outcomes.get("sampled_out").copied().unwrap_or(0), 1000);
        assert!(account.flows.values().all(|flow| flow.0 == 4), "each flow whole or not at all");
        account.flows.into_keys().collect::<std::collections::BTreeSet<_>>()
    };
    let (one, two, eight, back) = (kept(1), kept(2), kept(8), kept(0));
    assert_eq!(one, back);
    assert!(eight.is_subset(&two) && two.is_subset(&one));
    // Six sigma of 250 flows.
    assert!((125 - 48..=125 + 48).contains(&one.len()), "{} of 250 at 1 in 2", one.len());
    assert!((62 - 42..=62 + 42).contains(&two.len()), "{} of 250 at 1 in 4", two.len());
    assert!((15 - 14..=15 + 24).contains(&eight.len()), "{} of 250 at 1 in 16", eight.len());
}

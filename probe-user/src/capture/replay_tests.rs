// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A replay by its steps, with files that are made here.

use std::io::Cursor;
use std::time::Duration;

use std::collections::{BTreeMap, BTreeSet};

use probe_common::{Detail, HashSeed, KEY_BASE_MASK, Outcome, Sampler};
use probe_lab::pcap_file::{PcapFormat, PcapWriter};

use super::{CaptureReader, Replay, Step};
use crate::flow::{EndReason, FlowRecord, FlowTable, Sampling, Spread, TableOptions, Timestamp};
use crate::harvest::Outlet;
use crate::queue::{self, Consumer};

const START: u64 = 1_700_000_000_000_000_000;
const SECOND: u64 = 1_000_000_000;

fn replay(capacity: usize, queue_records: usize) -> (Replay, Consumer<FlowRecord>) {
    replay_with(capacity, queue_records, false)
}

fn replay_with(capacity: usize, queue_records: usize, details: bool) -> (Replay, Consumer<FlowRecord>) {
    let options = TableOptions {
        capacity,
        idle: Duration::from_secs(15),
        active: Duration::from_secs(300),
        tcp_end: true,
        spread: Spread::default(),
        key_mask: KEY_BASE_MASK,
        details,
        seed: HashSeed::from_random([7; 56]),
    };
    let table = FlowTable::on_demand(options, Timestamp::default()).unwrap();
    let (producer, consumer) = queue::ring(queue_records);
    (Replay::new(table, Outlet::new(producer)), consumer)
}

/// A UDP datagram from this port, 28 octets long.
fn udp(port: u16) -> Vec<u8> {
    let mut packet =
        vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 53, 0, 8, 0, 0];
    packet[20..22].copy_from_slice(&port.to_be_bytes());
    packet
}

/// A file of UDP packets without link header, at these times (ns after the start) from these ports.
fn file(link_type: u32, packets: &[(u64, u16)]) -> Vec<u8> {
    let format = PcapFormat { nanoseconds: true, link_type, ..PcapFormat::default() };
    let mut writer = PcapWriter::new(Vec::new(), format).unwrap();
    for (time, port) in packets {
        writer.write(START + time, &udp(*port)).unwrap();
    }
    writer.finish().unwrap()
}

const RAW: u32 = 101;

fn open(replay: &mut Replay, file: &[u8]) {
    replay.open(CaptureReader::new("test.pcap", Box::new(Cursor::new(file.to_vec()))).unwrap());
}

/// Takes what has come out.
fn pop(consumer: &mut Consumer<FlowRecord>) -> Vec<FlowRecord> {
    let mut records = Vec::new();
    while consumer.pop_into(&mut records, 1000) > 0 {}
    records
}

/// Runs to the end of the file, then of all flows; returns the records in the order they came.
fn run(replay: &mut Replay, consumer: &mut Consumer<FlowRecord>) -> Vec<FlowRecord> {
    let mut records = Vec::new();
    while !matches!(replay.step(), Step::Ended | Step::Fault(_)) {
        records.append(&mut pop(consumer));
    }
    while !matches!(replay.flush(), Step::Ended) {
        records.append(&mut pop(consumer));
    }
    records.append(&mut pop(consumer));
    assert_eq!(replay.live().packets, 0);
    assert_eq!(replay.counts().metered_packets, records.iter().map(|record| record.packets).sum::<u64>());
    assert_eq!(replay.counts().metered_octets, records.iter().map(|record| record.octets).sum::<u64>());
    records
}

#[test]
fn flows_expire_by_packet_time() {
    let (mut replay, mut consumer) = replay(100, 100);
    let packets =
        [(0, 1), (SECOND, 2), (14 * SECOND, 2), (16 * SECOND, 3), (17 * SECOND, 3), (28 * SECOND, 2)];
    open(&mut replay, &file(RAW, &packets));
    let records = run(&mut replay, &mut consumer);
    let summary: Vec<_> = records
        .iter()
        .map(|r| (r.key.source_port(), r.packets, r.start_ns - START, r.end_ns - START, r.end_reason))
        .collect();
    assert_eq!(summary[0], (1, 1, 0, 0, EndReason::Idle));
    assert_eq!(summary.len(), 3);
    assert!(summary.contains(&(2, 3, SECOND, 28 * SECOND, EndReason::Forced)));
    assert!(summary.contains(&(3, 2, 16 * SECOND, 17 * SECOND, EndReason::Forced)));
    assert_eq!(records[0].key.ingress_interface(), 0, "a file knows no interface of this host");
}

#[test]
fn a_leap_in_time_ends_the_flows_before_it() {
    let (mut replay, mut consumer) = replay(5000, 100_000);
    let mut packets: Vec<_> = (0..3000).map(|port| (u64::from(port), port)).collect();
    packets.push((86_400 * SECOND, 9999));
    open(&mut replay, &file(RAW, &packets));
    let mut clocks = Vec::new();
    loop {
        let ended = matches!(replay.step(), Step::Ended);
        clocks.push((replay.clock().0 - START, pop(&mut consumer).len()));
        if ended {
            break;
        }
    }
    let before: Vec<_> = clocks.iter().filter(|(clock, _)| *clock < 86_400 * SECOND).collect();
    let exported: usize = before.iter().map(|(_, records)| records).sum();
    assert_eq!(exported, 3000, "all flows ended before the leap: {clocks:?}");
    assert!(before.iter().all(|(clock, _)| *clock < 16 * SECOND), "the clock stops where they are over");
    assert_eq!(replay.clock().0, START + 86_400 * SECOND);
    assert_eq!(replay.live().flows, 1);
}

#[test]
fn time_that_runs_backwards_widens_the_flow() {
    let (mut replay, mut consumer) = replay(100, 100);
    open(&mut replay, &file(RAW, &[(5 * SECOND, 1), (3 * SECOND, 1), (4 * SECOND, 1)]));
    let records = run(&mut replay, &mut consumer);
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].start_ns, records[0].end_ns), (START + 3 * SECOND, START + 5 * SECOND));
    assert_eq!(replay.clock().0, START + 5 * SECOND);
}

#[test]
fn a_file_from_before_the_last_one_is_counted_too() {
    let (mut replay, mut consumer) = replay(100, 100);
    open(&mut replay, &file(RAW, &[(1000 * SECOND, 1)]));
    assert!(matches!(replay.step(), Step::Ended | Step::Busy));
    while !matches!(replay.step(), Step::Ended) {}
    open(&mut replay, &file(RAW, &[(0, 2), (1, 2)]));
    let records = run(&mut replay, &mut consumer);
    assert_eq!(records.iter().map(|record| record.packets).sum::<u64>(), 3);
}

#[test]
fn a_full_queue_makes_the_replay_wait_and_loses_nothing() {
    let (mut replay, mut consumer) = replay(10_000, 4);
    let packets: Vec<_> = (0..5000u64).map(|n| (n * SECOND / 50, u16::try_from(n).unwrap())).collect();
    open(&mut replay, &file(RAW, &packets));
    let mut waited = false;
    let mut records = Vec::new();
    loop {
        match replay.step() {
            Step::Waiting => {
                waited = true;
                assert!(replay.is_waiting());
                let live = replay.live().packets + replay.exported().packets;
                assert_eq!(live, replay.counts().metered_packets, "the ledger balances meanwhile");
                assert_eq!(consumer.pop_into(&mut records, 3), 3);
            }
            Step::Busy => {}
            Step::Ended => break,
            Step::Fault(error) => panic!("{error}"),
        }
    }
    while !matches!(replay.flush(), Step::Ended) {
        records.append(&mut pop(&mut consumer));
    }
    records.append(&mut pop(&mut consumer));
    assert!(waited);
    assert_eq!(records.len(), 5000);
}

#[test]
fn a_full_table_exports_early_and_loses_nothing() {
    let (mut replay, mut consumer) = replay(10, 100_000);
    let packets: Vec<_> = (0..1000u64).map(|n| (n, u16::try_from(n).unwrap())).collect();
    open(&mut replay, &file(RAW, &packets));
    let records = run(&mut replay, &mut consumer);
    assert_eq!(records.len(), 1000);
    assert_eq!(replay.table().expired(EndReason::LackOfResources), 990);
}

#[test]
fn what_is_not_metered_has_a_reason() {
    let (mut replay, mut consumer) = replay(100, 100);
    // LoRaTap (270), then Ethernet whose frames are too short for what they claim.
    open(&mut replay, &file(270, &[(0, 1), (1, 2)]));
    while !matches!(replay.step(), Step::Ended) {}
    open(&mut replay, &file(1, &[(0, 1)]));
    assert!(run(&mut replay, &mut consumer).is_empty());
    let counts = replay.counts();
    assert_eq!((counts.received_packets, counts.received_octets), (3, 84));
    assert_eq!(counts.unsupported_link_type, 2);
    assert_eq!(counts.outcomes[Outcome::NotIp as usize], 1);
}

#[test]
fn details_are_those_of_the_packets() {
    const ETHERNET: [u8; 14] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    let (mut replay, mut consumer) = replay_with(100, 100, true);
    // A capture without link header knows no MAC addresses.
    open(&mut replay, &file(RAW, &[(0, 1)]));
    while !matches!(replay.step(), Step::Ended) {}
    let format = PcapFormat { nanoseconds: true, link_type: 1, ..PcapFormat::default() };
    let mut writer = PcapWriter::new(Vec::new(), format).unwrap();
    for (time, source, ttl, flags) in [(5, 0x0b, 64, 0x40), (3, 0x0a, 60, 0), (9, 0x0c, 61, 0x20)] {
        let mut packet = [&ETHERNET[..], &udp(2)].concat();
        packet[11] = source;
        (packet[14 + 8], packet[14 + 6]) = (ttl, flags);
        writer.write(START + time, &packet).unwrap();
    }
    open(&mut replay, &writer.finish().unwrap());
    let records = run(&mut replay, &mut consumer);
    let details: BTreeMap<u16, Detail> = records.iter().map(|r| (r.key.source_port(), r.detail)).collect();
    assert_eq!(details[&1], Detail::of_ip(28, 64, 0, 0));
    let expected = Detail {
        source_mac: [2, 0, 0, 0, 0, 0x0a],
        destination_mac: [2, 0, 0, 0, 0, 2],
        min_length: 28,
        max_length: 28,
        min_ttl: 60,
        max_ttl: 64,
        fragment_flags: 0x60,
        known: Detail::IP | Detail::MAC,
        ..Detail::UNKNOWN
    };
    assert_eq!(details[&2], expected, "named by the earliest packet, not the first in the file");
}

/// Ports metered of 4000 packets in 1000 flows, under a sampling, with how many packets were of each.
fn sampled(sampling: &str) -> (BTreeMap<u16, u64>, u64) {
    let (replay, mut consumer) = replay(5000, 10_000);
    let sampling: Sampling = sampling.parse().unwrap();
    let mut replay =
        replay.with_sampler(Sampler::new(sampling.packets(), sampling.flow_interval().into(), 42));
    let packets: Vec<_> = (0..4000u64).map(|n| (n, u16::try_from(n % 1000).unwrap())).collect();
    open(&mut replay, &file(RAW, &packets));
    let records = run(&mut replay, &mut consumer);
    let counts = replay.counts();
    let sampled_out = counts.outcomes[Outcome::SampledOut as usize];
    assert_eq!((counts.received_packets, counts.metered_packets + sampled_out), (4000, 4000));
    let ports = records.iter().map(|record| (record.key.source_port(), record.packets)).collect();
    (ports, counts.metered_packets)
}

#[test]
fn packets_are_sampled_by_count_and_by_chance() {
    assert_eq!(sampled("off").1, 4000);
    assert_eq!(sampled("1:7").1, 4000 / 7);
    let (_, metered) = sampled("random:4");
    // Six sigma of a binomial distribution.
    assert!((1000 - 165..=1000 + 165).contains(&metered), "{metered} of 4000");
}

#[test]
fn flows_are_sampled_as_a_whole_and_nested() {
    let kept = |sampling: &str| {
        let (ports, metered) = sampled(sampling);
        assert!(ports.values().all(|packets| *packets == 4), "each flow whole or not at all");
        assert_eq!(metered, 4 * ports.len() as u64);
        ports.into_keys().collect::<BTreeSet<u16>>()
    };
    let (half, quarter, tenth) = (kept("flow:2"), kept("flow:4"), kept("flow:10"));
    // Six sigma.
    assert!((500 - 95..=500 + 95).contains(&half.len()), "{}", half.len());
    assert!((250 - 82..=250 + 82).contains(&quarter.len()), "{}", quarter.len());
    assert!(tenth.is_subset(&quarter) && quarter.is_subset(&half));
}

#[test]
fn a_fault_keeps_what_came_before_it() {
    let (mut replay, mut consumer) = replay(100, 100);
    let mut octets = file(RAW, &[(0, 1), (1, 1), (2, 1)]);
    octets.truncate(octets.len() - 1);
    open(&mut replay, &octets);
    loop {
        match replay.step() {
            Step::Fault(error) => {
                assert_eq!(error.offset, 24 + 2 * (16 + 28));
                break;
            }
            Step::Busy => {}
            step => panic!("{step:?}"),
        }
    }
    assert_eq!(run(&mut replay, &mut consumer)[0].packets, 2);
}

/// A fragment of the datagram that [`udp`] makes for this port: offset in units of 8 octets.
fn fragment(port: u16, identification: u16, offset: u16, more: bool) -> Vec<u8> {
    let mut packet = udp(port);
    packet[4..6].copy_from_slice(&identification.to_be_bytes());
    packet[6..8].copy_from_slice(&(offset | u16::from(more) << 13).to_be_bytes());
    packet
}

fn file_of(packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let format = PcapFormat { nanoseconds: true, link_type: RAW, ..PcapFormat::default() };
    let mut writer = PcapWriter::new(Vec::new(), format).unwrap();
    for (time, packet) in packets {
        writer.write(START + time, packet).unwrap();
    }
    writer.finish().unwrap()
}

/// Source port, packets, and when the first came.
fn summary(records: &[FlowRecord]) -> BTreeSet<(u16, u64, u64)> {
    records.iter().map(|r| (r.key.source_port(), r.packets, r.start_ns - START)).collect()
}

#[test]
fn fragments_join_their_first_by_packet_time() {
    let (mut replay, mut consumer) = replay(100, 100);
    let packets = [
        // In order, and the other way round.
        (0, fragment(1, 1, 0, true)),
        (1, fragment(0, 1, 5, false)),
        (2, fragment(0, 2, 5, false)),
        (3, fragment(2, 2, 0, true)),
        // Its first comes too late.
        (4, fragment(0, 3, 5, false)),
        (4 + SECOND, fragment(3, 3, 0, true)),
        // Its first never comes.
        (5 + SECOND, fragment(0, 4, 5, false)),
    ];
    open(&mut replay, &file_of(&packets));
    while !matches!(replay.step(), Step::Ended) {}
    // What waits is neither here nor there, and the ledger balances.
    assert_eq!((replay.counts().received_packets, replay.fragments().held, replay.live().packets), (6, 1, 6));
    let records = run(&mut replay, &mut consumer);
    let expected = [(1, 2, 0), (2, 2, 2), (0, 2, 4), (3, 1, 4 + SECOND)];
    assert_eq!(summary(&records), BTreeSet::from(expected));
    let (counts, fragments) = (replay.counts(), replay.fragments());
    assert_eq!((counts.received_packets, counts.metered_packets), (7, 7));
    assert_eq!((fragments.joined, fragments.no_first_in_time, fragments.held), (2, 2, 0));
    assert_eq!(counts.notes, [2, 0, 2]);
}

#[test]
fn a_datagram_may_go_on_in_the_next_file() {
    let (mut replay, mut consumer) = replay(100, 100);
    open(&mut replay, &file_of(&[(0, fragment(0, 1, 5, false))]));
    while !matches!(replay.step(), Step::Ended) {}
    open(&mut replay, &file_of(&[(9, fragment(7, 1, 0, true))]));
    assert_eq!(summary(&run(&mut replay, &mut consumer)), BTreeSet::from([(7, 2, 0)]));
}

#[test]
fn a_leap_in_time_lets_fragments_go_before_it() {
    let (mut replay, mut consumer) = replay(100, 100);
    let day = 86_400 * SECOND;
    let packets =
        [(0, fragment(0, 1, 5, false)), (day, fragment(7, 1, 0, true)), (day + 1, fragment(0, 1, 5, false))];
    open(&mut replay, &file_of(&packets));
    assert_eq!(summary(&run(&mut replay, &mut consumer)), BTreeSet::from([(0, 1, 0), (7, 2, day)]));
    // The other way round, the leap itself is a fragment that waits.
    let (mut replay, mut consumer) = self::replay(100, 100);
    let packets = [(0, udp(1)), (day, fragment(0, 1, 5, false)), (day + 1, fragment(7, 1, 0, true))];
    open(&mut replay, &file_of(&packets));
    assert_eq!(summary(&run(&mut replay, &mut consumer)), BTreeSet::from([(1, 1, 0), (7, 2, day)]));
}

#[test]
fn fragments_are_sampled_with_their_flow() {
    let packets: Vec<_> = (0..1000)
        .flat_map(|port| {
            let time = u64::from(port) * 4;
            [
                (time, udp(port)),
                (time + 1, fragment(0, port, 5, true)),
                (time + 2, fragment(port, port, 0, true)),
                (time + 3, fragment(0, port, 9, false)),
            ]
        })
        .collect();
    let (replay, mut consumer) = replay(2000, 2000);
    let mut replay = replay.with_sampler(Sampler::new(Sampling::Off.packets(), 4, 42));
    open(&mut replay, &file_of(&packets));
    let records = run(&mut replay, &mut consumer);
    assert!((150..350).contains(&records.len()), "{} flows", records.len());
    assert!(records.iter().all(|record| record.packets == 4), "each flow whole or not at all");
    assert_eq!(replay.counts().received_packets, 4000);
}

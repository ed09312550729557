// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::{collections::HashMap, time::Duration};

use probe_common::{Detail, Direction, FlowKey, HashSeed};
use proptest::prelude::*;

use super::*;
use crate::{
    export::select::ConversationHash,
    flow::{EndReason, FlowRecord, Timestamp},
};

const SECOND: u64 = 1_000_000_000;
const UNIX: u64 = 1_780_000_000 * SECOND;
const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];

fn pairing(records: usize) -> Pairing {
    let seed = HashSeed::from_random(std::array::from_fn(|i| [3, 141, 59][i % 3]));
    let limits = PairingLimits { records, wait: Duration::from_secs(2) };
    Pairing::new(limits, ConversationHash::new(seed))
}

fn at(seconds: u64) -> Timestamp {
    Timestamp(seconds * SECOND)
}

/// A UDP record from second `start` to second `end`.
fn record(source: ([u8; 4], u16), destination: ([u8; 4], u16), start: u64, end: u64) -> FlowRecord {
    let mut key = FlowKey::ipv4(source.0, destination.0, 17, 0);
    key.set_ports(source.1, destination.1);
    key.set_ingress_interface(3);
    FlowRecord {
        key,
        packets: 1,
        octets: 100,
        start_ns: UNIX + start * SECOND,
        end_ns: UNIX + end * SECOND,
        tcp_flags: 0,
        end_reason: EndReason::Idle,
        detail: Detail::UNKNOWN,
    }
}

fn echo(source: [u8; 4], destination: [u8; 4], kind: u16, start: u64) -> FlowRecord {
    let mut record = record((source, 0), (destination, 0), start, start + 1);
    record.key.set_protocol(1);
    record.key.set_ports(0, kind << 8);
    record
}

fn pair(forward: FlowRecord, reverse: FlowRecord) -> Leaving {
    Leaving::Pair { forward, reverse }
}

#[test]
fn the_direction_that_began_first_is_forward_whoever_comes_first() {
    let there = record((A, 40_000), (B, 53), 5, 6);
    let mut back = record((B, 53), (A, 40_000), 6, 7);
    back.key = {
        let mut key = FlowKey::ipv4(B, A, 17, 0xb8);
        key.set_ports(53, 40_000);
        key.set_ingress_interface(3);
        key
    };
    let mut table = pairing(10);
    assert_eq!(table.push(&there, at(0)), Leaving::Nothing);
    assert_eq!(table.push(&back, at(1)), pair(there, back), "the type of service may differ");
    assert_eq!(table.push(&back, at(1)), Leaving::Nothing);
    assert_eq!(table.push(&there, at(1)), pair(there, back));
    assert!(table.is_empty());
    // Both began at once: the lower port is the server's.
    let (there, back) = (record((A, 40_000), (B, 53), 5, 6), record((B, 53), (A, 40_000), 5, 6));
    assert_eq!(table.push(&back, at(2)), Leaving::Nothing);
    assert_eq!(table.push(&there, at(2)), pair(there, back));
}

#[test]
fn what_comes_in_and_goes_out_on_one_interface_is_a_pair() {
    let (mut there, mut back) = (record((A, 40_000), (B, 53), 5, 6), record((B, 53), (A, 40_000), 6, 7));
    there.key.set_interface(3, Direction::Egress);
    let mut table = pairing(10);
    assert_eq!(table.push(&back, at(0)), Leaving::Nothing);
    assert_eq!(table.push(&there, at(0)), pair(there, back), "the host asked");
    there.key.set_interface(3, Direction::Ingress);
    back.key.set_interface(3, Direction::Egress);
    assert_eq!(table.push(&there, at(0)), Leaving::Nothing);
    assert_eq!(table.push(&back, at(0)), pair(there, back), "the host answered");
    back.key.set_interface(4, Direction::Egress);
    assert_eq!([table.push(&there, at(0)), table.push(&back, at(0))], [Leaving::Nothing; 2]);
}

#[test]
fn what_differs_in_more_than_direction_is_no_pair() {
    let there = record((A, 40_000), (B, 53), 5, 6);
    let back = record((B, 53), (A, 40_000), 6, 7);
    let others: [fn(&mut FlowRecord); 7] = [
        |record| record.key.set_ports(54, 40_000),
        |record| record.key.set_ports(53, 40_001),
        |record| record.key.set_protocol(6),
        |record| record.key.set_ingress_interface(4),
        |record| record.key.set_vlans(1, 0),
        |record| record.key.set_vlans(0, 1),
        |record| {
            record.start_ns += 60 * SECOND;
            record.end_ns += 60 * SECOND;
        },
    ];
    for (i, change) in others.into_iter().enumerate() {
        let (mut table, mut other) = (pairing(10), back);
        change(&mut other);
        assert_eq!(table.push(&there, at(0)), Leaving::Nothing);
        assert_eq!(table.push(&other, at(0)), Leaving::Nothing, "change {i}");
        assert_eq!(table.len(), 2);
    }
}

#[test]
fn of_several_candidates_the_one_that_overlaps_most_is_taken() {
    let pieces = [(0, 10), (10, 20), (20, 30)].map(|(from, to)| record((A, 40_000), (B, 53), from, to));
    let back = record((B, 53), (A, 40_000), 11, 20);
    let mut table = pairing(10);
    for piece in &pieces {
        assert_eq!(table.push(piece, at(0)), Leaving::Nothing);
    }
    assert_eq!(table.push(&back, at(0)), pair(pieces[1], back));
    assert_eq!([table.release(at(0), true), table.release(at(0), true)], [Some(pieces[0]), Some(pieces[2])]);
}

#[test]
fn echo_requests_and_replies_are_pairs_and_other_icmp_does_not_wait() {
    let (request, reply) = (echo(A, B, 8, 6), echo(B, A, 0, 5));
    let mut table = pairing(10);
    assert_eq!(table.push(&reply, at(0)), Leaving::Nothing);
    assert_eq!(table.push(&request, at(0)), pair(request, reply), "a request comes before its reply");
    let mine = echo(B, A, 8, 5);
    assert_eq!([table.push(&request, at(0)), table.push(&mine, at(0))], [Leaving::Nothing; 2]);
    let unreachable = echo(B, A, 3, 5);
    assert_eq!(table.push(&unreachable, at(0)), Leaving::Alone(unreachable));
    let multicast = record((A, 5353), ([224, 0, 0, 251], 5353), 0, 1);
    assert_eq!(table.push(&multicast, at(0)), Leaving::Alone(multicast));
    let itself = record((A, 7), (A, 7), 0, 1);
    assert_eq!(table.push(&itself, at(0)), Leaving::Alone(itself));
}

#[test]
fn nobody_waits_longer_than_agreed() {
    let mut table = pairing(10);
    let records = [1, 2, 3].map(|port| record((A, port), (B, 53), 0, 1));
    for (seconds, record) in (10..).zip(&records) {
        assert_eq!(table.push(record, at(seconds)), Leaving::Nothing);
    }
    assert_eq!(table.release(Timestamp(12 * SECOND - 1), false), None);
    assert_eq!(table.release(at(12), false), Some(records[0]));
    assert_eq!(table.release(at(12), false), None);
    assert_eq!(table.release(at(12), true), Some(records[1]));
    assert_eq!(table.release(at(12), true), Some(records[2]));
    assert_eq!(table.release(at(12), true), None);
}

#[test]
fn when_all_places_are_taken_the_one_that_waited_longest_leaves() {
    let mut table = pairing(2);
    let records = [1, 2, 3].map(|port| record((A, port), (B, 53), 0, 1));
    assert_eq!([0, 1].map(|i| table.push(&records[i], at(0))), [Leaving::Nothing; 2]);
    assert_eq!(table.push(&records[2], at(0)), Leaving::Alone(records[0]));
    assert_eq!(table.len(), 2);
    // One flow alone cannot take all places either.
    let mut table = pairing(1000);
    let leaving =
        (0..20).map(|_| table.push(&records[0], at(0))).filter(|it| *it != Leaving::Nothing).count();
    assert_eq!((leaving, table.len()), (12, 8));
}

#[derive(Clone, Debug)]
enum Event {
    Push { source: usize, destination: usize, protocol: u8, kind: u8, start: u64, length: u64 },
    Wait { milliseconds: u64 },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    // Few ends, so that they meet.
    let push = (0usize..4, 0usize..4, prop_oneof![Just(17u8), Just(6), Just(1)], 0u8..10, 0u64..60, 0u64..20)
        .prop_map(|(source, destination, protocol, kind, start, length)| Event::Push {
            source,
            destination,
            protocol,
            kind,
            start,
            length,
        });
    let wait = (0u64..3000).prop_map(|milliseconds| Event::Wait { milliseconds });
    prop::collection::vec(prop_oneof![6 => push, 1 => wait], 0..400)
}

const ENDS: [([u8; 4], u16); 4] = [(A, 53), (A, 1000), (B, 53), (B, 2000)];

/// Packets, octets and records by flow key.
type Sums = HashMap<FlowKey, (u64, u64, u64)>;

fn add(sums: &mut Sums, record: &FlowRecord) {
    let sum = sums.entry(record.key).or_default();
    *sum = (sum.0 + record.packets, sum.1 + record.octets, sum.2 + 1);
}

fn take(sums: &mut Sums, leaving: &Leaving) {
    match leaving {
        Leaving::Nothing => {}
        Leaving::Alone(record) => add(sums, record),
        Leaving::Pair { forward, reverse } => {
            assert_eq!(forward.key.source(), reverse.key.destination());
            assert_eq!(forward.key.destination(), reverse.key.source());
            assert_eq!(forward.key.protocol(), reverse.key.protocol());
            if forward.key.protocol() != 1 {
                assert_eq!(forward.key.source_port(), reverse.key.destination_port());
                assert!(forward.start_ns <= reverse.start_ns);
            }
            add(sums, forward);
            add(sums, reverse);
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_nothing_told_twice_and_all_bounds_hold(events in events(), limit in 0usize..12) {
        let (mut given, mut left) = (Sums::new(), Sums::new());
        let mut table = pairing(limit);
        let mut now = Timestamp(0);
        // When the records that wait came, by a number that each carries in its octets.
        let mut came = HashMap::new();
        for (n, event) in (1u64..).zip(&events) {
            match *event {
                Event::Wait { milliseconds } => {
                    now = now + Duration::from_millis(milliseconds);
                    while let Some(record) = table.release(now, false) {
                        prop_assert!(now.since(came[&record.octets]) >= Duration::from_secs(2));
                        came.remove(&record.octets);
                        take(&mut left, &Leaving::Alone(record));
                    }
                    for came in came.values() {
                        prop_assert!(now.since(*came) < Duration::from_secs(2));
                    }
                }
                Event::Push { source, destination, protocol, kind, start, length } => {
                    let mut new = record(ENDS[source], ENDS[destination], start, start + length);
                    new.key.set_protocol(protocol);
                    if protocol == 1 {
                        new.key.set_ports(0, u16::from(kind) << 8);
                    }
                    (new.packets, new.octets) = (n * 3, n);
                    add(&mut given, &new);
                    came.insert(n, now);
                    let leaving = table.push(&new, now);
                    match &leaving {
                        Leaving::Nothing => {}
                        Leaving::Alone(record) => { came.remove(&record.octets); }
                        Leaving::Pair { forward, reverse } => {
                            came.remove(&forward.octets);
                            came.remove(&reverse.octets);
                        }
                    }
                    take(&mut left, &leaving);
                }
            }
            prop_assert!(table.len() <= limit);
            prop_assert_eq!(table.len(), came.len());
        }
        while let Some(record) = table.release(now, true) {
            take(&mut left, &Leaving::Alone(record));
        }
        prop_assert!(table.is_empty());
        prop_assert_eq!(given, left);
    }
}

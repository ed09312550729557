// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The rules of the table, one by one. `tests/flow_model.rs` tries them in random order.

use std::time::Duration;

use probe_common::{
    Detail, DetailedSlot, FlowKey, HashSeed, KEY_BASE_MASK, KEY_CUSTOMER_VLAN_MASK, KEY_VLAN_MASK, Slot, Tick,
};

use super::*;

const SECOND: u64 = 1_000_000_000;
/// Where the tests' clock begins, and what makes it Unix time.
const START: u64 = 1000 * SECOND;
const WALL: WallOffset = WallOffset(1_700_000_000 * 1_000_000_000);
/// A step of the wheel, and a little.
const LATE: u64 = SECOND / 7;

const FIN: u16 = 1;
const SYN: u16 = 2;
const RST: u16 = 4;
const ACK: u16 = 16;

fn options(capacity: usize) -> TableOptions {
    TableOptions {
        capacity,
        idle: Duration::from_secs(15),
        active: Duration::from_secs(300),
        tcp_end: true,
        spread: Spread::default(),
        key_mask: KEY_BASE_MASK,
        details: false,
        seed: HashSeed::from_random([7; 56]),
    }
}

/// A table and the records that came out of it, with a clock that counts from the start.
struct Bench {
    table: FlowTable,
    records: Vec<FlowRecord>,
}

impl Bench {
    fn new(options: TableOptions) -> Self {
        Self { table: FlowTable::new(options, Timestamp(START)).unwrap(), records: Vec::new() }
    }

    fn see(&mut self, key: FlowKey, ns: u64, tcp_flags: u16) {
        let seen = Observation::packet(key, 100, Timestamp(START + ns), tcp_flags);
        self.table.merge(&[seen], moment(ns), &mut self.records);
    }

    fn expire(&mut self, ns: u64) -> Vec<EndReason> {
        while self.table.expire(moment(ns), 1, &mut self.records) {}
        self.reasons()
    }

    /// Returns the number of calls it took.
    fn flush(&mut self, mut flush: Flush, ns: u64, budget: usize) -> u32 {
        let mut calls = 1;
        while self.table.flush(&mut flush, moment(ns), budget, &mut self.records) {
            calls += 1;
        }
        calls
    }

    fn reasons(&mut self) -> Vec<EndReason> {
        self.records.drain(..).map(|record| record.end_reason).collect()
    }
}

fn moment(ns: u64) -> Moment {
    Moment { now: Timestamp(START + ns), wall: WALL }
}

fn udp(number: u8) -> FlowKey {
    FlowKey::ipv4([10, 0, 0, number], [192, 0, 2, 1], 17, 0)
}

fn tcp(number: u8) -> FlowKey {
    FlowKey::ipv4([10, 0, 0, number], [192, 0, 2, 1], 6, 0)
}

#[test]
fn a_record_holds_the_sum_and_unix_time() {
    let mut bench = Bench::new(options(4));
    let wall = 1_700_000_000 * SECOND + START;
    bench.see(tcp(1), 61 * SECOND, SYN | ACK);
    bench.see(tcp(1), 63 * SECOND, 8);
    bench.see(tcp(1), 62 * SECOND, 0);
    assert_eq!(bench.table.live(), Totals { flows: 1, packets: 3, octets: 300 });
    while bench.table.expire(moment(90 * SECOND), 8, &mut bench.records) {}
    let expected = FlowRecord {
        key: tcp(1),
        packets: 3,
        octets: 300,
        start_ns: wall + 61 * SECOND,
        end_ns: wall + 63 * SECOND,
        tcp_flags: SYN | ACK | 8,
        end_reason: EndReason::Idle,
        detail: Detail::UNKNOWN,
    };
    assert_eq!(bench.records, [expected]);
    assert_eq!((bench.table.created(), bench.table.expired(EndReason::Idle)), (1, 1));
    assert_eq!(bench.table.live(), Totals::default());
}

#[test]
fn idle_means_longer_than_the_timeout_for_packets_and_for_the_timer() {
    let mut bench = Bench::new(options(4));
    bench.see(udp(1), 0, 0);
    assert_eq!(bench.expire(15 * SECOND), []);
    bench.see(udp(1), 15 * SECOND, 0);
    assert_eq!(bench.reasons(), [], "exactly the timeout is not longer than it");
    bench.see(udp(1), 30 * SECOND + 1, 0);
    assert_eq!(bench.reasons(), [EndReason::Idle], "without a call of expire");
    assert_eq!(bench.table.live(), Totals { flows: 1, packets: 1, octets: 100 });
    assert_eq!(bench.expire(45 * SECOND), []);
    assert_eq!(bench.expire(45 * SECOND + LATE), [EndReason::Idle]);
}

#[test]
fn a_flow_that_goes_on_is_exported_at_the_active_timeout_and_begins_anew() {
    let mut bench = Bench::new(options(4));
    for second in (0..300).step_by(10) {
        bench.see(udp(1), second * SECOND, 0);
        assert_eq!(bench.expire(second * SECOND), []);
    }
    bench.see(udp(1), 300 * SECOND - 1, 0);
    assert_eq!(bench.reasons(), []);
    bench.see(udp(1), 300 * SECOND, 0);
    assert_eq!(bench.reasons(), [EndReason::Active]);
    assert_eq!(bench.table.live().packets, 1);
    for second in (310..600).step_by(10) {
        bench.see(udp(1), second * SECOND, 0);
        assert_eq!(bench.expire(second * SECOND), []);
    }
    assert_eq!(bench.expire(600 * SECOND + LATE), [EndReason::Active], "without a packet");
    assert_eq!(bench.table.live().flows, 0);
}

#[test]
fn an_active_timeout_beyond_the_wheel_is_kept() {
    let mut bench = Bench::new(TableOptions {
        idle: Duration::from_secs(7200),
        active: Duration::from_secs(3600),
        ..options(4)
    });
    bench.see(udp(1), 0, 0);
    for second in (0..3600).step_by(100) {
        assert_eq!(bench.expire(second * SECOND), []);
    }
    assert_eq!(bench.expire(3600 * SECOND + LATE), [EndReason::Active]);
}

#[test]
fn a_tcp_connection_ends_a_second_after_its_last_packet() {
    for flag in [FIN, RST] {
        let mut bench = Bench::new(options(4));
        bench.see(tcp(1), 0, SYN);
        bench.see(tcp(1), SECOND, flag | ACK);
        bench.see(tcp(1), 2 * SECOND, ACK);
        assert_eq!(bench.expire(3 * SECOND), [], "the last acknowledgement put it off");
        assert_eq!(bench.table.live().packets, 3);
        assert_eq!(bench.expire(3 * SECOND + LATE), [EndReason::End]);
        bench.see(tcp(1), 4 * SECOND, ACK);
        assert_eq!(bench.table.created(), 2);
    }
}

#[test]
fn a_packet_after_the_linger_begins_a_new_flow_without_a_call_of_expire() {
    let mut bench = Bench::new(options(4));
    bench.see(tcp(1), 0, SYN);
    bench.see(tcp(1), 0, RST);
    bench.see(tcp(1), SECOND, ACK);
    bench.see(tcp(1), 2 * SECOND + 1, ACK);
    assert_eq!(bench.reasons(), [EndReason::End]);
    assert_eq!(bench.table.live().packets, 1);
}

#[test]
fn a_new_connection_on_the_same_ports_is_a_new_flow_at_once() {
    let mut bench = Bench::new(options(4));
    bench.see(tcp(1), 0, SYN);
    bench.see(tcp(1), SECOND, FIN | ACK);
    bench.see(tcp(1), SECOND, SYN);
    assert_eq!(bench.reasons(), [], "no later than the last packet: the order is not known");
    bench.see(tcp(1), SECOND + 1, SYN);
    assert_eq!(bench.reasons(), [EndReason::End]);
    assert_eq!(bench.table.live().packets, 1);
    bench.see(tcp(1), 4 * SECOND, SYN);
    assert_eq!(bench.reasons(), [], "a flow that has not ended may repeat its SYN");
}

#[test]
fn fin_and_rst_mean_nothing_when_switched_off_or_without_tcp() {
    let mut bench = Bench::new(TableOptions { tcp_end: false, ..options(4) });
    bench.see(tcp(1), 0, FIN);
    assert_eq!(bench.expire(14 * SECOND), []);
    let mut bench = Bench::new(options(4));
    bench.see(udp(1), 0, FIN);
    assert_eq!(bench.expire(14 * SECOND), []);
    assert_eq!(bench.expire(15 * SECOND + LATE), [EndReason::Idle]);
}

#[test]
fn times_out_of_order_widen_the_flow() {
    let mut bench = Bench::new(options(4));
    bench.see(udp(1), 10 * SECOND, 0);
    bench.see(udp(1), 4 * SECOND, 0);
    let seen = Observation {
        key: udp(1),
        packets: 2,
        octets: 2,
        first: Timestamp(START + 12 * SECOND),
        last: Timestamp(START + 11 * SECOND),
        tcp_flags: 0,
        detail: (),
    };
    bench.table.merge(&[seen], moment(12 * SECOND), &mut bench.records);
    bench.see(udp(2), 0, 0);
    bench.flush(Flush::all(EndReason::Forced), 12 * SECOND, 9);
    let times: Vec<_> = bench
        .records
        .iter()
        .map(|record| (record.start_ns - WALL.0.unsigned_abs() - START, record.end_ns))
        .collect();
    let wall = WALL.0.unsigned_abs() + START;
    assert_eq!(times, [(4 * SECOND, wall + 12 * SECOND), (0, wall)]);
}

#[test]
fn a_start_that_moves_back_brings_the_active_timeout_nearer() {
    let mut bench = Bench::new(TableOptions { idle: Duration::from_secs(1000), ..options(4) });
    bench.see(udp(1), 100 * SECOND, 0);
    bench.see(udp(1), 0, 0);
    assert_eq!(bench.expire(300 * SECOND + LATE), [EndReason::Active]);
}

#[test]
fn a_slot_carries_its_ticks_over() {
    let mut bench = Bench::new(options(4));
    let (first, last) = (START - 3 * SECOND, START - SECOND);
    let mut slot = Slot::new(&tcp(1), 60, SYN, Tick::from_ns(first), 1);
    slot.packets = 5;
    slot.octets = 400;
    slot.last = Tick::from_ns(last);
    bench.table.merge(&[slot, Slot::default(), slot], moment(0), &mut bench.records);
    assert_eq!(bench.table.live(), Totals { flows: 1, packets: 10, octets: 800 });
    let record = bench.table.snapshot(moment(0)).next().unwrap();
    assert_eq!((record.key, record.tcp_flags), (tcp(1), SYN));
    let tick = |ns: u64| WALL.0.unsigned_abs() + (ns >> 14 << 14);
    assert_eq!((record.start_ns, record.end_ns), (tick(first), tick(last)));
}

#[test]
fn a_full_table_exports_the_flow_that_was_quiet_for_longest() {
    let mut bench = Bench::new(options(3));
    for number in 1..=3 {
        bench.see(udp(number), u64::from(number) * SECOND, 0);
    }
    bench.see(udp(1), 4 * SECOND, 0);
    bench.see(udp(4), 5 * SECOND, 0);
    assert_eq!(bench.records.len(), 1);
    assert_eq!((bench.records[0].key, bench.records[0].end_reason), (udp(2), EndReason::LackOfResources));
    assert_eq!(bench.table.live(), Totals { flows: 3, packets: 4, octets: 400 });
    // All in one batch: what it looked up ahead leaves the table while it is merged.
    let flood: Vec<_> = (1..=32)
        .map(|number| Observation::packet(udp(number), 1, Timestamp(START + 6 * SECOND), 0))
        .collect();
    bench.table.merge(&flood, moment(6 * SECOND), &mut bench.records);
    assert_eq!(bench.table.live().flows, 3);
    let out: u64 = bench.records.iter().map(|record| record.packets).sum();
    assert_eq!(out + bench.table.live().packets, 5 + 32);
}

#[test]
fn a_table_of_one_flow_works() {
    let mut bench = Bench::new(options(1));
    for number in 1..=100 {
        bench.see(udp(number), 0, 0);
        bench.see(udp(number), 0, 0);
    }
    assert_eq!(bench.reasons(), [EndReason::LackOfResources; 99]);
    assert_eq!(bench.table.live().packets, 2);
}

#[test]
fn expiry_stops_at_its_budget_and_says_so() {
    let mut bench = Bench::new(options(100));
    for number in 0..100 {
        bench.see(udp(number), 0, 0);
    }
    let mut calls = 1;
    while bench.table.expire(moment(20 * SECOND), 30, &mut bench.records) {
        assert_eq!(bench.records.len(), 30 * calls);
        calls += 1;
    }
    assert_eq!((calls, bench.records.len()), (4, 100));
}

#[test]
fn a_forced_walk_takes_everything_in_steps() {
    let mut bench = Bench::new(options(100));
    for number in 0..100 {
        bench.see(udp(number), 0, 0);
    }
    let calls = bench.flush(Flush::all(EndReason::Forced), 0, 40);
    assert_eq!((calls, bench.reasons()), (3, vec![EndReason::Forced; 100]));
    assert_eq!(bench.table.live(), Totals::default());
    assert_eq!(bench.flush(Flush::all(EndReason::Forced), 0, 40), 1);
    bench.see(udp(1), 0, 0);
    assert_eq!(bench.table.live().flows, 1);
}

#[test]
fn an_interface_can_be_emptied_alone() {
    let mut bench = Bench::new(options(100));
    for number in 0..100 {
        let mut key = udp(number);
        key.set_ingress_interface(1 + u32::from(number % 4));
        bench.see(key, 0, 0);
    }
    bench.flush(Flush::interface(3, EndReason::Forced), 0, 7);
    assert_eq!(bench.records.len(), 25);
    assert!(bench.records.iter().all(|record| record.key.ingress_interface() == 3));
    // What a flush under way has passed, and is live again, is the next one's.
    let mut under_way = Flush::all(EndReason::Forced);
    assert!(bench.table.flush(&mut under_way, moment(0), 90, &mut bench.records));
    bench.see(udp(1), 0, 0);
    assert!(!bench.table.flush(&mut under_way, moment(0), 90, &mut bench.records));
    bench.flush(Flush::all(EndReason::Forced), 0, 50);
    assert_eq!((bench.records.len(), bench.table.live().flows), (101, 0));
}

#[test]
fn shorter_timeouts_apply_to_live_flows() {
    let mut bench = Bench::new(options(4));
    bench.see(udp(1), 0, 0);
    bench.see(udp(2), 2 * SECOND, 0);
    bench.table.set_options(ExpiryOptions { idle: Duration::from_secs(3), ..bench.table.options() });
    assert_eq!(bench.expire(4 * SECOND), [EndReason::Idle]);
    assert_eq!(bench.table.live().flows, 1);
    assert_eq!(bench.expire(5 * SECOND + LATE), [EndReason::Idle]);
}

#[test]
fn vlans_tell_flows_apart_only_when_asked_to() {
    for (mask, flows) in [(KEY_BASE_MASK, 1), (KEY_BASE_MASK | KEY_VLAN_MASK | KEY_CUSTOMER_VLAN_MASK, 3)] {
        let mut bench = Bench::new(TableOptions { key_mask: mask, ..options(4) });
        for (outer, inner) in [(10, 0), (20, 0), (20, 30)] {
            let mut key = udp(1);
            key.set_vlans(outer, inner);
            bench.see(key, 0, 0);
        }
        assert_eq!(bench.table.live().flows, flows);
        let record = bench.table.snapshot(moment(0)).next().unwrap();
        assert_eq!(record.key.vlan(), 10, "that of the first packet");
    }
}

#[test]
fn timeouts_and_times_at_their_limits_do_no_harm() {
    for timeout in [Duration::ZERO, Duration::MAX] {
        let mut bench = Bench::new(TableOptions { idle: timeout, active: timeout, ..options(2) });
        let times = [0, u64::MAX, 1, u64::MAX - 1, START];
        for (number, &time) in (0..).zip(times.iter().cycle().take(40)) {
            let seen = Observation::packet(tcp(number % 3), 1, Timestamp(time), number.into());
            let now = Moment { now: Timestamp(time), wall: WallOffset(i64::MIN) };
            bench.table.merge(&[seen], now, &mut bench.records);
            while bench.table.expire(now, 1, &mut bench.records) {}
        }
        bench.flush(Flush::all(EndReason::Forced), 0, 1);
        assert_eq!(bench.records.iter().map(|record| record.packets).sum::<u64>(), 40);
    }
}

#[test]
fn a_table_that_cannot_be_made_says_why() {
    let message = |capacity| FlowTable::new(options(capacity), Timestamp(0)).err().unwrap().to_string();
    assert!(message(0).contains("a flow table for 0 flows cannot be made: the number must be from 1"));
    assert!(message(usize::MAX).contains("--max-flows"));
    // 98 GiB at least.
    let scarce = message(1 << 30);
    assert!(scarce.contains("a flow table for 1073741824 flows needs 1"), "{scarce}");
    assert!(scarce.contains("lower --max-flows"), "{scarce}");
}

#[test]
fn details_span_the_slots_of_all_cpus_and_begin_anew_with_the_flow() {
    let mut bench = Bench::new(TableOptions { details: true, ..options(2) });
    let slot = |ns: u64, length: u32, ttl: u8, mac: u8| {
        let mut detail = Detail::of_ip(length, ttl, u32::from(mac), 0);
        detail.set_macs(&[mac; 12]);
        DetailedSlot { slot: Slot::new(&udp(1), length, 0, Tick::from_ns(START + ns), 0), detail }
    };
    // Read one CPU after the other: the second one saw the flow first.
    let slots = [slot(2 * SECOND, 100, 64, 2), slot(SECOND, 1500, 63, 1), slot(3 * SECOND, 60, 64, 3)];
    bench.table.merge(&slots, moment(3 * SECOND), &mut bench.records);
    let mut expected =
        Detail { min_length: 60, max_length: 1500, min_ttl: 63, max_ttl: 64, ..slots[1].detail };
    let record = bench.table.snapshot(moment(3 * SECOND)).next().unwrap();
    assert_eq!(record.detail, expected);
    // After its idle timeout the flow begins anew, in the same place of the table.
    let later = slot(30 * SECOND, 40, 1, 9);
    bench.table.merge(&[later], moment(30 * SECOND), &mut bench.records);
    assert_eq!((bench.records.len(), bench.records[0].detail), (1, expected));
    bench.flush(Flush::all(EndReason::Forced), 30 * SECOND, 9);
    assert_eq!(bench.records[1].detail, later.detail);
    // The place is used again by packets of which nothing is known.
    bench.see(udp(2), 31 * SECOND, 0);
    bench.flush(Flush::all(EndReason::Forced), 31 * SECOND, 9);
    assert_eq!(bench.records[2].detail, Detail::UNKNOWN);

    let mut bench = Bench::new(options(2));
    bench.table.merge(&slots, moment(3 * SECOND), &mut bench.records);
    expected = Detail::UNKNOWN;
    assert_eq!(bench.table.snapshot(moment(3 * SECOND)).next().unwrap().detail, expected, "none are kept");
    assert!(!bench.table.keeps_details());
}

#[test]
fn memory_stays_below_128_octets_a_flow() {
    // 80 of the flow, 8 of its timer, 12 of the index; 24 of its details where they are asked for.
    assert!(FlowTable::memory_octets(10_000_000, false) <= 101 * 10_000_000);
    assert!(FlowTable::memory_octets(10_000_000, true) <= 126 * 10_000_000);
}

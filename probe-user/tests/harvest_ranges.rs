// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Several writers, several harvesters, one flow here and there: what was counted is what comes out, to the packet and
//! the octet, and the report balances at every swap. Writers in user space, so no privilege is needed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use probe_common::{
    Detail, FlowKey, HashSeed, KEY_BASE_MASK, Tick,
    parse::{Fragment, ParsedPacket},
};
use probe_user::{
    bell::Bell,
    flow::{FlowRecord, FlowTable, SamplingNow, Spread, TableOptions},
    harvest::{
        Activity, Cycle, Harvester, Outlet, SharedReport, SwapOptions, Swapper, WorkerWriters, Writers,
    },
    meter::Turns,
    queue::{Consumer, ring},
    runtime,
    slots::{Amount, Bank, CacheRules, Sizing},
    telemetry::metrics::HistogramCounters,
};

const WRITERS: u32 = 3;
const FLOWS: u32 = 5000;
const ROUNDS: u32 = 100;

fn seed(octet: u8) -> HashSeed {
    HashSeed::from_random([octet; 56])
}

/// Flow `number` as every writer sees it.
fn packet(number: u32, octets: u32) -> ParsedPacket {
    let mut key = FlowKey::ipv4(number.to_be_bytes(), [192, 0, 2, 1], 17, 0);
    key.set_ports(1000, 2000);
    key.set_ingress_interface(7);
    ParsedPacket {
        key,
        octets,
        header_octets: 28,
        tcp_flags: 0,
        fragment: Fragment::NONE,
        note: None,
        detail: Detail::UNKNOWN,
    }
}

/// Counts every flow `ROUNDS` times in its row, taking turns as they are told.
fn write(bank: &Bank, row: u32, turns: &Turns, done: &AtomicBool) {
    let mut writer = bank.slot_writer(row, CacheRules { key_mask: KEY_BASE_MASK, seed: seed(1) });
    let mut turn = turns.told();
    for round in 0..ROUNDS {
        // So that there are many swaps.
        thread::sleep(Duration::from_millis(1));
        for flow in 0..FLOWS {
            let packet = packet(flow, 60 + row + round);
            let at = Tick::from_ns(runtime::now().now.0);
            let amount = Amount { packets: 1, octets: packet.octets, at };
            writer.received(1, 100);
            writer.count(writer.hash(&packet), &packet, amount, || Ok(())).unwrap();
            if flow % 64 == 0 && turns.told() != turn {
                turn = turns.told();
                writer.switch(turn.epoch());
                turns.take(row as usize, turn);
            }
        }
    }
    done.store(true, Ordering::Release);
    writer.publish();
    turns.leave(row as usize);
}

fn balanced(report: &SharedReport) {
    let report = report.read();
    let writers = report.writers();
    assert_eq!(report.imbalance, Default::default(), "after {} swaps", report.swaps);
    assert_eq!(writers.received_packets, writers.metered_packets);
    assert_eq!(
        writers.metered_packets,
        report.exported.packets + report.live.packets + report.queue_full.packets + writers.lost_packets,
        "after {} swaps",
        report.swaps
    );
}

fn run(harvesters: u32) {
    // A ring holds all that its writer writes, so that none can be lost however threads are scheduled.
    let ring_records = (FLOWS * ROUNDS).next_power_of_two() * 2;
    let sizing = Sizing::new(WRITERS, 1024, ring_records).with_ranges(harvesters);
    let bank = Bank::in_memory(sizing).unwrap();
    let bell = Bell::new().unwrap();
    let turns = Turns::new(WRITERS as usize, bell.clone()).unwrap();
    let writers =
        Writers { kernel: None, workers: Some(WorkerWriters { bank: bank.clone(), turns: turns.clone() }) };
    let (banks, start) = (writers.banks(), runtime::now());
    let cycle = Cycle::new(harvesters as usize, bell, start);
    let options = SwapOptions {
        interval: Duration::from_millis(5),
        durations: Arc::new(HistogramCounters::default()),
        sampling: SamplingNow::default(),
    };
    let mut swapper = Swapper::new(options, writers, cycle.clone(), start);
    let report = swapper.shared_report();
    let stop = AtomicBool::new(false);
    let mut consumers: Vec<Consumer<FlowRecord>> = Vec::new();

    thread::scope(|scope| {
        let mut threads = Vec::new();
        for number in 0..harvesters as usize {
            let table = FlowTable::new(
                TableOptions {
                    capacity: FLOWS as usize,
                    idle: Duration::from_secs(60),
                    active: Duration::from_secs(60),
                    tcp_end: true,
                    spread: Spread::default(),
                    key_mask: KEY_BASE_MASK,
                    details: false,
                    seed: seed(9),
                },
                start.now,
            )
            .unwrap();
            let (producer, consumer) = ring(1 << 14);
            consumers.push(consumer);
            let mut harvester = Harvester::new(number, &banks, cycle.clone(), table, Outlet::new(producer));
            let stop = &stop;
            threads.push(scope.spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    if harvester.step(runtime::now()) == Activity::Idle {
                        thread::sleep(Duration::from_micros(100));
                    }
                }
                harvester.finish(runtime::now, || true);
            }));
        }
        let flags: Vec<AtomicBool> = (0..WRITERS).map(|_| AtomicBool::new(false)).collect();
        thread::scope(|scope| {
            for (row, done) in (0..WRITERS).zip(&flags) {
                let (bank, turns) = (&bank, &turns);
                scope.spawn(move || write(bank, row, turns, done));
            }
            while !flags.iter().all(|done| done.load(Ordering::Acquire)) {
                if swapper.step(runtime::now()).unwrap() == Activity::Idle {
                    thread::sleep(Duration::from_micros(100));
                }
                balanced(&report);
            }
        });
        swapper.finish(runtime::now, || true).unwrap();
        stop.store(true, Ordering::Release);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    swapper.conclude();
    balanced(&report);

    let last = report.read();
    assert!(last.swaps > 2, "only {} swaps", last.swaps);
    assert_eq!(last.live.packets, 0);
    let all = u64::from(WRITERS) * u64::from(FLOWS) * u64::from(ROUNDS);
    assert_eq!((last.exported.packets, last.queue_full.packets), (all, 0));
    let lost = last.writers().lost_packets;
    assert_eq!(lost, 0, "the rings were large enough");
    assert!(last.writers().spilled_records > 0, "the caches were too small for all flows");
    let mut flows: BTreeMap<FlowKeyWords, (u64, u64)> = BTreeMap::new();
    for consumer in &mut consumers {
        let mut records = Vec::new();
        while consumer.pop_into(&mut records, 1 << 14) > 0 {}
        for record in &records {
            let flow = flows.entry(*record.key.words()).or_default();
            flow.0 += record.packets;
            flow.1 += record.octets;
        }
    }
    assert_eq!(flows.len(), FLOWS as usize);
    let octets: u64 =
        (0..WRITERS).flat_map(|row| (0..ROUNDS).map(move |round| u64::from(60 + row + round))).sum();
    for (key, sums) in &flows {
        assert_eq!(*sums, (u64::from(WRITERS * ROUNDS), octets), "{key:x?} with {harvesters} harvesters");
    }
}

type FlowKeyWords = [u64; probe_common::KEY_WORDS];

#[test]
fn one_two_and_four_harvesters_are_exact() {
    for harvesters in [1, 2, 4] {
        run(harvesters);
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Flows that began together do not leave together: a hundred thousand of them, all kept alive, and the second
//! in which each record leaves, in simulated time; and a probe whose records end on the grid of real time.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::{BTreeMap, HashMap},
    net::{Ipv4Addr, SocketAddr},
    thread::sleep,
    time::Duration,
};

use nix::sys::signal::Signal;
use probe_common::{FlowKey, HashSeed, KEY_BASE_MASK};
use probe_lab::{Generator, Link, Probe, Traffic, V5Collector, difference, require_root, send_in_parallel};
use probe_user::flow::{
    EndReason, FlowRecord, FlowTable, Moment, Observation, Spread, TableOptions, Timestamp, WallOffset,
};

const SECOND: u64 = 1_000_000_000;
const FLOWS: u32 = 100_000;
const ACTIVE: u64 = 60 * SECOND;
/// From one harvest to the next.
const INTERVAL: u64 = SECOND / 2;
/// The step of the timer wheel: that late a flow may leave.
const STEP: u64 = 1 << 27;
/// Where the clock of the source begins, and Unix time less that: no multiple of the active timeout.
const START: u64 = 4321 * SECOND;
const WALL: u64 = 1_700_000_017 * SECOND;

/// Record and when it left, by the clock of the source.
type Exports = Vec<(u64, FlowRecord)>;

/// Flows begin within the first second, each has a packet every two seconds from then on, until `end`.
fn run(spread: Spread, end: u64) -> Exports {
    let options = TableOptions {
        capacity: FLOWS as usize,
        idle: Duration::from_secs(15),
        active: Duration::from_nanos(ACTIVE),
        tcp_end: true,
        spread,
        key_mask: KEY_BASE_MASK,
        details: false,
        seed: HashSeed::from_random([0x77; 56]),
    };
    let mut table = FlowTable::new(options, Timestamp(START)).unwrap();
    let mut exports = Exports::new();
    let (mut batch, mut out) = (Vec::new(), Vec::new());
    let mut sent = 0;
    for harvest in 0..end / INTERVAL {
        let now = START + (harvest + 1) * INTERVAL;
        let moment = Moment { now: Timestamp(now), wall: WallOffset(WALL.cast_signed()) };
        // Half of the flows, later a quarter of them in turn, each at a time of its own within the interval.
        let turns = if harvest < 2 { 2 } else { 4 };
        batch.clear();
        batch.extend((0..FLOWS).filter(|flow| u64::from(*flow) % turns == harvest % turns).map(|flow| {
            let [a, b, c, d] = flow.to_be_bytes();
            let key = FlowKey::ipv4([10 ^ a, b, c, d], [192, 0, 2, 1], 17, 0);
            let at = now - INTERVAL + u64::from(flow) * INTERVAL / u64::from(FLOWS);
            Observation::packet(key, 100, Timestamp(at), 0)
        }));
        sent += batch.len() as u64;
        table.merge(&batch, moment, &mut out);
        while table.expire(moment, 2048, &mut out) {}
        exports.extend(out.drain(..).map(|record| (now, record)));
    }
    let exported: u64 = exports.iter().map(|(_, record)| record.packets).sum();
    assert_eq!(exported + table.live().packets, sent, "nothing is lost by it");
    assert!(exports.iter().all(|(_, record)| record.end_reason == EndReason::Active));
    assert!(exports.iter().all(|(_, record)| record.end_ns - record.start_ns < ACTIVE));
    exports
}

/// Exports by the second in which they left, counted from the start.
fn by_second(exports: &Exports) -> BTreeMap<u64, u64> {
    let mut seconds = BTreeMap::new();
    for (now, _) in exports {
        *seconds.entry((now - START) / SECOND).or_default() += 1;
    }
    seconds
}

#[test]
fn without_jitter_all_leave_at_once() {
    let seconds = by_second(&run(Spread::default(), 70 * SECOND));
    assert_eq!(seconds.values().sum::<u64>(), u64::from(FLOWS));
    let mut most: Vec<u64> = seconds.into_values().collect();
    most.sort_unstable();
    let two: u64 = most.iter().rev().take(2).sum();
    assert!(two * 10 > u64::from(FLOWS) * 9, "this is what is to be avoided: {most:?}");
}

#[test]
fn jitter_spreads_them_over_its_share() {
    let seconds = by_second(&run(Spread { jitter: 10, align: false }, 70 * SECOND));
    assert_eq!(seconds.values().sum::<u64>(), u64::from(FLOWS));
    let most = seconds.values().max().unwrap();
    assert!(*most < u64::from(FLOWS) / 4, "{seconds:?}");
    assert!(seconds.len() >= 7, "{seconds:?}");
}

#[test]
fn aligned_records_end_between_a_grid_point_and_its_jitter() {
    for jitter in [0, 10] {
        let spread = Spread { jitter, align: true };
        let exports = run(spread, 200 * SECOND);
        let share = ACTIVE / 100 * u64::from(jitter);
        let mut records: HashMap<FlowKey, u64> = HashMap::new();
        for (now, record) in &exports {
            // When it was over, as the export is late by a harvest and a step of the wheel at most.
            let late = (now + WALL) % ACTIVE;
            assert!(late <= share + STEP + INTERVAL, "left {late} ns after the grid point");
            // A packet every 2 s: the last one lies within that before the end.
            let last = record.end_ns % ACTIVE;
            assert!(last < share || last >= ACTIVE - 2 * SECOND, "ended {last} ns after the grid point");
            *records.entry(record.key).or_default() += 1;
        }
        assert_eq!(records.len(), FLOWS as usize);
        // Three points of the grid, or four, lie within.
        assert!(records.values().all(|&records| records == 3 || records == 4), "{jitter}");
        let seconds = by_second(&exports);
        if jitter > 0 {
            let most = seconds.values().max().unwrap();
            assert!(*most < u64::from(FLOWS) / 4, "{seconds:?}");
        }
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_probe_ends_its_records_on_the_grid_of_unix_time() {
    const ACTIVE_MS: u64 = 1500;
    /// A slot is not split: a record may reach beyond its end by a harvest interval, here with room for a busy machine.
    const SLACK_MS: u64 = 400;
    require_root();
    let link = Link::for_many_senders("grid").unwrap();
    let any_port = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let collector = V5Collector::start(Some(&link.metered.namespace), any_port).unwrap();
    let address = collector.address().to_string();
    let times = ["--active-timeout", "1500ms", "--active-jitter", "0", "--harvest-interval", "50ms"];
    let args = [&["--collector", &address, "--active-align", "on"], &times[..]].concat();
    let program = env!("CARGO_BIN_EXE_probe");
    let probe = Probe::start(program, &link.metered.namespace, &link.metered.name, &args).unwrap();
    let mut generators = [Generator::load(&link, &Traffic::udp(0, 200)).unwrap()];
    // Longer than two distances of the grid: two points of it at least lie within.
    for _ in 0..36 {
        send_in_parallel(&link, &mut generators, 2000).unwrap();
        sleep(Duration::from_millis(100));
    }
    let ended = probe.stop(Signal::SIGTERM).unwrap();
    assert!(ended.status.success() && ended.ledger.balanced(), "{}: {}", ended.status, ended.stderr);
    let export = collector.finish().unwrap();
    assert_eq!(difference(&generators[0].expected().unwrap(), &export.flows()), None);
    let mut ends: BTreeMap<u64, usize> = BTreeMap::new();
    for record in &export.records {
        let end = (record.first_ms / ACTIVE_MS + 1) * ACTIVE_MS;
        assert!(record.last_ms < end + SLACK_MS, "{record:?} goes on after {end}");
        *ends.entry(end).or_default() += 1;
    }
    // The first and the last may have seen a part of a burst only.
    let within = ends.len().saturating_sub(2);
    assert!(within >= 1 && ends.values().skip(1).take(within).all(|&records| records == 200), "{ends:?}");
}

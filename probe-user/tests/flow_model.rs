// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The flow table against a plain map, over random sequences of merging, expiring and changing options.
//!
//! With room for all flows the table is to give the very records of the model; when it is full, nothing
//! may be lost, and the flow that goes early must be the one that was quiet for longest.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{collections::HashMap, time::Duration};

use probe_common::{Detail, FlowKey, HashSeed, KEY_BASE_MASK};
use probe_user::flow::{
    EndReason, ExpiryOptions, FlowRecord, FlowTable, Flush, MOST_JITTER, Moment, Observation, Spread,
    TableOptions, Timestamp, WallOffset,
};
use proptest::prelude::*;

const MILLISECOND: u64 = 1_000_000;
const START: u64 = 1 << 50;
/// A step of the table's timer wheel: that late a record may be.
const STEP: u64 = 1 << 27;
/// Unix time minus the clock of the test.
const WALL: u64 = 1 << 60;

#[derive(Clone, Debug)]
enum Action {
    /// Time passes, then flows are seen at times since the last expiry, in any order.
    Merge {
        wait_ms: u64,
        seen: Vec<Sighting>,
    },
    /// Expire in steps of this budget until nothing is due.
    Expire {
        budget: usize,
    },
    Options {
        idle_ms: u64,
        active_ms: u64,
        tcp_end: bool,
        jitter: u8,
        align: bool,
    },
    Force {
        budget: usize,
    },
}

#[derive(Clone, Debug)]
struct Sighting {
    flow: u8,
    packets: u64,
    /// Where first and last lie between the last expiry and now, in 256ths.
    from: u8,
    to: u8,
    tcp_flags: u16,
    detail: SeenDetail,
}

/// What a sighting's packets had in common; which of it is known depends on the flow.
#[derive(Clone, Copy, Debug)]
struct SeenDetail {
    mac: u8,
    flow_label: u32,
    lengths: (u16, u16),
    ttls: (u8, u8),
    fragment_flags: u8,
}

fn seen_detail() -> impl Strategy<Value = SeenDetail> {
    (any::<u8>(), 0..1u32 << 20, any::<(u16, u16)>(), any::<(u8, u8)>(), any::<u8>()).prop_map(
        |(mac, flow_label, lengths, ttls, flags)| SeenDetail {
            mac,
            flow_label,
            lengths: (lengths.0.min(lengths.1), lengths.0.max(lengths.1)),
            ttls: (ttls.0.min(ttls.1), ttls.0.max(ttls.1)),
            fragment_flags: flags & 0x60,
        },
    )
}

fn sighting(flows: u8) -> impl Strategy<Value = Sighting> {
    let flags = prop_oneof![4 => Just(16), 1 => Just(2), 1 => Just(1), 1 => Just(4), 1 => any::<u16>()];
    (0..flows, 1u64..1000, any::<u8>(), any::<u8>(), flags, seen_detail()).prop_map(
        |(flow, packets, a, b, tcp_flags, detail)| Sighting {
            flow,
            packets,
            from: a.min(b),
            to: a.max(b),
            tcp_flags,
            detail,
        },
    )
}

fn merge(flows: u8) -> impl Strategy<Value = Action> {
    let wait_ms = prop_oneof![Just(0), 0u64..200, 0u64..3000, 0u64..40_000, Just(700_000)];
    (wait_ms, prop::collection::vec(sighting(flows), 0..70))
        .prop_map(|(wait_ms, seen)| Action::Merge { wait_ms, seen })
}

fn change() -> impl Strategy<Value = Action> {
    let jitter = prop_oneof![Just(0), 0..=MOST_JITTER];
    (0u64..20_000, 0u64..100_000, any::<bool>(), jitter, any::<bool>()).prop_map(
        |(idle_ms, active_ms, tcp_end, jitter, align)| Action::Options {
            idle_ms,
            active_ms,
            tcp_end,
            jitter,
            align,
        },
    )
}

fn action(flows: u8) -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => merge(flows),
        4 => (1usize..50).prop_map(|budget| Action::Expire { budget }),
        1 => change(),
        1 => (1usize..50).prop_map(|budget| Action::Force { budget }),
    ]
}

/// Half of the flows are TCP, a third IPv6.
fn key(flow: u8) -> FlowKey {
    let protocol = if flow.is_multiple_of(2) { 6 } else { 17 };
    let mut key = if flow.is_multiple_of(3) {
        FlowKey::ipv6([u64::from(flow), 1], [2, 3], protocol, 0)
    } else {
        FlowKey::ipv4([10, 0, 0, flow], [192, 0, 2, 1], protocol, 0)
    };
    key.set_ports(u16::from(flow) * 7, 443);
    key
}

fn options() -> ExpiryOptions {
    ExpiryOptions {
        idle: Duration::from_secs(15),
        active: Duration::from_secs(60),
        tcp_end: true,
        spread: Spread::default(),
    }
}

fn seed() -> HashSeed {
    HashSeed::from_random([0x5a; 56])
}

/// As an engine would give it: of one kind of flow it always knows the same.
fn detail(flow: u8, seen: SeenDetail) -> Detail {
    let mut detail = Detail::UNKNOWN;
    if !flow.is_multiple_of(4) {
        detail.known |= Detail::IP;
        detail.flow_label = seen.flow_label;
        (detail.min_length, detail.max_length) = seen.lengths;
        (detail.min_ttl, detail.max_ttl) = seen.ttls;
        detail.fragment_flags = seen.fragment_flags;
    }
    if !flow.is_multiple_of(5) {
        detail.known |= Detail::MAC;
        (detail.source_mac, detail.destination_mac) = ([seen.mac; 6], [!seen.mac; 6]);
    }
    detail
}

fn table(capacity: usize, details: bool) -> FlowTable {
    let ExpiryOptions { idle, active, tcp_end, spread } = options();
    let (key_mask, seed) = (KEY_BASE_MASK, seed());
    let options = TableOptions { capacity, idle, active, tcp_end, spread, key_mask, details, seed };
    FlowTable::new(options, Timestamp(START)).unwrap()
}

#[derive(Clone)]
struct ModelFlow {
    packets: u64,
    octets: u64,
    first: u64,
    last: u64,
    tcp_flags: u16,
    /// When each part began, and its details.
    details: Vec<(u64, Detail)>,
}

impl ModelFlow {
    /// Of the first what names, of all what spans.
    fn detail(&self) -> Detail {
        // The first of those that began at the same time.
        let Some((_, first)) = self.details.iter().min_by_key(|(began, _)| *began) else {
            return Detail::UNKNOWN;
        };
        let all = || self.details.iter().map(|(_, detail)| detail);
        Detail {
            min_length: all().map(|detail| detail.min_length).min().unwrap(),
            max_length: all().map(|detail| detail.max_length).max().unwrap(),
            min_ttl: all().map(|detail| detail.min_ttl).min().unwrap(),
            max_ttl: all().map(|detail| detail.max_ttl).max().unwrap(),
            fragment_flags: all().fold(0, |flags, detail| flags | detail.fragment_flags),
            ..*first
        }
    }
}

/// The rules, said as plainly as possible.
struct Model {
    flows: HashMap<FlowKey, ModelFlow>,
    options: ExpiryOptions,
    records: Vec<FlowRecord>,
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

impl Model {
    fn ended(&self, key: &FlowKey, flow: &ModelFlow) -> bool {
        self.options.tcp_end && key.protocol() == 6 && flow.tcp_flags & 0b101 != 0
    }

    /// When the active timeout is over: a part of the jitter early, or that much after a multiple of the timeout
    /// in Unix time.
    fn active_end(&self, key: &FlowKey, first: u64) -> u64 {
        let active = nanoseconds(self.options.active);
        let share = u128::from(active / 100 * u64::from(self.options.spread.jitter));
        let part =
            u64::try_from((share * u128::from(seed().conversation(key, KEY_BASE_MASK))) >> 32).unwrap();
        if !self.options.spread.align {
            return first + active - part;
        }
        let active = active.max(1);
        // Two points before, or the first of them that comes after.
        let mut end = (first + WALL) / active * active - active + part;
        while end <= first + WALL {
            end += active;
        }
        end - WALL
    }

    /// The earliest time at which the flow is over, and why.
    fn over(&self, key: &FlowKey, flow: &ModelFlow) -> (u64, EndReason) {
        let idle = nanoseconds(self.options.idle);
        let active = (self.active_end(key, flow.first), EndReason::Active);
        let quiet = if self.ended(key, flow) {
            (flow.last + idle.min(1000 * MILLISECOND) + 1, EndReason::End)
        } else {
            (flow.last + idle + 1, EndReason::Idle)
        };
        if quiet.0 <= active.0 { quiet } else { active }
    }

    fn export(&mut self, key: FlowKey, end_reason: EndReason) {
        let flow = self.flows.remove(&key).unwrap();
        self.records.push(FlowRecord {
            key,
            packets: flow.packets,
            octets: flow.octets,
            start_ns: flow.first + WALL,
            end_ns: flow.last + WALL,
            tcp_flags: flow.tcp_flags,
            end_reason,
            detail: flow.detail(),
        });
    }

    fn merge(&mut self, seen: &Observation<Detail>) {
        let (first, last, tcp_flags) = (seen.first.0, seen.last.0, seen.tcp_flags & 0xfff);
        if let Some(flow) = self.flows.get(&seen.key) {
            let (time, reason) = self.over(&seen.key, flow);
            if first >= time {
                self.export(seen.key, reason);
            } else if self.ended(&seen.key, flow) && tcp_flags & 2 != 0 && first > flow.last {
                self.export(seen.key, EndReason::End);
            }
        }
        let nothing = ModelFlow { packets: 0, octets: 0, first, last, tcp_flags, details: Vec::new() };
        let flow = self.flows.entry(seen.key).or_insert(nothing);
        flow.packets += seen.packets;
        flow.octets += seen.octets;
        flow.first = flow.first.min(first);
        flow.last = flow.last.max(last);
        flow.tcp_flags |= tcp_flags;
        flow.details.push((first, seen.detail));
    }

    fn expire(&mut self, now: u64) {
        let times = self.flows.iter().map(|(&key, flow)| (key, self.over(&key, flow)));
        let over: Vec<_> = times.filter(|(_, (time, _))| now >= *time).collect();
        for (key, (_, reason)) in over {
            self.export(key, reason);
        }
    }

    fn force(&mut self) {
        for key in self.flows.keys().copied().collect::<Vec<_>>() {
            self.export(key, EndReason::Forced);
        }
    }
}

/// An order in which equal collections are equal.
fn sorted(mut records: Vec<FlowRecord>) -> Vec<FlowRecord> {
    records.sort_by_key(|it| (*it.key.words(), it.start_ns, it.end_ns, it.packets, it.end_reason as u8));
    records
}

fn observations(seen: &[Sighting], expired: u64, now: u64) -> Vec<Observation<Detail>> {
    let at = |part: u8| Timestamp(expired + (now - expired) / 256 * u64::from(part));
    seen.iter()
        .map(|it| Observation {
            key: key(it.flow),
            packets: it.packets,
            octets: it.packets * 60,
            first: at(it.from),
            last: at(it.to),
            tcp_flags: it.tcp_flags,
            detail: detail(it.flow, it.detail),
        })
        .collect()
}

fn moment(now: u64) -> Moment {
    Moment { now: Timestamp(now), wall: WallOffset(i64::try_from(WALL).unwrap()) }
}

fn packets(records: &[FlowRecord]) -> u64 {
    records.iter().map(|record| record.packets).sum()
}

fn flush_all(table: &mut FlowTable, now: u64, budget: usize, records: &mut Vec<FlowRecord>) {
    let mut flush = Flush::all(EndReason::Forced);
    while table.flush(&mut flush, moment(now), budget, records) {}
}

/// Both sides of the first property. `now` is the time, `expired` that of the last expiry, `changed`
/// that of the last change of options.
struct Pair {
    table: FlowTable,
    model: Model,
    records: Vec<FlowRecord>,
    now: u64,
    expired: u64,
    changed: u64,
}

impl Pair {
    fn new() -> Self {
        let model = Model { flows: HashMap::new(), options: options(), records: Vec::new() };
        Self {
            table: table(64, true),
            model,
            records: Vec::new(),
            now: START,
            expired: START,
            changed: START,
        }
    }

    /// Goes on to where a step of the wheel begins: all that is over left the table too.
    fn settle(&mut self, budget: usize) {
        self.now = (self.now + 1).next_multiple_of(STEP);
        while self.table.expire(moment(self.now), budget, &mut self.records) {}
        self.model.expire(self.now - 1);
        self.expired = self.now;
    }

    fn force(&mut self, budget: usize) {
        self.settle(budget);
        flush_all(&mut self.table, self.now, budget, &mut self.records);
        self.model.force();
    }

    /// A flow that should have left the table before the current step of the wheel.
    fn late(&self) -> Option<FlowRecord> {
        self.table.snapshot(moment(self.now)).find(|record| {
            let flow = ModelFlow {
                packets: record.packets,
                octets: record.octets,
                first: record.start_ns - WALL,
                last: record.end_ns - WALL,
                tcp_flags: record.tcp_flags,
                details: Vec::new(),
            };
            // A change of options works from the end of the current step on.
            self.model.over(&record.key, &flow).0.max(self.changed) / STEP < self.now / STEP
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_records_are_those_of_the_model(actions in prop::collection::vec(action(40), 1..60)) {
        let mut pair = Pair::new();
        let mut merged = 0;
        for action in actions {
            match action {
                Action::Merge { wait_ms, seen } => {
                    pair.now += wait_ms * MILLISECOND;
                    let seen = observations(&seen, pair.expired, pair.now);
                    merged += seen.iter().map(|it| it.packets).sum::<u64>();
                    pair.table.merge(&seen, moment(pair.now), &mut pair.records);
                    seen.iter().for_each(|it| pair.model.merge(it));
                }
                Action::Expire { budget } => {
                    while pair.table.expire(moment(pair.now), budget, &mut pair.records) {}
                    pair.model.expire(pair.now);
                    pair.expired = pair.now;
                    prop_assert_eq!(pair.late(), None);
                }
                Action::Options { idle_ms, active_ms, tcp_end, jitter, align } => {
                    // What is over by the old rules goes by the old rules, in the table as in the model.
                    pair.settle(7);
                    let idle = Duration::from_millis(idle_ms);
                    let active = Duration::from_millis(active_ms);
                    let spread = Spread { jitter, align };
                    pair.model.options = ExpiryOptions { idle, active, tcp_end, spread };
                    pair.table.set_options(pair.model.options);
                    pair.changed = pair.now;
                }
                Action::Force { budget } => {
                    pair.force(budget);
                    prop_assert_eq!(pair.table.live().flows, 0);
                }
            }
            let live = pair.table.live();
            prop_assert_eq!(live.packets + packets(&pair.records), merged);
            prop_assert_eq!(live.octets, live.packets * 60);
            prop_assert_eq!(pair.table.snapshot(moment(pair.now)).count() as u64, live.flows);
            prop_assert_eq!(pair.table.created(), live.flows + pair.records.len() as u64);
        }
        pair.force(3);
        for reason in EndReason::ALL {
            let count = pair.records.iter().filter(|record| record.end_reason == reason).count();
            prop_assert_eq!(pair.table.expired(reason), count as u64);
        }
        prop_assert_eq!(sorted(pair.records), sorted(pair.model.records));
    }

    #[test]
    fn a_full_table_conserves_everything(
        capacity in 1usize..20,
        actions in prop::collection::vec(action(60), 1..60),
    ) {
        let mut table = table(capacity, false);
        let (mut now, mut merged) = (START, 0);
        let mut records = Vec::new();
        for action in actions {
            match action {
                Action::Merge { wait_ms, seen } => {
                    // Some of it is older than what was expired.
                    let seen = observations(&seen, now - 3 * STEP, now + wait_ms * MILLISECOND);
                    now += wait_ms * MILLISECOND;
                    merged += seen.iter().map(|it| it.packets).sum::<u64>();
                    table.merge(&seen, moment(now), &mut records);
                }
                Action::Expire { budget } => {
                    let before = records.len();
                    let more = table.expire(moment(now), budget, &mut records);
                    prop_assert!(records.len() - before <= budget);
                    prop_assert!(!more || table.live().flows > 0);
                }
                Action::Options { idle_ms, active_ms, tcp_end, jitter, align } => {
                    table.set_options(ExpiryOptions {
                        idle: Duration::from_millis(idle_ms),
                        active: Duration::from_millis(active_ms),
                        tcp_end,
                        spread: Spread { jitter, align },
                    });
                }
                Action::Force { budget } => {
                    let before = records.len();
                    let mut flush = Flush::all(EndReason::Forced);
                    table.flush(&mut flush, moment(now), budget, &mut records);
                    prop_assert!(records.len() - before <= budget);
                }
            }
            let live = table.live();
            prop_assert!(live.flows <= capacity as u64);
            prop_assert_eq!(live.packets + packets(&records), merged);
            prop_assert_eq!(table.created(), live.flows + records.len() as u64);
            let snapshot: Vec<_> = table.snapshot(moment(now)).collect();
            prop_assert_eq!((snapshot.len() as u64, packets(&snapshot)), (live.flows, live.packets));
            prop_assert!(snapshot.iter().all(|record| record.detail == Detail::UNKNOWN), "none are kept");
        }
        flush_all(&mut table, now, 5, &mut records);
        prop_assert_eq!(packets(&records), merged);
        prop_assert_eq!(table.live().flows, 0);
    }

    #[test]
    fn the_flow_that_goes_early_was_quiet_for_longest(
        capacity in 1usize..40,
        seen in prop::collection::vec((any::<u8>(), 0u64..400), 1..600),
    ) {
        let mut table = table(capacity, false);
        table.set_options(ExpiryOptions {
            idle: Duration::from_secs(400),
            active: Duration::from_secs(3600),
            tcp_end: false,
            spread: Spread::default(),
        });
        let mut now = START;
        for (flow, wait_ms) in seen {
            now += wait_ms * MILLISECOND;
            let quiet_since = table.snapshot(moment(now)).map(|record| record.end_ns).min();
            let mut records = Vec::new();
            table.merge(&[Observation::packet(key(flow), 60, Timestamp(now), 0)], moment(now), &mut records);
            if let ([record], Some(quiet_since)) = (records.as_slice(), quiet_since) {
                prop_assert_eq!(record.end_reason, EndReason::LackOfResources);
                prop_assert_eq!(table.live().flows, capacity as u64);
                prop_assert!(record.end_ns < quiet_since + STEP, "{} ns younger", record.end_ns - quiet_since);
            }
            table.expire(moment(now), 10, &mut records);
        }
    }
}

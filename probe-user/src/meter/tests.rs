// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A worker by its steps, over sources in memory, against the parser: every packet counted once, in the right half.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::BorrowedFd,
    sync::{Arc, Mutex},
    time::Duration,
};

use probe_common::{
    Counters, DetailedSlot, Direction, FlowKey, HashSeed, KEY_BASE_MASK, KEY_WORDS, Note, Outcome,
    OwnExportKey, PacketSampling, Slot, parse, parse::SliceBytes,
};
use probe_lab::packets::{Packet, Transport};

use super::{
    Activity, Fragments, Frame, FrameSink, FrameSource, Meter, MeterOptions, MeterShared, OwnExports,
    SourceDrops, SourceError, SourceStatus, Turn, Turns, Worker, WorkerHandle,
};
use crate::{
    bell::Bell,
    flow::{Moment, SamplingNow, Timestamp},
    fragment::JoinerOptions,
    slots::{Bank, CacheReader, CacheRules, CounterReader, Sizing, SpillReader},
};

const INTERFACE: u32 = 7;
const SECOND: u64 = 1_000_000_000;

fn seed() -> HashSeed {
    HashSeed::from_random([0x5a; 56])
}

fn moment(ns: u64) -> Moment {
    Moment { now: Timestamp(ns), ..Moment::default() }
}

/// A frame of a source in memory.
#[derive(Clone)]
struct Given {
    octets: Vec<u8>,
    segment_octets: u32,
    direction: Direction,
    at: u64,
}

/// What a source has; the test keeps a hand on it.
#[derive(Default)]
struct State {
    frames: VecDeque<Given>,
    drops: SourceDrops,
    /// Once there is nothing more to give.
    fails: bool,
    closed: bool,
}

#[derive(Clone, Default)]
struct Memory(u32, Arc<Mutex<State>>);

impl Memory {
    fn new(interface: u32) -> Self {
        Self(interface, Arc::default())
    }

    fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        change(&mut self.1.lock().unwrap())
    }

    fn put(&self, frames: impl IntoIterator<Item = Given>) {
        self.with(|state| state.frames.extend(frames));
    }

    fn source(&self) -> Box<dyn FrameSource> {
        Box::new(Opened(self.clone()))
    }
}

struct Opened(Memory);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.with(|state| state.closed = true);
    }
}

impl FrameSource for Opened {
    fn interface(&self) -> u32 {
        self.0.0
    }

    fn receive(
        &mut self,
        _moment: Moment,
        limit: usize,
        sink: &mut dyn FrameSink,
    ) -> Result<usize, SourceError> {
        let interface = self.0.0;
        self.0.with(|state| {
            let count = limit.min(state.frames.len());
            for given in state.frames.drain(..count) {
                sink.take(Frame {
                    octets: &given.octets,
                    wire_length: given.octets.len(),
                    stripped_tag: None,
                    interface,
                    direction: given.direction,
                    segment_octets: given.segment_octets,
                    at: Timestamp(given.at),
                });
            }
            if state.fails && state.frames.is_empty() {
                let error = io::Error::from(io::ErrorKind::NotConnected);
                return Err(SourceError {
                    attempted: "reading",
                    interface: "memory".into(),
                    queue: None,
                    error,
                });
            }
            Ok(count)
        })
    }

    fn waiting(&self) -> usize {
        self.0.with(|state| state.frames.len())
    }

    fn drops(&mut self) -> SourceDrops {
        self.0.with(|state| state.drops)
    }

    fn status(&self) -> SourceStatus {
        SourceStatus { queue: 3, mode: "memory", multi_buffer: false }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

fn packet(flow: u8) -> Packet {
    let transport = Transport::Udp { source: 1000 + u16::from(flow), destination: 53 };
    Packet::new(Ipv4Addr::new(10, 0, 0, flow).into(), IpAddr::from([192, 0, 2, 1]), transport)
}

fn given(octets: Vec<u8>, at: u64) -> Given {
    Given { octets, segment_octets: 0, direction: Direction::Ingress, at }
}

fn udp(flow: u8, at: u64) -> Given {
    given(packet(flow).frame(), at)
}

/// A fragment of IPv4: offset in units of 8 octets, and whether more follow.
fn fragment(flow: u8, identification: u16, offset: u16, more: bool, at: u64) -> Given {
    let mut given = udp(flow, at);
    given.octets[18..20].copy_from_slice(&identification.to_be_bytes());
    given.octets[20..22].copy_from_slice(&(offset | u16::from(more) << 13).to_be_bytes());
    given
}

/// Packets, octets and flags by key.
type Flows = BTreeMap<[u64; KEY_WORDS], (u64, u64, u16)>;

fn add(flows: &mut Flows, slot: &Slot) {
    let flow = flows.entry(*slot.key().words()).or_default();
    flow.0 += u64::from(slot.packets);
    flow.1 += u64::from(slot.octets);
    flow.2 |= slot.tcp_flags();
}

/// A worker, and the reading end of its row.
struct Setup {
    worker: Worker,
    handle: WorkerHandle,
    turns: Turns,
    turn: Turn,
    sampling: SamplingNow,
    own_exports: OwnExports,
    fragments: Fragments,
    rings: Vec<SpillReader>,
    caches: Vec<CacheReader>,
    counters: CounterReader,
    flows: Flows,
    /// Of the last swap.
    slots: Vec<DetailedSlot>,
}

impl Setup {
    fn new() -> Self {
        Self::with(PacketSampling::OFF, 1)
    }

    fn with(packets: PacketSampling, flow_interval: u32) -> Self {
        // Few sets, so that most flows are evicted.
        let bank = Bank::in_memory(Sizing::new(1, 64, 16_384).with_details(true).with_ranges(2)).unwrap();
        let (turns, sampling) = (Turns::new(1, Bell::new().unwrap()).unwrap(), SamplingNow::default());
        let (own_exports, fragments) = (OwnExports::default(), Fragments::new(JoinerOptions::new(seed())));
        let shared = MeterShared {
            sampling: sampling.clone(),
            own_exports: own_exports.clone(),
            fragments: fragments.clone(),
        };
        let writer = bank.slot_writer(0, CacheRules { key_mask: KEY_BASE_MASK, seed: seed() });
        let meter = Meter::new(writer, MeterOptions { packets, flow_interval, random: 1 }, shared);
        let (worker, handle) = Worker::new(0, meter, turns.clone());
        Self {
            worker,
            handle,
            turns,
            turn: Turn::default(),
            sampling,
            own_exports,
            fragments,
            rings: (0..2).flat_map(|range| bank.spill_readers(range)).collect(),
            caches: (0..2).map(|range| bank.cache_reader(range)).collect(),
            counters: bank.counter_reader(),
            flows: Flows::new(),
            slots: Vec::new(),
        }
    }

    /// With one source.
    fn fed() -> (Self, Memory) {
        let (setup, memory) = (Self::new(), Memory::new(INTERFACE));
        setup.handle.add(memory.source());
        (setup, memory)
    }

    /// Swaps as the harvester does, and reads the half that was left; returns the counters of its epoch.
    fn swap(&mut self, now: u64) -> Counters {
        let left = self.turn.epoch();
        self.turn = Turn(self.turn.0 + 1);
        self.turns.tell(self.turn);
        assert!(!self.turns.all_taken());
        assert_eq!(self.worker.step(moment(now)), Activity::Busy);
        assert!(self.turns.all_taken());
        self.slots.clear();
        for ring in &mut self.rings {
            while ring.drain(1000, &mut self.slots) > 0 {}
        }
        for cache in &mut self.caches {
            cache.begin(left);
            while cache.drain(1000, &mut self.slots) {}
        }
        for slot in &self.slots {
            add(&mut self.flows, &slot.slot);
        }
        self.counters.of(0, left)
    }

    /// Tells a turn that a worker takes which has ended.
    fn told_after_the_end(&mut self) -> bool {
        self.turns.tell(Turn(self.turn.0 + 1));
        self.turns.all_taken()
    }

    /// Counters of both epochs, as published.
    fn all(&self) -> Counters {
        let all = self.counters.of_epoch(0).plus(&self.counters.of_epoch(1));
        assert_eq!(all.received_packets, all.metered_packets + all.unmetered_packets(), "the ledger");
        assert_eq!(all.lost_records, 0, "the ring is large enough");
        all
    }

    /// Ports of the flows, and their packets.
    fn ports(&self) -> Vec<(u16, u64)> {
        let port = |(words, flow): (&[u64; KEY_WORDS], &(u64, u64, u16))| {
            (FlowKey::from_words(*words).source_port(), flow.0)
        };
        let mut ports: Vec<_> = self.flows.iter().map(port).collect();
        ports.sort_unstable();
        ports
    }
}

#[test]
fn every_frame_is_counted_as_the_parser_reads_it() {
    let (mut setup, memory) = Setup::fed();
    let mut expected = (Flows::new(), Counters::default());
    let mut frames = Vec::new();
    for round in 0..50u64 {
        for flow in 0..250u8 {
            let transport = match flow % 3 {
                0 => Transport::Icmp { kind: 8, code: flow, rest: 0 },
                1 => {
                    let flags = 1 << (round % 8);
                    Transport::Tcp {
                        source: flow.into(),
                        destination: 80,
                        flags,
                        sequence: 0,
                        acknowledgement: 0,
                    }
                }
                _ => packet(flow).transport,
            };
            let mut frame = Packet { transport, payload: vec![0; flow.into()], ..packet(flow) }.frame();
            if flow == 7 {
                // LLC, and a frame that is too short for its header.
                frame[12..14].copy_from_slice(&[0, 60]);
            } else if flow == 8 {
                frame.truncate(20);
            }
            frames.push(given(frame, round * SECOND));
        }
    }
    for frame in &frames {
        expected.1.received_packets += 1;
        expected.1.received_octets += frame.octets.len() as u64;
        match parse::parse(&SliceBytes::new(&frame.octets)) {
            Ok(mut packet) => {
                packet.key.set_ingress_interface(INTERFACE);
                let flow = expected.0.entry(*packet.key.words()).or_default();
                *flow = (flow.0 + 1, flow.1 + u64::from(packet.octets), flow.2 | packet.tcp_flags);
                expected.1.metered_packets += 1;
                expected.1.metered_octets += u64::from(packet.octets);
            }
            Err(outcome) => expected.1.outcomes[outcome as usize] += 1,
        }
    }
    let mut swapped = Counters::default();
    for frames in frames.chunks(3000) {
        memory.put(frames.to_vec());
        assert_eq!(setup.worker.step(moment(0)), Activity::Busy);
        swapped = swapped.plus(&setup.swap(0));
    }
    assert_eq!(setup.worker.step(moment(0)), Activity::Idle);
    setup.swap(0);
    let all = setup.all();
    assert!(all.spilled_records > 5000, "only {} spilled", all.spilled_records);
    assert_eq!(setup.flows, expected.0);
    assert_eq!(Counters { spilled_records: 0, ..all }, expected.1);
    assert_eq!(setup.worker.frames(), 12_500);
}

#[test]
fn a_turn_is_taken_when_all_is_counted_that_came_before() {
    let (mut setup, memory) = Setup::fed();
    let other = Memory::new(8);
    setup.handle.add(other.source());
    // More than one round, of both sources, none of it seen before the turn is told.
    memory.put((0..200).cycle().take(3000).map(|flow| udp(flow, 0)));
    other.put((0..200).cycle().take(2000).map(|flow| udp(flow, 0)));
    let left = setup.swap(0);
    assert_eq!((left.received_packets, left.metered_packets), (5000, 5000));
    assert_eq!(setup.flows.values().map(|flow| flow.0).sum::<u64>(), 5000);
    assert!(setup.slots.iter().all(|slot| slot.slot.epoch() == 0));
    // The next half, and nothing more in this one.
    memory.put([udp(1, 0)]);
    setup.worker.step(moment(0));
    let next = setup.swap(0);
    assert_eq!((next.received_packets, setup.counters.of(0, 0)), (1, left));
    assert!(setup.slots.iter().all(|slot| slot.slot.epoch() == 1));
    assert_eq!(setup.all().received_packets, 5001);
}

#[test]
fn sources_come_and_go_and_take_what_waits_with_them() {
    let (mut setup, memory) = Setup::fed();
    let others = [Memory::new(8), Memory::new(8)];
    for other in &others {
        setup.handle.add(other.source());
        other.put((0..1000).map(|_| udp(1, 0)));
        other.with(|state| state.drops.rx_dropped = 5);
    }
    setup.worker.step(moment(0));
    let report = setup.handle.report();
    assert_eq!(report.sources.iter().map(|source| source.interface).collect::<Vec<_>>(), [7, 8, 8]);
    let removal = setup.handle.remove(8);
    assert!(!removal.wait(Duration::ZERO));
    setup.worker.step(moment(0));
    assert!(removal.wait(Duration::ZERO));
    assert!(others.iter().all(|other| other.with(|state| state.closed && state.frames.is_empty())));
    let report = setup.handle.report();
    assert_eq!((report.sources.len(), report.frames, report.drops.af_xdp()), (1, 2000, 10));
    assert_eq!((setup.all().metered_packets, memory.with(|state| state.closed)), (2000, false));
    let worker = setup.worker;
    drop(worker);
    assert!(setup.handle.remove(7).wait(Duration::ZERO), "a worker that has ended has no sources");
}

#[test]
fn a_source_that_fails_goes_alone_and_is_told_once() {
    let (mut setup, memory) = Setup::fed();
    let failing = Memory::new(9);
    setup.handle.add(failing.source());
    failing.put([udp(1, 0), udp(1, 0)]);
    failing.with(|state| {
        state.fails = true;
        state.drops.tp_drops = 4;
    });
    memory.put([udp(2, 0)]);
    setup.worker.step(moment(0));
    let failures = setup.handle.take_failures();
    let [failure] = failures.as_slice() else { panic!("{failures:?}") };
    assert_eq!((failure.interface, failure.queue), (9, 3));
    assert!(setup.handle.take_failures().is_empty() && failing.with(|state| state.closed));
    memory.put([udp(2, 0)]);
    setup.swap(SECOND);
    let all = setup.all();
    assert_eq!((all.metered_packets, all.outcomes[Outcome::SocketFull as usize]), (4, 4));
    let report = setup.handle.report();
    assert_eq!((report.sources.len(), report.drops.tp_drops, report.frames), (1, 4, 4));
    // At a turn and at the end as well.
    let late = Memory::new(9);
    late.with(|state| state.fails = true);
    setup.handle.add(late.source());
    setup.swap(SECOND);
    assert_eq!(setup.handle.take_failures().len(), 1);
}

#[test]
fn drops_that_nobody_else_counts_are_counted_once() {
    let (mut setup, memory) = Setup::fed();
    for (tp_drops, rx_dropped) in [(3, 10), (3, 11), (8, 12)] {
        memory.with(|state| state.drops = SourceDrops { tp_drops, rx_dropped, ..SourceDrops::default() });
        setup.swap(0);
        let all = setup.all();
        assert_eq!((all.received_packets, all.outcomes[Outcome::SocketFull as usize]), (tp_drops, tp_drops));
    }
    setup.worker.finish(moment(0));
    let report = setup.handle.report();
    assert_eq!((report.drops.packets(), setup.all().received_packets), (20, 8));
    assert!(setup.told_after_the_end(), "nobody waits for a worker that has ended");
}

#[test]
fn fragments_wait_outside_the_ledger() {
    let (mut setup, memory) = Setup::fed();
    let octets = udp(1, 0).octets.len() as u64;
    memory.put([fragment(1, 5, 100, false, 0), fragment(2, 6, 100, false, 0), udp(3, 0)]);
    setup.worker.step(moment(0));
    let left = setup.swap(1);
    // Two of three are on hold, and neither here nor there.
    assert_eq!((left.received_packets, left.metered_packets, setup.fragments.held()), (1, 1, 2));
    memory.put([fragment(1, 5, 0, true, 2 << 14)]);
    setup.worker.step(moment(SECOND / 2));
    setup.swap(SECOND / 2);
    let slot =
        setup.slots.iter().map(|slot| slot.slot).find(|slot| slot.key().source_port() == 1001).unwrap();
    assert_eq!(
        (slot.packets, slot.first, slot.last),
        (2, probe_common::Tick::from_ns(0), probe_common::Tick::from_ns(2 << 14))
    );
    // The other's time is over.
    setup.worker.step(moment(2 * SECOND));
    setup.swap(2 * SECOND);
    let all = setup.all();
    assert_eq!((all.received_packets, all.received_octets), (4, 4 * octets));
    assert_eq!(all.notes[Note::JoinedFragment as usize], 1);
    assert_eq!(all.notes[Note::LaterFragment as usize], 1);
    assert_eq!(setup.ports(), [(0, 1), (1001, 2), (1003, 1)]);
    // At the end nothing is held any more.
    memory.put([fragment(4, 9, 100, false, 0)]);
    setup.worker.finish(moment(2 * SECOND));
    assert_eq!((setup.fragments.held(), setup.all().metered_packets), (0, 5));
    assert!(memory.with(|state| state.closed));
}

#[test]
fn a_slot_keeps_the_times_of_its_earliest_and_latest_packet() {
    let (mut setup, memory) = Setup::fed();
    let times = [5u64, 9, 2, 7];
    memory.put(times.map(|time| udp(1, time << 14)));
    setup.swap(SECOND);
    let [DetailedSlot { slot, .. }] = setup.slots.as_slice() else { panic!("{:?}", setup.slots) };
    let at = |time: u64| probe_common::Tick::from_ns(time << 14);
    assert_eq!((slot.packets, slot.first, slot.last), (4, at(2), at(9)));
}

#[test]
fn a_buffer_that_stands_for_several_counts_as_they() {
    let (mut setup, memory) = Setup::fed();
    let transport =
        Transport::Tcp { source: 1, destination: 2, flags: 0x10, sequence: 0, acknowledgement: 0 };
    let frame = Packet { transport, payload: vec![0; 3500], ..packet(1) }.frame();
    let egress = Given { segment_octets: 1000, direction: Direction::Egress, ..given(frame.clone(), 0) };
    memory.put([egress]);
    setup.swap(0);
    let (words, flow) = setup.flows.first_key_value().unwrap();
    assert_eq!((flow.0, flow.1), (4, 3500 + 4 * 40));
    assert_eq!(FlowKey::from_words(*words).egress_interface(), INTERFACE);
    let all = setup.all();
    assert_eq!((all.received_packets, all.received_octets), (4, frame.len() as u64 + 3 * 54));
    assert_eq!((all.metered_packets, all.metered_octets), (4, flow.1));
}

#[test]
fn packets_are_sampled_before_and_flows_after_parsing() {
    let mut setup = Setup::with(PacketSampling::every(4), 1);
    let memory = Memory::new(INTERFACE);
    setup.handle.add(memory.source());
    // One buffer of two packets is asked about once.
    let frame = Packet { payload: vec![0; 1500], ..packet(9) }.frame();
    let buffer = Given { segment_octets: 1000, ..given(frame, 0) };
    memory.put((0..99).map(|_| udp(1, 0)).chain([buffer]));
    setup.swap(0);
    let all = setup.all();
    assert_eq!((all.received_packets, all.metered_packets), (101, 24 + 2));
    assert_eq!(all.outcomes[Outcome::SampledOut as usize], 75);

    // The verdict on a flow is that of the kernel program, fragments of it included, and follows the overload.
    let mut setup = Setup::with(PacketSampling::OFF, 2);
    setup.handle.add(memory.source());
    for interval in [1u32, 4, 1] {
        setup.sampling.set(interval);
        setup.flows.clear();
        for flow in 0..200 {
            memory.put([udp(flow, 0), fragment(flow, flow.into(), 0, true, 0)]);
            memory.put([fragment(flow, flow.into(), 100, false, 0)]);
        }
        setup.swap(0);
        let threshold = probe_common::sampling_threshold(u64::from(2 * interval));
        let kept = (0..200u8).filter(|flow| {
            let mut packet = parse::parse(&SliceBytes::new(&udp(*flow, 0).octets)).unwrap();
            packet.key.set_ingress_interface(INTERFACE);
            seed().sampling(seed().hash(&packet.key, KEY_BASE_MASK)) < threshold
        });
        let expected: Vec<_> = kept.map(|flow| (1000 + u16::from(flow), 3)).collect();
        assert_eq!(setup.ports(), expected, "one in {}", 2 * interval);
        setup.all();
    }
}

#[test]
fn our_own_messages_are_not_counted() {
    let (mut setup, memory) = Setup::fed();
    let own = parse::parse(&SliceBytes::new(&udp(1, 0).octets)).unwrap().key;
    let put = || memory.put([udp(1, 0), udp(1, 0), udp(2, 0)]);
    setup.own_exports.replace([OwnExportKey::of(&own)]);
    put();
    setup.swap(0);
    assert_eq!(setup.ports(), [(1002, 1)]);
    assert_eq!(setup.all().outcomes[Outcome::OwnExport as usize], 2);
    setup.own_exports.replace([]);
    put();
    setup.swap(0);
    assert_eq!(setup.ports(), [(1001, 2), (1002, 2)]);
    setup.all();
}

#[test]
fn two_workers_share_their_fragments() {
    let shared = Fragments::new(JoinerOptions::new(seed()));
    let bank = Bank::in_memory(Sizing::new(2, 64, 1024)).unwrap();
    let turns = Turns::new(2, Bell::new().unwrap()).unwrap();
    let options = MeterOptions { packets: PacketSampling::OFF, flow_interval: 1, random: 1 };
    let sources = [Memory::new(INTERFACE), Memory::new(INTERFACE)];
    let mut workers = Vec::new();
    for (row, source) in (0..2).zip(&sources) {
        let writer = bank.slot_writer(row, CacheRules { key_mask: KEY_BASE_MASK, seed: seed() });
        let with = MeterShared {
            sampling: SamplingNow::default(),
            own_exports: OwnExports::default(),
            fragments: shared.clone(),
        };
        let (worker, handle) = Worker::new(row as usize, Meter::new(writer, options, with), turns.clone());
        handle.add(source.source());
        workers.push(worker);
    }
    sources[0].put([fragment(1, 5, 100, false, 0)]);
    workers[0].step(moment(0));
    sources[1].put([fragment(1, 5, 0, true, 1)]);
    workers[1].step(moment(1));
    turns.tell(Turn(1));
    for worker in &mut workers {
        assert!(!turns.all_taken());
        worker.step(moment(1));
    }
    assert!(turns.all_taken());
    // Counted where it was let go.
    let counters = bank.counter_reader();
    assert_eq!([0, 1].map(|row| counters.of(row, 0).metered_packets), [0, 2]);
    assert_eq!((shared.counts().joined, shared.held()), (1, 0));
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One step of a replay: packets → observations → merge → expire → queue, all by packet time.
//!
//! The clock of a replay is the latest packet time so far. It never goes back: packets of a file may be
//! out of order, and a flow keeps the exact times of its packets anyway. When packet time leaps ahead by
//! more than the idle timeout, the clock first stops where all flows are over, so that they are exported
//! at that time and not at the other end of the gap.
//!
//! Sampling goes by the rules of the kernel program, over all packets of all files as if one CPU received them.
//!
//! Later fragments wait for the ports of their first, by packet time too, and over the end of a file: what was captured
//! may go on in the next. A packet that waits, for its first or for the flows before a leap to be over, is received when
//! it is known what becomes of it, so that the ledger balances at any time.
//!
//! A file knows no interface index of this host: the ingress interface of its flows is 0. A replay can
//! wait, so nothing is ever lost: when the queue is full, a step says so and does nothing else.

use std::time::Duration;

use probe_common::parse::{DeepBytes, Handler, ParsedPacket, SliceBytes};
use probe_common::{NOTES, OUTCOMES, Outcome, PacketSampling, Sampler};

use super::batch::{BATCH, Batch};
use super::{CaptureError, CaptureReader};
use crate::flow::{EndReason, FlowTable, Flush, Moment, Timestamp, Totals, WallOffset};
use crate::fragment::{Joiner, JoinerCounts, JoinerOptions, Piece};
use crate::harvest::Outlet;

/// Batches of one step, so that its caller gets to look at signals and at the collectors.
const BATCHES: usize = 32;
/// Flows looked at for expiry after each batch: more than a batch can create.
const EXPIRE: usize = 1024;
/// The flow table may find a flow over this much late.
const EXPIRY_STEP: Duration = Duration::from_millis(300);

/// What became of the packets of the files.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ReplayCounts {
    /// Packets read, but those that wait.
    pub received_packets: u64,
    /// Octets that they had on the wire, as the file claims.
    pub received_octets: u64,
    /// Packets counted in a flow.
    pub metered_packets: u64,
    /// Octets of their IP packets.
    pub metered_octets: u64,
    /// Packets not counted in a flow, by [`probe_common::Outcome`].
    pub outcomes: [u64; OUTCOMES],
    /// Packets of a link type that is not supported.
    pub unsupported_link_type: u64,
    /// Metered packets with a [`probe_common::Note`].
    pub notes: [u64; NOTES],
}

/// What a step came to.
#[derive(Debug)]
pub enum Step {
    /// Call again at once.
    Busy,
    /// The queue is full: let the exporter work.
    Waiting,
    /// The file has ended, or all flows are in the queue.
    Ended,
    /// The file cannot be read on; the packets before the fault stand.
    Fault(CaptureError),
}

/// When a packet was captured, and octets that it had on the wire.
#[derive(Clone, Copy)]
struct Read {
    at: Timestamp,
    wire_octets: u64,
}

/// See the module.
pub struct Replay {
    table: FlowTable,
    outlet: Outlet,
    sampler: Sampler,
    file: Option<CaptureReader>,
    /// Whether packets of this file were found to have a link type that is not supported.
    said_unsupported: bool,
    clock: Timestamp,
    /// The first packet after a leap in time.
    beyond: Option<Piece<Read>>,
    joiner: Joiner<Read>,
    /// Out of the joiner.
    pieces: Vec<Piece<Read>>,
    batch: Batch,
    /// How far the flush at the end is.
    flush: Flush,
    counts: ReplayCounts,
}

impl Replay {
    /// A replay of every packet into an empty table; records go to `outlet`.
    #[must_use]
    pub fn new(table: FlowTable, outlet: Outlet) -> Self {
        let fragments = JoinerOptions { key_mask: table.key_mask(), ..JoinerOptions::new(table.seed()) };
        Self {
            batch: Batch::new(table.keeps_details()),
            table,
            outlet,
            sampler: Sampler::new(PacketSampling::OFF, 1, 0),
            file: None,
            said_unsupported: false,
            clock: Timestamp::default(),
            beyond: None,
            joiner: Joiner::new(fragments),
            pieces: Vec::new(),
            flush: Flush::all(EndReason::Forced),
            counts: ReplayCounts::default(),
        }
    }

    /// The same of those packets that `sampler` selects.
    #[must_use]
    pub fn with_sampler(self, sampler: Sampler) -> Self {
        Self { sampler, ..self }
    }

    /// Reads this file next.
    pub fn open(&mut self, file: CaptureReader) {
        self.file = Some(file);
        self.said_unsupported = false;
    }

    /// The latest packet time so far, Unix time: what the clock of an exporter shows while it replays.
    #[must_use]
    pub fn clock(&self) -> Timestamp {
        self.clock
    }

    /// Octets of the current file that were read, after decompression.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.file.as_ref().map_or(0, CaptureReader::offset)
    }

    /// Name of the current file.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.file.as_ref().map_or("", CaptureReader::name)
    }

    /// Whether records wait for room in the queue.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.outlet.waiting().flows != 0
    }

    /// What is in the flow table, or waits for room in the queue.
    #[must_use]
    pub fn live(&self) -> Totals {
        let (table, waiting) = (self.table.live(), self.outlet.waiting());
        Totals {
            flows: table.flows + waiting.flows,
            packets: table.packets + waiting.packets,
            octets: table.octets + waiting.octets,
        }
    }

    /// What became of the packets.
    #[must_use]
    pub fn counts(&self) -> ReplayCounts {
        self.counts
    }

    /// What became of later fragments.
    #[must_use]
    pub fn fragments(&self) -> JoinerCounts {
        self.joiner.counts()
    }

    /// The flow table, for its counts.
    #[must_use]
    pub fn table(&self) -> &FlowTable {
        &self.table
    }

    /// What was put into the queue.
    #[must_use]
    pub fn exported(&self) -> Totals {
        self.outlet.exported()
    }

    /// Reads, merges and expires about a thousand packets.
    pub fn step(&mut self) -> Step {
        if !self.outlet.push_or_keep() {
            return Step::Waiting;
        }
        let step = self.advance();
        // What finds no room now waits for the next step.
        self.outlet.push_or_keep();
        step
    }

    fn advance(&mut self) -> Step {
        for _ in 0..BATCHES {
            if self.beyond.is_some() && !self.leap() {
                break;
            }
            let read = self.read_batch();
            self.merge();
            match read {
                Ok(true) => {}
                Ok(false) => {
                    self.file = None;
                    return if self.beyond.is_some() { Step::Busy } else { Step::Ended };
                }
                Err(error) => {
                    self.file = None;
                    return Step::Fault(error);
                }
            }
        }
        Step::Busy
    }

    /// At the end: exports the live flows, some at a time, until they have [`Step::Ended`].
    pub fn flush(&mut self) -> Step {
        if !self.outlet.push_or_keep() {
            return Step::Waiting;
        }
        // Only a replay that was stopped still holds one.
        if !self.leap() {
            return Step::Busy;
        }
        self.joiner.release(&mut self.pieces);
        self.merge();
        let moment = self.moment();
        if self.table.flush(&mut self.flush, moment, EXPIRE, self.outlet.pending()) {
            return Step::Busy;
        }
        self.flush = Flush::all(EndReason::Forced);
        if self.outlet.push_or_keep() { Step::Ended } else { Step::Waiting }
    }

    fn moment(&self) -> Moment {
        Moment { now: self.clock, wall: WallOffset(0) }
    }

    /// Fills a batch; `false` at the end of the file.
    fn read_batch(&mut self) -> Result<bool, CaptureError> {
        let Some(mut file) = self.file.take() else { return Ok(false) };
        let read = self.read_from(&mut file);
        self.file = Some(file);
        read
    }

    fn read_from(&mut self, file: &mut CaptureReader) -> Result<bool, CaptureError> {
        let idle = self.table.options().idle;
        for _ in 0..BATCH {
            let Some(packet) = file.next_packet()? else { return Ok(false) };
            let wire_octets = (packet.wire_length as usize).max(packet.data.len()) as u64;
            if !self.sampler.selects_packet() {
                self.receive(wire_octets);
                self.counts.outcomes[Outcome::SampledOut as usize] += 1;
                continue;
            }
            let bytes = DeepBytes(SliceBytes::cut(packet.data, packet.wire_length as usize));
            let read = Read { at: Timestamp(packet.timestamp_ns), wire_octets };
            match packet.link_type.parse_and(&bytes, Admit { replay: self, read, idle }) {
                Some(Ok(Admitted::Here)) => {}
                Some(Ok(Admitted::Beyond)) => return Ok(true),
                Some(Err(outcome)) => {
                    self.receive(wire_octets);
                    self.counts.outcomes[outcome as usize] += 1;
                }
                None => {
                    self.receive(wire_octets);
                    self.counts.unsupported_link_type += 1;
                    if !std::mem::replace(&mut self.said_unsupported, true) {
                        let number = packet.link_type.0;
                        tracing::warn!(
                            "{} has packets of link type {number}, which is not supported; they are counted \
                             as unsupported_link_type (supported: Ethernet, raw IP, BSD loopback, Linux \
                             cooked, PPP)",
                            file.name()
                        );
                    }
                }
            }
        }
        Ok(true)
    }

    fn receive(&mut self, wire_octets: u64) {
        self.counts.received_packets += 1;
        self.counts.received_octets += wire_octets;
    }

    /// Lets a packet into the batch, or wait there where fragments do.
    #[inline(always)]
    fn admit(&mut self, packet: &ParsedPacket, read: Read) {
        if packet.fragment.is_part() {
            self.join(Piece { packet: *packet, with: read });
        } else {
            self.observe(packet, read);
        }
    }

    #[inline(never)]
    fn join(&mut self, piece: Piece<Read>) {
        self.joiner.take(piece, self.clock, &mut self.pieces);
        self.observe_pieces();
    }

    fn observe_pieces(&mut self) {
        let mut pieces = std::mem::take(&mut self.pieces);
        for piece in pieces.drain(..) {
            self.observe(&piece.packet, piece.with);
        }
        self.pieces = pieces;
    }

    #[inline(always)]
    fn observe(&mut self, packet: &ParsedPacket, Read { at, wire_octets }: Read) {
        self.receive(wire_octets);
        if self.sampler.samples_flows() && !self.sampler.selects_flow(self.table.sampling_hash(&packet.key)) {
            self.counts.outcomes[Outcome::SampledOut as usize] += 1;
            return;
        }
        self.counts.metered_packets += 1;
        self.counts.metered_octets += u64::from(packet.octets);
        if let Some(note) = packet.note {
            self.counts.notes[note as usize] += 1;
        }
        self.batch.push(packet, at);
    }

    fn merge(&mut self) {
        if self.joiner.held() > 0 {
            self.joiner.expire(self.clock, &mut self.pieces);
        }
        self.observe_pieces();
        let moment = self.moment();
        self.batch.merge_into(&mut self.table, moment, self.outlet.pending());
        self.table.expire(moment, EXPIRE, self.outlet.pending());
    }

    /// Lets the flows before a leap in time expire, some at a time; then the packet after it counts.
    /// Returns whether it does.
    fn leap(&mut self) -> bool {
        // First where the flows are over, then at the packet, for the timer wheel to follow.
        while let Some(beyond) = self.beyond {
            let moment = self.moment();
            let more = self.table.expire(moment, EXPIRE, self.outlet.pending());
            // What came out leaves before the clock goes on.
            if more || !self.outlet.pending().is_empty() {
                return false;
            }
            if self.clock < beyond.with.at {
                self.clock = beyond.with.at;
            } else {
                self.beyond = None;
                self.admit(&beyond.packet, beyond.with);
            }
        }
        true
    }
}

/// Whether a packet was taken in.
enum Admitted {
    Here,
    /// It came after a leap in time, and waits.
    Beyond,
}

/// Takes a packet in as soon as it is parsed. Inlined, it finds the fields in registers: handing them over in memory cost
/// as much as parsing.
struct Admit<'a> {
    replay: &'a mut Replay,
    read: Read,
    idle: Duration,
}

impl Handler for Admit<'_> {
    type Output = Admitted;

    #[inline(always)]
    fn handle(self, packet: ParsedPacket) -> Result<Admitted, Outcome> {
        let Self { replay, read, idle } = self;
        if read.at > replay.clock {
            if read.at.since(replay.clock) > idle {
                replay.beyond = Some(Piece { packet, with: read });
                replay.clock = read.at.min(replay.clock + idle + EXPIRY_STEP);
                return Ok(Admitted::Beyond);
            }
            replay.clock = read.at;
        }
        replay.admit(&packet, read);
        Ok(Admitted::Here)
    }
}

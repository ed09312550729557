// SPDX-License-Identifier: Apache-2.0 OR MIT
//! packet → slot: what `probe-ebpf` does in the kernel, for one worker.
//!
//! A frame is parsed when it is taken, since its octets are its source's, and its set in the cache is asked for; it is
//! counted with the batch that it is part of, when the sets have come. Between the two lies the joining of fragments.
//!
//! A packet is counted as received when it is known what becomes of it, so that `received = metered + unmetered` holds
//! in the counters at any time: one that waits in a batch, or as a fragment for its first, has not been received yet.

use probe_common::{
    Outcome, PacketSampling, Sampler, Tick,
    parse::{self, DeepBytes, ParsedPacket, SliceBytes},
    sampling_threshold, selects_flow,
};

use super::{Frame, FrameSink, OwnExports, own_exports::KnownExports};
use crate::{
    flow::{SamplingNow, Timestamp},
    fragment::{Piece, SharedJoiner},
    slots::{Amount, SlotWriter},
};

/// Packets of a batch: as many misses as the CPU can have under way, some times over.
const BATCH: usize = 64;

/// What is counted of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Packets, octets of their IP packets, and when.
    pub amount: Amount,
    /// Octets of their frames.
    pub frame_octets: u32,
    /// When, as exactly as the source says.
    pub at: Timestamp,
}

/// The joiner of all workers.
pub type Fragments = SharedJoiner<Seen>;

/// Which packets a meter counts.
#[derive(Clone, Copy, Debug)]
pub struct MeterOptions {
    /// Which packets are looked at; [`PacketSampling::OFF`] where the kernel program has chosen already.
    pub packets: PacketSampling,
    /// Of so many flows one is metered (0 and 1: all), if there is no overload.
    pub flow_interval: u32,
    /// A random number, for sampling by chance.
    pub random: u64,
}

/// What a meter shares with others.
#[derive(Clone)]
pub struct MeterShared {
    /// The interval of the flow sampling that an overload has brought about.
    pub sampling: SamplingNow,
    /// Our own messages.
    pub own_exports: OwnExports,
    /// Fragments that wait for their first.
    pub fragments: Fragments,
}

/// A packet on its way into the cache.
struct Pending {
    piece: Piece<Seen>,
    hash: u64,
}

/// See the module. The frames must be of one engine, whose row its writer's is.
pub struct Meter {
    writer: SlotWriter,
    sampler: Sampler,
    flow_interval: u32,
    /// The interval that `threshold` was made of.
    sampling_now: u32,
    threshold: u32,
    sampling: SamplingNow,
    own_exports: KnownExports,
    fragments: Fragments,
    batch: Vec<Pending>,
    /// Whether the batch has fragments.
    joins: bool,
    /// Out of the joiner.
    pieces: Vec<Piece<Seen>>,
    frames: u64,
}

impl Meter {
    /// A meter that counts in this row.
    #[must_use]
    pub fn new(writer: SlotWriter, options: MeterOptions, shared: MeterShared) -> Self {
        let MeterShared { sampling, own_exports, fragments } = shared;
        let mut meter = Self {
            writer,
            sampler: Sampler::new(options.packets, 1, options.random),
            flow_interval: options.flow_interval.max(1),
            sampling_now: 0,
            threshold: 0,
            sampling,
            own_exports: KnownExports::new(own_exports),
            fragments,
            batch: Vec::with_capacity(BATCH),
            joins: false,
            pieces: Vec::with_capacity(BATCH),
            frames: 0,
        };
        meter.refresh();
        meter
    }

    /// Frames taken since the start.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Fragments that wait for their first, of all meters.
    #[must_use]
    pub fn held(&self) -> usize {
        self.fragments.held()
    }

    /// Counts what was taken and not yet counted.
    pub fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.refresh();
        let mut batch = std::mem::take(&mut self.batch);
        if std::mem::take(&mut self.joins) {
            self.join(batch.drain(..));
        } else {
            for pending in batch.drain(..) {
                self.count(&pending.piece, pending.hash);
            }
        }
        self.batch = batch;
    }

    /// Counts, without ports, fragments whose first has not come in time.
    pub fn expire(&mut self, now: Timestamp) {
        if self.fragments.held() > 0 {
            let mut pieces = std::mem::take(&mut self.pieces);
            self.fragments.with(|joiner| joiner.expire(now, &mut pieces));
            self.count_pieces(pieces);
        }
    }

    /// Counts all that was taken, whatever it waits for.
    pub fn finish(&mut self) {
        self.flush();
        let mut pieces = std::mem::take(&mut self.pieces);
        self.fragments.with(|joiner| joiner.release(&mut pieces));
        self.count_pieces(pieces);
        self.writer.publish();
    }

    /// Counts packets that the kernel had and could not give to a source, for whom there is no other counter.
    pub fn socket_full(&mut self, packets: u64) {
        self.writer.received(packets, 0);
        self.writer.unmetered(Outcome::SocketFull, packets);
    }

    /// Lets others see the counters.
    pub fn publish(&self) {
        self.writer.publish();
    }

    /// Counts in this epoch from now on ([`SlotWriter::switch`]); what was taken before is counted before.
    pub fn switch(&mut self, epoch: u32) {
        self.flush();
        self.writer.switch(epoch);
    }

    /// Learns what has changed since the last batch.
    fn refresh(&mut self) {
        self.own_exports.refresh();
        let now = self.sampling.interval();
        if now != self.sampling_now {
            self.sampling_now = now;
            // As `ControlMap::set_flow_sampling` does it.
            self.threshold = sampling_threshold(u64::from(self.flow_interval) * u64::from(now));
        }
    }

    /// Counts a batch in its order, but fragments that have to wait; those that have waited come where they are let
    /// go.
    fn join(&mut self, batch: impl Iterator<Item = Pending>) {
        let mut pieces = std::mem::take(&mut self.pieces);
        self.fragments.with(|joiner| {
            for Pending { piece, .. } in batch {
                if piece.packet.fragment.is_part() {
                    joiner.take(piece, piece.with.at, &mut pieces);
                } else {
                    pieces.push(piece);
                }
            }
        });
        self.count_pieces(pieces);
    }

    fn count_pieces(&mut self, mut pieces: Vec<Piece<Seen>>) {
        for piece in pieces.drain(..) {
            let hash = self.writer.hash(&piece.packet);
            self.count(&piece, hash);
        }
        self.pieces = pieces;
        // A flood that was given up at once needs much room once.
        self.pieces.shrink_to(BATCH * 16);
    }

    #[inline]
    fn count(&mut self, piece: &Piece<Seen>, hash: u64) {
        let Piece { packet, with: Seen { amount, frame_octets, .. } } = piece;
        let packets = u64::from(amount.packets);
        self.writer.received(packets, u64::from(*frame_octets));
        let own_exports = &self.own_exports;
        let counted = if selects_flow(self.threshold, self.writer.sampling_hash(hash)) {
            let refusal = || if own_exports.contain(&packet.key) { Err(Outcome::OwnExport) } else { Ok(()) };
            self.writer.count(hash, packet, *amount, refusal)
        } else {
            Err(Outcome::SampledOut)
        };
        if let Err(outcome) = counted {
            self.writer.unmetered(outcome, packets);
        }
    }

    /// Counts a frame that is not metered, and need not wait for that.
    fn refuse(&mut self, outcome: Outcome, packets: u32, frame_octets: u32) {
        self.writer.received(packets.into(), frame_octets.into());
        self.writer.unmetered(outcome, packets.into());
    }
}

impl FrameSink for Meter {
    #[inline]
    fn take(&mut self, frame: Frame<'_>) {
        self.frames += 1;
        let wire_length = u32::try_from(frame.wire_length.max(frame.octets.len())).unwrap_or(u32::MAX);
        // Nothing is read of a packet before it is selected; but for how many a buffer stands, only parsing tells.
        let is_one = frame.segment_octets == 0;
        if is_one && !self.sampler.selects_packet() {
            return self.refuse(Outcome::SampledOut, 1, wire_length);
        }
        let bytes = DeepBytes(SliceBytes::cut(frame.octets, frame.wire_length));
        let mut packet = match parse::parse_untagged(&bytes, frame.stripped_tag) {
            Ok(packet) => packet,
            Err(outcome) => return self.refuse(outcome, 1, wire_length),
        };
        packet.key.set_interface(frame.interface, frame.direction);
        let (packets, octets) = packet.segments(frame.segment_octets, 0);
        let frame_octets = frame_octets(&packet, wire_length, packets);
        if !is_one && !self.sampler.selects_packet() {
            return self.refuse(Outcome::SampledOut, packets, frame_octets);
        }
        let amount = Amount { packets, octets, at: Tick::from_ns(frame.at.0) };
        let hash = if packet.fragment.is_part() {
            // Its key, and so its set, may change.
            self.joins = true;
            0
        } else {
            let hash = self.writer.hash(&packet);
            self.writer.prefetch(hash);
            hash
        };
        let seen = Seen { amount, frame_octets, at: frame.at };
        self.batch.push(Pending { piece: Piece { packet, with: seen }, hash });
        if self.batch.len() == BATCH {
            self.flush();
        }
    }
}

/// Octets of the frames that a buffer stands for: each has the headers of the buffer again, which is what the kernel
/// counts too (`qdisc_pkt_len_init` in net/core/dev.c).
#[inline]
fn frame_octets(packet: &ParsedPacket, wire_length: u32, packets: u32) -> u32 {
    let payload = packet.octets.saturating_sub(packet.header_octets);
    let headers = wire_length.saturating_sub(payload);
    wire_length.saturating_add((packets - 1).saturating_mul(headers))
}

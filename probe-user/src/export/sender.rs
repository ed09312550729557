// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One collector: the way to it, its place in the stream's ring, its pace, its counters.

use std::collections::VecDeque;
use std::time::Duration;

use super::encode::Now;
use super::pace::{Pacer, Rate, Urgency};
use super::ring::{Cursor, DatagramRing, Run};
use super::stats::{CollectorStats, DropReason};
use super::stream::Stream;
use super::transport::{Fate, Sink};
use super::url::CollectorUrl;
use crate::flow::Timestamp;
use crate::throttle::Throttle;

/// How often the log mentions a trouble that comes with every datagram.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// A message that was taken, and whose fate the sink has not told yet.
#[derive(Clone, Copy)]
struct Flying {
    records: u64,
    octets: usize,
}

/// See the module.
pub(super) struct Sender {
    /// Which stream it reads.
    pub(super) stream: usize,
    pub(super) sink: Box<dyn Sink>,
    pacer: Pacer,
    cursor: Cursor,
    /// In the order they were taken; bounded by what the sink takes.
    flying: VecDeque<Flying>,
    records_flying: u64,
    /// The way there took no more when it was last given something.
    blocked: bool,
    complaint: Throttle,
    trouble_complaint: Throttle,
    drop_complaint: Throttle,
}

impl Sender {
    pub(super) fn new(collector: &CollectorUrl, stream: usize, sink: Box<dyn Sink>) -> Self {
        let unless_given = if collector.transport.has_sessions() { Rate::Free } else { Rate::Auto };
        let rate = collector.pps.map_or(unless_given, Rate::Fixed);
        Self {
            stream,
            sink,
            pacer: Pacer::new(rate),
            cursor: Cursor::default(),
            flying: VecDeque::new(),
            records_flying: 0,
            blocked: false,
            complaint: Throttle::new(COMPLAIN_EVERY),
            trouble_complaint: Throttle::new(COMPLAIN_EVERY),
            drop_complaint: Throttle::new(COMPLAIN_EVERY),
        }
    }

    /// Whether it is there and takes what it is given, so that waiting for it is worth while.
    pub(super) fn moves(&self) -> bool {
        self.sink.is_connected() && !self.blocked
    }

    /// Octets that can be encoded before something is overwritten that this collector has not got.
    pub(super) fn room(&self, ring: &DatagramRing) -> u64 {
        ring.room(&self.cursor)
    }

    /// Records in messages that have not left, or of which it is not known that they arrived.
    pub(super) fn records_waiting(&self, ring: &DatagramRing) -> u64 {
        ring.records_waiting(&self.cursor) + self.records_flying
    }

    /// Lets the sink do what is due; returns whether the stream is to send its templates again.
    pub(super) fn tend(&mut self, stream: &Stream, stats: &CollectorStats, now: Now) -> bool {
        let tended = self.sink.tend(&mut |out| stream.preamble(now, out), now);
        for _ in 0..tended.confirmed {
            if let Some(message) = self.land() {
                stats.datagrams.add(1);
                stats.octets.add(message.octets as u64);
                stats.records.add(message.records);
            }
        }
        let mut lost = 0;
        for _ in 0..tended.lost {
            lost += self.land().map_or(0, |message| message.records);
        }
        stats.dropped[DropReason::ConnectionLost as usize].add(lost);
        if let Some(trouble) = tended.trouble {
            stats.errors[trouble.reason as usize].add(1);
            // A loss is said each time: connections are not made more often than every half second.
            let held_back = self.trouble_complaint.admit(now.at);
            if held_back.is_some() || lost > 0 {
                tracing::warn!(
                    reason = trouble.reason.name(),
                    lost_records = lost,
                    held_back = held_back.unwrap_or(0),
                    "{}: {}",
                    stats.url,
                    trouble.what,
                );
            }
        }
        tended.refresh
    }

    fn land(&mut self) -> Option<Flying> {
        let message = self.flying.pop_front()?;
        self.records_flying -= message.records;
        Some(message)
    }

    /// Sends what may leave now; returns the datagrams that left or were given up. `queued` is an estimate
    /// of the datagrams that the queues still hold.
    pub(super) fn send(
        &mut self,
        ring: &DatagramRing,
        stats: &CollectorStats,
        queued: u64,
        urgency: Urgency,
        now: Now,
    ) -> u64 {
        self.skip_overwritten(ring, stats, now.at);
        let backlog = ring.backlog(&self.cursor);
        let mut allowance = self.pacer.allowance(now.at, backlog.saturating_add(queued), urgency);
        let mut gone = 0;
        while let Some(run) = ring.run(&self.cursor, allowance) {
            let sent = self.sink.send(&run, now);
            let taken = sent.datagrams as u64;
            self.note_taken(ring, stats, &run, sent.datagrams);
            let given_up = if sent.fate == Fate::Drop { run.datagrams as u64 - taken } else { 0 };
            let dropped = ring.advance(&mut self.cursor, given_up);
            stats.dropped[DropReason::SendError as usize].add(dropped);
            self.pacer.spend(taken + given_up);
            gone += taken + given_up;
            allowance = allowance.saturating_sub(taken + given_up);
            if let Some((reason, errno)) = sent.error {
                stats.errors[reason as usize].add(1);
                if let Some(held_back) = self.complaint.admit(now.at) {
                    tracing::warn!(
                        "sending to {} failed: {} ({errno}); {dropped} records dropped just now, {held_back} \
                         more errors since the last report; check that the collector runs and can be reached",
                        stats.url,
                        reason.name(),
                    );
                }
            }
            self.blocked = sent.fate == Fate::Busy;
            if self.blocked {
                break;
            }
        }
        gone
    }

    /// The sink took the first `count` messages of a run.
    fn note_taken(&mut self, ring: &DatagramRing, stats: &CollectorStats, run: &Run<'_>, count: usize) {
        if !self.sink.confirms() {
            stats.datagrams.add(count as u64);
            stats.octets.add((count * run.segment).min(run.octets.len()) as u64);
            stats.records.add(ring.advance(&mut self.cursor, count as u64));
            return;
        }
        for message in run.iter().take(count) {
            let records = ring.advance(&mut self.cursor, 1);
            self.records_flying += records;
            self.flying.push_back(Flying { records, octets: message.len() });
        }
    }

    /// Counts what the ring overwrote before it left.
    fn skip_overwritten(&mut self, ring: &DatagramRing, stats: &CollectorStats, now: Timestamp) {
        let missed = ring.catch_up(&mut self.cursor);
        if missed == 0 {
            return;
        }
        let (reason, advice) = if !self.sink.is_connected() {
            (DropReason::NotConnected, "there is no connection to it: see the messages before")
        } else if self.pacer.is_fixed() {
            (DropReason::Pace, "raise pps in its URL")
        } else {
            let advice = "it takes messages too slowly: look at the collector, and at the network towards it";
            (DropReason::Queue, advice)
        };
        stats.dropped[reason as usize].add(missed);
        if let Some(held_back) = self.drop_complaint.admit(now) {
            tracing::warn!(
                "{} falls behind: {missed} records dropped just now, as often before since the last report: \
                 {held_back}; {advice}",
                stats.url
            );
        }
    }

    /// Gives up what waits.
    pub(super) fn abandon(&mut self, ring: &DatagramRing, stats: &CollectorStats) {
        let waiting = ring.backlog(&self.cursor);
        let dropped = &stats.dropped[DropReason::Shutdown as usize];
        dropped.add(ring.advance(&mut self.cursor, waiting));
        dropped.add(std::mem::take(&mut self.records_flying));
        self.flying.clear();
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One collector: its socket, its place in the stream's ring, its pace, its counters.

use std::time::Duration;

use super::encode::Now;
use super::pace::{Pacer, Rate, Urgency};
use super::ring::{Cursor, DatagramRing};
use super::stats::{CollectorStats, DropReason};
use super::stream::Stream;
use super::transport::{Fate, Sink};
use super::url::CollectorUrl;
use crate::flow::Timestamp;
use crate::throttle::Throttle;

/// How often the log mentions a trouble that comes with every datagram.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Sender {
    /// Which stream it reads.
    pub(super) stream: usize,
    pub(super) sink: Box<dyn Sink>,
    pacer: Pacer,
    cursor: Cursor,
    complaint: Throttle,
    drop_complaint: Throttle,
}

impl Sender {
    pub(super) fn new(collector: &CollectorUrl, stream: usize, sink: Box<dyn Sink>) -> Self {
        Self {
            stream,
            sink,
            pacer: Pacer::new(collector.pps.map_or(Rate::Auto, Rate::Fixed)),
            cursor: Cursor::default(),
            complaint: Throttle::new(COMPLAIN_EVERY),
            drop_complaint: Throttle::new(COMPLAIN_EVERY),
        }
    }

    /// Datagrams that wait for this collector; more than the ring holds if it fell behind.
    pub(super) fn backlog(&self, ring: &DatagramRing) -> u64 {
        ring.backlog(&self.cursor)
    }

    pub(super) fn records_waiting(&self, ring: &DatagramRing) -> u64 {
        ring.records_waiting(&self.cursor)
    }

    /// Lets the sink do what is due; returns whether the stream is to send its templates again.
    pub(super) fn tend(&mut self, stream: &Stream, now: Now) -> bool {
        self.sink.tend(&mut |out| stream.preamble(now, out), now).refresh
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
            stats.datagrams.add(taken);
            stats.octets.add((sent.datagrams * run.segment).min(run.octets.len()) as u64);
            stats.records.add(ring.advance(&mut self.cursor, taken));
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
            if sent.fate == Fate::Busy {
                break;
            }
        }
        gone
    }

    /// Counts what the ring overwrote before it left.
    fn skip_overwritten(&mut self, ring: &DatagramRing, stats: &CollectorStats, now: Timestamp) {
        let missed = ring.catch_up(&mut self.cursor);
        if missed == 0 {
            return;
        }
        let reason = if self.pacer.is_fixed() { DropReason::Pace } else { DropReason::Queue };
        stats.dropped[reason as usize].add(missed);
        if let Some(held_back) = self.drop_complaint.admit(now) {
            let advice = match reason {
                DropReason::Pace => "raise pps in its URL",
                _ => "its socket takes datagrams too slowly: look at the network device towards it",
            };
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
        stats.dropped[DropReason::Shutdown as usize].add(ring.advance(&mut self.cursor, waiting));
    }
}

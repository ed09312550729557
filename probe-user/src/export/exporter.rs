// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The exporter: pop a batch, print it, encode it once for each stream, send what may leave.
//!
//! Inert: whoever owns it calls [`Exporter::step`] again and again, and [`Exporter::flush`] at the end
//! until that says it is done. No step waits for anything.

use std::net::SocketAddr;
use std::sync::Arc;

use super::netflow_v5;
use super::pace::Urgency;
use super::print::Printer;
use super::sender::Sender;
use super::stats::{ExportStats, NotRepresentable};
use super::stream::{Stream, StreamSettings};
use super::udp::UdpSink;
use super::url::CollectorUrl;
use crate::flow::{FlowRecord, Timestamp};
use crate::queue::Consumer;

/// Records of one batch; 88 octets each, so that a batch stays in L2.
const BATCH: usize = 1024;
/// Batches of one step, so that its caller gets to look at the time.
const ROUNDS: usize = 16;
/// Smallest ring: several batches of which each record needed a datagram of its own.
const MIN_RING_DATAGRAMS: usize = 4 * BATCH;
/// IP and UDP headers.
const OVERHEAD_V4: usize = 28;
const OVERHEAD_V6: usize = 48;
const DEFAULT_MTU: u16 = 1500;

/// How to export.
#[derive(Clone, Debug)]
pub struct ExporterOptions {
    /// Engine type, where the collector's URL names none.
    pub engine_type: u8,
    /// Engine id of the first interface, where the collector's URL names none.
    pub engine_id: u8,
    /// ifIndex of the interfaces, in the order of their engine ids.
    pub interfaces: Vec<u32>,
    /// Encoded datagrams kept for collectors that lag behind; at least 4096.
    pub ring_datagrams: usize,
    /// Leave records in the queues rather than overwrite datagrams that a collector has not got: for a
    /// source that can wait, such as a file.
    pub lossless: bool,
}

impl Default for ExporterOptions {
    fn default() -> Self {
        Self {
            engine_type: 0,
            engine_id: 0,
            interfaces: Vec::new(),
            ring_datagrams: 2 * MIN_RING_DATAGRAMS,
            lossless: false,
        }
    }
}

/// What a step did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Records taken from the queues.
    pub popped: usize,
    /// Datagrams that left or were given up.
    pub sent: u64,
    /// Whether nothing waits any more, neither in the queues nor for any collector.
    pub done: bool,
}

impl Progress {
    /// Whether the step found nothing to do, so that its caller may rest for a millisecond.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.popped == 0 && self.sent == 0
    }
}

/// See the module.
pub struct Exporter {
    options: ExporterOptions,
    queues: Vec<Consumer<FlowRecord>>,
    batch: Vec<FlowRecord>,
    printer: Option<Printer>,
    streams: Vec<Stream>,
    senders: Vec<Sender>,
    stats: Arc<ExportStats>,
}

/// Records that a datagram may hold on the way to this collector.
fn records_per_datagram(collector: &CollectorUrl, sink: &UdpSink) -> usize {
    let overhead = if sink.peer_addr().is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
    let mtu = usize::from(collector.mtu.unwrap_or(DEFAULT_MTU));
    let room = mtu.saturating_sub(overhead + netflow_v5::HEADER_LEN);
    (room / netflow_v5::RECORD_LEN).clamp(1, netflow_v5::MAX_RECORDS)
}

impl Exporter {
    /// An exporter from `queues` to `collectors`, printing as well if there is a printer.
    #[must_use]
    pub fn new(
        options: ExporterOptions,
        collectors: Vec<(CollectorUrl, UdpSink)>,
        queues: Vec<Consumer<FlowRecord>>,
        printer: Option<Printer>,
    ) -> Self {
        let stats = Arc::new(ExportStats::new(collectors.iter().map(|(url, _)| url.to_string())));
        let mut streams: Vec<Stream> = Vec::new();
        let mut senders = Vec::new();
        for (collector, sink) in collectors {
            let settings = StreamSettings {
                engine_type: collector.engine_type.unwrap_or(options.engine_type),
                engine_id: collector.engine_id.unwrap_or(options.engine_id),
                records_per_datagram: records_per_datagram(&collector, &sink),
            };
            let known = streams.iter().position(|stream| stream.settings() == settings);
            let index = known.unwrap_or_else(|| {
                let datagrams = options.ring_datagrams.max(MIN_RING_DATAGRAMS);
                streams.push(Stream::new(settings, &options.interfaces, datagrams));
                streams.len() - 1
            });
            senders.push(Sender::new(&collector, index, sink));
        }
        Self { options, queues, batch: Vec::with_capacity(BATCH), printer, streams, senders, stats }
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Arc<ExportStats> {
        Arc::clone(&self.stats)
    }

    /// Our and the collector's end of every socket that is connected; changes when [`Self::connects`] does.
    #[must_use]
    pub fn endpoints(&self) -> Vec<(SocketAddr, SocketAddr)> {
        let sinks = self.senders.iter().map(|sender| &sender.sink);
        sinks.filter_map(|sink| Some((sink.local_addr()?, sink.peer_addr()))).collect()
    }

    /// How often sockets were connected.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.senders.iter().map(|sender| sender.sink.connects()).sum()
    }

    /// The interface with index `from` was made anew and now has `to`: its engine goes on.
    pub fn moved(&mut self, from: u32, to: u32) {
        for stream in &mut self.streams {
            stream.moved(from, to);
        }
    }

    /// Whether whoever read the printed records has gone.
    #[must_use]
    pub fn print_closed(&self) -> bool {
        self.printer.as_ref().is_some_and(Printer::is_closed)
    }

    /// One turn. Times are those of one clock reading.
    pub fn step(&mut self, now_unix_ns: u64, now: Timestamp) -> Progress {
        let full = self.queues.iter().any(|queue| queue.len() >= queue.capacity() / 2);
        let urgency = if full && !self.options.lossless { Urgency::Pressure } else { Urgency::Normal };
        let mut progress = Progress::default();
        for _ in 0..ROUNDS {
            let popped = if self.may_pop(urgency) { self.pop(now_unix_ns, now) } else { 0 };
            progress.popped += popped;
            progress.sent += self.send(urgency, now);
            if popped == 0 {
                break;
            }
        }
        for stream in &mut self.streams {
            stream.seal_due(now_unix_ns, now, false);
        }
        progress.sent += self.send(urgency, now);
        self.finish(progress)
    }

    /// One turn of the end: takes all that is left, sends partly filled datagrams as well, and gives up at
    /// `deadline` what is still there then. To be called until it says it is done.
    pub fn flush(&mut self, now_unix_ns: u64, now: Timestamp, deadline: Timestamp) -> Progress {
        let urgency = Urgency::Flush { deadline };
        let over = now >= deadline;
        let mut progress = Progress::default();
        loop {
            let popped = if over || self.may_pop(urgency) { self.pop(now_unix_ns, now) } else { 0 };
            progress.popped += popped;
            if !over {
                progress.sent += self.send(urgency, now);
            }
            if popped == 0 {
                break;
            }
        }
        for stream in &mut self.streams {
            stream.seal_due(now_unix_ns, now, true);
        }
        progress.sent += self.send(urgency, now);
        if over {
            for (sender, stats) in self.senders.iter_mut().zip(&self.stats.collectors) {
                sender.abandon(self.streams[sender.stream].ring(), stats);
            }
        }
        self.finish(progress)
    }

    /// Whether there is room for a batch: for the quickest collector of each stream, or for every one if
    /// nothing may be lost. Under pressure a collector that lags behind loses datagrams instead.
    fn may_pop(&self, urgency: Urgency) -> bool {
        if urgency == Urgency::Pressure {
            return true;
        }
        self.streams.iter().enumerate().all(|(index, stream)| {
            let ring = stream.ring();
            let backlogs = self
                .senders
                .iter()
                .filter(|sender| sender.stream == index)
                .map(|sender| sender.backlog(ring));
            let waiting = if self.options.lossless { backlogs.max() } else { backlogs.min() };
            let needed = (BATCH + stream.engines()) as u64;
            waiting.unwrap_or(0) + needed <= ring.capacity()
        })
    }

    /// Takes a batch from every queue, prints and encodes it.
    fn pop(&mut self, now_unix_ns: u64, now: Timestamp) -> usize {
        self.batch.clear();
        // A fair share of the batch for each queue.
        let share = (BATCH / self.queues.len().max(1)).max(1);
        for queue in &mut self.queues {
            queue.pop_into(&mut self.batch, share);
        }
        if self.batch.is_empty() {
            return 0;
        }
        let stats = &self.stats;
        stats.records.add(self.batch.len() as u64);
        stats.packets.add(self.batch.iter().fold(0, |sum, record| sum.wrapping_add(record.packets)));
        stats.octets.add(self.batch.iter().fold(0, |sum, record| sum.wrapping_add(record.octets)));
        if let Some(printer) = &mut self.printer {
            printer.print(&self.batch);
        }
        for (index, stream) in self.streams.iter_mut().enumerate() {
            let tally = stream.encode(&self.batch, now_unix_ns, now);
            if index == 0 {
                // The split depends on the records alone.
                stats.split_records.add(tally.split);
            }
            let senders = self.senders.iter().zip(&stats.collectors);
            for (_, collector) in senders.filter(|(sender, _)| sender.stream == index) {
                collector.offered.add(tally.offered);
                collector.not_representable[NotRepresentable::Ipv6 as usize].add(tally.ipv6);
                collector.not_representable[NotRepresentable::Counter as usize].add(tally.counter);
            }
        }
        self.batch.len()
    }

    fn queued(&self) -> u64 {
        self.queues.iter().map(|queue| queue.len() as u64).sum()
    }

    fn send(&mut self, urgency: Urgency, now: Timestamp) -> u64 {
        let queued = self.queued();
        let mut sent = 0;
        for (sender, stats) in self.senders.iter_mut().zip(&self.stats.collectors) {
            let stream = &self.streams[sender.stream];
            let datagrams = queued / stream.settings().records_per_datagram as u64;
            sent += sender.send(stream.ring(), stats, datagrams, urgency, now);
        }
        sent
    }

    /// Publishes the gauges.
    fn finish(&mut self, progress: Progress) -> Progress {
        let queued = self.queued();
        self.stats.queue_length.set(queued);
        let mut waiting = 0;
        for (sender, stats) in self.senders.iter().zip(&self.stats.collectors) {
            let stream = &self.streams[sender.stream];
            let records = sender.records_waiting(stream.ring()) + stream.open_records();
            waiting += records;
            stats.waiting.set(records);
            stats.sequence.set(stream.sequence());
        }
        let unfitting = self.streams.iter().map(Stream::unfitting);
        let (times, interfaces) = unfitting.fold((0, 0), |(a, b), (c, d)| (a.max(c), b.max(d)));
        self.stats.adjusted_times.set(times);
        self.stats.wide_interfaces.set(interfaces);
        if progress.popped > 0
            && let Some(printer) = &mut self.printer
        {
            printer.flush();
        }
        Progress { done: queued == 0 && waiting == 0, ..progress }
    }
}

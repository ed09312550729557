// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The exporter: pop a batch, print it, encode it once for each stream, send what may leave.
//!
//! Inert: whoever owns it calls [`Exporter::step`] again and again, and [`Exporter::flush`] at the end
//! until that says it is done. No step waits for anything.

use std::sync::Arc;
use std::time::Duration;

use probe_common::HashSeed;

use super::encode::{EncoderSettings, Now, Told};
use super::pace::Urgency;
use super::print::Printer;
use super::select::{CollectorPolicy, ConversationHash, Distributor, Selection};
use super::sender::Sender;
use super::stats::ExportStats;
use super::stream::{Stream, StreamSettings, Tally};
use super::transport::{Endpoint, Sink};
use super::url::CollectorUrl;
use crate::flow::{FlowRecord, Timestamp};
use crate::queue::Consumer;

/// Records of one batch; 88 octets each, so that a batch stays in L2.
const BATCH: usize = 1024;
/// Batches of one step, so that its caller gets to look at the time.
const ROUNDS: usize = 16;
/// Smallest ring: several batches of which each record needed a datagram of its own.
const MIN_RING_DATAGRAMS: usize = 4 * BATCH;
/// Octets of a record, for estimates.
const SMALL_RECORD: usize = 48;
/// How often the exporter asks what options are to tell.
const TOLD_EVERY: Duration = Duration::from_secs(1);
/// RFC 6728 section 4.7 proposes ten minutes; a collector that starts late should not wait that long.
const TEMPLATE_REFRESH: Duration = Duration::from_secs(60);
const TEMPLATE_PACKETS: u32 = 4096;
/// Rare, because some collectors take each options record for a lost flow.
const OPTIONS_REFRESH: Duration = Duration::from_secs(300);

/// Gives what options and headers tell, at the moment of the call. It must not block.
pub type ToldSource = Arc<dyn Fn() -> Told + Send + Sync>;

/// A collector and the way to it.
pub type OpenCollector = (CollectorUrl, Box<dyn Sink>);

/// How to export.
#[derive(Clone)]
pub struct ExporterOptions {
    /// Engine type, where the collector's URL names none.
    pub engine_type: u8,
    /// Engine id of the first interface, where the collector's URL names none.
    pub engine_id: u8,
    /// Observation domain of the first interface, where the collector's URL names none.
    pub domain: u32,
    /// ifIndex of the interfaces, in the order of their engine ids.
    pub interfaces: Vec<u32>,
    /// Encoded datagrams kept for collectors that lag behind; at least 4096.
    pub ring_datagrams: usize,
    /// Leave records in the queues rather than overwrite datagrams that a collector has not got: for a
    /// source that can wait, such as a file.
    pub lossless: bool,
    /// What options and headers tell.
    pub told: ToldSource,
    /// How records are shared out among the collectors.
    pub policy: CollectorPolicy,
    /// Random, drawn at the start for the exporter alone: which flows are sampled and who gets which.
    pub seed: HashSeed,
}

impl Default for ExporterOptions {
    fn default() -> Self {
        Self {
            engine_type: 0,
            engine_id: 0,
            domain: 1,
            interfaces: Vec::new(),
            ring_datagrams: 2 * MIN_RING_DATAGRAMS,
            lossless: false,
            told: Arc::new(Told::default),
            policy: CollectorPolicy::default(),
            seed: HashSeed::new([0x9e37_79b9; 12], 0),
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
    distributor: Distributor,
    stats: Arc<ExportStats>,
    told: Told,
    told_at: Option<Timestamp>,
}

impl StreamSettings {
    /// Those of a collector, the `owner`th, whose way takes messages of `message_octets`.
    #[must_use]
    pub fn new(
        options: &ExporterOptions,
        collector: &CollectorUrl,
        owner: usize,
        message_octets: usize,
    ) -> StreamSettings {
        let encoder = EncoderSettings {
            version: collector.version,
            transport: collector.transport,
            engine_type: collector.engine_type.unwrap_or(options.engine_type),
            engine_id: collector.engine_id.unwrap_or(options.engine_id),
            domain: collector.domain.unwrap_or(options.domain),
            interfaces: collector.interfaces,
            message_octets,
            fields: collector.fields,
            biflow: collector.biflow,
            template_refresh: collector.template_refresh.unwrap_or(TEMPLATE_REFRESH),
            template_packets: collector.template_packets.unwrap_or(TEMPLATE_PACKETS),
            options: collector.options,
            options_refresh: collector.options_refresh.unwrap_or(OPTIONS_REFRESH),
            sampling_options: collector.sampling_options,
            v5_sampling_mode_bits: collector.v5_sampling_mode_bits,
            record_sampling: collector.sampling.map_or(1, std::num::NonZeroU32::get),
        };
        StreamSettings {
            encoder,
            selection: Selection { filter: collector.filter.clone(), sampling: collector.sampling },
            conversations: ConversationHash::new(options.seed),
            // A session has its own templates and sequence, a share of the records as well.
            owner: (collector.transport.has_sessions() || options.policy != CollectorPolicy::Replicate)
                .then_some(owner),
        }
    }
}

impl Exporter {
    /// An exporter from `queues` to `collectors`, printing as well if there is a printer.
    #[must_use]
    pub fn new(
        options: ExporterOptions,
        collectors: Vec<OpenCollector>,
        queues: Vec<Consumer<FlowRecord>>,
        printer: Option<Printer>,
    ) -> Self {
        let stats = Arc::new(ExportStats::new(collectors.iter().map(|(url, _)| url.to_string())));
        let mut streams: Vec<Stream> = Vec::new();
        let mut senders = Vec::new();
        for (owner, (collector, sink)) in collectors.into_iter().enumerate() {
            let settings = StreamSettings::new(&options, &collector, owner, sink.message_octets());
            let known = streams.iter().position(|stream| *stream.settings() == settings);
            let index = known.unwrap_or_else(|| {
                let datagrams = options.ring_datagrams.max(MIN_RING_DATAGRAMS);
                streams.push(Stream::new(settings, &options.interfaces, datagrams));
                streams.len() - 1
            });
            senders.push(Sender::new(&collector, index, sink));
        }
        let distributor =
            Distributor::new(options.policy, senders.len(), ConversationHash::new(options.seed));
        Self {
            distributor,
            options,
            queues,
            batch: Vec::with_capacity(BATCH),
            printer,
            streams,
            senders,
            stats,
            told: Told::default(),
            told_at: None,
        }
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Arc<ExportStats> {
        Arc::clone(&self.stats)
    }

    /// Both ends of every connection; changes when [`Self::connects`] does.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.senders.iter().filter_map(|sender| sender.sink.endpoint()).collect()
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
        let now = Now { unix_ns: now_unix_ns, at: now };
        self.tend(now);
        let mut progress = Progress::default();
        for _ in 0..ROUNDS {
            let popped = if self.may_pop(urgency) { self.pop(now) } else { 0 };
            let released = self.release(urgency, now, false);
            progress.popped += popped;
            progress.sent += self.send(urgency, now);
            if popped + released == 0 {
                break;
            }
        }
        self.tick(now, false);
        progress.sent += self.send(urgency, now);
        self.finish(progress)
    }

    /// One turn of the end: takes all that is left, sends partly filled datagrams as well, and gives up at
    /// `deadline` what is still there then. To be called until it says it is done.
    pub fn flush(&mut self, now_unix_ns: u64, now: Timestamp, deadline: Timestamp) -> Progress {
        let urgency = Urgency::Flush { deadline };
        let over = now >= deadline;
        let now = Now { unix_ns: now_unix_ns, at: now };
        self.tend(now);
        let mut progress = Progress::default();
        loop {
            let popped = if over || self.may_pop(urgency) { self.pop(now) } else { 0 };
            // What is still in the queues may be the other direction of what waits for it.
            let all = self.queued() == 0;
            let released = self.release(if over { Urgency::Pressure } else { urgency }, now, all);
            progress.popped += popped;
            if !over {
                progress.sent += self.send(urgency, now);
            }
            if popped + released == 0 {
                break;
            }
        }
        self.tick(now, true);
        progress.sent += self.send(urgency, now);
        if over {
            for (sender, stats) in self.senders.iter_mut().zip(&self.stats.collectors) {
                sender.abandon(self.streams[sender.stream].ring(), stats);
            }
        }
        self.finish(progress)
    }

    /// What is due in the sinks; a collector that came back gets the templates.
    fn tend(&mut self, now: Now) {
        for sender in &mut self.senders {
            let stream = &mut self.streams[sender.stream];
            if sender.tend(stream, now) {
                stream.refresh();
            }
        }
        let up = self.senders.iter().map(|sender| sender.sink.is_up());
        if let Some(handover) = self.distributor.tend(up, now.at) {
            let url = |collector: usize| self.stats.collectors.get(collector).map(|stats| stats.url.as_str());
            tracing::warn!(
                "records go to {} from now on, no longer to {}",
                url(handover.to).unwrap_or_default(),
                url(handover.from).unwrap_or_default(),
            );
        }
        if self.told_at.is_none_or(|before| now.at.since(before) >= TOLD_EVERY) {
            self.told_at = Some(now.at);
            self.told = (self.options.told)();
        }
        // Templates come before the records that need them.
        self.tick(now, false);
    }

    fn tick(&mut self, now: Now, all: bool) {
        for stream in &mut self.streams {
            stream.tick(&self.told, now, all);
        }
    }

    /// Whether there is room for a batch in every stream that gets part of it. Under pressure a collector
    /// that lags behind loses datagrams instead.
    fn may_pop(&self, urgency: Urgency) -> bool {
        let serves = |stream: &Stream| stream.settings().owner.is_none_or(|it| self.distributor.serves(it));
        (0..self.streams.len()).all(|index| !serves(&self.streams[index]) || self.has_room(index, urgency))
    }

    /// Whether there is room for a batch: for the quickest collector of the stream, or for every one if
    /// nothing may be lost.
    fn has_room(&self, index: usize, urgency: Urgency) -> bool {
        if urgency == Urgency::Pressure {
            return true;
        }
        let stream = &self.streams[index];
        let ring = stream.ring();
        let backlogs =
            self.senders.iter().filter(|sender| sender.stream == index).map(|sender| sender.backlog(ring));
        let waiting = if self.options.lossless { backlogs.max() } else { backlogs.min() };
        let needed = (BATCH + stream.domains()) as u64;
        waiting.unwrap_or(0) + needed <= ring.capacity()
    }

    /// Lets records go that have waited for their other direction: a batch of each stream, where there is
    /// room. Returns how many.
    fn release(&mut self, urgency: Urgency, now: Now, all: bool) -> usize {
        let mut sum = 0;
        for index in 0..self.streams.len() {
            if self.streams[index].held_records() == 0 || !self.has_room(index, urgency) {
                continue;
            }
            let (released, tally) = self.streams[index].release(now, all, BATCH);
            self.stats.split_records.add(tally.split);
            self.account(index, &tally);
            sum += released;
        }
        sum
    }

    /// Counts for the collectors of a stream what became of records.
    fn account(&self, index: usize, tally: &Tally) {
        let senders = self.senders.iter().zip(&self.stats.collectors);
        for (_, collector) in senders.filter(|(sender, _)| sender.stream == index) {
            collector.count(tally);
        }
    }

    /// Takes a batch from every queue, prints and encodes it.
    fn pop(&mut self, now: Now) -> usize {
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
        self.distributor.assign(&self.batch);
        let mut split = 0;
        for index in 0..self.streams.len() {
            let tally = self.streams[index].offer(&self.batch, &self.distributor, now);
            // Of copies of a record one counts: how it is split depends on it alone.
            split = if self.distributor.replicates() { tally.split.max(split) } else { tally.split + split };
            self.account(index, &tally);
        }
        self.stats.split_records.add(split);
        self.batch.len()
    }

    fn queued(&self) -> u64 {
        self.queues.iter().map(|queue| queue.len() as u64).sum()
    }

    fn send(&mut self, urgency: Urgency, now: Now) -> u64 {
        let queued = self.queued();
        let mut sent = 0;
        for (sender, stats) in self.senders.iter_mut().zip(&self.stats.collectors) {
            let stream = &self.streams[sender.stream];
            // Of single records, as small as they come.
            let datagrams = queued / (stream.settings().encoder.message_octets / SMALL_RECORD).max(1) as u64;
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
            let held = stream.held_records();
            waiting += records + held;
            stats.waiting.set(records);
            stats.held.set(held);
            stats.sequence.set(stream.sequence());
        }
        let adjusted: Vec<_> = self.streams.iter().map(Stream::adjusted).collect();
        self.stats.adjusted_times.set(adjusted.iter().map(|part| part.times).max().unwrap_or(0));
        self.stats.wide_interfaces.set(adjusted.iter().map(|part| part.interfaces).max().unwrap_or(0));
        if progress.popped > 0
            && let Some(printer) = &mut self.printer
        {
            printer.flush();
        }
        Progress { done: queued == 0 && waiting == 0, ..progress }
    }
}

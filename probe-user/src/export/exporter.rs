// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The exporter: pop a batch, print it, encode it once for each stream, send what may leave.
//!
//! Inert: whoever owns it calls [`Exporter::step`] again and again, and [`Exporter::flush`] at the end
//! until that says it is done. No step waits for a collector; it waits for whoever reads what is printed
//! (`--print`), and for the disk where that is slower than the kernel's cache (`ipfix+file`).

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
/// Octets of encoded messages that wait for their collectors, in all streams together.
const RING_OCTETS: usize = 64 << 20;
/// One stream needs no more (a quarter of a million v5 records), and does not work well with less.
const MAX_RING: usize = 12 << 20;
const MIN_RING: usize = 512 << 10;
/// No record takes more; where messages are smaller, no record takes more than one.
const MAX_RECORD: usize = 1024;
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
    /// Engine id of the first domain, where the collector's URL names none.
    pub engine_id: u8,
    /// Observation domain of the first one, where the collector's URL names none.
    pub domain: u32,
    /// ifIndex of each interface and the number of its domain, by which engine id and domain count up from the
    /// first; see [`super::DomainNumbers`].
    pub interfaces: Vec<(u32, u8)>,
    /// Octets of encoded messages kept for collectors that lag behind, in all streams together; each has at
    /// least 512 KiB and at most 12 MiB of it.
    pub ring_octets: usize,
    /// Leave records in the queues rather than overwrite messages that a collector has not got: for a
    /// source that can wait, such as a file. It also waits for collectors that are not there.
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
            ring_octets: RING_OCTETS,
            lossless: false,
            told: Arc::new(Told::default),
            policy: CollectorPolicy::default(),
            seed: HashSeed::new([0x9e37_79b9; 12], 0),
        }
    }
}

impl ExporterOptions {
    /// Octets of the ring of one of `streams`.
    #[must_use]
    pub fn ring_of_stream(&self, streams: usize) -> usize {
        (self.ring_octets / streams.max(1)).clamp(MIN_RING, MAX_RING)
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
        let mut settings: Vec<StreamSettings> = Vec::new();
        let mut senders = Vec::new();
        for (owner, (collector, sink)) in collectors.into_iter().enumerate() {
            let wanted = StreamSettings::new(&options, &collector, owner, sink.message_octets());
            let known = settings.iter().position(|known| *known == wanted);
            let index = known.unwrap_or_else(|| {
                settings.push(wanted);
                settings.len() - 1
            });
            senders.push(Sender::new(&collector, index, sink));
        }
        let ring = options.ring_of_stream(settings.len());
        let streams =
            settings.into_iter().map(|settings| Stream::new(settings, &options.interfaces, ring)).collect();
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

    /// Flows of the interface belong to the domain with this number from now on: a new interface, or one that
    /// changed its bridge. Its name is told with the next messages, so the source of what is told must know it by now.
    pub fn add_interface(&mut self, index: u32, domain: u8) {
        self.told_at = None;
        for stream in &mut self.streams {
            stream.add_interface(index, domain);
        }
    }

    /// The interface is not metered any more. Flows of it that still come go on in the same domain, which others may
    /// take.
    pub fn remove_interface(&mut self, index: u32) {
        for stream in &mut self.streams {
            stream.remove_interface(index);
        }
    }

    /// The interface with index `from` was made anew and now has `to`: its engine goes on.
    pub fn moved(&mut self, from: u32, to: u32) {
        self.told_at = None;
        for stream in &mut self.streams {
            stream.moved(from, to);
        }
    }

    /// Templates and options are sent again, for what they tell has changed.
    pub fn refresh(&mut self) {
        self.told_at = None;
        self.streams.iter_mut().for_each(Stream::refresh);
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
        if urgency == Urgency::Pressure {
            // What was held back leaves before more is put over it.
            progress.sent += self.send(urgency, now);
        }
        for _ in 0..ROUNDS {
            let popped = self.pop(self.room(urgency), now);
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
            let popped = self.pop(if over { BATCH } else { self.room(urgency) }, now);
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
        let mut progress = self.finish(progress);
        if progress.done {
            // Every session is asked, also if another one is not over yet.
            let open = self.senders.iter_mut().filter_map(|sender| (!sender.sink.finish(now)).then_some(()));
            progress.done = open.count() == 0 || over;
        }
        progress
    }

    /// What is due in the sinks; a collector that came back gets the templates.
    fn tend(&mut self, now: Now) {
        for (sender, stats) in self.senders.iter_mut().zip(&self.stats.collectors) {
            let stream = &mut self.streams[sender.stream];
            if sender.tend(stream, stats, now) {
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

    /// Records that may be encoded now, in every stream that gets part of them.
    fn room(&self, urgency: Urgency) -> usize {
        let serves = |stream: &Stream| stream.settings().owner.is_none_or(|it| self.distributor.serves(it));
        let serving = (0..self.streams.len()).filter(|index| serves(&self.streams[*index]));
        serving.map(|index| self.room_of(index, urgency)).min().unwrap_or(BATCH)
    }

    /// Records, at most a batch, that a stream may encode now: as many as its quickest collector has room for,
    /// or every one if nothing may be lost. Under pressure a collector that lags behind loses messages
    /// instead, and one that takes nothing, or is not there, never holds up the others.
    fn room_of(&self, index: usize, urgency: Urgency) -> usize {
        if urgency == Urgency::Pressure {
            return BATCH;
        }
        let stream = &self.streams[index];
        let ring = stream.ring();
        let senders = self.senders.iter().filter(|sender| sender.stream == index);
        let octets = if self.options.lossless {
            senders.map(|sender| sender.room(ring)).min()
        } else {
            let some_move = self.senders.iter().any(Sender::moves);
            let counts =
                |sender: &&Sender| if some_move { sender.moves() } else { sender.sink.is_connected() };
            senders.filter(counts).map(|sender| sender.room(ring)).max()
        };
        let Some(octets) = octets.and_then(|octets| usize::try_from(octets).ok()) else { return BATCH };
        let message = stream.settings().encoder.largest_message().max(1);
        // Every domain may have a message that is nearly full; with very many domains not all of them have.
        let open = (stream.domains() * message).min(octets / 2);
        ((octets - open) / message.min(MAX_RECORD)).min(BATCH)
    }

    /// Lets records go that have waited for their other direction: a batch of each stream, where there is
    /// room. Returns how many.
    fn release(&mut self, urgency: Urgency, now: Now, all: bool) -> usize {
        let mut sum = 0;
        for index in 0..self.streams.len() {
            if self.streams[index].held_records() == 0 {
                continue;
            }
            let room = self.room_of(index, urgency);
            let (released, tally) = self.streams[index].release(now, all, room);
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

    /// Takes up to `limit` records from the queues, prints and encodes them.
    fn pop(&mut self, limit: usize, now: Now) -> usize {
        self.batch.clear();
        // A fair share for each queue, and what the first leave for the last.
        let queues = self.queues.len();
        for (index, queue) in self.queues.iter_mut().enumerate() {
            let left = limit - self.batch.len();
            queue.pop_into(&mut self.batch, left.div_ceil(queues - index));
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

/// A batch of ordinary records fits.
const _: () = assert!(MIN_RING > BATCH * MAX_RECORD / 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_streams_of_64_collectors_share_one_budget() {
        let options = ExporterOptions::default();
        assert_eq!(options.ring_of_stream(1), MAX_RING);
        assert_eq!(options.ring_of_stream(64) * 64, RING_OCTETS);
        assert_eq!(options.ring_of_stream(10_000), MIN_RING);
    }
}

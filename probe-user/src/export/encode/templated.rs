// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The formats with templates: v9 and IPFIX, which differ in their headers, times and sequences ([`Format`]).
//!
//! Over datagrams templates are sent before the first record, then every so often and after so many
//! datagrams, and at once when a collector came back or the meaning of times changed. In a session they come
//! once, at its beginning ([`Encoder::preamble`]). Templates and options travel in messages of their own.

use probe_common::IpVersion;

use super::{
    Adjusted, Encoder, EncoderSettings, ExportFlow, Now, Told, Unfit,
    image::Facts,
    interface_number::InterfaceNumber,
    message::Message,
    options::{Options, Totals},
    plan::{Images, Plan},
    sampling::SamplingTold,
    schedule::Schedule,
    template::Dialect,
};
use crate::{
    export::{ring::DatagramRing, values::Biflow},
    flow::FlowRecord,
};

/// Every template is smaller, and so is every record.
const MIN_MESSAGE: usize = 512;
/// Longest message whose length 16 bits tell.
const MAX_MESSAGE: usize = 65_535;

/// First template; the ids of templates never change, so that what a collector kept stays right.
const FLOW_TEMPLATES: u16 = 256;

/// What one of the formats has beside the other.
pub(super) trait Format: Clone + Send {
    const DIALECT: Dialect;
    /// Octets of the header.
    const HEADER_LEN: usize;
    /// When a flow began and ended, as the format tells it.
    type Span: Copy;

    fn new() -> Self;

    fn span(record: &FlowRecord) -> Self::Span;

    /// Whether the message that is being filled can tell of it.
    fn holds(&self, span: Self::Span) -> bool;

    /// Begins a message with it; returns whether collectors must be told the templates again.
    fn begin(&mut self, span: Self::Span, now: Now) -> bool;

    /// Begins a message without flows; likewise.
    fn begin_now(&mut self, now: Now) -> bool;

    /// Start and end as they stand in the record.
    fn times(&mut self, span: Self::Span) -> (u64, u64);

    /// Writes the header of a message with so many records.
    fn header(&self, message: &mut [u8], records: u32, sequence: u32, domain: u32, now: Now);

    /// What a message adds to the sequence.
    fn advance(data_records: u32) -> u32;

    /// Records whose times were cut.
    fn cut(&self) -> u64;
}

/// Octets of the largest message within a limit.
pub(super) fn largest_message(octets: usize) -> usize {
    octets.clamp(MIN_MESSAGE, MAX_MESSAGE)
}

/// What makes messages of sets: the headers, one after the other.
#[derive(Clone)]
struct Line<F> {
    format: F,
    domain: u32,
    sequence: u32,
    totals: Totals,
}

impl<F: Format> Line<F> {
    /// Ends the message; `data` says whether its records are data or templates.
    fn finish<'a>(&mut self, message: &'a mut Message, data: bool, now: Now) -> &'a [u8] {
        let records = message.records;
        let octets = message.take();
        self.format.header(octets, records, self.sequence, self.domain, now);
        self.sequence = self.sequence.wrapping_add(F::advance(if data { records } else { 0 }));
        self.totals.messages += 1;
        self.totals.octets += octets.len() as u64;
        octets
    }

    /// Packs sets into as few messages as their order allows.
    fn pack(&mut self, sets: &[Vec<u8>], data: bool, limit: usize, now: Now, mut emit: impl FnMut(&[u8])) {
        let mut message = Message::new(F::DIALECT, F::HEADER_LEN, limit);
        for set in sets {
            if !message.set(set) {
                emit(self.finish(&mut message, data, now));
                let fits = message.set(set);
                debug_assert!(fits, "a set fits an empty message");
            }
        }
        if !message.is_empty() {
            emit(self.finish(&mut message, data, now));
        }
    }
}

/// See the module.
pub(super) struct Templated<F> {
    line: Line<F>,
    /// By IP version, then those of both directions.
    plans: Vec<Plan>,
    biflow: bool,
    /// All templates, as sets.
    templates: Vec<Vec<u8>>,
    limit: usize,
    message: Message,
    images: Images,
    numbers: InterfaceNumber,
    cut_interfaces: u64,
    /// The interfaces whose flows these are.
    interfaces: Vec<u32>,
    /// Whether messages may get lost and templates are to be sent again and again.
    resends: bool,
    announced: bool,
    template_schedule: Schedule,
    template_packets: u32,
    /// Messages since the templates.
    messages: u32,
    options: Option<Options>,
    options_schedule: Schedule,
    record_sampling: u32,
    sampling: Option<SamplingTold>,
    interval: u32,
}

impl<F: Format> Templated<F> {
    /// The domain that comes after `offset` others.
    pub(super) fn new(settings: &EncoderSettings, offset: u32) -> Self {
        let limit = largest_message(settings.message_octets);
        let domain = settings.domain.wrapping_add(offset);
        let with_biflow = F::DIALECT == Dialect::Ipfix && settings.biflow != Biflow::Off;
        let kinds = [Biflow::Off, settings.biflow];
        let kinds = if with_biflow { &kinds[..] } else { &kinds[..1] };
        let versions = [IpVersion::V4, IpVersion::V6];
        let kinds = kinds.iter().flat_map(|biflow| versions.map(|version| (version, *biflow)));
        let plans: Vec<_> = (FLOW_TEMPLATES..)
            .zip(kinds)
            .map(|(id, (version, biflow))| Plan::new(F::DIALECT, id, settings.fields, version, biflow))
            .collect();
        let mut templates: Vec<_> = plans.iter().map(|plan| plan.template.clone()).collect();
        let options =
            Options { dialect: F::DIALECT, sampling: settings.sampling_options, domain, first: offset == 0 };
        let options = settings.options.then_some(options);
        templates.extend(options.into_iter().flat_map(Options::templates));
        Self {
            line: Line { format: F::new(), domain, sequence: 0, totals: Totals::default() },
            plans,
            biflow: with_biflow,
            templates,
            limit,
            message: Message::new(F::DIALECT, F::HEADER_LEN, limit),
            images: Images::new(),
            numbers: InterfaceNumber::new(settings, offset),
            cut_interfaces: 0,
            interfaces: Vec::new(),
            resends: !settings.transport.has_sessions(),
            announced: false,
            // Two schedules for each domain, none of which come together.
            template_schedule: Schedule::new(settings.template_refresh, 2 * offset, offset),
            template_packets: settings.template_packets,
            messages: 0,
            options,
            options_schedule: Schedule::new(settings.options_refresh, 2 * offset + 1, offset),
            record_sampling: settings.record_sampling,
            sampling: None,
            interval: settings.record_sampling.max(1),
        }
    }

    /// Sends the templates.
    fn announce(&mut self, now: Now, out: &mut DatagramRing) {
        self.line.pack(&self.templates, false, self.limit, now, |message| out.push(message, 0));
        self.template_schedule.done(now.at);
        self.announced = true;
        self.messages = 0;
    }

    /// Begins the next message.
    fn begin(&mut self, span: F::Span, now: Now, out: &mut DatagramRing) {
        let moved = self.line.format.begin(span, now);
        if self.resends && (moved || !self.announced) {
            self.announce(now, out);
        }
    }

    #[inline]
    fn put(&mut self, record: &FlowRecord, reverse: Option<&FlowRecord>, now: Now, out: &mut DatagramRing) {
        let version = usize::from(record.key.ip_version() == IpVersion::V6);
        let index = version + if reverse.is_some() { 2 } else { 0 };
        let (id, len) = match self.plans.get(index) {
            Some(plan) => (plan.template_id, plan.record_len),
            None => return,
        };
        let span = F::span(record);
        let joins = self.line.format.holds(span) && self.message.has_room(id, len);
        if !self.message.is_empty() && !joins {
            self.finish(now, out);
        }
        if self.message.is_empty() {
            self.begin(span, now, out);
        }
        let (start, end) = self.line.format.times(span);
        let (interfaces, cut) = self.numbers.sides(&record.key);
        self.cut_interfaces += u64::from(cut);
        let facts = Facts { record, interfaces, start, end, sampling: self.interval, icmp_port: false };
        let reverse = reverse.map(|record| {
            let (start, end) = self.line.format.times(F::span(record));
            Facts { record, start, end, ..facts }
        });
        if let (Some(octets), Some(plan)) = (self.message.record(id, len), self.plans.get(index)) {
            plan.write(&mut self.images, facts, reverse, octets);
        }
    }

    /// Ends the message that is being filled.
    fn finish(&mut self, now: Now, out: &mut DatagramRing) {
        let flows = u64::from(self.message.records);
        self.line.totals.records += flows;
        out.push(self.line.finish(&mut self.message, true, now), flows);
        self.messages += 1;
        if self.resends && self.messages >= self.template_packets {
            self.announce(now, out);
        }
    }

    /// Sends options: all of them, or sampling alone.
    fn tell(&mut self, told: &Told, all: bool, now: Now, out: &mut DatagramRing) {
        let (Some(options), Some(sampling)) = (self.options, self.sampling) else { return };
        let mut sets = vec![options.sampling(sampling)];
        if all {
            sets.push(options.statistics(told, &self.line.totals));
            if options.first {
                sets.push(options.ledger(told));
            }
            let own = told.interfaces.iter().filter(|interface| self.interfaces.contains(&interface.index));
            sets.extend(
                own.map(|interface| options.interface(self.numbers.wide(interface.index).0, interface)),
            );
        }
        self.line.pack(&sets, true, self.limit, now, |message| out.push(message, 0));
    }
}

impl<F: Format> Encoder for Templated<F> {
    #[inline]
    fn encode(&mut self, flow: &ExportFlow<'_>, now: Now, out: &mut DatagramRing) -> Result<u64, Unfit> {
        match flow.reverse {
            Some(reverse) if !self.biflow => {
                self.put(flow.forward, None, now, out);
                self.put(reverse, None, now, out);
                Ok(2)
            }
            reverse => {
                self.put(flow.forward, reverse, now, out);
                Ok(1)
            }
        }
    }

    fn seal(&mut self, now: Now, out: &mut DatagramRing) {
        if !self.message.is_empty() {
            self.finish(now, out);
        }
    }

    fn tick(&mut self, told: &Told, now: Now, out: &mut DatagramRing) {
        let sampling = SamplingTold::new(told, self.record_sampling);
        let changed = self.sampling.is_some_and(|before| before != sampling);
        if self.sampling != Some(sampling) {
            // What was metered before was sampled as before.
            self.seal(now, out);
            self.sampling = Some(sampling);
            self.interval = sampling.interval();
        }
        if self.resends && self.template_schedule.is_due(now.at) {
            if self.message.is_empty() {
                self.line.format.begin_now(now);
            }
            self.announce(now, out);
        }
        if self.options.is_none() {
            return;
        }
        let all = self.options_schedule.is_due(now.at);
        // Templates come first.
        if (all || changed) && (self.announced || !self.resends) {
            self.tell(told, all, now, out);
            if all {
                self.options_schedule.done(now.at);
            }
        }
    }

    fn set_interfaces(&mut self, indexes: &[u32]) {
        if self.interfaces != indexes {
            self.interfaces = indexes.to_vec();
            // Before the first tick all is due anyway, and not in all domains at once.
            if self.sampling.is_some() {
                self.options_schedule.ask();
            }
        }
    }

    fn refresh(&mut self) {
        self.template_schedule.ask();
        self.options_schedule.ask();
    }

    fn preamble(&self, now: Now, out: &mut Vec<u8>) {
        let mut line = self.line.clone();
        if self.message.is_empty() {
            line.format.begin_now(now);
        }
        line.pack(&self.templates, false, self.limit, now, |message| out.extend(message));
    }

    fn open_records(&self) -> u64 {
        self.message.records.into()
    }

    fn sequence(&self) -> u32 {
        self.line.sequence
    }

    fn adjusted(&self) -> Adjusted {
        Adjusted { times: self.line.format.cut(), interfaces: self.cut_interfaces }
    }
}

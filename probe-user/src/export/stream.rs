// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One encoding, shared by all collectors whose settings are equal.
//!
//! Each ingress interface is an observation domain of its own: its own engine id or domain, sequence and
//! messages (collectors tell exporters apart by address and domain).

use std::time::Duration;

use super::{
    biflow::{Leaving, Pairing, PairingLimits},
    encode::{Adjusted, Encoder, EncoderSettings, ExportFlow, Now, Told, Unfit, encoder},
    ring::DatagramRing,
    select::{ConversationHash, Distributor, NotSelected, Selection},
    values::Biflow,
};
use crate::flow::{FlowRecord, Timestamp};

/// A partly filled message leaves after this time, at the next step.
const PARTIAL_AGE: Duration = Duration::from_millis(800);
/// Indexes remembered of an interface that is made anew again and again.
const MAX_FORMER: usize = 8;
/// Engine ids there are; beyond, interfaces share domains.
const MAX_DOMAINS: usize = 256;

/// What makes two collectors get the same messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamSettings {
    /// How records are encoded.
    pub encoder: EncoderSettings,
    /// Which records.
    pub selection: Selection,
    /// What sampling chooses by and pairing finds by; of all streams the same.
    pub conversations: ConversationHash,
    /// The collector that has this stream for itself, where it cannot share it.
    pub owner: Option<usize>,
}

struct Domain {
    /// The interface's index, and those it had before it was made anew: flows of then may still come.
    interfaces: Vec<u32>,
    encoder: Box<dyn Encoder>,
    /// When the message being filled was first seen with records in it.
    opened: Option<Timestamp>,
}

/// What became of a batch, in records.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Offered to the collectors of the stream, as they would stand on the wire.
    pub offered: u64,
    /// Of these, IPv6 where the format has none.
    pub ipv6: u64,
    /// Of these, counters too large.
    pub counter: u64,
    /// Added by splitting.
    pub split: u64,
    /// Went out as the reverse direction of another.
    pub paired: u64,
    /// Not for the collectors of the stream, by [`NotSelected`]; not offered.
    pub not_selected: [u64; NotSelected::ALL.len()],
}

/// The encoders and their messages.
pub struct Stream {
    settings: StreamSettings,
    domains: Vec<Domain>,
    last_domain: usize,
    ring: DatagramRing,
    /// Where records wait for those of the other direction, if the encoder puts both into one.
    pairing: Option<Pairing>,
    /// What the encoders were last told; those of interfaces that come later begin with it.
    told: Option<Told>,
}

impl Stream {
    /// Domains for `interfaces` in this order; others get the next ids as they come.
    /// The ring has `ring_octets`.
    #[must_use]
    pub fn new(settings: StreamSettings, interfaces: &[u32], ring_octets: usize) -> Self {
        let ring = DatagramRing::with_octets(ring_octets, settings.encoder.largest_message());
        let pairing = (settings.encoder.biflow != Biflow::Off)
            .then(|| Pairing::new(PairingLimits::default(), settings.conversations));
        let mut stream = Self { settings, domains: Vec::new(), last_domain: 0, ring, pairing, told: None };
        for interface in interfaces {
            stream.find_domain(*interface);
        }
        stream
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> &StreamSettings {
        &self.settings
    }

    /// The messages.
    #[must_use]
    pub fn ring(&self) -> &DatagramRing {
        &self.ring
    }

    /// The interface with index `from` now has `to`: its domain goes on with the same id and sequence.
    pub fn moved(&mut self, from: u32, to: u32) {
        let domain = self.find_domain(from);
        for other in &mut self.domains {
            other.interfaces.retain(|interface| *interface != to);
        }
        let interfaces = &mut self.domains[domain].interfaces;
        if interfaces.len() == MAX_FORMER {
            interfaces.remove(0);
        }
        interfaces.push(to);
    }

    fn find_domain(&mut self, interface: u32) -> usize {
        if self.domains.get(self.last_domain).is_some_and(|domain| domain.interfaces.contains(&interface)) {
            return self.last_domain;
        }
        let known = self.domains.iter().position(|domain| domain.interfaces.contains(&interface));
        self.last_domain = known.unwrap_or_else(|| self.add_domain(interface));
        self.last_domain
    }

    fn add_domain(&mut self, interface: u32) -> usize {
        let offset = self.domains.len();
        if offset == MAX_DOMAINS {
            // More interfaces than engine ids: the rest share the existing domains.
            return interface as usize % MAX_DOMAINS;
        }
        let encoder = encoder(&self.settings.encoder, u32::try_from(offset).unwrap_or(0));
        self.domains.push(Domain { interfaces: vec![interface], encoder, opened: None });
        offset
    }

    /// Encodes what is for the collectors of the stream; full messages go to the ring. `distributor` has
    /// assigned the batch.
    pub fn offer(&mut self, records: &[FlowRecord], distributor: &Distributor, now: Now) -> Tally {
        if distributor.replicates() && self.settings.selection.is_all() {
            return self.encode(records, now);
        }
        let mut tally = Tally::default();
        for (place, record) in records.iter().enumerate() {
            let StreamSettings { selection, conversations, owner, .. } = &self.settings;
            let selected = if owner.is_none_or(|owner| distributor.gives(place, owner)) {
                selection.select(record, conversations)
            } else {
                Err(NotSelected::Elsewhere)
            };
            match selected {
                Ok(()) => self.encode_record(record, now, &mut tally),
                Err(reason) => tally.not_selected[reason as usize] += 1,
            }
        }
        tally
    }

    /// Encodes a batch, whoever it is for; full messages go to the ring.
    pub fn encode(&mut self, records: &[FlowRecord], now: Now) -> Tally {
        let mut tally = Tally::default();
        if self.pairing.is_none() {
            for record in records {
                self.encode_flow(&record.into(), now, &mut tally);
            }
        } else {
            for record in records {
                self.encode_record(record, now, &mut tally);
            }
        }
        tally
    }

    /// Encodes a record, or keeps it until that of the other direction has come.
    #[inline]
    fn encode_record(&mut self, record: &FlowRecord, now: Now, tally: &mut Tally) {
        let Some(pairing) = &mut self.pairing else {
            return self.encode_flow(&record.into(), now, tally);
        };
        match pairing.push(record, now.at) {
            Leaving::Nothing => {}
            Leaving::Alone(record) => self.encode_flow(&(&record).into(), now, tally),
            Leaving::Pair { forward, reverse } => {
                self.encode_flow(&ExportFlow { forward: &forward, reverse: Some(&reverse) }, now, tally);
                tally.paired += 1;
            }
        }
    }

    /// Encodes records that have waited long enough for the other direction, or `all` that wait: at most
    /// `limit` of them. Returns how many, and what became of them.
    pub fn release(&mut self, now: Now, all: bool, limit: usize) -> (usize, Tally) {
        let mut tally = Tally::default();
        let mut released = 0;
        while released < limit
            && let Some(record) = self.pairing.as_mut().and_then(|pairing| pairing.release(now.at, all))
        {
            self.encode_flow(&(&record).into(), now, &mut tally);
            released += 1;
        }
        (released, tally)
    }

    /// Records that wait for the other direction; they have not been offered yet.
    #[must_use]
    pub fn held_records(&self) -> u64 {
        self.pairing.as_ref().map_or(0, Pairing::len) as u64
    }

    /// Encodes one flow, or both directions of a conversation.
    #[inline]
    pub fn encode_flow(&mut self, flow: &ExportFlow<'_>, now: Now, tally: &mut Tally) {
        let known = self.domains.len();
        let index = self.find_domain(flow.forward.key.ingress_interface());
        let Self { domains, ring, told, .. } = self;
        if let Some(told) = told
            && domains.len() > known
        {
            domains[index].encoder.tick(told, now, ring);
        }
        match domains[index].encoder.encode(flow, now, ring) {
            Ok(records) => {
                tally.offered += records;
                tally.split += records.saturating_sub(1);
            }
            Err(unfit) => {
                tally.offered += 1;
                match unfit {
                    Unfit::Ipv6 => tally.ipv6 += 1,
                    Unfit::Counter => tally.counter += 1,
                }
            }
        }
    }

    /// Templates and options that are due, and partly filled messages: those that are old enough, or all.
    pub fn tick(&mut self, told: &Told, now: Now, all: bool) {
        if self.told.as_ref() != Some(told) {
            self.told = Some(told.clone());
        }
        let Self { domains, ring, .. } = self;
        for Domain { encoder, opened, .. } in domains {
            encoder.tick(told, now, ring);
            if encoder.open_records() == 0 {
                *opened = None;
                continue;
            }
            let since = *opened.get_or_insert(now.at);
            if all || now.at.since(since) >= PARTIAL_AGE {
                encoder.seal(now, ring);
                *opened = None;
            }
        }
    }

    /// A collector came back: templates and options are due.
    pub fn refresh(&mut self) {
        self.domains.iter_mut().for_each(|domain| domain.encoder.refresh());
    }

    /// The messages that begin a session.
    pub fn preamble(&self, now: Now, out: &mut Vec<u8>) {
        self.domains.iter().for_each(|domain| domain.encoder.preamble(now, out));
    }

    /// Records in partly filled messages.
    #[must_use]
    pub fn open_records(&self) -> u64 {
        self.domains.iter().map(|domain| domain.encoder.open_records()).sum()
    }

    /// Domains, each of which may hold a partly filled message.
    #[must_use]
    pub fn domains(&self) -> usize {
        self.domains.len()
    }

    /// Sum of the domains' sequences.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.domains.iter().map(|domain| u64::from(domain.encoder.sequence())).sum()
    }

    /// Records that could be told only in part.
    #[must_use]
    pub fn adjusted(&self) -> Adjusted {
        self.domains.iter().map(|domain| domain.encoder.adjusted()).fold(Adjusted::default(), |sum, part| {
            Adjusted { times: sum.times + part.times, interfaces: sum.interfaces + part.interfaces }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use probe_common::{Detail, FlowKey};

    use super::*;
    use crate::{
        export::{ExporterOptions, select::CollectorPolicy},
        flow::EndReason,
    };

    /// Flows as an encoder was given them: packets forward and reverse.
    type Seen = Arc<Mutex<Vec<(u64, Option<u64>)>>>;

    /// An encoder whose messages hold nothing, and which remembers what it was given.
    struct Remembering(Seen);

    impl Encoder for Remembering {
        fn encode(&mut self, flow: &ExportFlow<'_>, _: Now, out: &mut DatagramRing) -> Result<u64, Unfit> {
            self.0.lock().unwrap().push((flow.forward.packets, flow.reverse.map(|record| record.packets)));
            out.push(&[], 1);
            Ok(1)
        }
        fn seal(&mut self, _: Now, _: &mut DatagramRing) {}
        fn tick(&mut self, _: &Told, _: Now, _: &mut DatagramRing) {}
        fn refresh(&mut self) {}
        fn preamble(&self, _: Now, _: &mut Vec<u8>) {}
        fn open_records(&self) -> u64 {
            0
        }
        fn sequence(&self) -> u32 {
            0
        }
        fn adjusted(&self) -> Adjusted {
            Adjusted::default()
        }
    }

    fn record(packets: u64, source_port: u16, destination_port: u16) -> FlowRecord {
        let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let there = source_port > destination_port;
        let (source, destination) = if there { (a, b) } else { (b, a) };
        let mut key = FlowKey::ipv4(source, destination, 6, 0);
        key.set_ports(source_port, destination_port);
        key.set_ingress_interface(3);
        FlowRecord {
            key,
            packets,
            octets: packets * 40,
            start_ns: 1_000_000_000,
            end_ns: 2_000_000_000,
            tcp_flags: 2,
            end_reason: EndReason::End,
            detail: Detail::UNKNOWN,
        }
    }

    fn stream(url: &str) -> (Stream, Distributor, Seen) {
        let options = ExporterOptions::default();
        let settings = StreamSettings::new(&options, &url.parse().unwrap(), 0, 1400);
        let distributor = Distributor::new(CollectorPolicy::Replicate, 1, settings.conversations);
        let mut stream = Stream::new(settings, &[3], 100);
        let seen = Seen::default();
        stream.domains[0].encoder = Box::new(Remembering(Arc::clone(&seen)));
        (stream, distributor, seen)
    }

    fn at(seconds: u64) -> Now {
        Now { unix_ns: 5_000_000_000, at: Timestamp(seconds * 1_000_000_000) }
    }

    #[test]
    fn biflow_gives_the_encoder_both_directions_at_once() {
        let (mut stream, distributor, seen) = stream("ipfix://h?biflow=on");
        let batch = [record(1, 40_000, 80), record(2, 40_001, 80), record(3, 80, 40_000)];
        let tally = stream.offer(&batch, &distributor, at(0));
        assert_eq!(tally, Tally { offered: 1, paired: 1, ..Tally::default() });
        assert_eq!(*seen.lock().unwrap(), [(1, Some(3))]);
        assert_eq!(stream.held_records(), 1);
        assert_eq!(stream.release(at(1), false, 10).0, 0);
        assert_eq!(stream.release(at(2), false, 10), (1, Tally { offered: 1, ..Tally::default() }));
        assert_eq!(seen.lock().unwrap().last(), Some(&(2, None)));
        assert_eq!(stream.held_records(), 0);
    }

    #[test]
    fn pairs_are_made_of_what_was_selected() {
        let (mut stream, distributor, seen) = stream("ipfix://h?biflow=on&filter=src+port+80");
        let batch = [record(1, 40_000, 80), record(3, 80, 40_000)];
        let tally = stream.offer(&batch, &distributor, at(0));
        assert_eq!(tally, Tally { not_selected: [1, 0, 0], ..Tally::default() });
        assert_eq!(stream.release(at(0), true, 10).0, 1);
        assert_eq!(*seen.lock().unwrap(), [(3, None)]);
    }

    #[test]
    fn without_biflow_nothing_waits() {
        let (mut stream, distributor, seen) = stream("ipfix://h");
        let tally = stream.offer(&[record(1, 40_000, 80), record(3, 80, 40_000)], &distributor, at(0));
        assert_eq!(tally, Tally { offered: 2, ..Tally::default() });
        assert_eq!(*seen.lock().unwrap(), [(1, None), (3, None)]);
        assert_eq!(stream.held_records(), 0);
    }
}

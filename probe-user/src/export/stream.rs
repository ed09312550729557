// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One encoding, shared by all collectors whose settings are equal.
//!
//! Each interface, or bridge with its ports, is an observation domain of its own: its own engine id or domain,
//! sequence and messages (collectors tell exporters apart by address and domain). A domain whose interfaces have left
//! stays, for others to take: its sequence goes on.

use std::time::Duration;

use super::{
    biflow::{Leaving, Pairing, PairingLimits},
    encode::{Adjusted, Encoder, EncoderSettings, ExportFlow, Now, Told, Unfit, encoder},
    membership::Membership,
    ring::DatagramRing,
    select::{ConversationHash, Distributor, NotSelected, Selection},
    values::Biflow,
};
use crate::flow::{FlowRecord, Timestamp};

/// A partly filled message leaves after this time, at the next step.
const PARTIAL_AGE: Duration = Duration::from_millis(800);

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
    /// By number.
    domains: Vec<Domain>,
    members: Membership,
    /// The interface of the last record, and its domain.
    last: Option<(u32, u8)>,
    ring: DatagramRing,
    /// Where records wait for those of the other direction, if the encoder puts both into one.
    pairing: Option<Pairing>,
    /// What the encoders were last told; those of interfaces that come later begin with it.
    told: Option<Told>,
}

impl Stream {
    /// `interfaces` with the numbers of their domains; others get the next numbers as they come. The ring has
    /// `ring_octets`.
    #[must_use]
    pub fn new(settings: StreamSettings, interfaces: &[(u32, u8)], ring_octets: usize) -> Self {
        let ring = DatagramRing::with_octets(ring_octets, settings.encoder.largest_message());
        let pairing = (settings.encoder.biflow != Biflow::Off)
            .then(|| Pairing::new(PairingLimits::default(), settings.conversations));
        let (domains, members) = (Vec::new(), Membership::default());
        let mut stream = Self { settings, domains, members, last: None, ring, pairing, told: None };
        for (interface, domain) in interfaces {
            stream.add_interface(*interface, *domain);
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

    /// Flows of the interface belong to the domain with this number from now on. Domains below it come into being,
    /// too.
    pub fn add_interface(&mut self, interface: u32, domain: u8) {
        let before = self.members.find_known(interface);
        self.members.add(interface, domain);
        self.settle();
        [before, Some(domain)].into_iter().flatten().for_each(|domain| self.introduce(domain));
    }

    /// The interface is not metered any more; flows of it may still come, and go on in the same domain.
    pub fn remove_interface(&mut self, interface: u32) {
        if let Some(domain) = self.members.remove(interface) {
            self.introduce(domain);
        }
    }

    /// The interface with index `from` now has `to`: its domain goes on with the same number and sequence.
    pub fn moved(&mut self, from: u32, to: u32) {
        let before = self.members.find_known(to);
        let domain = self.members.moved(from, to);
        self.settle();
        [before, Some(domain)].into_iter().flatten().for_each(|domain| self.introduce(domain));
    }

    #[inline]
    fn find_domain(&mut self, interface: u32) -> u8 {
        match self.last {
            Some((last, domain)) if last == interface => domain,
            _ => {
                let known = self.members.find_known(interface);
                let domain = known.unwrap_or_else(|| {
                    let domain = self.members.find(interface);
                    self.settle();
                    self.introduce(domain);
                    domain
                });
                self.last = Some((interface, domain));
                domain
            }
        }
    }

    /// Encoders for domains that have none yet.
    fn settle(&mut self) {
        self.last = None;
        let Self { settings, domains, members, .. } = self;
        for number in domains.len()..members.domains() {
            let number = u32::try_from(number).unwrap_or(0);
            domains.push(Domain { encoder: encoder(&settings.encoder, number), opened: None });
        }
    }

    /// Tells the encoder of a domain which interfaces it has.
    fn introduce(&mut self, domain: u8) {
        if let Some(Domain { encoder, .. }) = self.domains.get_mut(usize::from(domain)) {
            encoder.set_interfaces(self.members.members(domain));
        }
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
        let index = usize::from(self.find_domain(flow.forward.key.interface()));
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
        fn set_interfaces(&mut self, _: &[u32]) {}
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
        let mut stream = Stream::new(settings, &[(3, 0)], 100);
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

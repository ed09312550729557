// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One encoding, shared by all collectors whose settings are equal.
//!
//! Each ingress interface is an observation domain of its own: its own engine id or domain, sequence and
//! messages (collectors tell exporters apart by address and domain).

use std::time::Duration;

use super::{
    encode::{Adjusted, Encoder, EncoderSettings, ExportFlow, Now, Told, Unfit, encoder},
    ring::DatagramRing,
    select::Selection,
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
}

/// The encoders and their messages.
pub struct Stream {
    settings: StreamSettings,
    domains: Vec<Domain>,
    last_domain: usize,
    ring: DatagramRing,
}

impl Stream {
    /// Domains for `interfaces` in this order; others get the next ids as they come.
    /// The ring has `ring_octets`.
    #[must_use]
    pub fn new(settings: StreamSettings, interfaces: &[u32], ring_octets: usize) -> Self {
        let ring = DatagramRing::with_octets(ring_octets, settings.encoder.largest_message());
        let mut stream = Self { settings, domains: Vec::new(), last_domain: 0, ring };
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

    /// Encodes a batch; full messages go to the ring.
    pub fn encode(&mut self, records: &[FlowRecord], now: Now) -> Tally {
        let mut tally = Tally::default();
        for record in records {
            self.encode_flow(&record.into(), now, &mut tally);
        }
        tally
    }

    /// Encodes one flow, or both directions of a conversation.
    #[inline]
    pub fn encode_flow(&mut self, flow: &ExportFlow<'_>, now: Now, tally: &mut Tally) {
        let index = self.find_domain(flow.forward.key.ingress_interface());
        let Self { domains, ring, .. } = self;
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

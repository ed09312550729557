// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One encoding, shared by all collectors whose settings are equal.
//!
//! Each ingress interface is an engine of its own: its own engine id, sequence and datagrams (NetFlow v5
//! collectors tell exporters apart by address and engine).

use std::time::Duration;

use super::netflow_v5::{self, Encoder, Full, Unfit};
use super::ring::DatagramRing;
use crate::flow::{FlowRecord, Timestamp};

/// A partly filled datagram leaves after this time, at the next step.
const PARTIAL_AGE: Duration = Duration::from_millis(800);
/// Indexes remembered of an interface that is made anew again and again.
const MAX_FORMER: usize = 8;
/// Engine ids there are.
const MAX_ENGINES: usize = 256;

/// What makes two collectors get the same datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamSettings {
    /// Engine type in every header.
    pub engine_type: u8,
    /// Engine id of the first interface; the others count up from it.
    pub engine_id: u8,
    /// Most records in a datagram, from the MTU.
    pub records_per_datagram: usize,
}

struct Engine {
    /// The interface's index, and those it had before it was made anew: flows of then may still come.
    interfaces: Vec<u32>,
    encoder: Encoder,
    opened: Timestamp,
}

/// What became of a batch.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Records offered, as they would stand on the wire.
    pub offered: u64,
    /// Of these, IPv6.
    pub ipv6: u64,
    /// Of these, counters too large.
    pub counter: u64,
    /// Records added by splitting.
    pub split: u64,
}

/// The encoders and their datagrams.
pub struct Stream {
    settings: StreamSettings,
    engines: Vec<Engine>,
    last_engine: usize,
    ring: DatagramRing,
}

impl Stream {
    /// Engines for `interfaces` in this order; others get the next ids as they come.
    #[must_use]
    pub fn new(settings: StreamSettings, interfaces: &[u32], ring_datagrams: usize) -> Self {
        let datagram_len = netflow_v5::HEADER_LEN + settings.records_per_datagram * netflow_v5::RECORD_LEN;
        let mut stream = Self {
            settings,
            engines: Vec::new(),
            last_engine: 0,
            ring: DatagramRing::new(ring_datagrams, datagram_len),
        };
        for interface in interfaces {
            stream.find_engine(*interface);
        }
        stream
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> StreamSettings {
        self.settings
    }

    /// The datagrams.
    #[must_use]
    pub fn ring(&self) -> &DatagramRing {
        &self.ring
    }

    /// The interface with index `from` now has `to`: its engine goes on with the same id and sequence.
    pub fn moved(&mut self, from: u32, to: u32) {
        let engine = self.find_engine(from);
        for other in &mut self.engines {
            other.interfaces.retain(|interface| *interface != to);
        }
        let interfaces = &mut self.engines[engine].interfaces;
        if interfaces.len() == MAX_FORMER {
            interfaces.remove(0);
        }
        interfaces.push(to);
    }

    fn find_engine(&mut self, interface: u32) -> usize {
        if self.engines.get(self.last_engine).is_some_and(|engine| engine.interfaces.contains(&interface)) {
            return self.last_engine;
        }
        let known = self.engines.iter().position(|engine| engine.interfaces.contains(&interface));
        self.last_engine = known.unwrap_or_else(|| self.add_engine(interface));
        self.last_engine
    }

    fn add_engine(&mut self, interface: u32) -> usize {
        let Ok(offset) = u8::try_from(self.engines.len()) else {
            // More interfaces than engine ids: the rest share the existing engines.
            return interface as usize % MAX_ENGINES;
        };
        let StreamSettings { engine_type, engine_id, records_per_datagram } = self.settings;
        let encoder = Encoder::new(engine_type, engine_id.wrapping_add(offset), records_per_datagram);
        self.engines.push(Engine { interfaces: vec![interface], encoder, opened: Timestamp::default() });
        self.engines.len() - 1
    }

    /// Encodes a batch; full datagrams go to the ring.
    pub fn encode(&mut self, records: &[FlowRecord], now_unix_ns: u64, now: Timestamp) -> Tally {
        let mut tally = Tally::default();
        for record in records {
            let pieces = match netflow_v5::split(record) {
                Ok(pieces) => pieces,
                Err(unfit) => {
                    tally.offered += 1;
                    match unfit {
                        Unfit::Ipv6 => tally.ipv6 += 1,
                        Unfit::Counter => tally.counter += 1,
                    }
                    continue;
                }
            };
            tally.offered += pieces.len() as u64;
            tally.split += pieces.len() as u64 - 1;
            let index = self.find_engine(record.key.ingress_interface());
            let Self { engines, ring, .. } = self;
            let Engine { encoder, opened, .. } = &mut engines[index];
            for (packets, octets) in pieces {
                if let Err(Full) = encoder.push(record, packets, octets, now_unix_ns) {
                    seal(encoder, ring, now_unix_ns);
                    // An empty datagram has room for any record.
                    let pushed = encoder.push(record, packets, octets, now_unix_ns);
                    debug_assert_eq!(pushed, Ok(()));
                }
                if encoder.count() == 1 {
                    *opened = now;
                }
            }
            if encoder.count() == self.settings.records_per_datagram {
                seal(encoder, ring, now_unix_ns);
            }
        }
        tally
    }

    /// Sends partly filled datagrams on their way, those that are old enough or all.
    pub fn seal_due(&mut self, now_unix_ns: u64, now: Timestamp, all: bool) {
        for Engine { encoder, opened, .. } in &mut self.engines {
            if all || now.since(*opened) >= PARTIAL_AGE {
                seal(encoder, &mut self.ring, now_unix_ns);
            }
        }
    }

    /// Records in partly filled datagrams.
    #[must_use]
    pub fn open_records(&self) -> u64 {
        self.engines.iter().map(|engine| engine.encoder.count() as u64).sum()
    }

    /// Engines, each of which may hold a partly filled datagram.
    #[must_use]
    pub fn engines(&self) -> usize {
        self.engines.len()
    }

    /// Sum of the engines' sequences.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.engines.iter().map(|engine| u64::from(engine.encoder.sequence())).sum()
    }

    /// Records whose times, and records whose ifIndex, did not fit.
    #[must_use]
    pub fn unfitting(&self) -> (u64, u64) {
        let encoders = self.engines.iter().map(|engine| &engine.encoder);
        encoders.fold((0, 0), |(times, interfaces), encoder| {
            (times + encoder.adjusted_times, interfaces + encoder.wide_interfaces)
        })
    }
}

fn seal(encoder: &mut Encoder, ring: &mut DatagramRing, now_unix_ns: u64) {
    let records = encoder.count() as u64;
    if let Some(datagram) = encoder.seal(now_unix_ns) {
        ring.push(datagram, records);
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Both directions of a conversation in one IPFIX record, as they stand on the wire (RFC 5103).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod selection_support;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use probe_user::export::{CollectorPolicy, ExporterOptions};
use probe_user::flow::FlowRecord;
use selection_support::{Bench, LOCALHOST, MS, UNIX, assert_conserved, conversations, record};

/// Enterprise number of reverse elements (RFC 5103 section 6.1).
const REVERSE: u32 = 29305;

/// Enterprise number and element.
type Name = (u32, u16);
/// The values of a record.
type Fields = HashMap<Name, Vec<u8>>;
/// Names and lengths.
type Template = Vec<(Name, usize)>;

/// As little of RFC 7011 as reads what we send: templates and data sets, no variable length.
#[derive(Default)]
struct Decoder {
    templates: HashMap<u16, Template>,
    records: Vec<Fields>,
}

fn u16_at(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(octets[at..at + 2].try_into().unwrap())
}

impl Decoder {
    fn message(&mut self, message: &[u8]) {
        assert_eq!((u16_at(message, 0), usize::from(u16_at(message, 2))), (10, message.len()));
        let mut sets = &message[16..];
        while !sets.is_empty() {
            let (id, length) = (u16_at(sets, 0), usize::from(u16_at(sets, 2)));
            self.set(id, &sets[4..length]);
            sets = &sets[length..];
        }
    }

    fn set(&mut self, id: u16, mut octets: &[u8]) {
        if id == 2 {
            while octets.len() >= 4 {
                let (template, count) = (u16_at(octets, 0), u16_at(octets, 2));
                octets = &octets[4..];
                let mut fields = Vec::new();
                for _ in 0..count {
                    let (element, length) = (u16_at(octets, 0), usize::from(u16_at(octets, 2)));
                    let enterprise = element & 0x8000 != 0;
                    let number =
                        if enterprise { u32::from_be_bytes(octets[4..8].try_into().unwrap()) } else { 0 };
                    fields.push(((number, element & 0x7fff), length));
                    octets = &octets[if enterprise { 8 } else { 4 }..];
                }
                self.templates.insert(template, fields);
            }
        } else if let Some(template) = self.templates.get(&id) {
            let length: usize = template.iter().map(|(_, length)| length).sum();
            while octets.len() >= length {
                let mut fields = Fields::new();
                for (name, length) in template {
                    fields.insert(*name, octets[..*length].to_vec());
                    octets = &octets[*length..];
                }
                self.records.push(fields);
            }
        }
    }
}

fn number(fields: &Fields, name: Name) -> Option<u64> {
    fields.get(&name).map(|octets| octets.iter().fold(0, |sum, octet| sum << 8 | u64::from(*octet)))
}

/// A key and its counts: source, destination, ports; packets, octets.
type Direction = ((IpAddr, IpAddr, u64, u64), (u64, u64));

fn directions(fields: &Fields) -> Vec<Direction> {
    let address = |element| {
        let octets: [u8; 4] = fields[&(0, element)].as_slice().try_into().unwrap();
        IpAddr::from(Ipv4Addr::from(octets))
    };
    let (source, destination) = (address(8), address(12));
    let [source_port, destination_port] = [7, 11].map(|element| number(fields, (0, element)).unwrap());
    let counts = |enterprise| Some((number(fields, (enterprise, 2))?, number(fields, (enterprise, 1))?));
    let there = ((source, destination, source_port, destination_port), counts(0).unwrap());
    let back = counts(REVERSE).map(|counts| ((destination, source, destination_port, source_port), counts));
    [Some(there), back].into_iter().flatten().collect()
}

fn direction(record: &FlowRecord) -> Direction {
    let key = &record.key;
    let ports = (u64::from(key.source_port()), u64::from(key.destination_port()));
    ((key.source(), key.destination(), ports.0, ports.1), (record.packets, record.octets))
}

fn sorted<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<_> = values.collect();
    values.sort();
    values
}

fn receiver() -> UdpSocket {
    let receiver = UdpSocket::bind(LOCALHOST).unwrap();
    receiver.set_nonblocking(true).unwrap();
    receiver
}

fn read(receiver: &UdpSocket, decoder: &mut Decoder) {
    let mut buffer = [0; 65_536];
    while let Ok(length) = receiver.recv(&mut buffer) {
        decoder.message(&buffer[..length]);
    }
}

fn bench(receivers: &[&UdpSocket], options: &str, policy: CollectorPolicy) -> Bench {
    let urls: Vec<_> = receivers
        .iter()
        .map(|receiver| format!("ipfix://{}?options=off{options}", receiver.local_addr().unwrap()))
        .collect();
    let options =
        ExporterOptions { interfaces: vec![(3, 0)], policy, lossless: true, ..ExporterOptions::default() };
    Bench::new(&urls, options)
}

#[test]
fn every_conversation_is_one_record_and_the_counts_are_those_of_both_directions() {
    for mode in ["&biflow=on", "&biflow=full"] {
        let (receiver, mut decoder) = (receiver(), Decoder::default());
        let mut bench = bench(&[&receiver], mode, CollectorPolicy::Replicate);
        let mut records = conversations(5_000);
        // Some that nobody answers.
        records.extend((60_000..60_100).map(|n| record(n, n % 2 == 0)));
        bench.feed(&records, &mut || read(&receiver, &mut decoder));
        let stats = bench.stats();
        assert_conserved(&stats);
        assert_eq!(stats.collectors[0].held.get(), 100);
        bench.flush(&mut || read(&receiver, &mut decoder));
        read(&receiver, &mut decoder);
        assert_conserved(&stats);
        let of = &stats.collectors[0];
        assert_eq!((of.offered.get(), of.paired.get(), of.held.get()), (5_100, 5_000, 0));
        assert_eq!(of.records.get(), 5_100);
        assert_eq!(decoder.records.len(), 5_100);
        let told = sorted(decoder.records.iter().flat_map(directions));
        assert!(told == sorted(records.iter().map(direction)), "the same directions, the same counts");
        let forward = decoder.records.iter().filter(|fields| directions(fields).len() == 2);
        assert!(forward.clone().all(|fields| number(fields, (0, 11)) == Some(443)), "the client began");
        assert_eq!(forward.count(), 5_000);
    }
}

#[test]
fn what_is_not_answered_goes_out_alone_after_the_wait() {
    let (receiver, mut decoder) = (receiver(), Decoder::default());
    let mut bench = bench(&[&receiver], "&biflow=on", CollectorPolicy::Replicate);
    // More than leave in one step.
    let records: Vec<_> = (0..3_000).map(|n| record(n, false)).collect();
    bench.feed(&records, &mut || ());
    let held = |bench: &Bench| bench.stats().collectors[0].held.get();
    assert_eq!((held(&bench), bench.stats().collectors[0].offered.get()), (3_000, 0));
    for _ in 0..1_900 {
        assert!(!bench.step(MS), "held records are work to do");
    }
    assert_eq!(held(&bench), 3_000);
    for _ in 0..200 {
        bench.step(MS);
        read(&receiver, &mut decoder);
    }
    assert_eq!((held(&bench), bench.stats().collectors[0].offered.get()), (0, 3_000));
    assert!((0..2_000).any(|_| {
        read(&receiver, &mut decoder);
        bench.step(MS)
    }));
    read(&receiver, &mut decoder);
    assert_eq!(decoder.records.len(), 3_000);
    assert!(decoder.records.iter().all(|fields| directions(fields).len() == 1));
    assert_conserved(&bench.stats());
}

#[test]
fn more_than_fit_leave_early_and_nothing_is_lost() {
    let (receiver, mut decoder) = (receiver(), Decoder::default());
    let mut bench = bench(&[&receiver], "&biflow=on", CollectorPolicy::Replicate);
    let records: Vec<_> = (0..70_000).map(|n| record(n, false)).collect();
    bench.feed(&records, &mut || read(&receiver, &mut decoder));
    let of = &bench.stats().collectors[0];
    assert_eq!((of.held.get(), of.offered.get()), (65_536, 70_000 - 65_536));
    // The oldest have gone, the youngest still find theirs.
    bench.feed(&[record(0, true), record(69_999, true)], &mut || read(&receiver, &mut decoder));
    assert_eq!(of.paired.get(), 1);
    bench.flush(&mut || read(&receiver, &mut decoder));
    read(&receiver, &mut decoder);
    assert_eq!((of.offered.get(), decoder.records.len()), (70_001, 70_001));
    assert_conserved(&bench.stats());
}

#[test]
fn a_flush_pairs_what_the_queue_still_holds() {
    let (receiver, mut decoder) = (receiver(), Decoder::default());
    let mut bench = bench(&[&receiver], "&biflow=on", CollectorPolicy::Replicate);
    let records: Vec<_> =
        [false, true].iter().flat_map(|back| (0..2_000).map(|n| record(n, *back))).collect();
    assert_eq!(bench.producer.push_slice(&records), 4_000);
    bench.flush(&mut || read(&receiver, &mut decoder));
    let of = &bench.stats().collectors[0];
    assert_eq!((of.paired.get(), of.offered.get()), (2_000, 2_000));
    assert_conserved(&bench.stats());
}

#[test]
fn at_the_deadline_all_leaves_at_once() {
    let receiver = receiver();
    let mut bench = bench(&[&receiver], "&biflow=on", CollectorPolicy::Replicate);
    bench.feed(&(0..5_000).map(|n| record(n, false)).collect::<Vec<_>>(), &mut || ());
    let progress = bench.exporter.flush(UNIX + bench.now.0, bench.now, bench.now);
    assert!(progress.done);
    assert_eq!(bench.stats().collectors[0].held.get(), 0);
    assert_conserved(&bench.stats());
}

#[test]
fn balance_brings_both_directions_to_one_collector_where_they_are_paired() {
    let receivers = [receiver(), receiver()];
    let mut decoders = [Decoder::default(), Decoder::default()];
    let mut bench = bench(&[&receivers[0], &receivers[1]], "&biflow=on&sampling=2", CollectorPolicy::Balance);
    let mut take =
        || receivers.iter().zip(&mut decoders).for_each(|(receiver, decoder)| read(receiver, decoder));
    bench.feed(&conversations(4_000), &mut take);
    bench.flush(&mut take);
    bench.step(Duration::from_millis(1));
    take();
    assert_conserved(&bench.stats());
    let [first, second] = decoders.each_ref().map(|decoder| decoder.records.len());
    assert!((850..1_150).contains(&first) && (850..1_150).contains(&second), "{first} and {second}");
    let both = decoders.iter().flat_map(|decoder| &decoder.records);
    assert!(both.clone().all(|fields| directions(fields).len() == 2));
}

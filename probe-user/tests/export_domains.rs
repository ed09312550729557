// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Interfaces and bridges that come and go while records are exported: whose engine id and domain they get, with which
//! sequence, and what collectors are told of their names.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod export_support;

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{Arc, Mutex},
    time::Duration,
};

use export_support::{Bench, record};
use probe_common::Direction;
use probe_user::export::{DomainNumbers, ExporterOptions, InterfaceName, Told};
use probe_user::flow::FlowRecord;

fn half(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(octets[at..at + 2].try_into().unwrap())
}

fn word(octets: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(octets[at..at + 4].try_into().unwrap())
}

/// A v5 collector and an IPFIX one.
struct Collectors {
    v5: UdpSocket,
    ipfix: UdpSocket,
}

/// A record with its engine: engine id, sequence of its datagram, input, output.
type Engine = (u8, u32, u16, u16);
/// An interface as a domain tells of it: domain, number, name.
type Named = (u32, u32, String);

impl Collectors {
    fn new() -> Self {
        let socket = || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        Self { v5: socket(), ipfix: socket() }
    }

    fn urls(&self) -> [String; 2] {
        let (v5, ipfix) = (self.v5.local_addr().unwrap(), self.ipfix.local_addr().unwrap());
        [format!("v5://{v5}?engine_id=7"), format!("ipfix://{ipfix}?domain=100")]
    }

    fn datagrams(socket: &UdpSocket) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        let mut buffer = [0; 2000];
        while let Ok(length) = socket.recv(&mut buffer) {
            datagrams.push(buffer[..length].to_vec());
        }
        datagrams
    }

    /// The v5 records since the last call.
    fn engines(&self) -> Vec<Engine> {
        let mut records: Vec<Engine> = Self::datagrams(&self.v5)
            .iter()
            .flat_map(|datagram| {
                let (engine, sequence) = (datagram[21], word(datagram, 16));
                datagram[24..]
                    .chunks(48)
                    .map(move |it| (engine, sequence, half(it, 12), half(it, 14)))
                    .collect::<Vec<_>>()
            })
            .collect();
        records.sort_unstable();
        records
    }

    /// The IPFIX messages since the last call: the flow records of each domain, and the interfaces it names.
    fn domains(&self) -> (Vec<(u32, usize)>, Vec<Named>) {
        let (mut flows, mut names) = (Vec::new(), Vec::new());
        for message in Self::datagrams(&self.ipfix) {
            let domain = word(&message, 12);
            let mut sets = &message[16..];
            while !sets.is_empty() {
                let (set, rest) = sets.split_at(half(sets, 2).into());
                sets = rest;
                match half(set, 0) {
                    // 63 octets: the default fields of IPv4.
                    256 => flows.push((domain, (set.len() - 4) / 63)),
                    263 => {
                        let name: Vec<u8> =
                            set[8..24].iter().copied().take_while(|octet| *octet != 0).collect();
                        names.push((domain, word(set, 4), String::from_utf8(name).unwrap()));
                    }
                    _ => {}
                }
            }
        }
        flows.sort_unstable();
        names.sort_unstable();
        (flows, names)
    }
}

fn flow(n: u32, interface: u32, direction: Direction) -> FlowRecord {
    let mut record = record(n);
    record.key.set_interface(interface, direction);
    record
}

/// Pushes records and waits until all are sent.
fn export(bench: &mut Bench, records: &[FlowRecord]) {
    // Domains begin to tell of themselves 10 ms apart.
    (0..60).for_each(|_| {
        bench.step();
    });
    assert_eq!(bench.producer.push_slice(records), records.len());
    bench.flush(Duration::from_secs(5));
}

#[test]
fn bridges_share_an_engine_and_who_comes_and_goes_leaves_the_sequence() {
    use Direction::{Egress, Ingress};

    let collectors = Collectors::new();
    let named = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&named);
    let name = |index, name: &str| {
        named.lock().unwrap().push(InterfaceName { index, name: name.into(), description: String::new() });
    };
    let mut numbers = DomainNumbers::default();
    let mut interfaces = Vec::new();
    for (index, interface, group) in [(10, "tap0", "br0"), (11, "tap1", "br0"), (20, "eth1", "eth1")] {
        name(index, interface);
        interfaces.push((index, numbers.join(group)));
    }
    let options = ExporterOptions {
        interfaces,
        lossless: true,
        told: Arc::new(move || Told { interfaces: told.lock().unwrap().clone(), ..Told::default() }),
        ..ExporterOptions::default()
    };
    let mut bench = Bench::new(&collectors.urls(), options);
    let text = |names: &[(u32, u32, &str)]| -> Vec<Named> {
        names.iter().map(|(domain, index, name)| (*domain, *index, (*name).to_owned())).collect()
    };

    // Two ports of a bridge, one seen coming in and one going out; and a port by itself.
    bench.step();
    export(&mut bench, &[flow(1, 10, Ingress), flow(2, 11, Egress), flow(3, 20, Ingress)]);
    assert_eq!(collectors.engines(), [(7, 0, 0, 11), (7, 0, 10, 0), (8, 0, 20, 0)]);
    let (flows, names) = collectors.domains();
    assert_eq!(flows, [(100, 2), (101, 1)]);
    assert_eq!(names, text(&[(100, 10, "tap0"), (100, 11, "tap1"), (101, 20, "eth1")]));

    // A new port of the bridge, and another interface: their names come before their flows.
    name(12, "tap2");
    name(30, "eth2");
    bench.exporter.add_interface(12, numbers.join("br0"));
    bench.exporter.add_interface(30, numbers.join("eth2"));
    export(&mut bench, &[flow(4, 12, Ingress), flow(5, 30, Ingress)]);
    assert_eq!(collectors.engines(), [(7, 2, 12, 0), (9, 0, 30, 0)]);
    let (flows, names) = collectors.domains();
    assert_eq!(flows, [(100, 1), (102, 1)]);
    assert_eq!(names, text(&[(100, 10, "tap0"), (100, 11, "tap1"), (100, 12, "tap2"), (102, 30, "eth2")]));

    // What leaves may still have flows on the way.
    bench.exporter.remove_interface(10);
    bench.exporter.remove_interface(20);
    named.lock().unwrap().retain(|interface| ![10, 20].contains(&interface.index));
    numbers.leave("br0");
    numbers.leave("eth1");
    export(&mut bench, &[flow(6, 10, Ingress), flow(7, 20, Egress)]);
    assert_eq!(collectors.engines(), [(7, 3, 10, 0), (8, 1, 0, 20)]);

    // Another one is a new engine, and who comes back with another index is the old one.
    name(40, "eth3");
    name(41, "eth1");
    bench.exporter.add_interface(40, numbers.join("eth3"));
    bench.exporter.add_interface(41, numbers.join("eth1"));
    bench.exporter.moved(30, 31);
    export(
        &mut bench,
        &[flow(8, 40, Ingress), flow(9, 41, Ingress), flow(10, 31, Ingress), flow(11, 30, Ingress)],
    );
    assert_eq!(collectors.engines(), [(8, 2, 41, 0), (9, 1, 30, 0), (9, 1, 31, 0), (10, 0, 40, 0)]);
    let (_, names) = collectors.domains();
    for told in text(&[(101, 41, "eth1"), (103, 40, "eth3"), (100, 11, "tap1")]) {
        assert!(names.contains(&told), "{told:?} is not in {names:?}");
    }

    // One that nobody announced is not lost.
    export(&mut bench, &[flow(12, 99, Ingress)]);
    assert_eq!(collectors.engines(), [(11, 0, 99, 0)]);
    let stats = bench.stats();
    assert!(stats.collectors.iter().all(|stats| stats.records.get() == 12 && stats.imbalance() == 0));
}

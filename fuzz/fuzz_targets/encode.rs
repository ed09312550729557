// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any flows, in any order and at any time, to any collector's settings: no panic, no message above its limit, and
//! our decoder reads back as many packets and octets as were accepted.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use probe_common::{Detail, FlowKey};
use probe_user::collect::RecordKind;
use probe_user::collect::decode::{Decoder, Limits, Source};
use probe_user::element::{ElementId, Value};
use probe_user::export::encode::{ExportFlow, Now, Told, encoder};
use probe_user::export::{CollectorUrl, Cursor, DatagramRing, ExporterOptions, StreamSettings};
use probe_user::flow::{EndReason, FlowRecord, Timestamp};

const URLS: [&str; 9] = [
    "v1://h",
    "v5://h",
    "v7://h",
    "v9://h",
    "v9://h?fields=full,v5",
    "ipfix://h",
    "ipfix://h?fields=full,v5,samplingInterval&sampling_options=psamp",
    "ipfix://h?biflow=full&fields=l2",
    "ipfix+tcp://h?fields=minimal",
];

#[derive(Arbitrary, Debug)]
struct Flow {
    v6: bool,
    words: [u64; 6],
    packets: u64,
    octets: u64,
    start_ns: u64,
    lasts_ns: u64,
    tcp_flags: u16,
    step_ms: u32,
    seal: bool,
}

fn record(flow: &Flow) -> FlowRecord {
    let [a, b, c, d, ports, rest] = flow.words;
    let [protocol, tos, ..] = rest.to_be_bytes();
    let mut key = if flow.v6 {
        FlowKey::ipv6([a, b], [c, d], protocol, tos)
    } else {
        let address = |word: u64| (word as u32).to_be_bytes();
        FlowKey::ipv4(address(a), address(c), protocol, tos)
    };
    key.set_ports(ports as u16, (ports >> 16) as u16);
    key.set_ingress_interface((ports >> 32) as u32);
    key.set_vlans(rest as u16, (rest >> 16) as u16);
    FlowRecord {
        key,
        // Up to 256 records of old versions, which the ring holds.
        packets: flow.packets >> 24,
        octets: flow.octets >> 24,
        start_ns: flow.start_ns,
        end_ns: flow.start_ns.saturating_add(flow.lasts_ns),
        tcp_flags: flow.tcp_flags & 0xfff,
        end_reason: EndReason::Idle,
        detail: Detail { known: Detail::IP | Detail::MAC, min_ttl: tos, ..Detail::UNKNOWN },
    }
}

fuzz_target!(|octets: &[u8]| {
    let mut input = Unstructured::new(octets);
    let (Ok(which), Ok(mtu)) = (input.arbitrary::<u8>(), input.int_in_range(548usize..=65_507)) else {
        return;
    };
    let url: CollectorUrl = URLS[usize::from(which) % URLS.len()].parse().expect("it is well formed");
    let settings = StreamSettings::new(&ExporterOptions::default(), &url, 0, mtu).encoder;
    let limit = settings.largest_message();
    let mut encoder = encoder(&settings, 3);
    let mut ring = DatagramRing::new(512, limit);
    let mut cursor = Cursor::default();
    let mut decoder = Decoder::new(Limits::default());
    let mut now = Now::default();
    let source = Source { exporter: None, stream: 1 };
    let mut preamble = Vec::new();
    if url.transport.has_sessions() {
        encoder.preamble(now, &mut preamble);
    }
    let mut rest = &preamble[..];
    while rest.len() >= 4 {
        let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        decoder.decode(source, &rest[..length], |_| {}).expect("the preamble is well formed");
        rest = &rest[length..];
    }
    let (mut sent, mut read) = ((0u64, 0u64), (0u64, 0u64));
    while !input.is_empty() {
        let Ok(flow) = input.arbitrary::<Flow>() else { break };
        let record = record(&flow);
        now.at = Timestamp(now.at.0 + u64::from(flow.step_ms) * 1_000_000);
        now.unix_ns = flow.start_ns.wrapping_add(flow.lasts_ns);
        encoder.tick(&Told::default(), now, &mut ring);
        let both = ExportFlow { forward: &record, reverse: flow.seal.then_some(&record) };
        let told = if url.biflow == probe_user::export::Biflow::Off { (&record).into() } else { both };
        if encoder.encode(&told, now, &mut ring).is_ok() {
            let directions = 1 + u64::from(told.reverse.is_some());
            sent.0 = sent.0.wrapping_add(record.packets * directions);
            sent.1 = sent.1.wrapping_add(record.octets * directions);
        }
        if flow.seal {
            encoder.seal(now, &mut ring);
        }
        drain(&ring, &mut cursor, &mut decoder, source, limit, &mut read);
    }
    encoder.seal(now, &mut ring);
    drain(&ring, &mut cursor, &mut decoder, source, limit, &mut read);
    assert_eq!(read, sent);
});

fn drain(
    ring: &DatagramRing,
    cursor: &mut Cursor,
    decoder: &mut Decoder,
    source: Source,
    limit: usize,
    read: &mut (u64, u64),
) {
    while let Some(run) = ring.run(cursor, u64::MAX) {
        for message in run.iter() {
            assert!(message.len() <= limit);
            let sum = |record: &probe_user::collect::Received, id: u16| {
                [ElementId::iana(id), ElementId::reverse(id)]
                    .into_iter()
                    .filter_map(|id| match record.get(id) {
                        Some(Value::Unsigned(count)) => Some(*count),
                        _ => None,
                    })
                    .fold(0u64, u64::wrapping_add)
            };
            let decoded = decoder.decode(source, message, |record| {
                if record.kind == RecordKind::Flow {
                    read.0 = read.0.wrapping_add(sum(record, 2));
                    read.1 = read.1.wrapping_add(sum(record, 1));
                }
            });
            decoded.unwrap_or_else(|error| panic!("what we send is well formed, but {error}: {message:?}"));
        }
        let taken = run.datagrams as u64;
        ring.advance(cursor, taken);
    }
}

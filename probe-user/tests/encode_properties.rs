// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any flows, encoded in any format, are read back by decoders we did not write as they were metered.

mod encode_support;

use encode_support::{
    Export, Line, SECOND, UNIX,
    decoders::{Message, Parser, Record, Rw},
    expected, export, now, plain, settings,
};
use netflow_parser::{NetflowPacket, NetflowParser};
use probe_user::export::encode::{Now, Told};
use probe_user::flow::FlowRecord;
use proptest::prelude::*;

const FIELDS: [&str; 5] = ["default", "minimal", "l2", "full", "v5,full,samplingInterval"];

fn cases() -> ProptestConfig {
    ProptestConfig::with_cases(if cfg!(debug_assertions) { 100 } else { 2000 })
}

/// Encodes as the exporter does, sealing now and then.
fn encode(line: &mut Line, exports: &[Export], seal_every: usize) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut last = Now::default();
    for (index, Export { record, now: unix_ns }) in exports.iter().enumerate() {
        last = now(*unix_ns, index as u64);
        line.encode(record, last);
        if index % seal_every == 0 {
            line.seal(last);
        }
        messages.extend(line.take());
    }
    line.seal(last);
    messages.extend(line.take());
    assert_eq!((line.encoder.open_records(), line.records), (0, exports.len() as u64));
    messages
}

/// The records of all messages, after the checks that hold for any message.
fn read(messages: &[Vec<u8>], limit: usize, advance: fn(&Message) -> u32) -> (Vec<Message>, u32) {
    let mut parser = Parser::default();
    let mut sequence = 0u32;
    let read: Vec<_> = messages
        .iter()
        .map(|octets| {
            assert!(octets.len() <= limit, "{} octets", octets.len());
            let message = parser.read(octets);
            assert_eq!((message.sequence, message.domain), (sequence, 1));
            sequence = sequence.wrapping_add(advance(&message));
            message
        })
        .collect();
    (read, sequence)
}

/// netflow_parser knows the nine flags of RFC 793, 3168 and 3540; the other decoder knows all twelve bits.
const PARSER_FLAGS: u16 = 0x1ff;

fn compare(record: &FlowRecord, read: &Record, own_icmp: bool) {
    let version = usize::from(record.key.source().is_ipv6());
    assert_eq!(usize::from(read.template) & 1, version);
    for ((enterprise, id), value) in &read.fields {
        assert_eq!((*enterprise, *value), (0, expected(*id, record, own_icmp)), "element {id} of {record:?}");
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn ipfix(
        exports in prop::collection::vec(export(), 1..80),
        fields in prop::sample::select(FIELDS.to_vec()),
        seal_every in 1usize..100,
        limit in 512usize..3000,
    ) {
        let settings = settings(&format!("ipfix://h?fields={fields}"), limit);
        let mut line = Line::new(&settings, 0);
        let messages = encode(&mut line, &exports, seal_every);
        let (read, sequence) = read(&messages, limit, Message::data_records);
        prop_assert_eq!(line.encoder.sequence(), sequence);
        let records: Vec<_> = read.iter().flat_map(|message| &message.flows).collect();
        prop_assert_eq!(records.len(), exports.len());
        // The short form has the lower eight.
        let wide = ["l2", "full", "tcpControlBits"].iter().any(|name| fields.contains(name));
        let with_flags = |record: &FlowRecord, mask: u16| {
            FlowRecord { tcp_flags: record.tcp_flags & if wide { mask } else { 0xff }, ..*record }
        };
        for (export, record) in exports.iter().zip(&records) {
            compare(&with_flags(&export.record, PARSER_FLAGS), record, fields != "minimal");
        }
        // The other decoder sees the same records.
        let rw = Rw::new();
        let mut exports = exports.iter();
        for (octets, message) in messages.iter().zip(&read) {
            let (sequence, records) = rw.read(octets);
            prop_assert_eq!((sequence, records.len()), (message.sequence, message.flows.len()));
            for (record, other) in records.iter().zip(&message.flows) {
                compare(&with_flags(&exports.next().unwrap().record, 0xfff), record, fields != "minimal");
                prop_assert_eq!((record.template, record.fields.len()), (other.template, other.fields.len()));
            }
        }
        prop_assert!(exports.next().is_none());
    }

    #[test]
    fn netflow_v9(
        exports in prop::collection::vec(export(), 1..80),
        fields in prop::sample::select(FIELDS.to_vec()),
        seal_every in 1usize..100,
        limit in 512usize..3000,
    ) {
        let settings = settings(&format!("v9://h?fields={fields}"), limit);
        let mut line = Line::new(&settings, 0);
        let messages = encode(&mut line, &exports, seal_every);
        let (read, sequence) = read(&messages, limit, |_| 1);
        prop_assert_eq!(line.encoder.sequence(), sequence);
        let mut exports = exports.iter();
        let mut boot_before = None;
        for message in &read {
            prop_assert_eq!(usize::from(message.count), message.templates.len() + message.flows.len());
            prop_assert!(message.uptime < 1 << 31);
            let boot = u64::from(message.seconds) * 1000 - u64::from(message.uptime);
            // Only templates come first with another boot.
            if boot_before != Some(boot) {
                prop_assert!(message.flows.is_empty() && !message.templates.is_empty());
                boot_before = Some(boot);
            }
            for record in &message.flows {
                let (first, last) = (record.get(22).unwrap(), record.get(21).unwrap());
                prop_assert!(first <= last && last <= u128::from(message.uptime));
                let to_unix = |(id, value): &((u32, u16), u128)| match id.1 {
                    22 => ((0, 152), value + u128::from(boot)),
                    21 => ((0, 153), value + u128::from(boot)),
                    _ => (*id, *value),
                };
                let fields: Vec<_> = record.fields.iter().map(to_unix).collect();
                let export = exports.next().unwrap();
                let flow = FlowRecord { tcp_flags: export.record.tcp_flags & 0xff, ..export.record };
                compare(&flow, &Record { fields, ..record.clone() }, false);
            }
        }
        prop_assert!(exports.next().is_none());
        prop_assert_eq!(line.encoder.adjusted().times, 0);
    }

    /// The rest of a conversation: packets and octets of the reverse direction, or all of it.
    #[test]
    fn ipfix_of_both_directions(
        exports in prop::collection::vec((export(), any::<Option<(u32, u64, u8)>>()), 1..60),
        full in any::<bool>(),
    ) {
        let settings = settings(if full { "ipfix://h?biflow=full" } else { "ipfix://h?biflow=on" }, 1472);
        let mut line = Line::new(&settings, 0);
        let mut flows = Vec::new();
        for (Export { record, now: unix_ns }, reverse) in &exports {
            let record = &FlowRecord { tcp_flags: record.tcp_flags & 0xff, ..*record };
            let reverse = reverse.map(|(octets, packets, flags)| FlowRecord {
                octets: octets.into(),
                packets,
                tcp_flags: flags.into(),
                start_ns: record.start_ns + 5 * SECOND,
                end_ns: record.end_ns + 6 * SECOND,
                ..*record
            });
            line.pair(record, reverse.as_ref(), now(*unix_ns, 0));
            flows.push((*record, reverse));
        }
        line.seal(now(UNIX, 0));
        let (read, _) = read(&line.take(), 1472, Message::data_records);
        let records: Vec<_> = read.iter().flat_map(|message| &message.flows).collect();
        prop_assert_eq!(records.len(), flows.len());
        for ((forward, reverse), record) in flows.iter().zip(records) {
            prop_assert_eq!(record.template >= 258, reverse.is_some());
            let mut reversed = Vec::new();
            for ((enterprise, id), value) in &record.fields {
                match (enterprise, id, reverse) {
                    // biflowDirection: initiator.
                    (0, 239, _) => prop_assert_eq!(*value, 1),
                    (0, id, _) => prop_assert_eq!(*value, expected(*id, forward, true)),
                    (29305, id, Some(reverse)) => {
                        prop_assert_eq!(*value, expected(*id, reverse, true));
                        reversed.push(*id);
                    }
                    other => panic!("{other:?}"),
                }
            }
            let all: &[u16] = if full { &[2, 1, 6, 152, 153, 136, 5] } else { &[2, 1] };
            prop_assert_eq!(reversed, if reverse.is_some() { all } else { &[] });
        }
    }

    /// Version 7 as version 5 (v5_properties.rs); version 1 likewise, read by hand: neither decoder knows it.
    #[test]
    fn netflow_v1_and_v7(exports in prop::collection::vec(export(), 1..80), limit in 500usize..1500) {
        for (version, header, record_len, most) in [("v1", 16, 48, 24), ("v7", 24, 52, 28)] {
            let settings = settings(&format!("{version}://h"), limit);
            let mut line = Line::new(&settings, 0);
            let flows: Vec<_> = exports.iter().filter(|export| export.record.key.source().is_ipv4()).collect();
            for Export { record, now: unix_ns } in &flows {
                line.encode(record, now(*unix_ns, 0));
            }
            line.seal(now(UNIX, 0));
            let mut pieces = Vec::new();
            let mut sequence = 0;
            for octets in line.take() {
                prop_assert!(octets.len() <= limit.max(header + record_len));
                let records = (octets.len() - header) / record_len;
                prop_assert_eq!(octets.len(), header + records * record_len);
                prop_assert!((1..=most).contains(&records));
                let word = |at: usize| u64::from(u32::from_be_bytes(octets[at..at + 4].try_into().unwrap()));
                prop_assert_eq!(word(0) & 0xffff, records as u64);
                let boot = word(8) * 1000 + word(12) / 1_000_000 - word(4);
                if version == "v7" {
                    prop_assert_eq!(word(16), sequence);
                    let parsed = NetflowParser::default().parse_bytes(&octets);
                    prop_assert!(parsed.error.is_none());
                    let [NetflowPacket::V7(packet)] = &parsed.packets[..] else { panic!("{parsed:?}") };
                    for record in &packet.flowsets {
                        pieces.push((
                            [record.src_addr, record.dst_addr],
                            [record.src_port, record.dst_port, record.input, record.output],
                            [record.protocol_number, record.tos, record.tcp_flags],
                            [record.d_pkts, record.d_octets],
                            [boot + u64::from(record.first), boot + u64::from(record.last)],
                        ));
                        prop_assert_eq!(record.flags_fields_valid, 0);
                        prop_assert!(record.router_src.is_unspecified() && record.next_hop.is_unspecified());
                    }
                } else {
                    for at in (header..octets.len()).step_by(record_len) {
                        let half = |at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
                        let address = |at: usize| u32::try_from(word(at)).unwrap();
                        pieces.push((
                            [address(at).into(), address(at + 4).into()],
                            [half(at + 32), half(at + 34), half(at + 12), half(at + 14)],
                            [octets[at + 38], octets[at + 39], octets[at + 40]],
                            [address(at + 16), address(at + 20)],
                            [boot + word(at + 24), boot + word(at + 28)],
                        ));
                    }
                }
                sequence += records as u64;
            }
            let mut pieces = pieces.into_iter().peekable();
            for Export { record, .. } in flows {
                let key = &record.key;
                let (mut packets, mut octets) = (0, 0);
                while packets < record.packets || octets < record.octets {
                    let (addresses, numbers, bytes, counts, times) = pieces.next().unwrap();
                    prop_assert_eq!(addresses.map(std::net::IpAddr::from), [key.source(), key.destination()]);
                    let narrow = |index| u16::try_from(index).unwrap_or(0);
                    let (input, output) = (narrow(key.ingress_interface()), narrow(key.egress_interface()));
                    prop_assert_eq!(numbers, [key.source_port(), key.destination_port(), input, output]);
                    let flags = u8::try_from(record.tcp_flags & 0xff).unwrap();
                    prop_assert_eq!(bytes, [key.protocol(), key.tos(), flags]);
                    prop_assert_eq!(times, [record.start_ns / 1_000_000, record.end_ns / 1_000_000]);
                    packets += u64::from(counts[0]);
                    octets += u64::from(counts[1]);
                }
                prop_assert_eq!((packets, octets), (record.packets, record.octets));
            }
            prop_assert!(pieces.next().is_none());
            prop_assert_eq!(u64::from(line.encoder.sequence()), sequence);
        }
    }
}

/// Two months in real order: the boot stands still for weeks, and templates follow each move.
#[test]
fn the_boot_of_version_9_moves_rarely_and_never_wraps() {
    let mut line = Line::new(&settings("v9://h?options=off", 1472), 0);
    let mut parser = Parser::default();
    let mut boots = Vec::new();
    for minute in 0..60 * 24 * 60u64 {
        let at = minute * 60 * SECOND + minute * 7_777_777;
        let now = now(UNIX + at, at);
        line.tick(&Told::default(), now);
        line.encode(&FlowRecord { start_ns: now.unix_ns - 20 * SECOND, end_ns: now.unix_ns, ..plain() }, now);
        line.seal(now);
        for message in line.take().iter().map(|octets| parser.read(octets)) {
            let boot = u64::from(message.seconds) * 1000 - u64::from(message.uptime);
            if boots.last() != Some(&boot) {
                assert_eq!(message.templates, [256, 257]);
                boots.push(boot);
            }
            for record in &message.flows {
                assert!(record.get(21).unwrap() <= u128::from(message.uptime));
                assert_eq!(record.get(21).unwrap() + u128::from(boot), u128::from(now.unix_ns / 1_000_000));
            }
        }
    }
    assert_eq!(boots.len(), 3, "{boots:?}");
}

#[test]
fn sequences_count_what_their_protocol_counts() {
    for (url, advance) in
        [("ipfix://h", (|message| message.data_records()) as fn(&Message) -> u32), ("v9://h", |_| 1)]
    {
        let mut line = Line::new(&settings(url, 60_000), 0);
        let (mut sequence, mut messages) = (0u32, 0);
        let mut parser = Parser::default();
        for n in 0..20_000u64 {
            let now = now(UNIX + n * SECOND, n * SECOND);
            line.tick(&encode_support::told(), now);
            line.encode(&FlowRecord { start_ns: now.unix_ns, end_ns: now.unix_ns, ..plain() }, now);
            for message in line.take().iter().map(|octets| parser.read(octets)) {
                assert_eq!(message.sequence, sequence);
                sequence += advance(&message);
                messages += 1;
            }
        }
        assert!(messages > 20_000 / 1200, "{messages} messages");
        assert_eq!(line.encoder.sequence(), sequence);
    }
}

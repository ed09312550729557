// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The decoder, rule by rule.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::collect::{Received, RecordKind};
use crate::element::{ElementId, Value};

const SECONDS: u32 = 1_700_000_000;

fn udp(port: u16) -> Source {
    Source { exporter: Some(SocketAddr::from(([192, 0, 2, 1], port))), stream: 0 }
}

fn stream(number: u64) -> Source {
    Source { stream: number, ..udp(1) }
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn set(id: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 4).unwrap();
    [&words(&[id, length])[..], body].concat()
}

fn ipfix(domain: u32, sequence: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    let sets = sets.concat();
    let length = u16::try_from(sets.len() + 16).unwrap();
    let numbers = [SECONDS, sequence, domain].map(u32::to_be_bytes).concat();
    [&words(&[10, length])[..], &numbers, &sets].concat()
}

fn v9(domain: u32, sequence: u32, uptime_ms: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    let numbers = [uptime_ms, SECONDS, sequence, domain].map(u32::to_be_bytes).concat();
    [&words(&[9, 1])[..], &numbers, &sets.concat()].concat()
}

fn decode(decoder: &mut Decoder, source: Source, message: &[u8]) -> (Vec<Received>, Message) {
    let mut records = Vec::new();
    let message = decoder.decode(source, message, |record| records.push(record.clone())).unwrap();
    (records, message)
}

fn decoder() -> Decoder {
    Decoder::new(Limits::default())
}

fn defects(decoder: &Decoder) -> Vec<(&'static str, u64)> {
    decoder.defects().iter().collect()
}

fn number(record: &Received, id: u16) -> Option<u64> {
    record.get(ElementId::iana(id)).and_then(Value::unsigned)
}

/// Template 256: protocol and packets of one octet each.
fn small() -> Vec<u8> {
    set(2, &words(&[256, 2, 4, 1, 2, 1]))
}

#[test]
fn data_follow_their_template_and_domains_do_not_mix() {
    let mut decoder = decoder();
    let data = set(256, &[6, 10, 17, 20]);
    let (records, message) = decode(&mut decoder, udp(1), &ipfix(5, 40, &[small(), data.clone()]));
    assert_eq!(records.iter().map(|record| number(record, 2)).collect::<Vec<_>>(), [Some(10), Some(20)]);
    let first = &records[0];
    assert_eq!((first.version, first.domain, first.template, first.kind), (10, 5, 256, RecordKind::Flow));
    assert_eq!((first.exporter, first.exported_ns), (udp(1).exporter, u64::from(SECONDS) * 1_000_000_000));
    assert_eq!((message.records, message.complete, message.sequence), (2, true, Some(40)));
    // The template holds for later messages of the session, and for no other session.
    assert_eq!(decode(&mut decoder, udp(1), &ipfix(5, 42, std::slice::from_ref(&data))).0.len(), 2);
    for (source, message) in [
        (udp(1), ipfix(6, 0, std::slice::from_ref(&data))),
        (udp(2), ipfix(5, 0, std::slice::from_ref(&data))),
        (stream(1), ipfix(5, 0, std::slice::from_ref(&data))),
        (udp(1), v9(5, 0, 0, &[data])),
    ] {
        let (records, message) = decode(&mut decoder, source, &message);
        assert_eq!((records.len(), message.complete), (0, false));
    }
    assert_eq!(defects(&decoder), [("no_template", 4)]);
}

#[test]
fn values_of_variable_length_have_one_octet_of_length_or_three() {
    let mut decoder = decoder();
    let template = set(2, &words(&[300, 2, 82, 0xffff, 4, 1]));
    let long = [&[255, 1, 0][..], &[b'x'; 256], &[17]].concat();
    let data = [&[4][..], b"eth0", &[6], &long, &[0, 1], &[255, 0, 2, b'l', b'o', 1]].concat();
    let (records, _) = decode(&mut decoder, udp(1), &ipfix(0, 0, &[template, set(300, &data)]));
    let names: Vec<_> =
        records.iter().map(|record| record.get(ElementId::iana(82)).unwrap().clone()).collect();
    let text = |text: &str| Value::String(text.to_owned());
    assert_eq!(names, [text("eth0"), text(&"x".repeat(256)), text(""), text("lo")]);
    // A length beyond the set.
    let (records, message) = decode(&mut decoder, udp(1), &ipfix(0, 0, &[set(300, &[200, 1, 2])]));
    assert_eq!((records.len(), message.complete), (0, false));
    assert_eq!(defects(&decoder), [("record_length", 1)]);
}

#[test]
fn what_is_shorter_than_a_record_is_padding() {
    let mut decoder = decoder();
    let template = set(2, &words(&[256, 1, 8, 4, 0]));
    let data = set(256, &[192, 0, 2, 1, 0, 0, 0]);
    assert_eq!(decode(&mut decoder, udp(1), &ipfix(0, 0, &[template, data])).0.len(), 1);
    // NetFlow v9 fills up sets: two records of one octet, then two of padding.
    let template = set(0, &words(&[256, 1, 4, 1]));
    let message = v9(0, 0, 0, &[template, set(256, &[6, 17, 0, 0]), vec![0; 12]]);
    assert_eq!(decode(&mut decoder, udp(1), &message).0.len(), 2);
    assert_eq!(defects(&decoder), []);
}

#[test]
fn templates_change_over_udp_and_are_withdrawn_over_streams() {
    let data = set(256, &[6, 10]);
    let other = set(2, &words(&[256, 1, 4, 1, 257, 1, 4, 1]));
    let withdrawal = |id| set(2, &words(&[id, 0]));
    let mut decoder = decoder();
    let count =
        |decoder: &mut Decoder, source, sets: &[Vec<u8>]| decode(decoder, source, &ipfix(0, 0, sets)).0.len();
    assert_eq!(count(&mut decoder, udp(1), &[small(), data.clone(), other.clone(), data.clone()]), 1 + 2);
    assert_eq!(defects(&decoder), [], "RFC 7011 section 8.4");
    assert_eq!(count(&mut decoder, udp(1), &[withdrawal(256), data.clone()]), 2);
    assert_eq!(defects(&decoder), [("withdrawal_over_udp", 1)]);
    assert_eq!(count(&mut decoder, stream(1), &[small(), data.clone(), small()]), 1, "sent again");
    assert_eq!(count(&mut decoder, stream(1), &[other.clone(), data.clone()]), 2);
    assert_eq!(decoder.defects().get(Defect::TemplateChanged), 1);
    assert_eq!(count(&mut decoder, stream(1), &[withdrawal(256), data.clone()]), 0);
    assert_eq!(count(&mut decoder, stream(1), &[withdrawal(256), small(), data.clone()]), 1);
    assert_eq!(decoder.defects().get(Defect::WithdrawalUnknown), 1);
    // All of them; those of options stay.
    let options = set(3, &words(&[400, 1, 1, 149, 4]));
    let sets = [options, other, withdrawal(2), set(400, &[0; 4]), set(256, &[1]), set(257, &[1])];
    assert_eq!(count(&mut decoder, stream(1), &sets), 1);
    assert_eq!(count(&mut decoder, stream(1), &[set(3, &words(&[3, 0])), set(400, &[0; 4])]), 0);
    // The end of a connection is the end of its templates.
    assert_eq!(count(&mut decoder, stream(2), &[small(), data.clone()]), 1);
    decoder.forget(2);
    assert_eq!(count(&mut decoder, stream(2), std::slice::from_ref(&data)), 0);
    assert_eq!(count(&mut decoder, udp(1), &[data]), 2);
}

#[test]
fn options_tell_of_samplers_and_of_the_exporter() {
    let mut decoder = decoder();
    let template = set(3, &words(&[400, 4, 1, 149, 4, 34, 4, 160, 8, 9999, 2]));
    let init = (u64::from(SECONDS) - 60) * 1000;
    let data = [&[0, 0, 0, 7][..], &[0, 0, 0, 100], &init.to_be_bytes(), &[1, 2]].concat();
    let (records, message) = decode(&mut decoder, udp(1), &ipfix(7, 0, &[template, set(400, &data)]));
    assert_eq!((records[0].kind, number(&records[0], 34)), (RecordKind::Options, Some(100)));
    assert_eq!(records[0].get(ElementId::iana(9999)), Some(&Value::Octets(vec![1, 2])));
    assert_eq!(message.records, 1, "options are data records");
    let samplings: Vec<_> =
        decoder.samplings().map(|(id, sampler, rate)| (id.domain, sampler, rate)).collect();
    assert_eq!(samplings, [(7, 0, Rate::Ratio(1, 100))]);
    // Uptimes count from the start that was told.
    let template = set(2, &words(&[300, 2, 22, 4, 21, 4]));
    let data = [10_000u32, 20_000].map(u32::to_be_bytes).concat();
    let (records, _) = decode(&mut decoder, udp(1), &ipfix(7, 1, &[template, set(300, &data)]));
    let time = |id| records[0].get(ElementId::iana(id)).and_then(Value::time);
    let at = |seconds: u64| Some((u64::from(SECONDS) - seconds) * 1_000_000_000);
    assert_eq!((time(152), time(153)), (at(50), at(40)));
    assert_eq!((number(&records[0], 22), number(&records[0], 21)), (Some(10_000), Some(20_000)));
}

#[test]
fn netflow_v9_has_uptimes_and_scopes() {
    let mut decoder = decoder();
    let template = set(0, &words(&[256, 3, 22, 4, 21, 4, 10, 2]));
    let options = set(1, &words(&[257, 4, 8, 2, 2, 82, 6, 34, 1]));
    let data = set(256, &[&[40_000u32, 50_000].map(u32::to_be_bytes).concat()[..], &[0, 3]].concat());
    let interface = set(257, &[&[0, 3][..], b"eth0\0\0", &[10]].concat());
    let message = v9(9, 77, 60_000, &[template, options, data, interface]);
    let (records, message) = decode(&mut decoder, udp(1), &message);
    assert_eq!((message.sequence, message.domain, message.records), (Some(77), 9, 2));
    let at = |seconds: u64| Some(&Value::Time((u64::from(SECONDS) - seconds) * 1_000_000_000)).cloned();
    assert_eq!(records[0].get(ElementId::iana(152)).cloned(), at(20));
    assert_eq!(records[0].get(ElementId::iana(153)).cloned(), at(10));
    let scope = ElementId { enterprise: ElementId::V9_SCOPE, id: 2 };
    assert_eq!(records[1].get(scope), Some(&Value::Unsigned(3)));
    assert_eq!(records[1].get(ElementId::iana(82)), Some(&Value::String("eth0".into())));
    assert_eq!(defects(&decoder), []);
}

#[test]
fn elements_of_enterprises_and_of_the_reverse_direction_stay_apart() {
    let mut decoder = decoder();
    let template =
        set(2, &words(&[256, 4, 2, 1, 0x8002, 1, 0, 29305, 0x8000 | 880, 1, 0, 6876, 0x8001, 1, 0, 9]));
    let (records, _) = decode(&mut decoder, udp(1), &ipfix(0, 0, &[template, set(256, &[1, 2, 3, 4])]));
    let expected = [
        (ElementId::iana(2), Value::Unsigned(1)),
        (ElementId::reverse(2), Value::Unsigned(2)),
        (ElementId { enterprise: 6876, id: 880 }, Value::Unsigned(3)),
        (ElementId { enterprise: 9, id: 1 }, Value::Octets(vec![4])),
    ];
    assert_eq!(records[0].elements, expected);
}

fn list(decoder: &mut Decoder, element: u16, content: &[u8]) -> Value {
    let template = set(2, &words(&[500, 1, element, 0xffff]));
    let data = [&[255][..], &u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat();
    let (records, _) = decode(decoder, udp(1), &ipfix(0, 0, &[small(), template, set(500, &data)]));
    records[0].get(ElementId::iana(element)).unwrap().clone()
}

#[test]
fn lists_of_rfc_6313() {
    let mut decoder = decoder();
    let flow = |protocol, packets| {
        vec![(ElementId::iana(4), Value::Unsigned(protocol)), (ElementId::iana(2), Value::Unsigned(packets))]
    };
    let basic = [&[3][..], &words(&[10, 2]), &words(&[7, 8])].concat();
    let interface = |number| vec![(ElementId::iana(10), Value::Unsigned(number))];
    assert_eq!(list(&mut decoder, 291, &basic), Value::List(vec![interface(7), interface(8)]));
    let names = [&[3][..], &words(&[82, 0xffff]), &[2, b'l', b'o', 0]].concat();
    let name = |name: &str| vec![(ElementId::iana(82), Value::String(name.into()))];
    assert_eq!(list(&mut decoder, 291, &names), Value::List(vec![name("lo"), name("")]));
    let records = [&[3][..], &words(&[256]), &[6, 1, 17, 2]].concat();
    assert_eq!(list(&mut decoder, 292, &records), Value::List(vec![flow(6, 1), flow(17, 2)]));
    let several =
        [&[3][..], &words(&[256, 6]), &[6, 1], &words(&[256, 4]), &words(&[256, 6]), &[17, 2]].concat();
    assert_eq!(list(&mut decoder, 293, &several), Value::List(vec![flow(6, 1), flow(17, 2)]));
    assert_eq!(defects(&decoder), []);
}

#[test]
fn lists_that_contradict_themselves_are_given_as_octets() {
    let mut decoder = decoder();
    // Lists in lists: five deep is too deep.
    let mut nested = vec![3, 0, 4, 0, 1, 6];
    for _ in 0..4 {
        nested = [&[3][..], &words(&[291, 0xffff]), &[u8::try_from(nested.len()).unwrap()], &nested].concat();
    }
    let Value::List(mut entries) = list(&mut decoder, 291, &nested) else { panic!("not a list") };
    for _ in 0..3 {
        let (_, value) = entries.remove(0).remove(0);
        entries = match value {
            Value::List(entries) => entries,
            other => panic!("{other:?}"),
        };
    }
    assert!(matches!(entries[0][0].1, Value::Octets(_)), "{entries:?}");
    assert_eq!(defects(&decoder), [("list", 1)]);
    for (element, content) in [
        (291, vec![3, 0, 10]),
        (291, [&[3][..], &words(&[10, 0]), &[1]].concat()),
        (291, [&[3][..], &words(&[10, 2]), &[1]].concat()),
        (292, [&[3][..], &words(&[999]), &[1]].concat()),
        (292, [&[3][..], &words(&[256]), &[6]].concat()),
        (293, [&[3][..], &words(&[256, 3]), &[6, 1]].concat()),
        (293, [&[3][..], &words(&[256, 60]), &[6, 1]].concat()),
        (293, vec![]),
    ] {
        assert_eq!(
            list(&mut decoder, element, &content),
            Value::Octets(content.clone()),
            "{element} {content:?}"
        );
    }
    assert_eq!(defects(&decoder), [("list", 9)]);
}

#[test]
fn lengths_that_lie() {
    let mut decoder = decoder();
    let good = [small(), set(256, &[6, 1])];
    for (name, sets, records) in [
        ("a set of no length", [&good[..], &[words(&[256, 0])]].concat(), 1),
        ("a set beyond the message", [&good[..], &[words(&[256, 100, 0])]].concat(), 1),
        ("three octets", [&good[..], &[vec![1, 0, 0]]].concat(), 1),
    ] {
        let (found, message) = decode(&mut decoder, udp(1), &ipfix(0, 0, &sets));
        assert_eq!((found.len(), message.complete, message.broken), (records, false, true), "{name}");
    }
    assert_eq!(defects(&decoder), [("set_length", 3)]);
    let mut message = ipfix(0, 0, &good);
    message.extend([1, 2, 3]);
    assert_eq!(decode(&mut decoder, udp(1), &message).0.len(), 1);
    assert_eq!(decoder.defects().get(Defect::Trailing), 1);
    for length in [0, 15, 200] {
        message[2..4].copy_from_slice(&u16::to_be_bytes(length));
        assert_eq!(decoder.decode(udp(1), &message, |_| ()), Err(Malformed::Length), "{length}");
    }
    for (message, expected) in [
        (vec![], Malformed::Truncated),
        (vec![0], Malformed::Truncated),
        (vec![0, 10, 0, 16], Malformed::Truncated),
        (vec![0, 9, 0, 1], Malformed::Truncated),
        (vec![0, 8], Malformed::Version(8)),
        (vec![0, 1, 0], Malformed::Truncated),
    ] {
        assert_eq!(decoder.decode(udp(1), &message, |_| ()), Err(expected), "{message:?}");
    }
}

#[test]
fn sets_that_are_reserved_or_make_no_sense() {
    let mut decoder = decoder();
    let empty = set(2, &words(&[600, 1, 4, 0]));
    let (records, message) =
        decode(&mut decoder, udp(1), &ipfix(0, 0, &[set(0, &[]), set(255, &[1]), empty, set(600, &[1; 50])]));
    assert_eq!((records.len(), message.complete), (0, false), "records without octets would never end");
    let large = set(2, &[&words(&[601, 1025])[..], &words(&[4, 1]).repeat(1025)].concat());
    let cut = set(2, &words(&[602, 2, 4, 1]));
    decode(&mut decoder, udp(1), &ipfix(0, 0, &[large, cut]));
    assert_eq!(
        defects(&decoder),
        [("reserved_set", 2), ("template", 1), ("template_too_large", 1), ("empty_record", 1)]
    );
}

#[test]
fn floods_of_templates_and_exporters_take_bounded_memory() {
    let limits = Limits { sessions: 50, templates: 20, fields: 64, octets: 100_000 };
    let mut decoder = Decoder::new(limits);
    let flood = |from: u16| {
        let templates =
            (from..from + 30).flat_map(|id| [&words(&[id, 60])[..], &words(&[4, 1]).repeat(60)].concat());
        set(2, &templates.collect::<Vec<_>>())
    };
    for round in 0..200u16 {
        for domain in 0..3 {
            decode(&mut decoder, udp(round), &ipfix(domain, 0, &[flood(256 + round * 30)]));
            assert!(decoder.octets() <= limits.octets, "{}", decoder.octets());
        }
    }
    assert!(decoder.defects().get(Defect::TemplateEvicted) > 1000);
    assert!(decoder.defects().get(Defect::SessionEvicted) > 500);
    // One exporter alone is bounded as well, and what it uses stays.
    let mut decoder = Decoder::new(Limits { octets: 10_000, ..limits });
    decode(&mut decoder, udp(1), &ipfix(0, 0, &[flood(256)]));
    assert!(decoder.octets() <= 10_000);
    let mut decoder = Decoder::new(limits);
    for id in 0..100 {
        let data = set(256, &[6, 10]);
        let template = set(2, &words(&[300 + id, 1, 4, 1]));
        let (records, _) = decode(&mut decoder, udp(1), &ipfix(0, 0, &[small(), data, template]));
        assert_eq!(records.len(), 1);
    }
    assert_eq!(decode(&mut decoder, udp(1), &ipfix(0, 0, &[set(256, &[6, 1])])).0.len(), 1);
}

#[test]
fn versions_1_5_and_7_become_elements() {
    let mut record = [0; 52];
    record[..4].copy_from_slice(&[192, 0, 2, 1]);
    record[4..8].copy_from_slice(&[198, 51, 100, 2]);
    record[13] = 3;
    record[19] = 10;
    record[23] = 99;
    record[27] = 200;
    record[31] = 250;
    record[33] = 80;
    record[35] = 81;
    let header = |version: u16, len: usize| {
        let clock = [500u32, SECONDS, 0].map(u32::to_be_bytes).concat();
        let mut header = [&words(&[version, 1])[..], &clock, &[0, 0, 0, 9, 1, 2, 0, 0]].concat();
        header.truncate(len);
        header
    };
    let mut decoder = decoder();
    for (version, header_len, record_len, flags, protocol) in
        [(1, 16, 48, 40, 38), (5, 24, 48, 37, 38), (7, 24, 52, 37, 38)]
    {
        let mut record = record[..record_len].to_vec();
        (record[flags], record[protocol]) = (0x12, 6);
        let message = [header(version, header_len), record].concat();
        let (records, read) = decode(&mut decoder, udp(1), &message);
        let [received] = &records[..] else { panic!("{records:?}") };
        let domain = if version == 5 { 0x0102 } else { 0 };
        assert_eq!((received.version, received.domain), (version, domain));
        assert_eq!(read.sequence, if version == 1 { None } else { Some(9) });
        let numbers = [7, 11, 4, 6, 2, 1, 10].map(|id| number(received, id));
        assert_eq!(numbers, [80, 81, 6, 0x12, 10, 99, 3].map(Some), "version {version}");
        let start = (u64::from(SECONDS) * 1000 - 300) * 1_000_000;
        assert_eq!(received.get(ElementId::iana(152)), Some(&Value::Time(start)));
        assert_eq!(received.get(ElementId::iana(14)), None, "not known");
        for wrong in [&message[..message.len() - 1], &[&message[..], &[0]].concat()] {
            assert_eq!(decoder.decode(udp(1), wrong, |_| ()), Err(Malformed::Length), "version {version}");
        }
    }
}

fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![0u16..8, 256u16..260, any::<u16>()];
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        // Templates that make sense, of elements among which lists are.
        prop::collection::vec(
            (256u16..260, prop::collection::vec((prop_oneof![0u16..40, 285u16..300], 0u16..9), 0..6)),
            0..4
        )
        .prop_map(|templates| templates
            .into_iter()
            .flat_map(|(id, fields)| {
                let count = u16::try_from(fields.len()).unwrap();
                let fields =
                    fields.into_iter().flat_map(|(id, len)| [id, if len == 8 { 0xffff } else { len }]);
                words(&[id, count].into_iter().chain(fields).collect::<Vec<_>>())
            })
            .collect()),
    ];
    let sets = prop::collection::vec((number, body), 0..6);
    (prop::bool::ANY, 0u32..3, sets, prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3))
        .prop_map(|(nine, domain, sets, mutations)| {
            let sets: Vec<_> = sets.into_iter().map(|(id, body)| set(id, &body)).collect();
            let mut message = if nine { v9(domain, 0, 0, &sets) } else { ipfix(domain, 0, &sets) };
            for (at, octet) in mutations {
                let at = at.index(message.len());
                message[at] = octet;
            }
            message
        })
}

proptest! {
    #[test]
    fn any_octets_are_read_within_bounds(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20)) {
        let mut decoder = decoder();
        for mut message in messages {
            for version in [1, 5, 7, 9, 10] {
                if message.len() > 4 {
                    message[..2].copy_from_slice(&[0, version]);
                    let length = u16::try_from(message.len()).unwrap();
                    message[2..4].copy_from_slice(&length.to_be_bytes());
                }
                decoder.decode(udp(1), &message, |_| ()).ok();
            }
        }
    }

    #[test]
    fn messages_that_almost_make_sense_are_read_within_bounds(messages in prop::collection::vec(any_message(), 1..30)) {
        let limits = Limits { sessions: 4, templates: 3, fields: 4, octets: 4000 };
        let mut decoder = Decoder::new(limits);
        for (number, message) in messages.iter().enumerate() {
            let mut octets = 0;
            let source = if number % 3 == 0 { stream(1) } else { udp(1) };
            let read = decoder.decode(source, message, |record| octets += record.elements.len());
            // Every record but its times, and every value, takes at least an octet.
            prop_assert!(octets <= 3 * message.len());
            if let Ok(read) = read {
                prop_assert!(usize::try_from(read.records).unwrap() <= message.len());
            }
            prop_assert!(decoder.octets() <= limits.octets);
        }
    }
}

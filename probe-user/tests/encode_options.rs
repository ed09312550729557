// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What collectors are told beside flows, and when: templates and options.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod encode_support;

use encode_support::{
    Line, SECOND, UNIX,
    decoders::{Message, Parser, Record, Rw, V9_SCOPE},
    now, plain, settings, told,
};
use probe_user::export::encode::{Told, encoder};
use probe_user::flow::Sampling;

fn read(parser: &mut Parser, line: &mut Line) -> Vec<Message> {
    line.take().iter().map(|octets| parser.read(octets)).collect()
}

fn sampled(sampling: &str, overload_sampling: u32) -> Told {
    Told { sampling: sampling.parse::<Sampling>().unwrap(), overload_sampling, ..told() }
}

/// The options that a new collector is told.
fn first_options(url: &str, told: &Told) -> Vec<Record> {
    let mut line = Line::new(&settings(url, 1472), 0);
    line.tick(told, now(UNIX, 0));
    let messages = read(&mut Parser::default(), &mut line);
    assert!(messages[0].flows.is_empty() && messages[0].options.is_empty(), "templates come first");
    messages.into_iter().flat_map(|message| message.options).collect()
}

fn of(options: &[Record], template: u16) -> Vec<(u16, u128)> {
    let record = options.iter().find(|record| record.template == template).unwrap();
    record.fields.iter().map(|((_, id), value)| (*id, *value)).collect()
}

#[test]
fn ipfix_options_tell_of_domain_ledger_sampling_and_interface() {
    let options = first_options("ipfix://h", &told());
    assert_eq!(options.iter().map(|record| record.template).collect::<Vec<_>>(), [262, 260, 261, 263]);
    // One message of templates went before: 264 octets.
    let statistics = of(&options, 260);
    assert_eq!(statistics[..3], [(149, 1), (41, 1), (42, 0)]);
    assert_eq!(statistics[4..], [(36, 300), (37, 15)]);
    let ledger = [(144, 1), (163, 1000), (164, 7), (165, 700), (166, 3), (167, 30), (168, 3000)];
    assert_eq!(of(&options, 261), ledger);
    assert_eq!(of(&options, 262), [(149, 1), (34, 1)]);
    // Texts by their lengths, which are fixed.
    assert_eq!(of(&options, 263), [(10, 3), (82, 16), (83, 64)]);
}

#[test]
fn v9_options_have_scopes_of_their_own() {
    let options = first_options("v9://h", &sampled("1:100", 1));
    let scopes: Vec<_> = options.iter().map(|record| record.fields[0]).collect();
    let system = ((V9_SCOPE, 1), 1);
    assert_eq!(scopes, [system, system, system, ((V9_SCOPE, 2), 3)]);
    assert_eq!(of(&options, 262)[1..], [(34, 100)]);
    assert_eq!(of(&options, 260)[4..], [(36, 300), (37, 15)]);
    let options = first_options("v9://h?sampling_options=psamp", &sampled("random:100", 1));
    assert_eq!(of(&options, 262)[1..], [(48, 1), (49, 2), (50, 100)]);
}

#[test]
fn sampling_is_told_in_the_form_asked_for() {
    let bits = |probability: f64| u128::from(probability.to_bits());
    for (sampling, overload, compat, template, psamp) in [
        ("off", 1, 1, 262, [(302, 1), (304, 1), (305, 1), (306, 0)].to_vec()),
        ("1:100", 1, 100, 262, [(302, 1), (304, 1), (305, 1), (306, 99)].to_vec()),
        ("flow:8", 1, 8, 264, [(302, 1), (304, 3), (309, 1), (310, 8)].to_vec()),
        ("off", 4, 4, 264, [(302, 1), (304, 3), (309, 1), (310, 4)].to_vec()),
        ("random:100", 1, 100, 265, [(302, 1), (304, 4), (311, bits(0.01))].to_vec()),
        ("1:100", 4, 400, 265, [(302, 1), (304, 4), (311, bits(0.0025))].to_vec()),
    ] {
        let told = sampled(sampling, overload);
        assert_eq!(of(&first_options("ipfix://h", &told), 262), [(149, 1), (34, compat)], "{sampling}");
        let options = first_options("ipfix://h?sampling_options=psamp", &told);
        assert_eq!(of(&options, template), psamp, "{sampling}");
    }
    // The collector's own sampling counts too, in records as well.
    let told = sampled("1:100", 1);
    assert_eq!(of(&first_options("ipfix://h?sampling=2", &told), 262), [(149, 1), (34, 200)]);
    let mut line = Line::new(&settings("ipfix://h?sampling=2&fields=default,samplingInterval", 1472), 0);
    line.tick(&told, now(UNIX, 0));
    line.encode(&plain(), now(UNIX, 0));
    line.seal(now(UNIX, 0));
    let messages = read(&mut Parser::default(), &mut line);
    assert_eq!(messages.last().unwrap().flows[0].get(34), Some(200));
}

#[test]
fn a_change_of_sampling_is_told_at_once_between_what_was_sampled_so_and_so() {
    for url in ["ipfix://h?fields=default,samplingInterval", "v9://h?fields=default,samplingInterval"] {
        let mut line = Line::new(&settings(url, 1472), 0);
        let mut parser = Parser::default();
        line.tick(&told(), now(UNIX, 0));
        line.encode(&plain(), now(UNIX, 0));
        let before = read(&mut parser, &mut line);
        assert!(before.iter().all(|message| message.flows.is_empty()));
        line.tick(&sampled("off", 8), now(UNIX, SECOND));
        line.encode(&plain(), now(UNIX, SECOND));
        line.seal(now(UNIX, SECOND));
        line.tick(&sampled("off", 8), now(UNIX, 2 * SECOND));
        let messages = read(&mut parser, &mut line);
        let [old, options, new] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!((old.flows[0].get(34), new.flows[0].get(34)), (Some(1), Some(8)));
        assert_eq!(options.options.len(), 1);
        assert_eq!(options.options[0].get(34), Some(8));
    }
}

#[test]
fn the_header_of_version_5_tells_sampling() {
    for (url, sampling, field) in [
        ("v5://h", "off", 0),
        ("v5://h", "1:100", 0x4000 | 100),
        ("v5://h", "random:100", 0x8000 | 100),
        ("v5://h?v5_sampling_mode_bits=off", "1:100", 100),
        ("v5://h?sampling=3", "1:100", 0x8000 | 300),
    ] {
        let mut line = Line::new(&settings(url, 1472), 0);
        line.tick(&sampled(sampling, 1), now(UNIX, 0));
        line.encode(&plain(), now(UNIX, 0));
        line.seal(now(UNIX, 0));
        let [datagram] = &line.take()[..] else { panic!("one datagram") };
        assert_eq!(u16::from_be_bytes([datagram[22], datagram[23]]), field, "{url} {sampling}");
    }
}

#[test]
fn templates_come_first_then_by_time_by_datagrams_and_when_asked_for() {
    for (url, data) in [("ipfix://h", 256..=265), ("v9://h", 256..=263)] {
        let url = format!("{url}?options=off&template_refresh=10s&template_packets=100");
        let mut line = Line::new(&settings(&url, 1472), 0);
        let mut parser = Parser::default();
        // The first record did not wait for a tick.
        line.encode(&plain(), now(UNIX, 0));
        line.seal(now(UNIX, 0));
        let templates = |messages: &[Message]| {
            assert!(messages.iter().flat_map(|m| &m.templates).all(|id| data.contains(id)));
            messages.iter().filter(|message| !message.templates.is_empty()).count()
        };
        let messages = read(&mut parser, &mut line);
        assert_eq!((messages.len(), messages[0].templates.len(), messages[1].flows.len()), (2, 2, 1));
        // By time.
        let mut rounds = 0;
        for second in 1..=50 {
            line.tick(&told(), now(UNIX, second * SECOND));
            rounds += templates(&read(&mut parser, &mut line));
        }
        assert!((5..=6).contains(&rounds), "{rounds}");
        // When asked for, at the next tick and no more.
        line.encoder.refresh();
        for _ in 0..2 {
            line.tick(&told(), now(UNIX, 51 * SECOND));
        }
        assert_eq!(templates(&read(&mut parser, &mut line)), 1);
        // By datagrams.
        for _ in 0..1000 {
            line.encode(&plain(), now(UNIX, 51 * SECOND));
            line.seal(now(UNIX, 51 * SECOND));
        }
        assert_eq!(templates(&read(&mut parser, &mut line)), 10);
    }
}

#[test]
fn a_session_begins_with_all_templates_and_has_none_in_its_stream() {
    let settings = settings("ipfix+tcp://h?biflow=full&sampling_options=psamp&fields=full", 512);
    let mut line = Line::new(&settings, 0);
    for second in 0..1000 {
        line.tick(&told(), now(UNIX, second * SECOND));
        line.encode(&plain(), now(UNIX, second * SECOND));
    }
    line.encoder.refresh();
    line.tick(&told(), now(UNIX, 1000 * SECOND));
    let stream = line.take();
    let mut preamble = Vec::new();
    line.encoder.preamble(now(UNIX, 0), &mut preamble);
    let mut parser = Parser::default();
    let (mut rest, mut ids, mut messages) = (&preamble[..], Vec::new(), 0);
    while !rest.is_empty() {
        let len = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        assert!(len <= 512);
        let message = parser.read(&rest[..len]);
        assert_eq!((message.sequence, message.data_records()), (line.encoder.sequence(), 0));
        ids.extend(message.templates);
        (rest, messages) = (&rest[len..], messages + 1);
    }
    assert!(messages > 1, "several messages");
    ids.sort_unstable();
    assert_eq!(ids, [256, 257, 258, 259, 260, 261, 262, 263, 264, 265]);
    let stream: Vec<_> = stream.iter().map(|octets| parser.read(octets)).collect();
    assert!(stream.iter().all(|message| message.templates.is_empty()));
    // Every 300 s, and once more when asked for.
    let options: usize = stream.iter().map(|message| message.options.len()).sum();
    assert_eq!(options, 5 * 4);
}

#[test]
fn domains_and_engines_count_up_and_only_the_first_tells_the_ledger() {
    let mut line =
        Line::new(&settings("v9://h?domain=4294967295&interfaces=engine-port&engine_id=127", 1472), 1);
    // Long enough for the second domain's turn.
    for ms in 0..20 {
        line.tick(&told(), now(UNIX, ms * 1_000_000));
    }
    line.encode(&plain(), now(UNIX, SECOND));
    line.seal(now(UNIX, SECOND));
    let messages = read(&mut Parser::default(), &mut line);
    assert!(messages.iter().all(|message| message.domain == 0));
    let options: Vec<_> = messages.iter().flat_map(|message| message.options.clone()).collect();
    assert_eq!(options.iter().map(|record| record.template).collect::<Vec<_>>(), [262, 260, 263]);
    // Engine 128 has 7 bits: 0. The second interface, before a flow told which one it is.
    assert_eq!(of(&options, 263)[0], (2, 4));
    assert_eq!(messages.last().unwrap().flows[0].get(10), Some(3));
    // Engine 5, port 3.
    let settings = settings("v5://h?interfaces=engine-port&engine_id=5", 1472);
    let mut line = Line::new(&settings, 0);
    line.encode(&plain(), now(UNIX, 0));
    line.seal(now(UNIX, 0));
    let [datagram] = &line.take()[..] else { panic!("one datagram") };
    assert_eq!(u16::from_be_bytes([datagram[36], datagram[37]]), 5 << 9 | 3);
}

#[test]
fn long_names_of_interfaces_are_cut_at_whole_characters() {
    let mut told = told();
    told.interfaces[0].description = "ü".repeat(200);
    for url in ["ipfix://h", "v9://h"] {
        let options = first_options(url, &told);
        assert_eq!(of(&options, 263)[2], (83, 64));
    }
    // The other decoder insists on UTF-8.
    let mut line = Line::new(&settings("ipfix://h", 1472), 0);
    line.tick(&told, now(UNIX, 0));
    let rw = Rw::new();
    let options: usize = line.take().iter().map(|octets| rw.read(octets).1.len()).sum();
    assert_eq!(options, 4);
}

#[test]
fn fields_have_the_names_of_iana() {
    let rw = Rw::new();
    let mut line = Line::new(&settings("ipfix://h?options=off&fields=full,v5,samplingInterval", 1472), 0);
    let names = probe_user::export::encode::FieldSet::names();
    line.encode(&plain(), now(UNIX, 0));
    line.encode(&encode_support::plain_v6(), now(UNIX, 0));
    line.seal(now(UNIX, 0));
    let messages = read(&mut Parser::default(), &mut line);
    let mut told: Vec<_> =
        messages[1].flows.iter().flat_map(|record| &record.fields).map(|(id, _)| id.1).collect();
    told.sort_unstable();
    told.dedup();
    // A shorter form has the name of the longer one, and its length behind it.
    let mut ours: Vec<_> = names.split(", ").filter(|name| !name.contains('/')).collect();
    let mut theirs: Vec<_> = told.iter().map(|id| rw.name(*id).unwrap()).collect();
    ours.sort_unstable();
    theirs.sort_unstable();
    assert_eq!(ours, theirs);
}

#[test]
fn nothing_is_due_between_rounds() {
    let settings = settings("ipfix://h", 1472);
    let mut encoder = encoder(&settings, 0);
    let mut ring = probe_user::export::DatagramRing::new(16, 1472);
    let cursor = probe_user::export::Cursor::default();
    encoder.tick(&told(), now(UNIX, 0), &mut ring);
    assert_eq!(ring.backlog(&cursor), 2);
    for second in 0..29 {
        encoder.tick(&told(), now(UNIX, second * SECOND), &mut ring);
    }
    assert_eq!(ring.backlog(&cursor), 2);
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every version of the protocol, and both directions of a conversation.

use probe_lab::{FlowId, Flows, Link, Sums, difference, flows_of, require_root};

use super::{
    REFRESHES, SOON_IDLE,
    bank::{self, Bank, Version},
    banks, decoders,
    elements::Fields,
    fixbuf,
    messages::walk,
    nfdump::Nfcapd,
    options,
    relay::Relay,
    seen::{Seen, assert_same},
    send,
    traffic::{self, assert_true, now_ms},
    tshark, with_probe,
};

/// Plain flows, IPv6, VLANs and options, told by one probe to collectors of all versions at once.
#[test]
#[ignore = "needs root: run `make test`"]
fn all_versions_at_once_to_every_collector() {
    require_root();
    let link = Link::new("interop", 1).unwrap();
    let banks = banks(&link, false);
    let first = [traffic::ipv4(2), traffic::vlans()].concat();
    let second = [traffic::ipv4(3), traffic::ipv6(1)].concat();
    let from = now_ms();
    let (records, _) = with_probe(&link, &options(banks.iter().zip(REFRESHES), &SOON_IDLE), |socket| {
        send(socket, &first);
        // Templates and options come again between flows.
        banks.iter().for_each(|bank| bank.wait_for_templates(3));
        send(socket, &second);
    });
    assert_true(&records, &[first, second].concat(), link.metered.index, from, now_ms());
    for bank in banks {
        let received = bank.finish();
        received.assert_read("all versions", &records, 1);
        received.assert_in_sequence("all versions");
        if received.version != Version::V5 {
            let walk = walk(&received.datagrams);
            assert!(walk.options > 4, "options came again: {walk:?}");
            assert_options(&received, link.metered.index);
            let templates = received.messages().iter().filter(|message| message.has_templates()).count();
            assert!(templates >= 3, "templates came again: {templates}");
        }
    }
}

/// All that options tell is there for everybody who reads them.
fn assert_options(received: &bank::Received, interface: u32) {
    let datagrams = &received.datagrams;
    let mut readers = vec![
        ("tshark", tshark::dissect(datagrams).records.options),
        ("netflow_parser", decoders::netflow_parser(datagrams).options),
    ];
    if received.version == Version::Ipfix {
        readers.push(("ipfixrw", decoders::ipfixrw(datagrams).options));
        readers.push(("ipfixDump", fixbuf::dump(datagrams).options));
    }
    for (reader, options) in readers {
        let has = |what: &dyn Fn(&Fields) -> bool| options.iter().any(what);
        let who = format!("{}, {reader}: {options:?}", received.version);
        // tshark shows the scope of v9 as an interface of its own kind.
        let is_ours = |fields: &Fields| {
            fields.number(10).is_none_or(|index| index == u64::from(interface))
                && fields.text(82) == Some("tap0")
        };
        assert!(has(&is_ours), "interface, {who}");
        assert!(has(&|fields| fields.number(34) == Some(1)), "sampling, {who}");
        assert!(
            has(&|fields| fields.number(36) == Some(300) && fields.number(42) > Some(0)),
            "totals, {who}"
        );
        assert!(
            has(&|fields| fields.number(164) == Some(0) && fields.number(167) == Some(0)),
            "ledger, {who}"
        );
    }
    let log = &received.stored.log;
    assert!(!log.contains("size error"), "nfcapd refuses options:\n{log}");
}

/// Both directions of a conversation in one record (RFC 5103, packets and octets of the reverse direction):
/// nfdump shows both; nfacctd, which does not know of it, shows the forward one unharmed.
#[test]
#[ignore = "needs root: run `make test`"]
fn both_directions_in_one_record() {
    require_root();
    let link = Link::new("biflow", 1).unwrap();
    let bank = Bank::start(&link.metered.namespace, Version::Ipfix, 9000, false);
    let packets = traffic::ipv4(2);
    let (records, _) =
        with_probe(&link, &options([(&bank, "biflow=on")], &[]), |socket| send(socket, &packets));
    let received = bank.finish();
    let sums = |records: &[Seen]| -> Flows {
        let mut flows = Flows::new();
        for record in records {
            *flows.entry(record.flow).or_default() += record.sums();
        }
        flows
    };
    let stored = &received.stored;
    assert!(stored.reverse.len() >= 30, "TCP and UDP go both ways: {:?}", stored.reverse);
    let mut both = sums(&stored.flows);
    for (flow, sums) in &stored.reverse {
        *both.entry(*flow).or_default() += *sums;
    }
    // An echo reply is the reverse of the request; nfdump has one type and code for both.
    let is_port = |flow: &FlowId| flow.protocol != 1;
    let without_icmp =
        |flows: Flows| -> Flows { flows.into_iter().filter(|(flow, _)| is_port(flow)).collect() };
    assert_eq!(difference(&without_icmp(flows_of(&packets)), &without_icmp(both)), None, "nfdump");
    let total = |flows: &Flows| flows.values().copied().sum::<Sums>();
    let forward = total(&sums(&stored.flows));
    assert_eq!(forward.packets + total(&stored.reverse).packets, total(&sums(&records)).packets);
    assert_eq!(total(&sums(&received.counted.flows)), forward, "nfacctd");
    let dissected = tshark::dissect(&received.datagrams);
    assert_eq!(dissected.remarks, [""; 0], "tshark");
    received.assert_in_sequence("biflow");
}

/// NetFlow 1 and 7, for the tools that still know them.
#[test]
#[ignore = "needs root: run `make test`"]
fn versions_1_and_7() {
    require_root();
    let link = Link::new("old", 1).unwrap();
    let namespace = &link.metered.namespace;
    let cells = [("v1", 9000), ("v7", 9010)].map(|(version, port)| {
        let tools = (Nfcapd::start(namespace, port), Relay::keeper(namespace, port + 1));
        (version, port, tools)
    });
    let mut options = options([], &[]);
    for (version, port, _) in &cells {
        for port in [*port, port + 1] {
            options.extend(["--collector".to_owned(), format!("{version}://127.0.0.1:{port}")]);
        }
    }
    let packets = [traffic::ipv4(2), traffic::vlans()].concat();
    let (records, _) = with_probe(&link, &options, |socket| send(socket, &packets));
    let records: Vec<Seen> = records.iter().filter_map(|record| Version::V5.tells(record)).collect();
    for (version, _, (nfcapd, keeper)) in cells {
        let stored = nfcapd.finish();
        assert_same(&format!("{version}, nfdump"), &records, &stored.flows, 0);
        assert_eq!(stored.sequence_failures, 0, "{version}:\n{}", stored.log);
        let found = tshark::dissect(&keeper.finish().received);
        assert_eq!(found.remarks, [""; 0], "{version}");
        assert_same(&format!("{version}, tshark"), &records, &found.records.flows, 0);
    }
}

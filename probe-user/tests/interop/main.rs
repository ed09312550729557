// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Collectors that we did not write read back exactly what the probe exported.
//!
//! The matrix: versions 5, 9 and IPFIX, times what can happen to them. In each cell nfcapd with nfdump, nfacctd, tshark,
//! ipfixDump and Rust decoders tell the same records: packets, octets, TCP flags, ports, protocol, type of
//! service, first and last packet to the millisecond, interface, VLAN; and no sequence number is
//! unexpected. Where a tool cannot, the test that finds it says so.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod bank;
mod decoders;
mod elements;
mod fixbuf;
mod messages;
mod nfdump;
mod pmacct;
mod quirks;
mod relay;
mod seen;
mod tool;
mod traffic;
mod tshark;

use std::fs::File;

use bank::{Bank, Version, joined};
use elements::Fields;
use messages::{Message, walk};
use nfdump::Nfcapd;
use nix::sys::signal::Signal;
use probe_lab::{
    Ended, FlowId, Flows, Link, Namespace, Probe, Sums, difference, flows_of,
    packet_socket::PacketSocket,
    packets::Packet,
    pcap_file::{PcapFormat, PcapWriter},
    require_root,
};
use relay::Relay;
use seen::{Seen, assert_same};
use traffic::{assert_true, now_ms, printed};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
/// Templates and options come again after a second.
const REFRESH: &str = "template_refresh=1s&options_refresh=1s";
/// What that means for each version.
const REFRESHES: [&str; 3] = ["", REFRESH, REFRESH];
/// Flows end soon, so that records come while the test goes on.
const SOON_IDLE: [&str; 2] = ["--idle-timeout", "500ms"];

fn send(socket: &PacketSocket, packets: &[Packet]) {
    for packet in packets {
        socket.send(&packet.frame()).unwrap();
    }
}

/// Options of a probe that prints its records, for these collectors.
fn options<'a>(banks: impl IntoIterator<Item = (&'a Bank, &'a str)>, more: &[&str]) -> Vec<String> {
    let mut options: Vec<String> =
        ["--print", "json"].iter().chain(more).map(|&text| text.to_owned()).collect();
    for (bank, query) in banks {
        options.extend(bank.options(query));
    }
    options
}

/// Runs a probe on the link while `work` sends packets, and returns the records that it printed.
fn with_probe(link: &Link, options: &[String], work: impl FnOnce(&PacketSocket)) -> (Vec<Seen>, Ended) {
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let probe = Probe::start(PROBE, &link.metered.namespace, &link.metered.name, &options).unwrap();
    work(&PacketSocket::open(&link.sender).unwrap());
    let ended = probe.stop(Signal::SIGTERM).unwrap();
    assert!(ended.status.success() && ended.ledger.balanced(), "{}{}", ended.stderr, ended.ledger.0);
    (printed(&ended.stdout), ended)
}

fn banks(link: &Link, renormalize: bool) -> Vec<Bank> {
    let start = |(version, port)| Bank::start(&link.metered.namespace, version, port, renormalize);
    Version::ALL.into_iter().zip([9000, 9010, 9020]).map(start).collect()
}

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

/// Collectors that apply sampling show what crossed the interface, as far as sampling can tell; those that do
/// not show what was metered.
#[test]
#[ignore = "needs root: run `make test`"]
fn sampling_is_applied_by_those_who_know_of_it() {
    const N: u64 = 10;
    require_root();
    let link = Link::new("sampled", 1).unwrap();
    let banks = banks(&link, true);
    let psamp = [(Version::V9, 9030), (Version::Ipfix, 9031)];
    let keepers = psamp.map(|(_, port)| Relay::keeper(&link.metered.namespace, port));
    let mut options = options(banks.iter().zip(REFRESHES), &["--sampling", "1:10"]);
    for (version, port) in psamp {
        let url = format!("{version}://127.0.0.1:{port}?{REFRESH}&sampling_options=psamp");
        options.extend(["--collector".to_owned(), url]);
    }
    let packets = [traffic::ipv4(2), traffic::ipv6(1), traffic::vlans()].concat();
    let (records, ended) = with_probe(&link, &options, |socket| send(socket, &packets));
    let sent = u64::try_from(packets.len()).unwrap();
    let metered: Sums = records.iter().map(Seen::sums).sum();
    assert_eq!(metered.packets, ended.ledger.count("packets.metered"));
    assert_eq!(metered.packets + ended.ledger.count("packets.unmetered.sampled_out"), sent);
    assert!(metered.packets.abs_diff(sent / N) <= 1, "{} of {sent} packets", metered.packets);
    for bank in banks {
        let received = bank.finish();
        received.assert_read("sampled", &records, N);
        received.assert_in_sequence("sampled");
        assert!(received.stored.sampled, "nfdump marks them as sampled");
    }
    for ((version, _), keeper) in psamp.into_iter().zip(keepers) {
        let datagrams = keeper.finish().received;
        let who = format!("psamp, {version}");
        let dissected = tshark::dissect(&datagrams);
        assert_eq!(dissected.remarks, [""; 0], "{who}");
        assert_same(&who, &records, &dissected.records.flows, 0);
        let mut options = vec![dissected.records.options, decoders::netflow_parser(&datagrams).options];
        if version == Version::Ipfix {
            options.push(decoders::ipfixrw(&datagrams).options);
            options.push(fixbuf::dump(&datagrams).options);
        }
        for (reader, options) in options.iter().enumerate() {
            let told: Vec<_> = match version {
                // Selector 1, systematic count-based: one packet, then N - 1 not.
                Version::Ipfix => options
                    .iter()
                    .filter(|option| option.number(304) == Some(1))
                    .map(|option| [302, 305, 306].map(|id| option.number(id)))
                    .collect(),
                _ => options
                    .iter()
                    .filter(|option| option.number(50).is_some())
                    .map(|option| [48, 49, 50].map(|id| option.number(id)))
                    .collect(),
            };
            let expected = if version == Version::Ipfix { [1, 1, N - 1] } else { [1, 1, N] };
            assert!(!told.is_empty(), "{who}, reader {reader}: {options:?}");
            assert!(told.iter().all(|told| *told == expected.map(Some)), "{who}, reader {reader}: {told:?}");
        }
    }
}

/// A collector that comes late, or to which the first templates did not come, understands all from the next
/// templates on, and finds nothing malformed before.
#[test]
#[ignore = "needs root: run `make test`"]
fn late_collectors_and_lost_templates() {
    require_root();
    let link = Link::new("late", 1).unwrap();
    let nothing: relay::Passes = |_| false;
    let no_templates: relay::Passes = |octets| !Message::read(octets).has_any_templates();
    let cells = [
        ("late", Version::V5, 9000, nothing, ""),
        ("late", Version::V9, 9010, nothing, REFRESH),
        ("late", Version::Ipfix, 9020, nothing, REFRESH),
        ("templates lost", Version::V9, 9030, no_templates, REFRESH),
        ("templates lost", Version::Ipfix, 9040, no_templates, REFRESH),
    ];
    let banks = cells
        .map(|(_, version, port, passes, _)| Bank::relayed(&link.metered.namespace, version, port, passes));
    let queries = cells.map(|(.., query)| query);
    let (first, second) = (traffic::ipv4(2), [traffic::ipv4(3), traffic::ipv6(1)].concat());
    let (records, _) = with_probe(&link, &options(banks.iter().zip(queries), &SOON_IDLE), |socket| {
        send(socket, &first);
        // All of that is exported, and some of it passes the relays that hold back templates.
        let flows = flows_of(&first).len();
        for bank in &banks {
            bank.wait("flows", |relayed| walk(&relayed.received).flows as usize >= flows);
            bank.open();
        }
        banks.iter().for_each(|bank| bank.wait_for_templates(1));
        send(socket, &second);
    });
    let second: Vec<Seen> =
        records.iter().filter(|record| flows_of(&second).contains_key(&record.flow)).cloned().collect();
    for ((case, version, ..), bank) in cells.into_iter().zip(banks) {
        let received = bank.finish();
        assert!(received.datagrams.len() < received.sent.len(), "{case}, {version}: nothing was held back");
        let late = joined(version, &received.datagrams);
        // That all later records are among them is what the others must agree on.
        let readable = decoders::netflow_parser(late).flows;
        let told: Vec<Seen> = second.iter().filter_map(|record| version.tells(record)).collect();
        let later: Vec<Seen> = readable.iter().filter(|record| told.contains(record)).cloned().collect();
        assert_same(&format!("{case}, {version}"), &told, &later, 0);
        if case == "templates lost" {
            assert!(late.len() < received.datagrams.len(), "{version}: data came before templates");
        }
        received.assert_read(case, &readable, 1);
        assert_eq!(walk(late).gaps, 0, "{case}, {version}");
        // Both say what the relay took away, and what they could not count, but nothing else.
        let walk = walk(&received.datagrams);
        let (nfcapd, nfacctd) = (&received.stored, &received.counted);
        assert_eq!(nfcapd.sequence_failures, walk.nfcapd_failures, "{case}, {version}:\n{}", nfcapd.log);
        assert_eq!(nfacctd.sequence_failures, walk.nfacctd_failures, "{case}, {version}:\n{}", nfacctd.log);
    }
}

/// Uptimes of more than 49.7 days, and clocks far away, as old captures have them: every collector gets the
/// times of the packets.
#[test]
#[ignore = "needs root: run `make test`"]
fn uptimes_never_wrap() {
    const DAY_MS: u64 = 86_400_000;
    require_root();
    let namespace = Namespace::new("wrap").unwrap();
    let banks: Vec<Bank> = Version::ALL
        .into_iter()
        .zip([9000, 9010, 9020])
        .map(|(version, port)| Bank::start(&namespace, version, port, false))
        .collect();
    let folder = tool::folder("wrap");
    let path = folder.path().join("days.pcap");
    let format = PcapFormat { nanoseconds: true, ..PcapFormat::default() };
    let mut file = PcapWriter::new(File::create(&path).unwrap(), format).unwrap();
    // From the year 2001 on, over both the signed and the unsigned limit of 32 bits, to the year 2036.
    let days = [0, 1, 24, 25, 26, 49, 50, 51, 75, 100, 4000, 12_800];
    let mut packets = Vec::new();
    for (batch, day) in (1..).zip(days) {
        for (number, packet) in (0..).zip(traffic::ipv4(batch)) {
            let unix_ms = 1_000_000_000_123 + day * DAY_MS + number * 7;
            file.write(unix_ms * 1_000_000, &packet.frame()).unwrap();
            packets.push(packet);
        }
    }
    file.finish().unwrap();
    let mut command = namespace.command(PROBE);
    command.arg("replay").arg(&path).args(options(banks.iter().zip(REFRESHES), &[]));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let records = printed(&String::from_utf8(output.stdout).unwrap());
    let (start, end) = (1_000_000_000_123, 1_000_000_000_123 + 12_801 * DAY_MS);
    assert_true(&records, &packets, 0, start, end);
    for bank in banks {
        let received = bank.finish();
        received.assert_read("uptime", &records, 1);
        received.assert_in_sequence("uptime");
        let uptimes: Vec<u32> = received.messages().iter().filter_map(|message| message.uptime_ms).collect();
        assert!(uptimes.iter().all(|uptime| *uptime < 1 << 31), "{uptimes:?}");
        assert!(received.version == Version::Ipfix || uptimes.windows(2).any(|two| two[1] < two[0]));
    }
}

/// After a restart of the probe sequence numbers begin anew. Nobody takes that for lost flows.
#[test]
#[ignore = "needs root: run `make test`"]
fn a_restart_is_no_loss() {
    require_root();
    let link = Link::new("restart", 1).unwrap();
    let banks = banks(&link, false);
    let mut records = Vec::new();
    for batch in [2, 3] {
        let packets = [traffic::ipv4(batch), traffic::ipv6(batch.into())].concat();
        let from = now_ms();
        let options = options(banks.iter().zip(["", "", ""]), &[]);
        let (printed, _) = with_probe(&link, &options, |socket| send(socket, &packets));
        assert_true(&printed, &packets, link.metered.index, from, now_ms());
        records.extend(printed);
    }
    for bank in banks {
        let received = bank.finish();
        received.assert_read("restart", &records, 1);
        let sessions = bank::sessions(&received.datagrams);
        assert_eq!(sessions.len(), 2, "each run has a socket of its own");
        for session in sessions {
            assert_eq!(walk(&session).gaps, 0, "{}", received.version);
        }
        // Whatever the sockets, nfcapd and nfacctd take one address and domain for one exporter: for them one
        // message is out of sequence, and all is counted from there. For nfcapd the options of IPFIX that come
        // next are another one.
        let restarts = if received.version == Version::Ipfix { 2 } else { 1 };
        let (nfcapd, nfacctd) = (&received.stored, &received.counted);
        assert_eq!(nfcapd.sequence_failures, restarts, "{}:\n{}", received.version, nfcapd.log);
        assert_eq!(nfacctd.sequence_failures, 1, "{}:\n{}", received.version, nfacctd.log);
    }
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

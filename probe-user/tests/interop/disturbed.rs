// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What goes wrong between probe and collector: templates that do not come, clocks, restarts.

use std::fs::File;

use probe_lab::{
    Link, Namespace, flows_of,
    pcap_file::{PcapFormat, PcapWriter},
    require_root,
};

use super::{
    PROBE, REFRESH, REFRESHES, SOON_IDLE,
    bank::{self, Bank, Version, joined},
    banks, decoders,
    messages::{Message, walk},
    options, relay,
    seen::{Seen, assert_same},
    send, tool,
    traffic::{self, assert_true, now_ms, printed},
    with_probe,
};

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

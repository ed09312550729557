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
mod relay;
mod seen;
mod tool;
mod traffic;
mod tshark;

use std::{thread::sleep, time::Duration};

use bank::{Bank, Version};
use nix::sys::signal::Signal;
use probe_lab::{Link, Probe, packet_socket::PacketSocket, packets::Packet, require_root};
use traffic::{assert_true, now_ms, printed};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");

fn send(socket: &PacketSocket, packets: &[Packet]) {
    for packet in packets {
        socket.send(&packet.frame()).unwrap();
    }
}

/// Plain flows, IPv6, VLANs and options, told by one probe to collectors of all versions at once.
#[test]
#[ignore = "needs root: run `make test`"]
fn all_versions_at_once_to_every_collector() {
    require_root();
    let link = Link::new("interop", 1).unwrap();
    let namespace = &link.metered.namespace;
    let banks: Vec<Bank> = Version::ALL
        .into_iter()
        .zip([9000, 9010, 9020])
        .map(|(version, port)| Bank::start(namespace, version, port, false))
        .collect();
    let mut options = vec!["--print".to_owned(), "json".to_owned(), "--idle-timeout".to_owned(), "500ms".to_owned()];
    for (bank, query) in banks.iter().zip(["", REFRESH, REFRESH]) {
        options.extend(bank.options(query));
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let from = now_ms();
    let probe = Probe::start(PROBE, namespace, &link.metered.name, &options).unwrap();
    let socket = PacketSocket::open(&link.sender).unwrap();
    let first = [traffic::ipv4(2), traffic::vlans()].concat();
    send(&socket, &first);
    // Long enough for templates and options to come again, between flows.
    sleep(Duration::from_millis(2200));
    let second = [traffic::ipv4(3), traffic::ipv6(1)].concat();
    send(&socket, &second);
    let ended = probe.stop(Signal::SIGTERM).unwrap();
    assert!(ended.status.success() && ended.ledger.balanced(), "{}{}", ended.stderr, ended.ledger.0);
    let records = printed(&ended.stdout);
    assert_true(&records, &[first, second].concat(), link.metered.index, from, now_ms());
    for bank in banks {
        let received = bank.finish();
        received.assert_read("all versions", &records, 1);
        received.assert_in_sequence("all versions");
    }
}

/// Templates and options come again after a second.
const REFRESH: &str = "template_refresh=1s&options_refresh=1s";

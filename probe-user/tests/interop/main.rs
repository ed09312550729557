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
mod disturbed;
mod elements;
mod fixbuf;
mod messages;
mod nfdump;
mod pmacct;
mod quirks;
mod relay;
mod sampled;
mod seen;
mod tool;
mod traffic;
mod tshark;
mod versions;

use bank::{Bank, Version};
use nix::sys::signal::Signal;
use probe_lab::{Ended, Link, Probe, packet_socket::PacketSocket, packets::Packet};
use seen::Seen;
use traffic::printed;

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

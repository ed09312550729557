// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The same frames make the same flows whichever way they come in: through the kernel's programs, through sockets, or
//! from a file. Key, ports (those of fragments too), packets, octets and TCP flags are compared as the probe prints them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{
    collections::BTreeMap,
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    time::Duration,
};

use nix::sys::signal::Signal;
use probe_lab::{
    LedgerView, Link, Probe, Process,
    conversations::{Hosts, arp_request},
    packet_socket::PacketSocket,
    packets::{Packet, Transport},
    pcap_file::{PcapFormat, PcapWriter},
    require_root,
};
use serde_json::Value;

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
/// The extension header (RFC 8200 section 4.6).
const DESTINATION_OPTIONS: u8 = 60;
const SOON: Duration = Duration::from_secs(20);
/// Nothing ends by itself: how the packets lie in time is no matter.
const WHOLE: &[&str] =
    &["--print", "json", "--idle-timeout", "1h", "--active-timeout", "1h", "--tcp-end", "off"];
/// What depends on when, where, and how the flow ended.
const NOT_COMPARED: [&str; 6] = [
    "flowStartMilliseconds",
    "flowEndMilliseconds",
    "flowEndReason",
    "ingressInterface",
    "egressInterface",
    "flowDirection",
];

/// First fragments, and the later ones of their datagrams.
const FIRST: u64 = 5;
const JOINED: u64 = 2 + 2 + 4 + 2 + 3;
/// Later fragments whose first is not.
const ALONE: u64 = 1;
/// Packets that only user space can follow to their ports.
const DEEP: u64 = 2;
/// Frames that are no IP packets.
const NOT_IP: u64 = 1;

fn datagram(from: impl Into<IpAddr>, to: impl Into<IpAddr>, transport: Transport, payload: usize) -> Packet {
    Packet { payload: vec![0x55; payload], ..Packet::new(from.into(), to.into(), transport) }
}

/// An IPv6 datagram behind `count` headers of destination options.
fn behind_options(packet: &Packet, count: usize) -> Vec<u8> {
    let mut frame = packet.frame();
    for _ in 0..count {
        let next = std::mem::replace(&mut frame[20], DESTINATION_OPTIONS);
        // Eight octets: the next header, no more octets than these, and six of padding (PadN, RFC 8200 section 4.2).
        frame.splice(54..54, [next, 0, 1, 4, 0, 0, 0, 0]);
    }
    let length = u16::try_from(frame.len() - 54).unwrap();
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    frame
}

fn frames() -> Vec<Vec<u8>> {
    let v4 = |last| Ipv4Addr::new(192, 0, 2, last);
    let v6 = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
    let udp = Transport::Udp { source: 4000, destination: 5000 };
    let tcp =
        Transport::Tcp { source: 4001, destination: 5001, flags: 0x19, sequence: 7, acknowledgement: 9 };
    let ping = Transport::Icmp { kind: 8, code: 0, rest: 1 };
    let hosts = Hosts::new(v4(1), v4(2)).with_tos(0xb8);
    let hosts_v6 = Hosts::new(v6(1), v6(2));
    let plain = [
        hosts.download(40_000, 443, 20_000),
        hosts.query(40_001, 53, 30, 90),
        hosts.ping(3),
        hosts_v6.download(40_002, 443, 5000),
        hosts_v6.ping(2),
        vec![datagram(v4(3), v4(4), Transport::Other(47), 20)],
    ];
    let mut frames: Vec<Vec<u8>> = plain.concat().iter().map(Packet::frame).collect();
    let backwards = |mut fragments: Vec<Vec<u8>>| {
        fragments.reverse();
        fragments
    };
    // Of each datagram the addresses differ; the identification is the same for all.
    frames.extend(datagram(v4(5), v4(6), udp, 1500).fragments(512));
    frames.extend(backwards(datagram(v4(6), v4(7), udp, 1500).fragments(512)));
    frames.extend(datagram(v4(7), v4(8), tcp, 100).fragments(24));
    frames.extend(datagram(v6(5), v6(6), udp, 1500).fragments(512));
    frames.extend(backwards(datagram(v4(8), v4(9), ping, 2000).fragments(512)));
    frames.push(datagram(v4(9), v4(10), udp, 100).fragments(64).remove(1));
    frames.push(behind_options(&datagram(v6(7), v6(8), udp, 40), 12));
    frames.push(behind_options(&datagram(v6(8), v6(7), tcp, 40), 20));
    frames.push(arp_request(v4(1), v4(2)));
    frames
}

/// A flow without [`NOT_COMPARED`] and sums.
type Id = String;

/// Packets, octets and TCP flags of each flow.
fn flows(printed: &str) -> BTreeMap<Id, (u64, u64, u64)> {
    let mut flows = BTreeMap::new();
    for line in printed.lines() {
        let mut flow: Value = serde_json::from_str(line).unwrap();
        let members = flow.as_object_mut().unwrap();
        NOT_COMPARED.iter().for_each(|name| drop(members.remove(*name)));
        let mut take = |name| members.remove(name).unwrap().as_u64().unwrap();
        let (packets, octets) = (take("packetDeltaCount"), take("octetDeltaCount"));
        let flags = take("tcpControlBits");
        let sums = flows.entry(flow.to_string()).or_insert((0, 0, 0));
        *sums = (sums.0 + packets, sums.1 + octets, sums.2 | flags);
    }
    flows
}

fn write_capture(path: &Path, frames: &[Vec<u8>]) {
    let mut writer = PcapWriter::new(File::create(path).unwrap(), PcapFormat::default()).unwrap();
    for (at, frame) in (1_700_000_000_000_000_000..).step_by(100_000).zip(frames) {
        writer.write(at, frame).unwrap();
    }
    writer.finish().unwrap();
}

/// What `probe replay` makes of the frames, and its ledger.
fn replay(frames: &[Vec<u8>]) -> (String, LedgerView) {
    let folder = tempfile::tempdir().unwrap();
    let (capture, ledger) = (folder.path().join("frames.pcap"), folder.path().join("ledger.json"));
    write_capture(&capture, frames);
    let mut args = vec!["replay", capture.to_str().unwrap(), "--ledger", ledger.to_str().unwrap()];
    args.extend(WHOLE);
    let mut process = Process::start(None, PROBE, &args).unwrap();
    let status = process.wait(SOON).unwrap();
    assert!(status.success(), "{}", process.stderr());
    let ledger = std::fs::read_to_string(&ledger).unwrap();
    (process.stdout(), LedgerView(serde_json::from_str(&ledger).unwrap()))
}

/// What XDP leaves to user space.
const STEERED: Option<u64> = Some(FIRST + JOINED + ALONE + DEEP);

/// A way in, and how many packets XDP hands to user space; nothing: all.
const WAYS: [(&[&str], Option<u64>); 4] = [
    (&["--xdp-mode", "native"], STEERED),
    (&["--xdp-mode", "generic"], STEERED),
    (&["--engine", "af_xdp"], None),
    (&["--engine", "af_packet"], Some(0)),
];

#[test]
#[ignore = "needs root: run `make test`"]
fn every_way_in_makes_the_same_flows() {
    require_root();
    let frames = frames();
    let (printed, ledger) = replay(&frames);
    let expected = flows(&printed);
    assert!(ledger.balanced(), "{}", ledger.0);
    let packets = u64::try_from(frames.len()).unwrap() - NOT_IP;
    assert_eq!(expected.values().map(|sums| sums.0).sum::<u64>(), packets);
    assert_eq!(ledger.count("noted.joined_fragment"), JOINED, "{}", ledger.0);
    assert_eq!(ledger.count("noted.later_fragment"), ALONE, "{}", ledger.0);
    let with_ports = expected.iter().filter(|(flow, sums)| flow.contains("4000") && sums.0 == 3);
    assert_eq!(with_ports.count(), 3, "each with all of its fragments: {expected:?}");

    for (way, steered) in WAYS {
        let link = Link::new("capture", 1).unwrap();
        let mut args = vec!["--role", "tap", "--force", "--harvest-interval", "50ms"];
        args.extend(WHOLE);
        args.extend(way);
        let probe = Probe::start(PROBE, &link.metered.namespace, &link.metered.name, &args).unwrap();
        let socket = PacketSocket::open(&link.sender).unwrap();
        for frame in &frames {
            socket.send(frame).unwrap();
        }
        let ended = probe.stop(Signal::SIGTERM).unwrap();
        assert!(ended.status.success(), "{way:?}: {}", ended.stderr);
        assert_eq!(flows(&ended.stdout), expected, "{way:?}: {}", ended.stderr);
        let ledger = ended.ledger;
        assert!(ledger.balanced(), "{way:?}: {}", ledger.0);
        assert_eq!(ledger.count("packets.received"), packets + NOT_IP, "{way:?}: {}", ledger.0);
        let steered = steered.unwrap_or(packets + NOT_IP);
        assert_eq!(ledger.count("packets.steered"), steered, "{way:?}: {}", ledger.0);
        assert_eq!(ledger.count("noted.joined_fragment"), JOINED, "{way:?}: {}", ledger.0);
        assert_eq!(ledger.count("noted.later_fragment"), ALONE, "{way:?}: {}", ledger.0);
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! softflowd and `probe replay` on the same file: the same flows, one by one.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use probe_lab::pcap_file::{PcapFormat, PcapWriter};
use probe_lab::{Export, FlowId, Process, Sums, V5Collector, require_root};

const START_NS: u64 = 1_760_000_000_123_456_000;
const CONNECTIONS: u32 = 500;
const TCP: u8 = 6;
const UDP: u8 = 17;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// What a flow came to. Times are milliseconds of Unix time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Flow {
    sums: Sums,
    tcp_flags: u8,
    first_ms: u64,
    last_ms: u64,
}

fn packet(protocol: u8, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), flags: u8, payload: u16) -> Vec<u8> {
    let transport = if protocol == TCP { 20 } else { 8 };
    let total = 20 + transport + payload;
    let mut packet = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00, 0x45, 0];
    packet.extend_from_slice(&total.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend_from_slice(&from.0.octets());
    packet.extend_from_slice(&to.0.octets());
    packet.extend_from_slice(&from.1.to_be_bytes());
    packet.extend_from_slice(&to.1.to_be_bytes());
    if protocol == TCP {
        packet.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    } else {
        packet.extend_from_slice(&(8 + payload).to_be_bytes());
        packet.extend_from_slice(&[0, 0]);
    }
    packet.resize(packet.len() + usize::from(payload), 0);
    packet
}

/// Writes connections that overlap in time, half of those over UDP without an answer; returns how many
/// packets they have.
fn write_capture(path: &Path) -> u64 {
    let mut packets: Vec<(u64, Vec<u8>)> = Vec::new();
    for n in 0..CONNECTIONS {
        let [_, _, high, low] = n.to_be_bytes();
        let client = (Ipv4Addr::new(10, 1, high, low), 40_000 + u16::from(low));
        let server = (Ipv4Addr::new(192, 0, 2, low), if n % 2 == 0 { 443 } else { 53 });
        // Steps of a prime number of microseconds, so that every millisecond is cut somewhere else.
        let at = |step: u64| START_NS + 1000 * (u64::from(n) * 104_729 + step * 7919);
        if n % 2 == 1 {
            for step in 0..u64::from(n % 7 + 1) {
                packets.push((at(step * 2), packet(UDP, client, server, 0, 40)));
                if n % 4 == 1 {
                    packets.push((at(step * 2 + 1), packet(UDP, server, client, 0, 400)));
                }
            }
            continue;
        }
        let end = if n % 10 == 0 { RST | ACK } else { FIN | ACK };
        let conversation = [
            (client, server, SYN, 0),
            (server, client, SYN | ACK, 0),
            (client, server, ACK, 0),
            (client, server, PSH | ACK, 600),
            (server, client, ACK, 1400),
            (server, client, PSH | ACK, 1111),
            (client, server, end, 0),
            (server, client, FIN | ACK, 0),
            (client, server, ACK, 0),
        ];
        for (step, (from, to, flags, payload)) in (0..).zip(conversation) {
            packets.push((at(step), packet(TCP, from, to, flags, payload)));
        }
    }
    packets.sort_by_key(|(time, _)| *time);
    let mut writer =
        PcapWriter::new(BufWriter::new(File::create(path).unwrap()), PcapFormat::default()).unwrap();
    for (time, packet) in &packets {
        writer.write(*time, packet).unwrap();
    }
    writer.finish().unwrap();
    packets.len() as u64
}

/// Runs a program that exports to a collector of its own, and returns what that got.
fn export(program: &str, arguments: impl Fn(SocketAddr) -> Vec<String>) -> BTreeMap<FlowId, Flow> {
    let collector = V5Collector::start(None, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let mut process = Process::start(None, program, &arguments(collector.address())).unwrap();
    let status = process.wait(Duration::from_secs(60)).unwrap();
    assert!(status.success(), "{program} ended with {status}: {}", process.stderr());
    flows(&collector.finish().unwrap())
}

fn flows(export: &Export) -> BTreeMap<FlowId, Flow> {
    let mut flows = BTreeMap::new();
    for record in &export.records {
        let flow = Flow {
            sums: record.sums,
            tcp_flags: record.tcp_flags,
            first_ms: record.first_ms,
            last_ms: record.last_ms,
        };
        let twice = flows.insert(record.flow, flow);
        assert!(twice.is_none(), "{} was split: neither timeouts nor TCP flags should", record.flow);
    }
    flows
}

#[test]
#[ignore = "needs root and softflowd: run `make test`"]
fn softflowd_and_replay_agree_flow_by_flow() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plain.pcap");
    let packets = write_capture(&file);
    let name = file.to_str().unwrap();
    let pid_file = folder.path().join("softflowd.pid").display().to_string();

    let ours = export(env!("CARGO_BIN_EXE_probe"), |collector| {
        let collector = collector.to_string();
        let never = ["--active-timeout", "7d", "--idle-timeout", "7d", "--tcp-end", "off"];
        ["replay", name, "--collector", &collector].into_iter().chain(never).map(String::from).collect()
    });
    let theirs = export("softflowd", |collector| {
        let collector = collector.to_string();
        let mut arguments = vec!["-d", "-a", "-r", name, "-n", &collector, "-v", "5", "-m", "100000"];
        // It removes its pid file when it ends: as root, also a device that is named here.
        arguments.extend(["-p", &pid_file, "-c", "none"]);
        let week = 7 * 86_400;
        let timeouts = ["tcp", "tcp.rst", "tcp.fin", "udp", "general", "maxlife"];
        let timeouts = timeouts.map(|timeout| format!("{timeout}={week}"));
        let timeouts = timeouts.iter().flat_map(|timeout| ["-t", timeout]);
        arguments.into_iter().chain(timeouts).map(String::from).collect()
    });

    assert_eq!(ours.values().map(|flow| flow.sums.packets).sum::<u64>(), packets);
    assert_eq!(ours.len(), (CONNECTIONS * 2 - CONNECTIONS / 4) as usize);
    assert!(ours.keys().eq(theirs.keys()), "the same flows");
    let mut one_way = 0;
    for (id, flow) in &ours {
        let their = theirs[id];
        assert_eq!((flow.sums, flow.tcp_flags), (their.sums, their.tcp_flags), "{id}");
        // softflowd keeps one flow for both directions and exports each with the times of both.
        let back = ours.get(&back(id));
        one_way += u32::from(back.is_none());
        let back = back.unwrap_or(flow);
        let (first, last) = (flow.first_ms.min(back.first_ms), flow.last_ms.max(back.last_ms));
        // It cuts three times to milliseconds each for itself: the uptime, the times of the flow, and the
        // clock of the header. Their difference is that of the times, or one less.
        assert!((0..=1).contains(&(first - their.first_ms)), "{id}: first {first}, {}", their.first_ms);
        assert!((0..=1).contains(&(last - their.last_ms)), "{id}: last {last}, {}", their.last_ms);
    }
    assert_eq!(one_way, CONNECTIONS / 4);
}

fn back(id: &FlowId) -> FlowId {
    FlowId {
        source: id.destination,
        destination: id.source,
        source_port: id.destination_port,
        destination_port: id.source_port,
        ..*id
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The probe on NICs and their drivers, in a guest of `make test-kernels`: exact frames into one end of a
//! cable, the probe at the other, each way in; ledger and flows are exact, or the probe refuses as it should.
//!
//! A program of its own without a test harness, because outside such a guest there is nothing to pass or to
//! ignore: it then says that it did not run. `GUEST_NICS` names the cables, as `DRIVER=NAME,NAME …`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]
#![allow(clippy::print_stdout, reason = "it has no harness that would print for it")]

use std::{
    env,
    net::{Ipv4Addr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    thread::sleep,
    time::Duration,
};

use nix::sys::signal::Signal;
use probe_lab::{
    Link, Probe, Process, Sums, V5Collector,
    clock::{Stopwatch, wait_until},
    conversations::{Hosts, arp_request},
    difference, flows_of,
    packet_socket::PacketSocket,
    packets::Packet,
    require_root,
};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Emulation is slow.
const SOON: Duration = Duration::from_secs(60);
/// After the link is there again: igb says so before it takes frames.
const RETRAIN: Duration = Duration::from_secs(1);
/// Frames sent before the receiver, which may be the same CPU, gets some time.
const BURST: usize = 32;

/// A way into the probe.
struct Way {
    name: &'static str,
    arguments: &'static [&'static str],
    /// Drivers where the probe cannot do it and must say so.
    refused_by: &'static [&'static str],
    /// The only drivers where this is worth the time; none: all of them.
    only_on: &'static [&'static str],
    /// What the probe must say on NICs of which none offers zero-copy; empty: nothing in particular.
    says: &'static str,
}

const WAYS: [Way; 6] = [
    // Intel's e1000e has no XDP of its own, on any kernel.
    Way { refused_by: &["e1000e"], ..Way::new("native XDP", &["--xdp-mode", "native"]) },
    Way::new("generic XDP", &["--xdp-mode", "generic"]),
    // Where native XDP is refused, auto has to find another way.
    Way { only_on: &["e1000e"], ..Way::new("what auto takes", &[]) },
    // tcx on 6.12, clsact on 6.1.
    Way::new("tc in the host role", &["--role", "host", "--xdp-mode", "tc"]),
    Way { says: "copy", ..Way::new("AF_XDP", &["--engine", "af_xdp"]) },
    Way::new("AF_PACKET", &["--engine", "af_packet"]),
];

impl Way {
    const fn new(name: &'static str, arguments: &'static [&'static str]) -> Self {
        Self { name, arguments, refused_by: &[], only_on: &[], says: "" }
    }
}

fn main() -> ExitCode {
    let Ok(cables) = env::var("GUEST_NICS") else {
        eprintln!("nics: NOT RUN. It needs the NICs of a guest: `make test-kernels` runs it there");
        return ExitCode::SUCCESS;
    };
    require_root();
    let mut failed = Vec::new();
    let mut links = vec![("veth", Link::new("veth", 2).unwrap())];
    for cable in cables.split_ascii_whitespace() {
        let (driver, names) = cable.split_once('=').unwrap();
        let (sender, metered) = names.split_once(',').unwrap();
        links.push((driver, Link::adopt(driver, sender, metered).unwrap()));
    }
    for (driver, link) in &links {
        for way in WAYS.iter().filter(|way| way.only_on.is_empty() || way.only_on.contains(driver)) {
            let title = format!("{driver}, {}", way.name);
            let watch = Stopwatch::start();
            let refused = way.refused_by.contains(driver);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                if refused { assert_refused(link, way) } else { assert_exact(link, driver, way) }
            }));
            let result = match outcome {
                Ok(()) if refused => "refused, as it should be",
                Ok(()) => "exact",
                Err(_) => "FAILED",
            };
            eprintln!("nics: {title}: {result} ({:.1} s)", watch.elapsed().as_secs_f64());
            if outcome.is_err() {
                failed.push(title);
            }
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("nics: failed: {}", failed.join("; "));
    ExitCode::FAILURE
}

/// Conversations, and a thousand flows for the NIC to spread over its queues.
fn packets() -> Vec<Packet> {
    let hosts = Hosts::new(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 1));
    let mut packets = [hosts.download(40_000, 443, 30_000), hosts.ping(3)].concat();
    packets.extend((0..1000).flat_map(|flow| hosts.query(20_000 + flow, 53, 30, 90)));
    packets
}

fn assert_exact(link: &Link, driver: &str, way: &Way) {
    let packets = packets();
    let sent: Sums = flows_of(&packets).values().copied().sum();
    let collector = V5Collector::start(Some(&link.metered.namespace), LOOPBACK).unwrap();
    let address = collector.address().to_string();
    // A small table: filling memory takes long under emulation.
    let mut arguments = vec!["--collector", &address, "--max-flows", "65536"];
    arguments.extend(way.arguments);
    let mut probe = Probe::start(PROBE, &link.metered.namespace, &link.metered.name, &arguments).unwrap();
    let carries = || link.sender.has_carrier().unwrap() && link.metered.has_carrier().unwrap();
    assert!(wait_until(SOON, carries), "there is no link");
    if driver != "veth" {
        sleep(RETRAIN);
    }
    send(link, &packets);
    let received = f64::from(u32::try_from(packets.len() + 1).unwrap());
    let all = probe.wait_for_metric("flowprobe_received_packets_total", "", SOON, |count| count >= received);
    let said = probe.process().stderr();
    all.unwrap();
    assert!(said.contains(way.says), "the probe does not say {:?}:\n{said}", way.says);
    let ended = probe.stop(Signal::SIGTERM).unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    let ledger = &ended.ledger;
    assert!(ledger.balanced(), "{}", ledger.0);
    // The worker counts what was steered, the programs the rest.
    let unmetered = |reason: &str| {
        ["unmetered", "unmetered_by_af_xdp"]
            .map(|by| ledger.count(&format!("packets.{by}{reason}")))
            .iter()
            .sum()
    };
    assert_eq!((unmetered(".not_ip"), unmetered("")), (1_u64, 1_u64), "{}", ledger.0);
    assert_eq!(ledger.sums("exported"), sent, "{}", ledger.0);
    assert_eq!(difference(&flows_of(&packets), &collector.finish().unwrap().flows()), None);
    assert!(!link.metered.has_xdp().unwrap(), "a program is still attached");
}

/// Exit status 3, a message that names the interface, and nothing left attached.
fn assert_refused(link: &Link, way: &Way) {
    let mut arguments = vec!["run", "--iface", &link.metered.name];
    arguments.extend(way.arguments);
    let mut process = Process::start(Some(&link.metered.namespace), PROBE, &arguments).unwrap();
    let status = process.wait(SOON).unwrap();
    let said = process.stderr();
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(said.contains(&link.metered.name), "the message does not name the interface:\n{said}");
    assert!(!link.metered.has_xdp().unwrap(), "a program is still attached");
}

/// All packets, and an ARP request among them.
fn send(link: &Link, packets: &[Packet]) {
    let socket = PacketSocket::open(&link.sender).unwrap();
    for burst in packets.chunks(BURST) {
        for packet in burst {
            socket.send(&packet.frame()).unwrap();
        }
        sleep(Duration::from_millis(2));
    }
    socket.send(&arp_request(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2))).unwrap();
}

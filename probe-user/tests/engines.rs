// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every way in is exact: what was sent is what a collector reads, to the packet and the octet, per flow, with every
//! engine in every role; and the ledger balances.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread::sleep,
    time::Duration,
};

use nix::sys::signal::Signal;
use probe_lab::{
    Flows, Generator, Link, Probe, Sums, Traffic, V5Collector, difference, flows_of,
    packet_socket::PacketSocket,
    packets::{Packet, Transport},
    require_root, send_in_parallel,
};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How the probe is to take packets, and what it must say of it.
struct Way {
    args: &'static [&'static str],
    /// `engine` and `mode` as the metrics name them.
    mode: &'static str,
    /// Whether packets go up the stack as if there were no XDP at all.
    needs_stack: bool,
    /// Packets metered by another engine than the kernel's programs.
    steered: bool,
}

const TAP: &[&str] = &["--role", "tap", "--force"];
const HOST: &[&str] = &["--role", "host"];

const WAYS: [(&[&str], Way); 8] = [
    (TAP, Way { args: &["--xdp-mode", "native"], mode: "native", needs_stack: false, steered: false }),
    (TAP, Way { args: &["--xdp-mode", "generic"], mode: "generic", needs_stack: true, steered: false }),
    (TAP, Way { args: &["--engine", "af_xdp"], mode: "native", needs_stack: false, steered: true }),
    (TAP, Way { args: &["--engine", "af_packet"], mode: "af_packet", needs_stack: true, steered: false }),
    (HOST, Way { args: &["--xdp-mode", "native"], mode: "native", needs_stack: false, steered: false }),
    (HOST, Way { args: &["--xdp-mode", "generic"], mode: "generic", needs_stack: true, steered: false }),
    (HOST, Way { args: &["--xdp-mode", "tc"], mode: "tcx", needs_stack: true, steered: false }),
    (HOST, Way { args: &["--engine", "af_packet"], mode: "af_packet", needs_stack: true, steered: false }),
];

/// Sends in portions that the rings of sockets hold, also on a machine that is busy with something else.
fn send_paced(link: &Link, generators: &mut [Generator], portions: u32, packets: u64) {
    for _ in 0..portions {
        send_in_parallel(link, generators, packets).unwrap();
        sleep(Duration::from_millis(5));
    }
}

fn total(flows: &Flows) -> Sums {
    flows.values().copied().sum()
}

#[test]
#[ignore = "needs root: run `make test`"]
fn every_engine_is_exact_in_every_role() {
    require_root();
    for (role, way) in WAYS {
        let told = format!("{role:?} {:?}", way.args);
        let link = Link::for_many_senders("engine").unwrap();
        let collector = V5Collector::start(Some(&link.metered.namespace), ANY_PORT).unwrap();
        if way.needs_stack {
            link.metered.receive_without_xdp().unwrap();
        }
        let address = collector.address().to_string();
        let mut args = vec!["--collector", &address, "--harvest-interval", "50ms", "--idle-timeout", "1s"];
        args.extend(role);
        args.extend(way.args);
        let probe = Probe::start(PROBE, &link.metered.namespace, &link.metered.name, &args).unwrap();
        let info = probe.metric("flowprobe_xdp_mode_info", &format!("mode=\"{}\"", way.mode)).unwrap();
        assert_eq!(info, 1.0, "{told}: another mode than {}", way.mode);
        let mut generators = [
            Generator::load(&link, &Traffic::udp(0, 3000)).unwrap(),
            Generator::load(&link, &Traffic::udp(2000, 3000).over_tcp()).unwrap(),
            // The stack takes a tag out of the frame, which the generator sends again: then it would be another.
            Generator::load(
                &link,
                &Traffic::udp(0, 500).in_vlans(if way.needs_stack || role == HOST { &[] } else { &[7] }),
            )
            .unwrap(),
        ];
        send_paced(&link, &mut generators, 15, 600);
        // Flows that go on after others have ended.
        sleep(Duration::from_millis(1300));
        send_paced(&link, &mut generators, 5, 600);
        let ended = probe.stop(Signal::SIGTERM).unwrap();
        assert!(ended.status.success(), "{told}: {}", ended.stderr);
        assert!(ended.took < Duration::from_secs(5), "{told}: took {:?} to end", ended.took);
        let ledger = &ended.ledger;
        assert!(ledger.balanced(), "{told}: {}", ledger.0);
        let mut sent = Flows::new();
        for generator in &generators {
            for (id, sums) in generator.expected().unwrap() {
                *sent.entry(id).or_default() += sums;
            }
        }
        assert_eq!(total(&sent).packets, 3 * 20 * 600);
        assert_eq!(ledger.count("packets.received"), total(&sent).packets, "{told}: {}", ledger.0);
        assert_eq!(ledger.sums("exported"), total(&sent), "{told}: {}", ledger.0);
        assert_eq!(ledger.count("packets.unmetered"), 0, "{told}: {}", ledger.0);
        let steered = if way.steered { total(&sent).packets } else { 0 };
        assert_eq!(ledger.count("packets.steered"), steered, "{told}: {}", ledger.0);
        let export = collector.finish().unwrap();
        assert_eq!(difference(&sent, &export.flows()), None, "{told}");
    }
}

/// From the smallest packet to the largest that an MTU of 9000 takes, each size a flow.
fn jumbo_packets() -> Vec<Packet> {
    let ends = (Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::new(192, 0, 2, 2).into());
    let sizes = [0, 1, 1000, 1472, 1473, 3300, 3400, 3500, 3600, 4000, 5000, 8000, 8971, 8972];
    let sized = |(port, size)| {
        let transport = Transport::Udp { source: port, destination: 53 };
        let packet = Packet { payload: vec![7; size], ..Packet::new(ends.0, ends.1, transport) };
        std::iter::repeat_n(packet, 20)
    };
    (4000..).zip(sizes).flat_map(sized).collect()
}

#[test]
#[ignore = "needs root: run `make test`"]
fn jumbo_frames_are_exact_with_every_engine() {
    require_root();
    let packets = jumbo_packets();
    let sent = flows_of(&packets);
    for (role, way) in WAYS {
        let told = format!("{role:?} {:?}", way.args);
        let link = Link::new("jumbo", 1).unwrap();
        for end in [&link.sender, &link.metered] {
            end.namespace.ip(&["link", "set", &end.name, "mtu", "9000"]).unwrap();
        }
        if way.needs_stack {
            link.metered.receive_without_xdp().unwrap();
        }
        let collector = V5Collector::start(Some(&link.metered.namespace), ANY_PORT).unwrap();
        let address = collector.address().to_string();
        let args = [&["--collector", &address], role, way.args].concat();
        let probe = Probe::start(PROBE, &link.metered.namespace, &link.metered.name, &args).unwrap();
        let socket = PacketSocket::open(&link.sender).unwrap();
        for burst in packets.chunks(50) {
            burst.iter().for_each(|packet| socket.send(&packet.frame()).unwrap());
            sleep(Duration::from_millis(2));
        }
        let ended = probe.stop(Signal::SIGTERM).unwrap();
        assert!(ended.status.success(), "{told}: {}", ended.stderr);
        let ledger = &ended.ledger;
        assert!(ledger.balanced(), "{told}: {}", ledger.0);
        assert_eq!(ledger.sums("exported"), total(&sent), "{told}: {}", ledger.0);
        let steered = if way.steered { total(&sent).packets } else { 0 };
        assert_eq!(ledger.count("packets.steered"), steered, "{told}: {}", ledger.0);
        assert_eq!(difference(&sent, &collector.finish().unwrap().flows()), None, "{told}");
    }
}

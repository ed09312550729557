// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lab by itself: what it says it sent is what arrives, and nothing is left behind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{net::Ipv4Addr, os::fd::AsRawFd as _, path::Path, time::Duration};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket,
    sockopt::{RcvBufForce, ReceiveTimeout},
};
use nix::sys::time::TimeVal;
use probe_common::parse::{self, SliceBytes};
use probe_lab::{
    FlowId, Flows, Generator, Link, LinkEnd, Sums, Traffic,
    clock::Stopwatch,
    difference,
    packet_socket::PacketSocket,
    packets::{Packet, Transport},
    require_root, send_in_parallel,
};

/// Everything that arrives at one end, as the parser of the probe reads it.
struct Arrivals(std::os::fd::OwnedFd);

impl Arrivals {
    fn listen(end: &LinkEnd) -> Self {
        let open = || {
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, Some(SockProtocol::EthAll))
        };
        let socket = end.namespace.enter(open).unwrap().unwrap();
        setsockopt(&socket, RcvBufForce, &(64 << 20)).unwrap();
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(0, 300_000)).unwrap();
        Self(socket)
    }

    /// Packets and octets of every flow, until nothing comes any more.
    fn flows(&self) -> Flows {
        let mut flows = Flows::new();
        let mut frame = vec![0; 65_536];
        while let Ok(length) = recv(self.0.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            let packet = parse::parse(&SliceBytes::new(&frame[..length])).unwrap();
            let key = packet.key;
            let id = FlowId {
                source: key.source(),
                destination: key.destination(),
                source_port: key.source_port(),
                destination_port: key.destination_port(),
                protocol: key.protocol(),
                tos: key.tos(),
            };
            *flows.entry(id).or_default() += Sums { packets: 1, octets: packet.octets.into() };
        }
        flows
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn what_a_generator_expects_is_what_arrives() {
    require_root();
    for traffic in [
        Traffic::udp(0, 100),
        Traffic::udp(1000, 7).over_tcp(),
        Traffic::udp(5, 33).over_ipv6(),
        Traffic::udp(0, 20).over_ipv6().over_tcp(),
    ] {
        let link = Link::new("expect", 1).unwrap();
        link.metered.receive_without_xdp().unwrap();
        let arrivals = Arrivals::listen(&link.metered);
        let mut generators = [Generator::load(&link, &traffic).unwrap()];
        send_in_parallel(&link, &mut generators, 1234).unwrap();
        assert_eq!(generators[0].sent().unwrap(), 1234);
        let expected = generators[0].expected().unwrap();
        assert_eq!(expected.len(), traffic.plan.flows as usize);
        assert_eq!(difference(&expected, &arrivals.flows()), None, "{traffic:?}");
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn two_senders_lose_nothing() {
    require_root();
    const PACKETS: u64 = 1_000_000;
    let link = Link::for_many_senders("two").unwrap();
    link.metered.receive_without_xdp().unwrap();
    let mut generators = [
        Generator::load(&link, &Traffic::udp(0, 1000)).unwrap(),
        Generator::load(&link, &Traffic::udp(500, 1000)).unwrap(),
    ];
    let watch = Stopwatch::start();
    send_in_parallel(&link, &mut generators, PACKETS).unwrap();
    println!("{:.2} M packets/s up the stack", 2.0 * PACKETS as f64 / watch.elapsed().as_secs_f64() / 1e6);
    assert_eq!(link.metered.received_frames().unwrap(), 2 * PACKETS);
}

#[test]
#[ignore = "needs root: run `make test`"]
fn single_frames_arrive_and_quiet_links_are_quiet() {
    require_root();
    let link = Link::new("single", 1).unwrap();
    let arrivals = Arrivals::listen(&link.metered);
    let (source, destination) = (Ipv4Addr::new(10, 1, 2, 3), Ipv4Addr::new(10, 3, 2, 1));
    let mut packet =
        Packet::new(source.into(), destination.into(), Transport::Udp { source: 5, destination: 6 });
    packet.payload = vec![1; 10];
    PacketSocket::open(&link.sender).unwrap().send(&packet.frame()).unwrap();
    let expected =
        Flows::from([(FlowId::v4(17, (source, 5), (destination, 6)), Sums { packets: 1, octets: 38 })]);
    assert_eq!(difference(&expected, &arrivals.flows()), None);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(link.metered.received_frames().unwrap(), 1, "something else sent as well");
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_namespace_is_gone_after_a_panic() {
    require_root();
    let (sender, receiver) = std::sync::mpsc::channel();
    let result = std::thread::spawn(move || {
        let link = Link::new("panic", 1).unwrap();
        sender.send(link.sender.namespace.name().to_owned()).unwrap();
        panic!("on purpose");
    })
    .join();
    assert!(result.is_err());
    let name = receiver.recv().unwrap();
    assert!(!Path::new("/run/netns").join(&name).exists(), "{name} is left behind");
}

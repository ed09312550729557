// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A mirror port to which everything happens that can happen to an interface while the probe runs. Whatever takes its
//! packets, metering goes on exactly, fragments included, and the ledger balances.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use nix::sys::signal::Signal;
use probe_lab::{
    Flows, Link, LinkEnd, Namespace, Probe, Sums, V5Collector,
    clock::wait_until,
    conversations::Hosts,
    difference, flows_of,
    packet_socket::PacketSocket,
    packets::{Packet, Transport},
    require_root,
};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// For things that take milliseconds on an idle machine; an interface that could not be opened is tried again after 2 s.
const SOON: Duration = Duration::from_secs(20);
/// Fragments of the datagram that each round sends.
const FRAGMENTS: u64 = 3;

/// A running probe and what it was sent.
struct Subject<'a> {
    /// What takes the packets, for messages.
    what: &'a str,
    probe: Probe<'a>,
    link: Link,
    sent: Flows,
    rounds: u8,
    /// How often something was said before the last step.
    said: usize,
}

impl Subject<'_> {
    /// Does something of which the probe says `message`, and waits until it has said it.
    fn expect(&mut self, message: &str, act: impl FnOnce(&mut Link)) {
        let said = |probe: &mut Probe<'_>| probe.process().stderr().matches(message).count();
        self.said = said(&mut self.probe);
        act(&mut self.link);
        let told = wait_until(SOON, || said(&mut self.probe) > self.said);
        assert!(told, "{}: {message:?} is not said:\n{}", self.what, self.probe.process().stderr());
    }

    /// Packets of several kinds, and one in fragments that come the wrong way round: exactly these are counted.
    fn goes_on(&mut self, after: &str) {
        self.goes_on_with(after, &[]);
    }

    fn goes_on_with(&mut self, after: &str, more: &[Packet]) {
        self.rounds += 1;
        wait_for_link(&self.link);
        let (here, there) = (Ipv4Addr::new(192, 0, 2, self.rounds), Ipv4Addr::new(198, 51, 100, self.rounds));
        let hosts = Hosts::new(here, there);
        let mut packets = [hosts.download(40_000, 443, 5000), hosts.query(40_001, 53, 30, 90)].concat();
        packets.extend_from_slice(more);
        let transport = Transport::Udp { source: 4000, destination: 5000 };
        let datagram = Packet { payload: vec![1; 1500], ..Packet::new(here.into(), there.into(), transport) };
        let mut frames: Vec<Vec<u8>> = packets.iter().map(Packet::frame).collect();
        let fragments: Vec<Vec<u8>> = datagram.fragments(512).into_iter().rev().collect();
        frames.extend_from_slice(&fragments);
        let socket = PacketSocket::open(&self.link.sender).unwrap();
        frames.iter().for_each(|frame| socket.send(frame).unwrap());

        for (id, sums) in flows_of(&packets) {
            *self.sent.entry(id).or_default() += sums;
        }
        let octets = fragments.iter().map(|frame| u64::try_from(frame.len() - 14).unwrap()).sum();
        *self.sent.entry(datagram.id()).or_default() += Sums { packets: FRAGMENTS, octets };
        let count: u64 = self.sent.values().map(|sums| sums.packets).sum();
        let count = f64::from(u32::try_from(count).unwrap());
        self.probe
            .wait_for_metric("flowprobe_received_packets_total", "", SOON, |received| received >= count)
            .unwrap_or_else(|error| panic!("{}, after {after}: {error:#}", self.what));
        let received = self.probe.metric("flowprobe_received_packets_total", "").unwrap();
        assert_eq!(received, count, "{}, after {after}", self.what);
    }
}

/// Waits until the kernel sends on both ends: it brings a link up some time after it was told to.
fn wait_for_link(link: &Link) {
    let is_up = |end: &LinkEnd| {
        let shown = end.namespace.ip(&["link", "show", "dev", &end.name]);
        shown.is_ok_and(|shown| shown.contains("LOWER_UP") && shown.contains("state UP"))
    };
    assert!(wait_until(SOON, || is_up(&link.sender) && is_up(&link.metered)), "the link does not come up");
}

fn ip(end: &LinkEnd, args: &[&str]) {
    end.namespace.ip(&[&["link", "set", &end.name], args].concat()).unwrap();
}

/// What takes the packets, and how it is asked for.
const WAYS: [(&str, &[&str]); 3] = [
    ("xdp", &["--xdp-mode", "native"]),
    ("af_xdp", &["--engine", "af_xdp"]),
    ("af_packet", &["--engine", "af_packet"]),
];

fn everything_happens(what: &str, way: &[&str]) {
    let link = Link::new("come", 1).unwrap();
    let home = Arc::clone(&link.metered.namespace);
    let elsewhere = Namespace::new("elsewhere").unwrap();
    let collector = V5Collector::start(Some(&home), LOOPBACK).unwrap();
    let address = collector.address().to_string();
    let mut args = vec!["--collector", &address, "--role", "tap", "--force", "--harvest-interval", "50ms"];
    args.extend(["--idle-timeout", "1h", "--tcp-end", "off"]);
    args.extend(way);
    let probe = Probe::start(PROBE, &home, &link.metered.name, &args).unwrap();
    let mut subject = Subject { what, probe, link, sent: Flows::new(), rounds: 0, said: 0 };
    subject.goes_on("the start");

    subject.expect("tap0 is down", |link| link.metered.set("down").unwrap());
    subject.expect("tap0 is up again", |link| link.metered.set("up").unwrap());
    subject.goes_on("down and up");

    // The other end: what is metered loses its carrier, and nothing else.
    subject.link.sender.set("down").unwrap();
    subject.link.sender.set("up").unwrap();
    subject.goes_on("a cable that was pulled out");

    subject.expect("is called tap7 now", |link| {
        ip(&link.metered, &["name", "tap7"]);
        link.metered.name = "tap7".to_owned();
    });
    subject.goes_on("a new name");

    // Deleted, and there again before anybody could look.
    subject.expect("tap7 is back with index", |link| {
        link.sender.namespace.ip(&["link", "del", &link.sender.name]).unwrap();
        let Link { sender, metered } = &*link;
        let new = Link::between(&sender.namespace, "gen0", &metered.namespace, "tap7", 1).unwrap();
        assert_ne!(new.metered.index, metered.index);
        *link = new;
    });
    subject.goes_on("another index");

    subject.expect("was made anew", |link| ip(&link.metered, &["mtu", "9000"]));
    // A veth whose other end has a program for frames of one buffer takes no more than lie in a page (`veth_xdp_set`).
    let mtu: u16 = if what == "af_packet" { 9000 } else { 3400 };
    ip(&subject.link.sender, &["mtu", &mtu.to_string()]);
    let udp = Transport::Udp { source: 1, destination: 2 };
    let (here, there) = (Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(203, 0, 113, 2));
    let jumbo =
        Packet { payload: vec![7; usize::from(mtu) - 28], ..Packet::new(here.into(), there.into(), udp) };
    subject.goes_on_with("MTU 9000", &[jumbo.clone(), jumbo]);

    subject.expect("tap7 is gone", |link| ip(&link.metered, &["netns", elsewhere.name()]));
    subject.expect("tap7 is back with index", |link| {
        elsewhere.ip(&["link", "set", "tap7", "netns", home.name()]).unwrap();
        link.metered.set("up").unwrap();
    });
    subject.probe.wait_for_metric("flowprobe_interface_up", "", SOON, |up| up == 1.0).unwrap();
    subject.goes_on("a journey");

    let Subject { probe, sent, rounds, .. } = subject;
    let ended = probe.stop(Signal::SIGTERM).unwrap();
    assert!(ended.status.success(), "{what}: {}", ended.stderr);
    assert!(ended.ledger.balanced(), "{what}: {}", ended.ledger.0);
    let total: Sums = sent.values().copied().sum();
    assert_eq!(ended.ledger.sums("exported"), total, "{what}: {}", ended.ledger.0);
    let fragments = FRAGMENTS * u64::from(rounds);
    assert_eq!(ended.ledger.count("noted.joined_fragment"), fragments - u64::from(rounds), "{what}");
    let steered = match what {
        "xdp" => fragments,
        "af_xdp" => total.packets,
        _ => 0,
    };
    assert_eq!(ended.ledger.count("packets.steered"), steered, "{what}: {}", ended.ledger.0);
    let export = collector.finish().unwrap();
    assert_eq!(difference(&sent, &export.flows()), None, "{what}");
}

#[test]
#[ignore = "needs root: run `make test`"]
fn metering_goes_on_whatever_happens_to_the_interface() {
    require_root();
    for (what, way) in WAYS {
        everything_happens(what, way);
    }
}

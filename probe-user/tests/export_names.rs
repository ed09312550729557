// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Collectors over UDP that move, that are not found, that refuse and come back, or lie behind a narrow path. The
//! resolver is the real one, with a hosts file of the test's own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod export_support;

use std::fs;
use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use export_support::{Bench, all_dropped, dropped, errors, read_session};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use probe_lab::{Link, require_root};
use probe_user::export::{CollectorUrl, DropReason, ErrorReason, ExporterOptions, open};

fn lossless() -> ExporterOptions {
    ExporterOptions { interfaces: vec![(3, 0)], lossless: true, ..ExporterOptions::default() }
}

fn receiver(at: &str) -> UdpSocket {
    let socket = UdpSocket::bind(at).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// What waits, one message after the other.
fn receive(socket: &UdpSocket) -> Vec<u8> {
    let (mut octets, mut buffer) = (Vec::new(), [0; 65_536]);
    while let Ok(count) = socket.recv(&mut buffer) {
        octets.extend_from_slice(&buffer[..count]);
    }
    octets
}

/// A hosts file and a resolver configuration that this thread, and those it starts, see in place of the system's.
struct Hosts {
    folder: tempfile::TempDir,
}

impl Hosts {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hosts = Self { folder };
        hosts.set(text);
        // Nobody answers there, at once.
        fs::write(
            hosts.folder.path().join("resolv.conf"),
            "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n",
        )
        .unwrap();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        for name in ["hosts", "resolv.conf"] {
            let (from, to) = (hosts.folder.path().join(name), format!("/etc/{name}"));
            mount(Some(&from), to.as_str(), none, MsFlags::MS_BIND, none).unwrap();
        }
        hosts
    }

    /// The same file, for it is mounted.
    fn set(&self, text: &str) {
        fs::write(self.folder.path().join("hosts"), format!("127.0.0.1 localhost\n{text}\n")).unwrap();
    }
}

/// Runs `test` where nobody else sees what it mounts.
fn apart(test: impl FnOnce() + Send) {
    require_root();
    thread::scope(|scope| {
        if let Err(panic) = scope.spawn(test).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_collector_whose_name_moves_is_followed_and_gets_the_templates() {
    apart(|| {
        let old = receiver("127.0.0.1:0");
        let port = old.local_addr().unwrap().port();
        let new = receiver(&format!("127.0.0.2:{port}"));
        let hosts = Hosts::new("127.0.0.1 collector.test");
        let mut bench = Bench::new(&[format!("ipfix://collector.test:{port}?options=off")], lossless());
        bench.push(500);
        let stats = bench.stats();
        let stats = &stats.collectors[0];
        bench.step_until("records leave", |_| stats.records.get() == 500);
        assert_eq!(read_session(&receive(&old)).flows, 500);
        let connects = bench.exporter.connects();
        hosts.set("127.0.0.2 collector.test");
        bench.now = bench.now + Duration::from_secs(300);
        bench.step_until("a new socket", |bench| bench.exporter.connects() > connects);
        assert_eq!(bench.exporter.endpoints()[0].peer, new.local_addr().unwrap());
        bench.push(500);
        bench.step_until("records leave", |_| stats.records.get() == 1000);
        // `read_session` panics at records without templates.
        assert_eq!(read_session(&receive(&new)).flows, 500);
        assert_eq!((all_dropped(stats), stats.imbalance()), (0, 0));
    });
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_name_without_an_address_is_waited_for() {
    apart(|| {
        let collector = receiver("127.0.0.1:0");
        let port = collector.local_addr().unwrap().port();
        let hosts = Hosts::new("");
        let url: CollectorUrl = format!("v5://late.test:{port}").parse().unwrap();
        let sink = open(&url).unwrap();
        let why = sink.unresolved().unwrap();
        assert!(why.contains("'late.test' does not resolve") && why.contains("check the name"), "{why}");
        let mut bench = Bench::of(vec![(url, sink)], lossless());
        let stats = bench.stats();
        let stats = &stats.collectors[0];
        bench.push(100);
        bench.step_until("two attempts", |_| errors(stats, ErrorReason::Unresolved) >= 2);
        assert_eq!((stats.waiting.get(), all_dropped(stats)), (100, 0));
        assert!(bench.exporter.endpoints().is_empty());
        hosts.set("127.0.0.1 late.test");
        bench.step_until("records leave", |_| stats.records.get() == 100);
        assert_eq!(stats.imbalance(), 0);
        assert!(receive(&collector).len() > 100 * 48);
    });
}

#[test]
#[ignore = "needs root: run `make test`"]
fn live_records_for_a_name_without_an_address_count_as_not_connected() {
    apart(|| {
        let _hosts = Hosts::new("");
        let options = ExporterOptions { ring_octets: 0, ..ExporterOptions::default() };
        let mut bench = Bench::new(&["v5://never.test".to_owned()], options);
        for _ in 0..20 {
            bench.push(2000);
            bench.step();
        }
        bench.flush(Duration::from_millis(100));
        let stats = bench.stats();
        let stats = &stats.collectors[0];
        assert!(dropped(stats, DropReason::NotConnected) > 0 && dropped(stats, DropReason::Shutdown) > 0);
        assert_eq!((all_dropped(stats), stats.imbalance()), (bench.pushed(), 0));
    });
}

#[test]
fn a_collector_that_refused_and_is_back_gets_the_templates_at_once() {
    let collector = receiver("127.0.0.1:0");
    let at = collector.local_addr().unwrap().to_string();
    let mut bench = Bench::new(&[format!("ipfix://{at}?template_refresh=1h&options=off")], lossless());
    let stats = bench.stats();
    let stats = &stats.collectors[0];
    drop(collector);
    bench.push(100);
    bench.step_until("a refusal", |_| errors(stats, ErrorReason::Refused) > 0);
    for _ in 0..1000 {
        bench.push(1);
        bench.step();
    }
    let collector = receiver(&at);
    let begin = bench.now;
    let mut octets = Vec::new();
    bench.step_until("templates", |bench| {
        bench.push(1);
        let message = receive(&collector);
        // The first set of a message follows its header.
        let templates = message.get(16..18) == Some(&[0, 2]);
        octets.extend(message);
        templates
    });
    let took = bench.now.since(begin);
    assert!(took < Duration::from_millis(3500), "{took:?}");
    assert_eq!(stats.imbalance(), 0);
}

#[test]
fn the_code_point_stands_in_the_packets() {
    for (host, expected) in [("127.0.0.1", 46u8 << 2), ("[::1]", 46 << 2)] {
        let socket = receiver(&format!("{host}:0"));
        match host {
            "127.0.0.1" => setsockopt(&socket, sockopt::IpRecvTos, &true),
            _ => setsockopt(&socket, sockopt::Ipv6RecvTClass, &true),
        }
        .unwrap();
        let url = format!("v5://{}?dscp=46", socket.local_addr().unwrap());
        let mut bench = Bench::new(&[url], lossless());
        bench.push(30);
        bench.flush(Duration::from_secs(1));
        let (mut octets, mut control) = ([0; 2000], vec![0; 256]);
        let mut slices = [IoSliceMut::new(&mut octets)];
        let message = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut slices,
            Some(&mut control),
            MsgFlags::empty(),
        )
        .unwrap();
        let octet = message.cmsgs().unwrap().find_map(|control| match control {
            ControlMessageOwned::Ipv4Tos(octet) => Some(octet),
            ControlMessageOwned::Ipv6TClass(octet) => u8::try_from(octet).ok(),
            _ => None,
        });
        assert_eq!(octet, Some(expected), "{host}");
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_path_that_is_narrower_than_the_messages_is_told_once() {
    require_root();
    let link = Link::new("narrow", 1).unwrap();
    link.sender.add_address("192.0.2.1/24").unwrap();
    link.metered.add_address("192.0.2.2/24").unwrap();
    let name = &link.metered.name;
    link.metered.namespace.ip(&["route", "add", "192.0.2.1/32", "dev", name, "mtu", "1200"]).unwrap();
    let mut bench =
        link.metered.namespace.enter(|| Bench::new(&["v5://192.0.2.1:9".to_owned()], lossless())).unwrap();
    let stats = bench.stats();
    let stats = &stats.collectors[0];
    for _ in 0..3 {
        bench.now = bench.now + Duration::from_secs(10);
        bench.step();
    }
    assert_eq!(errors(stats, ErrorReason::TooLarge), 1);
}

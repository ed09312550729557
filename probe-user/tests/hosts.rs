// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Hosts as they are: interfaces that come and go, roles, refusals. Each refusal has its exit status and a
//! message that names what it is about, and leaves nothing attached.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use nix::sys::signal::Signal;
use probe_lab::{
    Export, Generator, Link, LinkEnd, Namespace, Probe, Process, Sums, Traffic, V5Collector,
    clock::wait_until,
    conversations::{Hosts, arp_request},
    difference, flows_of,
    packet_socket::PacketSocket,
    packets::Packet,
    require_root, send_in_parallel,
};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// For things that take milliseconds on an idle machine.
const SOON: Duration = Duration::from_secs(20);

/// Runs the probe to its end and returns exit status and standard error.
fn run(namespace: &Namespace, program: &str, args: &[&str]) -> (Option<i32>, String) {
    let mut process = Process::start(Some(namespace), program, args).unwrap();
    let status = process.wait(SOON).unwrap();
    (status.code(), process.stderr())
}

/// The probe refuses with this status and says all of these.
fn assert_refuses(namespace: &Namespace, args: &[&str], status: i32, says: &[&str]) {
    let (code, stderr) = run(namespace, PROBE, args);
    assert_eq!(code, Some(status), "probe {args:?} said:\n{stderr}");
    for text in says {
        assert!(stderr.contains(text), "probe {args:?} does not say {text:?}:\n{stderr}");
    }
}

fn collector(link: &Link) -> V5Collector {
    V5Collector::start(Some(&link.metered.namespace), LOOPBACK).unwrap()
}

fn start<'a>(link: &'a Link, collector: &V5Collector, args: &[&str]) -> Probe<'a> {
    let address = collector.address().to_string();
    let mut all = vec!["--collector", &address];
    all.extend(args);
    Probe::start(PROBE, &link.metered.namespace, &link.metered.name, &all).unwrap()
}

/// Packets of several kinds, all of them IPv4.
fn some_packets() -> Vec<Packet> {
    let hosts = Hosts::new(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 1));
    [hosts.download(40_000, 443, 10_000), hosts.query(40_001, 53, 30, 90), hosts.ping(3)].concat()
}

fn send_packets(end: &LinkEnd, packets: &[Packet]) {
    let socket = PacketSocket::open(end).unwrap();
    for packet in packets {
        socket.send(&packet.frame()).unwrap();
    }
}

fn sums(packets: &[Packet]) -> Sums {
    flows_of(packets).values().copied().sum()
}

/// Waits until the probe has counted that many packets: none of them is on its way any more.
fn wait_for_metered(probe: &Probe<'_>, packets: usize) {
    let packets = f64::from(u32::try_from(packets).unwrap());
    probe.wait_for_metric("flowprobe_metered_packets_total", "", SOON, |metered| metered == packets).unwrap();
}

/// Ends the probe and checks that exactly `packets`, and `not_ip` other frames, were accounted for.
fn assert_exact(probe: Probe<'_>, collector: V5Collector, packets: &[Packet], not_ip: u64) -> Export {
    let ended = probe.stop(Signal::SIGINT).unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(ended.ledger.balanced(), "{}", ended.ledger.0);
    assert_eq!(ended.ledger.count("packets.unmetered.not_ip"), not_ip, "{}", ended.ledger.0);
    assert_eq!(ended.ledger.count("packets.unmetered"), not_ip, "{}", ended.ledger.0);
    assert_eq!(ended.ledger.sums("exported"), sums(packets), "{}", ended.ledger.0);
    let export = collector.finish().unwrap();
    assert_eq!(difference(&flows_of(packets), &export.flows()), None);
    export
}

#[test]
#[ignore = "needs root: run `make test`"]
fn native_and_generic_mode_count_the_same() {
    require_root();
    for mode in ["native", "generic"] {
        let link = Link::new(mode, 1).unwrap();
        let collector = collector(&link);
        let probe = start(&link, &collector, &["--xdp-mode", mode]);
        let shown = link.metered.namespace.ip(&["link", "show", "dev", &link.metered.name]).unwrap();
        assert_eq!(shown.contains("xdpgeneric"), mode == "generic", "{shown}");
        send_packets(&link.sender, &some_packets());
        let arp = arp_request(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        PacketSocket::open(&link.sender).unwrap().send(&arp).unwrap();
        let export = assert_exact(probe, collector, &some_packets(), 1);
        let tcp = export
            .records
            .iter()
            .find(|record| record.flow.protocol == 6 && record.flow.source_port == 40_000);
        assert_eq!(tcp.map(|record| record.tcp_flags), Some(0x1b), "SYN, ACK, PSH, FIN");
        assert!(!link.metered.has_xdp().unwrap());
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn times_are_those_of_the_packets() {
    // The step of the kernel's timer at HZ=100, and what milliseconds cut off.
    const STEP_MS: u64 = 11;
    require_root();
    let unix_ms = || {
        let moment = probe_user::runtime::now();
        moment.wall.unix_ns(moment.now) / 1_000_000
    };
    let link = Link::new("times", 1).unwrap();
    let collector = collector(&link);
    let probe = start(&link, &collector, &[]);
    let before = unix_ms();
    send_packets(&link.sender, &some_packets());
    let after = unix_ms();
    wait_for_metered(&probe, some_packets().len());
    let export = assert_exact(probe, collector, &some_packets(), 0);
    assert!(!export.records.is_empty());
    for record in &export.records {
        assert!(
            record.first_ms + STEP_MS >= before
                && record.first_ms <= record.last_ms
                && record.last_ms <= after + STEP_MS,
            "sent from {before} to {after}: {record:?}"
        );
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn the_host_role_passes_and_the_tap_role_drops() {
    require_root();
    let link = Link::new("roles", 1).unwrap();
    link.sender.add_address("10.77.0.1/24").unwrap();
    link.metered.add_address("10.77.0.2/24").unwrap();
    let ping = || link.sender.namespace.run("ping", &["-c", "3", "-i", "0.2", "-W", "1", "10.77.0.2"]);
    ping().unwrap();

    // It has an address, so `auto` must find the host's role.
    let collector_of_host = collector(&link);
    let probe = start(&link, &collector_of_host, &[]);
    ping().unwrap();
    let ended = probe.stop(Signal::SIGTERM).unwrap();
    assert!(ended.stderr.contains("host"), "does not say which role it took:\n{}", ended.stderr);
    assert!(ended.ledger.balanced(), "{}", ended.ledger.0);
    // Three requests came in, three replies went out.
    assert_eq!(ended.ledger.sums("exported"), Sums { packets: 6, octets: 6 * 84 });
    drop(collector_of_host.finish().unwrap());

    assert_refuses(
        &link.metered.namespace,
        &["run", "--iface", &link.metered.name, "--role", "tap"],
        2,
        &[&link.metered.name, "--force"],
    );
    assert!(!link.metered.has_xdp().unwrap());
    ping().unwrap();

    let collector_of_tap = collector(&link);
    let probe = start(&link, &collector_of_tap, &["--role", "tap", "--force"]);
    assert!(ping().is_err(), "the tap role is to drop what it has metered");
    drop(probe);
    assert!(wait_until(SOON, || ping().is_ok()), "killed, the probe must not cut the host off any longer");
}

#[test]
#[ignore = "needs root: run `make test`"]
fn an_interface_that_goes_down_is_metered_again_when_it_comes_up() {
    require_root();
    let link = Link::new("updown", 1).unwrap();
    let collector = collector(&link);
    let mut probe = start(&link, &collector, &[]);
    send_packets(&link.sender, &some_packets());
    wait_for_metered(&probe, some_packets().len());
    link.metered.set("down").unwrap();
    probe.process().wait_for_message("down", SOON).unwrap();
    link.metered.set("up").unwrap();
    probe.wait_for_metric("flowprobe_interface_up", "", SOON, |up| up == 1.0).unwrap();
    send_packets(&link.sender, &some_packets());
    assert_exact(probe, collector, &[some_packets(), some_packets()].concat(), 0);
}

#[test]
#[ignore = "needs root: run `make test`"]
fn an_interface_that_vanishes_is_metered_again_when_it_is_back() {
    require_root();
    let link = Link::new("vanish", 1).unwrap();
    let collector = collector(&link);
    // So long that only its end exports a flow of the interface that vanished.
    let mut probe =
        start(&link, &collector, &["--idle-timeout", "1h", "--active-timeout", "1h", "--tcp-end", "off"]);
    send_packets(&link.sender, &some_packets());
    wait_for_metered(&probe, some_packets().len());
    link.sender.namespace.ip(&["link", "del", &link.sender.name]).unwrap();
    probe.wait_for_metric("flowprobe_flows_live", "", SOON, |live| live == 0.0).unwrap();
    probe.process().wait_for_message(&link.metered.name, SOON).unwrap();
    let back = Link::between(
        &link.sender.namespace,
        &link.sender.name,
        &link.metered.namespace,
        &link.metered.name,
        1,
    )
    .unwrap();
    assert!(wait_until(SOON, || back.metered.has_xdp().unwrap()), "not attached again");
    probe.wait_for_metric("flowprobe_interface_up", "", SOON, |up| up == 1.0).unwrap();
    send_packets(&back.sender, &some_packets());
    let export = assert_exact(probe, collector, &[some_packets(), some_packets()].concat(), 0);
    let inputs: Vec<u32> = export.records.iter().map(|record| u32::from(record.input)).collect();
    let records = flows_of(&some_packets()).len();
    assert_eq!(
        inputs.iter().filter(|input| **input == link.metered.index).count(),
        records,
        "before: {inputs:?}"
    );
    assert_eq!(
        inputs.iter().filter(|input| **input == back.metered.index).count(),
        records,
        "after: {inputs:?}"
    );
}

#[test]
#[ignore = "needs root: run `make test`"]
fn our_own_datagrams_are_counted_apart() {
    require_root();
    // The exporter's way to its collector is mirrored back to the probe, as on a switch whose SPAN port
    // covers the port of the probe itself.
    let mirror = Link::new("own", 1).unwrap();
    let (probe_host, collector_host) = (&mirror.metered.namespace, &mirror.sender.namespace);
    let way = Link::between(probe_host, "out0", collector_host, "in0", 1).unwrap();
    way.sender.add_address("10.78.0.1/24").unwrap();
    way.metered.add_address("10.78.0.2/24").unwrap();
    collector_host.run("tc", &["qdisc", "add", "dev", "in0", "clsact"]).unwrap();
    let only_udp = ["protocol", "ip", "u32", "match", "ip", "protocol", "17", "0xff"];
    let to_the_probe = ["action", "mirred", "egress", "mirror", "dev", &mirror.sender.name];
    let filter = [&["filter", "add", "dev", "in0", "ingress"], &only_udp[..], &to_the_probe[..]].concat();
    collector_host.run("tc", &filter).unwrap();

    let collector = V5Collector::start(Some(collector_host), "10.78.0.2:0".parse().unwrap()).unwrap();
    let mut probe = start(&mirror, &collector, &["--idle-timeout", "500ms", "--harvest-interval", "100ms"]);
    let mut generators = [Generator::load(&mirror, &Traffic::udp(0, 2000)).unwrap()];
    let wait_for_quiet = |probe: &Probe<'_>| {
        probe.wait_for_metric("flowprobe_metered_packets_total", "", SOON, |count| count > 0.0).unwrap();
        probe.wait_for_metric("flowprobe_flows_live", "", SOON, |live| live == 0.0).unwrap();
    };
    for _ in 0..3 {
        send_in_parallel_with_company(&mirror, &mut generators, 20_000, &probe);
        wait_for_quiet(&probe);
    }
    // Every record is out, and with it every datagram, before the probe ends: no flush is to come.
    let created = probe.metric("flowprobe_flows_created_total", "").unwrap();
    probe.wait_for_metric("flowprobe_export_records_total", "", SOON, |records| records == created).unwrap();
    let datagrams = probe.metric("flowprobe_export_datagrams_total", "").unwrap();
    probe
        .wait_for_metric("flowprobe_unmetered_packets_total", "reason=\"own_export\"", SOON, |count| {
            count == datagrams
        })
        .unwrap_or_else(|error| panic!("{datagrams} datagrams crossed the metered interface: {error:#}"));
    assert!(probe.process().is_running());
    let ended = probe.stop(Signal::SIGTERM).unwrap();
    let ledger = &ended.ledger;
    assert!(ledger.balanced(), "{}", ledger.0);
    assert_eq!(
        ledger.count("packets.unmetered.own_export"),
        ledger.count("collectors.0.datagrams"),
        "{}",
        ledger.0
    );
    assert_eq!(
        ledger.count("packets.unmetered.own_export"),
        ledger.count("packets.unmetered"),
        "{}",
        ledger.0
    );
    let export = collector.finish().unwrap();
    assert_eq!(difference(&generators[0].expected().unwrap(), &export.flows()), None);
}

/// As [`send_in_parallel`], on a link that also carries the exporter's datagrams: what the generator sent
/// is received when the probe has metered it.
fn send_in_parallel_with_company(link: &Link, generators: &mut [Generator], packets: u64, probe: &Probe<'_>) {
    let before: u64 = generators.iter().map(|generator| generator.sent().unwrap()).sum();
    // The link's own count includes the datagrams, so it may say more than was sent, never less.
    let result = send_in_parallel(link, generators, packets);
    let sent: u64 = generators.iter().map(|generator| generator.sent().unwrap()).sum();
    assert_eq!(sent - before, packets, "{result:?}");
    wait_for_metered(probe, usize::try_from(sent).unwrap());
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_second_probe_on_the_interface_is_refused() {
    require_root();
    let link = Link::new("second", 1).unwrap();
    let collector = collector(&link);
    let probe = start(&link, &collector, &[]);
    assert_refuses(
        &link.metered.namespace,
        &["run", "--iface", &link.metered.name, "--metrics", "none"],
        3,
        &[&link.metered.name, "another XDP program"],
    );
    send_packets(&link.sender, &some_packets());
    assert_exact(probe, collector, &some_packets(), 0);
}

#[test]
#[ignore = "needs root: run `make test`"]
fn what_the_host_cannot_do_is_said_with_status_3() {
    require_root();
    let link = Link::new("cannot", 1).unwrap();
    let (namespace, name) = (&link.metered.namespace, link.metered.name.as_str());
    assert_refuses(namespace, &["run", "--iface", "nosuch0"], 3, &["nosuch0", "no such interface"]);
    // Asked for by name, native XDP is not replaced by anything else.
    namespace.ip(&["link", "add", "plain0", "type", "bridge"]).unwrap();
    let native = ["run", "--iface", "plain0", "--xdp-mode", "native"];
    assert_refuses(namespace, &native, 3, &["plain0", "its driver has no native XDP"]);
    // One of two is wrong: the other one must not stay attached.
    assert_refuses(namespace, &["run", "--iface", &format!("{name},nosuch0")], 3, &["nosuch0"]);
    assert!(!link.metered.has_xdp().unwrap());

    let drop_all = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all", PROBE];
    // Somebody without privilege may not even enter the folder that the binary lies in.
    let copy = std::env::temp_dir().join(format!("fp{}-probe", std::process::id()));
    std::fs::copy(PROBE, &copy).unwrap();
    let path = copy.to_string_lossy().into_owned();
    let args = [&drop_all[..6], &[path.as_str(), "run", "--iface", name, "--metrics", "none"]].concat();
    let (code, stderr) = run(namespace, "setpriv", &args);
    std::fs::remove_file(&copy).unwrap();
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("privilege") && stderr.contains("CAP_BPF"), "{stderr}");

    let taken = namespace.enter(|| std::net::TcpListener::bind("127.0.0.1:9990")).unwrap().unwrap();
    assert_refuses(namespace, &["run", "--iface", name], 3, &["127.0.0.1:9990", "--metrics"]);
    drop(taken);
    assert!(!link.metered.has_xdp().unwrap());
}

#[test]
#[ignore = "needs root: run `make test`"]
fn what_was_asked_wrongly_is_said_with_status_2() {
    require_root();
    let link = Link::new("wrong", 1).unwrap();
    let (namespace, name) = (&link.metered.namespace, link.metered.name.as_str());
    for (args, says) in [
        (&["run"][..], "--iface"),
        (&["run", "--iface", name, "--idle-timeout", "soon"], "--idle-timeout"),
        (&["run", "--iface", name, "--collector", "sflow://127.0.0.1"], "sflow"),
        (&["run", "--iface", name, "--collector", "127.0.0.1:99999"], "127.0.0.1:99999"),
        (&["run", "--iface", name, "--max-flows", "0"], "--max-flows"),
        (&["run", "--iface", name, "--cache-slots", "1000"], "--cache-slots"),
        (&["run", "--iface", name, "--config", "/nonexistent/probe.toml"], "/nonexistent/probe.toml"),
        (&["run", "--iface", name, "--no-such-option"], "--no-such-option"),
    ] {
        assert_refuses(namespace, args, 2, &[says]);
    }
    assert!(!link.metered.has_xdp().unwrap());
}

#[test]
#[ignore = "needs root: run `make test`"]
fn killed_without_warning_it_leaves_nothing_attached() {
    require_root();
    let link = Link::new("killed", 1).unwrap();
    let collector = collector(&link);
    let mut probe = start(&link, &collector, &[]);
    assert!(link.metered.has_xdp().unwrap());
    probe.process().signal(Signal::SIGKILL).unwrap();
    probe.process().wait(SOON).unwrap();
    assert!(wait_until(SOON, || !link.metered.has_xdp().unwrap()), "the program outlived the probe");
    // And the next one can start at once.
    let probe = start(&link, &collector, &[]);
    send_packets(&link.sender, &some_packets());
    assert_exact(probe, collector, &some_packets(), 0);
}

#[test]
#[ignore = "needs root: run `make test`"]
fn an_idle_probe_does_not_disturb_its_namespace() {
    require_root();
    let host = Arc::new(Namespace::new("idle").unwrap());
    let link = Link::between(&host, "gen0", &host, "tap0", 1).unwrap();
    let collector = V5Collector::start(Some(&host), LOOPBACK).unwrap();
    let probe = start(&link, &collector, &[]);
    std::thread::sleep(Duration::from_secs(2));
    let ended = probe.stop(Signal::SIGTERM).unwrap();
    assert!(ended.status.success());
    assert_eq!(ended.ledger.count("packets.received"), 0, "{}", ended.ledger.0);
    assert!(ended.took < Duration::from_secs(2), "took {:?} with nothing to flush", ended.took);
    assert!(collector.finish().unwrap().records.is_empty());
}

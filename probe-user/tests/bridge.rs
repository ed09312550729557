// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A bridge as an exporter: what crosses it is counted once, on whichever ports it has; and the probe is asked and told
//! through its control socket meanwhile.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::FileTypeExt,
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use probe_lab::{
    Ended, Flows, LedgerView, Link, LinkEnd, Namespace, Probe, V5Collector, clock::wait_until,
    conversations::Hosts, difference, flows_of, packet_socket::PacketSocket, packets::Packet, require_root,
};
use serde_json::Value;

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// For things that take milliseconds on an idle machine.
const SOON: Duration = Duration::from_secs(20);
/// Engine ids of the datagrams, in the order in which interfaces and bridges are named.
const FIRST_ENGINE: u8 = 10;

/// A host with cables to machines of its own; those called `port…` end at its bridge.
struct Host {
    namespace: Arc<Namespace>,
}

impl Host {
    fn new() -> Self {
        let namespace = Arc::new(Namespace::new("bridge").unwrap());
        // A bridge that snoops joins a group itself, and reports that on its ports.
        namespace.ip(&["link", "add", "br0", "type", "bridge", "mcast_snooping", "0"]).unwrap();
        namespace.ip(&["link", "set", "br0", "up"]).unwrap();
        let switch_off = |table| {
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{table}");
            if fs::exists(&path).unwrap() {
                fs::write(&path, "0").unwrap();
            }
        };
        // Where bridges ask the firewall, the host's rules would have a say.
        namespace.enter(|| ["iptables", "ip6tables", "arptables"].map(switch_off)).unwrap();
        Self { namespace }
    }

    /// A cable to a new machine.
    fn cable(&self, name: &str) -> Link {
        let machine = Arc::new(Namespace::new(name).unwrap());
        Link::between(&machine, "eth0", &self.namespace, name, 1).unwrap()
    }

    fn add_port(&self, port: &Link) {
        self.namespace.ip(&["link", "set", &port.metered.name, "master", "br0"]).unwrap();
    }

    fn remove_port(&self, port: &Link) {
        self.namespace.ip(&["link", "set", &port.metered.name, "nomaster"]).unwrap();
    }
}

/// Packets of several kinds that only this test's part `number` has.
fn packets(number: u8) -> Vec<Packet> {
    let hosts = Hosts::new(Ipv4Addr::new(192, 0, 2, number), Ipv4Addr::new(198, 51, 100, number));
    [hosts.download(40_000, 443, 10_000), hosts.query(40_001, 53, 30, 90), hosts.ping(3)].concat()
}

fn send(from: &LinkEnd, packets: &[Packet]) {
    let socket = PacketSocket::open(from).unwrap();
    packets.iter().for_each(|packet| socket.send(&packet.frame()).unwrap());
}

/// Sends, and waits until the last has left the bridge on the way to `to`.
fn cross(from: &Link, to: &Link, packets: &[Packet]) {
    let before = to.sender.received_frames().unwrap();
    send(&from.sender, packets);
    let many = u64::try_from(packets.len()).unwrap();
    assert!(
        wait_until(SOON, || to.sender.received_frames().unwrap() >= before + many),
        "the bridge forwards"
    );
}

/// `probe ARGS` for the probe at `socket`: what it prints.
fn ask(socket: &Path, args: &[&str]) -> String {
    let output = Command::new(PROBE).args(args).arg("--socket").arg(socket).output().unwrap();
    assert!(output.status.success(), "probe {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Name and bridge of every metered interface whose packets are taken.
fn metered(socket: &Path) -> Vec<(String, Option<String>)> {
    let listed = ask(socket, &["iface", "list", "--json"]);
    let interfaces = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut interfaces: Vec<_> = interfaces
        .filter(|interface| interface["engine"] == "xdp" && interface["state"] == "up")
        .map(|interface| (text(&interface["name"]).unwrap(), text(&interface["bridge"])))
        .collect();
    interfaces.sort();
    interfaces
}

fn wait_for_metered(socket: &Path, expected: &[(&str, Option<&str>)]) {
    let owned = |(name, bridge): &(&str, Option<&str>)| ((*name).to_owned(), bridge.map(str::to_owned));
    let expected: Vec<_> = expected.iter().map(owned).collect();
    let reached = wait_until(SOON, || metered(socket) == expected);
    assert!(reached, "{:?} are metered, not {expected:?}", metered(socket));
}

/// Waits until the probe has accounted for that many packets in all, and returns its ledger of then.
fn wait_for_received(socket: &Path, count: u64) -> LedgerView {
    let stats = || LedgerView(serde_json::from_str(&ask(socket, &["stats", "--json"])).unwrap());
    let reached = wait_until(SOON, || stats().count("packets.received") >= count);
    let stats = stats();
    assert!(reached, "{count} packets are awaited: {}", stats.0);
    assert_eq!(stats.count("packets.received"), count, "{}", stats.0);
    stats
}

fn assert_balanced(ended: &Ended) {
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(ended.ledger.balanced(), "{}", ended.ledger.0);
}

#[test]
#[ignore = "needs root: run `make test`"]
fn what_crosses_a_bridge_is_counted_once_whatever_becomes_of_its_ports() {
    require_root();
    let host = Host::new();
    let [one, two, three] = ["port1", "port2", "port3"].map(|name| host.cable(name));
    let [mirror, late] = ["mirror", "late"].map(|name| host.cable(name));
    host.add_port(&one);
    host.add_port(&two);
    let collector = V5Collector::start(Some(&host.namespace), LOOPBACK).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control.sock");
    let (address, path) = (collector.address().to_string(), socket.to_str().unwrap());
    let engine = FIRST_ENGINE.to_string();
    let args = [
        ["--collector", &address, "--bridge", "br0", "--socket", path, "--engine-id", &engine],
        ["--harvest-interval", "50ms", "--tcp-end", "off", "--idle-timeout", "1h", "--role", "host"],
    ];
    let probe = Probe::start(PROBE, &host.namespace, "mirror", &args.concat()).unwrap();
    let on_bridge = Some("br0");
    wait_for_metered(&socket, &[("mirror", None), ("port1", on_bridge), ("port2", on_bridge)]);

    // Each packet is seen where it comes in and where it goes out.
    let many = u64::try_from(packets(1).len()).unwrap();
    cross(&one, &two, &packets(1));
    cross(&two, &one, &packets(2));
    send(&mirror.sender, &packets(3));
    let stats = wait_for_received(&socket, 5 * many);
    assert_eq!(stats.count("packets.metered"), 3 * many, "{}", stats.0);
    assert_eq!(stats.count("packets.unmetered.already_metered"), 2 * many, "{}", stats.0);

    // A third port: what comes in on it is flooded to both others.
    host.add_port(&three);
    wait_for_metered(
        &socket,
        &[("mirror", None), ("port1", on_bridge), ("port2", on_bridge), ("port3", on_bridge)],
    );
    cross(&three, &one, &packets(4));
    let stats = wait_for_received(&socket, 8 * many);
    assert_eq!(stats.count("packets.metered"), 4 * many, "{}", stats.0);

    // One port less: what comes in on it is nobody's, and it is told of no more.
    host.remove_port(&two);
    wait_for_metered(&socket, &[("mirror", None), ("port1", on_bridge), ("port3", on_bridge)]);
    send(&two.sender, &packets(5));
    cross(&one, &three, &packets(6));
    let stats = wait_for_received(&socket, 10 * many);
    assert_eq!(stats.count("packets.metered"), 5 * many, "{}", stats.0);

    // An interface that is named while the probe runs, and forgotten again.
    send(&late.sender, &packets(7));
    assert!(ask(&socket, &["iface", "add", "late"]).contains("role host"));
    wait_for_metered(
        &socket,
        &[("late", None), ("mirror", None), ("port1", on_bridge), ("port3", on_bridge)],
    );
    send(&late.sender, &packets(8));
    wait_for_received(&socket, 11 * many);
    ask(&socket, &["iface", "remove", "late"]);
    wait_for_metered(&socket, &[("mirror", None), ("port1", on_bridge), ("port3", on_bridge)]);
    send(&late.sender, &packets(9));
    let table = ask(&socket, &["iface", "list"]);
    assert!(table.starts_with("NAME") && table.lines().count() == 4, "{table}");

    // A port whose cable is cut off.
    three.sender.namespace.ip(&["link", "del", &three.sender.name]).unwrap();
    wait_for_metered(&socket, &[("mirror", None), ("port1", on_bridge)]);

    let told = ask(&socket, &["shutdown"]);
    assert!(told.contains("has ended"), "{told}");
    let ended = probe.ended().unwrap();
    assert_balanced(&ended);
    assert_eq!(ended.ledger.count("packets.received"), 11 * many, "{}", ended.ledger.0);
    assert!(
        !fs::symlink_metadata(&socket).is_ok_and(|file| file.file_type().is_socket()),
        "it is left behind"
    );

    let export = collector.finish().unwrap();
    let engines = |engine: u8| {
        let mut flows = Flows::new();
        export.of_engine(engine).for_each(|record| *flows.entry(record.flow).or_default() += record.sums);
        flows
    };
    let sent =
        |numbers: &[u8]| flows_of(&numbers.iter().flat_map(|number| packets(*number)).collect::<Vec<_>>());
    for (engine, what, numbers) in [
        (FIRST_ENGINE, "the named interface", &[3][..]),
        (FIRST_ENGINE + 1, "the bridge", &[1, 2, 4, 6]),
        (FIRST_ENGINE + 2, "the interface that was added", &[8]),
    ] {
        assert_eq!(difference(&sent(numbers), &engines(engine)), None, "{what}");
    }
    assert_eq!(difference(&sent(&[1, 2, 3, 4, 6, 8]), &export.flows()), None, "other engines");
}

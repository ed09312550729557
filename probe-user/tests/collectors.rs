// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Collectors we did not write store exactly the flows that crossed the interface: nfcapd, nfacctd and
//! tshark, fed by one probe at the same time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::sys::signal::Signal;
use probe_lab::{
    Datagram, Export, FlowId, Flows, Link, Namespace, Probe, Process, Sums, V5Collector,
    clock::wait_until,
    conversations::Hosts,
    difference, flows_of,
    packet_socket::PacketSocket,
    packets::{Packet, Transport},
    pcap_file::{PcapFormat, PcapWriter},
    require_root,
};
use serde_json::Value;

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
const SOON: Duration = Duration::from_secs(30);
/// Ports in a namespace that nobody else uses.
const NFCAPD: u16 = 9001;
const NFACCTD: u16 = 9002;
const TSHARK: u16 = 9003;

/// A folder that is gone afterwards, also when the test fails.
fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("fp-collectors").tempdir().unwrap()
}

/// Ends the test with what to do when a collector is not there.
fn require(tool: &str, package: &str) {
    assert!(
        Command::new(tool).arg("-h").output().is_ok(),
        "`{tool}` is not installed (package {package}); `make test` installs it"
    );
}

/// Flows of every kind that NetFlow v5 can say, several datagrams of them.
fn traffic() -> Vec<Packet> {
    let mut packets = Vec::new();
    for host in 1..=30u8 {
        let client = Ipv4Addr::new(192, 0, 2, host);
        let server = Ipv4Addr::new(198, 51, 100, host % 5);
        let hosts = Hosts::new(client, server).with_tos(if host % 3 == 0 { 0xb8 } else { 0 });
        let port = 40_000 + u16::from(host);
        packets.extend(hosts.download(port, 443, 700 * usize::from(host)));
        packets.extend(hosts.query(port, 53, 30 + usize::from(host), 200));
        packets.extend(hosts.ping(u16::from(host) % 4 + 1));
        // GRE and ESP have no ports.
        for protocol in [47, 50] {
            let other = Packet::new(client.into(), server.into(), Transport::Other(protocol));
            packets.push(Packet { payload: vec![0; 60], ..other });
        }
    }
    packets
}

/// nfcapd, which keeps what arrives in a file of its own.
struct Nfcapd {
    process: Process,
    folder: tempfile::TempDir,
}

impl Nfcapd {
    fn start(namespace: &Namespace) -> Self {
        require("nfcapd", "nfdump");
        let folder = folder();
        let path = folder.path().to_string_lossy().into_owned();
        let args = ["-w", &path, "-p", &NFCAPD.to_string(), "-b", "127.0.0.1", "-t", "3600"];
        let mut process = Process::start(Some(namespace), "nfcapd", &args).unwrap();
        process.wait_for_message("Startup nfcapd", SOON).unwrap();
        wait_for_port(namespace, NFCAPD);
        Self { process, folder }
    }

    /// What `nfdump` reads from its file, and what nfcapd itself has to say.
    fn flows(mut self) -> Flows {
        assert!(self.process.terminate(SOON).unwrap().success(), "{}", self.process.stderr());
        let said = self.process.stderr();
        assert!(said.contains("Sequence Errors: 0, Bad Packets: 0"), "nfcapd said:\n{said}");
        let file = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nfcapd.2")))
            .unwrap_or_else(|| panic!("nfcapd left no file; it said:\n{said}"));
        let output = Command::new("nfdump").arg("-r").arg(&file).args(["-o", "json"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let records: Vec<Value> =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let mut flows = Flows::new();
        for record in &records {
            // It takes an ICMP flow's type and code from the destination port, and shows no ports then.
            let destination_port = match record["icmp_type"].as_u64() {
                Some(kind) => kind << 8 | number(record, "icmp_code"),
                None => number(record, "dst_port"),
            };
            let id = FlowId {
                source: address(record, "src4_addr"),
                destination: address(record, "dst4_addr"),
                source_port: u16::try_from(record["src_port"].as_u64().unwrap_or(0)).unwrap(),
                destination_port: u16::try_from(destination_port).unwrap(),
                protocol: u8::try_from(number(record, "proto")).unwrap(),
                tos: u8::try_from(number(record, "src_tos")).unwrap(),
            };
            *flows.entry(id).or_default() +=
                Sums { packets: number(record, "in_packets"), octets: number(record, "in_bytes") };
        }
        flows
    }
}

/// nfacctd of pmacct, with its table printed at the end.
struct Nfacctd {
    process: Process,
    output: PathBuf,
    _folder: tempfile::TempDir,
}

impl Nfacctd {
    fn start(namespace: &Namespace) -> Self {
        require("nfacctd", "pmacct");
        let folder = folder();
        let (configuration, output) = (folder.path().join("nfacctd.conf"), folder.path().join("flows.json"));
        let text = format!(
            "daemonize: false\nnfacctd_ip: 127.0.0.1\nnfacctd_port: {NFACCTD}\nplugins: print\n\
             aggregate: src_host, dst_host, src_port, dst_port, proto, tos\n\
             print_output: json\nprint_output_file: {}\nprint_refresh_time: 3600\n",
            output.display()
        );
        fs::write(&configuration, text).unwrap();
        let configuration = configuration.to_string_lossy().into_owned();
        let process = Process::start(Some(namespace), "nfacctd", &["-f", &configuration]).unwrap();
        wait_for_port(namespace, NFACCTD);
        Self { process, output, _folder: folder }
    }

    fn flows(mut self) -> Flows {
        self.process.signal(Signal::SIGINT).unwrap();
        self.process.wait(SOON).unwrap();
        // The plugin is a process of its own, which writes after its parent has ended.
        let said = || format!("{}{}", self.process.stdout(), self.process.stderr());
        let complete = || said().contains("Purging cache - END");
        assert!(wait_until(SOON, complete), "nfacctd did not write its table; it said:\n{}", said());
        let text = fs::read_to_string(&self.output).unwrap_or_else(|error| panic!("{error}:\n{}", said()));
        let mut flows = Flows::new();
        for line in text.lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            let id = FlowId {
                source: address(&record, "ip_src"),
                destination: address(&record, "ip_dst"),
                source_port: u16::try_from(number(&record, "port_src")).unwrap(),
                destination_port: u16::try_from(number(&record, "port_dst")).unwrap(),
                protocol: protocol(&record["ip_proto"]),
                tos: u8::try_from(number(&record, "tos")).unwrap(),
            };
            *flows.entry(id).or_default() +=
                Sums { packets: number(&record, "packets"), octets: number(&record, "bytes") };
        }
        flows
    }
}

/// nfacctd names the protocols it knows.
fn protocol(value: &Value) -> u8 {
    match value.as_str() {
        Some("icmp") => 1,
        Some("tcp") => 6,
        Some("udp") => 17,
        Some("gre") => 47,
        Some("esp") => 50,
        other => panic!("a protocol that was not sent: {other:?}"),
    }
}

/// A number, which some programs write as text.
fn number(record: &Value, name: &str) -> u64 {
    let value = &record[name];
    let text = value.as_str().and_then(|text| text.parse().ok());
    value.as_u64().or(text).unwrap_or_else(|| panic!("no number {name} in {record}"))
}

fn address(record: &Value, name: &str) -> IpAddr {
    let text = record[name].as_str().unwrap_or_else(|| panic!("no address {name} in {record}"));
    text.parse().unwrap()
}

/// Waits until somebody listens on a UDP port of the namespace.
fn wait_for_port(namespace: &Namespace, port: u16) {
    let listening = format!("0100007F:{port:04X} ");
    let there = wait_until(SOON, || {
        let table = namespace.enter(|| fs::read_to_string("/proc/thread-self/net/udp")).unwrap().unwrap();
        table.contains(&listening)
    });
    assert!(there, "nobody listens on UDP port {port}");
}

/// Writes datagrams as a capture file.
fn write_pcap(path: &Path, datagrams: &[Datagram]) {
    let mut file = PcapWriter::new(File::create(path).unwrap(), PcapFormat::default()).unwrap();
    for (number, Datagram { from, octets }) in (1..).zip(datagrams) {
        let transport = Transport::Udp { source: from.port(), destination: TSHARK };
        let packet = Packet {
            payload: octets.clone(),
            ..Packet::new(from.ip(), Ipv4Addr::LOCALHOST.into(), transport)
        };
        file.write(number * 1_000_000_000, &packet.frame()).unwrap();
    }
}

/// The flows that tshark dissects; it may find nothing malformed and nothing remarkable, and the sequence
/// numbers as it reads them must count its records (its own check of sequences is for v9 and IPFIX only).
fn tshark_flows(datagrams: &[Datagram]) -> Flows {
    const FIELDS: [&str; 13] = [
        "_ws.malformed",
        "_ws.expert.message",
        "cflow.version",
        "cflow.sequence",
        "cflow.count",
        "cflow.srcaddr",
        "cflow.dstaddr",
        "cflow.srcport",
        "cflow.dstport",
        "cflow.protocol",
        "cflow.tos",
        "cflow.packets",
        "cflow.octets",
    ];
    require("tshark", "tshark");
    let folder = folder();
    let path = folder.path().join("export.pcap");
    write_pcap(&path, datagrams);
    let mut command = Command::new("tshark");
    command.arg("-r").arg(&path).args(["-n", "-d", &format!("udp.port=={TSHARK},cflow"), "-T", "fields"]);
    for field in FIELDS {
        command.args(["-e", field]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), datagrams.len(), "one line for each datagram");
    let mut flows = Flows::new();
    let mut sequence = 0;
    for line in text.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [malformed, expert, version, first, count, lists @ ..] = columns.as_slice() else {
            panic!("tshark printed {line}");
        };
        assert_eq!((*malformed, *expert, *version), ("", "", "5"), "tshark says {line}");
        assert_eq!(first.parse(), Ok(sequence), "flow_sequence in {line}");
        let count: usize = count.parse().unwrap();
        sequence += count;
        let lists: Vec<Vec<&str>> = lists.iter().map(|list| list.split(',').collect()).collect();
        assert!(lists.iter().all(|list| list.len() == count), "a list is not as long as the count: {line}");
        for record in 0..count {
            let cells: Vec<&str> = lists.iter().map(|list| list[record]).collect();
            let id = FlowId {
                source: cells[0].parse().unwrap(),
                destination: cells[1].parse().unwrap(),
                source_port: cells[2].parse().unwrap(),
                destination_port: cells[3].parse().unwrap(),
                protocol: cells[4].parse().unwrap(),
                tos: u8::from_str_radix(cells[5].trim_start_matches("0x"), 16).unwrap(),
            };
            *flows.entry(id).or_default() +=
                Sums { packets: cells[6].parse().unwrap(), octets: cells[7].parse().unwrap() };
        }
    }
    flows
}

#[test]
#[ignore = "needs root: run `make test`"]
fn three_collectors_store_exactly_what_was_sent() {
    require_root();
    let link = Link::new("collect", 1).unwrap();
    let namespace = &link.metered.namespace;
    let nfcapd = Nfcapd::start(namespace);
    let nfacctd = Nfacctd::start(namespace);
    let ours = V5Collector::start(Some(namespace), SocketAddr::from((Ipv4Addr::LOCALHOST, TSHARK))).unwrap();
    let urls = [NFCAPD, NFACCTD, TSHARK].map(|port| format!("127.0.0.1:{port}"));
    let [first, second, third] = &urls;
    let collectors = ["--collector", first, "--collector", second, "--collector", third];
    let probe = Probe::start(PROBE, namespace, &link.metered.name, &collectors).unwrap();
    let socket = PacketSocket::open(&link.sender).unwrap();
    let packets = traffic();
    for packet in &packets {
        socket.send(&packet.frame()).unwrap();
    }
    let ended = probe.stop(Signal::SIGTERM).unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(ended.ledger.balanced(), "{}", ended.ledger.0);
    let expected = flows_of(&packets);
    assert!(expected.len() > 100, "several datagrams: {} flows", expected.len());
    let datagrams = ours.finish_raw().unwrap();
    let decoded = Export::decode(&datagrams).unwrap();
    assert_eq!(difference(&expected, &decoded.flows()), None, "netflow_parser");
    assert_eq!(difference(&expected, &tshark_flows(&datagrams)), None, "tshark");
    assert_eq!(difference(&expected, &nfcapd.flows()), None, "nfcapd and nfdump");
    assert_eq!(difference(&expected, &nfacctd.flows()), None, "nfacctd");
}

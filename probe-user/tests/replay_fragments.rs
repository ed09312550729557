// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ports of fragments in captures of other projects: against the rules written down once more, over every capture, and
//! against tshark, which reassembles.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod replay_support;

use std::{collections::BTreeMap, net::IpAddr, path::Path, process::Command};

use probe_common::{
    FlowKey, IpVersion, KEY_WORDS, Note,
    parse::{DeepBytes, ParsedPacket, SliceBytes},
};
use probe_user::capture::CaptureReader;
use replay_support::{Replayed, corpus, files, options, replay};

const SECOND: u64 = 1_000_000_000;

/// Packets and octets by flow key.
type Flows = BTreeMap<[u64; KEY_WORDS], (u64, u64)>;

fn add(flows: &mut Flows, key: &FlowKey, packets: u64, octets: u64) {
    let mut words = *key.words();
    // A flow has the VLAN of its first packet, which `options` do not ask for.
    words[5] &= options().key_mask;
    let flow = flows.entry(words).or_default();
    *flow = (flow.0 + packets, flow.1 + octets);
}

fn of_records(replayed: &Replayed) -> Flows {
    let mut flows = Flows::new();
    for record in &replayed.records {
        add(&mut flows, &record.key, record.packets, record.octets);
    }
    flows
}

/// What the rules make of a capture: firsts are known for 10 s, later fragments wait for 1 s.
#[derive(Default)]
struct Rules {
    flows: Flows,
    /// Key of the first, and when it came.
    firsts: BTreeMap<Datagram, (FlowKey, u64)>,
    /// Since when, and those that wait.
    waiting: BTreeMap<Datagram, (u64, Vec<ParsedPacket>)>,
    notes: [u64; 3],
}

type Datagram = (IpAddr, IpAddr, Option<u8>, u32);

impl Rules {
    fn take(&mut self, mut packet: ParsedPacket, now: u64) {
        let (key, fragment) = (packet.key, packet.fragment);
        let protocol = (key.ip_version() == IpVersion::V4).then_some(key.protocol());
        let datagram = (key.source(), key.destination(), protocol, fragment.identification);
        if self.waiting.get(&datagram).is_some_and(|(since, _)| now - since >= SECOND) {
            self.give_up(datagram);
        }
        let known = self.firsts.get(&datagram).filter(|(_, at)| now - at < 10 * SECOND);
        if fragment.offset == 0 && fragment.more {
            for held in self.waiting.remove(&datagram).unwrap_or_default().1 {
                self.join(held, &key);
            }
            self.firsts.insert(datagram, (key, now));
        } else if fragment.offset != 0 {
            match known.copied() {
                Some((first, _)) => self.join(packet, &first),
                None => self.waiting.entry(datagram).or_insert((now, Vec::new())).1.push(packet),
            }
            return;
        }
        if let Some(note) = packet.note.take() {
            self.notes[note as usize] += 1;
        }
        add(&mut self.flows, &key, 1, packet.octets.into());
    }

    fn join(&mut self, packet: ParsedPacket, first: &FlowKey) {
        let mut key = packet.key;
        key.set_ports(first.source_port(), first.destination_port());
        key.set_protocol(first.protocol());
        self.notes[Note::JoinedFragment as usize] += 1;
        add(&mut self.flows, &key, 1, packet.octets.into());
    }

    fn give_up(&mut self, datagram: Datagram) {
        for packet in self.waiting.remove(&datagram).unwrap_or_default().1 {
            self.notes[Note::LaterFragment as usize] += 1;
            add(&mut self.flows, &packet.key, 1, packet.octets.into());
        }
    }

    fn of(path: &Path) -> Self {
        let (mut rules, mut now) = (Self::default(), 0);
        let Ok(mut reader) = CaptureReader::open(path) else { return rules };
        while let Ok(Some(packet)) = reader.next_packet() {
            let bytes = DeepBytes(SliceBytes::cut(packet.data, packet.wire_length as usize));
            if let Some(Ok(parsed)) = packet.link_type.parse(&bytes) {
                now = packet.timestamp_ns.max(now);
                rules.take(parsed, now);
            }
        }
        while let Some((datagram, _)) = rules.waiting.first_key_value() {
            let datagram = *datagram;
            rules.give_up(datagram);
        }
        rules
    }
}

#[test]
fn every_capture_follows_the_rules() {
    let (mut captures, mut joined, mut alone) = (0, 0, 0);
    for folder in ["tcpdump", "suricata-verify", "arkime", "ipfixprobe"] {
        let Some(folder) = corpus(folder) else { return };
        for path in files(&folder, &["pcap", "pcapng", "gz"]) {
            let expected = Rules::of(&path);
            let [later, _, with_ports] = expected.notes;
            if later + with_ports == 0 {
                continue;
            }
            let replayed = replay(&path, options());
            assert_eq!(of_records(&replayed), expected.flows, "{}", path.display());
            assert_eq!(replayed.counts.notes, expected.notes, "{}", path.display());
            captures += 1;
            joined += with_ports;
            alone += later;
        }
    }
    println!("{captures} captures with later fragments: {joined} joined, {alone} without their first");
    assert!(captures >= 37 && joined >= 8584 && alone >= 10, "only {captures}: {joined}, {alone}");
}

const FIELDS: [&str; 11] = [
    "ip.reassembled_in",
    "ipv6.reassembled.in",
    "tcp.srcport",
    "tcp.dstport",
    "udp.srcport",
    "udp.dstport",
    "icmp.type",
    "icmp.code",
    "icmpv6.type",
    "icmpv6.code",
    "frame.number",
];

/// Protocol and ports as flow records have them, by number of the frame; those of a fragment are found in the frame in
/// which its datagram was whole.
fn tshark(path: &Path) -> Vec<Option<(u8, u16, u16)>> {
    let mut command = Command::new("tshark");
    command.args(["-2", "-o", "tcp.desegment_tcp_streams:FALSE", "-T", "fields", "-E", "separator=,"]);
    command.args(["-E", "occurrence=f", "-r"]).arg(path);
    let output = command.args(FIELDS.iter().flat_map(|field| ["-e", field])).output();
    let output = output.expect("`tshark` is not installed; `make test` installs it");
    let (mut ports, mut whole_in) = (Vec::new(), Vec::new());
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let fields: Vec<_> = line.split(',').map(|field| field.parse::<u16>().ok()).collect();
        let pair = |at: usize| fields[at].zip(fields[at + 1]);
        let icmp = |kind: u16, code: u16| kind << 8 | code;
        whole_in.push(fields[0].or(fields[1]));
        ports.push(
            pair(2)
                .map(|(from, to)| (6, from, to))
                .or(pair(4).map(|(from, to)| (17, from, to)))
                .or(pair(6).map(|(kind, code)| (1, 0, icmp(kind, code))))
                .or(pair(8).map(|(kind, code)| (58, 0, icmp(kind, code)))),
        );
    }
    let of =
        |(frame, whole): (usize, &Option<u16>)| ports[whole.map_or(frame, |number| usize::from(number) - 1)];
    whole_in.iter().enumerate().map(of).collect()
}

/// The flows of a capture with tshark's ports for fragments, and how many packets got them so; nothing for a capture
/// with fragments whose datagram tshark does not find whole.
fn reassembled(path: &Path) -> Option<(Flows, u64)> {
    let (mut flows, mut fragments) = (Flows::new(), 0);
    let ports = tshark(path);
    let mut reader = CaptureReader::open(path).ok()?;
    for ports in ports {
        let packet = reader.next_packet().ok()??;
        let bytes = DeepBytes(SliceBytes::cut(packet.data, packet.wire_length as usize));
        let Some(Ok(mut packet)) = packet.link_type.parse(&bytes) else { continue };
        if packet.fragment.is_part() {
            let (protocol, from, to) = ports?;
            packet.key.set_protocol(protocol);
            packet.key.set_ports(from, to);
            fragments += 1;
        }
        add(&mut flows, &packet.key, 1, packet.octets.into());
    }
    Some((flows, fragments))
}

/// Captures that are not compared, and why.
const TSHARK_OTHERWISE: [(&str, &str); 2] = [
    ("frag-35", "a fragment inside another: what goes on there is no header"),
    ("defrag-af-confusion-spray-h8", "8192 datagrams, of which none is whole; takes tshark a minute"),
];

#[test]
#[ignore = "needs tshark: run `make test`"]
fn tshark_finds_the_same_ports() {
    let (mut captures, mut fragments) = (0, 0);
    for folder in ["suricata-verify", "arkime"] {
        let Some(folder) = corpus(folder) else { return };
        for path in files(&folder, &["pcap", "pcapng"]) {
            let name = path.file_stem().unwrap();
            let [_, _, with_ports] = Rules::of(&path).notes;
            if with_ports == 0 || TSHARK_OTHERWISE.iter().any(|(other, _)| name == *other) {
                continue;
            }
            if let Some((flows, parts)) = reassembled(&path) {
                assert_eq!(of_records(&replay(&path, options())), flows, "{}", path.display());
                captures += 1;
                fragments += parts;
            }
        }
    }
    println!("{fragments} fragments in {captures} captures have the ports that tshark finds");
    assert!(captures >= 18 && fragments >= 213, "only {captures} captures, {fragments} fragments compared");
}

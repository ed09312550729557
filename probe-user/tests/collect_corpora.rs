// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Datagrams of real exporters decode as tshark decodes them: as many records in each, and every field that
//! both know has the same value. Templates go before the data that need them, each exporter from a port of
//! its own, in one capture.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod replay_support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use probe_lab::packets::{Packet, Transport};
use probe_lab::pcap_file::{PcapFormat, PcapWriter};
use probe_user::collect::Received;
use probe_user::collect::decode::{Decoder, Limits, Malformed, Source};
use probe_user::element::{ElementId, Value};
use replay_support::{corpus, files};
use serde_json::Value as Json;

const PORT: u16 = 2055;
const EXPORTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Elements and what tshark calls them.
const FIELDS: [(u16, &str); 74] = [
    (1, "octets"),
    (2, "packets"),
    (4, "protocol"),
    (5, "tos"),
    (6, "tcpflags"),
    (7, "srcport"),
    (8, "srcaddr"),
    (9, "srcmask"),
    (10, "inputint"),
    (11, "dstport"),
    (12, "dstaddr"),
    (13, "dstmask"),
    (14, "outputint"),
    (15, "nexthop"),
    (16, "srcas"),
    (17, "dstas"),
    (18, "bgpnexthop"),
    (21, "timeend"),
    (22, "timestart"),
    (23, "post_octets"),
    (24, "post_packets"),
    (25, "length_min"),
    (26, "length_max"),
    (27, "srcaddrv6"),
    (28, "dstaddrv6"),
    (32, "icmp_type_code_ipv4"),
    (34, "sampling_interval"),
    (35, "sampling_algorithm"),
    (36, "flow_active_timeout"),
    (37, "flow_inactive_timeout"),
    (39, "engine_id"),
    (40, "octetsexp"),
    (41, "packetsexp"),
    (42, "flowsexp"),
    (44, "srcprefix"),
    (48, "sampler_id"),
    (53, "ttl_max"),
    (54, "frag_ident"),
    (56, "srcmac"),
    (57, "post_dstmac"),
    (58, "vlanid"),
    (59, "post_vlanid"),
    (60, "ip_version"),
    (61, "direction"),
    (62, "nexthopv6"),
    (80, "dstmac"),
    (81, "post_srcmac"),
    (85, "permanent_octets"),
    (86, "permanent_packets"),
    (96, "appl_name"),
    (94, "appl_desc"),
    (98, "post_ip_diff_serv_code_point"),
    (130, "exporter_addr"),
    (131, "exporter_addr_v6"),
    (136, "flow_end_reason"),
    (138, "observation_point_id"),
    (148, "flow_id"),
    (160, "sys_init_time"),
    (176, "icmp_ipv4_type"),
    (177, "icmp_ipv4_code"),
    (184, "tcp_seq_num"),
    (195, "ip_dscp"),
    (225, "post_natsource_ipv4_address"),
    (226, "post_natdestination_ipv4_address"),
    (227, "post_naptsource_transport_port"),
    (228, "post_naptdestination_transport_port"),
    (231, "initiator_octets"),
    (232, "responder_octets"),
    (233, "firewall_event"),
    (234, "ingress_vrfid"),
    (235, "egress_vrfid"),
    (243, "dot1q_vlan_id"),
    (256, "ethernet_type"),
    (323, "observation_time_milliseconds"),
];

/// Where we differ from tshark on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Difference {
    /// We refuse the datagram; tshark shows what it finds.
    Refused(Malformed),
    /// We find so many records, tshark this many.
    Records(usize, usize),
}

const DIFFERENCES: [(&str, Difference); 4] = [
    // Headers that count 55582 and 163 records, in datagrams of 30.
    ("netflow5_test_invalid01.dat", Difference::Refused(Malformed::Count(55_582))),
    ("netflow5_test_invalid02.dat", Difference::Refused(Malformed::Count(163))),
    // The header counts two, which tshark takes for sets and stops; data come behind them.
    ("netflow9_test_invalid01.dat", Difference::Records(3, 0)),
    // tshark takes element 43 for an address, finds two octets and gives up in the first of 16 records.
    ("netflow9_test_h3c_data3281.dat", Difference::Records(16, 1)),
];

/// Fields that are not compared in a file.
const NOT_COMPARED: [(&str, &[&str]); 2] = [
    // They stand behind element 43, see above.
    ("netflow9_test_h3c_netstream_varstring_data3281.dat", &["sampling_interval", "sampling_algorithm"]),
    // Octets that are no text: tshark ends it at the first zero, we show all of it.
    ("netflow9_test_nprobe_dpi.dat", &["appl_name"]),
];

struct Datagram {
    file: String,
    from: u16,
    octets: Vec<u8>,
}

/// An exporter's files share the beginning of their names.
fn exporter(file: &str) -> &str {
    ["_opttpl", "_tpl", "_data"]
        .iter()
        .filter_map(|mark| file.find(mark))
        .min()
        .map_or(file, |at| &file[..at])
}

fn datagrams(folder: &Path) -> Vec<Datagram> {
    let mut names: Vec<String> = files(folder, &["dat"])
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names.len(), 92, "the corpus has changed");
    let only_templates = |name: &str| name.contains("tpl") && !name.contains("data");
    names.sort_by_key(|name| (exporter(name).to_owned(), !only_templates(name), name.clone()));
    let mut datagrams = Vec::new();
    let mut exporters: Vec<&str> = Vec::new();
    for name in &names {
        if exporters.last() != Some(&exporter(name)) {
            exporters.push(exporter(name));
        }
        let from = 10_000 + u16::try_from(exporters.len()).unwrap();
        let mut octets = fs::read(folder.join("spec/codecs").join(name)).unwrap();
        // These two are several messages, one after the other.
        let first = |octets: &[u8]| match name.as_str() {
            "netflow5.dat" => 24 + 48 * usize::from(octets[3]),
            "ipfix.dat" => usize::from(u16::from_be_bytes([octets[2], octets[3]])),
            _ => octets.len(),
        };
        while !octets.is_empty() {
            let rest = octets.split_off(first(&octets));
            datagrams.push(Datagram { file: name.clone(), from, octets });
            octets = rest;
        }
    }
    for version in [1, 7] {
        let from = 9000 + u16::from(version);
        datagrams.push(Datagram { file: format!("made of version {version}"), from, octets: made(version) });
    }
    datagrams
}

/// Two records of version 1 or 7, which the corpus does not have: every field has a value of its own.
fn made(version: u8) -> Vec<u8> {
    let mut octets = vec![0, version, 0, 2];
    octets.extend([500_000u32, 1_700_000_000, 123_000_000].map(u32::to_be_bytes).concat());
    if version == 7 {
        octets.extend([0, 0, 0, 9, 0, 0, 0, 0]);
    }
    for number in 0..2 {
        octets.extend([192, 0, 2, number + 1, 198, 51, 100, number + 3, 203, 0, 113, number + 5]);
        octets.extend([0, 7, 0, 8, 0, 0, 1, number, 0, 1, 2, number]);
        octets.extend([400_000u32, 450_000].map(u32::to_be_bytes).concat());
        octets.extend([0x9c, 0x40, 1, 0xbb]);
        match version {
            1 => octets.extend([0, 0, 6, 0xb8, 0x1b, 0, 0, 0, 0, 0, 0, 0]),
            _ => octets.extend([0, 0x1b, 6, 0xb8, 0xfd, 0xe8, 0xfd, 0xe9, 24, 16, 0, 0, 0, 0, 0, 0]),
        }
    }
    octets
}

fn tshark(datagrams: &[Datagram]) -> Vec<Json> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("corpus.pcap");
    let mut file = PcapWriter::new(File::create(&path).unwrap(), PcapFormat::default()).unwrap();
    for (number, datagram) in (1..).zip(datagrams) {
        let transport = Transport::Udp { source: datagram.from, destination: PORT };
        let to = IpAddr::from([192, 0, 2, 2]);
        let packet =
            Packet { payload: datagram.octets.clone(), ..Packet::new(EXPORTER.into(), to, transport) };
        file.write(number * 1_000_000_000, &packet.frame()).unwrap();
    }
    file.finish().unwrap();
    let port = format!("udp.port=={PORT},cflow");
    let output = Command::new("tshark")
        .args(["-n", "-d", &port, "-T", "json", "--no-duplicate-keys", "-r"])
        .arg(&path)
        .output()
        .expect("`tshark` is not installed (package tshark); `make test` installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let packets: Vec<Json> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(packets.len(), datagrams.len());
    packets.into_iter().map(|mut packet| packet["_source"]["layers"]["cflow"].take()).collect()
}

/// Values by name.
type Fields = BTreeMap<String, Vec<String>>;

/// The records of a dissected datagram, in their order.
fn records(tree: &Json, found: &mut Vec<Fields>) {
    let Json::Object(children) = tree else { return };
    let mut children: Vec<_> = children.iter().filter(|(_, child)| child.is_object()).collect();
    // "Flow 10" comes after "Flow 9".
    let number = |name: &str| {
        let digits = name.trim_start_matches(|letter: char| !letter.is_ascii_digit());
        let end = digits.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(digits.len());
        digits[..end].parse::<u32>().unwrap_or(0)
    };
    children.sort_by_key(|(name, _)| number(name));
    for (name, child) in children {
        if name.starts_with("Flow ") || name.starts_with("pdu ") {
            let mut fields = Fields::new();
            leaves(child, &mut fields);
            found.push(fields);
        } else {
            records(child, found);
        }
    }
}

fn leaves(tree: &Json, fields: &mut Fields) {
    let Json::Object(children) = tree else { return };
    for (name, child) in children {
        let values = if let Json::Array(values) = child { &values[..] } else { std::slice::from_ref(child) };
        for value in values {
            match value {
                Json::String(text) => fields.entry(name.clone()).or_default().push(plain(text)),
                other => leaves(other, fields),
            }
        }
    }
}

/// A value as `shown` gives it: hexadecimal numbers as decimal ones, times as nanoseconds.
fn plain(text: &str) -> String {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).unwrap().to_string();
    }
    if text.ends_with(" UTC") {
        return unix_ns(text).to_string();
    }
    text.to_owned()
}

/// Reads "Oct 25, 2018 12:24:32.022000000 UTC".
fn unix_ns(text: &str) -> u64 {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split([' ', ',', ':', '.']).filter(|word| !word.is_empty()).collect();
    let month = MONTHS.iter().position(|month| *month == words[0]).unwrap() as u64 + 1;
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    let (day, year) = (number(1), number(2));
    // Days since 1970, counting years from March (as in "days from civil").
    let shifted = if month > 2 { year } else { year - 1 };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + of_year - 719_468;
    ((days * 24 + number(3)) * 60 + number(4)) * 60_000_000_000 + number(5) * 1_000_000_000 + number(6)
}

fn shown(id: u16, value: &Value) -> String {
    let octets =
        |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":");
    match value {
        // Uptimes are shown in seconds.
        Value::Unsigned(ms) if matches!(id, 21 | 22) => format!("{}.{:03}000000", ms / 1000, ms % 1000),
        Value::Unsigned(number) => number.to_string(),
        Value::Ipv4(address) => address.to_string(),
        Value::Ipv6(address) => address.to_string(),
        Value::Mac(mac) => octets(mac),
        Value::Octets(other) => octets(other),
        Value::Time(ns) => ns.to_string(),
        Value::String(text) => text.clone(),
        other => panic!("a value that is not compared: {other:?}"),
    }
}

/// What is said differently about one record, and how many values are the same.
fn compare(
    file: &str,
    ours: &Received,
    theirs: &Fields,
    header: &Json,
    init_ms: Option<u64>,
    said: &mut Vec<String>,
) -> usize {
    let mut same = 0;
    let left_out = NOT_COMPARED.iter().find(|(name, _)| *name == file).map_or(&[][..], |(_, fields)| *fields);
    for (id, name) in FIELDS.iter().filter(|(_, name)| !left_out.contains(name)) {
        let values = ours.elements.iter().filter(|(found, _)| alike(*found) == Some(*id));
        let mine: Vec<String> = values.map(|(_, value)| shown(*id, value)).collect();
        let empty = Vec::new();
        let yours = theirs.get(&format!("cflow.{name}")).unwrap_or(&empty);
        if fixed(ours) && mine.is_empty() && yours.iter().all(|value| value == "0" || value == "0.0.0.0") {
            continue;
        }
        // tshark shows an uptime of 0 as the beginning of 1970.
        if matches!(id, 21 | 22) && mine == ["0.000000000"] && yours.is_empty() {
            continue;
        }
        // Uptimes of version 5 are Unix times with us, compared below; ICMP has its type in an element.
        if fixed(ours)
            && (matches!(id, 21 | 22 | 32) || matches!(id, 11) && theirs["cflow.protocol"] == ["1"])
        {
            continue;
        }
        if mine == *yours {
            same += mine.len();
        } else {
            said.push(format!("{file}: {name}: we say {mine:?}, tshark {yours:?}"));
        }
    }
    same + compare_times(file, ours, theirs, header, init_ms, said)
}

/// The element under whose name tshark shows one: the reverse direction as the forward one, Cisco's old
/// numbers for network address translation as IANA's, ports of UDP and of TCP as ports.
fn alike(element: ElementId) -> Option<u16> {
    match (element.enterprise, element.id) {
        (0, old @ 40_001..=40_004) => Some(old - 40_001 + 225),
        (0, 40_005) => Some(233),
        (0, 180 | 182) => Some(7),
        (0, 181 | 183) => Some(11),
        (0 | ElementId::REVERSE, id) => Some(id),
        _ => None,
    }
}

fn fixed(ours: &Received) -> bool {
    matches!(ours.version, 1 | 5 | 7)
}

/// Times in Unix milliseconds: as they stand in the record, or computed from its uptimes and what they count
/// from: the header of v5 and v9, or what an exporter of IPFIX has told (`init_ms`).
fn compare_times(
    file: &str,
    ours: &Received,
    theirs: &Fields,
    header: &Json,
    init_ms: Option<u64>,
    said: &mut Vec<String>,
) -> usize {
    let mut same = 0;
    // "12.726000000"
    let milliseconds = |text: &str| text.replace('.', "").parse::<u64>().unwrap() / 1_000_000;
    let uptime_now = header["cflow.sysuptime"].as_str().map(milliseconds);
    let now = unix_ns(header["cflow.timestamp"].as_str().unwrap()) / 1_000_000;
    for (id, absolute, uptime) in [(152, "abstimestart", "timestart"), (153, "abstimeend", "timeend")] {
        let mine = ours.get(ElementId::iana(id)).and_then(Value::time).map(|ns| ns / 1_000_000);
        let first = |name: &str| theirs.get(&format!("cflow.{name}")).and_then(|values| values.first());
        let absolute_ms = first(absolute).map(|time| time.parse::<u64>().unwrap() / 1_000_000);
        // tshark shows an uptime of 0 as the beginning of 1970.
        let uptime_ms =
            if absolute_ms == Some(0) { Some(0) } else { first(uptime).map(|text| milliseconds(text)) };
        let yours = match (absolute_ms.filter(|time| *time > 0), uptime_ms, uptime_now) {
            (Some(time), ..) => Some(time),
            (None, Some(uptime), Some(uptime_now)) => {
                // An uptime that is larger than the header's lies before the wrap.
                let wrap = if uptime > uptime_now + 100_000 { 1 << 32 } else { 0 };
                Some(now + uptime - uptime_now - wrap)
            }
            (None, Some(uptime), None) => init_ms.map(|init| init + uptime),
            (None, None, _) => None,
        };
        match (mine, yours) {
            (Some(mine), Some(yours)) if mine == yours => same += 1,
            (None, None) => {}
            (mine, yours) => said.push(format!("{file}: {absolute}: we say {mine:?}, tshark {yours:?}")),
        }
    }
    same
}

#[test]
fn datagrams_of_92_exporters_decode_as_tshark_decodes_them() {
    let Some(folder) = corpus("logstash-codec-netflow") else { return };
    let datagrams = datagrams(&folder);
    let dissected = tshark(&datagrams);
    let mut decoder = Decoder::new(Limits::default());
    let (mut said, mut same, mut total, mut refused) = (Vec::new(), 0, 0, 0);
    let mut init_ms = BTreeMap::new();
    for (datagram, tree) in datagrams.iter().zip(&dissected) {
        let file = &datagram.file;
        let mut ours = Vec::new();
        let source = Source { exporter: Some(SocketAddr::from((EXPORTER, datagram.from))), stream: 0 };
        let result = decoder.decode(source, &datagram.octets, |record| ours.push(record.clone()));
        let expected = DIFFERENCES.iter().find(|(name, _)| name == file).map(|(_, difference)| *difference);
        if let Err(malformed) = result {
            assert_eq!(expected, Some(Difference::Refused(malformed)), "{file}");
            refused += 1;
            continue;
        }
        let mut theirs = Vec::new();
        records(tree, &mut theirs);
        let counts = (ours.len(), theirs.len());
        match expected {
            None if counts.0 == counts.1 => {}
            None => said.push(format!("{file}: we find {} records, tshark {}", counts.0, counts.1)),
            Some(expected) => {
                assert_eq!(Difference::Records(counts.0, counts.1), expected, "{file}");
                continue;
            }
        }
        total += ours.len();
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let told =
                theirs.get("cflow.sys_init_time").map(|told| told[0].parse::<u64>().unwrap() / 1_000_000);
            if let Some(told) = told {
                init_ms.insert(datagram.from, told);
            }
            let init_ms = init_ms.get(&datagram.from).copied();
            same += compare(file, ours, theirs, tree, init_ms, &mut said);
        }
    }
    println!("{total} records with {same} equal values; defects: {:?}", decoder.defects());
    said.dedup();
    assert!(said.is_empty(), "{} differences:\n{}", said.len(), said.join("\n"));
    assert!(total > 480 && same > 6800, "only {total} records with {same} values compared");
    assert_eq!(refused, 2);
    // Five files come without the template of some of their data.
    let defects: Vec<_> = decoder.defects().iter().collect();
    assert_eq!(defects, [("no_template", 7)]);
}

/// Steps of xorshift64 (Marsaglia 2003), so that a failure can be repeated.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 16).unwrap()
}

#[test]
fn damaged_datagrams_of_real_exporters_are_read_within_bounds() {
    let Some(folder) = corpus("logstash-codec-netflow") else { return };
    let datagrams = datagrams(&folder);
    let limits = Limits { sessions: 16, templates: 8, fields: 64, octets: 50_000 };
    let mut decoder = Decoder::new(limits);
    let mut state = 0x2545_f491_4f6c_dd1d;
    let mut records = 0;
    for round in 0..100u64 {
        for datagram in &datagrams {
            let mut octets = datagram.octets.clone();
            // The first round is whole; then one to eight octets change, and some datagrams are cut.
            let changes = if round > 0 { next(&mut state) % 8 + 1 } else { 0 };
            for _ in 0..changes {
                let at = next(&mut state) % octets.len();
                octets[at] = [0, 0xff, 4, next(&mut state).to_le_bytes()[0]][next(&mut state) % 4];
            }
            if round % 5 == 4 {
                octets.truncate(next(&mut state) % octets.len());
            }
            let stream = if round % 3 == 2 { u64::from(datagram.from) } else { 0 };
            let source = Source { exporter: Some(SocketAddr::from((EXPORTER, datagram.from))), stream };
            let mut values = 0;
            let read = decoder.decode(source, &octets, |record| values += record.elements.len());
            assert!(values <= 3 * octets.len());
            records += read.map_or(0, |read| read.records);
            assert!(decoder.octets() <= limits.octets);
        }
    }
    assert!(records > 20_000, "hardly anything was read: {records} records");
}

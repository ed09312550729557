// SPDX-License-Identifier: Apache-2.0 OR MIT
//! tshark dissects the messages from a capture file.

use std::{fs::File, net::Ipv4Addr, path::Path, process::Command};

use probe_lab::{
    Datagram,
    packets::{Packet, Transport},
    pcap_file::{PcapFormat, PcapWriter},
};
use serde_json::{Map, Value};

use super::{
    elements::{Decoded, Element, Fields, unix_ms},
    tool::{folder, require},
};

/// Any port: tshark is told what runs there.
const PORT: u16 = 9999;

/// Its names for the elements that the tests look at.
const NAMES: &[(&str, u16)] = &[
    ("cflow.octets", 1),
    ("cflow.packets", 2),
    ("cflow.protocol", 4),
    ("cflow.tos", 5),
    ("cflow.tcpflags", 6),
    ("cflow.tcpflags16", 6),
    ("cflow.srcport", 7),
    ("cflow.srcaddr", 8),
    ("cflow.inputint", 10),
    ("cflow.dstport", 11),
    ("cflow.dstaddr", 12),
    ("cflow.outputint", 14),
    ("cflow.srcaddrv6", 27),
    ("cflow.dstaddrv6", 28),
    ("cflow.icmp_type_code_ipv4", 32),
    ("cflow.sampling_interval", 34),
    ("cflow.flow_active_timeout", 36),
    ("cflow.flow_inactive_timeout", 37),
    ("cflow.octetsexp", 40),
    ("cflow.packetsexp", 41),
    ("cflow.flowsexp", 42),
    ("cflow.sampler_id", 48),
    ("cflow.sampler_mode", 49),
    ("cflow.sampler_random_interval", 50),
    ("cflow.vlanid", 58),
    ("cflow.if_name", 82),
    ("cflow.if_descr", 83),
    ("cflow.flow_end_reason", 136),
    ("cflow.flow_exporter", 144),
    ("cflow.od_id", 149),
    ("cflow.dot1q_vlan_id", 243),
    ("cflow.dot1q_customer_vlan_id", 245),
    ("cflow.selector_id", 302),
    ("cflow.selector_algorithm", 304),
    ("cflow.sampling_packet_interval", 305),
    ("cflow.sampling_packet_space", 306),
    ("cflow.sampling_size", 309),
    ("cflow.sampling_population", 310),
    ("cflow.ignore_packets", 164),
    ("cflow.ignore_octets", 165),
    ("cflow.notsent_flows", 166),
    ("cflow.notsent_packets", 167),
    ("cflow.notsent_octets", 168),
];

/// What it found.
#[derive(Default, Debug)]
pub(crate) struct Dissected {
    /// Flows and options.
    pub(crate) records: Decoded,
    /// Remarks of its experts, each once for each message.
    pub(crate) remarks: Vec<String>,
}

/// Lets tshark dissect messages of any version. None may be malformed.
pub(crate) fn dissect(datagrams: &[Datagram]) -> Dissected {
    require("tshark", "tshark");
    let folder = folder("tshark");
    let path = folder.path().join("export.pcap");
    write_pcap(&path, datagrams);
    let mut command = Command::new("tshark");
    command.arg("-r").arg(&path).env("TZ", "UTC");
    command.args(["-n", "-d", &format!("udp.port=={PORT},cflow"), "-T", "json", "--no-duplicate-keys"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    let frames: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(frames.len(), datagrams.len(), "one frame for each datagram");
    let mut dissected = Dissected::default();
    for frame in &frames {
        let layers = &frame["_source"]["layers"];
        assert!(layers.get("_ws.malformed").is_none(), "tshark says malformed: {layers}");
        let Value::Object(message) = &layers["cflow"] else { panic!("no flow export: {layers}") };
        dissected.add(message);
    }
    dissected
}

impl Dissected {
    fn add(&mut self, message: &Map<String, Value>) {
        let text = Value::Object(message.clone()).to_string();
        let remark = "\"_ws.expert.message\":\"";
        for part in text.split(remark).skip(1) {
            self.remarks.push(part.split('"').next().unwrap().to_owned());
        }
        // IPFIX has no uptime: its records have times of their own.
        let boot_ms = message.get("cflow.sysuptime").map(|uptime| {
            date_ms(message["cflow.timestamp"].as_str().unwrap()) - milliseconds(uptime.as_str().unwrap())
        });
        for (name, set) in message {
            let Value::Object(set) = set else { continue };
            if name.starts_with("pdu ") {
                self.records.flows.push(fields(set).seen(boot_ms));
            }
            // Templates have neither flows nor an id of a data set.
            let is_data = set
                .get("cflow.flowset_id")
                .and_then(Value::as_str)
                .is_some_and(|id| id.parse::<u16>().unwrap() >= 256);
            if !is_data {
                continue;
            }
            for (name, record) in set {
                let Some(record) = record.as_object().filter(|_| name.starts_with("Flow ")) else { continue };
                let fields = fields(record);
                if fields.0.contains_key(&4) {
                    self.records.flows.push(fields.seen(boot_ms));
                } else {
                    self.records.options.push(fields);
                }
            }
        }
    }
}

fn fields(record: &Map<String, Value>) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in record {
        // What is there twice is there of the reverse direction too, behind the forward one.
        let value = value.get(0).unwrap_or(value);
        match value {
            // Both times stand in a tree below the duration.
            Value::Object(tree) if name == "cflow.timedelta_tree" => {
                for (id, name) in [(152, "cflow.abstimestart"), (153, "cflow.abstimeend")] {
                    if let Some(text) = tree.get(name).and_then(Value::as_str) {
                        fields.0.insert(id, Element::Number(date_ms(text)));
                    }
                }
                for (id, name) in [(22, "cflow.timestart"), (21, "cflow.timeend")] {
                    if let Some(text) = tree.get(name).and_then(Value::as_str) {
                        fields.0.insert(id, Element::Number(milliseconds(text)));
                    }
                }
            }
            Value::String(text) => {
                if let Some((_, id)) = NAMES.iter().find(|(known, _)| known == name) {
                    fields.0.insert(*id, Element::of_text(text));
                }
            }
            _ => {}
        }
    }
    // Both halves of element 139 stand by themselves.
    let half = |name: &str| record.get(name)?.as_str()?.parse::<u64>().ok();
    if let (Some(kind), Some(code)) = (half("cflow.icmp_ipv6_type"), half("cflow.icmp_ipv6_code")) {
        fields.0.insert(139, Element::Number(kind << 8 | code));
    }
    fields
}

/// Seconds with a fraction, as milliseconds.
fn milliseconds(text: &str) -> u64 {
    let (seconds, fraction) = text.split_once('.').unwrap();
    seconds.parse::<u64>().unwrap() * 1000 + fraction[..3].parse::<u64>().unwrap()
}

/// A time such as `Nov 21, 2026 03:11:02.001000000 UTC`.
fn date_ms(text: &str) -> u64 {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let parts: Vec<&str> = text.split_ascii_whitespace().collect();
    let [month, day, year, time, "UTC"] = parts.as_slice() else { panic!("no time: {text}") };
    let month = MONTHS.iter().position(|name| name == month).unwrap() + 1;
    unix_ms(
        year.parse().unwrap(),
        i64::try_from(month).unwrap(),
        day.trim_end_matches(',').parse().unwrap(),
        time,
    )
}

/// Writes datagrams as a capture file.
fn write_pcap(path: &Path, datagrams: &[Datagram]) {
    let mut file = PcapWriter::new(File::create(path).unwrap(), PcapFormat::default()).unwrap();
    for (number, Datagram { from, octets }) in (1..).zip(datagrams) {
        let transport = Transport::Udp { source: from.port(), destination: PORT };
        let packet = Packet {
            payload: octets.clone(),
            ..Packet::new(from.ip(), Ipv4Addr::LOCALHOST.into(), transport)
        };
        file.write(number * 1_000_000_000, &packet.frame()).unwrap();
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Wireshark finds nothing wrong with what any encoder writes.

mod encode_support;

use std::{fs::File, io::BufWriter, net::Ipv4Addr, process::Command};

use encode_support::{Line, SECOND, UNIX, now, ping, plain, plain_v6, settings, told};
use probe_lab::packets::{Packet, Transport};
use probe_lab::pcap_file::{PcapFormat, PcapWriter};
use probe_user::export::encode::Told;
use serde_json::Value;

const URLS: [(&str, u16); 12] = [
    ("v1://h", 2055),
    ("v5://h?engine_id=7", 2055),
    ("v7://h?engine_id=7", 2055),
    ("v9://h", 2055),
    ("v9://h?fields=full,v5,samplingInterval&sampling_options=psamp", 2055),
    ("v9://h?fields=minimal", 2055),
    ("ipfix://h", 4739),
    ("ipfix://h?fields=full,v5,samplingInterval&sampling_options=psamp", 4739),
    ("ipfix://h?fields=l2&biflow=on", 4739),
    ("ipfix://h?fields=full&biflow=full", 4739),
    ("ipfix://h?sampling=7&interfaces=engine-port", 4739),
    ("ipfix://h?options=off&fields=minimal", 4739),
];

/// Messages of templates, options, a change of sampling, and several of flows.
fn messages(url: &str) -> Vec<Vec<u8>> {
    let mut line = Line::new(&settings(url, 1472), 0);
    for (second, overload_sampling) in [(0, 1), (1, 4), (2, 1)] {
        let now = now(UNIX + second * SECOND, second * SECOND);
        line.tick(&Told { overload_sampling, ..told() }, now);
        for _ in 0..20 {
            for record in [plain(), plain_v6(), ping()] {
                if record.key.source().is_ipv4() || !url.starts_with(['v']) || url.starts_with("v9") {
                    line.encode(&record, now);
                    line.pair(&record, Some(&record), now);
                }
            }
        }
        line.seal(now);
    }
    line.take()
}

#[test]
#[ignore = "needs tshark: run `make test`"]
fn tshark_has_nothing_to_complain_about() {
    let folder = tempfile::tempdir().unwrap();
    for (index, (url, port)) in URLS.into_iter().enumerate() {
        let path = folder.path().join(format!("{index}.pcap"));
        let out = BufWriter::new(File::create(&path).unwrap());
        let mut writer = PcapWriter::new(out, PcapFormat::default()).unwrap();
        let messages = messages(url);
        for message in &messages {
            let transport = Transport::Udp { source: 40_000, destination: port };
            let here = Ipv4Addr::new(192, 0, 2, 1).into();
            let packet = Packet { payload: message.clone(), ..Packet::new(here, here, transport) };
            writer.write(UNIX, &packet.frame()).unwrap();
        }
        writer.finish().unwrap();
        let output = Command::new("tshark").args(["-T", "json", "-r"]).arg(&path).output();
        let output = output.expect("`tshark` is not installed; `make test` installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        let frames: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(frames.len(), messages.len());
        for frame in &frames {
            let frame = frame["_source"]["layers"].as_object().unwrap();
            assert!(frame.contains_key("cflow"), "{url}: {frame:#?}");
            let text = serde_json::to_string_pretty(frame).unwrap();
            for trouble in ["_ws.expert", "_ws.malformed", "No Template", "no template", "unknown field"] {
                assert!(!text.contains(trouble), "{url}: {trouble}: {text}");
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! nfcapd stores, nfdump reads back.

use std::{fs, process::Command};

use probe_lab::{FlowId, Flows, Namespace, Process, Sums};
use serde_json::Value;

use super::{
    elements::unix_ms_of,
    seen::Seen,
    tool::{SOON, address, folder, narrow, number, require, wait_for_port},
};

/// A running nfcapd, which keeps what arrives in a file of its own.
pub(crate) struct Nfcapd {
    process: Process,
    folder: tempfile::TempDir,
}

/// What it made of it.
pub(crate) struct Stored {
    /// Its records, counts as nfdump shows them: multiplied where it knows of sampling.
    pub(crate) flows: Vec<Seen>,
    /// What it has of the other direction, in the same records.
    pub(crate) reverse: Flows,
    /// How often a sequence number was not the expected one.
    pub(crate) sequence_failures: u64,
    /// Whether nfdump marks records as sampled.
    pub(crate) sampled: bool,
    /// Its log.
    pub(crate) log: String,
}

impl Nfcapd {
    /// Starts it and waits until it listens.
    pub(crate) fn start(namespace: &Namespace, port: u16) -> Self {
        require("nfcapd", "nfdump");
        let folder = folder("nfcapd");
        let path = folder.path().to_string_lossy().into_owned();
        // Files are cut at the end only.
        let args = ["-w", &path, "-p", &port.to_string(), "-b", "127.0.0.1", "-t", "3600"];
        let mut process = Process::start(Some(namespace), "nfcapd", &args).unwrap();
        process.wait_for_message("Startup nfcapd", SOON).unwrap();
        wait_for_port(namespace, port);
        Self { process, folder }
    }

    /// Ends it and reads its file.
    pub(crate) fn finish(mut self) -> Stored {
        assert!(self.process.terminate(SOON).unwrap().success(), "{}", self.process.stderr());
        let log = self.process.stderr();
        let mut files: Vec<_> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nfcapd.2"))
            })
            .collect();
        files.sort();
        assert!(!files.is_empty(), "nfcapd left no file; it said:\n{log}");
        let mut records = Vec::new();
        for file in &files {
            let mut command = Command::new("nfdump");
            let output = command.arg("-r").arg(file).args(["-o", "json"]).env("TZ", "UTC").output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            // Without records it prints no list.
            let part: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
            assert!(!part.is_empty() || !text.contains("src"), "nfdump printed {text}");
            records.extend(part);
        }
        assert_eq!(sum_after(&log, "Bad Packets: "), 0, "nfcapd said:\n{log}");
        Stored {
            flows: records.iter().map(seen).collect(),
            reverse: records.iter().filter_map(reverse).collect(),
            sequence_failures: sum_after(&log, "Sequence Errors: "),
            sampled: records.iter().any(|record| record["sampled"] == 1),
            log,
        }
    }
}

/// The sum of the numbers behind `label`: nfcapd tells its counts whenever it cuts a file.
fn sum_after(log: &str, label: &str) -> u64 {
    let parts: Vec<&str> = log.split(label).skip(1).collect();
    assert!(!parts.is_empty(), "nfcapd did not say {label:?} but:\n{log}");
    let digits =
        |text: &str| text.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse::<u64>().unwrap();
    parts.iter().map(|part| digits(part)).sum()
}

fn seen(record: &Value) -> Seen {
    let version = if record.get("src4_addr").is_some() { '4' } else { '6' };
    // It shows an ICMP flow's type and code in place of the ports.
    let destination_port = match record["icmp_type"].as_u64() {
        Some(kind) => kind << 8 | number(record, "icmp_code"),
        None => record["dst_port"].as_u64().unwrap_or(0),
    };
    Seen {
        flow: FlowId {
            source: address(record, &format!("src{version}_addr")),
            destination: address(record, &format!("dst{version}_addr")),
            source_port: narrow(record["src_port"].as_u64().unwrap_or(0)),
            destination_port: narrow(destination_port),
            protocol: narrow(number(record, "proto")),
            tos: narrow(number(record, "src_tos")),
        },
        vlan: narrow(record["src_vlan"].as_u64().unwrap_or(0)),
        packets: number(record, "in_packets"),
        octets: number(record, "in_bytes"),
        tcp_flags: flags(record["tcp_flags"].as_str().unwrap_or("")),
        // Left out where it and the other one are 0.
        interface: narrow(record["input_snmp"].as_u64().unwrap_or(0)),
        start_ms: unix_ms_of(record["first"].as_str().unwrap()),
        end_ms: unix_ms_of(record["last"].as_str().unwrap()),
    }
}

fn reverse(record: &Value) -> Option<(FlowId, Sums)> {
    let sums = Sums { packets: record["out_packets"].as_u64()?, octets: number(record, "out_bytes") };
    let FlowId { source, destination, source_port, destination_port, .. } = seen(record).flow;
    let flow = FlowId {
        source: destination,
        destination: source,
        source_port: destination_port,
        destination_port: source_port,
        ..seen(record).flow
    };
    Some((flow, sums))
}

/// Flags as letters, the highest first: `CEUAPRSF`, a dot for each that is not set.
fn flags(letters: &str) -> u8 {
    letters.chars().fold(0, |flags, letter| flags << 1 | u8::from(letter != '.'))
}

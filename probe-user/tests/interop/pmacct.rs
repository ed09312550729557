// SPDX-License-Identifier: Apache-2.0 OR MIT
//! nfacctd of pmacct, with its table printed at the end.

use std::{fs, path::PathBuf};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use probe_lab::{FlowId, Namespace, Process, clock::wait_until};
use serde_json::Value;

use super::{
    elements::unix_ms_of,
    seen::Seen,
    tool::{SOON, address, folder, narrow, number, require, wait_for_port},
};

/// A running nfacctd.
pub(crate) struct Nfacctd {
    process: Process,
    output: PathBuf,
    _folder: tempfile::TempDir,
}

/// What it made of it.
pub(crate) struct Counted {
    /// Its records, counts as it shows them.
    pub(crate) flows: Vec<Seen>,
    /// How often a sequence number was not the expected one.
    pub(crate) sequence_failures: usize,
    /// Its log.
    pub(crate) log: String,
}

impl Nfacctd {
    /// Starts it and waits until it listens. With `renormalize` it multiplies counts by the sampling rate.
    pub(crate) fn start(namespace: &Namespace, port: u16, renormalize: bool) -> Self {
        require("nfacctd", "pmacct");
        let folder = folder("nfacctd");
        let (configuration, output) = (folder.path().join("nfacctd.conf"), folder.path().join("flows.json"));
        // The checks of sequence numbers are off by default, and tell of failures in the log.
        let text = format!(
            "daemonize: false\nnfacctd_ip: 127.0.0.1\nnfacctd_port: {port}\nnfacctd_disable_checks: false\n\
             nfacctd_renormalize: {renormalize}\ntimestamps_utc: true\nplugins: print\n\
             aggregate: src_host, dst_host, src_port, dst_port, proto, tos, tcpflags, in_iface, vlan, \
             timestamp_start, timestamp_end\n\
             print_output: json\nprint_output_file: {}\nprint_refresh_time: 3600\n",
            output.display()
        );
        fs::write(&configuration, text).unwrap();
        let configuration = configuration.to_string_lossy().into_owned();
        let process = Process::start(Some(namespace), "nfacctd", &["-f", &configuration]).unwrap();
        wait_for_port(namespace, port);
        Self { process, output, _folder: folder }
    }

    /// Ends it and reads its table.
    pub(crate) fn finish(mut self) -> Counted {
        self.process.signal(Signal::SIGINT).unwrap();
        self.process.wait(SOON).unwrap();
        // The plugin is a process of its own, which writes after its parent has ended.
        let said = || format!("{}{}", self.process.stdout(), self.process.stderr());
        let complete = || said().contains("Purging cache - END");
        assert!(wait_until(SOON, complete), "nfacctd did not write its table; it said:\n{}", said());
        let log = said();
        // Without records it writes no file.
        let text = fs::read_to_string(&self.output).unwrap_or_default();
        let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Counted {
            flows: records.iter().map(seen).collect(),
            sequence_failures: log.matches("expecting flow").count(),
            log,
        }
    }
}

impl Drop for Nfacctd {
    fn drop(&mut self) {
        // Killed with a test that failed, it would leave its plugin behind, which looks after itself only when
        // it is told of the end.
        if self.process.is_running() {
            for plugin in children(self.process.id()) {
                // It may have ended by now.
                kill(plugin, Signal::SIGKILL).ok();
            }
        }
    }
}

/// Processes that a process has started itself.
fn children(id: u32) -> Vec<Pid> {
    let list = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    list.split_ascii_whitespace().filter_map(|id| id.parse().ok().map(Pid::from_raw)).collect()
}

fn seen(record: &Value) -> Seen {
    Seen {
        flow: FlowId {
            source: address(record, "ip_src"),
            destination: address(record, "ip_dst"),
            source_port: narrow(number(record, "port_src")),
            destination_port: narrow(number(record, "port_dst")),
            protocol: protocol(&record["ip_proto"]),
            tos: narrow(number(record, "tos")),
        },
        vlan: narrow(number(record, "vlan")),
        packets: number(record, "packets"),
        octets: number(record, "bytes"),
        tcp_flags: narrow(number(record, "tcp_flags")),
        interface: narrow(number(record, "iface_in")),
        start_ms: unix_ms_of(record["timestamp_start"].as_str().unwrap()),
        end_ms: unix_ms_of(record["timestamp_end"].as_str().unwrap()),
    }
}

/// It names the protocols it knows.
fn protocol(value: &Value) -> u8 {
    match value.as_str() {
        Some("icmp") => 1,
        Some("tcp") => 6,
        Some("udp") => 17,
        Some("gre") => 47,
        Some("esp") => 50,
        Some("ipv6-icmp") => 58,
        other => panic!("a protocol that was not sent: {other:?}"),
    }
}

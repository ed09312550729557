// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An exporter with the clock and the queue that feed it, for tests of several collectors.
#![allow(dead_code, reason = "each test uses part of it")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use probe_common::{Detail, FlowKey};
use probe_user::export::{
    CollectorStats, CollectorUrl, ExportStats, Exporter, ExporterOptions, NotSelected, Sink, open,
};
use probe_user::flow::{EndReason, FlowRecord, Timestamp};
use probe_user::queue::{Producer, ring};

pub(crate) const UNIX: u64 = 1_780_000_000_000_000_000;
pub(crate) const MS: Duration = Duration::from_millis(1);

/// A record of conversation `n`, in one direction or the other.
pub(crate) fn record(n: u32, back: bool) -> FlowRecord {
    let [_, b, c, d] = n.to_be_bytes();
    let (client, server) = ([10, b, c, d], [192, 0, 2, 1 + d % 8]);
    let (mut key, ports) = if back {
        (FlowKey::ipv4(server, client, 6, 0), (443, 40_000 + u16::from(d)))
    } else {
        (FlowKey::ipv4(client, server, 6, 0), (40_000 + u16::from(d), 443))
    };
    key.set_ports(ports.0, ports.1);
    key.set_ingress_interface(3);
    let start_ns = UNIX - 60_000_000_000 + u64::from(n) * 1_000_000 + u64::from(back);
    FlowRecord {
        key,
        packets: u64::from(n) + 1,
        octets: u64::from(n) * 100 + 40,
        start_ns,
        end_ns: start_ns + 5_000_000_000,
        tcp_flags: 0x1b,
        end_reason: EndReason::Idle,
        detail: Detail::UNKNOWN,
    }
}

/// Both directions of `count` conversations, the answers some way behind the questions.
pub(crate) fn conversations(count: u32) -> Vec<FlowRecord> {
    let lag = 100;
    (0..count + lag)
        .flat_map(|n| {
            let there = (n < count).then(|| record(n, false));
            let back = n.checked_sub(lag).map(|n| record(n, true));
            [there, back].into_iter().flatten()
        })
        .collect()
}

/// An exporter, what feeds it, and the clock that both are given.
pub(crate) struct Bench {
    pub(crate) exporter: Exporter,
    pub(crate) producer: Producer<FlowRecord>,
    pub(crate) now: Timestamp,
}

impl Bench {
    pub(crate) fn new(urls: &[String], options: ExporterOptions) -> Self {
        let collectors = urls.iter().map(|url| {
            let url: CollectorUrl = url.parse().unwrap();
            let sink = open(&url).unwrap();
            (url, sink)
        });
        Self::of(collectors.collect(), options)
    }

    pub(crate) fn of(collectors: Vec<(CollectorUrl, Box<dyn Sink>)>, options: ExporterOptions) -> Self {
        let (producer, consumer) = ring(4096);
        let exporter = Exporter::new(options, collectors, vec![consumer], None);
        Self { exporter, producer, now: Timestamp(0) }
    }

    pub(crate) fn stats(&self) -> std::sync::Arc<ExportStats> {
        self.exporter.stats()
    }

    pub(crate) fn step(&mut self, time: Duration) -> bool {
        self.now = self.now + time;
        self.exporter.step(UNIX + self.now.0, self.now).done
    }

    /// Feeds records, `after` each step.
    pub(crate) fn feed(&mut self, records: &[FlowRecord], after: &mut dyn FnMut()) {
        let mut rest = records;
        while !rest.is_empty() {
            let taken = self.producer.push_slice(&rest[..rest.len().min(700)]);
            rest = &rest[taken..];
            self.step(MS);
            after();
        }
        while !self.producer.is_empty() {
            self.step(MS);
            after();
        }
    }

    pub(crate) fn flush(&mut self, after: &mut dyn FnMut()) {
        let deadline = self.now + Duration::from_millis(3500);
        for _ in 0..4000 {
            self.now = self.now + MS;
            if self.exporter.flush(UNIX + self.now.0, self.now, deadline).done {
                return;
            }
            after();
        }
        panic!("the flush does not end");
    }
}

pub(crate) fn not_selected(stats: &CollectorStats, reason: NotSelected) -> u64 {
    stats.not_selected[reason as usize].get()
}

/// Every record that the exporter took is in the collector's books, once.
pub(crate) fn assert_conserved(stats: &ExportStats) {
    for collector in &stats.collectors {
        let out: u64 = collector.not_selected.iter().map(|count| count.get()).sum();
        let seen = out + collector.offered.get() + collector.paired.get() + collector.held.get();
        assert_eq!(seen, stats.records.get(), "{collector:?}");
        assert_eq!(collector.imbalance(), 0, "{collector:?}");
    }
}

/// Addresses of both ends, lower one first.
pub(crate) fn ends(a: IpAddr, b: IpAddr) -> (IpAddr, IpAddr) {
    (a.min(b), a.max(b))
}

pub(crate) const LOCALHOST: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Exporter to collector over real sockets on the loopback interface: nothing lost, nothing counted twice.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use probe_common::{Detail, FlowKey};
use probe_lab::SharedOutput;
use probe_user::collect::{Collector, CollectorOptions, OutputFormat};
use probe_user::export::{
    CollectorStats, CollectorUrl, DropReason, ErrorReason, Exporter, ExporterOptions, Mechanism,
    NotRepresentable, PrintFormat, Printer, Sink, UdpSink, open,
};
use probe_user::flow::{EndReason, FlowRecord, Timestamp};
use probe_user::queue::{Producer, ring};

const UNIX: u64 = 1_780_000_000_000_000_000;
const MS: Duration = Duration::from_millis(1);

fn collector(format: OutputFormat) -> (Collector, SharedOutput) {
    let out = SharedOutput::default();
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let options = CollectorOptions::udp(listen, format);
    (Collector::bind(options, Box::new(out.clone())).unwrap(), out)
}

/// A record that differs from any other in most fields.
fn record(n: u32) -> FlowRecord {
    let [a, b, c, d] = n.to_be_bytes();
    let protocol = [6, 17, 1][n as usize % 3];
    let mut key = FlowKey::ipv4([10 + a, b, c, d], [192, b, c, d], protocol, d);
    key.set_ports(if protocol == 1 { 0 } else { u16::from_be_bytes([c, d]) }, 53 + u16::from(d));
    key.set_ingress_interface(3 + n % 2);
    let start_ns = UNIX - 60_000_000_000 + u64::from(n) * 1_234_567;
    FlowRecord {
        key,
        packets: u64::from(n) + 1,
        octets: u64::from(n) * 100 + 40,
        start_ns,
        end_ns: start_ns + u64::from(n % 1000) * 10_000_000 / 4,
        tcp_flags: if protocol == 6 { 0x1b } else { 0 },
        end_reason: EndReason::Idle,
        detail: Detail::UNKNOWN,
    }
}

/// An exporter, what feeds it, and the clock that both are given.
struct Bench {
    exporter: Exporter,
    producer: Producer<FlowRecord>,
    now: Timestamp,
}

impl Bench {
    fn new(urls: &[String], options: ExporterOptions, printer: Option<Printer>) -> Self {
        let collectors = urls.iter().map(|url| {
            let url: CollectorUrl = url.parse().unwrap();
            let sink = open(&url).unwrap();
            (url, sink)
        });
        Self::of(collectors.collect(), options, printer)
    }

    fn of(
        collectors: Vec<(CollectorUrl, Box<dyn Sink>)>,
        options: ExporterOptions,
        printer: Option<Printer>,
    ) -> Self {
        let (producer, consumer) = ring(4096);
        let exporter = Exporter::new(options, collectors, vec![consumer], printer);
        Self { exporter, producer, now: Timestamp(0) }
    }

    fn step(&mut self) -> bool {
        self.now = self.now + MS;
        self.exporter.step(UNIX + self.now.0, self.now).done
    }

    fn flush(&mut self, after: &mut impl FnMut()) {
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

fn assert_balanced(stats: &CollectorStats) {
    assert_eq!(stats.imbalance(), 0, "{stats:?}");
}

fn dropped(stats: &CollectorStats) -> u64 {
    stats.dropped.iter().map(|count| count.get()).sum()
}

#[test]
fn every_record_arrives_as_it_was_at_every_collector() {
    const RECORDS: u32 = 20_000;
    let (mut json, json_out) = collector(OutputFormat::Json);
    let (mut csv, csv_out) = collector(OutputFormat::Csv);
    let (mut small, small_out) = collector(OutputFormat::Json);
    let urls = [
        format!("v5://{}", json.local_addr()),
        format!("{}", csv.local_addr()),
        format!("v5://{}?engine_id=40&mtu=576&source=127.0.0.2", small.local_addr()),
    ];
    let printed = SharedOutput::default();
    let printer = Printer::new(PrintFormat::Json, Box::new(printed.clone()));
    let options =
        ExporterOptions { interfaces: vec![(3, 0), (4, 1)], lossless: true, ..ExporterOptions::default() };
    let mut bench = Bench::new(&urls, options, Some(printer));
    let records: Vec<_> = (0..RECORDS).map(record).collect();
    let mut rest = &records[..];
    let mut collect = || {
        for collector in [&mut json, &mut csv, &mut small] {
            collector.step(Timestamp(0), Duration::ZERO).unwrap();
        }
    };
    while !rest.is_empty() {
        let taken = bench.producer.push_slice(&rest[..rest.len().min(700)]);
        rest = &rest[taken..];
        bench.step();
        collect();
    }
    bench.flush(&mut collect);
    while [&mut json, &mut csv, &mut small]
        .map(|collector| collector.step(Timestamp(0), 20 * MS).unwrap().datagrams)
        .iter()
        .any(|datagrams| *datagrams > 0)
    {}

    let stats = bench.exporter.stats();
    for (collector, stats) in [&json, &csv, &small].iter().zip(&stats.collectors) {
        let totals = collector.totals();
        assert_eq!((totals.records, totals.datagrams), (u64::from(RECORDS), stats.datagrams.get()));
        assert_eq!(totals.packets, records.iter().map(|record| record.packets).sum::<u64>());
        assert_eq!(totals.octets, records.iter().map(|record| record.octets).sum::<u64>());
        assert_eq!((totals.malformed, totals.overflowed), ([0; 5], 0));
        let sequences = collector.sequences();
        assert_eq!((sequences.missed, sequences.late, sequences.restarts), (0, 0, 0));
        assert_eq!(sequences.exporters(), 2, "one engine for each interface");
        assert_eq!(stats.records.get(), u64::from(RECORDS));
        assert_eq!(stats.sequence.get(), u64::from(RECORDS));
        assert_balanced(stats);
    }
    // Both collectors read the same, and the same as was printed (end reason and direction are not in version 5).
    let lines = |out: &SharedOutput| {
        let unknown = [r#","flowEndReason":1"#, r#","flowDirection":0"#];
        let known = |line: &str| unknown.iter().fold(line.to_owned(), |line, it| line.replace(it, ""));
        let mut lines: Vec<String> = out.text().lines().map(known).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&printed).len(), RECORDS as usize);
    assert!(lines(&json_out) == lines(&printed));
    assert!(lines(&small_out) == lines(&printed));
    assert_eq!(csv_out.text().lines().count(), RECORDS as usize + 1);
}

#[test]
fn all_mechanisms_put_the_same_on_the_wire() {
    let mut seen = Vec::new();
    for mechanism in [Mechanism::Segmentation, Mechanism::Batch, Mechanism::Single] {
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let url: CollectorUrl = receiver.local_addr().unwrap().to_string().parse().unwrap();
        let mut sink = UdpSink::open(&url).unwrap();
        sink.set_mechanism(mechanism);
        let mut bench = Bench::of(vec![(url, Box::new(sink))], ExporterOptions::default(), None);
        let records: Vec<_> = (0..1000).map(record).collect();
        assert_eq!(bench.producer.push_slice(&records), 1000);
        bench.now = Timestamp(0) + Duration::from_secs(60);
        // Past the deadline everything leaves in one attempt, so in runs of many datagrams.
        assert!(bench.exporter.flush(UNIX, bench.now, bench.now).done);
        let sent = bench.exporter.stats().collectors[0].datagrams.get();
        let receive = |_| {
            let mut buffer = [0; 2000];
            let len = receiver.recv(&mut buffer).unwrap();
            buffer[..len].to_vec()
        };
        seen.push((0..sent).map(receive).collect::<Vec<_>>());
    }
    assert_eq!(seen[0].len(), 34, "500 records for each of two interfaces");
    assert!(seen[0] == seen[1] && seen[0] == seen[2]);
}

#[test]
fn a_partly_filled_datagram_leaves_within_a_second() {
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let urls = [receiver.local_addr().unwrap().to_string()];
    let mut bench = Bench::new(&urls, ExporterOptions::default(), None);
    bench.producer.push_slice(&[record(1)]);
    let steps = (1..).find(|_| bench.step()).unwrap();
    assert!((700..1000).contains(&steps), "{steps} ms");
    let mut buffer = [0; 2000];
    assert_eq!(receiver.recv(&mut buffer).unwrap(), 72);
}

#[test]
fn ipv6_and_split_flows_are_in_the_balance() {
    let (mut collector, _) = collector(OutputFormat::Json);
    let mut bench = Bench::new(&[collector.local_addr().to_string()], ExporterOptions::default(), None);
    let mut large = record(2);
    (large.packets, large.octets) = (5_000_000_000, 7_500_000_000_001);
    let mut ipv6 = record(3);
    ipv6.key = FlowKey::ipv6([1, 2], [3, 4], 17, 0);
    bench.producer.push_slice(&[record(1), large, ipv6]);
    bench.flush(&mut || ());
    while collector.step(Timestamp(0), 20 * MS).unwrap().datagrams > 0 {}
    let stats = bench.exporter.stats();
    let pieces = 7_500_000_000_001u64.div_ceil(u64::from(u32::MAX));
    assert_eq!((stats.records.get(), stats.split_records.get()), (3, pieces - 1));
    let of = &stats.collectors[0];
    assert_eq!((of.offered.get(), of.records.get()), (pieces + 2, pieces + 1));
    assert_eq!(of.not_representable[NotRepresentable::Ipv6 as usize].get(), 1);
    assert_balanced(of);
    assert_eq!(collector.totals().octets, record(1).octets + large.octets);
    assert_eq!(collector.totals().packets, record(1).packets + large.packets);
}

#[test]
fn a_slow_and_a_dead_collector_cost_the_others_nothing() {
    let (mut alive, _) = collector(OutputFormat::Json);
    let dead = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let slow = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let urls =
        [alive.local_addr().to_string(), dead.to_string(), format!("{}?pps=20", slow.local_addr().unwrap())];
    let mut bench = Bench::new(&urls, ExporterOptions::default(), None);
    let mut offered = 0u64;
    // More datagrams than the ring holds.
    for round in 0..200u32 {
        let batch: Vec<_> = (0..3000).map(|n| record(round * 3000 + n)).collect();
        assert_eq!(bench.producer.push_slice(&batch), 3000, "the exporter never holds up the queue");
        offered += 3000;
        while !bench.producer.is_empty() {
            bench.step();
            while alive.step(Timestamp(0), Duration::ZERO).unwrap().datagrams > 0 {}
        }
    }
    let stats = bench.exporter.stats();
    let [of_alive, of_dead, of_slow] = &stats.collectors[..] else { panic!() };
    for stats in &stats.collectors {
        assert_eq!(stats.offered.get(), offered);
        assert_balanced(stats);
    }
    assert_eq!(dropped(of_alive), 0);
    assert!(of_dead.errors[ErrorReason::Refused as usize].get() > 0);
    assert!(of_slow.dropped[DropReason::Pace as usize].get() > 0);
    assert_eq!(of_slow.dropped[DropReason::Queue as usize].get(), 0);
    bench.flush(&mut || while alive.step(Timestamp(0), Duration::ZERO).unwrap().datagrams > 0 {});
    while alive.step(Timestamp(0), 20 * MS).unwrap().datagrams > 0 {}
    assert_eq!(alive.totals().records, offered);
    for stats in &stats.collectors {
        assert_eq!(stats.waiting.get(), 0);
        assert_balanced(stats);
    }
}

#[test]
fn what_cannot_leave_by_the_deadline_is_counted() {
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("{}?pps=1", receiver.local_addr().unwrap());
    let mut bench =
        Bench::new(&[url], ExporterOptions { lossless: true, ..ExporterOptions::default() }, None);
    let records: Vec<_> = (0..4000).map(record).collect();
    bench.producer.push_slice(&records);
    assert!(!bench.step());
    drop(receiver);
    // Nobody listens any more, and the deadline has passed at once.
    let deadline = bench.now;
    let progress = bench.exporter.flush(UNIX, bench.now, deadline);
    assert!(progress.done);
    let stats = bench.exporter.stats();
    assert_eq!((stats.collectors[0].offered.get(), stats.collectors[0].waiting.get()), (4000, 0));
    assert_balanced(&stats.collectors[0]);
}

#[test]
fn several_queues_are_served_and_endpoints_are_known() {
    let (mut collector, _) = collector(OutputFormat::Text);
    let url: CollectorUrl = collector.local_addr().to_string().parse().unwrap();
    let sink = open(&url).unwrap();
    let (mut one, first) = ring(64);
    let (mut two, second) = ring(64);
    let mut exporter =
        Exporter::new(ExporterOptions::default(), vec![(url, sink)], vec![first, second], None);
    let endpoints: HashMap<_, _> =
        exporter.endpoints().into_iter().map(|ends| (ends.peer, ends.local)).collect();
    assert!(endpoints[&collector.local_addr()].ip().is_loopback());
    one.push_slice(&[record(1); 40]);
    two.push_slice(&[record(3); 50]);
    assert!(exporter.flush(UNIX, Timestamp(1), Timestamp(1)).done);
    while collector.step(Timestamp(0), 20 * MS).unwrap().datagrams > 0 {}
    assert_eq!(collector.totals().records, 90);
}

#[test]
fn a_collector_ends_by_count_and_by_silence() {
    let (feeder, _) = collector(OutputFormat::Json);
    drop(feeder);
    let out = SharedOutput::default();
    let options = CollectorOptions {
        count: Some(31),
        idle_exit: Some(Duration::from_secs(5)),
        ..CollectorOptions::udp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), OutputFormat::Csv)
    };
    let mut collector = Collector::bind(options.clone(), Box::new(out.clone())).unwrap();
    let at = |seconds| Timestamp(0) + Duration::from_secs(seconds);
    assert!(!collector.step(at(0), Duration::ZERO).unwrap().finished);
    let mut bench = Bench::new(&[collector.local_addr().to_string()], ExporterOptions::default(), None);
    bench.producer.push_slice(&[record(2); 40]);
    bench.flush(&mut || ());
    assert!(collector.step(at(4), Duration::from_secs(5)).unwrap().finished);
    assert_eq!((collector.totals().records, out.text().lines().count()), (31, 32));

    let mut silent = Collector::bind(options, Box::new(SharedOutput::default())).unwrap();
    assert!(!silent.step(at(0), Duration::ZERO).unwrap().finished);
    assert!(!silent.step(at(4), Duration::ZERO).unwrap().finished);
    assert!(silent.step(at(5), Duration::ZERO).unwrap().finished);
}

#[test]
fn a_port_in_use_is_said() {
    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let options = CollectorOptions::udp(taken.local_addr().unwrap(), OutputFormat::Text);
    let Err(error) = Collector::bind(options, Box::new(std::io::sink())) else { panic!("the port was free") };
    let text = error.to_string();
    assert!(text.contains("cannot listen on udp://127.0.0.1:") && text.contains("ss -lunp"), "{text}");
}

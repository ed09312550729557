// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What it costs to turn flow records into messages, and to send them over the loopback interface.
//!
//! - `select/…`: whether a record is for a collector, by its filter, its sampling, or the hash of `balance`;
//!   ns of CPU time for each record.
//! - `encode`: records to NetFlow v5 datagrams in the ring, nothing sent; ns of CPU time for each record.
//!   `encode/…`: the same for other versions, IP versions and fields.
//! - `send/…`: datagrams handed to the kernel by one thread, nothing encoded; ns of CPU time for each record.
//! - `encode_and_send/…`: the exporter as it runs: queue, encoder, pace, socket; records a second of CPU
//!   time, that is on one core of its own, and beside it by the clock on the wall. The queue is filled
//!   outside of the time that counts, and only what leaves while it is half full counts, before pacing begins.
//!   `drained` has a thread that reads the datagrams, `unread` leaves them to the kernel, which drops them
//!   when the receiver's buffer is full.
//! - `formats/…`: one stream of records to collectors of NetFlow v5, v9 and IPFIX, by one exporter or by one for each
//!   format on a thread of its own, as the probe does; records a second by the clock on the wall, until all have
//!   half of the queue. What it gains is bounded by the CPUs.
//! - `collectors/64`: resident memory of an exporter whose 64 collectors have a stream each.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use nix::sys::time::TimeValLike;
use probe_bench::machine::resident_octets;
use probe_bench::report::{BenchArgs, Metric, Report};
use probe_bench::stopwatch::{Samples, Stopwatch};
use probe_common::{Detail, FlowKey};
use probe_user::collect::{Collector, CollectorOptions, OutputFormat};
use probe_user::export::{
    CollectorPolicy, CollectorUrl, ConversationHash, Cursor, DatagramRing, Distributor, Division, Exporter,
    ExporterOptions, Mechanism, OpenCollector, Selection, Sink, Stream, StreamSettings, UdpSink, encode::Now,
};
use probe_user::flow::{EndReason, FlowRecord, Timestamp};
use probe_user::queue::{broadcast, ring};

/// What it costs to turn flow records into messages and to send them
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    bench: BenchArgs,
}

const UNIX: u64 = 1_780_000_000_000_000_000;
/// Records in the queue at once: with less, a step would be too short to measure.
const QUEUE: usize = 1 << 18;
const ROUNDS: usize = 5;
const MECHANISMS: [(Mechanism, &str); 3] = [
    (Mechanism::Segmentation, "udp_segment"),
    (Mechanism::Batch, "sendmmsg"),
    (Mechanism::Single, "sendmsg"),
];

/// Which flows are IPv6.
#[derive(Clone, Copy)]
enum Mix {
    V4,
    V6,
    /// Every fourth.
    Both,
}

/// Versions, fields and flows that are timed.
const ENCODINGS: [(&str, &str, Mix); 9] = [
    ("encode", "v5://127.0.0.1", Mix::V4),
    ("encode/v1", "v1://127.0.0.1", Mix::V4),
    ("encode/v7", "v7://127.0.0.1", Mix::V4),
    ("encode/v9", "v9://127.0.0.1", Mix::V4),
    ("encode/ipfix", "ipfix://127.0.0.1", Mix::V4),
    ("encode/ipfix/minimal", "ipfix://127.0.0.1?fields=minimal", Mix::V4),
    ("encode/ipfix/full", "ipfix://127.0.0.1?fields=full", Mix::V4),
    ("encode/ipfix/v6", "ipfix://127.0.0.1", Mix::V6),
    ("encode/ipfix/both", "ipfix://127.0.0.1", Mix::Both),
];

fn records(mix: Mix) -> Vec<FlowRecord> {
    let record = |n: u32| {
        let [_, b, c, d] = n.to_be_bytes();
        let v6 = match mix {
            Mix::V4 => false,
            Mix::V6 => true,
            Mix::Both => n.is_multiple_of(4),
        };
        let mut key = if v6 {
            FlowKey::ipv6([0x20, u64::from(n)], [0x20, u64::from(!n)], 6, 0)
        } else {
            FlowKey::ipv4([10, b, c, d], [192, d, c, b], 6, 0)
        };
        key.set_ports(u16::from_be_bytes([c, d]), 443);
        key.set_ingress_interface(3);
        let start_ns = UNIX - 60_000_000_000 + u64::from(n) * 1000;
        let end_ns = start_ns + 1_000_000_000;
        FlowRecord {
            key,
            packets: 1,
            octets: 40,
            start_ns,
            end_ns,
            tcp_flags: 2,
            end_reason: EndReason::Idle,
            detail: Detail::UNKNOWN,
        }
    };
    (0..u32::try_from(QUEUE).unwrap_or(u32::MAX)).map(record).collect()
}

/// Selections that are timed, by the options of the collector.
const SELECTIONS: [(&str, &str); 4] = [
    ("select/filter/port", "filter=dst+port+443"),
    ("select/filter/net_and_port", "filter=src+net+10.0.0.0/8+and+proto+tcp+and+dst+port+443"),
    ("select/filter/five_terms", "filter=tcp+and+not+(port+53+or+host+192.0.2.7+or+octets+%3E+1g)"),
    ("select/sampling", "sampling=100"),
];

fn select(records: &[FlowRecord], options: &str) -> Result<f64> {
    let url: CollectorUrl = format!("v5://127.0.0.1?{options}").parse()?;
    let selection = Selection { filter: url.filter, sampling: url.sampling };
    let conversations = ConversationHash::new(ExporterOptions::default().seed);
    // As the exporter does it: a batch that lies in the cache.
    let batch = &records[..records.len().min(1024)];
    let rounds = records.len() / batch.len().max(1);
    let start = cpu_time()?;
    let mut selected = 0;
    for _ in 0..rounds {
        let batch = std::hint::black_box(batch);
        selected += batch.iter().filter(|record| selection.select(record, &conversations).is_ok()).count();
    }
    std::hint::black_box(selected);
    Ok(cpu_time()?.saturating_sub(start).as_secs_f64() * 1e9 / (rounds * batch.len()) as f64)
}

fn assign(records: &[FlowRecord], collectors: usize) -> Result<f64> {
    let conversations = ConversationHash::new(ExporterOptions::default().seed);
    let mut distributor = Distributor::new(CollectorPolicy::Balance, collectors, conversations);
    let start = cpu_time()?;
    for batch in records.chunks(1024) {
        distributor.assign(std::hint::black_box(batch));
    }
    Ok(cpu_time()?.saturating_sub(start).as_secs_f64() * 1e9 / records.len() as f64)
}

fn encode(records: &[FlowRecord], url: &str) -> Result<f64> {
    let url: CollectorUrl = url.parse()?;
    let settings = StreamSettings::new(&ExporterOptions::default(), &url, 0, 1472);
    let mut stream = Stream::new(settings, &[(3, 0)], 4096 * 1472);
    let now = Now { unix_ns: UNIX, at: Timestamp(0) };
    stream.encode(records, now);
    let start = cpu_time()?;
    for batch in records.chunks(1024) {
        stream.encode(batch, now);
    }
    Ok(cpu_time()?.saturating_sub(start).as_secs_f64() * 1e9 / records.len() as f64)
}

/// A receiver on the loopback interface whose datagrams nobody reads.
fn unread(version: &str) -> Result<(UdpSocket, CollectorUrl)> {
    let receiver =
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot open a UDP socket on 127.0.0.1")?;
    let url = format!("{version}://{}", receiver.local_addr()?).parse()?;
    Ok((receiver, url))
}

fn send(mechanism: Mechanism, datagrams: u64) -> Result<f64> {
    let (_receiver, url) = unread("v5")?;
    let mut sink = UdpSink::open(&url)?;
    sink.set_mechanism(mechanism);
    let mut ring = DatagramRing::new(4096, 1464);
    for _ in 0..4096 {
        ring.push(&[0x55; 1464], 30);
    }
    let (mut sent, mut cursor) = (0, Cursor::default());
    let start = cpu_time()?;
    while sent < datagrams {
        let Some(run) = ring.run(&cursor, u64::MAX) else {
            cursor = Cursor::default();
            continue;
        };
        let count = sink.send(&run, Timestamp(0)).datagrams as u64;
        ring.advance(&mut cursor, count);
        sent += count;
    }
    Ok(cpu_time()?.saturating_sub(start).as_secs_f64() * 1e9 / (sent * 30) as f64)
}

/// CPU time of this thread, which is what a core has to give; on a machine with few cores the reader
/// takes wall-clock time from the writer.
fn cpu_time() -> Result<Duration> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)
        .context("cannot read the CPU time of the thread")?;
    Ok(Duration::from_nanos(time.num_nanoseconds().unsigned_abs()))
}

/// Records a second by wall clock and by CPU time.
fn encode_and_send(records: &[FlowRecord], url: &CollectorUrl, mechanism: Mechanism) -> Result<(f64, f64)> {
    let mut sink = UdpSink::open(url)?;
    sink.set_mechanism(mechanism);
    let (mut producer, consumer) = ring(QUEUE);
    let mut exporter =
        Exporter::new(ExporterOptions::default(), vec![(url.clone(), Box::new(sink))], vec![consumer], None);
    anyhow::ensure!(producer.push_slice(records) == records.len(), "the queue is too small");
    let start = Timestamp(1);
    let (stopwatch, cpu) = (Stopwatch::start(), cpu_time()?);
    // What is left is not under pressure any more and would be paced.
    while producer.len() >= QUEUE / 2 {
        exporter.step(UNIX, start + stopwatch.elapsed());
    }
    let (wall, cpu) = (stopwatch.elapsed(), cpu_time()?.saturating_sub(cpu));
    let stats = exporter.stats();
    let collector = &stats.collectors[0];
    let sent = collector.records.get();
    anyhow::ensure!(
        sent >= records.len() as u64 / 4 && collector.offered.get() == sent + collector.waiting.get(),
        "{sent} records sent of {}",
        records.len()
    );
    Ok((sent as f64 / wall.as_secs_f64(), sent as f64 / cpu.as_secs_f64()))
}

/// Resident memory of an exporter with so many collectors, in octets.
fn memory(records: &[FlowRecord], collectors: u32) -> Result<f64> {
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let before = resident_octets()?;
    let open = |domain: u32| {
        let url: CollectorUrl =
            format!("ipfix://{}?domain={domain}", receiver.local_addr()?).parse().context("not a URL")?;
        let sink: Box<dyn Sink> = Box::new(UdpSink::open(&url)?);
        Ok((url, sink))
    };
    let opened = (0..collectors).map(open).collect::<Result<Vec<_>>>()?;
    let (mut producer, consumer) = ring(1 << 14);
    let mut exporter = Exporter::new(ExporterOptions::default(), opened, vec![consumer], None);
    let mut at = Timestamp(1);
    // Often enough that every ring was written all over.
    for chunk in records.chunks(1 << 13).cycle().take(128) {
        anyhow::ensure!(producer.push_slice(chunk) == chunk.len(), "the queue is too small");
        while !producer.is_empty() {
            at = at + Duration::from_millis(1);
            exporter.step(UNIX, at);
        }
    }
    Ok(resident_octets()?.saturating_sub(before) as f64)
}

fn main() -> Result<()> {
    let Args { bench } = Args::parse();
    let mut report = Report::new("encode", bench);
    let records = records(Mix::V4);

    // First, while nothing else was taken and given back.
    let octets = memory(&records, 64)?;
    report.row("collectors/64", None, Metric::Octets, octets, &[]);

    for (name, options) in SELECTIONS {
        let mut samples = Samples::default();
        for _ in 0..ROUNDS {
            samples.add(select(&records, options)?);
        }
        report.row(name, None, Metric::Ns, samples.median(), &[]);
    }
    for collectors in [2, 8] {
        let mut samples = Samples::default();
        for _ in 0..ROUNDS {
            samples.add(assign(&records, collectors)?);
        }
        report.row(&format!("select/balance/{collectors}"), None, Metric::Ns, samples.median(), &[]);
    }

    for (name, url, mix) in ENCODINGS {
        let records = self::records(mix);
        let mut samples = Samples::default();
        for _ in 0..ROUNDS {
            samples.add(encode(&records, url)?);
        }
        report.row(name, None, Metric::Ns, samples.median(), &[]);
    }

    let datagrams = if bench.quick { 50_000 } else { 500_000 };
    for (mechanism, name) in MECHANISMS {
        let mut samples = Samples::default();
        for _ in 0..ROUNDS {
            samples.add(send(mechanism, datagrams)?);
        }
        report.row(&format!("send/{name}"), None, Metric::Ns, samples.median(), &[]);
    }

    for drained in [false, true] {
        for (mechanism, name) in MECHANISMS {
            let (mut wall, mut cpu) = (Samples::default(), Samples::default());
            for _ in 0..ROUNDS {
                let (by_wall, by_cpu) = if drained {
                    drained_run(&records, mechanism)?
                } else {
                    unread_run(&records, "v5", mechanism)?
                };
                wall.add(by_wall);
                cpu.add(by_cpu);
            }
            let case = format!("encode_and_send/{name}/{}", if drained { "drained" } else { "unread" });
            let extra = [("per_wall_second", wall.median().round().into())];
            report.row(&case, None, Metric::PerSecond, cpu.median(), &extra);
        }
    }
    for version in ["v9", "ipfix"] {
        let (mut wall, mut cpu) = (Samples::default(), Samples::default());
        for _ in 0..ROUNDS {
            let (by_wall, by_cpu) = unread_run(&records, version, Mechanism::Segmentation)?;
            wall.add(by_wall);
            cpu.add(by_cpu);
        }
        let case = format!("encode_and_send/{version}/udp_segment/unread");
        let extra = [("per_wall_second", wall.median().round().into())];
        report.row(&case, None, Metric::PerSecond, cpu.median(), &extra);
    }
    for (apart, case) in [(false, "formats/one_exporter"), (true, "formats/one_each")] {
        let mut samples = Samples::default();
        for _ in 0..ROUNDS {
            samples.add(formats(&records, apart)?);
        }
        report.row(case, None, Metric::PerSecond, samples.median(), &[]);
    }
    Ok(report.finish()?)
}

/// Records a second, by the clock on the wall, to collectors of three formats.
fn formats(records: &[FlowRecord], apart: bool) -> Result<f64> {
    let opened = ["v5", "v9", "ipfix"].map(unread).into_iter().collect::<Result<Vec<_>>>()?;
    let mut collectors: Vec<OpenCollector> = Vec::new();
    for (_, url) in &opened {
        collectors.push((url.clone(), Box::new(UdpSink::open(url)?)));
    }
    let options = ExporterOptions::default();
    let (mut producer, exporters): (_, Vec<Exporter>) = if apart {
        let division = Division::new(CollectorPolicy::Replicate, collectors, None);
        let (producer, readers) = broadcast(QUEUE, division.exporters());
        let (exporters, _) = division.into_exporters(&options, vec![readers]);
        (producer, exporters.into_iter().map(|(_, exporter)| exporter).collect())
    } else {
        let (producer, consumer) = ring(QUEUE);
        (producer, vec![Exporter::new(options, collectors, vec![consumer], None)])
    };
    anyhow::ensure!(producer.push_slice(records) == records.len(), "the queue is too small");
    let half = records.len() as u64 / 2;
    let stopwatch = Stopwatch::start();
    std::thread::scope(|scope| {
        for mut exporter in exporters {
            scope.spawn(move || {
                let stats = exporter.stats();
                while stats.records.get() < half {
                    exporter.step(UNIX, Timestamp(1) + stopwatch.elapsed());
                }
            });
        }
    });
    Ok(half as f64 / stopwatch.elapsed().as_secs_f64())
}

fn unread_run(records: &[FlowRecord], version: &str, mechanism: Mechanism) -> Result<(f64, f64)> {
    let (_receiver, url) = unread(version)?;
    encode_and_send(records, &url, mechanism)
}

fn drained_run(records: &[FlowRecord], mechanism: Mechanism) -> Result<(f64, f64)> {
    let options = CollectorOptions {
        // One: the datagrams are taken from the socket and not looked at.
        count: Some(1),
        ..CollectorOptions::udp((Ipv4Addr::LOCALHOST, 0).into(), OutputFormat::Csv)
    };
    let mut collector = Collector::bind(options, Box::new(std::io::sink()))?;
    let url = collector.local_addr().to_string().parse()?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                collector.step(Timestamp(0), Duration::from_millis(1))?;
            }
            Ok::<(), probe_user::collect::CollectError>(())
        });
        let result = encode_and_send(records, &url, mechanism);
        stop.store(true, Ordering::Relaxed);
        reader.join().map_err(|_| anyhow::anyhow!("the reader failed"))??;
        result
    })
}

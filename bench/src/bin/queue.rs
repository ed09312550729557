// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What it costs to hand a flow record from one thread to another: our ring beside two known crates.
//!
//! Two threads, one writes and one reads without rest; ns for each record, wall-clock time.

use std::sync::Arc;

use clap::Parser;
use crossbeam::queue::ArrayQueue;
use probe_bench::report::{BenchArgs, Metric, Report};
use probe_bench::stopwatch::{Samples, Stopwatch};
use probe_common::{Detail, FlowKey};
use probe_user::flow::{EndReason, FlowRecord};

/// What it costs to hand a flow record from one thread to another
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    bench: BenchArgs,
}

const CAPACITY: usize = 8192;
const ROUNDS: usize = 5;

fn record(n: u64) -> FlowRecord {
    let key = FlowKey::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 17, 0);
    FlowRecord {
        key,
        packets: n,
        octets: n,
        start_ns: n,
        end_ns: n,
        tcp_flags: 0,
        end_reason: EndReason::Idle,
        detail: Detail::UNKNOWN,
    }
}

/// Runs writer and reader until `items` have passed. Each is called again and again and says how many it
/// moved; `sum` is over what the reader saw and proves that it saw everything.
fn measure(
    items: u64,
    mut write: impl FnMut(&[FlowRecord]) -> usize + Send,
    mut read: impl FnMut(&mut Vec<FlowRecord>) -> usize,
    batch: usize,
) -> f64 {
    let stopwatch = Stopwatch::start();
    let mut sum = 0u64;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut records: Vec<_> = (0..batch as u64).map(record).collect();
            let mut written = 0;
            while written < items {
                for (n, record) in (written..).zip(&mut records) {
                    record.packets = n;
                }
                let left = usize::try_from(items - written).unwrap_or(usize::MAX);
                let mut rest = &records[..batch.min(left)];
                written += rest.len() as u64;
                while !rest.is_empty() {
                    let taken = write(rest);
                    rest = &rest[taken..];
                    if taken == 0 {
                        std::hint::spin_loop();
                    }
                }
            }
        });
        let (mut out, mut seen) = (Vec::with_capacity(batch), 0);
        while seen < items {
            out.clear();
            let count = read(&mut out);
            if count == 0 {
                std::hint::spin_loop();
            }
            seen += count as u64;
            sum = out.iter().fold(sum, |sum, record| sum.wrapping_add(record.packets));
        }
    });
    let ns = stopwatch.ns_per(items);
    assert_eq!(sum, items * (items - 1) / 2, "every record passed once");
    ns
}

fn ours(items: u64, batch: usize) -> f64 {
    let (mut producer, mut consumer) = probe_user::queue::ring(CAPACITY);
    measure(items, move |records| producer.push_slice(records), |out| consumer.pop_into(out, batch), batch)
}

fn rtrb(items: u64, batch: usize) -> f64 {
    let (mut producer, mut consumer) = rtrb::RingBuffer::new(CAPACITY);
    let write = move |records: &[FlowRecord]| producer.push_partial_slice(records).0.len();
    let read = |out: &mut Vec<FlowRecord>| {
        let count = consumer.slots().min(batch);
        let Ok(chunk) = consumer.read_chunk(count) else { return 0 };
        let (first, second) = chunk.as_slices();
        out.extend_from_slice(first);
        out.extend_from_slice(second);
        chunk.commit_all();
        count
    };
    measure(items, write, read, batch)
}

fn array_queue(items: u64, batch: usize) -> f64 {
    let queue = Arc::new(ArrayQueue::new(CAPACITY));
    let writer = Arc::clone(&queue);
    let write = move |records: &[FlowRecord]| {
        records.iter().take_while(|record| writer.push(**record).is_ok()).count()
    };
    let read = |out: &mut Vec<FlowRecord>| {
        out.extend(std::iter::from_fn(|| queue.pop()).take(batch));
        out.len()
    };
    measure(items, write, read, batch)
}

type Case = (&'static str, fn(u64, usize) -> f64);

fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let items = if args.bench.quick { 1_000_000 } else { 10_000_000 };
    let cases: [Case; 3] = [("probe_queue", ours), ("rtrb", rtrb), ("crossbeam_array_queue", array_queue)];
    let mut report = Report::new("queue", args.bench);
    for batch in [1, 64] {
        let mut samples: [Samples; 3] = Default::default();
        // In turn, so that what else the machine does falls on all alike.
        for _ in 0..ROUNDS {
            for ((_, run), samples) in cases.iter().zip(&mut samples) {
                samples.add(run(items, batch));
            }
        }
        for ((name, _), samples) in cases.iter().zip(&mut samples) {
            let extra = [("batch", batch.into()), ("octets", size_of::<FlowRecord>().into())];
            report.row(&format!("{name}/batch_{batch}"), None, Metric::Ns, samples.median(), &extra);
        }
    }
    report.finish()
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What it costs to merge a spilled slot, as the number of flows grows; beside it, in the same run, a
//! general-purpose hash map asked for one key at a time; and the resident memory of a flow.
//!
//! Every slot names a flow drawn at random from all, so nothing but the table's own layout helps the
//! caches. Slots are made outside the measured time, in blocks that a spill ring could hold; the figure is
//! the median over the blocks, in CPU time.

use std::{fs, time::Duration};

use anyhow::{Context, ensure};
use clap::Parser;
use probe_bench::{
    random::{Random, hash_seed},
    report::{BenchArgs, Metric, Report},
    stopwatch::{CpuStopwatch, Samples},
};
use probe_common::{FlowKey, KEY_BASE_MASK, Slot, Tick};
use probe_user::flow::{FlowTable, Moment, Spread, TableOptions, Timestamp, WallOffset};

/// Slots made at a time: 256 KiB.
const BLOCK: usize = 4096;
const NOW: Timestamp = Timestamp(1 << 40);

/// What it costs to merge a spilled slot
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    bench: BenchArgs,
    /// Numbers of flows
    #[arg(long, value_delimiter = ',')]
    flows: Vec<u64>,
    /// Share of the active timeout that its deadlines are spread over, in percent
    #[arg(long, default_value_t = 0)]
    active_jitter: u8,
    /// Deadlines at multiples of the active timeout
    #[arg(long)]
    active_align: bool,
}

impl Options {
    fn spread(&self) -> Spread {
        Spread { jitter: self.active_jitter, align: self.active_align }
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut report = Report::new("merge", options.bench);
    let flows = match (options.flows.as_slice(), options.bench.quick) {
        ([], _) => &[1 << 10, 64 << 10, 1_000_000, 10_000_000][..],
        (chosen, _) => chosen,
    };
    // A multiple of the flows would take a quick run too long at the upper end.
    let records = if options.bench.quick { 4_000_000 } else { 40_000_000 };
    for &flows in flows {
        let ours = measure_table(flows, records, options.spread())?;
        report.row(
            "flow_table",
            Some(flows),
            Metric::Ns,
            ours.ns,
            &[("resident_octets_per_flow", ours.octets_per_flow.into())],
        );
        report.row("hashbrown_ahash", Some(flows), Metric::Ns, measure_map(flows, records)?, &[]);
    }
    report.finish().context("writing the report to standard output")
}

/// A key for each number; neighbours differ in address and port, as customers of one network do.
fn key(flow: u64) -> FlowKey {
    let [.., a, b, c, d] = flow.to_be_bytes();
    let mut key = FlowKey::ipv4([10, a ^ 100, b, c], [192, 0, 2, d], 17, 0);
    key.set_ports(u16::from_be_bytes([c, d]), 53);
    key
}

fn fill(block: &mut [Slot], mut flow: impl FnMut() -> u64) {
    let tick = Tick::from_ns(NOW.0);
    for slot in block {
        *slot = Slot::new(&key(flow()), 1000, 0, tick, 0);
    }
}

struct Figures {
    ns: f64,
    octets_per_flow: f64,
}

fn measure_table(flows: u64, records: u64, spread: Spread) -> anyhow::Result<Figures> {
    let before = resident_octets()?;
    let options = TableOptions {
        capacity: usize::try_from(flows)?,
        idle: Duration::from_secs(3600),
        active: Duration::from_secs(3600),
        tcp_end: true,
        spread,
        key_mask: KEY_BASE_MASK,
        details: false,
        seed: hash_seed(1),
    };
    let mut table = FlowTable::new(options, NOW)?;
    let moment = Moment { now: NOW, wall: WallOffset(0) };
    let mut out = Vec::new();
    let mut block = vec![Slot::default(); BLOCK];
    let mut next = 0;
    while next < flows {
        let block = &mut block[..BLOCK.min(usize::try_from(flows - next)?)];
        fill(block, || {
            next += 1;
            next - 1
        });
        table.merge(block, moment, &mut out);
    }
    let octets_per_flow = (resident_octets()?.saturating_sub(before)) as f64 / flows as f64;

    let mut random = Random::new(2);
    let mut samples = Samples::default();
    let mut merged = 0;
    while merged < records {
        fill(&mut block, || random.below(flows));
        let watch = CpuStopwatch::start()?;
        table.merge(&block, moment, &mut out);
        samples.add(watch.elapsed()?.as_secs_f64() * 1e9 / BLOCK as f64);
        merged += BLOCK as u64;
    }
    let live = table.live();
    ensure!(out.is_empty(), "no flow was to expire, {} did", out.len());
    ensure!(
        live.flows == flows && live.packets == flows + merged,
        "the table lost count: {live:?} after {merged} records in {flows} flows"
    );
    Ok(Figures { ns: samples.median(), octets_per_flow })
}

struct Counters {
    packets: u64,
    octets: u64,
    first: u64,
    last: u64,
    tcp_flags: u16,
}

fn measure_map(flows: u64, records: u64) -> anyhow::Result<f64> {
    let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
    let mut map = hashbrown::HashMap::with_capacity_and_hasher(usize::try_from(flows)?, hasher);
    for flow in 0..flows {
        map.insert(key(flow), Counters { packets: 1, octets: 1000, first: NOW.0, last: NOW.0, tcp_flags: 0 });
    }
    let mut block = vec![Slot::default(); BLOCK];
    let mut random = Random::new(2);
    let mut samples = Samples::default();
    let mut merged = 0;
    while merged < records {
        fill(&mut block, || random.below(flows));
        let watch = CpuStopwatch::start()?;
        for slot in &block {
            let first = slot.first.to_ns(NOW.0);
            let last = slot.last.to_ns(NOW.0);
            let flow = map.entry(slot.key()).or_insert(Counters {
                packets: 0,
                octets: 0,
                first,
                last,
                tcp_flags: 0,
            });
            flow.packets += u64::from(slot.packets);
            flow.octets += u64::from(slot.octets);
            flow.first = flow.first.min(first);
            flow.last = flow.last.max(last);
            flow.tcp_flags |= slot.tcp_flags();
        }
        samples.add(watch.elapsed()?.as_secs_f64() * 1e9 / BLOCK as f64);
        merged += BLOCK as u64;
    }
    let packets: u64 = map.values().map(|flow| flow.packets).sum();
    ensure!(packets == flows + merged, "the map lost count: {packets} packets");
    Ok(samples.median())
}

fn resident_octets() -> anyhow::Result<u64> {
    let path = "/proc/self/status";
    let status = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in it")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("VmRSS is not a number")?;
    Ok(kib * 1024)
}

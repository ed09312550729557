// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a flow of one packet costs from slot to queue (merge, insert, expire, enqueue) while a million
//! others are live: the load of a port scan or a flood, at which every packet is a flow.
//!
//! Time is simulated: flows arrive at such a pace that, with the idle timeout, the wanted number is
//! live. Making the slots and emptying the queue (the exporter's work) are outside the measured time; the
//! figure is the median over groups of rounds, in CPU time.

use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use probe_bench::{
    random::{Random, hash_seed},
    report::{BenchArgs, Metric, Report},
    stopwatch::{CpuStopwatch, Samples},
};
use probe_common::{FlowKey, KEY_BASE_MASK, Slot, Tick};
use probe_user::{
    flow::{FlowRecord, FlowTable, Moment, Spread, TableOptions, Timestamp, WallOffset},
    queue::{Consumer, Producer, ring},
};

const IDLE: Duration = Duration::from_secs(15);
const START: Timestamp = Timestamp(1 << 40);
/// Slots of one round, as a harvest reads them from the rings.
const BLOCK: usize = 4096;
/// Rounds of one sample: several steps of the timer wheel, which fires by the step.
const SAMPLE: u64 = 16;
/// Flows looked at in one step of expiry.
const BUDGET: usize = 1024;

/// What a flow of one packet costs from slot to queue
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    bench: BenchArgs,
    /// Flows live at a time
    #[arg(long, default_value_t = 1_000_000)]
    flows: u64,
    /// Flows the table holds; fewer than are live shows what eviction costs
    #[arg(long)]
    capacity: Option<u64>,
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
    let mut report = Report::new("harvest", options.bench);
    let rounds = options.flows / BLOCK as u64 * if options.bench.quick { 4 } else { 10 };
    // A step of the wheel more than the idle timeout makes.
    let capacity = options.capacity.unwrap_or(options.flows + options.flows / 16 + 2 * BLOCK as u64);
    let mut run = |case, capacity| run(&mut report, case, options.spread(), options.flows, capacity, rounds);
    run("single_packet_flows", capacity)?;
    if options.capacity.is_none() {
        run("single_packet_flows_table_full", options.flows / 2)?;
    }
    report.finish().context("writing the report to standard output")
}

fn run(
    report: &mut Report,
    case: &str,
    spread: Spread,
    live: u64,
    capacity: u64,
    rounds: u64,
) -> anyhow::Result<()> {
    let options = TableOptions {
        capacity: usize::try_from(capacity)?,
        idle: IDLE,
        active: Duration::from_secs(300),
        tcp_end: true,
        spread,
        key_mask: KEY_BASE_MASK,
        details: false,
        seed: hash_seed(1),
    };
    let (producer, consumer) = ring(1 << 16);
    let mut harvest = Harvest {
        table: FlowTable::new(options, START)?,
        producer,
        consumer,
        exported: Vec::new(),
        out: Vec::with_capacity(2 * BLOCK),
        now: START,
        pace: IDLE / u32::try_from(live)?,
    };
    let mut random = Random::new(1);
    let mut block = vec![Slot::default(); BLOCK];
    let mut taken = 0;
    // Fill the table, and let the first flows leave it again.
    for _ in 0..live * 5 / 4 / BLOCK as u64 {
        harvest.fill(&mut block, &mut random);
        harvest.step(&block)?;
        taken += harvest.empty_queue();
    }
    let mut samples = Samples::default();
    for _ in 0..rounds / SAMPLE {
        let mut spent = Duration::ZERO;
        for _ in 0..SAMPLE {
            harvest.fill(&mut block, &mut random);
            let watch = CpuStopwatch::start()?;
            harvest.step(&block)?;
            spent += watch.elapsed()?;
            taken += harvest.empty_queue();
        }
        samples.add(spent.as_secs_f64() * 1e9 / (SAMPLE * BLOCK as u64) as f64);
    }
    let (totals, created) = (harvest.table.live(), harvest.table.created());
    ensure!(taken + totals.flows == created, "{created} flows created, {taken} exported, {totals:?} live");
    let ns = samples.median();
    report.row(case, Some(totals.flows), Metric::Ns, ns, &[("capacity", capacity.into())]);
    Ok(())
}

struct Harvest {
    table: FlowTable,
    producer: Producer<FlowRecord>,
    consumer: Consumer<FlowRecord>,
    exported: Vec<FlowRecord>,
    out: Vec<FlowRecord>,
    now: Timestamp,
    /// Time from one flow to the next.
    pace: Duration,
}

impl Harvest {
    fn fill(&mut self, block: &mut [Slot], random: &mut Random) {
        for slot in block {
            self.now = self.now + self.pace;
            let [a, b, c, d, e, f, ..] = random.next_u64().to_ne_bytes();
            let mut key = FlowKey::ipv4([10, a, b, c], [192, 0, 2, d], 17, 0);
            key.set_ports(u16::from_ne_bytes([e, f]), 53);
            *slot = Slot::new(&key, 60, 0, Tick::from_ns(self.now.0), 0);
        }
    }

    /// What is measured.
    fn step(&mut self, block: &[Slot]) -> anyhow::Result<()> {
        let moment = Moment { now: self.now, wall: WallOffset(0) };
        self.out.clear();
        self.table.merge(block, moment, &mut self.out);
        while self.table.expire(moment, BUDGET, &mut self.out) {}
        let pushed = self.producer.push_slice(&self.out);
        ensure!(
            pushed == self.out.len(),
            "the queue is too short for one round: {pushed} of its records fit"
        );
        Ok(())
    }

    fn empty_queue(&mut self) -> u64 {
        self.exported.clear();
        self.consumer.pop_into(&mut self.exported, usize::MAX) as u64
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What metering one packet costs in XDP, above an empty program: the probe's micro-flow cache, and beside
//! it, in the same run, the same parser and slot on the kernel's own hash maps, and the cache with details or
//! sampling.
//!
//! `BPF_PROG_TEST_RUN` repeats a program that writes a random flow number into the frame and tail-calls the
//! program under test. The same with an empty program under test is measured apart and subtracted, so the
//! figures are parsing and metering alone. A thread on the other core drains the spill ring meanwhile, as
//! the harvester would.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, ProgramArray},
    programs::{ProgramFd, TestRun, TestRunOptions, Xdp},
};
use clap::Parser;
use probe_bench::report::{BenchArgs, Metric, Report};
use probe_common::{Counters, HashSeed, PacketSampling, Slot};
use probe_user::{
    kernel::{KernelOptions, LoadedProgram, possible_cpus},
    net::Role,
    slots::{CounterReader, Sizing},
};
use serde_json::json;

static STORES: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/stores.o"));

/// Cost of metering a packet in XDP, above an empty program.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    bench: BenchArgs,
    /// Slots of the micro-flow cache of one CPU
    #[arg(long, default_value_t = 4096)]
    cache_slots: u32,
    /// Records of the spill ring of one CPU
    #[arg(long, default_value_t = 262_144)]
    spill_records: u32,
    /// Only the micro-flow cache
    #[arg(long)]
    only_cache: bool,
}

/// A frame and where its flow number goes.
struct Case {
    name: &'static str,
    frame: Vec<u8>,
    offset: u64,
}

/// Turns of one figure. In each turn every store has one short run, so that whatever else the machine does
/// meets all of them alike.
const TURNS: usize = 41;
/// The same with --quick.
const QUICK_TURNS: usize = 15;
/// Packets of one run: some milliseconds.
const REPEAT: u32 = 100_000;

fn main() -> Result<()> {
    let args = Args::parse();
    let flows: &[u64] =
        if args.bench.quick { &[1, 256, 65_536, 524_288] } else { &[1, 256, 65_536, 524_288, 1 << 20] };
    let turns = if args.bench.quick { QUICK_TURNS } else { TURNS };
    let mut report = Report::new("xdp_cost", args.bench);
    pin(0)?;
    let mut stores = Stores::load()?;
    let mut probe = UnderTest::load(&args, "micro_flow_cache", false, PacketSampling::OFF, 1)?;
    let mut variants = Vec::new();
    if !args.only_cache {
        let off = PacketSampling::OFF;
        variants.push(UnderTest::load(&args, "details_on", true, off, 1)?);
        variants.push(UnderTest::load(&args, "sampling_1:100", false, PacketSampling::every(100), 1)?);
        variants.push(UnderTest::load(&args, "sampling_random:100", false, PacketSampling::one_in(100), 1)?);
        variants.push(UnderTest::load(&args, "sampling_flow:100", false, off, 100)?);
    }

    for case in &cases() {
        for &flows in flows {
            let is_main = case.name == "ipv4_tcp";
            if !is_main && ![1, 65_536].contains(&flows) {
                continue;
            }
            let mut lanes = vec![stores.lane("empty")?, probe.lane()?];
            if is_main && !args.only_cache {
                lanes.extend([stores.lane("percpu_hash")?, stores.lane("lru_percpu_hash")?]);
            }
            if [1, 65_536].contains(&flows) {
                for variant in &mut variants {
                    lanes.push(variant.lane()?);
                }
            }
            let before = probe.counters.of_epoch(0);
            let times = stores.race(&lanes, case, flows, turns)?;
            let after = probe.counters.of_epoch(0);
            let counted = |count: fn(&Counters) -> u64| count(&after) - count(&before);
            anyhow::ensure!(
                counted(|c| c.metered_packets) == counted(|c| c.received_packets),
                "not every packet was metered"
            );
            let floor = times[0];
            for (lane, time) in lanes.iter().zip(&times).skip(1) {
                let mut extra = vec![("store", json!(lane.name))];
                if lane.name == "micro_flow_cache" {
                    let spilled = ratio(counted(|c| c.spilled_records), counted(|c| c.received_packets));
                    extra.push(("spilled_per_packet", json!(spilled)));
                    extra.push(("lost_records", json!(counted(|c| c.lost_records))));
                } else {
                    extra.push((
                        "times_the_cache",
                        json!(((time - floor) / (times[1] - floor) * 10.0).round() / 10.0),
                    ));
                }
                report.row(case.name, Some(flows), Metric::Ns, time - floor, &extra);
            }
        }
    }
    report.finish()?;
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(part: u64, whole: u64) -> f64 {
    (part as f64 / whole.max(1) as f64 * 1000.0).round() / 1000.0
}

fn pin(cpu: usize) -> Result<()> {
    let mut set = nix::sched::CpuSet::new();
    set.set(cpu)?;
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).context("pinning to a CPU")
}

/// The comparison programs.
struct Stores {
    ebpf: Ebpf,
    calls: ProgramArray<aya::maps::MapData>,
}

impl Stores {
    fn load() -> Result<Self> {
        anyhow::ensure!(!STORES.is_empty(), "built with PROBE_SKIP_EBPF: there is nothing to measure");
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("PERCPU_HASH", 1 << 21)
            .map_max_entries("LRU_PERCPU_HASH", 1 << 21)
            .load(STORES)
            .context("loading the comparison programs (needs root)")?;
        for name in ["empty", "vary", "percpu_hash", "lru_percpu_hash"] {
            program(&mut ebpf, name)?.load()?;
        }
        let calls = ProgramArray::try_from(ebpf.take_map("UNDER_TEST").context("UNDER_TEST")?)?;
        Ok(Self { ebpf, calls })
    }

    /// One of the comparison programs.
    fn lane(&mut self, name: &'static str) -> Result<Lane> {
        Ok(Lane { name, program: program(&mut self.ebpf, name)?.fd()?.try_clone()? })
    }

    /// Time of one packet in each lane, in nanoseconds: the lower quartile of its runs, because whatever
    /// disturbs a run can only make it longer.
    fn race(&mut self, lanes: &[Lane], case: &Case, flows: u64, turns: usize) -> Result<Vec<f64>> {
        Array::<_, [u64; 3]>::try_from(self.ebpf.map_mut("VARY").context("VARY")?)?.set(
            0,
            [1, flows - 1, case.offset],
            0,
        )?;
        let vary = program(&mut self.ebpf, "vary")?;
        let calls = &mut self.calls;
        let mut run = |lane: &Lane, repeat: u32| -> Result<f64> {
            calls.set(0, &lane.program, 0)?;
            let options = TestRunOptions { data_in: Some(&case.frame), repeat, ..TestRunOptions::default() };
            let result = vary.test_run(options)?;
            anyhow::ensure!(
                result.return_value == 1,
                "{} returned {}, not XDP_DROP",
                lane.name,
                result.return_value
            );
            Ok(result.duration.as_secs_f64() * 1e9)
        };
        for lane in lanes {
            // Uncounted: maps and caches fill before the clock starts.
            run(lane, u32::try_from(flows)?.saturating_mul(4).max(REPEAT))?;
        }
        let mut times = vec![Vec::with_capacity(turns); lanes.len()];
        for _ in 0..turns {
            for (lane, times) in lanes.iter().zip(&mut times) {
                times.push(run(lane, REPEAT)?);
            }
        }
        for times in &mut times {
            times.sort_unstable_by(f64::total_cmp);
        }
        Ok(times.iter().map(|times| times[turns / 4]).collect())
    }
}

/// A program that takes part.
struct Lane {
    name: &'static str,
    program: ProgramFd,
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(ebpf.program_mut(name).with_context(|| format!("program {name}"))?.try_into()?)
}

/// The probe's own program, with somebody who drains its ring.
struct UnderTest {
    name: &'static str,
    program: LoadedProgram,
    counters: CounterReader,
    stop: Arc<AtomicBool>,
    drainer: Option<JoinHandle<()>>,
}

impl UnderTest {
    fn load(
        args: &Args,
        name: &'static str,
        details: bool,
        packet_sampling: PacketSampling,
        flow_sampling: u32,
    ) -> Result<Self> {
        let program = LoadedProgram::load(KernelOptions {
            packet_sampling,
            flow_sampling,
            ..KernelOptions::new(
                Sizing::new(possible_cpus()?, args.cache_slots, args.spill_records).with_details(details),
                HashSeed::from_random(std::array::from_fn(|octet| u8::try_from(octet * 4 + 31).unwrap_or(7))),
            )
        })?;
        let bank = program.bank()?;
        let (mut spill, counters) = (bank.spill_readers(0), bank.counter_reader());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let drainer = thread::spawn(move || {
            // On a machine with one CPU it stays where the test runs.
            pin(1).ok();
            let mut out: Vec<Slot> = Vec::with_capacity(1024);
            while !stopped.load(Ordering::Relaxed) {
                let mut taken = 0;
                for reader in &mut spill {
                    taken += reader.drain(1024, &mut out);
                    out.clear();
                }
                if taken < 1024 {
                    // As the harvester rests: records come in batches, and the ring's lines do not move to and
                    // fro between the cores with every record.
                    thread::sleep(Duration::from_micros(500));
                }
            }
        });
        Ok(Self { name, program, counters, stop, drainer: Some(drainer) })
    }

    fn lane(&mut self) -> Result<Lane> {
        Ok(Lane { name: self.name, program: self.program.xdp(Role::Tap, false)?.fd()?.try_clone()? })
    }
}

impl Drop for UnderTest {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(drainer) = self.drainer.take() {
            drainer.join().ok();
        }
    }
}

fn cases() -> Vec<Case> {
    let ethernet =
        |ether_type: u16| [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &ether_type.to_be_bytes()].concat();
    let tcp = || {
        let mut tcp = vec![0; 20];
        tcp[..4].copy_from_slice(&[0x9c, 0x40, 0x01, 0xbb]);
        tcp[12] = 0x50;
        tcp[13] = 0x10;
        tcp
    };
    let ipv4 = || {
        [&[0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0][..], &[10, 0, 0, 1], &[192, 0, 2, 1], &tcp()].concat()
    };
    let ipv6 = || {
        let mut header = vec![0; 40];
        header[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 20, 6, 64]);
        header[8..12].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        header[24..28].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        header[39] = 1;
        [header, tcp()].concat()
    };
    vec![
        Case { name: "ipv4_tcp", frame: [ethernet(0x0800), ipv4()].concat(), offset: 26 },
        Case { name: "ipv6_tcp", frame: [ethernet(0x86dd), ipv6()].concat(), offset: 34 },
        Case {
            name: "vlan_ipv4_tcp",
            frame: [ethernet(0x8100), vec![0x00, 0x64, 0x08, 0x00], ipv4()].concat(),
            offset: 30,
        },
    ]
}

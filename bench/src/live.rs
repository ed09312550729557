// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Live traffic on a cable, and what the whole machine spends on it.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use probe_lab::{Flows, Generator, Link, Traffic, send_in_parallel};

use crate::cpu_time::CpuTime;
use crate::stopwatch::Stopwatch;

static PROGRAMS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/stores.o"));

/// How long those that read from a buffer have for what is left in it; part of what is measured.
const SETTLE: Duration = Duration::from_millis(500);
/// Bursts of a paced stream in a second.
const BURSTS: u32 = 20;

/// How fast to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// As fast as one core can.
    Full,
    /// So many packets a second, in bursts.
    PerSecond(u32),
}

/// A cable with a sender at one end.
#[derive(Debug)]
pub struct Live {
    /// The cable; the other end is where packets are metered.
    pub link: Link,
    generators: [Generator; 1],
}

/// What a stream took.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// Packets sent.
    pub sent: u64,
    /// From the first to the last of them.
    pub wall: Duration,
    /// CPU time of all cores, until the last is dealt with.
    pub cpu: Duration,
    /// CPU time that other processes took meanwhile, not in `cpu`: when it is much, figures suffer.
    pub foreign: Duration,
}

impl Spent {
    /// Nanoseconds of CPU time for each packet sent.
    #[must_use]
    pub fn cpu_ns(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e9 / self.sent.max(1) as f64
    }

    /// Packets sent in a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.sent as f64 / self.wall.as_secs_f64()
    }

    /// CPUs that other processes kept busy, on the mean.
    #[must_use]
    pub fn foreign_cpus(&self) -> f64 {
        self.foreign.as_secs_f64() / (self.wall + SETTLE).as_secs_f64()
    }
}

impl Live {
    /// A new cable, and a sender of UDP packets in `flows` flows.
    ///
    /// # Errors
    /// When the kernel refuses either.
    pub fn new(label: &str, flows: u32) -> Result<Self> {
        let link = Link::for_many_senders(label)?;
        let generators = [Generator::load(&link, &Traffic::udp(0, flows))?];
        Ok(Self { link, generators })
    }

    /// Sends and measures.
    ///
    /// # Errors
    /// When the cable itself loses frames, so that nothing can be said.
    pub fn send(&mut self, packets: u64, pace: Pace) -> Result<Spent> {
        let before = self.generators[0].sent()?;
        let cpu = CpuTime::now()?;
        let watch = Stopwatch::start();
        match pace {
            Pace::Full => send_in_parallel(&self.link, &mut self.generators, packets)?,
            Pace::PerSecond(rate) => {
                let burst = u64::from((rate / BURSTS).max(1));
                let bursts = packets.div_ceil(burst);
                for number in 1..=bursts {
                    send_in_parallel(&self.link, &mut self.generators, burst)?;
                    let due = Duration::from_secs_f64((number * burst) as f64 / f64::from(rate));
                    sleep(due.saturating_sub(watch.elapsed()));
                }
            }
        }
        let wall = watch.elapsed();
        sleep(SETTLE);
        let (cpu, foreign) = CpuTime::now()?.since(&cpu);
        Ok(Spent { sent: self.generators[0].sent()? - before, wall, cpu, foreign })
    }

    /// What every flow has been sent.
    ///
    /// # Errors
    /// When the sender's count cannot be read.
    pub fn expected(&self) -> Result<Flows> {
        self.generators[0].expected()
    }

    /// What the same stream takes with an XDP program that only drops: the sender, the cable, the driver.
    ///
    /// # Errors
    /// As [`Live::new`] and [`Live::send`].
    pub fn floor(flows: u32, packets: u64, pace: Pace) -> Result<Spent> {
        let mut live = Self::new("floor", flows)?;
        let _program = attach(&live.link, "empty")?;
        live.send(packets, pace)
    }
}

/// Attaches one of the benches' own XDP programs to the metered end, until it is dropped.
///
/// # Errors
/// When the kernel refuses it, or this was built without kernel programs.
pub fn attach(link: &Link, name: &str) -> Result<Ebpf> {
    ensure!(!PROGRAMS.is_empty(), "built with PROBE_SKIP_EBPF: build again without it");
    // The maps are of another bench; its programs need them large.
    let mut loader = EbpfLoader::new();
    loader.map_max_entries("PERCPU_HASH", 1).map_max_entries("LRU_PERCPU_HASH", 1024);
    let mut ebpf = loader.load(PROGRAMS).context("loading the benches' programs (needs root)")?;
    let program: &mut Xdp =
        ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?;
    program.load().with_context(|| format!("loading {name}"))?;
    link.metered
        .namespace
        .enter(|| program.attach_to_if_index(link.metered.index, XdpMode::Driver))?
        .with_context(|| format!("attaching {name} to {}", link.metered.name))?;
    Ok(ebpf)
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What each way into the probe takes for a packet, on the same stream over a veth pair, in one run: packets a
//! second, CPU time of all cores for each packet (without the sender's part, as in `peers`), and every loss by
//! its name in the ledger.
//!
//! An engine that this build or this kernel does not have is left out, and said so.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use nix::sys::signal::Signal;
use probe_bench::live::{Live, Pace, Spent};
use probe_bench::report::{BenchArgs, Metric, Report};
use probe_bench::scratch::probe_program;
use probe_bench::stopwatch::Samples;
use probe_lab::{LedgerView, Probe, V5Collector, require_root};
use serde_json::{Value, json};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The engines and modes there are, and how the probe is told.
const ENGINES: [(&str, &[&str]); 6] = [
    ("xdp/native", &["--xdp-mode", "native"]),
    ("xdp/generic", &["--xdp-mode", "generic"]),
    ("xdp/native/host", &["--xdp-mode", "native", "--role", "host"]),
    ("tc/host", &["--xdp-mode", "tc", "--role", "host"]),
    ("af_xdp", &["--engine", "af_xdp"]),
    ("af_packet", &["--engine", "af_packet"]),
];

/// What each engine takes for a packet
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    bench: BenchArgs,
    /// Only engines whose name begins so (may be given several times)
    #[arg(long)]
    engine: Vec<String>,
    /// Packets a second to offer; 0: as fast as one core sends
    #[arg(long, default_value_t = 0)]
    rate: u32,
}

fn main() -> Result<()> {
    let args = Args::parse();
    require_root();
    let packets = if args.bench.quick { 1_000_000 } else { 8_000_000 };
    let rounds = if args.bench.quick { 1 } else { 3 };
    let flows: &[u32] = if args.bench.quick { &[1024] } else { &[1024, 65_536] };
    let pace = if args.rate == 0 { Pace::Full } else { Pace::PerSecond(args.rate) };
    let wanted = |name: &str| {
        args.engine.is_empty() || args.engine.iter().any(|engine| name.starts_with(engine.as_str()))
    };
    let mut report = Report::new("engines", args.bench);
    for &flows in flows {
        let engines: Vec<_> = ENGINES.into_iter().filter(|(name, _)| wanted(name)).collect();
        let mut taken: Vec<Taken> = engines.iter().map(|_| Taken::default()).collect();
        for _ in 0..rounds {
            let floor = Live::floor(flows, packets, pace)?.cpu_ns();
            for ((name, arguments), taken) in engines.iter().zip(&mut taken) {
                if taken.refused.is_some() {
                    continue;
                }
                match run(arguments, flows, packets, pace).with_context(|| format!("measuring {name}"))? {
                    Run::Measured(spent, ledger) => taken.add(&spent, floor, ledger),
                    Run::Refused(why) => taken.refused = Some(why),
                }
            }
        }
        for ((name, _), taken) in engines.iter().zip(taken) {
            taken.report(&mut report, name, flows);
        }
    }
    report.finish().context("cannot write the report")
}

/// What the runs of one engine came to.
#[derive(Default)]
struct Taken {
    costs: Samples,
    rates: Samples,
    foreign: Samples,
    last: Option<(u64, LedgerView)>,
    refused: Option<String>,
}

impl Taken {
    fn add(&mut self, spent: &Spent, floor: f64, ledger: LedgerView) {
        self.costs.add(spent.cpu_ns() - floor);
        self.rates.add(ledger.count("packets.exported") as f64 / spent.wall.as_secs_f64());
        self.foreign.add(spent.foreign_cpus());
        self.last = Some((spent.sent, ledger));
    }

    fn report(mut self, report: &mut Report, name: &str, flows: u32) {
        if let Some(why) = &self.refused {
            eprintln!("{name} is left out: {why}");
        }
        let Some((sent, ledger)) = &self.last else { return };
        let extra = [
            ("cpu_ns_per_packet", json!((self.costs.median() * 10.0).round() / 10.0)),
            ("sent", json!(sent)),
            ("received", json!(ledger.count("packets.received"))),
            ("exported", json!(ledger.count("packets.exported"))),
            ("lost", named(ledger, "lost")),
            ("af_xdp_drop", named(ledger, "af_xdp_drop")),
            ("unmetered", named(ledger, "unmetered")),
            ("others_cpus", json!((self.foreign.median() * 100.0).round() / 100.0)),
        ];
        report.row(name, Some(u64::from(flows)), Metric::PerSecond, self.rates.median(), &extra);
    }
}

/// The reasons that have counted something.
fn named(ledger: &LedgerView, what: &str) -> Value {
    let reasons = ledger.0["packets"][what].as_object().cloned().unwrap_or_default();
    Value::Object(reasons.into_iter().filter(|(_, count)| count.as_u64() != Some(0)).collect())
}

enum Run {
    Measured(Spent, LedgerView),
    /// The probe did not start: what it said.
    Refused(String),
}

fn run(arguments: &[&str], flows: u32, packets: u64, pace: Pace) -> Result<Run> {
    let mut live = Live::new("engines", flows)?;
    // Without XDP a veth end takes live frames only with this; a program that is attached changes nothing.
    live.link.metered.receive_without_xdp()?;
    let end = live.link.metered.clone();
    let collector = V5Collector::start(Some(&end.namespace), LOOPBACK)?;
    let address = collector.address().to_string();
    let mut all = vec!["--collector", &address, "--idle-timeout", "5m"];
    all.extend(arguments);
    let program = probe_program()?.display().to_string();
    let probe = match Probe::start(&program, &end.namespace, &end.name, &all) {
        Ok(probe) => probe,
        Err(error) => return Ok(Run::Refused(format!("{error:#}").replace('\n', " "))),
    };
    let spent = live.send(packets, pace)?;
    let ended = probe.stop(Signal::SIGTERM)?;
    ensure!(ended.status.success(), "the probe ended with {}: {}", ended.status, ended.stderr);
    ensure!(ended.ledger.balanced(), "the ledger does not balance: {}", ended.ledger.0);
    let collected: u64 = collector.finish()?.records.iter().map(|record| record.sums.packets).sum();
    let exported = ended.ledger.count("packets.exported");
    ensure!(
        collected == exported,
        "{collected} packets collected of {exported} exported: {}",
        ended.ledger.0
    );
    Ok(Run::Measured(spent, ended.ledger))
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What live traffic costs the whole machine: the probe, and softflowd, nfpcapd, pmacctd and fprobe (those that
//! are installed) on the same stream over a veth pair, in turn, in one run.
//!
//! For each: packets accounted for of packets sent, as its own export says; CPU time of all cores for each
//! packet sent, softirq included, without what the same stream takes with an XDP program that only drops (the
//! sender's own part); resident memory.
//!
//! The time is taken while traffic flows and for half a second after it, when whatever had been buffered is
//! read. Start and end of the programs, and so the export of what is live at the end, are outside: a run of
//! seconds would measure little else.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::Signal;
use probe_bench::cpu_time::{CpuTime, map_octets, resident_octets};
use probe_bench::live::{Live, Pace, Spent};
use probe_bench::report::{BenchArgs, Metric, Report};
use probe_bench::scratch::{Folder, find_program, probe_program};
use probe_bench::stopwatch::Samples;
use probe_lab::{
    Datagram, Export, Flows, Probe, Process, Sums, V5Collector, clock::wait_until, difference, require_root,
};
use serde_json::{Value, json};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Time for a peer to open its interface: none says when it has.
const START: Duration = Duration::from_millis(600);
/// Time for a peer to export what is live.
const END: Duration = Duration::from_secs(20);

/// What live traffic costs, beside softflowd, nfpcapd, pmacctd and fprobe
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    bench: BenchArgs,
    /// Packets a second that every one is offered
    #[arg(long, default_value_t = 400_000)]
    rate: u32,
    /// How many flows there are
    #[arg(long, value_delimiter = ',', default_values_t = [1024, 65_536])]
    flows: Vec<u32>,
    /// Also measure the probe with this engine (may be given several times)
    #[arg(long)]
    engine: Vec<String>,
    /// Only the probe
    #[arg(long)]
    only_probe: bool,
}

/// How long, and how often.
struct Plan {
    rate: u32,
    packets: u64,
    rounds: u32,
}

/// Who takes part.
enum Contender {
    /// The probe with more arguments; as fast as the sender can if `full`.
    Probe { name: String, arguments: Vec<String>, full: bool },
    /// Another program.
    Peer { name: &'static str, program: String },
}

/// What one run showed.
struct Outcome {
    spent: Spent,
    counted: u64,
    /// Of those not counted, what the program's own ledger names with a reason; only the probe has one.
    named: u64,
    exact: bool,
    resident: u64,
    maps: u64,
    source: &'static str,
}

fn main() -> Result<()> {
    let args = Args::parse();
    require_root();
    // pmacctd leaves its plugin behind; as its reaper we count that too.
    set_child_subreaper(true).context("cannot become the reaper of grandchildren")?;
    let rate = u64::from(args.rate);
    // Half a second, or six.
    let (packets, rounds) = if args.bench.quick { (rate / 2, 1) } else { (rate * 6, 3) };
    let plan = Plan { rate: args.rate, packets, rounds };
    let contenders = contenders(&args)?;
    let mut report = Report::new("peers", args.bench);
    for flows in &args.flows {
        compare(&mut report, &contenders, &plan, *flows)?;
    }
    idle(&mut report, Duration::from_secs(if args.bench.quick { 1 } else { 10 }))?;
    report.finish().context("cannot write the report")
}

/// CPU time that the probe takes of each second in which nothing comes: its threads look whether there is something.
fn idle(report: &mut Report, span: Duration) -> Result<()> {
    let live = Live::new("peers", 1)?;
    let busy = || {
        let before = CpuTime::now()?;
        sleep(span);
        anyhow::Ok(CpuTime::now()?.since(&before).0.as_secs_f64() / span.as_secs_f64())
    };
    let without = busy()?;
    let end = &live.link.metered;
    let program = probe_program()?.display().to_string();
    let collector = V5Collector::start(Some(&end.namespace), LOOPBACK)?;
    let address = collector.address().to_string();
    let probe = Probe::start(&program, &end.namespace, &end.name, &["--collector", &address])?;
    sleep(START);
    let share = busy()? - without;
    probe.stop(Signal::SIGTERM)?;
    report.row(
        "probe/idle/second",
        None,
        Metric::Ns,
        share * 1e9,
        &[("share_of_a_cpu", rounded(share, 1e4))],
    );
    Ok(())
}

fn contenders(args: &Args) -> Result<Vec<Contender>> {
    probe_program()?;
    let own = |name: String, arguments: &[&str], full| Contender::Probe {
        name,
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        full,
    };
    let mut contenders = vec![own("probe".into(), &[], false), own("probe/full_speed".into(), &[], true)];
    for engine in &args.engine {
        contenders.push(own(format!("probe/{engine}"), &["--engine", engine], false));
    }
    if !args.only_probe {
        for (name, package) in
            [("softflowd", "softflowd"), ("nfpcapd", "nfdump"), ("pmacctd", "pmacct"), ("fprobe", "fprobe")]
        {
            match find_program(name) {
                Some(program) => {
                    contenders.push(Contender::Peer { name, program: program.display().to_string() });
                }
                None => eprintln!("{name} is not installed: it is left out (apt-get install {package})"),
            }
        }
    }
    Ok(contenders)
}

/// Every contender in each round, so that whatever else the machine does meets all of them alike.
fn compare(report: &mut Report, contenders: &[Contender], plan: &Plan, flows: u32) -> Result<()> {
    let mut costs = vec![Samples::default(); contenders.len()];
    let mut last: Vec<Option<Outcome>> = contenders.iter().map(|_| None).collect();
    for _ in 0..plan.rounds {
        let floors = [false, true].map(|full| {
            let (packets, pace) = plan.stream(full);
            Live::floor(flows, packets, pace)
        });
        let [paced, full] = floors;
        let (paced, full) = (paced?.cpu_ns(), full?.cpu_ns());
        for (index, contender) in contenders.iter().enumerate() {
            let outcome = contender
                .run(plan, flows)
                .with_context(|| format!("measuring {} with {flows} flows", contender.name()))?;
            let floor = if contender.at_full_speed() { full } else { paced };
            costs[index].add(outcome.spent.cpu_ns() - floor);
            last[index] = Some(outcome);
        }
    }
    let ours = costs[0].median();
    for ((contender, costs), outcome) in contenders.iter().zip(&mut costs).zip(last) {
        let Some(outcome) = outcome else { continue };
        let ns = costs.median();
        let mut extra = vec![
            ("times_our_cost", rounded(ns / ours, 10.0)),
            ("offered_per_second", rounded(outcome.spent.per_second(), 1.0)),
            ("sent", json!(outcome.spent.sent)),
            ("accounted", json!(outcome.counted)),
            ("accounted_share", rounded(outcome.counted as f64 / outcome.spent.sent as f64, 1e4)),
            ("unaccounted", json!(outcome.spent.sent.saturating_sub(outcome.counted + outcome.named))),
            ("every_flow_exact", json!(outcome.exact)),
            ("resident_octets", json!(outcome.resident)),
            ("accounted_by", json!(outcome.source)),
            ("others_cpus", rounded(outcome.spent.foreign_cpus(), 100.0)),
        ];
        if outcome.maps > 0 {
            extra.push(("bpf_map_octets", json!(outcome.maps)));
        }
        report.row(contender.name(), Some(u64::from(flows)), Metric::Ns, ns, &extra);
    }
    Ok(())
}

fn rounded(value: f64, scale: f64) -> Value {
    json!((value * scale).round() / scale)
}

impl Plan {
    /// At full speed several times as many packets take as long.
    fn stream(&self, full: bool) -> (u64, Pace) {
        if full { (self.packets * 4, Pace::Full) } else { (self.packets, Pace::PerSecond(self.rate)) }
    }
}

impl Contender {
    fn name(&self) -> &str {
        match self {
            Self::Probe { name, .. } => name,
            Self::Peer { name, .. } => name,
        }
    }

    fn at_full_speed(&self) -> bool {
        matches!(self, Self::Probe { full: true, .. })
    }

    fn run(&self, plan: &Plan, flows: u32) -> Result<Outcome> {
        let mut live = Live::new("peers", flows)?;
        let (packets, pace) = plan.stream(self.at_full_speed());
        match self {
            Self::Probe { arguments, .. } => run_probe(&mut live, arguments, packets, pace),
            Self::Peer { name, program } => run_peer(&mut live, name, program, packets, pace),
        }
    }
}

/// The probe's export must agree with its ledger, and that with what was sent.
fn run_probe(live: &mut Live, arguments: &[String], packets: u64, pace: Pace) -> Result<Outcome> {
    // For engines without XDP; where the probe attaches a program it changes nothing.
    live.link.metered.receive_without_xdp()?;
    let end = live.link.metered.clone();
    let collector = V5Collector::start(Some(&end.namespace), LOOPBACK)?;
    let address = collector.address().to_string();
    let mut all = vec!["--collector", &address, "--idle-timeout", "5m"];
    all.extend(arguments.iter().map(String::as_str));
    let program = probe_program()?.display().to_string();
    let mut probe = Probe::start(&program, &end.namespace, &end.name, &all)?;
    let spent = live.send(packets, pace)?;
    let id = probe.process().id();
    let (resident, maps) = (resident_octets(id), map_octets(id));
    let ended = probe.stop(Signal::SIGTERM)?;
    ensure!(ended.status.success(), "the probe ended with {}: {}", ended.status, ended.stderr);
    let ledger = &ended.ledger;
    ensure!(ledger.balanced(), "the ledger does not balance: {}", ledger.0);
    let received = ledger.count("packets.received");
    ensure!(received == spent.sent, "{received} packets received of {} sent: {}", spent.sent, ledger.0);
    let flows = collector.finish()?.flows();
    let counted = total(&flows).packets;
    ensure!(
        counted == ledger.count("packets.exported"),
        "{counted} packets collected, exported: {}",
        ledger.0
    );
    let named = ledger.count("packets.lost") + ledger.count("packets.unmetered");
    let exact = difference(&live.expected()?, &flows).is_none();
    Ok(Outcome { spent, counted, named, exact, resident, maps, source: "NetFlow v5 and ledger" })
}

fn run_peer(live: &mut Live, name: &str, program: &str, packets: u64, pace: Pace) -> Result<Outcome> {
    let folder = Folder::new("peers")?;
    let end = live.link.metered.clone();
    // Packets reach libpcap through the stack: veth takes live frames without XDP only with this.
    end.receive_without_xdp()?;
    let collector = V5Collector::start(Some(&end.namespace), LOOPBACK)?;
    let arguments = arguments(name, &end.name, &collector.address().to_string(), &folder)?;
    let mut process = Process::start(Some(&end.namespace), program, &arguments)?;
    sleep(START);
    ensure!(process.is_running(), "{name} ended at once; it said: {}{}", process.stdout(), process.stderr());
    let spent = live.send(packets, pace)?;
    let resident = resident_octets(process.id());
    match name {
        "softflowd" => {
            let socket = folder.file("softflowd.ctl");
            let asked = Command::new("softflowctl").args(["-c", &socket, "shutdown"]).output();
            ensure!(asked.context("running softflowctl")?.status.success(), "softflowd does not end");
        }
        "pmacctd" => process.signal(Signal::SIGINT)?,
        _ => process.signal(Signal::SIGTERM)?,
    }
    process.wait(END)?;
    let (flows, source) = if name == "nfpcapd" {
        collector.finish_raw()?;
        (flows_of_files(&folder)?, "nfdump of its files")
    } else {
        (Export::flows_of_others(&arrived(collector)?)?, "NetFlow v5")
    };
    let exact = difference(&live.expected()?, &flows).is_none();
    Ok(Outcome { spent, counted: total(&flows).packets, named: 0, exact, resident, maps: 0, source })
}

/// pmacctd's plugin ends after it, so the last datagrams may still be on their way.
fn arrived(collector: V5Collector) -> Result<Vec<Datagram>> {
    let alone = || {
        nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG))
            == Err(nix::errno::Errno::ECHILD)
    };
    wait_until(END, alone);
    collector.finish_raw()
}

/// Each as its documentation says for a busy link: in the foreground, a table and a capture buffer large enough
/// where it has an option for them, the same timeouts as ours.
fn arguments(name: &str, interface: &str, collector: &str, folder: &Folder) -> Result<Vec<String>> {
    let own = |arguments: &[&str]| arguments.iter().map(|&argument| argument.to_owned()).collect();
    Ok(match name {
        // In the foreground it takes no signal, so it is asked to end by its control socket.
        "softflowd" => own(&[
            "-d",
            "-i",
            interface,
            "-n",
            collector,
            "-v",
            "5",
            "-m",
            "1000000",
            "-B",
            "67108864",
            "-c",
            &folder.file("softflowd.ctl"),
            "-t",
            "maxlife=300",
        ]),
        "fprobe" => own(&[
            "-i", interface, "-l", "2", "-B", "65536", "-b", "100000", "-q", "1000000", "-d", "300",
            collector,
        ]),
        "nfpcapd" => {
            fs::create_dir(folder.path().join("flows"))?;
            own(&["-i", interface, "-w", &folder.file("flows"), "-b", "64", "-B", "1000000", "-e", "300,300"])
        }
        "pmacctd" => {
            let file = folder.file("pmacctd.conf");
            let text = format!(
                "daemonize: false\npcap_interface: {interface}\n\
                 aggregate: src_host,dst_host,src_port,dst_port,proto,tos\nplugins: nfprobe\n\
                 nfprobe_receiver: {collector}\nnfprobe_version: 5\nnfprobe_maxflows: 1000000\n\
                 plugin_buffer_size: 1024000\nplugin_pipe_size: 102400000\n"
            );
            fs::write(&file, text)?;
            own(&["-f", &file])
        }
        other => bail!("nobody said how to start {other}"),
    })
}

/// What nfpcapd has written, as nfdump reads it.
fn flows_of_files(folder: &Folder) -> Result<Flows> {
    let output = Command::new("nfdump")
        .args(["-R", &folder.file("flows"), "-q", "-N", "-o", "fmt:%pr|%sa|%sp|%da|%dp|%tos|%pkt|%byt"])
        .output()
        .context("running nfdump")?;
    ensure!(output.status.success(), "nfdump: {}", String::from_utf8_lossy(&output.stderr));
    let mut flows = Flows::new();
    for line in String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains('|')) {
        let (id, sums) = flow_of_line(line).with_context(|| format!("nfdump printed {line:?}"))?;
        *flows.entry(id).or_default() += sums;
    }
    Ok(flows)
}

fn flow_of_line(line: &str) -> Option<(probe_lab::FlowId, Sums)> {
    let columns: Vec<&str> = line.split('|').map(str::trim).collect();
    let [protocol, source, source_port, destination, destination_port, tos, packets, octets] = columns[..]
    else {
        return None;
    };
    let id = probe_lab::FlowId {
        source: source.parse().ok()?,
        destination: destination.parse().ok()?,
        source_port: source_port.parse().ok()?,
        destination_port: destination_port.parse().ok()?,
        protocol: protocol.parse().ok()?,
        tos: tos.parse().ok()?,
    };
    Some((id, Sums { packets: packets.parse().ok()?, octets: octets.parse().ok()? }))
}

fn total(flows: &Flows) -> Sums {
    flows.values().copied().sum()
}

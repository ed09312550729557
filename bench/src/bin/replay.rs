// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What reading a capture file costs, as a process: user and system CPU time of `probe replay`, and of
//! softflowd, pmacctd and nfpcapd (those that are installed) on the same file, in turn, in one run.
//!
//! Every one exports to a collector on the same machine that reads and forgets, or writes its own files
//! (nfpcapd). The file is in the page cache. A program's start and end are part of its time.

use std::fs::{self, File};
use std::io::BufWriter;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::wait::wait;
use probe_bench::random::Random;
use probe_bench::report::{BenchArgs, Metric, Report};
use probe_bench::scratch::{Folder, find_program, probe_program};
use probe_lab::pcap_file::{PcapFormat, PcapWriter};
use serde_json::{Value, json};

const FLOWS: [u32; 2] = [1024, 65_536];
const PACKETS: u64 = 4_000_000;
const QUICK_PACKETS: u64 = 1_000_000;
/// Octets of a frame: small ones, so that the work for each packet is what counts.
const FRAME: usize = 128;
const START_NS: u64 = 1_760_000_000_000_000_000;
const GAP_NS: u64 = 1000;

/// What reading a capture file costs, beside softflowd, pmacctd and nfpcapd
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    bench: BenchArgs,
}

/// A program and how it reads a file.
struct Contender {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let (packets, rounds) = if args.bench.quick { (QUICK_PACKETS, 1) } else { (PACKETS, 5) };
    // pmacctd leaves its plugin behind; as its reaper we count that too.
    set_child_subreaper(true).context("cannot become the reaper of grandchildren")?;
    let folder = Folder::new("replay")?;
    let collector = UdpSocket::bind("127.0.0.1:0").context("cannot open a UDP socket on 127.0.0.1")?;
    collector.set_read_timeout(Some(Duration::from_millis(100)))?;
    let port = collector.local_addr()?.port();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| forget(&collector, &stop));
        let measured = measure(args.bench, (packets, rounds), folder.path(), port);
        stop.store(true, Ordering::Relaxed);
        measured
    })
}

fn forget(collector: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        // A timeout is how the flag gets looked at.
        collector.recv(&mut buffer).ok();
    }
}

fn measure(args: BenchArgs, (packets, rounds): (u64, u32), folder: &Path, port: u16) -> Result<()> {
    let mut report = Report::new("replay", args);
    for flows in FLOWS {
        let file = folder.join(format!("{flows}.pcap"));
        write_capture(&file, flows, packets)?;
        // The disk has it before anybody is measured, not while the first one is.
        File::open(&file)?.sync_all()?;
        let contenders = contenders(folder, &file, port)?;
        // The least of several, for all alike: what else runs on the machine only adds. Every contender in each round, so
        // that it meets all of them alike.
        let mut least = vec![Duration::MAX; contenders.len()];
        for _ in 0..rounds {
            for (contender, least) in contenders.iter().zip(&mut least) {
                *least = run(contender, folder)?.min(*least);
            }
        }
        let mut ours_ns = None;
        for (contender, cpu) in contenders.iter().zip(least) {
            let ns = cpu.as_secs_f64() * 1e9 / packets as f64;
            let ratio = ns / *ours_ns.get_or_insert(ns);
            let extra = [
                ("ns_per_packet", json!((ns * 10.0).round() / 10.0)),
                ("times_our_cost", json!((ratio * 10.0).round() / 10.0)),
            ];
            report.row(contender.name, Some(u64::from(flows)), Metric::PerSecond, 1e9 / ns, &extra);
        }
        check(&folder.join("ledger.json"), packets)?;
        fs::remove_file(&file)?;
    }
    report.finish().context("cannot write the report")
}

/// Ours first, then the peers that are installed.
fn contenders(folder: &Path, file: &Path, port: u16) -> Result<Vec<Contender>> {
    let (file, collector) = (file.display().to_string(), format!("127.0.0.1:{port}"));
    let ledger = folder.join("ledger.json").display().to_string();
    let own = |arguments: &[&str]| arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let probe = probe_program()?;
    let mut contenders = vec![Contender {
        name: "probe",
        program: probe,
        arguments: own(&["replay", &file, "--collector", &collector, "--ledger", &ledger]),
    }];
    let configuration = folder.join("pmacctd.conf");
    let aggregate = "src_host,dst_host,src_port,dst_port,proto,tos";
    fs::write(
        &configuration,
        format!(
            "daemonize: false\npcap_savefile: {file}\naggregate: {aggregate}\nplugins: nfprobe\n\
             nfprobe_receiver: {collector}\nnfprobe_version: 5\nplugin_buffer_size: 1024000\n\
             plugin_pipe_size: 102400000\nnfprobe_maxflows: 1000000\n"
        ),
    )?;
    let configuration = configuration.display().to_string();
    let flows = folder.join("nfpcapd");
    fs::create_dir_all(&flows)?;
    let flows = flows.display().to_string();
    // softflowd removes its pid file when it ends: as root, also a device that is named here.
    let pid_file = folder.join("softflowd.pid").display().to_string();
    let peers = [
        (
            "softflowd",
            own(&[
                "-d", "-a", "-r", &file, "-n", &collector, "-v", "5", "-m", "1000000", "-p", &pid_file, "-c",
                "none",
            ]),
        ),
        ("pmacctd", own(&["-f", &configuration])),
        ("nfpcapd", own(&["-r", &file, "-w", &flows])),
    ];
    for (name, arguments) in peers {
        match find_program(name) {
            Some(program) => contenders.push(Contender { name, program, arguments }),
            None => {
                eprintln!("{name} is not installed: it is left out (apt-get install softflowd pmacct nfdump)")
            }
        }
    }
    Ok(contenders)
}

/// CPU time of a program and of what it started.
fn run(contender: &Contender, folder: &Path) -> Result<Duration> {
    let name = contender.name;
    let said = folder.join(format!("{name}.log"));
    let before = children_cpu()?;
    let status = Command::new(&contender.program)
        .args(&contender.arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&said)?)
        .status()
        .with_context(|| format!("cannot start {}", contender.program.display()))?;
    loop {
        match wait() {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => break,
            Err(error) => return Err(error).context("cannot wait for what a program left behind"),
        }
    }
    // pmacctd ends with status 1 at the end of a file; what it says on errors is in its log.
    if !status.success() && name != "pmacctd" {
        bail!("{name} ended with {status}: {}", fs::read_to_string(said)?);
    }
    children_cpu()?.checked_sub(before).context("CPU time ran backwards")
}

fn children_cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(microseconds)?))
}

/// That we were measured reading all of it.
fn check(ledger: &Path, packets: u64) -> Result<()> {
    let ledger: Value = serde_json::from_slice(&fs::read(ledger)?)?;
    ensure!(
        ledger["packets"]["metered"] == packets && ledger["balanced"] == true,
        "the replay did not meter all {packets} packets: {ledger}"
    );
    Ok(())
}

/// UDP packets of random flows.
fn write_capture(path: &Path, flows: u32, packets: u64) -> Result<()> {
    let out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut writer = PcapWriter::new(out, PcapFormat::default())?;
    let mut random = Random::new(u64::from(flows));
    let mut frame = vec![0; FRAME];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00]);
    let total = u16::try_from(FRAME - 14)?;
    frame[14..24].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17]);
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    frame[30..34].copy_from_slice(&[192, 0, 2, 1]);
    frame[36..38].copy_from_slice(&443u16.to_be_bytes());
    frame[38..40].copy_from_slice(&(total - 20).to_be_bytes());
    for packet in 0..packets {
        let flow = u32::try_from(random.below(u64::from(flows)))?;
        frame[26..30].copy_from_slice(&(0x0a00_0000 + flow).to_be_bytes());
        let [_, _, high, low] = flow.to_be_bytes();
        frame[34..36].copy_from_slice(&[high | 0x80, low]);
        writer.write(START_NS + packet * GAP_NS, &frame)?;
    }
    writer.finish()?;
    Ok(())
}

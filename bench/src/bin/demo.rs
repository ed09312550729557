// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `make run`: the probe at work, on a cable between two network namespaces of its own.
//!
//! Traffic of several kinds goes in at one end; `probe run` meters the other end; `probe collect` shows
//! what it exports; at the end stands the ledger. Nothing of the host's own network is touched.

use std::{
    io::{self, IsTerminal, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use probe_lab::{
    LedgerView, Link, Namespace, Process,
    clock::Stopwatch,
    conversations::{Hosts, arp_request},
    http_get,
    packet_socket::PacketSocket,
    packets::Packet,
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};

/// How long traffic is sent.
const LASTS: Duration = Duration::from_secs(15);
/// One round of traffic, in small steps.
const ROUND: Duration = Duration::from_millis(900);
const STEP: Duration = Duration::from_millis(30);
const COLLECTOR: &str = "127.0.0.1:2055";
const METRICS: &str = "127.0.0.1:9990";
const READY: Duration = Duration::from_secs(30);
const END: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    match demonstrate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error closed, the status must do.
            writeln!(io::stderr(), "error: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn demonstrate() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "making network namespaces and attaching XDP needs root; run `sudo env PATH=\"$PATH\" make run`"
        );
    }
    let probe = probe_binary()?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register(signal, Arc::clone(&stop)).context("catching signals, to clean up")?;
    }
    let screen = Screen { colour: io::stdout().is_terminal() };
    screen.title("flowprobe: packets in, NetFlow out, every packet accounted for")?;
    screen.say(
        "
   gen0 ─────── cable ───────▶ tap0                        127.0.0.1:2055
   TCP, UDP, ICMP, IPv6,       probe run ── NetFlow v5 ──▶ probe collect
   VLAN, fragments, ARP
",
    )?;
    let link = Link::new("demo", 1).context("making the cable")?;
    screen.say(&format!(
        "Two network namespaces, {} and {}, are joined by a cable. The host's own network is not touched.",
        link.sender.namespace.name(),
        link.metered.namespace.name()
    ))?;
    let here = &link.metered.namespace;
    let mut collect = start(&probe, here, &["collect", "--listen", &format!("udp://{COLLECTOR}")], &screen)?;
    let options = ["--idle-timeout", "2s", "--active-timeout", "5s", "--harvest-interval", "200ms"];
    let mut run =
        vec!["run", "--iface", "tap0", "--collector", COLLECTOR, "--metrics", METRICS, "--ledger", "-"];
    run.extend(options);
    let mut run = start(&probe, here, &run, &screen)?;
    let metrics: SocketAddr = METRICS.parse()?;
    run.wait_ready(here, metrics, "/readyz", READY)?;
    screen.say(run.stderr().trim_end())?;

    screen.title(&format!(
        "Flows as the collector receives them ({} s, Ctrl-C ends sooner)",
        LASTS.as_secs()
    ))?;
    let mut feed = Feed { screen, shown: 0 };
    let sent = send_traffic(&link, &stop, || feed.show(&collect.stdout()))?;
    let scraped = scrape(here, metrics).context("asking the probe for its metrics")?;

    // The probe first: what it flushes still reaches the collector.
    run.signal(Signal::SIGTERM)?;
    let status = run.wait(END)?;
    sleep(Duration::from_millis(300));
    collect.signal(Signal::SIGTERM)?;
    collect.wait(END)?;
    feed.show(&collect.stdout())?;
    ensure!(status.success(), "the probe ended with {status}; it said:\n{}", run.stderr());

    let screen = feed.screen;
    screen.title(&format!(
        "Metrics, as Prometheus reads them from http://{METRICS}/metrics a moment before the end"
    ))?;
    screen.say(scraped.trim_end())?;
    let stderr = run.stderr();
    let ledger = stderr.find("Ledger ").map(|at| &stderr[at..]);
    let ledger = ledger.with_context(|| format!("the probe printed no ledger; it said:\n{stderr}"))?;
    screen.title("The probe's ledger, printed at its end")?;
    screen.say(ledger.trim_end())?;
    let json =
        serde_json::from_str(&run.stdout()).context("reading the ledger in JSON, which --ledger - prints")?;
    let received = LedgerView(json).count("packets.received");
    screen.say(&format!(
        "\n{sent} frames were sent, {received} received. IPv6 flows cannot be said in NetFlow v5, so they are counted\n\
         as not representable; ARP carries no IP packet; later fragments got the ports of\n\
         their first. Nothing is left out in silence."
    ))?;
    ensure!(sent == received, "{sent} frames were sent, but the probe received {received}");
    screen.title("On a real interface: make run IFACE=eth1 COLLECTOR=192.0.2.10:2055")?;
    Ok(())
}

/// The probe that was built with this program.
fn probe_binary() -> Result<PathBuf> {
    let here = std::env::current_exe().context("finding the directory of this program")?;
    let probe = here.with_file_name("probe");
    ensure!(
        probe.is_file(),
        "there is no {}; build it with `cargo build --release -p probe-user --bin probe`",
        probe.display()
    );
    Ok(probe)
}

/// Starts the probe with a subcommand, out of reach of the terminal's Ctrl-C: it is ended in order instead.
fn start(probe: &std::path::Path, inside: &Namespace, args: &[&str], screen: &Screen) -> Result<Process> {
    screen.say(&format!("$ probe {}", args.join(" ")))?;
    let mut command = inside.command(&probe.to_string_lossy());
    command.args(args).process_group(0);
    Process::spawn("probe", command)
}

/// A few lines of the probe's metrics.
fn scrape(inside: &Namespace, address: SocketAddr) -> Result<String> {
    const SHOWN: [&str; 5] = [
        "flowprobe_received_packets_total",
        "flowprobe_metered_packets_total",
        "flowprobe_flows_live",
        "flowprobe_flows_expired_total",
        "flowprobe_ledger_imbalance_packets",
    ];
    let (status, body) = http_get(Some(inside), address, "/metrics")?;
    ensure!(status == 200, "it answered with status {status}");
    let lines = body.lines().filter(|line| SHOWN.iter().any(|name| line.starts_with(name)));
    Ok(lines.filter(|line| !line.ends_with(" 0") || line.contains("imbalance")).fold(
        String::new(),
        |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        },
    ))
}

/// Sends rounds of traffic until the time is over or somebody stops it; returns the number of frames.
fn send_traffic(link: &Link, stop: &AtomicBool, mut meanwhile: impl FnMut() -> Result<()>) -> Result<u64> {
    let socket = PacketSocket::open(&link.sender)?;
    let watch = Stopwatch::start();
    let steps = usize::try_from(ROUND.as_millis() / STEP.as_millis())?;
    let mut sent = 0;
    for round in 0.. {
        let frames = frames(round);
        for step in frames.chunks(frames.len().div_ceil(steps)) {
            if stop.load(Ordering::Relaxed) || watch.elapsed() >= LASTS {
                return Ok(sent);
            }
            for frame in step {
                socket.send(frame)?;
                sent += 1;
            }
            meanwhile()?;
            sleep(STEP);
        }
    }
    Ok(sent)
}

/// The frames of one round: some kinds every time, some now and then, so that flows of all kinds and
/// ages come.
fn frames(round: u16) -> Vec<Vec<u8>> {
    let [_, low] = round.to_be_bytes();
    let port = 40_000 + round;
    let client = Ipv4Addr::new(192, 0, 2, 10 + low % 20);
    let web = Hosts::new(client, Ipv4Addr::new(198, 51, 100, 80));
    let dns = Hosts::new(client, Ipv4Addr::new(198, 51, 100, 53));
    let phone =
        Hosts::new(Ipv4Addr::new(192, 0, 2, 70), Ipv4Addr::new(198, 51, 100, 71)).in_vlan(100).with_tos(0xb8);
    let mut talks: Vec<Vec<Packet>> = vec![dns.query(port, 53, 34, 120)];
    // One call that goes on all the time: the active timeout exports it piece by piece.
    talks.push(phone.stream(16_384, 16_386, 45, 172));
    talks.push(match round % 4 {
        0 => web.download(port, 443, 20_000 + 3000 * usize::from(low)),
        1 => dns.ping(3),
        2 => web.in_vlan(200).download(port, 80, 4000),
        _ => {
            let v6 = Hosts::new(
                Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10 + u16::from(low)),
                Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x80),
            );
            v6.download(port, 443, 9000)
        }
    });
    let mut frames: Vec<Vec<Vec<u8>>> =
        talks.iter().map(|talk| talk.iter().map(Packet::frame).collect()).collect();
    if round % 4 == 1 {
        frames.push(vec![arp_request(client, Ipv4Addr::new(192, 0, 2, 1))]);
        let large = Hosts::new(client, Ipv4Addr::new(198, 51, 100, 123)).stream(port, 5000, 1, 4000);
        frames.push(large.iter().flat_map(|packet| packet.fragments(1480)).collect());
    }
    side_by_side(frames)
}

/// All conversations at the same time: each keeps its order and is spread over the whole.
fn side_by_side(talks: Vec<Vec<Vec<u8>>>) -> Vec<Vec<u8>> {
    let mut all: Vec<(usize, Vec<u8>)> = Vec::new();
    for talk in talks {
        let count = talk.len();
        all.extend(talk.into_iter().enumerate().map(|(index, frame)| (index * 1000 / count, frame)));
    }
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, frame)| frame).collect()
}

/// What `probe collect` prints, line by line as it comes.
struct Feed {
    screen: Screen,
    shown: usize,
}

impl Feed {
    fn show(&mut self, printed: &str) -> Result<()> {
        if let Some(new) = printed.get(self.shown..).filter(|new| !new.is_empty()) {
            self.screen.say(new.trim_end())?;
            self.shown = printed.len();
        }
        Ok(())
    }
}

/// Standard output, with titles in bold on a terminal.
struct Screen {
    colour: bool,
}

impl Screen {
    fn title(&self, text: &str) -> Result<()> {
        let (on, off) = if self.colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        self.say(&format!("\n{on}{text}{off}"))
    }

    fn say(&self, text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).context("writing to standard output")
    }
}

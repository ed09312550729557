// SPDX-License-Identifier: Apache-2.0 OR MIT
//! With sampling, what is metered and what is not add up to what was sent, and the selection is as asked for.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use nix::sys::signal::Signal;
use probe_lab::{
    Ended, Export, Flows, Generator, Link, Probe, Sums, Traffic, V5Collector, require_root, send_in_parallel,
};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const SOON: Duration = Duration::from_secs(10);

/// One run under a sampling.
struct Run {
    sent: Flows,
    /// Packets that each CPU received, as the metrics say.
    received: Vec<u64>,
    ended: Ended,
    export: Export,
}

/// Sends `packets` of `flows` flows from each of `senders`, who have flows of their own.
fn run(label: &str, sampling: &str, senders: u32, flows: u32, packets: u64) -> Run {
    require_root();
    let link = Link::for_many_senders(label).unwrap();
    let collector = V5Collector::start(Some(&link.metered.namespace), ANY_PORT).unwrap();
    let address = collector.address().to_string();
    let args = ["--collector", &address, "--sampling", sampling, "--harvest-interval", "50ms"];
    let probe = Probe::start(PROBE, &link.metered.namespace, &link.metered.name, &args).unwrap();
    let mut generators: Vec<_> = (0..senders)
        .map(|sender| Generator::load(&link, &Traffic::udp(sender * flows, flows)).unwrap())
        .collect();
    // In parts, so that the halves of the caches change meanwhile.
    for _ in 0..5 {
        send_in_parallel(&link, &mut generators, packets / 5).unwrap();
    }
    let all = packets * u64::from(senders);
    let is_all = |count: f64| (count - all as f64).abs() < 0.5;
    probe.wait_for_metric("flowprobe_received_packets_total", "", SOON, is_all).unwrap();
    let cpus = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap();
    let last: u32 = cpus.trim().rsplit(['-', ',']).next().unwrap().parse().unwrap();
    let received = (0..=last)
        .map(|cpu| probe.metric("flowprobe_received_packets_total", &format!("cpu=\"{cpu}\"")))
        .map(|count| format!("{:.0}", count.unwrap()).parse().unwrap())
        .collect();
    let ended = probe.stop(Signal::SIGTERM).unwrap();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    let mut sent = Flows::new();
    for generator in &generators {
        sent.extend(generator.expected().unwrap());
    }
    let run = Run { sent, received, ended, export: collector.finish().unwrap() };
    let ledger = &run.ended.ledger;
    assert!(ledger.balanced(), "{}", ledger.0);
    assert_eq!(ledger.count("packets.received"), all);
    assert_eq!(ledger.count("packets.metered") + ledger.count("packets.unmetered.sampled_out"), all);
    let collected: Sums = run.export.flows().values().copied().sum();
    assert_eq!(ledger.sums("metered"), collected, "{}", ledger.0);
    for (id, sums) in run.export.flows() {
        assert!(sums.packets <= run.sent[&id].packets && sums.octets <= run.sent[&id].octets, "{id}");
    }
    run
}

/// Whether a count of `of` trials with probability `1 / interval` lies within six sigma.
fn assert_share(count: u64, of: u64, interval: u32) {
    let (share, of) = (1.0 / f64::from(interval), of as f64);
    let (expected, sigma) = (of * share, (of * share * (1.0 - share)).sqrt());
    assert!((count as f64 - expected).abs() <= 6.0 * sigma, "{count}, expected {expected} +- {sigma}");
}

#[test]
#[ignore = "needs root: run `make test`"]
fn every_nth_packet_of_each_cpu_exactly() {
    for senders in [1, 2] {
        let run = run("nth", "1:10", senders, 1000, 100_005);
        let expected: u64 = run.received.iter().map(|packets| packets / 10).sum();
        assert_eq!(run.ended.ledger.count("packets.metered"), expected, "of {:?}", run.received);
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn by_chance_its_share() {
    let run = run("chance", "random:8", 2, 1000, 100_000);
    assert_share(run.ended.ledger.count("packets.metered"), 200_000, 8);
}

#[test]
#[ignore = "needs root: run `make test`"]
fn flows_whole_or_not_at_all() {
    let run = run("flows", "flow:4", 2, 10_000, 100_000);
    let collected = run.export.flows();
    for (id, sums) in &collected {
        assert_eq!(sums, &run.sent[id], "{id}");
    }
    assert_share(collected.len() as u64, run.sent.len() as u64, 4);
}

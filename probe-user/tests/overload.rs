// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The overload ladder where it counts: floods against a table or a ring far too small, climbed and come down from,
//! with every packet accounted for.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use nix::sys::signal::Signal;
use probe_lab::{
    Ended, Flows, Generator, Link, Probe, Sums, Traffic, V5Collector, clock::wait_until, require_root,
    send_in_parallel,
};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// For what takes a few harvests on an idle machine.
const SOON: Duration = Duration::from_secs(30);
/// Five seconds of calm before each rung down.
const DOWN: Duration = Duration::from_secs(90);
const SAMPLED_OUT: &str = "reason=\"sampled_out\"";

/// A cable, and a collector at its metered end.
fn lab(label: &str) -> (Link, V5Collector) {
    require_root();
    let link = Link::for_many_senders(label).unwrap();
    let collector = V5Collector::start(Some(&link.metered.namespace), ANY_PORT).unwrap();
    (link, collector)
}

fn start<'a>(link: &'a Link, collector: &V5Collector, args: &[&str]) -> Probe<'a> {
    let collector = collector.address().to_string();
    let always = ["--collector", &collector, "--overload", "adaptive", "--harvest-interval", "100ms"];
    let args = [&always[..], args].concat();
    let probe = Probe::start(PROBE, &link.metered.namespace, &link.metered.name, &args).unwrap();
    assert_eq!(rung(&probe), 0);
    probe
}

/// Sends bursts until the ladder has reached this rung.
fn flood(link: &Link, probe: &Probe<'_>, generator: &mut [Generator; 1], to: u32) {
    let reached = wait_until(SOON, || {
        send_in_parallel(link, generator, 20_000).unwrap();
        rung(probe) >= to
    });
    assert!(reached, "on rung {} after {SOON:?}", rung(probe));
}

fn metric(probe: &Probe<'_>, name: &str, label: &str) -> u32 {
    let value = probe.metric(name, label).unwrap();
    format!("{value:.0}").parse().unwrap()
}

fn rung(probe: &Probe<'_>) -> u32 {
    metric(probe, "flowprobe_overload_rung", "")
}

/// Waits until the ladder is back at its foot, and checks that it took as many rungs down as up.
fn come_down(probe: &Probe<'_>) {
    probe.wait_for_metric("flowprobe_overload_rung", "", DOWN, |rung| rung < 0.5).unwrap();
    let up = metric(probe, "flowprobe_overload_steps_total", "direction=\"up\"");
    assert_eq!(up, metric(probe, "flowprobe_overload_steps_total", "direction=\"down\""));
    assert_eq!(metric(probe, "flowprobe_flow_sampling_interval", ""), 1);
}

fn total(flows: &Flows) -> Sums {
    flows.values().copied().sum()
}

/// Every packet is metered or was sampled out, and what was metered was exported or is counted as lost.
fn stop(probe: Probe<'_>, collector: V5Collector, generators: &[&[Generator; 1]]) -> Ended {
    let ended = probe.stop(Signal::SIGTERM).unwrap();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    let mut sent = Flows::new();
    for generator in generators {
        for (id, sums) in generator[0].expected().unwrap() {
            *sent.entry(id).or_default() += sums;
        }
    }
    let ledger = &ended.ledger;
    assert!(ledger.balanced(), "{}", ledger.0);
    assert_eq!(ledger.count("packets.received"), total(&sent).packets, "{}", ledger.0);
    assert_eq!(ledger.count("packets.unmetered"), ledger.count("packets.unmetered.sampled_out"));
    assert_eq!(ledger.count("packets.lost"), ledger.count("packets.lost.spill_ring_full"), "{}", ledger.0);
    let collected = collector.finish().unwrap().flows();
    assert_eq!(total(&collected), ledger.sums("exported"), "{}", ledger.0);
    for (id, sums) in &collected {
        assert!(sent.get(id).is_some_and(|sent| sums.packets <= sent.packets), "{id}: {sums:?}");
    }
    ended
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_full_table_is_climbed_and_come_down_from() {
    let (link, collector) = lab("full");
    // So long an idle timeout that only early exports make room after the flood.
    let probe = start(&link, &collector, &["--max-flows", "1000", "--idle-timeout", "2m"]);
    let mut generator = [Generator::load(&link, &Traffic::udp(0, 50_000)).unwrap()];
    flood(&link, &probe, &mut generator, 2);
    come_down(&probe);
    let live = metric(&probe, "flowprobe_flows_live", "");
    assert!((600..700).contains(&live), "{live} flows: early exports stop below the low mark");

    let ended = stop(probe, collector, &[&generator]);
    for line in [
        "overload: rung 1 after 0: the idle timeout is shortened, because the flow table is ",
        "overload: rung 2 after 1: the oldest flows are exported early, because the flow table is ",
        "overload: rung 0 after 1: nothing is held back, because the pressure is gone",
    ] {
        assert!(ended.stderr.contains(line), "{line}\n{}", ended.stderr);
    }
    assert_eq!(ended.ledger.count("packets.lost"), 0, "{}", ended.ledger.0);
    assert!(ended.ledger.count("flows.expired.lack_of_resources") >= 300, "{}", ended.ledger.0);
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_full_ring_has_flows_sampled_until_the_flood_is_over() {
    let (link, collector) = lab("ring");
    let probe = start(&link, &collector, &["--spill-records", "256", "--cache-slots", "128"]);
    let mut attack = [Generator::load(&link, &Traffic::udp(0, 5000)).unwrap()];
    flood(&link, &probe, &mut attack, 4);
    assert!(metric(&probe, "flowprobe_flow_sampling_interval", "") >= 4);
    // One more burst, all of it under sampling.
    send_in_parallel(&link, &mut attack, 20_000).unwrap();
    come_down(&probe);
    let (metered, sampled_out) = (
        metric(&probe, "flowprobe_metered_packets_total", ""),
        metric(&probe, "flowprobe_unmetered_packets_total", SAMPLED_OUT),
    );
    assert!(sampled_out >= 5000, "{sampled_out} packets sampled out");

    // Few enough flows for the cache: the kernel meters every one of them again.
    let mut calm = [Generator::load(&link, &Traffic::udp(10_000, 10)).unwrap()];
    send_in_parallel(&link, &mut calm, 10_000).unwrap();
    let all = f64::from(metered + 10_000);
    probe.wait_for_metric("flowprobe_metered_packets_total", "", SOON, |metered| metered >= all).unwrap();
    assert_eq!(metric(&probe, "flowprobe_unmetered_packets_total", SAMPLED_OUT), sampled_out);

    let ended = stop(probe, collector, &[&attack, &calm]);
    for line in [
        "because the spill ring is ",
        "one flow in 2 is metered",
        "one flow in 4 is metered",
        "--spill-records",
    ] {
        assert!(ended.stderr.contains(line), "{line}\n{}", ended.stderr);
    }
}

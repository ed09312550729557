// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The overload ladder where it counts: a flood against a table far too small, climbed and come down from, with
//! every packet accounted for.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use nix::sys::signal::Signal;
use probe_lab::{
    Flows, Generator, Link, Probe, Sums, Traffic, V5Collector, clock::wait_until, difference, require_root,
    send_in_parallel,
};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// For what takes a few harvests on an idle machine.
const SOON: Duration = Duration::from_secs(30);
/// Two rungs down, with five seconds of calm before each.
const DOWN: Duration = Duration::from_secs(60);

/// Sends bursts until `condition` holds.
fn flood(link: &Link, generators: &mut [Generator], mut condition: impl FnMut() -> bool) -> bool {
    wait_until(SOON, || {
        send_in_parallel(link, generators, 20_000).unwrap();
        condition()
    })
}

fn total(flows: &Flows) -> Sums {
    flows.values().copied().sum()
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_flood_is_climbed_and_come_down_from_with_nothing_lost() {
    require_root();
    let link = Link::for_many_senders("overload").unwrap();
    let collector = V5Collector::start(Some(&link.metered.namespace), ANY_PORT).unwrap();
    let address = collector.address().to_string();
    // The idle timeout is so long that only early exports can make room after the flood.
    let args = ["--collector", &address, "--overload", "adaptive", "--max-flows", "1000"];
    let times = ["--idle-timeout", "2m", "--harvest-interval", "100ms"];
    let args = [&args[..], &times[..]].concat();
    let probe = Probe::start(PROBE, &link.metered.namespace, &link.metered.name, &args).unwrap();
    let rung = || probe.metric("flowprobe_overload_rung", "").unwrap();
    assert!(rung().abs() < 0.5);
    let mut generators = [Generator::load(&link, &Traffic::udp(0, 50_000)).unwrap()];
    assert!(flood(&link, &mut generators, || rung() >= 2.0), "rung {}", rung());
    probe.wait_for_metric("flowprobe_overload_rung", "", DOWN, |rung| rung < 0.5).unwrap();
    let live = probe.metric("flowprobe_flows_live", "").unwrap();
    assert!((600.0..=700.0).contains(&live), "{live} flows: early exports stop below the low mark");
    let moves = |direction| probe.metric("flowprobe_overload_steps_total", direction).unwrap();
    let (up, down) = (moves("direction=\"up\""), moves("direction=\"down\""));
    assert!(up >= 2.0 && (up - down).abs() < 0.5, "{up} up, {down} down");

    let ended = probe.stop(Signal::SIGTERM).unwrap();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    for line in [
        "overload: rung 1 after 0: the idle timeout is shortened, because the flow table is ",
        "overload: rung 2 after 1: the oldest flows are exported early, because the flow table is ",
        "overload: rung 0 after 1: nothing is held back, because the pressure is gone",
    ] {
        assert!(ended.stderr.contains(line), "{line}\n{}", ended.stderr);
    }
    let ledger = &ended.ledger;
    assert!(ledger.balanced(), "{}", ledger.0);
    let sent = generators[0].expected().unwrap();
    assert_eq!(ledger.count("packets.received"), total(&sent).packets, "{}", ledger.0);
    assert_eq!(ledger.sums("metered"), total(&sent), "{}", ledger.0);
    assert_eq!(ledger.sums("exported"), total(&sent), "{}", ledger.0);
    assert!(ledger.count("flows.expired.lack_of_resources") >= 300, "{}", ledger.0);
    assert_eq!(difference(&sent, &collector.finish().unwrap().flows()), None);
}

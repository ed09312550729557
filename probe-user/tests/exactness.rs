// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was sent is what a collector reads, to the packet and the octet, per flow; and the ledger balances.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{
    collections::BTreeSet,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    thread::sleep,
    time::Duration,
};

use nix::sys::signal::Signal;
use probe_lab::{
    Ended, Export, Flows, Generator, Link, Probe, Sums, Traffic, V5Collector, clock::Stopwatch, difference,
    require_root, send_in_parallel,
};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A probe on the metered end of a link, and a collector beside it.
struct Bench {
    link: Link,
    collector: V5Collector,
}

impl Bench {
    fn new(label: &str) -> Self {
        require_root();
        let link = Link::for_many_senders(label).unwrap();
        let collector = V5Collector::start(Some(&link.metered.namespace), ANY_PORT).unwrap();
        Self { link, collector }
    }

    fn start(&self, args: &[&str]) -> Probe<'_> {
        let collector = self.collector.address().to_string();
        let mut all = vec!["--collector", &collector];
        all.extend(args);
        Probe::start(PROBE, &self.link.metered.namespace, &self.link.metered.name, &all).unwrap()
    }
}

/// What the generators have sent, flow by flow.
fn sent(generators: &[Generator]) -> Flows {
    let mut flows = Flows::new();
    for generator in generators {
        for (id, sums) in generator.expected().unwrap() {
            *flows.entry(id).or_default() += sums;
        }
    }
    flows
}

fn total(flows: &Flows) -> Sums {
    flows.values().copied().sum()
}

/// Ended in time and in order, with nothing lost and nothing left attached.
fn stop(probe: Probe<'_>, link: &Link) -> Ended {
    let ended = probe.stop(Signal::SIGTERM).unwrap();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    assert!(ended.took < Duration::from_secs(5), "took {:?} to end", ended.took);
    assert!(!link.metered.has_xdp().unwrap(), "the program is still attached");
    assert!(ended.ledger.balanced(), "{}", ended.ledger.0);
    ended
}

/// Everything sent was received, metered and exported.
fn assert_all_exported(ended: &Ended, sent: Sums) {
    let ledger = &ended.ledger;
    assert_eq!(ledger.count("packets.received"), sent.packets, "received: {}", ledger.0);
    assert_eq!(ledger.sums("metered"), sent, "metered: {}", ledger.0);
    assert_eq!(ledger.sums("exported"), sent, "exported: {}", ledger.0);
    assert_eq!(ledger.sums("lost"), Sums::default(), "lost: {}", ledger.0);
    assert_eq!(ledger.count("packets.live"), 0);
    assert_eq!(ledger.count("packets.unmetered"), 0, "unmetered: {}", ledger.0);
}

/// The collector's own account agrees with the ledger's.
fn assert_all_collected(ended: &Ended, export: &Export) {
    let ledger = &ended.ledger;
    assert_eq!(ledger.count("collectors.0.records"), export.records.len() as u64, "{}", ledger.0);
    assert_eq!(ledger.count("collectors.0.datagrams"), export.datagrams as u64);
    assert_eq!(ledger.count("collectors.0.dropped"), 0, "{}", ledger.0);
}

#[test]
#[ignore = "needs root: run `make test`"]
fn six_million_packets_in_a_hundred_thousand_flows() {
    // Bursts that the ring holds even if the harvester gets no time at all while they last.
    const BURST: u64 = 600_000;
    const RING: &str = "1048576";
    let bench = Bench::new("load");
    let probe = bench.start(&[
        "--idle-timeout",
        "1s",
        "--active-timeout",
        "2s",
        "--harvest-interval",
        "200ms",
        "--spill-records",
        RING,
    ]);
    // Twenty thousand flows are sent by both, so slots of two CPUs make one flow.
    let mut generators = [
        Generator::load(&bench.link, &Traffic::udp(0, 60_000)).unwrap(),
        Generator::load(&bench.link, &Traffic::udp(40_000, 60_000)).unwrap(),
    ];
    // Shorter and longer than the idle timeout: some flows go on, some end and begin anew.
    let mut sending = Duration::ZERO;
    for pause in [300, 1500, 100, 2500, 0] {
        let watch = Stopwatch::start();
        send_in_parallel(&bench.link, &mut generators, BURST).unwrap();
        sending += watch.elapsed();
        sleep(Duration::from_millis(pause));
    }
    println!("{:.2} M packets/s into the probe", 6.0 / sending.as_secs_f64());
    let harvests = probe.metric("flowprobe_harvest_duration_seconds_count", "").unwrap();
    assert!(harvests >= 5.0, "only {harvests} harvests");
    let ended = stop(probe, &bench.link);
    let sent = sent(&generators);
    assert_eq!(sent.len(), 100_000);
    assert_eq!(total(&sent).packets, 6_000_000);
    assert_all_exported(&ended, total(&sent));
    // By which timeout depends on how long the bursts take; that they ended before the probe does not.
    let expired = ended.ledger.count("flows.expired.idle") + ended.ledger.count("flows.expired.active");
    assert!(expired >= 100_000, "flows expired meanwhile: {}", ended.ledger.0);
    let export = bench.collector.finish().unwrap();
    assert_all_collected(&ended, &export);
    assert_eq!(difference(&sent, &export.flows()), None);
}

#[test]
#[ignore = "needs root: run `make test`"]
fn two_and_four_harvesters_share_the_flows_of_every_cpu() {
    for harvesters in ["2", "4"] {
        let bench = Bench::new("harvesters");
        let probe = bench.start(&[
            "--harvesters",
            harvesters,
            "--idle-timeout",
            "1s",
            "--harvest-interval",
            "50ms",
            "--spill-records",
            "1048576",
        ]);
        // Every flow is sent by both, so its slots lie on two CPUs.
        let mut generators = [
            Generator::load(&bench.link, &Traffic::udp(0, 20_000)).unwrap(),
            Generator::load(&bench.link, &Traffic::udp(0, 20_000)).unwrap(),
        ];
        for pause in [200, 1500, 0] {
            send_in_parallel(&bench.link, &mut generators, 200_000).unwrap();
            sleep(Duration::from_millis(pause));
        }
        let ended = stop(probe, &bench.link);
        let sent = sent(&generators);
        assert_all_exported(&ended, total(&sent));
        let export = bench.collector.finish().unwrap();
        assert_all_collected(&ended, &export);
        assert_eq!(difference(&sent, &export.flows()), None, "with {harvesters} harvesters");
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn the_active_timeout_splits_without_losing() {
    let bench = Bench::new("active");
    let probe =
        bench.start(&["--idle-timeout", "10s", "--active-timeout", "500ms", "--harvest-interval", "50ms"]);
    let mut generators = [Generator::load(&bench.link, &Traffic::udp(0, 500).over_tcp()).unwrap()];
    for _ in 0..20 {
        send_in_parallel(&bench.link, &mut generators, 5_000).unwrap();
        sleep(Duration::from_millis(100));
    }
    let ended = stop(probe, &bench.link);
    let sent = sent(&generators);
    assert_all_exported(&ended, total(&sent));
    assert!(ended.ledger.count("flows.expired.active") >= 1000, "{}", ended.ledger.0);
    let export = bench.collector.finish().unwrap();
    assert_all_collected(&ended, &export);
    assert_eq!(difference(&sent, &export.flows()), None);
    assert!(export.records.iter().all(|record| record.tcp_flags == 0x10), "only ACK was sent");
    // One slot of slack: a harvest apart, plus the step of the kernel's timer.
    assert!(export.records.iter().all(|record| record.last_ms - record.first_ms <= 600));
    assert!(export.records.iter().all(|record| u32::from(record.input) == bench.link.metered.index));
}

#[test]
#[ignore = "needs root: run `make test`"]
fn ipv6_is_counted_where_v5_cannot_say_it() {
    let bench = Bench::new("v6");
    let probe = bench.start(&[]);
    let mut generators = [
        Generator::load(&bench.link, &Traffic::udp(0, 1000).over_ipv6()).unwrap(),
        Generator::load(&bench.link, &Traffic::udp(0, 10)).unwrap(),
    ];
    send_in_parallel(&bench.link, &mut generators, 100_000).unwrap();
    let ended = stop(probe, &bench.link);
    assert_all_exported(&ended, total(&sent(&generators)));
    assert_eq!(ended.ledger.count("collectors.0.not_representable"), 1000, "{}", ended.ledger.0);
    let export = bench.collector.finish().unwrap();
    assert_all_collected(&ended, &export);
    assert_eq!(difference(&generators[1].expected().unwrap(), &export.flows()), None);
}

/// Of a running process, as the kernel shows them.
fn thread_names(process: u32) -> BTreeSet<String> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let name = |thread: io::Result<fs::DirEntry>| fs::read_to_string(thread?.path().join("comm"));
    threads.map(|thread| name(thread).unwrap().trim().to_owned()).collect()
}

#[test]
#[ignore = "needs root: run `make test`"]
fn each_format_has_a_thread_and_gets_every_record() {
    let (bench, folder) = (Bench::new("formats"), tempfile::tempdir().unwrap());
    let ipfix = V5Collector::start(Some(&bench.link.metered.namespace), ANY_PORT).unwrap();
    let urls = [format!("ipfix://{}", ipfix.address()), format!("ipfix+file://{}", folder.path().display())];
    let mut probe = bench.start(&[
        "--collector",
        &urls[0],
        "--collector",
        &urls[1],
        "--harvesters",
        "2",
        "--print",
        "json",
    ]);
    let threads = thread_names(probe.process().id());
    for name in ["exporter-v5", "exporter-ipfix", "exporter-file", "exporter-print"] {
        assert!(threads.contains(name), "there is no {name}: {threads:?}");
    }
    let mut generators = [
        Generator::load(&bench.link, &Traffic::udp(0, 30_000)).unwrap(),
        Generator::load(&bench.link, &Traffic::udp(20_000, 30_000)).unwrap(),
    ];
    send_in_parallel(&bench.link, &mut generators, 100_000).unwrap();
    let ended = stop(probe, &bench.link);
    let sent = sent(&generators);
    assert_all_exported(&ended, total(&sent));
    let export = bench.collector.finish().unwrap();
    assert_all_collected(&ended, &export);
    assert_eq!(difference(&sent, &export.flows()), None, "v5");
    let records = export.records.len();
    assert_eq!(ended.stdout.lines().count(), records, "printed");
    for collector in 1..=2 {
        let count = |what| ended.ledger.count(&format!("collectors.{collector}.{what}"));
        assert_eq!((count("records"), count("dropped")), (records as u64, 0), "{}", ended.ledger.0);
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn vlans_make_flows_only_when_asked() {
    for (key, records) in [(&[][..], 100), (&["--key", "vlan"][..], 200)] {
        let bench = Bench::new("vlan");
        let probe = bench.start(key);
        let mut generators = [
            Generator::load(&bench.link, &Traffic::udp(0, 100).in_vlans(&[7])).unwrap(),
            Generator::load(&bench.link, &Traffic::udp(0, 100).in_vlans(&[8, 9])).unwrap(),
        ];
        send_in_parallel(&bench.link, &mut generators, 20_000).unwrap();
        let ended = stop(probe, &bench.link);
        let sent = sent(&generators);
        assert_all_exported(&ended, total(&sent));
        let export = bench.collector.finish().unwrap();
        assert_all_collected(&ended, &export);
        assert_eq!(export.records.len(), records, "with {key:?}");
        assert_eq!(difference(&sent, &export.flows()), None);
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_full_table_exports_early_and_refuses_none() {
    let bench = Bench::new("full");
    let probe = bench.start(&["--max-flows", "1000"]);
    let mut generators = [
        Generator::load(&bench.link, &Traffic::udp(0, 10_000)).unwrap(),
        Generator::load(&bench.link, &Traffic::udp(10_000, 10_000)).unwrap(),
    ];
    send_in_parallel(&bench.link, &mut generators, 100_000).unwrap();
    let ended = stop(probe, &bench.link);
    let sent = sent(&generators);
    assert_all_exported(&ended, total(&sent));
    assert!(ended.ledger.count("flows.expired.lack_of_resources") >= 19_000, "{}", ended.ledger.0);
    let export = bench.collector.finish().unwrap();
    assert_all_collected(&ended, &export);
    assert_eq!(difference(&sent, &export.flows()), None);
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_full_ring_loses_exactly_what_it_says() {
    let bench = Bench::new("ring");
    let probe = bench.start(&["--spill-records", "16", "--cache-slots", "128", "--harvest-interval", "1s"]);
    let mut generators = [
        Generator::load(&bench.link, &Traffic::udp(0, 5_000)).unwrap(),
        Generator::load(&bench.link, &Traffic::udp(2_500, 5_000)).unwrap(),
    ];
    send_in_parallel(&bench.link, &mut generators, 300_000).unwrap();
    let ended = stop(probe, &bench.link);
    let ledger = &ended.ledger;
    let sent = sent(&generators);
    assert_eq!(ledger.count("packets.received"), 600_000);
    assert_eq!(ledger.sums("metered"), total(&sent), "{}", ledger.0);
    let lost = Sums {
        packets: ledger.count("packets.lost.spill_ring_full"),
        octets: ledger.count("octets.lost.spill_ring_full"),
    };
    assert!(lost.packets > 0, "a ring of 16 records was to overflow: {}", ledger.0);
    assert_eq!(ledger.sums("lost"), lost, "lost for another reason: {}", ledger.0);
    let export = bench.collector.finish().unwrap();
    assert_all_collected(&ended, &export);
    let collected = export.flows();
    let mut accounted = total(&collected);
    accounted += lost;
    assert_eq!(accounted, total(&sent), "{}", ledger.0);
    for (id, sums) in &collected {
        let sent = sent.get(id).copied().unwrap_or_default();
        assert!(sums.packets <= sent.packets && sums.octets <= sent.octets, "{id}: {sums:?} of {sent:?}");
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn each_interface_has_its_own_engine_and_sequence() {
    let first = Bench::new("engines");
    let second =
        Link::between(&first.link.sender.namespace, "gen1", &first.link.metered.namespace, "tap1", 2)
            .unwrap();
    let collector = first.collector.address().to_string();
    let interfaces = format!("{},{}", first.link.metered.name, second.metered.name);
    let namespace = &first.link.metered.namespace;
    let probe = Probe::start(PROBE, namespace, &interfaces, &["--collector", &collector, "--engine-id", "5"])
        .unwrap();
    // The same flows on both: only the interface tells them apart.
    let mut on_first = [Generator::load(&first.link, &Traffic::udp(0, 700)).unwrap()];
    let mut on_second = [Generator::load(&second, &Traffic::udp(0, 300)).unwrap()];
    send_in_parallel(&first.link, &mut on_first, 70_000).unwrap();
    send_in_parallel(&second, &mut on_second, 40_000).unwrap();
    let ended = stop(probe, &first.link);
    assert!(!second.metered.has_xdp().unwrap());
    let mut all = total(&on_first[0].expected().unwrap());
    all += total(&on_second[0].expected().unwrap());
    assert_all_exported(&ended, all);
    let export = first.collector.finish().unwrap();
    assert_all_collected(&ended, &export);
    let engines: Vec<u8> = export.sequences.keys().map(|(_, _, engine_id)| *engine_id).collect();
    assert_eq!(engines, [5, 6]);
    for (engine_id, generator, link) in [(5, &on_first[0], &first.link), (6, &on_second[0], &second)] {
        let mut flows = Flows::new();
        for record in export.of_engine(engine_id) {
            assert_eq!(u32::from(record.input), link.metered.index);
            *flows.entry(record.flow).or_default() += record.sums;
        }
        assert_eq!(difference(&generator.expected().unwrap(), &flows), None, "engine {engine_id}");
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn several_collectors_get_the_same() {
    let bench = Bench::new("copies");
    let other = V5Collector::start(Some(&bench.link.metered.namespace), ANY_PORT).unwrap();
    let also = format!("v5://{}?engine_id=9", other.address());
    // Nobody listens there: it must not disturb the others.
    let probe = bench.start(&["--collector", &also, "--collector", "127.0.0.1:9"]);
    let mut generators = [Generator::load(&bench.link, &Traffic::udp(0, 3000)).unwrap()];
    send_in_parallel(&bench.link, &mut generators, 60_000).unwrap();
    let ended = stop(probe, &bench.link);
    let sent = sent(&generators);
    assert_all_exported(&ended, total(&sent));
    let export = bench.collector.finish().unwrap();
    assert_all_collected(&ended, &export);
    assert_eq!(difference(&sent, &export.flows()), None);
    let copy = other.finish().unwrap();
    assert_eq!(difference(&sent, &copy.flows()), None);
    assert!(copy.records.iter().all(|record| record.engine.1 == 9));
}

/// Flow n of the generator comes from 10.0.0.0 + n (2001:db8:: + n), and its packet of turn t is
/// 64 + (7n + 13t) mod 64 octets long (`Plan::advance`).
fn lengths(flow: u64, turns: u64) -> (u64, u64) {
    let all = || (0..turns).map(|turn| 64 + (7 * flow + 13 * turn) % 64);
    (all().min().unwrap(), all().max().unwrap())
}

#[test]
#[ignore = "needs root: run `make test`"]
fn details_are_those_of_all_packets_of_a_flow() {
    const FLOWS: u32 = 4000;
    const TURNS: u64 = 20;
    let bench = Bench::new("details");
    // A cache too small for all of them, so that slots of one flow come in parts, through ring and cache; and
    // two CPUs that see the same flows.
    let probe = bench.start(&[
        "--details",
        "on",
        "--print",
        "json",
        "--cache-slots",
        "512",
        "--harvest-interval",
        "50ms",
    ]);
    let mut generators = [
        Generator::load(&bench.link, &Traffic::udp(0, FLOWS)).unwrap(),
        Generator::load(&bench.link, &Traffic::udp(0, FLOWS)).unwrap(),
        Generator::load(&bench.link, &Traffic::udp(0, FLOWS).over_ipv6()).unwrap(),
    ];
    for _ in 0..4 {
        send_in_parallel(&bench.link, &mut generators, u64::from(FLOWS) * TURNS / 4).unwrap();
    }
    let spilled = probe.metric("flowprobe_spilled_records_total", "").unwrap();
    let ended = stop(probe, &bench.link);
    assert_all_exported(&ended, generators.iter().map(|it| total(&it.expected().unwrap())).sum());
    let mut seen = 0;
    for line in ended.stdout.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let flow = match (record["sourceIPv4Address"].as_str(), record["sourceIPv6Address"].as_str()) {
            (Some(v4), _) => u64::from(u32::from(v4.parse::<Ipv4Addr>().unwrap()) & 0xff_ffff),
            (_, Some(v6)) => u64::from(v6.parse::<std::net::Ipv6Addr>().unwrap().segments()[7]),
            _ => panic!("{line}"),
        };
        let packets = if record["sourceIPv4Address"].is_string() { 2 * TURNS } else { TURNS };
        assert_eq!(record["packetDeltaCount"], packets, "one record a flow: {line}");
        let found = (&record["minimumIpTotalLength"], &record["maximumIpTotalLength"]);
        let (shortest, longest) = lengths(flow, TURNS);
        assert_eq!(found, (&shortest.into(), &longest.into()), "{line}");
        assert_eq!((&record["minimumTTL"], &record["maximumTTL"]), (&64.into(), &64.into()), "{line}");
        assert_eq!(record["sourceMacAddress"], "02:00:00:00:00:01", "{line}");
        assert_eq!(record["destinationMacAddress"], "02:00:00:00:00:02", "{line}");
        assert_eq!(record["fragmentFlags"], 0, "{line}");
        seen += 1;
    }
    assert_eq!(seen, 2 * FLOWS);
    assert!(spilled > f64::from(FLOWS), "only {spilled} slots were spilled");
}

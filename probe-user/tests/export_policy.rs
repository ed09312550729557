// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Records shared out among collectors on real sockets: each is offered to exactly those it is for.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod selection_support;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use probe_lab::SharedOutput;
use probe_user::collect::{Collector, CollectorOptions, OutputFormat};
use probe_user::export::{
    CollectorPolicy, CollectorUrl, Endpoint, ExporterOptions, NotSelected, Run, Sent, Sink, Tended, UdpSink,
    encode::Now,
};
use probe_user::flow::{FlowRecord, Timestamp};
use selection_support::{Bench, LOCALHOST, MS, assert_conserved, conversations, ends, not_selected, record};

/// A collector of ours, and what it wrote.
struct Receiver {
    collector: Collector,
    out: SharedOutput,
}

impl Receiver {
    fn new() -> Self {
        let out = SharedOutput::default();
        let options = CollectorOptions::udp(LOCALHOST.into(), OutputFormat::Json);
        Self { collector: Collector::bind(options, Box::new(out.clone())).unwrap(), out }
    }

    fn url(&self) -> String {
        format!("v5://{}", self.collector.local_addr())
    }

    fn take(&mut self) {
        while self.collector.step(Timestamp(0), Duration::ZERO).unwrap().datagrams > 0 {}
    }

    /// Source, destination and start of every record.
    fn records(&mut self) -> Vec<(IpAddr, IpAddr, u64)> {
        self.take();
        let text = self.out.text();
        let records = text.lines().map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            let address = |name: &str| record[name].as_str().unwrap().parse().unwrap();
            let start = record["flowStartMilliseconds"].as_u64().unwrap();
            (address("sourceIPv4Address"), address("destinationIPv4Address"), start)
        });
        records.collect()
    }

    fn assert_no_gaps(&self) {
        let sequences = self.collector.sequences();
        assert_eq!((sequences.missed, sequences.late, sequences.restarts), (0, 0, 0));
    }
}

/// The way to a real collector, of which a test says whether it counts as up.
struct Switched {
    sink: UdpSink,
    up: Arc<AtomicBool>,
}

impl Sink for Switched {
    fn send(&mut self, run: &Run<'_>, now: Now) -> Sent {
        Sink::send(&mut self.sink, run, now)
    }
    fn tend(&mut self, preamble: &mut dyn FnMut(&mut Vec<u8>), now: Now) -> Tended {
        self.sink.tend(preamble, now)
    }
    fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }
    fn message_octets(&self) -> usize {
        Sink::message_octets(&self.sink)
    }
    fn endpoint(&self) -> Option<Endpoint> {
        self.sink.endpoint()
    }
    fn connects(&self) -> u64 {
        Sink::connects(&self.sink)
    }
}

/// An exporter to `receivers`, and the switches of its ways there.
fn switched(
    receivers: &[Receiver],
    options: &str,
    policy: CollectorPolicy,
    lossless: bool,
) -> (Bench, Vec<Arc<AtomicBool>>) {
    let mut switches = Vec::new();
    let collectors = receivers.iter().map(|receiver| {
        let url: CollectorUrl = format!("{}{options}", receiver.url()).parse().unwrap();
        let up = Arc::new(AtomicBool::new(true));
        switches.push(Arc::clone(&up));
        let sink = Switched { sink: UdpSink::open(&url).unwrap(), up };
        (url, Box::new(sink) as Box<dyn Sink>)
    });
    let collectors = collectors.collect();
    let options =
        ExporterOptions { interfaces: vec![(3, 0)], policy, lossless, ..ExporterOptions::default() };
    (Bench::of(collectors, options), switches)
}

fn feed(bench: &mut Bench, receivers: &mut [Receiver], records: &[FlowRecord]) {
    bench.feed(records, &mut || receivers.iter_mut().for_each(Receiver::take));
}

fn flush(bench: &mut Bench, receivers: &mut [Receiver]) {
    bench.flush(&mut || receivers.iter_mut().for_each(Receiver::take));
}

fn offered(bench: &Bench) -> Vec<u64> {
    bench.stats().collectors.iter().map(|collector| collector.offered.get()).collect()
}

#[test]
fn balance_sends_each_record_to_one_and_conversations_whole() {
    let mut receivers = [Receiver::new(), Receiver::new(), Receiver::new()];
    let (mut bench, switches) = switched(&receivers, "", CollectorPolicy::Balance, false);
    let records = conversations(9_000);
    feed(&mut bench, &mut receivers, &records);
    let before = offered(&bench);
    assert_eq!(before.iter().sum::<u64>(), 18_000);
    assert!(before.iter().all(|count| (5_400..6_600).contains(count)), "{before:?}");
    assert_conserved(&bench.stats());

    // One goes: the others take over its share, and it is asked nothing more.
    switches[1].store(false, Ordering::Relaxed);
    let more: Vec<_> = (50_000..53_000).map(|n| record(n, false)).collect();
    feed(&mut bench, &mut receivers, &more);
    flush(&mut bench, &mut receivers);
    let after = offered(&bench);
    assert_eq!(after[1], before[1]);
    assert_eq!(after.iter().sum::<u64>(), 21_000);

    let stats = bench.stats();
    assert_conserved(&stats);
    let mut owners: HashMap<_, usize> = HashMap::new();
    let mut seen = HashSet::new();
    for (i, receiver) in receivers.iter_mut().enumerate() {
        let received = receiver.records();
        assert_eq!(received.len() as u64, after[i]);
        receiver.assert_no_gaps();
        let of = &stats.collectors[i];
        assert_eq!(not_selected(of, NotSelected::Elsewhere), 21_000 - after[i]);
        assert_eq!(of.records.get(), after[i]);
        for (source, destination, start) in received {
            assert!(seen.insert((source, destination, start)), "sent twice");
            let owner = *owners.entry(ends(source, destination)).or_insert(i);
            assert_eq!(owner, i, "both directions of {source} and {destination}");
        }
    }
    assert_eq!(seen.len(), 21_000, "every record arrived somewhere");
}

#[test]
fn failover_leaves_a_collector_that_refuses() {
    let mut second = Receiver::new();
    // Nobody listens there any more: the kernel answers with port unreachable.
    let gone = UdpSocket::bind(LOCALHOST).unwrap().local_addr().unwrap();
    let urls = [format!("v5://{gone}"), second.url()];
    let options = ExporterOptions { policy: CollectorPolicy::Failover, ..ExporterOptions::default() };
    let mut bench = Bench::new(&urls, options);
    for n in 0..3_000 {
        bench.feed(&[record(n, false)], &mut || second.take());
    }
    bench.flush(&mut || second.take());
    let counts = offered(&bench);
    // A datagram leaves after 800 ms or when it is full, and the next one brings the news.
    assert!((1..=1_800).contains(&counts[0]), "{counts:?}");
    assert_eq!(counts[0] + counts[1], 3_000);
    assert_eq!(second.records().len() as u64, counts[1]);
    assert_conserved(&bench.stats());
}

#[test]
fn failover_returns_when_the_first_has_been_up_for_a_while() {
    let mut receivers = [Receiver::new(), Receiver::new()];
    let (mut bench, switches) = switched(&receivers, "", CollectorPolicy::Failover, false);
    let batch: Vec<_> = (0..1_000).map(|n| record(n, false)).collect();
    let mut expected = [0, 0];
    let mut send = |bench: &mut Bench, receivers: &mut [Receiver], to: usize| {
        feed(bench, receivers, &batch);
        expected[to] += 1_000;
        assert_eq!(offered(bench), expected);
        assert_conserved(&bench.stats());
    };
    send(&mut bench, &mut receivers, 0);
    bench.step(Duration::from_secs(60));
    switches[0].store(false, Ordering::Relaxed);
    send(&mut bench, &mut receivers, 1);
    switches[0].store(true, Ordering::Relaxed);
    send(&mut bench, &mut receivers, 1);
    bench.step(Duration::from_secs(25));
    send(&mut bench, &mut receivers, 1);
    bench.step(Duration::from_secs(5));
    send(&mut bench, &mut receivers, 0);
    switches.iter().for_each(|switch| switch.store(false, Ordering::Relaxed));
    send(&mut bench, &mut receivers, 0);
    flush(&mut bench, &mut receivers);
    for (receiver, expected) in receivers.iter_mut().zip(expected) {
        assert_eq!(receiver.records().len(), usize::try_from(expected).unwrap());
        receiver.assert_no_gaps();
    }
}

#[test]
fn a_collector_that_is_down_and_gets_nothing_holds_up_nobody() {
    let mut receivers = [Receiver::new(), Receiver::new()];
    let (mut bench, switches) = switched(&receivers, "?mtu=576&pps=1", CollectorPolicy::Failover, true);
    // The first one is so slow that the exporter, which may lose nothing here, has to wait for it.
    let batch = conversations(350);
    let mut waited = 0;
    while waited < 100 {
        waited = if bench.producer.push_slice(&batch[..700]) == 0 { waited + 1 } else { 0 };
        bench.step(MS);
    }
    let before = offered(&bench);
    assert!(before[0] > 1_000 && before[1] == 0, "{before:?}");
    let queued = bench.producer.len() as u64;
    assert!(queued > 3_000);
    // Once it is down, its backlog is nobody else's.
    switches[0].store(false, Ordering::Relaxed);
    let since = bench.now;
    feed(&mut bench, &mut receivers, &batch);
    // At its pace the backlog would take minutes.
    assert!(bench.now.since(since) < Duration::from_secs(1));
    let after = offered(&bench);
    assert_eq!(after, [before[0], queued + 700]);
    assert_conserved(&bench.stats());
}

#[test]
fn filter_and_sampling_count_what_they_leave_out() {
    let mut receivers = [Receiver::new(), Receiver::new(), Receiver::new(), Receiver::new()];
    let options = ["", "?filter=src+port+443", "?sampling=10", "?sampling=10&filter=src+net+10.0.0.0/8"];
    let urls: Vec<_> =
        receivers.iter().zip(options).map(|(receiver, options)| receiver.url() + options).collect();
    let options = ExporterOptions { interfaces: vec![(3, 0)], ..ExporterOptions::default() };
    let mut bench = Bench::new(&urls, options);
    feed(&mut bench, &mut receivers, &conversations(5_000));
    flush(&mut bench, &mut receivers);
    let stats = bench.stats();
    assert_conserved(&stats);
    let of = |i: usize| NotSelected::ALL.map(|reason| not_selected(&stats.collectors[i], reason));
    assert_eq!(of(0), [0, 0, 0]);
    assert_eq!(of(1), [5_000, 0, 0]);
    let [filtered, sampled_out, elsewhere] = of(2);
    assert_eq!((filtered, elsewhere), (0, 0));
    assert!((8_700..9_300).contains(&sampled_out), "{sampled_out}");
    // Half of it, for both directions are chosen alike.
    assert_eq!(of(3), [5_000, sampled_out / 2, 0]);
    let received = receivers.each_mut().map(Receiver::records);
    assert_eq!(
        received.each_ref().map(Vec::len),
        [
            10_000,
            5_000,
            10_000 - usize::try_from(sampled_out).unwrap(),
            5_000 - usize::try_from(sampled_out / 2).unwrap()
        ]
    );
    assert!(received[1].iter().all(|(_, destination, _)| destination.to_string().starts_with("10.")));
    let sample: HashSet<_> = received[2].iter().collect();
    assert!(received[3].iter().all(|record| sample.contains(record)));
    let mut directions: HashMap<_, u32> = HashMap::new();
    received[2].iter().for_each(|(a, b, _)| *directions.entry(ends(*a, *b)).or_default() += 1);
    assert!(directions.values().all(|count| *count == 2), "both directions or none");
    receivers.iter().for_each(Receiver::assert_no_gaps);
}

#[test]
fn a_filter_of_one_collector_under_balance_leaves_its_part_out() {
    let mut receivers = [Receiver::new(), Receiver::new()];
    let (mut bench, _) = switched(&receivers, "?filter=dst+port+443", CollectorPolicy::Balance, false);
    feed(&mut bench, &mut receivers, &conversations(2_000));
    flush(&mut bench, &mut receivers);
    let stats = bench.stats();
    assert_conserved(&stats);
    let sum = |reason| stats.collectors.iter().map(|of| not_selected(of, reason)).sum::<u64>();
    assert_eq!(sum(NotSelected::Elsewhere), 4_000);
    assert_eq!(sum(NotSelected::Filtered), 2_000);
    assert_eq!(offered(&bench).iter().sum::<u64>(), 2_000);
}

#[test]
fn the_ledger_of_a_replay_says_what_was_not_for_a_collector() {
    let receivers = [Receiver::new(), Receiver::new()];
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("two.pcap");
    std::fs::write(&capture, two_packets()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_probe"))
        .args(["replay", capture.to_str().unwrap(), "--collector-policy", "failover", "--ledger", "-"])
        .args(["--print", "none", "--collector", &receivers[0].url()])
        .args(["--collector", &(receivers[1].url() + "?filter=src+host+10.0.0.1")])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
    let ledger: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let of = |i: usize, reason: &str| ledger["collectors"][i]["not_selected"][reason].as_u64().unwrap();
    assert_eq!(["filtered", "sampled_out", "elsewhere"].map(|reason| of(0, reason)), [0, 0, 0]);
    assert_eq!(["filtered", "sampled_out", "elsewhere"].map(|reason| of(1, reason)), [0, 0, 2]);
    assert_eq!(ledger["collectors"][0]["records"], 2);
    assert_eq!(ledger["balanced"], true);
}

/// A capture with a UDP packet in each direction (pcap, microseconds, Ethernet).
fn two_packets() -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    for (seconds, source, destination, ports) in [
        (1_780_000_000u32, [10, 0, 0, 1], [10, 0, 0, 2], [4000u16, 53]),
        (1_780_000_001, [10, 0, 0, 2], [10, 0, 0, 1], [53, 4000]),
    ] {
        let mut packet =
            vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
        packet.extend_from_slice(&source);
        packet.extend_from_slice(&destination);
        for word in [ports[0], ports[1], 8, 0] {
            packet.extend_from_slice(&word.to_be_bytes());
        }
        let length = u32::try_from(packet.len()).unwrap();
        for word in [seconds, 0, length, length] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(&packet);
    }
    file
}

#[test]
fn collectors_with_equal_settings_share_a_stream_only_if_each_gets_everything() {
    let receivers = [Receiver::new(), Receiver::new()];
    let sequences = |policy| {
        let (mut bench, _) = switched(&receivers, "", policy, false);
        bench.feed(&conversations(600), &mut || ());
        bench.step(MS);
        bench.stats().collectors.iter().map(|of| of.sequence.get()).collect::<Vec<_>>()
    };
    let shared = sequences(CollectorPolicy::Replicate);
    assert_eq!(shared[0], shared[1]);
    let own = sequences(CollectorPolicy::Balance);
    assert!(own[0] != own[1] && own[0] + own[1] <= 1_200, "{own:?}");
}

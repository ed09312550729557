// SPDX-License-Identifier: Apache-2.0 OR MIT
//! IPFIX over TCP with real sockets: whatever happens to the collector, each record either arrived or is counted as
//! dropped, with its reason.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod export_support;

use std::net::{Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use export_support::{
    Bench, QUICK, RECEIVE_BUFFER, Session, all_dropped, dropped, errors, listen, read_session, read_up_to,
};
use probe_lab::{Link, require_root};
use probe_user::export::{CollectorUrl, DropReason, ErrorReason, ExporterOptions, Sink, TcpSink};

const SECOND: Duration = Duration::from_secs(1);

fn url(address: SocketAddr) -> CollectorUrl {
    format!("ipfix+tcp://{address}").parse().unwrap()
}

fn sink(url: &CollectorUrl) -> (CollectorUrl, Box<dyn Sink>) {
    (url.clone(), Box::new(TcpSink::open(url, QUICK).unwrap()))
}

fn lossless() -> ExporterOptions {
    ExporterOptions { interfaces: vec![(3, 0)], lossless: true, ..ExporterOptions::default() }
}

/// Its ring is as small as it can be.
fn live() -> ExporterOptions {
    ExporterOptions { interfaces: vec![(3, 0)], ring_octets: 0, ..ExporterOptions::default() }
}

/// Takes one connection to its end.
fn whole_session(listener: &TcpListener) -> Vec<u8> {
    let mut octets = Vec::new();
    read_up_to(&mut listener.accept().unwrap().0, &mut octets, usize::MAX);
    octets
}

#[test]
fn every_record_arrives_in_a_session_that_begins_with_the_templates() {
    let (listener, address) = listen(None);
    let reader = thread::spawn(move || whole_session(&listener));
    let mut bench = Bench::of(vec![sink(&url(address))], lossless());
    while bench.pushed() < 50_000 {
        bench.push(2000);
        bench.step();
    }
    bench.flush(10 * SECOND);
    let session = read_session(&reader.join().unwrap());
    let stats = &bench.stats().collectors[0];
    assert_eq!(session.first_sets[0], 2, "{:?}", session.first_sets);
    assert_eq!((session.flows, session.missing, session.rest), (bench.pushed(), 0, 0));
    assert_eq!((stats.records.get(), all_dropped(stats), stats.waiting.get()), (bench.pushed(), 0, 0));
    assert_eq!(stats.imbalance(), 0);
    let endpoint = bench.exporter.endpoints()[0];
    assert_eq!((endpoint.protocol, endpoint.peer), (6, address));
    assert!(endpoint.local.ip().is_loopback() && endpoint.local.port() > 0);
}

#[test]
fn an_interface_that_comes_later_is_introduced_before_its_records() {
    let (listener, address) = listen(None);
    let reader = thread::spawn(move || whole_session(&listener));
    // No interface is known at the start, as in a replay.
    let mut bench = Bench::of(
        vec![sink(&url(address))],
        ExporterOptions { lossless: true, ..ExporterOptions::default() },
    );
    for interface in 3..8 {
        let mut record = export_support::record(interface);
        record.key.set_ingress_interface(interface);
        bench.producer.push_slice(&[record; 10]);
        bench.step_until("the records leave", |bench| bench.stats().collectors[0].waiting.get() == 0);
    }
    bench.flush(10 * SECOND);
    // `read_session` panics at records without templates.
    let session = read_session(&reader.join().unwrap());
    assert_eq!((session.flows, session.missing), (50, 0));
}

/// The collector says that it ends, reads what was on its way, and comes back: nothing is lost.
#[test]
fn a_collector_restarted_in_good_order_misses_nothing() {
    const SESSIONS: usize = 4;
    let (listener, address) = listen(None);
    let reader = thread::spawn(move || {
        let mut sessions = Vec::new();
        for number in 0..SESSIONS {
            let (mut stream, _) = listener.accept().unwrap();
            let mut octets = Vec::new();
            if number + 1 < SESSIONS {
                read_up_to(&mut stream, &mut octets, 300_000);
                stream.shutdown(Shutdown::Write).unwrap();
            }
            read_up_to(&mut stream, &mut octets, usize::MAX);
            sessions.push(octets);
        }
        sessions
    });
    let mut bench = Bench::of(vec![sink(&url(address))], lossless());
    while bench.pushed() < 100_000 {
        bench.push(1000);
        bench.step();
    }
    bench.flush(15 * SECOND);
    let sessions: Vec<Session> = reader.join().unwrap().iter().map(|octets| read_session(octets)).collect();
    for session in &sessions {
        assert_eq!((session.first_sets[0], session.missing, session.rest), (2, 0, 0), "{session:?}");
        assert!(session.flows > 1000);
    }
    let stats = &bench.stats().collectors[0];
    assert_eq!(sessions.iter().map(|session| session.flows).sum::<u64>(), bench.pushed());
    assert_eq!((stats.records.get(), all_dropped(stats)), (bench.pushed(), 0));
    assert_eq!(errors(stats, ErrorReason::Closed), SESSIONS as u64 - 1);
    assert_eq!(stats.imbalance(), 0);
}

/// The collector dies with octets unread in its receive buffer, is gone for a while, and comes back.
#[test]
fn a_collector_killed_under_load_costs_what_its_kernel_held_and_the_rest_is_counted() {
    const KILLS: usize = 5;
    let (listener, address) = listen(None);
    let (gone, is_gone) = channel();
    let reader = thread::spawn(move || {
        let mut listener = Some(listener);
        let mut sessions = Vec::new();
        for _ in 0..KILLS {
            let (mut stream, _) = listener.as_ref().unwrap().accept().unwrap();
            let mut octets = Vec::new();
            read_up_to(&mut stream, &mut octets, 200_000);
            // Nobody listens, then the connection is gone: with octets unread the kernel resets it, as for a
            // process that was killed.
            drop(listener.take());
            assert!(stream.peek(&mut [0; 1]).unwrap() > 0, "nothing was on its way");
            drop(stream);
            sessions.push(octets);
            gone.send(()).unwrap();
            for _ in 0..50 {
                export_support::rest();
            }
            listener = Some(listen(Some(address)).0);
        }
        let mut octets = Vec::new();
        read_up_to(&mut listener.unwrap().accept().unwrap().0, &mut octets, usize::MAX);
        sessions.push(octets);
        sessions
    });
    let mut bench = Bench::of(vec![sink(&url(address))], live());
    let mut kills = 0;
    for _ in 0..10_000 {
        bench.push(3000);
        bench.step();
        kills += is_gone.try_iter().count();
        if kills == KILLS {
            break;
        }
    }
    assert_eq!(kills, KILLS);
    let sessions_before = bench.exporter.connects();
    bench.step_until("a new session", |bench| bench.exporter.connects() > sessions_before);
    bench.flush(15 * SECOND);
    let sessions: Vec<Session> = reader.join().unwrap().iter().map(|octets| read_session(octets)).collect();
    let stats = &bench.stats().collectors[0];
    let arrived: u64 = sessions.iter().map(|session| session.flows).sum();
    let octets: u64 = sessions.iter().map(|session| session.octets).sum();
    assert!(sessions.iter().all(|session| session.first_sets.first() == Some(&2)));
    // Each record is accounted for once.
    assert_eq!(stats.imbalance(), 0);
    assert_eq!((stats.offered.get(), stats.waiting.get()), (bench.pushed(), 0));
    assert_eq!(stats.records.get() + all_dropped(stats), bench.pushed());
    assert!(dropped(stats, DropReason::ConnectionLost) > 0, "{stats:?}");
    assert!(dropped(stats, DropReason::NotConnected) > 0, "{stats:?}");
    assert!(errors(stats, ErrorReason::Closed) + errors(stats, ErrorReason::Refused) > 0, "{stats:?}");
    // What counts as sent and was not read had reached the dead one's kernel; what was read and does not count
    // had not been acknowledged yet. Both are bounded by its receive buffer and a message.
    let bound = (KILLS * (2 * RECEIVE_BUFFER + 8192)) as u64;
    let preambles: u64 = sessions.len() as u64 * 2048;
    assert!(stats.octets.get() <= octets + bound, "{} sent, {octets} arrived", stats.octets.get());
    assert!(
        octets <= stats.octets.get() + bound + preambles,
        "{} sent, {octets} arrived",
        stats.octets.get()
    );
    eprintln!("{} records sent, {arrived} read, {} dropped", stats.records.get(), all_dropped(stats));
    // The last session ended in good order.
    assert_eq!(sessions.last().unwrap().rest, 0);
}

#[test]
fn a_slow_reader_costs_only_itself() {
    let (listener, address) = listen(None);
    let (resume, resumed) = channel::<()>();
    let reader = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        resumed.recv().unwrap();
        let mut octets = Vec::new();
        read_up_to(&mut stream, &mut octets, usize::MAX);
        octets
    });
    let quick = UdpSocket::bind("127.0.0.1:0").unwrap();
    quick.set_nonblocking(true).unwrap();
    let udp: CollectorUrl = format!("ipfix://{}", quick.local_addr().unwrap()).parse().unwrap();
    let mut bench =
        Bench::of(vec![sink(&url(address)), (udp.clone(), probe_user::export::open(&udp).unwrap())], live());
    let mut buffer = [0; 2000];
    for _ in 0..300 {
        bench.push(2000);
        bench.step();
        while quick.recv(&mut buffer).is_ok() {}
    }
    let stats = bench.stats();
    let [slow, quick_stats] = &stats.collectors[..] else { panic!() };
    assert!(dropped(slow, DropReason::Queue) > 0, "{slow:?}");
    assert_eq!(all_dropped(quick_stats), 0, "{quick_stats:?}");
    resume.send(()).unwrap();
    bench.flush(10 * SECOND);
    let session = read_session(&reader.join().unwrap());
    assert_eq!(slow.records.get(), session.flows);
    assert_eq!((slow.imbalance(), quick_stats.imbalance()), (0, 0));
    assert_eq!(slow.records.get() + all_dropped(slow), bench.pushed());
    assert!(session.missing > 0, "what the ring lost shows as a gap");
    assert_eq!(quick_stats.records.get(), bench.pushed());
}

#[test]
fn without_a_collector_records_wait_then_count_as_not_connected_and_the_end_is_in_time() {
    let (listener, address) = listen(None);
    drop(listener);
    let mut bench = Bench::of(vec![sink(&url(address))], live());
    bench.push(1000);
    for _ in 0..300 {
        bench.step();
    }
    let stats = bench.stats();
    let stats = &stats.collectors[0];
    assert_eq!((all_dropped(stats), stats.waiting.get()), (0, 1000), "they wait");
    assert!(errors(stats, ErrorReason::Refused) > 2);
    for _ in 0..50 {
        bench.push(2000);
        bench.step();
    }
    assert!(dropped(stats, DropReason::NotConnected) > 0);
    let took = bench.flush(Duration::from_millis(500));
    assert!((500..600).contains(&took), "{took} ms");
    assert!(dropped(stats, DropReason::Shutdown) > 0);
    assert_eq!((all_dropped(stats), stats.imbalance()), (bench.pushed(), 0));
}

/// The link goes down without a word: neither records on their way nor an idle connection hide that for long.
#[test]
#[ignore = "needs root: run `make test`"]
fn a_peer_that_is_cut_off_is_noticed() {
    require_root();
    let link = Link::new("cut", 1).unwrap();
    link.sender.add_address("192.0.2.1/24").unwrap();
    link.metered.add_address("192.0.2.2/24").unwrap();
    let listener = link.sender.namespace.enter(|| TcpListener::bind("192.0.2.1:4739").unwrap()).unwrap();
    for with_records in [true, false] {
        let mut bench = link
            .metered
            .namespace
            .enter(|| {
                let sinks = vec![sink(&url("192.0.2.1:4739".parse().unwrap()))];
                let mut bench = Bench::of(sinks, live());
                // The socket is made here, and stays in this namespace.
                bench.step();
                bench
            })
            .unwrap();
        let _connection = listener.accept().unwrap();
        let stats = bench.stats();
        let stats = &stats.collectors[0];
        bench.push(100);
        bench.step_until("the session is up", |_| stats.records.get() == 100);
        link.sender.set("down").unwrap();
        if with_records {
            bench.push(100);
        }
        let begin = bench.now;
        bench.step_until("the cut is noticed", |_| {
            errors(stats, ErrorReason::Unreachable) + errors(stats, ErrorReason::Closed) > 0
        });
        let took = bench.now.since(begin);
        assert!(took < Duration::from_secs(6), "{took:?}");
        let lost = if with_records { 100 } else { 0 };
        assert_eq!(dropped(stats, DropReason::ConnectionLost), lost);
        assert_eq!(stats.imbalance(), 0);
        link.sender.set("up").unwrap();
    }
}

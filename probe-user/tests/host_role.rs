// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A host's own traffic through a metered interface: TCP is not disturbed, and both directions are counted as the packets
//! that are on the wire, whatever buffers the kernel handles them in.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread::{scope, sleep},
    time::Duration,
};

use nix::sys::signal::Signal;
use probe_lab::{Link, LinkEnd, Probe, Sums, TcpCounters, clock::wait_until, require_root};
use serde_json::Value;

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
const SOON: Duration = Duration::from_secs(20);
const METERED: &str = "10.9.0.2:7000";
/// What the client sends, and what it gets.
const REQUEST: usize = 6 << 20;
const ANSWER: usize = 4 << 20;
/// IPv4, and TCP with the timestamp option, as Linux sends them by default (RFC 7323 section 3.2).
const HEADERS: u64 = 20 + 32;
/// What the options of a SYN take beyond that: maximum segment size, window scale, permission of selective
/// acknowledgements.
const SYN_OPTIONS: u64 = 8;

/// What both ends have sent, when nothing is on its way any more.
fn settled(link: &Link) -> [TcpCounters; 2] {
    let both = || [&link.sender, &link.metered].map(|end| TcpCounters::read(&end.namespace).unwrap());
    let mut last = both();
    let mut unchanged = 0;
    let quiet = wait_until(SOON, || {
        sleep(Duration::from_millis(50));
        let now = both();
        unchanged = if now == last { unchanged + 1 } else { 0 };
        last = now;
        unchanged == 5
    });
    assert!(quiet, "{last:?} goes on");
    last
}

fn octets(count: usize, step: usize) -> Vec<u8> {
    (0..count).map(|at| u8::try_from(at * step % 251).unwrap()).collect()
}

fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets).unwrap();
    octets
}

/// A request and an answer over TCP, each compared with what was sent.
fn transfer(link: &Link) {
    let listener = link.metered.namespace.enter(|| TcpListener::bind(METERED).unwrap()).unwrap();
    let mut client = link.sender.namespace.enter(|| TcpStream::connect(METERED).unwrap()).unwrap();
    let (request, answer) = (octets(REQUEST, 31), octets(ANSWER, 17));
    scope(|scope| {
        scope.spawn(|| {
            let (mut server, _) = listener.accept().unwrap();
            assert!(read_all(&mut server) == request, "what came is not what was sent");
            server.write_all(&answer).unwrap();
        });
        client.write_all(&request).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert!(read_all(&mut client) == answer, "what came back is not what was sent");
    });
}

/// Packets and octets of the TCP connection that the probe has printed, on one way through an interface.
fn printed(records: &[Value], direction: u64, end: &LinkEnd) -> Sums {
    let [name, other, port] = match direction {
        0 => ["ingressInterface", "egressInterface", "destinationTransportPort"],
        _ => ["egressInterface", "ingressInterface", "sourceTransportPort"],
    };
    let of_connection = |record: &&Value| {
        record["protocolIdentifier"] == 6 && record[port] == 7000 && record["flowDirection"] == direction
    };
    let sums = |record: &Value| {
        assert_eq!(record[name], end.index, "{record}");
        assert_eq!(record.get(other), None, "{record}");
        assert_eq!(record["tcpControlBits"].as_u64().unwrap() & 0x13, 0x13, "SYN, ACK and FIN: {record}");
        let count = |name| record[name].as_u64().unwrap();
        Sums { packets: count("packetDeltaCount"), octets: count("octetDeltaCount") }
    };
    records.iter().filter(of_connection).map(sums).sum()
}

/// Returns whether octets could be compared, not only packets: on a busy machine TCP sends again what was only late.
fn is_counted(mode: &str, hooks: &str) -> bool {
    let link = Link::new("hostrole", 1).unwrap();
    link.sender.add_address("10.9.0.1/24").unwrap();
    link.metered.add_address("10.9.0.2/24").unwrap();
    let args = ["--xdp-mode", mode, "--direction", "both", "--print", "json", "--tcp-end", "off"];
    let probe = Probe::start(PROBE, &link.metered.namespace, &link.metered.name, &args).unwrap();
    let info = probe.metric("flowprobe_xdp_mode_info", &format!("mode=\"{hooks}\"")).unwrap();
    assert_eq!(info, 1.0, "{mode}: not {hooks}");
    let before = settled(&link);
    transfer(&link);
    let after = settled(&link);
    // Where XDP is late, the ring of the cable is full, and TCP sends again what never arrived.
    let not_sent = link.sender.frames_not_sent().unwrap();
    let ended = probe.stop(Signal::SIGTERM).unwrap();
    assert!(ended.status.success(), "{mode}: {}", ended.stderr);
    assert!(ended.ledger.balanced(), "{mode}: {}", ended.ledger.0);
    // What else there is, is ARP.
    let not_ip = ended.ledger.count("packets.unmetered.not_ip");
    assert_eq!(ended.ledger.count("packets.unmetered"), not_ip, "{mode}: {}", ended.ledger.0);

    let records: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [came, went] = [0, 1].map(|direction| printed(&records, direction, &link.metered));
    let [sent, answered] = [0, 1].map(|at| after[at].sent - before[at].sent);
    assert_eq!((came.packets + not_sent, went.packets), (sent, answered), "{mode}: {records:?}");
    assert_eq!(ended.ledger.sums("exported"), [came, went].into_iter().sum(), "{mode}: {records:?}");
    if not_sent > 0 || after.iter().zip(before).any(|(after, before)| after.disturbed > before.disturbed) {
        return false;
    }
    let octets = |payload, packets| u64::try_from(payload).unwrap() + packets * HEADERS + SYN_OPTIONS;
    assert_eq!(came.octets, octets(REQUEST, sent), "{mode}: octets that came");
    assert_eq!(went.octets, octets(ANSWER, answered), "{mode}: octets that went");
    true
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_transfer_is_whole_and_counted_segment_by_segment() {
    require_root();
    for (mode, hooks) in [("auto", "tcx"), ("native", "native")] {
        assert!((0..10).any(|_| is_counted(mode, hooks)), "{mode}: no transfer in order");
    }
}

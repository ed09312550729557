// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the tests of the ways to a collector share: records, an exporter with a clock of its own, a collector that
//! keeps the octets of each session, and a reading of IPFIX that is not the exporter's.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollTimeout, poll};
use probe_common::{Detail, FlowKey};
use probe_user::export::{
    CollectorStats, CollectorUrl, DropReason, ErrorReason, ExportStats, Exporter, ExporterOptions,
    SessionTiming, Sink, open,
};
use probe_user::flow::{EndReason, FlowRecord, Timestamp};
use probe_user::queue::{Producer, ring};

pub(crate) const UNIX: u64 = 1_780_000_000_000_000_000;
pub(crate) const MS: Duration = Duration::from_millis(1);

/// Waits that a test can afford.
pub(crate) const QUICK: SessionTiming = SessionTiming {
    first_retry: Duration::from_millis(20),
    last_retry: Duration::from_millis(100),
    connect: Duration::from_secs(2),
    acknowledge: Duration::from_secs(2),
    keepalive: Duration::from_secs(1),
    settle: Duration::from_millis(100),
    close: Duration::from_secs(3),
};

pub(crate) fn record(n: u32) -> FlowRecord {
    let [a, b, c, d] = n.to_be_bytes();
    let mut key = FlowKey::ipv4([10 + a, b, c, d], [192, b, c, d], 6, 0);
    key.set_ports(u16::from_be_bytes([c, d]), 443);
    key.set_ingress_interface(3);
    let start_ns = UNIX - 60_000_000_000 + u64::from(n) * 1000;
    FlowRecord {
        key,
        packets: u64::from(n) + 1,
        octets: u64::from(n) * 100 + 40,
        start_ns,
        end_ns: start_ns + 1_000_000,
        tcp_flags: 0x1b,
        end_reason: EndReason::Idle,
        detail: Detail::UNKNOWN,
    }
}

/// An exporter, what feeds it, and its clock: a millisecond each step, which really passes.
pub(crate) struct Bench {
    pub(crate) exporter: Exporter,
    pub(crate) producer: Producer<FlowRecord>,
    pub(crate) now: Timestamp,
    next: u32,
}

impl Bench {
    pub(crate) fn new(urls: &[String], options: ExporterOptions) -> Self {
        let sinks = urls.iter().map(|url| {
            let url: CollectorUrl = url.parse().unwrap();
            (url.clone(), open(&url).unwrap())
        });
        Self::of(sinks.collect(), options)
    }

    pub(crate) fn of(sinks: Vec<(CollectorUrl, Box<dyn Sink>)>, options: ExporterOptions) -> Self {
        let (producer, consumer) = ring(1 << 14);
        let exporter = Exporter::new(options, sinks, vec![consumer], None);
        Self { exporter, producer, now: Timestamp(0), next: 0 }
    }

    pub(crate) fn stats(&self) -> Arc<ExportStats> {
        self.exporter.stats()
    }

    /// Records pushed so far.
    pub(crate) fn pushed(&self) -> u64 {
        self.next.into()
    }

    /// As many of `count` records as find room.
    pub(crate) fn push(&mut self, count: u32) {
        let records: Vec<_> = (self.next..self.next + count).map(record).collect();
        self.next += u32::try_from(self.producer.push_slice(&records)).unwrap();
    }

    pub(crate) fn step(&mut self) -> bool {
        self.now = self.now + MS;
        rest();
        self.exporter.step(UNIX + self.now.0, self.now).done
    }

    /// Steps until `condition`, for ten seconds at most.
    pub(crate) fn step_until(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        for _ in 0..10_000 {
            self.step();
            if condition(self) {
                return;
            }
        }
        panic!("never: {what}: {:?}", self.stats().collectors);
    }

    /// The end: returns after how many milliseconds all was done.
    pub(crate) fn flush(&mut self, deadline: Duration) -> u64 {
        let begin = self.now;
        let deadline = self.now + deadline;
        for _ in 0..20_000 {
            self.now = self.now + MS;
            rest();
            if self.exporter.flush(UNIX + self.now.0, self.now, deadline).done {
                return u64::try_from(self.now.since(begin).as_millis()).unwrap();
            }
        }
        panic!("the flush does not end: {:?}", self.stats().collectors);
    }
}

/// A millisecond.
pub(crate) fn rest() {
    poll(&mut [], PollTimeout::from(1u8)).unwrap();
}

pub(crate) fn errors(stats: &CollectorStats, reason: ErrorReason) -> u64 {
    stats.errors[reason as usize].get()
}

pub(crate) fn dropped(stats: &CollectorStats, reason: DropReason) -> u64 {
    stats.dropped[reason as usize].get()
}

pub(crate) fn all_dropped(stats: &CollectorStats) -> u64 {
    stats.dropped.iter().map(|count| count.get()).sum()
}

/// What a session brought.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// Flow records.
    pub(crate) flows: u64,
    /// Whole messages, and their octets.
    pub(crate) messages: u64,
    pub(crate) octets: u64,
    /// Records that the sequences say are missing.
    pub(crate) missing: u64,
    /// What the first sets of the session were: templates are 2 and 3.
    pub(crate) first_sets: Vec<u16>,
    /// Octets of a message that did not arrive whole.
    pub(crate) rest: usize,
}

fn half(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(octets[at..at + 2].try_into().unwrap())
}

fn word(octets: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(octets[at..at + 4].try_into().unwrap())
}

/// Reads the messages of one session (RFC 7011 section 3). Panics at data without a template.
pub(crate) fn read_session(octets: &[u8]) -> Session {
    let mut session = Session::default();
    // Of a domain and template: octets of a record, and whether it tells of a flow.
    let mut templates: HashMap<(u32, u16), (usize, bool)> = HashMap::new();
    let mut expected: HashMap<u32, u32> = HashMap::new();
    let mut rest = octets;
    while rest.len() >= 4 {
        assert_eq!(half(rest, 0), 10, "no IPFIX message");
        let length = usize::from(half(rest, 2));
        if length > rest.len() {
            break;
        }
        let (message, after) = rest.split_at(length);
        rest = after;
        let (sequence, domain) = (word(message, 8), word(message, 12));
        let mut records = 0;
        let mut sets = &message[16..];
        while !sets.is_empty() {
            let (id, length) = (half(sets, 0), usize::from(half(sets, 2)));
            let (set, after) = sets.split_at(length);
            sets = after;
            if session.first_sets.len() < 4 {
                session.first_sets.push(id);
            }
            match id {
                2 | 3 => read_templates(&set[4..], id == 3, domain, &mut templates),
                _ => {
                    let (len, is_flow) = templates[&(domain, id)];
                    // Variable lengths stand in options alone, of which there is one to a set.
                    let count = (length - 4).checked_div(len).unwrap_or(1);
                    records += u32::try_from(count).unwrap();
                    session.flows += if is_flow { count as u64 } else { 0 };
                }
            }
        }
        let before = expected.insert(domain, sequence.wrapping_add(records)).unwrap_or(0);
        session.missing += u64::from(sequence.wrapping_sub(before));
        session.messages += 1;
        session.octets += length as u64;
    }
    session.rest = rest.len();
    session
}

fn read_templates(
    mut set: &[u8],
    options: bool,
    domain: u32,
    templates: &mut HashMap<(u32, u16), (usize, bool)>,
) {
    while set.len() >= 4 {
        let (id, fields) = (half(set, 0), usize::from(half(set, 2)));
        set = &set[if options { 6 } else { 4 }..];
        let mut len = Some(0);
        for _ in 0..fields {
            let (element, octets) = (half(set, 0), half(set, 2));
            len = len.filter(|_| octets != 65_535).map(|len| len + usize::from(octets));
            set = &set[if element & 0x8000 == 0 { 4 } else { 8 }..];
        }
        templates.insert((domain, id), (len.unwrap_or(0), !options));
    }
}

/// A listener on the loopback interface whose connections have a small receive buffer.
pub(crate) fn listen(at: Option<SocketAddr>) -> (TcpListener, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
    let at = at.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into());
    socket.bind(&at.into()).unwrap();
    socket.listen(8).unwrap();
    let listener: TcpListener = socket.into();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// What is asked of the kernel, which doubles it.
pub(crate) const RECEIVE_BUFFER: usize = 16 << 10;

/// Reads until the peer closes, the connection breaks, or there are `limit` octets.
pub(crate) fn read_up_to(stream: &mut TcpStream, octets: &mut Vec<u8>, limit: usize) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut buffer = [0; 4096];
    while octets.len() < limit {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => octets.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("{error}"),
        }
    }
}

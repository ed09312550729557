// SPDX-License-Identifier: Apache-2.0 OR MIT
//! message → collector: one file for each way there, all behind [`Sink`].
//!
//! Datagrams: `udp` over `udp_socket`. Sessions: `session` moves through connect, handshake, up and closing,
//! with a `wire` that says what octets are put on the socket (`tcp`, `tls`, `sctp`) and an `outbox` that knows what
//! was acknowledged. Files: `file` over `flow_file`. Shared: `address` (names), `backoff`, `domains` (sequences
//! and templates of a session).

mod address;
mod backoff;
mod domains;
mod error;
mod file;
mod flow_file;
mod health;
mod outbox;
mod outq;
mod sctp;
mod session;
mod socket;
mod tcp;
mod tls;
mod udp;
mod udp_socket;
mod wire;

pub use error::SinkError;
pub use file::FileSink;
pub use sctp::SctpSink;
pub use session::SessionTiming;
pub use tcp::TcpSink;
pub use tls::TlsSink;
pub use udp::UdpSink;
pub use udp_socket::Mechanism;

use std::net::SocketAddr;

use nix::errno::Errno;

use super::{encode::Now, ring::Run, stats::ErrorReason, url::CollectorUrl, values::Transport};

/// What is to be done with the messages that were not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// There are none.
    Done,
    /// Try again later: no room just now, or no connection.
    Busy,
    /// Give up the rest of the run.
    Drop,
}

/// Result of one attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Messages taken, from the first on.
    pub datagrams: usize,
    /// What becomes of the others.
    pub fate: Fate,
    /// What went wrong, also if it went well in the end.
    pub error: Option<(ErrorReason, Errno)>,
}

impl Sent {
    /// Nothing was taken now.
    const BUSY: Self = Self { datagrams: 0, fate: Fate::Busy, error: None };
}

/// One end of the export traffic, as a packet of it would show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// IP protocol: 6, 17 or 132.
    pub protocol: u8,
    /// Our end.
    pub local: SocketAddr,
    /// The collector's.
    pub peer: SocketAddr,
}

/// What went wrong apart from an attempt to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// Where it is counted.
    pub reason: ErrorReason,
    /// For the log: what was attempted, on what, why it failed, what comes next.
    pub what: String,
}

/// What tending a sink brought.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Tended {
    /// The collector may have lost templates or options: they are to be sent again with the stream.
    pub refresh: bool,
    /// Messages, of those taken before, that have arrived (or count as such) since the last call.
    pub confirmed: u64,
    /// Messages, of those taken before and after the confirmed ones, that are lost.
    pub lost: u64,
    /// The last of what went wrong.
    pub trouble: Option<Trouble>,
}

impl Tended {
    fn trouble(&mut self, reason: ErrorReason, what: String) {
        self.trouble = Some(Trouble { reason, what });
    }
}

/// A way to one collector. Nothing in it waits.
///
/// A sink whose [`Self::confirms`] is false counts a message as sent when it takes it. One that confirms takes
/// messages into a bounded buffer and says later, in their order, which arrived and which were lost.
pub trait Sink: Send {
    /// Takes as many messages as there is room for.
    fn send(&mut self, run: &Run<'_>, now: Now) -> Sent;

    /// Connects, shakes hands, writes what it holds, resolves the name again, as far as each is due.
    /// `preamble` appends the messages that begin a session.
    fn tend(&mut self, preamble: &mut dyn FnMut(&mut Vec<u8>), now: Now) -> Tended;

    /// Whether [`Tended`] tells the fate of messages later.
    fn confirms(&self) -> bool {
        false
    }

    /// Whether messages can be taken at all: there is an address, and a session where one is needed.
    fn is_connected(&self) -> bool {
        true
    }

    /// Whether the collector seems to be there: what failover and balance go by.
    fn is_up(&self) -> bool;

    /// Octets that a message may have on the way to this collector.
    fn message_octets(&self) -> usize;

    /// Its ends, once it is connected; changes when [`Self::connects`] does.
    fn endpoint(&self) -> Option<Endpoint>;

    /// How often it was connected.
    fn connects(&self) -> u64;

    /// Why the collector's name has no address, if it turned out so when this was opened. A source that cannot
    /// wait until that changes should not begin.
    fn unresolved(&self) -> Option<String> {
        None
    }

    /// Ends the session in good order, as far as that goes without waiting; returns whether all is done.
    /// Nothing is taken any more afterwards; to be called again, after [`Self::tend`], until it is.
    fn finish(&mut self, _now: Now) -> bool {
        true
    }
}

/// Opens the way to a collector. One that is not there today is no error, and neither is a name that does not
/// resolve today. Waits for a resolver a second at most.
///
/// # Errors
/// What the operator has to change.
pub fn open(collector: &CollectorUrl) -> Result<Box<dyn Sink>, SinkError> {
    Ok(match collector.transport {
        Transport::Udp => Box::new(UdpSink::open(collector)?),
        Transport::Tcp => Box::new(TcpSink::open(collector, SessionTiming::default())?),
        Transport::Tls => Box::new(TlsSink::open(collector, SessionTiming::default())?),
        Transport::Sctp => Box::new(SctpSink::open(collector, SessionTiming::default())?),
        Transport::File => Box::new(FileSink::open(collector)?),
    })
}

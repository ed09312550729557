// SPDX-License-Identifier: Apache-2.0 OR MIT
//! datagram → collector: one file for each way there, all behind [`Sink`].

mod udp;

pub use udp::{Mechanism, SinkError, UdpSink};

use std::net::SocketAddr;

use nix::errno::Errno;

use super::{
    encode::Now,
    ring::Run,
    stats::ErrorReason,
    url::{CollectorUrl, Transport},
};

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

/// What tending a sink brought.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tended {
    /// The collector may have lost the templates: they are to be sent again with the stream.
    pub refresh: bool,
    /// Messages, of those taken before, that have arrived (or count as such) since the last call.
    pub confirmed: u64,
    /// Messages, of those taken before and after the confirmed ones, that are lost.
    pub lost: u64,
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

    /// Whether the collector seems to be there: what failover and balance go by.
    fn is_up(&self) -> bool;

    /// Octets that a message may have on the way to this collector.
    fn message_octets(&self) -> usize;

    /// Its ends, once it is connected; changes when [`Self::connects`] does.
    fn endpoint(&self) -> Option<Endpoint>;

    /// How often it was connected.
    fn connects(&self) -> u64;

    /// Ends the session in good order, as far as that goes without waiting; returns whether all is done.
    fn finish(&mut self, _now: Now) -> bool {
        true
    }
}

/// Opens the way to a collector. One that is not there today is no error.
///
/// # Errors
/// What the operator has to change.
pub fn open(collector: &CollectorUrl) -> Result<Box<dyn Sink>, SinkError> {
    match collector.transport {
        Transport::Udp => Ok(Box::new(UdpSink::open(collector)?)),
        // The others follow; the URL does not let them through before that.
        _ => Ok(Box::new(UdpSink::open(collector)?)),
    }
}

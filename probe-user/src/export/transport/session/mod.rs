// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A collector at the other end of a connection: connects, shakes hands, introduces the templates, sends, notices the
//! end, and begins again.
//!
//! ```text
//!           ┌──────────── back-off ◄──────────── any failure ──────────┐
//! Idle ──► Connecting ──► Handshake ──► Settling ──► Up ──► Closing ──► Idle, or Over after `finish`
//! ```
//!
//! A message has arrived when the peer's kernel has acknowledged its last octet. What was not acknowledged when a
//! connection breaks is lost, and said so: it may have arrived, but sending it again could make two of it.

mod sink;
mod timing;

pub use timing::SessionTiming;

use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Socket, TcpKeepalive};

use super::{
    Endpoint, SinkError, Tended,
    address::Address,
    backoff::Backoff,
    domains::Domains,
    outbox::Outbox,
    outq,
    socket::{self, SocketOptions},
    wire::Wire,
};
use crate::export::{stats::ErrorReason, url::CollectorUrl};
use crate::flow::Timestamp;

/// Messages of a session: one TLS record holds one, and what a broken connection cuts is small.
const MESSAGE_OCTETS: usize = 8192;
/// Messages of an association must pass in a packet, for they are not split then (RFC 7011 section 10.2.1).
const DEFAULT_MTU: u16 = 1500;
const SCTP_OVERHEAD: usize = 40 + 12 + 16;
/// What waits here before it is written without waiting for the next turn.
const WRITE_AT: usize = 32 << 10;
/// How often an open connection is read, and asked what was acknowledged.
const LOOK: Duration = Duration::from_millis(5);
/// Reads of one turn, so that a peer that talks without end holds up nobody.
const READS: usize = 8;
/// Up for so long, a session counts as success.
const PROVEN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// No connection; the next attempt is due then.
    Idle(Timestamp),
    /// Since when.
    Connecting(Timestamp),
    /// Since when.
    Handshake(Timestamp),
    /// Ready since then, but the peer may still refuse.
    Settling(Timestamp),
    /// Since when.
    Up(Timestamp),
    /// Nothing new is said; what was said is waited for until then.
    Closing { until: Timestamp, by_peer: bool },
    /// There will be no further session.
    Over,
}

/// Why a connection came to its end.
struct Failure {
    reason: ErrorReason,
    what: String,
}

impl Failure {
    fn new(reason: ErrorReason, what: impl Into<String>) -> Self {
        Self { reason, what: what.into() }
    }
}

/// See the module.
pub struct Session<W> {
    address: Address,
    options: SocketOptions,
    timing: SessionTiming,
    wire: W,
    state: State,
    backoff: Backoff,
    socket: Option<Socket>,
    outbox: Outbox,
    domains: Domains,
    /// A message waits whose domain has no templates in this session.
    introduce: bool,
    /// It was asked for, because of the next message.
    asked: bool,
    /// Of messages, before they go on the wire.
    scratch: Vec<u8>,
    /// Why writing failed outside of `tend`.
    broken: Option<io::Error>,
    looked: Timestamp,
    endpoint: Option<Endpoint>,
    connects: u64,
    message_octets: usize,
}

#[expect(private_bounds, reason = "the kinds of connections there are stand in this folder")]
impl<W: Wire> Session<W> {
    pub(super) fn new(
        collector: &CollectorUrl,
        options: SocketOptions,
        timing: SessionTiming,
        wire: W,
    ) -> Result<Self, SinkError> {
        let address = Address::new(collector)?;
        options.check(&address)?;
        let packet = usize::from(collector.mtu.unwrap_or(DEFAULT_MTU)).saturating_sub(SCTP_OVERHEAD);
        Ok(Self {
            address,
            options,
            timing,
            wire,
            state: State::Idle(Timestamp::default()),
            backoff: Backoff::new(timing.first_retry, timing.last_retry),
            socket: None,
            outbox: Outbox::default(),
            domains: Domains::default(),
            introduce: false,
            asked: false,
            scratch: Vec::new(),
            broken: None,
            looked: Timestamp::default(),
            endpoint: None,
            connects: 0,
            message_octets: if W::KEEPS_BOUNDS { packet } else { MESSAGE_OCTETS },
        })
    }

    fn peer(&self) -> String {
        self.endpoint.map_or_else(|| "the collector".to_owned(), |endpoint| endpoint.peer.to_string())
    }

    /// Moves on as far as it goes without waiting.
    fn advance(
        &mut self,
        preamble: &mut dyn FnMut(&mut Vec<u8>),
        now: Timestamp,
        tended: &mut Tended,
    ) -> Result<(), Failure> {
        if let Some(error) = self.broken.take() {
            return Err(self.broke(&error));
        }
        match self.state {
            State::Over => return Ok(()),
            State::Idle(again) => {
                return if now >= again { self.connect(now) } else { Ok(()) };
            }
            State::Connecting(since) => {
                if !self.is_connected_now(since, now)? {
                    return Ok(());
                }
                self.state = State::Handshake(now);
                self.wire.begin(&mut self.outbox).map_err(|what| Failure::new(ErrorReason::Tls, what))?;
            }
            State::Handshake(_) | State::Settling(_) | State::Up(_) | State::Closing { .. } => {}
        }
        let at_rest = matches!(self.state, State::Up(_) | State::Closing { .. });
        let look = !at_rest || now.since(self.looked) >= LOOK;
        let ended = look && self.hear()?;
        if let State::Handshake(since) = self.state
            && !self.wire.is_ready()
            && !ended
        {
            if now.since(since) >= self.timing.connect {
                let what = format!("{} did not finish the handshake", self.peer());
                return Err(Failure::new(ErrorReason::Tls, what));
            }
            return self.write();
        }
        if let State::Handshake(_) = self.state
            && self.wire.is_ready()
        {
            self.state = State::Settling(now);
            self.introduce = true;
        }
        if let State::Settling(since) = self.state
            && (!self.wire.may_refuse() || now.since(since) >= self.timing.settle)
        {
            self.state = State::Up(now);
            // The options, which no preamble holds.
            tended.refresh = true;
            tracing::info!("{}: session with {} begins", self.options.url(), self.peer());
        }
        if self.introduce {
            self.introduce_domains(preamble);
        }
        self.write()?;
        if look {
            self.looked = now;
            self.note_arrived(now, tended)?;
        }
        if ended && matches!(self.state, State::Handshake(_) | State::Settling(_)) {
            let what = format!("{} closed the connection before the session began", self.peer());
            return Err(Failure::new(ErrorReason::Closed, what));
        }
        if ended && matches!(self.state, State::Up(_)) {
            let what = format!("{} closed the connection", self.peer());
            tended.trouble(ErrorReason::Closed, format!("{what}; a new one is tried"));
            self.state = State::Closing { until: now + self.timing.close, by_peer: true };
            self.wire.end(&mut self.outbox);
            self.write()?;
        }
        self.close_when_due(now)
    }

    fn connect(&mut self, now: Timestamp) -> Result<(), Failure> {
        let (Some(peer), Some(local)) = (self.address.current(), self.address.local()) else { return Ok(()) };
        let socket =
            self.options.open(local).map_err(|error| Failure::new(ErrorReason::Other, error.to_string()))?;
        self.tune(&socket).map_err(|error| Failure::new(ErrorReason::Other, error.to_string()))?;
        self.connects += 1;
        self.endpoint = Some(Endpoint { protocol: W::PROTOCOL, local: SocketAddr::new(local, 0), peer });
        match socket.connect(&peer.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => {
                return Err(self.not_connected(&error));
            }
            _ => {}
        }
        // The kernel has chosen address and port by now.
        if let Some(local) = socket.local_addr().ok().and_then(|local| local.as_socket()) {
            self.endpoint = Some(Endpoint { protocol: W::PROTOCOL, local, peer });
        }
        self.socket = Some(socket);
        self.state = State::Connecting(now);
        Ok(())
    }

    /// A dead peer is to be noticed, and small messages are not to wait for larger ones.
    fn tune(&self, socket: &Socket) -> io::Result<()> {
        if W::PROTOCOL != 6 {
            return Ok(());
        }
        let keepalive = self.timing.keepalive;
        let keepalive = TcpKeepalive::new()
            .with_time(keepalive)
            .with_interval((keepalive / 2).max(Duration::from_secs(1)));
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_nodelay(true)?;
        let timeout = u32::try_from(self.timing.acknowledge.as_millis()).unwrap_or(u32::MAX);
        Ok(setsockopt(socket, sockopt::TcpUserTimeout, &timeout)?)
    }

    fn is_connected_now(&mut self, since: Timestamp, now: Timestamp) -> Result<bool, Failure> {
        let Some(socket) = &self.socket else { return Ok(false) };
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        let ready = poll(&mut fds, PollTimeout::ZERO).unwrap_or(0) > 0;
        if ready {
            return match socket.take_error() {
                Ok(None) => Ok(true),
                Ok(Some(error)) | Err(error) => Err(self.not_connected(&error)),
            };
        }
        if now.since(since) >= self.timing.connect {
            return Err(self.not_connected(&Errno::ETIMEDOUT.into()));
        }
        Ok(false)
    }

    fn not_connected(&mut self, error: &io::Error) -> Failure {
        let what = format!(
            "cannot connect to {}: {error}; check that the collector listens there and that no firewall is between",
            self.peer()
        );
        self.address.try_next();
        Failure::new(socket::reason(error), what)
    }

    fn broke(&self, error: &io::Error) -> Failure {
        let reason = match socket::reason(error) {
            // Of an open connection: nothing was acknowledged any more.
            ErrorReason::Other => ErrorReason::Closed,
            reason => reason,
        };
        Failure::new(reason, format!("the connection to {} broke: {error}", self.peer()))
    }

    /// Reads what there is; returns whether the peer has said all.
    fn hear(&mut self) -> Result<bool, Failure> {
        let mut buffer = [0; 4096];
        for _ in 0..READS {
            let Some(socket) = &self.socket else { return Ok(false) };
            let mut reader: &Socket = socket;
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(octets) => {
                    let heard = self.wire.hear(&buffer[..octets], &mut self.outbox);
                    if let Err(what) = heard {
                        // The alert that says why should reach the peer.
                        self.write()?;
                        let what = format!("TLS with {}: {what}", self.peer());
                        return Err(Failure::new(ErrorReason::Tls, what));
                    }
                    if self.wire.is_over() {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broke(&error)),
            }
        }
        Ok(false)
    }

    /// Sends the templates of domains that have not had them in this session.
    fn introduce_domains(&mut self, preamble: &mut dyn FnMut(&mut Vec<u8>)) {
        self.introduce = false;
        let Self { scratch, domains, wire, outbox, .. } = self;
        scratch.clear();
        preamble(scratch);
        domains.introduce(scratch, |message| {
            wire.say(message, outbox);
            outbox.mark(false);
        });
    }

    fn write(&mut self) -> Result<(), Failure> {
        if let Some(error) = self.write_some().err() {
            return Err(self.broke(&error));
        }
        Ok(())
    }

    fn write_some(&mut self) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        loop {
            // A handshake is no message.
            let chunk = self.outbox.chunk(W::KEEPS_BOUNDS);
            if chunk.is_empty() {
                return Ok(());
            }
            match socket.send_with_flags(chunk, libc::MSG_NOSIGNAL) {
                Ok(octets) => self.outbox.wrote(octets),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn note_arrived(&mut self, now: Timestamp, tended: &mut Tended) -> Result<(), Failure> {
        if self.outbox.outstanding() == 0 {
            return Ok(());
        }
        let arrived = self.arrived().map_err(|error| self.broke(&error))?;
        tended.confirmed += arrived;
        let proven = matches!(self.state, State::Up(since) if now.since(since) >= PROVEN);
        if arrived > 0 || proven {
            self.backoff.reset();
        }
        Ok(())
    }

    /// Counted messages that were acknowledged since the last call.
    fn arrived(&mut self) -> io::Result<u64> {
        let outstanding = match &self.socket {
            Some(socket) if W::PROTOCOL == 6 => outq::unacknowledged(socket)?,
            _ => 0,
        };
        Ok(self.outbox.acknowledge(outstanding))
    }

    fn close_when_due(&mut self, now: Timestamp) -> Result<(), Failure> {
        let State::Closing { until, by_peer } = self.state else { return Ok(()) };
        if self.outbox.outstanding() > 0 {
            if now < until {
                return Ok(());
            }
            let what = format!("{} did not acknowledge what was sent before the end", self.peer());
            return Err(Failure::new(ErrorReason::Closed, what));
        }
        if let Some(socket) = self.socket.take() {
            // All has arrived; closing says the rest.
            socket.shutdown(std::net::Shutdown::Write).ok();
        }
        self.forget();
        self.state = if by_peer { State::Idle(now + self.backoff.wait()) } else { State::Over };
        Ok(())
    }

    /// The connection is of no use any more.
    fn fail(&mut self, failure: Failure, now: Timestamp, tended: &mut Tended) {
        let Failure { reason, what } = failure;
        // The kernel still knows what was acknowledged.
        tended.confirmed += self.arrived().unwrap_or(0);
        tended.lost += self.outbox.counted();
        let over = matches!(self.state, State::Closing { by_peer: false, .. });
        self.socket = None;
        self.forget();
        let wait = self.backoff.wait();
        self.state = if over { State::Over } else { State::Idle(now + wait) };
        self.address.hurry(now);
        tended.trouble(reason, format!("{what}; the next attempt follows in {:.1} s", wait.as_secs_f32()));
    }

    fn forget(&mut self) {
        self.outbox = Outbox::default();
        self.domains.clear();
        (self.introduce, self.asked) = (false, false);
        self.broken = None;
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Connections of exporters: accepted, read in turn, ended when they are of no use.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};
use rustls::ServerConfig;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::connection::{Connection, Ended, Verdict};
use super::datagrams::canonical;
use super::decode::Source;
use crate::flow::Timestamp;
use crate::throttle::Throttle;

/// Connections at a time.
const MAX_CONNECTIONS: usize = 256;
/// When all places are taken, one that was silent this long makes room.
const IDLE: Duration = Duration::from_secs(300);
const BACKLOG: i32 = 128;
const SCRATCH: usize = 1 << 16;
/// Connections accepted in one step.
const ACCEPTS: usize = 32;
const COMPLAINT: Duration = Duration::from_secs(10);

/// A port on which connections are accepted.
pub(super) struct StreamListener {
    socket: TcpListener,
    tls: Option<Arc<ServerConfig>>,
}

impl StreamListener {
    pub(super) fn bind(listen: SocketAddr, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        let socket =
            Socket::new(Domain::for_address(listen), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        // A collector that is started again takes the port of its predecessor's dying connections.
        socket.set_reuse_address(true)?;
        socket.bind(&listen.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self { socket: socket.into(), tls })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What became of connections.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct StreamTotals {
    /// Accepted.
    pub accepted: u64,
    /// Refused because all places were taken.
    pub refused: u64,
    /// Ended because they were silent and others wanted their place.
    pub displaced: u64,
    /// Ended because they were too slow.
    pub slow: u64,
    /// Ended because of what they carried: no IPFIX, messages that contradict themselves, no valid TLS.
    pub garbage: u64,
    /// Ended by the exporter in the middle of a message, or by the network.
    pub cut: u64,
}

/// See the module.
pub(super) struct Streams {
    connections: Vec<Connection>,
    scratch: Vec<u8>,
    /// Number of the next stream; 0 stands for datagrams.
    next: u64,
    pub(super) totals: StreamTotals,
    complaint: Throttle,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self {
            connections: Vec::new(),
            scratch: Vec::new(),
            next: 1,
            totals: StreamTotals::default(),
            complaint: Throttle::new(COMPLAINT),
        }
    }

    /// What to wait for, a connection each.
    pub(super) fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.connections.iter().map(|connection| {
            let write = if connection.wants_write() { PollFlags::POLLOUT } else { PollFlags::empty() };
            PollFd::new(connection.as_fd(), PollFlags::POLLIN | write)
        })
    }

    /// Takes new connections, and gives the streams that ended to make room for them.
    pub(super) fn accept(&mut self, listener: &StreamListener, now: Timestamp) -> Vec<u64> {
        let mut ended = Vec::new();
        for _ in 0..ACCEPTS {
            let (socket, peer) = match listener.socket.accept() {
                Ok((socket, peer)) => (socket, canonical(peer)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => break,
                // One that was gone before it was taken; or no file descriptors, which others give back.
                Err(error) => {
                    self.complain(now, &format!("a connection could not be accepted: {error}"));
                    break;
                }
            };
            if self.connections.len() == MAX_CONNECTIONS {
                match self.displace(now) {
                    Some(stream) => ended.push(stream),
                    None => {
                        self.totals.refused += 1;
                        self.complain(
                            now,
                            &format!(
                                "a connection from {peer} was refused: {MAX_CONNECTIONS} exporters are connected"
                            ),
                        );
                        continue;
                    }
                }
            }
            let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60));
            let prepared = socket.set_nonblocking(true);
            // Without it, an exporter that lost its power holds its place until another wants it.
            SockRef::from(&socket).set_tcp_keepalive(&keepalive).ok();
            let connection = prepared
                .map_err(Ended::Read)
                .and_then(|()| Ok(Connection::new(socket, peer, self.next, listener.tls.as_ref(), now)?));
            match connection {
                Ok(connection) => {
                    self.totals.accepted += 1;
                    self.next += 1;
                    self.connections.push(connection);
                    tracing::info!("{peer} connected");
                }
                Err(error) => self.complain(now, &format!("a connection from {peer} was not taken: {error}")),
            }
        }
        ended
    }

    fn displace(&mut self, now: Timestamp) -> Option<u64> {
        let (at, silent) = self.connections.iter().enumerate().min_by_key(|(_, silent)| silent.heard)?;
        if now.since(silent.heard) < IDLE {
            return None;
        }
        let silent = self.connections.swap_remove(at);
        self.totals.displaced += 1;
        Some(silent.source.stream)
    }

    /// Reads connections of which poll says so (`ready`, in the order of [`Streams::poll_fds`]; those accepted
    /// since are read as well), and gives the streams that ended.
    pub(super) fn read(
        &mut self,
        ready: &[bool],
        now: Timestamp,
        mut deliver: impl FnMut(Source, &[u8]) -> io::Result<Verdict>,
    ) -> io::Result<Vec<u64>> {
        let mut ended = Vec::new();
        self.scratch.resize(SCRATCH, 0);
        // From the end, so that removing one does not move those that are still to be read.
        for at in (0..self.connections.len()).rev() {
            let connection = &mut self.connections[at];
            let mut result = Ok(());
            if ready.get(at).copied().unwrap_or(true) {
                result =
                    connection.write().and_then(|()| connection.read(&mut self.scratch, now, &mut deliver));
            }
            let Err(why) = result.and_then(|()| connection.check(now)) else { continue };
            let connection = self.connections.swap_remove(at);
            ended.push(connection.source.stream);
            let peer = connection.source.exporter.map(|peer| peer.to_string()).unwrap_or_default();
            match why {
                Ended::Deliver(error) => return Err(error),
                Ended::Closed => tracing::info!("{peer} disconnected"),
                Ended::Slow => self.totals.slow += 1,
                Ended::Cut | Ended::Read(_) => self.totals.cut += 1,
                Ended::Garbage { .. } | Ended::Broken | Ended::Tls(_) => self.totals.garbage += 1,
            }
            if !matches!(why, Ended::Closed) {
                self.complain(now, &format!("the connection of {peer} was ended: {why}"));
            }
        }
        Ok(ended)
    }

    fn complain(&mut self, now: Timestamp, what: &str) {
        if let Some(held_back) = self.complaint.admit(now) {
            tracing::warn!("{what} ({held_back} such messages were left out before)");
        }
    }
}

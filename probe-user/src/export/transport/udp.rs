// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Datagrams to the wire: a connected UDP socket for each collector.
//!
//! A run of equal datagrams leaves as one call with `UDP_SEGMENT` (udp(7), Linux 4.18): the kernel walks
//! the stack once and cuts the datagrams apart at its end. Where that is refused (a device without
//! checksum offload, a path MTU below the datagram, …) the socket falls back to `sendmmsg` and tries again
//! after a minute. Nothing here waits.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, sendmmsg, sendmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Endpoint, Fate, Sent, Sink, Tended};
use crate::export::{encode::Now, ring::Run, stats::ErrorReason, url::CollectorUrl};
use crate::flow::Timestamp;

/// Room for a burst of 5000 full datagrams with the kernel's own overhead.
const SEND_BUFFER: usize = 16 << 20;
const SEGMENTATION_RETRY: Duration = Duration::from_secs(60);
const CONNECT_RETRY: Duration = Duration::from_secs(1);
/// IP and UDP headers.
const OVERHEAD_V4: usize = 28;
const OVERHEAD_V6: usize = 48;
const DEFAULT_MTU: u16 = 1500;
const UDP: u8 = 17;
const FLAGS: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);

/// How datagrams are handed to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mechanism {
    /// `UDP_SEGMENT`: up to 44 full datagrams a call.
    Segmentation,
    /// `sendmmsg`: the same number a call, one walk of the stack for each.
    Batch,
    /// `sendmsg`: one datagram a call.
    Single,
}

/// Why a socket towards a collector could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The name has no address.
    #[error("cannot export to {url}: '{host}' does not resolve: {cause}; check the name, or give an address")]
    Resolve {
        /// Canonical URL.
        url: String,
        /// The name.
        host: String,
        /// The resolver's answer.
        cause: io::Error,
    },
    /// None of the addresses is of the source's family.
    #[error(
        "cannot export to {url}: source {local} and the collector's address {peer} are not of one IP version; choose a source of the other version"
    )]
    Family {
        /// Canonical URL.
        url: String,
        /// Address to send from.
        local: IpAddr,
        /// First address of the collector.
        peer: IpAddr,
    },
    /// The kernel gave no socket.
    #[error(
        "cannot open a UDP socket for {url}: {cause}; check the limit of open files and that the host speaks this IP version"
    )]
    Socket {
        /// Canonical URL.
        url: String,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// The source address is not to be had.
    #[error(
        "cannot send from {local} to {url}: {cause}; 'source' must be an address of this host (see: ip address)"
    )]
    Bind {
        /// Canonical URL.
        url: String,
        /// Address to send from.
        local: IpAddr,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// Not an address to send to.
    #[error(
        "cannot export to {url} ({peer}): {cause}; a collector needs a unicast or multicast address that this host may send to"
    )]
    Connect {
        /// Canonical URL.
        url: String,
        /// Address of the collector.
        peer: SocketAddr,
        /// The kernel's answer.
        cause: io::Error,
    },
}

/// A socket towards one collector.
#[derive(Debug)]
pub struct UdpSink {
    socket: UdpSocket,
    peer: SocketAddr,
    mechanism: Mechanism,
    segmentation_again: Option<Timestamp>,
    connected: bool,
    connect_again: Timestamp,
    connects: u64,
    /// Connects that the stream was told of.
    refreshed: u64,
    message_octets: usize,
    up: bool,
}

impl UdpSink {
    /// Resolves, opens, binds and connects. A collector without a route today is no error.
    pub fn open(collector: &CollectorUrl) -> Result<Self, SinkError> {
        let url = || collector.to_string();
        let resolved = (collector.host.as_str(), collector.port).to_socket_addrs();
        let resolved: Vec<SocketAddr> = resolved
            .and_then(|peers| {
                let peers: Vec<_> = peers.collect();
                if peers.is_empty() { Err(io::Error::other("no address")) } else { Ok(peers) }
            })
            .map_err(|cause| SinkError::Resolve { url: url(), host: collector.host.clone(), cause })?;
        let same_family = |peer: &&SocketAddr| collector.source.is_none_or(|s| s.is_ipv4() == peer.is_ipv4());
        let peer = match (resolved.iter().find(same_family), collector.source) {
            (Some(peer), _) => *peer,
            (None, local) => {
                let local = local.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
                return Err(SinkError::Family { url: url(), local, peer: resolved[0].ip() });
            }
        };
        let socket = open_socket(peer).map_err(|cause| SinkError::Socket { url: url(), cause })?;
        let any = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let local = collector.source.unwrap_or(any);
        socket.bind(&SocketAddr::new(local, 0).into()).map_err(|cause| SinkError::Bind {
            url: url(),
            local,
            cause,
        })?;
        let mut sink = Self {
            socket: socket.into(),
            peer,
            mechanism: Mechanism::Segmentation,
            segmentation_again: None,
            connected: false,
            connect_again: Timestamp::default(),
            connects: 0,
            refreshed: 0,
            message_octets: message_octets(peer, collector.mtu),
            up: true,
        };
        match sink.connect() {
            Err(errno) if reason(errno) != ErrorReason::Unreachable => {
                Err(SinkError::Connect { url: url(), peer, cause: errno.into() })
            }
            _ => Ok(sink),
        }
    }

    /// Uses another mechanism; for benches, and for tests of the fall-back.
    pub fn set_mechanism(&mut self, mechanism: Mechanism) {
        self.mechanism = mechanism;
        self.segmentation_again = None;
    }

    /// How datagrams are handed over now.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Our address and port, once there is a route; the export traffic can be told by it.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok().filter(|local| self.connected && !local.ip().is_unspecified())
    }

    /// The collector's address and port.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// How often it was connected; when this moves, `local_addr` may have changed.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.connects
    }

    fn connect(&mut self) -> Result<(), Errno> {
        match self.socket.connect(self.peer) {
            Ok(()) => {
                self.connected = true;
                self.connects += 1;
                Ok(())
            }
            Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(0))),
        }
    }

    /// Hands a run over, as far as the kernel takes it.
    pub fn send(&mut self, run: &Run<'_>, now: Timestamp) -> Sent {
        if !self.connected {
            if now < self.connect_again {
                return failed(0, Errno::ENETUNREACH);
            }
            if let Err(errno) = self.connect() {
                self.connect_again = now + CONNECT_RETRY;
                return failed(0, errno);
            }
        }
        if self.segmentation_again.is_some_and(|again| now >= again) {
            self.set_mechanism(Mechanism::Segmentation);
        }
        let mut taken = 0;
        let mut refused = None;
        while taken < run.datagrams {
            let rest = run.after(taken);
            match self.send_some(&rest) {
                Ok(count) => taken += count,
                Err(Errno::EINTR) => {}
                // Told by ICMP about an earlier datagram; this one was not looked at. Once is enough.
                Err(Errno::ECONNREFUSED) if refused.is_none() => {
                    refused = Some((ErrorReason::Refused, Errno::ECONNREFUSED));
                }
                Err(errno) if self.is_refusal_of_segmentation(errno, &rest) => {
                    tracing::info!(
                        peer = %self.peer,
                        "UDP segmentation was refused ({errno}); sending with sendmmsg, trying again in a minute"
                    );
                    self.mechanism = Mechanism::Batch;
                    self.segmentation_again = Some(now + SEGMENTATION_RETRY);
                }
                Err(Errno::EAGAIN) => return Sent { datagrams: taken, fate: Fate::Busy, error: refused },
                Err(errno @ (Errno::ENOBUFS | Errno::ENOMEM)) => {
                    let error = Some((ErrorReason::NoBuffer, errno));
                    return Sent { datagrams: taken, fate: Fate::Busy, error };
                }
                Err(errno) => return failed(taken, errno),
            }
        }
        Sent { datagrams: taken, fate: Fate::Done, error: refused }
    }

    fn is_refusal_of_segmentation(&self, errno: Errno, rest: &Run<'_>) -> bool {
        use Errno::{EINVAL, EIO, EMSGSIZE, ENOPROTOOPT, EOPNOTSUPP};
        self.mechanism == Mechanism::Segmentation
            && rest.datagrams > 1
            && matches!(errno, EIO | EINVAL | ENOPROTOOPT | EOPNOTSUPP | EMSGSIZE)
    }

    /// One system call; returns the datagrams taken, at least one.
    fn send_some(&self, run: &Run<'_>) -> Result<usize, Errno> {
        let fd = self.socket.as_raw_fd();
        match self.mechanism {
            Mechanism::Segmentation if run.datagrams > 1 => {
                let segment = u16::try_from(run.segment).map_err(|_| Errno::EINVAL)?;
                let control = [ControlMessage::UdpGsoSegments(&segment)];
                sendmsg::<()>(fd, &[IoSlice::new(run.octets)], &control, FLAGS, None)?;
                Ok(run.datagrams)
            }
            Mechanism::Batch if run.datagrams > 1 => {
                let slices: Vec<_> = run.iter().map(|datagram| [IoSlice::new(datagram)]).collect();
                let mut headers = MultiHeaders::<()>::preallocate(slices.len(), None);
                let addresses = vec![None; slices.len()];
                Ok(sendmmsg(fd, &mut headers, &slices, &addresses, [], FLAGS)?.count().max(1))
            }
            _ => {
                let Some(datagram) = run.iter().next() else { return Ok(1) };
                sendmsg::<()>(fd, &[IoSlice::new(datagram)], &[], FLAGS, None)?;
                Ok(1)
            }
        }
    }
}

impl Sink for UdpSink {
    fn send(&mut self, run: &Run<'_>, now: Now) -> Sent {
        let sent = Self::send(self, run, now.at);
        if sent.datagrams > 0 || sent.error.is_some() {
            self.up = sent.error.is_none();
        }
        sent
    }

    fn tend(&mut self, _preamble: &mut dyn FnMut(&mut Vec<u8>), _now: Now) -> Tended {
        let refresh = std::mem::replace(&mut self.refreshed, self.connects) != self.connects;
        Tended { refresh, ..Tended::default() }
    }

    fn is_up(&self) -> bool {
        self.up
    }

    fn message_octets(&self) -> usize {
        self.message_octets
    }

    fn endpoint(&self) -> Option<Endpoint> {
        Some(Endpoint { protocol: UDP, local: self.local_addr()?, peer: self.peer })
    }

    fn connects(&self) -> u64 {
        self.connects
    }
}

fn message_octets(peer: SocketAddr, mtu: Option<u16>) -> usize {
    let overhead = if peer.is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
    usize::from(mtu.unwrap_or(DEFAULT_MTU)).saturating_sub(overhead)
}

fn open_socket(peer: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(peer), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    // Beyond net.core.wmem_max only with CAP_NET_ADMIN; otherwise as much as is allowed.
    if setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
        socket.set_send_buffer_size(SEND_BUFFER)?;
    }
    Ok(socket)
}

fn failed(datagrams: usize, errno: Errno) -> Sent {
    Sent { datagrams, fate: Fate::Drop, error: Some((reason(errno), errno)) }
}

fn reason(errno: Errno) -> ErrorReason {
    match errno {
        Errno::ECONNREFUSED => ErrorReason::Refused,
        Errno::ENETUNREACH
        | Errno::EHOSTUNREACH
        | Errno::ENETDOWN
        | Errno::EHOSTDOWN
        | Errno::ENODEV
        | Errno::EADDRNOTAVAIL
        | Errno::ETIMEDOUT
        | Errno::ENONET => ErrorReason::Unreachable,
        Errno::EMSGSIZE => ErrorReason::TooLarge,
        Errno::EPERM | Errno::EACCES => ErrorReason::NotPermitted,
        Errno::ENOBUFS | Errno::ENOMEM => ErrorReason::NoBuffer,
        _ => ErrorReason::Other,
    }
}

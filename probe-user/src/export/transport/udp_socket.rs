// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Datagrams to the wire: a connected UDP socket.
//!
//! A run of equal datagrams leaves as one call with `UDP_SEGMENT` (udp(7), Linux 4.18): the kernel walks
//! the stack once and cuts the datagrams apart at its end. Where that is refused (a device without
//! checksum offload, a path MTU below the datagram, …) the socket falls back to `sendmmsg` and tries again
//! after a minute. Nothing here waits.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, getsockopt, sendmmsg, sendmsg, setsockopt, sockopt,
};
use socket2::Socket;

use super::{Fate, Sent, socket};
use crate::export::{ring::Run, stats::ErrorReason};
use crate::flow::Timestamp;

/// Room for a burst of 5000 full datagrams with the kernel's own overhead.
const SEND_BUFFER: usize = 16 << 20;
const SEGMENTATION_RETRY: Duration = Duration::from_secs(60);
const CONNECT_RETRY: Duration = Duration::from_secs(1);
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

/// See the module.
#[derive(Debug)]
pub(super) struct DatagramSocket {
    socket: UdpSocket,
    peer: SocketAddr,
    mechanism: Mechanism,
    segmentation_again: Option<Timestamp>,
    connected: bool,
    connect_again: Timestamp,
}

impl DatagramSocket {
    /// Takes a bound socket; the connection follows.
    ///
    /// # Errors
    /// When the kernel gives no send buffer.
    pub(super) fn new(socket: Socket, peer: SocketAddr, mechanism: Mechanism) -> io::Result<Self> {
        // Beyond net.core.wmem_max only with CAP_NET_ADMIN; otherwise as much as is allowed.
        if setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
            socket.set_send_buffer_size(SEND_BUFFER)?;
        }
        Ok(Self {
            socket: socket.into(),
            peer,
            mechanism,
            segmentation_again: None,
            connected: false,
            connect_again: Timestamp::default(),
        })
    }

    pub(super) fn set_mechanism(&mut self, mechanism: Mechanism) {
        self.mechanism = mechanism;
        self.segmentation_again = None;
    }

    pub(super) fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Our address and port, once there is a route.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok().filter(|local| self.connected && !local.ip().is_unspecified())
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Connects, which needs a route and no answer.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn connect(&mut self) -> Result<(), Errno> {
        match self.socket.connect(self.peer) {
            Ok(()) => {
                self.connected = true;
                Ok(())
            }
            Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(0))),
        }
    }

    /// What ICMP told about datagrams of before.
    pub(super) fn take_error(&self) -> Option<io::Error> {
        self.socket.take_error().ok().flatten()
    }

    /// Largest packet that the path takes, as the kernel learnt it (IP_MTU of ip(7)); for IPv4 only.
    pub(super) fn path_mtu(&self) -> Option<usize> {
        let mtu = getsockopt(&self.socket, sockopt::IpMtu).ok().filter(|_| self.peer.is_ipv4())?;
        usize::try_from(mtu).ok()
    }

    /// Hands a run over, as far as the kernel takes it.
    pub(super) fn send(&mut self, run: &Run<'_>, now: Timestamp) -> Sent {
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

fn failed(datagrams: usize, errno: Errno) -> Sent {
    Sent { datagrams, fate: Fate::Drop, error: Some((socket::reason(&errno.into()), errno)) }
}

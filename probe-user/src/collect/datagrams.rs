// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Datagrams from a UDP socket, many with one system call.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

/// Room for half a second of 2 M flows a second.
const RECEIVE_BUFFER: usize = 64 << 20;
/// Datagrams of one system call.
const BATCH: usize = 64;
/// Longer than any datagram. Pages that no datagram has reached are never made.
const DATAGRAM: usize = 1 << 16;

/// See the module.
pub(super) struct Datagrams {
    socket: UdpSocket,
    listen: SocketAddr,
    buffer: Vec<u8>,
    arrived: Vec<(Option<SocketAddr>, usize)>,
    /// Datagrams that the kernel dropped because the receive buffer was full.
    pub(super) overflowed: u64,
}

impl Datagrams {
    pub(super) fn bind(listen: SocketAddr) -> io::Result<Self> {
        let socket =
            Socket::new(Domain::for_address(listen), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        // Beyond net.core.rmem_max only with CAP_NET_ADMIN; otherwise as much as is allowed.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        socket.bind(&listen.into())?;
        let socket: UdpSocket = socket.into();
        let listen = socket.local_addr()?;
        Ok(Self {
            socket,
            listen,
            buffer: vec![0; BATCH * DATAGRAM],
            arrived: Vec::with_capacity(BATCH),
            overflowed: 0,
        })
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.listen
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes a batch, without waiting for one.
    pub(super) fn receive(&mut self) -> Result<(), Errno> {
        self.arrived.clear();
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, Some(nix::cmsg_space!(u32)));
        let mut slices: Vec<_> =
            self.buffer.chunks_exact_mut(DATAGRAM).map(|c| [IoSliceMut::new(c)]).collect();
        let fd = self.socket.as_raw_fd();
        let messages = match recvmmsg(fd, &mut headers, &mut slices, MsgFlags::MSG_DONTWAIT, None) {
            Ok(messages) => messages,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        for message in messages {
            self.arrived.push((message.address.as_ref().and_then(socket_address), message.bytes));
            for control in message.cmsgs().into_iter().flatten() {
                // Counted by the kernel since the socket was opened, 32 bits.
                if let ControlMessageOwned::RxqOvfl(dropped) = control {
                    self.overflowed = self.overflowed.max(dropped.into());
                }
            }
        }
        Ok(())
    }

    /// The batch, with who sent each.
    pub(super) fn batch(&self) -> impl ExactSizeIterator<Item = (Option<SocketAddr>, &[u8])> {
        let datagrams = self.arrived.iter().zip(self.buffer.chunks_exact(DATAGRAM));
        datagrams.map(|((from, len), buffer)| (*from, &buffer[..*len]))
    }
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(address) = address.as_sockaddr_in() {
        return Some(SocketAddr::V4((*address).into()));
    }
    Some(canonical(SocketAddr::V6((*address.as_sockaddr_in6()?).into())))
}

/// A socket on [::] sees IPv4 exporters with mapped addresses.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

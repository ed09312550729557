// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sockets of any kind towards a collector: family, source and DSCP.

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::{SinkError, address::Address};
use crate::export::{stats::ErrorReason, url::CollectorUrl};

/// What sockets of a collector have in common.
#[derive(Clone, Debug)]
pub(super) struct SocketOptions {
    url: String,
    kind: Type,
    protocol: Protocol,
    dscp: Option<u8>,
}

impl SocketOptions {
    pub(super) fn new(collector: &CollectorUrl, kind: Type, protocol: Protocol) -> Self {
        Self { url: collector.to_string(), kind, protocol, dscp: collector.dscp }
    }

    /// Canonical URL of the collector.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// A socket that never blocks, bound to `local` and a port that the kernel chooses.
    ///
    /// # Errors
    /// What the operator has to change.
    pub(super) fn open(&self, local: IpAddr) -> Result<Socket, SinkError> {
        let url = || self.url.clone();
        let refused = |cause: io::Error| match self.protocol {
            Protocol::SCTP => SinkError::NoSctp { url: url(), cause },
            Protocol::UDP => SinkError::Socket { url: url(), protocol: "UDP", cause },
            _ => SinkError::Socket { url: url(), protocol: "TCP", cause },
        };
        let any = SocketAddr::new(local, 0);
        let socket =
            Socket::new(Domain::for_address(any), self.kind, Some(self.protocol)).map_err(refused)?;
        socket.set_nonblocking(true).map_err(refused)?;
        if let Some(dscp) = self.dscp {
            set_dscp(&socket, local, dscp).map_err(refused)?;
        }
        socket.bind(&any.into()).map_err(|cause| SinkError::Bind { url: url(), local, cause })?;
        Ok(socket)
    }

    /// Whether a socket can be had at all, as far as that can be known before the name resolves.
    ///
    /// # Errors
    /// What the operator has to change.
    pub(super) fn check(&self, address: &Address) -> Result<(), SinkError> {
        let local = address.local().unwrap_or(IpAddr::from([0, 0, 0, 0]));
        self.open(local).map(drop)
    }
}

/// The code point stands in the upper six bits of both (RFC 2474 section 3).
fn set_dscp(socket: &Socket, local: IpAddr, dscp: u8) -> io::Result<()> {
    let octet = dscp << 2;
    match local {
        IpAddr::V4(_) => socket.set_tos_v4(u32::from(octet)),
        IpAddr::V6(_) => Ok(setsockopt(socket, sockopt::Ipv6TClass, &i32::from(octet))?),
    }
}

/// Where an error of a connection attempt or of a connection is counted.
pub(super) fn reason(error: &io::Error) -> ErrorReason {
    use nix::errno::Errno;
    match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
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
        Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNABORTED => ErrorReason::Closed,
        _ => ErrorReason::Other,
    }
}

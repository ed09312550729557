// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why there can be no way to a collector until the operator changes something.

use std::io;
use std::net::{IpAddr, SocketAddr};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
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
        "cannot open a {protocol} socket for {url}: {cause}; check the limit of open files and that the host speaks this IP version"
    )]
    Socket {
        /// Canonical URL.
        url: String,
        /// UDP or TCP.
        protocol: &'static str,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// The kernel has no SCTP.
    #[error(
        "cannot export to {url}: the kernel has no SCTP ({cause}); load it (modprobe sctp; Debian has it in every kernel package), or use ipfix+tcp://"
    )]
    NoSctp {
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
    /// Certificates or keys are not to be had.
    #[error("cannot set up TLS for {url}: {problem}")]
    Tls {
        /// Canonical URL.
        url: String,
        /// Which file, what is wrong with it, and what to do.
        problem: String,
    },
    /// The directory is not to be had.
    #[error(
        "cannot write files for {url}: {attempted} failed: {cause}; the directory must be writable for the probe's user"
    )]
    Directory {
        /// Canonical URL.
        url: String,
        /// What was attempted, on which path.
        attempted: String,
        /// The kernel's answer.
        cause: io::Error,
    },
}

impl SinkError {
    /// Whether the configuration is wrong, rather than the host.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Tls { .. } | Self::Family { .. })
    }
}

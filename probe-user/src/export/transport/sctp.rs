// SPDX-License-Identifier: Apache-2.0 OR MIT
//! IPFIX over SCTP (RFC 7011 section 10.2): an association of the kernel's, on stream 0, in order and reliable. Each
//! message is one SCTP message.
//!
//! The kernel does not tell what of an association was acknowledged (net/sctp/socket.c, `sctp_ioctl` knows no
//! SIOCOUTQ): a message counts as sent when the kernel took it.

use socket2::{Protocol, Type};

use super::{
    SinkError,
    session::{Session, SessionTiming},
    socket::SocketOptions,
    wire::Wire,
};
use crate::export::url::CollectorUrl;

/// Messages as they are, each for itself.
#[derive(Debug)]
pub struct SctpWire;

impl Wire for SctpWire {
    const PROTOCOL: u8 = 132;
    const KEEPS_BOUNDS: bool = true;
}

/// A session over SCTP.
pub type SctpSink = Session<SctpWire>;

impl SctpSink {
    /// Resolves; the association follows with the first [`tend`](super::Sink::tend).
    ///
    /// # Errors
    /// What the operator has to change: above all a kernel without SCTP.
    pub fn open(collector: &CollectorUrl, timing: SessionTiming) -> Result<Self, SinkError> {
        let options = SocketOptions::new(collector, Type::STREAM, Protocol::SCTP);
        Self::new(collector, options, timing, SctpWire)
    }
}

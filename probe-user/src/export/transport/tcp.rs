// SPDX-License-Identifier: Apache-2.0 OR MIT
//! IPFIX over TCP (RFC 7011 section 10.4): messages one after the other.

use socket2::{Protocol, Type};

use super::{
    SinkError,
    session::{Session, SessionTiming},
    socket::SocketOptions,
    wire::Wire,
};
use crate::export::url::CollectorUrl;

/// Messages as they are.
#[derive(Debug)]
pub struct TcpWire;

impl Wire for TcpWire {
    const PROTOCOL: u8 = 6;
}

/// A session over TCP.
pub type TcpSink = Session<TcpWire>;

impl TcpSink {
    /// Resolves; the connection follows with the first [`tend`](super::Sink::tend).
    ///
    /// # Errors
    /// What the operator has to change.
    pub fn open(collector: &CollectorUrl, timing: SessionTiming) -> Result<Self, SinkError> {
        let options = SocketOptions::new(collector, Type::STREAM, Protocol::TCP);
        Self::new(collector, options, timing, TcpWire)
    }
}

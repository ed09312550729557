// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One connection of an exporter: octets in, whole IPFIX messages out (RFC 7011 section 10.4).

use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};

use super::decode::Source;
use crate::flow::Timestamp;

/// A message must be complete this long after its first octet, and the first one (after the handshake of
/// TLS) this long after the connection was made.
const PATIENCE: Duration = Duration::from_secs(60);
/// Shortest message: its header.
const HEADER_LEN: usize = 16;
/// Octets taken from one connection before another has its turn.
const TURN: usize = 1 << 20;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// As it should.
    #[error("the exporter closed it")]
    Closed,
    /// In the middle of a message.
    #[error("the exporter closed it within a message")]
    Cut,
    /// A message that is none.
    #[error("it carries no IPFIX: a message begins with version {version} and length {length}")]
    Garbage {
        /// Should be 10.
        version: u16,
        /// Should be at least 16.
        length: u16,
    },
    /// A set contradicts its message's length.
    #[error("a message contradicts itself: a set is longer than it, or shorter than its own header")]
    Broken,
    /// Too slow.
    #[error("it did not bring a whole message within {PATIENCE:?}")]
    Slow,
    /// The handshake or the records of TLS failed.
    #[error("TLS failed: {0}")]
    Tls(#[from] rustls::Error),
    /// The socket failed.
    #[error("reading failed: {0}")]
    Read(io::Error),
    /// Whoever takes the messages failed.
    #[error("{0}")]
    Deliver(io::Error),
}

/// What the taker of messages says.
pub(super) enum Verdict {
    /// Go on.
    Good,
    /// The message contradicts itself.
    Broken,
}

/// See the module.
pub(super) struct Connection {
    socket: TcpStream,
    tls: Option<Box<ServerConnection>>,
    pub(super) source: Source,
    /// The beginning of a message; never more than the longest one.
    buffer: Vec<u8>,
    /// When it must be complete.
    due: Option<Timestamp>,
    /// When something was last heard.
    pub(super) heard: Timestamp,
}

impl Connection {
    pub(super) fn new(
        socket: TcpStream,
        peer: SocketAddr,
        stream: u64,
        tls: Option<&Arc<ServerConfig>>,
        now: Timestamp,
    ) -> Result<Self, rustls::Error> {
        let tls = tls.map(|config| ServerConnection::new(Arc::clone(config)).map(Box::new)).transpose()?;
        let source = Source { exporter: Some(peer), stream };
        Ok(Self { socket, tls, source, buffer: Vec::new(), due: Some(now + PATIENCE), heard: now })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether TLS has something to say.
    pub(super) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Whether it has kept us waiting too long.
    pub(super) fn check(&self, now: Timestamp) -> Result<(), Ended> {
        if self.due.is_some_and(|due| now > due) { Err(Ended::Slow) } else { Ok(()) }
    }

    /// Takes what has arrived and hands over the messages that it completes.
    pub(super) fn read(
        &mut self,
        scratch: &mut [u8],
        now: Timestamp,
        mut deliver: impl FnMut(Source, &[u8]) -> io::Result<Verdict>,
    ) -> Result<(), Ended> {
        let mut taken = 0;
        while taken < TURN {
            let Some(len) = self.receive(scratch)? else { break };
            if len == 0 {
                return Err(if self.buffer.is_empty() { Ended::Closed } else { Ended::Cut });
            }
            taken += len;
            self.heard = now;
            self.buffer.extend_from_slice(scratch.get(..len).unwrap_or_default());
            self.messages(now, &mut deliver)?;
        }
        Ok(())
    }

    /// Octets received, 0 at the end of the stream; `None` when there are none now.
    fn receive(&mut self, scratch: &mut [u8]) -> Result<Option<usize>, Ended> {
        let Some(tls) = &mut self.tls else { return transfer(self.socket.read(scratch)) };
        // What was decrypted is taken before more is read: rustls keeps no more than a few records.
        if let Some(len) = plain(tls, scratch)? {
            return Ok(Some(len));
        }
        while let Some(len) = transfer(tls.read_tls(&mut self.socket))? {
            let processed = tls.process_new_packets();
            // An answer, or the alert that says what was wrong.
            let written = write_tls(tls, &mut self.socket);
            processed?;
            written?;
            if let Some(len) = plain(tls, scratch)? {
                return Ok(Some(len));
            }
            if len == 0 {
                return Ok(Some(0));
            }
        }
        Ok(None)
    }

    /// Lets TLS say what it has to.
    pub(super) fn write(&mut self) -> Result<(), Ended> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        write_tls(tls, &mut self.socket)
    }

    fn messages(
        &mut self,
        now: Timestamp,
        deliver: &mut impl FnMut(Source, &[u8]) -> io::Result<Verdict>,
    ) -> Result<(), Ended> {
        let mut at = 0;
        while let Some([a, b, c, d]) = self.buffer.get(at..).and_then(|rest| rest.first_chunk().copied()) {
            let (version, length) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            if version != 10 || usize::from(length) < HEADER_LEN {
                return Err(Ended::Garbage { version, length });
            }
            let end = at + usize::from(length);
            let Some(message) = self.buffer.get(at..end) else { break };
            match deliver(self.source, message).map_err(Ended::Deliver)? {
                Verdict::Good => {}
                Verdict::Broken => return Err(Ended::Broken),
            }
            at = end;
        }
        if at > 0 {
            self.buffer.drain(..at);
            self.due = None;
        }
        if !self.buffer.is_empty() {
            self.due.get_or_insert(now + PATIENCE);
        }
        Ok(())
    }
}

fn plain(tls: &mut ServerConnection, scratch: &mut [u8]) -> Result<Option<usize>, Ended> {
    match tls.reader().read(scratch) {
        // An exporter that died leaves without a farewell; what it had said whole still counts.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(Some(0)),
        result => transfer(result),
    }
}

fn write_tls(tls: &mut ServerConnection, socket: &mut TcpStream) -> Result<(), Ended> {
    while tls.wants_write() {
        if transfer(tls.write_tls(socket))?.is_none() {
            break;
        }
    }
    Ok(())
}

fn transfer(result: io::Result<usize>) -> Result<Option<usize>, Ended> {
    match result {
        Ok(len) => Ok(Some(len)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(Ended::Read(error)),
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What octets stand for on a connection: messages as they are, or TLS around them.

use super::outbox::Outbox;

/// One kind of connection. What it says goes through the outbox, what it hears it is given.
pub(super) trait Wire: Send {
    /// IP protocol.
    const PROTOCOL: u8;
    /// Whether each message is one write, because the protocol keeps their bounds.
    const KEEPS_BOUNDS: bool = false;

    /// A connection was made. What it begins with goes to `outbox`.
    ///
    /// # Errors
    /// Why it cannot be used, for the log.
    fn begin(&mut self, _outbox: &mut Outbox) -> Result<(), String> {
        Ok(())
    }

    /// The peer said something; answers go to `outbox`.
    ///
    /// # Errors
    /// Why the connection is of no use any more, for the log.
    fn hear(&mut self, _octets: &[u8], _outbox: &mut Outbox) -> Result<(), String> {
        Ok(())
    }

    /// Whether messages can be sent.
    fn is_ready(&self) -> bool {
        true
    }

    /// Whether the peer, once ready, may still refuse us before it has said another thing.
    fn may_refuse(&self) -> bool {
        false
    }

    /// Whether the peer said that it will say nothing more.
    fn is_over(&self) -> bool {
        false
    }

    /// Puts a message on the wire.
    fn say(&mut self, message: &[u8], outbox: &mut Outbox) {
        outbox.queue().extend_from_slice(message);
    }

    /// Says that nothing follows.
    fn end(&mut self, _outbox: &mut Outbox) {}
}

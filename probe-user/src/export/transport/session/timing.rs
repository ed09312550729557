// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How patient a session is.

use std::time::Duration;

/// How long a session waits for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionTiming {
    /// Between attempts, at first …
    pub first_retry: Duration,
    /// … and at last.
    pub last_retry: Duration,
    /// For the connection and the handshake, each.
    pub connect: Duration,
    /// For an acknowledgement, before the peer counts as dead (TCP_USER_TIMEOUT), also while it takes nothing.
    pub acknowledge: Duration,
    /// Silence after which the kernel asks whether the peer is there, and between such questions.
    pub keepalive: Duration,
    /// After the handshake, for a refusal.
    pub settle: Duration,
    /// For acknowledgements, once the collector closed its side.
    pub close: Duration,
}

impl Default for SessionTiming {
    fn default() -> Self {
        Self {
            first_retry: Duration::from_millis(500),
            last_retry: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            acknowledge: Duration::from_secs(30),
            keepalive: Duration::from_secs(10),
            settle: Duration::from_millis(300),
            close: Duration::from_secs(5),
        }
    }
}

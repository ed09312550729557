// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Both directions of a conversation, brought together (RFC 5103).

mod pairing;
#[cfg(test)]
mod tests;

pub use pairing::{Leaving, Pairing, PairingLimits};

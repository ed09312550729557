// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Messages of NetFlow v1, v5, v7, v9 (RFC 3954) and IPFIX (RFC 7011) become records.
//!
//! Nothing is waited for: data whose template is not known are counted and gone. A message is read as far
//! as it makes sense; what does not is counted by reason, see [`Malformed`] and [`Defect`].

mod decoder;
mod fixed;
mod malformed;
pub mod netflow_v5;
mod octets;
mod record;
mod sampling;
mod session;
mod template;
#[cfg(test)]
mod tests;
mod times;

pub use decoder::{Decoder, Message};
pub use malformed::{Defect, Defects, Malformed};
pub use sampling::Rate;
pub use session::{Limits, SessionId, Source};

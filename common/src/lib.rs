// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The vocabulary of the probe, shared by the kernel program and user space.
//!
//! - packet: bytes of one frame, read through [`parse::PacketBytes`]
//! - flow key: [`FlowKey`], what makes two packets one flow
//! - slot: [`Slot`], what one CPU has counted for a key since the slot was created
//! - outcome: [`Outcome`], why a packet was not metered, or what was special about it
//!
//! Flows, records and datagrams exist in user space only.
#![no_std]
#![warn(missing_docs)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "fields are cut out of words on purpose, and the kernel has no room for checks that cannot fail"
)]

#[cfg(test)]
extern crate std;

mod cache;
mod counters;
mod detail;
mod flow_key;
mod hash;
mod layout;
mod outcome;
pub mod parse;
#[cfg(feature = "user")]
mod pod;
mod sampling;
mod settings;
mod slot;
mod tick;

pub use cache::{Sighting, Spill};
pub use counters::Counters;
pub use detail::{Detail, DetailSet, DetailedSlot};
pub use flow_key::{
    Direction, FlowKey, IpVersion, KEY_BASE_MASK, KEY_CUSTOMER_VLAN_MASK, KEY_VLAN_MASK, KEY_WORDS,
};
pub use hash::HashSeed;
pub use layout::{ClockReading, Control, RingCursor, Set, WAYS, map_name};
pub use outcome::{NOTES, Note, OUTCOMES, Outcome};
pub use sampling::{PacketSampling, Sampler, SamplerState, selects_flow, threshold as sampling_threshold};
pub use settings::{InterfaceEntry, KernelSettings, OwnExportKey};
pub use slot::Slot;
pub use tick::Tick;

/// Version of everything in this crate that crosses the kernel border. The loader refuses an object
/// with another one; `tests/layout.rs` fails when a layout changes.
pub const ABI_VERSION: u32 = 3;

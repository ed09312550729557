// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packets of an interface through packet sockets with a receive ring (TPACKET_V3): for interfaces without XDP, and
//! for who may not load programs. `CAP_NET_RAW` is all it needs.
//!
//! The kernel copies the headers of each packet into a block of memory that we share, and hands over a block when it
//! is full or a few milliseconds old. There is no system call for a packet.
//!
//! - `options`: what is wanted of an interface
//! - `socket`: a packet socket, bound; several in a fanout group share the packets of an interface
//! - `link`: what its frames begin with
//! - `filter`: the classic BPF program that says how much of a packet is copied
//! - `ring`: the shared blocks, and whose each one is
//! - `block`: what the kernel has written into one
//! - `stamp`: Unix time of the kernel → time of the probe
//! - `source`: all together as a [`crate::meter::FrameSource`]

mod address;
mod block;
mod filter;
mod link;
mod options;
mod ring;
mod socket;
mod sockopt;
mod source;
mod stamp;

pub use options::{PacketOptions, RingSize, Spread, Ways};
pub use source::{PacketSource, open};

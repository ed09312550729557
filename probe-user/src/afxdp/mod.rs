// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Frames that XDP hands to user space (AF_XDP): one socket for each receive queue of an interface, through xsk-rs.
//!
//! The XDP program redirects a packet to the socket that [`AfXdpSource::fd`] names in the map of sockets. The kernel
//! takes a frame of the socket's memory from its *fill ring*, puts the packet there and the frame into the *receive
//! ring*; when the packet has been read, the frame goes back into the fill ring.
//!
//! Order of things, for who owns a source: open it (before or after the program is attached, but count the queues
//! after: a driver may raise them when a program comes), put its descriptor into the map, receive. To end it: take it
//! out of the map, wait until running programs have ended, receive until nothing waits, read the drops, drop it. A
//! packet redirected to a socket that is not bound, or to one of another queue, is lost and counted by nobody
//! (`xsk_rcv_check` in net/xdp/xsk.c); a packet that lies in the ring of a socket that is dropped is lost too.
//!
//! - `options`: what a socket is to be like
//! - `frames`: where every frame of its memory is
//! - `socket`: memory and rings; the only file with `unsafe`
//! - `bind`: which ways of binding are tried, and what is said when none works
//! - `source`: the socket as a source of frames

mod bind;
mod frames;
mod options;
mod socket;
mod source;

pub use bind::Binding;
pub use frames::FrameCounts;
pub use options::{AfXdpOptions, BusyPoll, HEADROOM, ZeroCopy};
pub use source::AfXdpSource;

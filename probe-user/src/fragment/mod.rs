// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Later fragments get the ports of their first.
//!
//! Only the first fragment of a datagram has the header with the ports. A [`Joiner`] remembers firsts for a while and
//! holds back later fragments that come before theirs, for a shorter while. Nothing is reassembled: no octet of a
//! payload is kept, so overlaps change nothing, and what a flood can take is room for entries, of which there is a
//! fixed number. Each fragment that goes in comes out exactly once: with ports, or without them when its first does not
//! come in time or when there is no room to wait for it.
//!
//! - `datagram`: what makes fragments belong together
//! - `aged_map`: a bounded map that knows its oldest entry
//! - `shelf`: fragments that are held, as chains
//! - `joiner`: all of it; pure, time is passed in
//! - `shared`: one joiner for several workers

mod aged_map;
mod datagram;
mod joiner;
mod shared;
mod shelf;
#[cfg(test)]
mod tests;

pub use joiner::{Joiner, JoinerCounts, JoinerOptions, Piece};
pub use shared::SharedJoiner;

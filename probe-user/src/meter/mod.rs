// SPDX-License-Identifier: Apache-2.0 OR MIT
//! packet → slot in user space, for engines that see packets here (`afxdp`, `afpacket`).
//!
//! A *source* hands frames to a *meter*, which parses them, joins fragments, and counts them in its row of a bank: the
//! same parser and the same cache as in the kernel. A *worker* is the loop around both.
//!
//! - `frame`: a packet as a source gives it
//! - `source`: where frames come from
//! - `turns`: which half of the caches is written now, told to every worker

mod frame;
mod source;
mod turns;

pub use frame::Frame;
pub use source::{FrameSink, FrameSource, SourceDrops, SourceError, SourceStatus};
pub use turns::{Turn, Turns};

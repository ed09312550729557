// SPDX-License-Identifier: Apache-2.0 OR MIT
//! packet → slot in user space, for engines that see packets here (`afxdp`, `afpacket`).
//!
//! A *source* hands frames to a *meter*, which parses them, joins fragments, and counts them in its row of a bank: the
//! same parser and the same cache as in the kernel. A *worker* is the loop around both.
//!
//! - `frame`: a packet as a source gives it
//! - `source`: where frames come from
//! - `metering`: parses them, joins fragments, counts
//! - `own_exports`: our own messages, which are not counted
//! - `worker`: the loop around sources and a meter, as steps; `handle`: how others reach it
//! - `turns`: which half of the caches is written now, told to every worker
//! - `wait`: a rest until one of several sources has frames

mod frame;
mod handle;
mod metering;
mod own_exports;
mod source;
#[cfg(test)]
mod tests;
mod turns;
mod wait;
mod worker;

pub use frame::Frame;
pub use handle::{Removal, SourceFailure, SourceReport, WorkerHandle, WorkerReport};
pub use metering::{Fragments, Meter, MeterOptions, MeterShared, Seen};
pub use own_exports::OwnExports;
pub use source::{FrameSink, FrameSource, SourceDrops, SourceError, SourceStatus};
pub use turns::{Turn, Turns};
pub use wait::wait;
pub use worker::{Activity, Worker};

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! slot → user space: the memory in which packets are counted, whoever counts them, and its two ends.
//!
//! A [`Bank`] has a *row* for each writer: a CPU in the kernel's bank, a worker in that of user space. A row is a cache
//! of two halves, a spill ring for each *range* of the cache's sets, and two blocks of counters. Who reads a range reads
//! it in every row, so readers of different ranges share nothing.
//!
//! - `shared_memory`: an array that two sides use (unsafe)
//! - `sizing`: how large everything is
//! - `bank`: all arrays together
//! - `slot_writer`: the writing end of a row, for writers in user space (unsafe)
//! - `spill_reader`, `cache_reader`, `counter_reader`: the reading end
//! - `slot_sink`: where readers put slots

mod bank;
mod cache_reader;
mod counter_reader;
mod shared_memory;
mod sizing;
mod slot_sink;
mod slot_writer;
mod spill_reader;

pub use bank::Bank;
pub use cache_reader::CacheReader;
pub use counter_reader::CounterReader;
pub use shared_memory::SharedArray;
pub use sizing::Sizing;
pub use slot_sink::SlotSink;
pub use slot_writer::{Amount, CacheRules, SlotWriter};
pub use spill_reader::SpillReader;

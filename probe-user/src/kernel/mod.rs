// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything that talks to bpf(2): slot → user space.
//!
//! - `loader`: object + settings → maps and program
//! - `attach`: program → interface, undone on drop
//! - `shared_memory`: an array of the kernel, mapped (unsafe)
//! - `spill_reader`: one CPU's spill ring
//! - `slot_sink`: where both readers put slots
//! - `cache_reader`: the two halves of every CPU's cache, and the swap between them
//! - `clock`: how the kernel's time in packets becomes ours
//! - `control`: what the program is told while it runs
//! - `counter_reader`: the kernel's counters

mod attach;
mod barrier;
mod cache_reader;
mod clock;
mod control;
mod counter_reader;
mod error;
mod loader;
mod log;
mod privilege;
mod refusal;
mod shared_memory;
mod sizing;
mod slot_sink;
mod spill_reader;

pub use attach::{Attachment, XdpMode};
pub use barrier::{Barrier, BarrierThread};
pub use cache_reader::CacheReader;
pub use control::ControlMap;
pub use counter_reader::CounterReader;
pub use error::KernelError;
pub use loader::{KernelOptions, LoadedProgram, Readers};
pub use shared_memory::SharedArray;
pub use sizing::{Sizing, possible_cpus};
pub use slot_sink::SlotSink;
pub use spill_reader::SpillReader;

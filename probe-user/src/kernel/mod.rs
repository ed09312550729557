// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything that talks to bpf(2): counting in the kernel.
//!
//! - `loader`: object + settings → maps and program
//! - `attach`: program → interface, undone on drop
//! - `barrier`: waiting for running programs
//! - `clock`: how the kernel's time in packets becomes ours
//! - `control`: what the program is told while it runs

mod attach;
mod barrier;
mod clock;
mod control;
mod cpus;
mod error;
mod loader;
mod log;
mod privilege;
mod refusal;

pub use attach::{Attachment, XdpMode};
pub use barrier::Barrier;
pub use control::ControlMap;
pub use cpus::possible_cpus;
pub use error::KernelError;
pub use loader::{KernelOptions, LoadedProgram};

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything that talks to bpf(2): counting in the kernel.
//!
//! - `loader`, `programs`: object + settings → maps and programs
//! - `plan`: how an interface is to be metered
//! - `attach`, `xdp_link`, `tc_link`: programs → interface, undone on drop
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
mod plan;
mod privilege;
mod programs;
mod refusal;
mod tc_link;
mod xdp_link;

pub use attach::Attachment;
pub use barrier::{Barrier, BarrierThread};
pub use control::ControlMap;
pub use cpus::possible_cpus;
pub use error::KernelError;
pub use loader::{KernelOptions, LoadedProgram};
pub use plan::{AttachPlan, Directions, Hook, XdpMode};

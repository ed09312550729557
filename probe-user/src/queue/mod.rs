// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The queue between a harvester and the exporter: one writer, one reader, nobody waits.

mod primitive;
mod spsc;
#[cfg(test)]
mod tests;

pub use spsc::{Consumer, Producer, ring};

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The queue between a harvester and the exporters: one writer, a reader for each of them, nobody waits.

mod primitive;
mod ring;
#[cfg(test)]
mod tests;

pub use ring::{Consumer, Producer, broadcast, ring};

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How to make a flow table, and why there may be none.

use std::{io, time::Duration};

use probe_common::HashSeed;

use super::spread::Spread;

/// How to make a table.
#[derive(Clone, Copy, Debug)]
pub struct TableOptions {
    /// Most flows at a time.
    pub capacity: usize,
    /// See [`super::ExpiryOptions::idle`].
    pub idle: Duration,
    /// See [`super::ExpiryOptions::active`].
    pub active: Duration,
    /// See [`super::ExpiryOptions::tcp_end`].
    pub tcp_end: bool,
    /// See [`super::ExpiryOptions::spread`].
    pub spread: Spread,
    /// Which bits of key word 5 count (VLANs may or may not tell flows apart).
    pub key_mask: u64,
    /// Whether flows keep details (MAC addresses, lengths, TTLs, …): 24 octets a flow.
    pub details: bool,
    /// Random, so that nobody outside can choose keys that collide.
    pub seed: HashSeed,
}

/// Why there is no table.
#[derive(thiserror::Error, Debug)]
pub enum TableError {
    /// The capacity is out of range.
    #[error(
        "a flow table for {asked} flows cannot be made: the number must be from 1 to {most}; choose another --max-flows"
    )]
    Capacity {
        /// What was asked for.
        asked: usize,
        /// The largest that can be had.
        most: u32,
    },
    /// The host has not that much memory to give.
    #[error(
        "a flow table for {flows} flows needs {} MiB of memory and the host has {} MiB available; lower --max-flows or free memory",
        .needed >> 20, .available >> 20
    )]
    Scarce {
        /// Flows asked for.
        flows: usize,
        /// Octets that takes.
        needed: u64,
        /// Octets available.
        available: u64,
    },
    /// The kernel refused the memory.
    #[error(
        "the kernel refused {} MiB of memory for a flow table of {flows} flows: {source}; lower --max-flows or raise the limit (ulimit -v, MemoryMax of the service)",
        .needed >> 20
    )]
    Refused {
        /// Flows asked for.
        flows: usize,
        /// Octets that takes.
        needed: u64,
        /// What the kernel said.
        source: io::Error,
    },
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Numbers that nobody outside knows.

use std::{fs::File, io::Read};

use probe_common::HashSeed;

use crate::error::ProbeError;

fn random<const N: usize>() -> Result<[u8; N], ProbeError> {
    let mut random = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .map_err(|error| ProbeError::host("cannot read random numbers from /dev/urandom").because(error))?;
    Ok(random)
}

/// A seed that nobody outside knows.
///
/// # Errors
/// When the kernel gives no random numbers.
pub(crate) fn random_seed() -> Result<HashSeed, ProbeError> {
    random().map(HashSeed::from_random)
}

/// A number that nobody outside knows.
///
/// # Errors
/// When the kernel gives no random numbers.
pub(super) fn random_number() -> Result<u64, ProbeError> {
    random().map(u64::from_ne_bytes)
}

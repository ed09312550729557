// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The CPUs that the kernel counts for.

use super::KernelError;

/// Number of possible CPUs; CPU numbers are below it.
///
/// # Errors
/// When /sys cannot be read.
pub fn possible_cpus() -> Result<u32, KernelError> {
    let count = aya::util::nr_cpus().map_err(|(_, error)| KernelError::Call {
        attempted: "reading /sys/devices/system/cpu/possible",
        error,
    })?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a figure was measured on.

use std::{fs, hint::black_box};

use anyhow::Context;

use crate::stopwatch::Stopwatch;

/// Resident memory of this process.
///
/// # Errors
/// When the kernel does not tell.
pub fn resident_octets() -> anyhow::Result<u64> {
    let path = "/proc/self/status";
    let status = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in it")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("VmRSS is not a number")?;
    Ok(kib * 1024)
}

/// CPU model, CPUs, the clock they really run at, kernel and frequency governor in one line; what cannot be
/// read is called unknown.
#[must_use]
pub fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim()))
        .unwrap_or("unknown CPU");
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease", "unknown");
    let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "unknown");
    let clock = effective_ghz();
    format!("{model}, {cpus} CPUs at {clock:.1} GHz as measured, Linux {kernel}, governor {governor}")
}

/// What a core gets done, from a chain of multiplications and additions that each wait for the one before:
/// 4 cycles a step on every x86-64 of the last ten years. On a virtual machine this is what its neighbours
/// leave, and nanoseconds of two runs compare only if it is the same.
fn effective_ghz() -> f64 {
    const STEPS: u32 = 20_000_000;
    const CYCLES: f64 = 4.0;
    let mut best = f64::MAX;
    for _ in 0..3 {
        let clock = Stopwatch::start();
        let mut x = black_box(1u64);
        for _ in 0..STEPS {
            // A square, which no compiler can fold over several steps.
            x = x.wrapping_mul(x).wrapping_add(1_442_695_040_888_963_407);
        }
        black_box(x);
        best = best.min(clock.ns_per(STEPS.into()));
    }
    CYCLES / best
}

fn read(path: &str, otherwise: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| otherwise.to_owned(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_description_is_one_line_that_names_the_kernel() {
        let line = super::describe();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert!(line.contains(kernel.trim()), "{line}");
        assert!(!line.contains('\n'), "{line}");
    }
}

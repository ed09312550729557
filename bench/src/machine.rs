// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a figure was measured on.

use std::fs;

/// CPU model, CPUs, kernel and frequency governor in one line; what cannot be read is called unknown.
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
    format!("{model}, {cpus} CPUs, Linux {kernel}, governor {governor}")
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

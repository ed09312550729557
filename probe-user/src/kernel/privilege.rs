// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which of the capabilities that the probe needs this process lacks.

use std::fs;

/// Capabilities and their bits (include/uapi/linux/capability.h).
const NEEDED: [(u32, &str); 3] = [(39, "CAP_BPF"), (12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON")];
/// Stands for BPF and PERFMON.
const SYS_ADMIN: u32 = 21;

/// Names of the capabilities that are missing; none when that cannot be known.
pub(super) fn missing() -> Vec<&'static str> {
    fs::read_to_string("/proc/self/status").map_or_else(|_| Vec::new(), |status| missing_in(&status))
}

fn missing_in(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(u64::MAX);
    let has = |bit: u32| effective >> bit & 1 == 1;
    NEEDED
        .into_iter()
        .filter(|(bit, _)| !has(*bit) && (*bit == 12 || !has(SYS_ADMIN)))
        .map(|(_, name)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_missing() {
        let status = |effective: u64| format!("Name:\tprobe\nCapEff:\t{effective:016x}\n");
        assert_eq!(missing_in(&status(0)), ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
        assert_eq!(missing_in(&status(1 << 39 | 1 << 12)), ["CAP_PERFMON"]);
        assert_eq!(missing_in(&status(1 << SYS_ADMIN)), ["CAP_NET_ADMIN"]);
        assert!(missing_in(&status(u64::MAX)).is_empty());
        assert!(missing_in("no such line").is_empty());
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel says about this process, under the names that Prometheus clients agree on.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

use super::prometheus::{Encoder, Kind};

/// Status of the process. What cannot be read stays 0.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct ProcessStatus {
    cpu_seconds: f64,
    start_seconds: f64,
    threads: u64,
    virtual_bytes: u64,
    resident_bytes: u64,
    open_fds: u64,
    max_fds: u64,
}

impl ProcessStatus {
    /// Reads the status of this process from `/proc`.
    #[must_use]
    pub fn read() -> Self {
        let page = configured(SysconfVar::PAGE_SIZE, 4096);
        let ticks = configured(SysconfVar::CLK_TCK, 100);
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let mut status = Self::parse(
            &text("/proc/self/stat"),
            &text("/proc/stat"),
            &text("/proc/self/limits"),
            page,
            ticks,
        );
        // The directory is open while it is read: that one does not count.
        status.open_fds = fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count().saturating_sub(1) as u64);
        status
    }

    /// From the texts of `/proc/self/stat` (proc(5): fields count from 1), `/proc/stat` and `/proc/self/limits`.
    fn parse(stat: &str, boot: &str, limits: &str, page: u64, ticks: u64) -> Self {
        // The second field is the program's name in parentheses, which may hold blanks and parentheses.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<u64> = rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
        let boot_seconds = number_after(boot, "btime ");
        Self {
            cpu_seconds: seconds(field(14) + field(15), ticks),
            start_seconds: seconds(boot_seconds.saturating_mul(ticks).saturating_add(field(22)), ticks),
            threads: field(20),
            virtual_bytes: field(23),
            resident_bytes: field(24).saturating_mul(page),
            open_fds: 0,
            max_fds: number_after(limits, "Max open files"),
        }
    }

    pub(super) fn encode(&self, to: &mut Encoder) {
        to.family("process_cpu_seconds_total", Kind::Counter, "CPU time of the process, user and system")
            .sample(&[], self.cpu_seconds);
        to.family("process_start_time_seconds", Kind::Gauge, "When the process started, Unix time")
            .sample(&[], self.start_seconds);
        to.family("process_threads", Kind::Gauge, "Threads of the process").sample(&[], self.threads);
        to.family("process_virtual_memory_bytes", Kind::Gauge, "Address space of the process")
            .sample(&[], self.virtual_bytes);
        to.family("process_resident_memory_bytes", Kind::Gauge, "Memory of the process")
            .sample(&[], self.resident_bytes);
        to.family("process_open_fds", Kind::Gauge, "Open file descriptors").sample(&[], self.open_fds);
        to.family("process_max_fds", Kind::Gauge, "File descriptors that may be open")
            .sample(&[], self.max_fds);
    }
}

fn configured(variable: SysconfVar, usual: u64) -> u64 {
    sysconf(variable).ok().flatten().and_then(|value| u64::try_from(value).ok()).unwrap_or(usual)
}

fn seconds(ticks: u64, per_second: u64) -> f64 {
    ticks as f64 / per_second.max(1) as f64
}

/// The first number on the line that begins with `label`.
fn number_after(text: &str, label: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(label)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stat_whatever_the_program_is_called() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 900 0 1 0 150 50 0 0 20 0 7 0 1000 8192000 300 99 1";
        let status = ProcessStatus::parse(
            stat,
            "cpu 1 2\nbtime 1700000000\n",
            "Max open files 1024 4096 files\n",
            4096,
            100,
        );
        assert_eq!(
            status,
            ProcessStatus {
                cpu_seconds: 2.0,
                start_seconds: 1_700_000_010.0,
                threads: 7,
                virtual_bytes: 8_192_000,
                resident_bytes: 300 * 4096,
                open_fds: 0,
                max_fds: 1024,
            }
        );
    }

    #[test]
    fn reads_nothing_from_nothing() {
        assert_eq!(ProcessStatus::parse("", "", "", 4096, 100), ProcessStatus::default());
    }

    #[test]
    fn reads_this_process() {
        let status = ProcessStatus::read();
        assert!(status.threads >= 1);
        assert!(status.resident_bytes >= 4096 && status.virtual_bytes >= status.resident_bytes, "{status:?}");
        assert!(status.open_fds >= 3 && status.max_fds >= status.open_fds, "{status:?}");
        assert!(status.start_seconds > 1e9, "{status:?}");
    }
}

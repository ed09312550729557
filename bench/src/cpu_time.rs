// SPDX-License-Identifier: Apache-2.0 OR MIT
//! CPU time of the whole machine, interrupts included, without what other people's processes took of it.
//!
//! What a packet costs is spent in several places: the softirq that receives it, the probe, kernel threads.
//! Only the sum over all cores tells (`/proc/stat`). It is what is left of the time when that is taken away in which
//! cores had nothing to do, which most kernels measure exactly (`get_idle_time` in fs/proc/stat.c), while they sample
//! at ticks whom the rest belongs to: threads that wake up for a moment are met too often there, or never.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::{
    time::{ClockId, clock_gettime},
    unistd::{SysconfVar, sysconf},
};

/// Bit of a kernel thread in the flags of `/proc/PID/stat` (`PF_KTHREAD`, include/linux/sched.h).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// CPU time since some moment in the past; two of them make a span.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CpuTime {
    /// Time of all CPUs together until now.
    passed: Duration,
    /// Of that, what they waited, and what the hypervisor gave to others.
    waited: Duration,
    /// Of that, processes that are neither this one nor its descendants nor the kernel's own.
    foreign: Duration,
}

impl CpuTime {
    /// As it stands now.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn now() -> Result<Self> {
        let ticks =
            u64::try_from(sysconf(SysconfVar::CLK_TCK)?.context("the kernel does not tell its clock")?)?;
        let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        let foreign = foreign_ticks(&processes(), std::process::id());
        let span = |count: u64| Duration::from_secs_f64(count as f64 / ticks.max(1) as f64);
        let Waited { cpus, ticks } = waited(&text).context("no line cpu in /proc/stat")?;
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).context("cannot read the clock")?;
        Ok(Self { passed: Duration::from(now) * cpus, waited: span(ticks), foreign: span(foreign) })
    }

    /// From `earlier` to this: what the kernel, this process and its descendants took, and what others took.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> (Duration, Duration) {
        let foreign = self.foreign.saturating_sub(earlier.foreign);
        let passed = self.passed.saturating_sub(earlier.passed);
        let waited = self.waited.saturating_sub(earlier.waited);
        (passed.saturating_sub(waited).saturating_sub(foreign), foreign)
    }
}

/// What `/proc/stat` says of time without work.
#[derive(PartialEq, Eq, Debug)]
struct Waited {
    /// CPUs that are online.
    cpus: u32,
    /// idle + iowait + steal of all of them.
    ticks: u64,
}

fn waited(stat: &str) -> Option<Waited> {
    let line = stat.lines().find(|line| line.starts_with("cpu "))?;
    let columns: Vec<u64> =
        line.split_ascii_whitespace().skip(1).map_while(|column| column.parse().ok()).collect();
    let ticks = [3, 4, 7].into_iter().map(|column| columns.get(column).copied()).sum::<Option<u64>>()?;
    let cpus = stat.lines().filter(|line| line.starts_with("cpu")).count() - 1;
    Some(Waited { cpus: u32::try_from(cpus).ok()?, ticks })
}

/// A line of `/proc/PID/stat`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct ProcessTime {
    id: u32,
    parent: u32,
    kernel_thread: bool,
    /// Its own and that of children it has waited for, so that nothing vanishes when a process ends.
    ticks: u64,
}

impl ProcessTime {
    /// The name stands in parentheses and may hold anything, so the columns count from its end.
    fn read(stat: &str) -> Option<Self> {
        let id = stat.split_once(' ')?.0.parse().ok()?;
        let columns: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |column: usize| columns.get(column)?.parse::<u64>().ok();
        let ticks = [11, 12, 13, 14].into_iter().map(number).sum::<Option<u64>>()?;
        Some(Self {
            id,
            parent: u32::try_from(number(1)?).ok()?,
            kernel_thread: number(6)? & KERNEL_THREAD != 0,
            ticks,
        })
    }
}

fn processes() -> Vec<ProcessTime> {
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
    folders
        .filter(|folder| {
            folder.file_name().to_string_lossy().starts_with(|first: char| first.is_ascii_digit())
        })
        // One that ended meanwhile has no file; its parent has its time.
        .filter_map(|folder| ProcessTime::read(&fs::read_to_string(folder.path().join("stat")).ok()?))
        .collect()
}

fn foreign_ticks(processes: &[ProcessTime], own: u32) -> u64 {
    let ours = descendants(processes.iter().map(|process| (process.id, process.parent)), own);
    let foreign = processes.iter().filter(|process| !process.kernel_thread && !ours.contains(&process.id));
    foreign.map(|process| process.ticks).sum()
}

/// `root` and all that descend from it.
fn descendants(parents: impl Iterator<Item = (u32, u32)>, root: u32) -> HashSet<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (id, parent) in parents {
        children.entry(parent).or_default().push(id);
    }
    let mut found = HashSet::from([root]);
    let mut waiting = vec![root];
    while let Some(id) = waiting.pop() {
        for &child in children.get(&id).into_iter().flatten() {
            if found.insert(child) {
                waiting.push(child);
            }
        }
    }
    found
}

/// Resident memory of a process and all its descendants, in octets.
#[must_use]
pub fn resident_octets(root: u32) -> u64 {
    let ids = descendants(processes().iter().map(|process| (process.id, process.parent)), root);
    ids.into_iter()
        .filter_map(|id| kib(&fs::read_to_string(format!("/proc/{id}/status")).ok()?, "VmRSS:"))
        .sum::<u64>()
        * 1024
}

/// Memory of the BPF maps that a process holds, in octets: no part of its resident memory.
#[must_use]
pub fn map_octets(process: u32) -> u64 {
    let files = fs::read_dir(format!("/proc/{process}/fdinfo")).into_iter().flatten().flatten();
    let mut maps: HashMap<String, u64> = HashMap::new();
    for file in files {
        let Ok(text) = fs::read_to_string(file.path()) else { continue };
        let column = |name| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        // Several descriptors may be of one map.
        if let (Some(id), Some(octets)) = (column("map_id:"), column("memlock:")) {
            maps.insert(id.to_owned(), octets.parse().unwrap_or(0));
        }
    }
    maps.values().sum()
}

fn kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(id: u32, parent: u32, ticks: u64) -> ProcessTime {
        ProcessTime { id, parent, kernel_thread: false, ticks }
    }

    #[test]
    fn waiting_and_stolen_time_are_no_work() {
        let stat = "cpu  100 20 30 4000 500 6 7 80 9 1\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(waited(stat), Some(Waited { cpus: 1, ticks: 4000 + 500 + 80 }));
        assert_eq!(waited("intr 1 2 3"), None);
    }

    #[test]
    fn a_name_may_hold_anything() {
        let line = "17 (a) b (c) R 4 17 17 0 -1 4194304 9 9 9 9 100 20 3 4 20 0 1 0 5 6 7";
        assert_eq!(ProcessTime::read(line), Some(process(17, 4, 127)));
        assert_eq!(ProcessTime::read("17 (cut) R 4"), None);
    }

    #[test]
    fn others_are_neither_ours_nor_the_kernels() {
        let mut all = vec![process(1, 0, 1000), process(50, 1, 7), process(51, 50, 20), process(52, 51, 3)];
        all.push(process(60, 1, 500));
        all.push(ProcessTime { kernel_thread: true, ..process(9, 2, 9999) });
        assert_eq!(foreign_ticks(&all, 50), 1500);
    }

    #[test]
    fn time_of_this_process_is_counted_as_ours() {
        let before = CpuTime::now().unwrap();
        let mut x = std::hint::black_box(1u64);
        let watch = crate::stopwatch::Stopwatch::start();
        while watch.elapsed() < Duration::from_millis(300) {
            x = x.wrapping_mul(3);
        }
        std::hint::black_box(x);
        let (ours, _) = CpuTime::now().unwrap().since(&before);
        // Half of it, because the machine may be busy with something else.
        assert!(ours > Duration::from_millis(60), "{ours:?}");
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can go wrong between the probe and the kernel, told so that the reader knows what to do next.

use std::io;

/// An error of the kernel side.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Built with `PROBE_SKIP_EBPF`.
    #[error(
        "this binary was built without the kernel program (PROBE_SKIP_EBPF); build it again without that variable after running deploy/setup.sh"
    )]
    NoObject,
    /// EPERM from bpf(2).
    #[error(
        "{attempted}: the kernel refused for lack of privilege (missing: {missing}); run as root, or with the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    )]
    NoPrivilege {
        /// What was attempted.
        attempted: String,
        /// Capabilities that are missing.
        missing: String,
    },
    /// The verifier or a map type refused.
    #[error(
        "loading the kernel program: {reason}; the probe needs Linux 5.11 or later with BTF and the BPF JIT{detail}"
    )]
    Load {
        /// The kernel's answer.
        reason: String,
        /// The last lines of the verifier's log.
        detail: String,
    },
    /// No memory for a map.
    #[error(
        "creating the kernel's maps ({mebibytes} MiB): out of memory; lower --cache-slots, --spill-records or --memory"
    )]
    NoMemory {
        /// What the maps would have taken.
        mebibytes: u64,
    },
    /// mmap failed.
    #[error("mapping the kernel's {map} array into memory: {error}")]
    Map {
        /// Which map.
        map: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The object and this code do not fit together.
    #[error("the kernel program lacks {what}: it was built from another version; build the probe again")]
    Mismatch {
        /// What is missing.
        what: String,
    },
    /// No such interface.
    #[error(
        "attaching to interface {interface}: there is no such interface; `ip -brief link` lists those there are"
    )]
    NoInterface {
        /// Its name.
        interface: String,
    },
    /// Another XDP program is there.
    #[error(
        "attaching to interface {interface}: another XDP program is attached there already (a second probe?); `ip link show {interface}` and `bpftool net` tell which, end it first"
    )]
    Busy {
        /// Its name.
        interface: String,
    },
    /// A probe is there at the tc hook.
    #[error(
        "attaching to interface {interface}: the probe with process id {process} meters it at the tc hook; end it first"
    )]
    Metered {
        /// Its name.
        interface: String,
        /// The other's process id.
        process: u32,
    },
    /// The plan makes no sense.
    #[error("attaching to interface {interface}: {why}")]
    Plan {
        /// Its name.
        interface: String,
        /// What does not fit, and what to do.
        why: &'static str,
    },
    /// The driver cannot.
    #[error("attaching to interface {interface} in {mode} mode: {reason}")]
    Attach {
        /// Its name.
        interface: String,
        /// native or generic.
        mode: &'static str,
        /// The kernel's answer, and what to do.
        reason: String,
    },
    /// PREEMPT_RT.
    #[error(
        "this is a real-time kernel (/sys/kernel/realtime is 1): there, XDP programs may run side by side on one CPU, and counts would be lost; use a kernel without PREEMPT_RT"
    )]
    RealTime,
    /// A system call on a loaded map failed.
    #[error("{attempted}: {error}")]
    Call {
        /// What was attempted.
        attempted: &'static str,
        /// Why it failed.
        error: io::Error,
    },
}

impl KernelError {
    /// Whether the host is at fault (exit status 3), not the run.
    #[must_use]
    pub fn is_host(&self) -> bool {
        !matches!(self, Self::Call { .. })
    }
}

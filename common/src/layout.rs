// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The maps that both sides know.

use crate::Slot;

/// Slots in a set of the micro-flow cache.
pub const WAYS: usize = 2;

/// One set of the micro-flow cache, and one value of the map: a packet costs one look-up.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct Set {
    /// The ways; any may be free.
    pub slots: [Slot; WAYS],
}

const _: () = assert!(size_of::<Set>() == 128);

/// What user space tells the kernel while it runs. A global of the program, so that reading it costs no
/// look-up; written by user space alone.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct Control {
    /// The active half (0 or 1) of every CPU's cache.
    pub epoch: u32,
    /// Number of entries in `OWN_EXPORT`; 0 spares the kernel the look-up.
    pub own_exports: u32,
    /// Nanoseconds of one jiffy.
    pub jiffy_ns: u64,
    /// `CLOCK_MONOTONIC` at jiffy 0, in nanoseconds modulo 2^64.
    pub jiffies_began_ns: u64,
    /// Of so many flows one is metered, beyond what was asked for at the start; 0 and 1: all of them.
    pub flow_sampling: u32,
    /// [`crate::sampling_threshold`] of both intervals together: what the program compares with.
    pub flow_threshold: u32,
    /// Zero, which neither compiler nor verifier knows: what it is added to may be anything for them.
    pub zero: u64,
    reserved: [u64; 3],
}

impl Control {
    /// Nothing told yet.
    pub const UNSET: Self = Self {
        epoch: 0,
        own_exports: 0,
        jiffy_ns: 0,
        jiffies_began_ns: 0,
        flow_sampling: 0,
        flow_threshold: 0,
        zero: 0,
        reserved: [0; 3],
    };
}

/// Both clocks of the kernel at one moment: what the program `probe_clock` leaves in the map `CLOCK`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct ClockReading {
    /// Jiffies since the kernel's arbitrary beginning.
    pub jiffies: u64,
    /// `CLOCK_MONOTONIC`, coarse, in nanoseconds.
    pub monotonic_ns: u64,
}

/// Head and tail of one CPU's spill ring, each on its own cache line. Both count records since start.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct RingCursor {
    /// Records published; written by the kernel.
    pub head: u64,
    /// The kernel's copy of `tail`, refreshed when the ring looks full.
    pub seen_tail: u64,
    reserved_kernel: [u64; 6],
    /// Records taken; written by user space.
    pub tail: u64,
    reserved_user: [u64; 7],
}

const _: () = assert!(size_of::<RingCursor>() == 128);

/// Names of the maps in the object.
pub mod map_name {
    /// `ClockReading`, one value.
    pub const CLOCK: &str = "CLOCK";
    /// `Control`, one value: the program's zero-initialised globals, of which it is the only one.
    pub const CONTROL: &str = ".bss";
    /// `Set`; index ((cpu × 2 + epoch) × sets + set), mapped.
    pub const CACHE: &str = "CACHE";
    /// `Slot`; index (ring × records + position), where ring is (cpu << range bits) + range; mapped.
    pub const SPILL: &str = "SPILL";
    /// `DetailSet`; index as in `CACHE`, mapped; one entry where details are off.
    pub const DETAIL: &str = "DETAIL";
    /// `Detail`; index as in `SPILL`, mapped; one entry where details are off.
    pub const SPILL_DETAIL: &str = "SPILL_DETAIL";
    /// `SamplerState`; index cpu.
    pub const SAMPLER: &str = "SAMPLER";
    /// `RingCursor`; index ring, as in `SPILL`; mapped.
    pub const CURSOR: &str = "CURSOR";
    /// `Counters`; index (cpu × 2 + epoch), mapped.
    pub const COUNTERS: &str = "COUNTERS";
    /// Hash map of `OwnExportKey`.
    pub const OWN_EXPORT: &str = "OWN_EXPORT";
    /// Hash map of `InterfaceEntry` by ifIndex.
    pub const INTERFACES: &str = "INTERFACES";
    /// AF_XDP sockets; index `InterfaceEntry::first_socket` + receive queue.
    pub const XSKS: &str = "XSKS";
    /// Array of maps that nobody reads: updating it waits for running programs.
    pub const BARRIER: &str = "BARRIER";
}

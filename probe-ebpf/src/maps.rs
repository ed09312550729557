// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every map. The loader sets the number of entries (1 here is a placeholder) and maps all arrays into
//! user space.

use core::{cell::UnsafeCell, ptr::read_volatile};

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{self, ArrayOfMaps},
    macros::{btf_map, map},
    maps::{Array, HashMap, XskMap},
};
use probe_common::{
    ClockReading, Control, Counters, Detail, DetailSet, InterfaceEntry, OwnExportKey, RingCursor,
    SamplerState, Set, Slot,
};

/// A global that user space writes, by an update of the map that the loader makes of `.bss`.
#[repr(transparent)]
pub(crate) struct Told(UnsafeCell<Control>);

// SAFETY: the program only reads it, with volatile reads of whole words.
unsafe impl Sync for Told {}

impl Told {
    /// Which half of the caches is active: 0 or 1.
    #[inline(always)]
    pub(crate) fn epoch(&self) -> u32 {
        // SAFETY: the word is aligned and valid; user space may write it at any time, hence volatile.
        let epoch = unsafe { read_volatile(&raw const (*self.0.get()).epoch) };
        epoch & 1
    }

    /// Number of entries in `OWN_EXPORT`.
    #[inline(always)]
    pub(crate) fn own_exports(&self) -> u32 {
        // SAFETY: as for `epoch`.
        unsafe { read_volatile(&raw const (*self.0.get()).own_exports) }
    }

    /// Below which sampling hash a flow is metered; 0 for all flows.
    #[inline(always)]
    pub(crate) fn flow_threshold(&self) -> u32 {
        // SAFETY: as for `epoch`.
        unsafe { read_volatile(&raw const (*self.0.get()).flow_threshold) }
    }

    /// Zero, which the verifier does not know.
    #[inline(always)]
    pub(crate) fn zero(&self) -> u64 {
        // SAFETY: as for `epoch`.
        unsafe { read_volatile(&raw const (*self.0.get()).zero) }
    }

    /// `CLOCK_MONOTONIC` of a jiffy, in nanoseconds.
    #[inline(always)]
    pub(crate) fn monotonic_ns(&self, jiffies: u64) -> u64 {
        // SAFETY: as for `epoch`.
        let jiffy_ns = unsafe { read_volatile(&raw const (*self.0.get()).jiffy_ns) };
        // SAFETY: as for `epoch`.
        let began_ns = unsafe { read_volatile(&raw const (*self.0.get()).jiffies_began_ns) };
        jiffies.wrapping_mul(jiffy_ns).wrapping_add(began_ns)
    }
}

/// What user space tells while the program runs.
#[unsafe(no_mangle)]
pub(crate) static CONTROL: Told = Told(UnsafeCell::new(Control::UNSET));

/// Key: ((cpu × 2 + epoch) << set bits) + set. Written by the kernel while its half is active; read and
/// zeroed by user space while it is quiet.
#[map]
pub(crate) static CACHE: Array<Set> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Key: ring × records + position, where ring is (cpu << range bits) + range. Written by the kernel, read by user
/// space.
#[map]
pub(crate) static SPILL: Array<Slot> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Key: as of `CACHE`. Written by the programs with details alone; read by user space while its half is quiet.
#[map]
pub(crate) static DETAIL: Array<DetailSet> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Key: as of `SPILL`. Written by the programs with details alone, read by user space.
#[map]
pub(crate) static SPILL_DETAIL: Array<Detail> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Key: cpu. Written and read by the kernel, when packets are sampled by count.
#[map]
pub(crate) static SAMPLER: Array<SamplerState> = Array::with_max_entries(1, 0);

/// Key: ring, as in `SPILL`. Head written by the kernel, tail by user space.
#[map]
pub(crate) static CURSOR: Array<RingCursor> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Key: cpu × 2 + epoch. Written by the kernel, read by user space.
#[map]
pub(crate) static COUNTERS: Array<Counters> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Key: a stream of our own export datagrams. Written by user space, read by the kernel on a cache miss.
#[map]
pub(crate) static OWN_EXPORT: HashMap<OwnExportKey, u32> = HashMap::with_max_entries(256, 0);

/// Key: ifIndex. Written by user space; read by the kernel when a packet is steered or goes out.
#[map]
pub(crate) static INTERFACES: HashMap<u32, InterfaceEntry> = HashMap::with_max_entries(1024, 0);

/// Key: `InterfaceEntry::first_socket` + receive queue. Written by user space.
#[map]
pub(crate) static XSKS: XskMap = XskMap::with_max_entries(1, 0);

/// Value: both clocks, as `probe_clock` read them. Written by the kernel, read by user space.
#[map]
pub(crate) static CLOCK: Array<ClockReading> = Array::with_max_entries(1, 0);

/// Nobody looks into it: an update of a map of maps returns when every program that was running has
/// ended (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c), which is what a swap has to wait for.
#[btf_map]
pub(crate) static BARRIER: ArrayOfMaps<btf_maps::Array<u32, 1>, 1> = ArrayOfMaps::new();

/// What `BARRIER` is updated with.
#[btf_map]
pub(crate) static BARRIER_INNER: btf_maps::Array<u32, 1> = btf_maps::Array::new();

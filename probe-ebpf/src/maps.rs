// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every map. The loader sets the number of entries (1 here is a placeholder) and maps all arrays into
//! user space.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{self, ArrayOfMaps},
    macros::{btf_map, map},
    maps::{Array, HashMap},
};
use probe_common::{Control, Counters, OwnExportKey, RingCursor, Set, Slot};

/// Value: which half of the caches is active. Written by user space, read by the kernel.
#[map]
pub(crate) static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Key: ((cpu × 2 + epoch) << set bits) + set. Written by the kernel while its half is active; read and
/// zeroed by user space while it is quiet.
#[map]
pub(crate) static CACHE: Array<Set> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Key: cpu × records + position. Written by the kernel, read by user space.
#[map]
pub(crate) static SPILL: Array<Slot> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Key: cpu. Head written by the kernel, tail by user space.
#[map]
pub(crate) static CURSOR: Array<RingCursor> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Key: cpu × 2 + epoch. Written by the kernel, read by user space.
#[map]
pub(crate) static COUNTERS: Array<Counters> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Key: a stream of our own export datagrams. Written by user space, read by the kernel on a cache miss.
#[map]
pub(crate) static OWN_EXPORT: HashMap<OwnExportKey, u32> = HashMap::with_max_entries(256, 0);

/// Nobody looks into it: an update of a map of maps returns when every program that was running has
/// ended (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c), which is what a swap has to wait for.
#[btf_map]
pub(crate) static BARRIER: ArrayOfMaps<btf_maps::Array<u32, 1>, 1> = ArrayOfMaps::new();

/// What `BARRIER` is updated with.
#[btf_map]
pub(crate) static BARRIER_INNER: btf_maps::Array<u32, 1> = btf_maps::Array::new();

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Asks the CPU for memory before it is needed, so that the misses of a batch overlap.

/// Fetches the cache line of the first octet of `slice[index]` and that of its last one. An index out
/// of range asks for nothing.
#[inline(always)]
pub(super) fn prefetch<T>(slice: &[T], index: usize) {
    if let Some(element) = slice.get(index) {
        let start = std::ptr::from_ref(element).cast::<i8>();
        line(start);
        if size_of::<T>() > align_of::<T>() {
            line(start.wrapping_add(size_of::<T>() - 1));
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn line(address: *const i8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch is a hint; it reads nothing and faults on no address (Intel SDM, PREFETCHh).
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address) };
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn line(_address: *const i8) {}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Asks the CPU for memory before it is needed, so that the misses of a batch overlap.

/// Fetches the cache lines of the first and of the last octet of a value; a hint, whatever the address is.
#[inline(always)]
pub(crate) fn value<T>(address: *const T) {
    let start = address.cast::<i8>();
    line(start);
    if size_of::<T>() > align_of::<T>() {
        line(start.wrapping_add(size_of::<T>() - 1));
    }
}

/// The same of `slice[index]`. An index out of range asks for nothing.
#[inline(always)]
pub(crate) fn prefetch<T>(slice: &[T], index: usize) {
    if let Some(element) = slice.get(index) {
        value(std::ptr::from_ref(element));
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

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory of fixed size, zeroed, on huge pages where the kernel has them, and resident from the start (but
//! for files): no page fault and no allocation on the path of a packet.
//!
//! The only file of the flow table with `unsafe`, besides the prefetch (`crate::prefetch`).

use std::{
    fs, io,
    marker::PhantomData,
    num::NonZeroUsize,
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

use probe_common::Detail;

use super::{bucket::Bucket, live_flow::Flow, timer_link::Link};

/// Types that may live in a [`Mapping`].
///
/// # Safety
///
/// All bits zero must be a valid value, and the type must not need dropping.
pub(super) unsafe trait Zeroed {}

// SAFETY: integers alone.
unsafe impl Zeroed for Bucket {}
// SAFETY: integers alone.
unsafe impl Zeroed for Detail {}
// SAFETY: integers alone.
unsafe impl Zeroed for Flow {}
// SAFETY: integers alone.
unsafe impl Zeroed for Link {}

/// When memory becomes resident.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Residence {
    /// Before it is used, so that no packet waits for a page.
    FromTheStart,
    /// When it is used: for a source that can wait.
    AsUsed,
}

/// A slice in an anonymous mapping of its own.
pub(super) struct Mapping<T: Zeroed> {
    address: NonNull<T>,
    octets: NonZeroUsize,
    length: usize,
    owned: PhantomData<T>,
}

// SAFETY: the mapping belongs to this value alone, as a `Box<[T]>` would.
unsafe impl<T: Zeroed + Send> Send for Mapping<T> {}

impl<T: Zeroed> Mapping<T> {
    /// Octets that `length` elements take, in whole pages.
    pub(super) fn octets(length: usize) -> usize {
        length.saturating_mul(size_of::<T>()).max(1).checked_next_multiple_of(HUGE_PAGE).unwrap_or(usize::MAX)
    }

    /// Maps `length` zeroed elements.
    pub(super) fn new(length: usize, residence: Residence) -> io::Result<Self> {
        let octets = NonZeroUsize::new(Self::octets(length)).ok_or(io::ErrorKind::InvalidInput)?;
        if octets.get() > isize::MAX as usize {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        // SAFETY: a new anonymous mapping at an address the kernel chooses disturbs no other memory.
        let address = unsafe {
            mmap_anonymous(None, octets, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE)
        }?;
        let mapping = Self { address: address.cast(), octets, length, owned: PhantomData };
        // SAFETY: the range is the mapping just made; the advice changes page sizes, not contents. It is
        // only advice: a kernel without huge pages refuses it, and small pages serve as well.
        let _advice = unsafe { madvise(address, octets.get(), MmapAdvise::MADV_HUGEPAGE) };
        if residence == Residence::FromTheStart {
            mapping.populate()?;
        }
        Ok(mapping)
    }

    /// Faults every page in. A host without the memory says so here, not in the middle of a burst.
    fn populate(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping; populating writes nothing that can be seen.
        let populated = unsafe {
            libc::madvise(self.address.as_ptr().cast(), self.octets.get(), libc::MADV_POPULATE_WRITE)
        };
        if populated == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINVAL) {
            return Err(error);
        }
        // Kernels before 5.14 do not know MADV_POPULATE_WRITE (madvise(2)): write one octet a page.
        let start = self.address.cast::<u8>();
        for offset in (0..self.octets.get()).step_by(SMALL_PAGE) {
            // SAFETY: the offset lies inside the mapping.
            let page = unsafe { start.add(offset) };
            // SAFETY: nobody else knows the mapping yet, and zero is what it already holds.
            unsafe { page.write_volatile(0) };
        }
        Ok(())
    }
}

/// Mappings are multiples of this, so that the last part lies on a huge page too.
const HUGE_PAGE: usize = 2 << 20;
const SMALL_PAGE: usize = 4096;

impl<T: Zeroed> Deref for Mapping<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `length` elements lie inside the mapping (see `octets`), page-aligned, and were zeroed
        // by the kernel, which `Zeroed` makes valid; the borrow of `self` forbids writers.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.length) }
    }
}

impl<T: Zeroed> DerefMut for Mapping<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the unique borrow of `self` forbids every other access.
        unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr(), self.length) }
    }
}

impl<T: Zeroed> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: the range is exactly what `new` mapped, and no borrow outlives `self`.
        let unmapped = unsafe { munmap(self.address.cast(), self.octets.get()) };
        debug_assert!(unmapped.is_ok(), "the range came from mmap");
    }
}

/// Octets the host can still give without swapping, as `MemAvailable` of /proc/meminfo says.
pub(super) fn available() -> Option<u64> {
    parse_available(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    // SAFETY: an integer.
    unsafe impl Zeroed for u64 {}

    #[test]
    fn a_mapping_is_zeroed_writable_and_as_long_as_asked() {
        let mut mapping = Mapping::<u64>::new(300_001, Residence::FromTheStart).unwrap();
        assert_eq!(mapping.len(), 300_001);
        assert!(mapping.iter().all(|&word| word == 0));
        mapping[300_000] = 7;
        assert_eq!(mapping.iter().sum::<u64>(), 7);
    }

    #[test]
    fn a_mapping_that_cannot_be_is_an_error() {
        assert!(Mapping::<u64>::new(usize::MAX, Residence::AsUsed).is_err());
        assert!(Mapping::<u64>::new(1 << 58, Residence::FromTheStart).is_err());
    }

    #[test]
    fn available_memory_is_read_from_meminfo() {
        assert_eq!(parse_available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(parse_available("MemTotal: 9 kB\n"), None);
        assert_eq!(parse_available("MemAvailable: many kB\n"), None);
    }
}

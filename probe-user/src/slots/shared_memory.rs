// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An array that two sides use: one of the kernel, mapped into our memory, or memory of our own for writers in user
//! space.
//!
//! JUSTIFICATION for unsafe: reading slots by system call would cost one call per slot; the mapping costs
//! none. Values are copied out and in with volatile accesses, never borrowed, because the other side may write
//! them at any time; words that both sides share while both run are accessed as atomics.

use std::{io, num::NonZeroUsize, os::fd::AsFd, ptr::NonNull, sync::atomic::AtomicU64};

use aya::Pod;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

/// The values of a BPF array map with `BPF_F_MMAPABLE`.
#[derive(Debug)]
pub struct SharedArray<T> {
    base: NonNull<T>,
    entries: usize,
    length: NonZeroUsize,
}

// SAFETY: the memory belongs to the map, not to a thread; every access is volatile or atomic.
unsafe impl<T: Pod> Send for SharedArray<T> {}
// SAFETY: as above.
unsafe impl<T: Pod> Sync for SharedArray<T> {}

impl<T: Pod> SharedArray<T> {
    /// Maps `entries` values of the map behind `fd`.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn map(fd: impl AsFd, entries: usize) -> io::Result<Self> {
        let length = Self::length(entries)?;
        // SAFETY: a new shared mapping at an address the kernel chooses touches nothing of ours.
        let base = unsafe {
            mmap(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, fd, 0)
        }?;
        Ok(Self { base: base.cast(), entries, length })
    }

    /// `entries` values of our own, all zero, on huge pages where the kernel has them.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn anonymous(entries: usize) -> io::Result<Self> {
        let length = Self::length(entries)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_POPULATE;
        // SAFETY: a new mapping at an address the kernel chooses touches nothing of ours.
        let base = unsafe { mmap_anonymous(None, length, protection, flags) }?;
        // SAFETY: the range was mapped just now. Advice changes nothing that can be read.
        unsafe { madvise(base, length.get(), MmapAdvise::MADV_HUGEPAGE) }.ok();
        Ok(Self { base: base.cast(), entries, length })
    }

    fn length(entries: usize) -> io::Result<NonZeroUsize> {
        // The kernel's value size is rounded up to 8, and so must ours be for the strides to agree.
        assert!(size_of::<T>().is_multiple_of(8), "a value of a mapped array has a multiple of 8 octets");
        NonZeroUsize::new(entries * size_of::<T>())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an array without entries"))
    }

    /// Number of values.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries
    }

    #[inline]
    fn at(&self, index: usize) -> NonNull<T> {
        assert!(index < self.entries, "index {index} of {} entries", self.entries);
        // SAFETY: the index was checked, so the address lies inside the mapping.
        unsafe { self.base.add(index) }
    }

    /// Copies a value out.
    #[inline]
    #[must_use]
    pub fn read(&self, index: usize) -> T {
        let at = self.at(index);
        // SAFETY: `at` is valid and aligned (the mapping begins on a page, sizes are multiples of the
        // alignment); `T: Pod` has no invalid bit patterns.
        unsafe { at.read_volatile() }
    }

    /// A value that is the caller's alone at present.
    ///
    /// # Safety
    ///
    /// Until the reference ends, nobody else reads or writes this value: neither another thread nor the kernel.
    #[inline]
    #[allow(clippy::mut_from_ref, reason = "the caller vouches for it")]
    pub(super) unsafe fn exclusive(&self, index: usize) -> &mut T {
        let mut at = self.at(index);
        // SAFETY: `at` is valid and aligned as for `read`; the caller vouches for exclusiveness.
        unsafe { at.as_mut() }
    }

    /// Asks the CPU for a value before it is needed. An index out of range asks for nothing.
    #[inline]
    pub fn prefetch(&self, index: usize) {
        if index < self.entries {
            // SAFETY: the index was checked, so the address lies inside the mapping.
            crate::prefetch::value(unsafe { self.base.add(index) }.as_ptr());
        }
    }

    /// Overwrites a value that the other side does not write at present.
    #[inline]
    pub fn write(&self, index: usize, value: T) {
        let at = self.at(index);
        // SAFETY: as for `read`.
        unsafe { at.write_volatile(value) }
    }

    /// A word of a value, at `offset` octets, that both sides use while both run.
    #[inline]
    #[must_use]
    pub fn word64(&self, index: usize, offset: usize) -> &AtomicU64 {
        let at = self.field(index, offset, 8);
        // SAFETY: `field` checked bounds and alignment; the mapping lives as long as `self`.
        unsafe { AtomicU64::from_ptr(at.cast().as_ptr()) }
    }

    #[inline]
    fn field(&self, index: usize, offset: usize, size: usize) -> NonNull<u8> {
        assert!(offset.is_multiple_of(size) && offset + size <= size_of::<T>(), "offset {offset} of a value");
        // SAFETY: the offset lies inside the value, and the value inside the mapping.
        unsafe { self.at(index).cast::<u8>().add(offset) }
    }
}

impl<T> Drop for SharedArray<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this address and length, and no reference to it outlives us.
        let result = unsafe { munmap(self.base.cast(), self.length.get()) };
        debug_assert_eq!(result, Ok(()));
    }
}

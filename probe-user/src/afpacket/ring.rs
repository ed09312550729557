// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The blocks that the kernel and we share.
//!
//! JUSTIFICATION for unsafe: reading packets by system call would cost one call for each; the mapping costs none. A
//! block belongs to one side at a time, and its status word says to which: the kernel sets TP_STATUS_USER with a write
//! barrier when it has written everything and writes nothing more then (`prb_close_block` in net/packet/af_packet.c,
//! which waits for copies under way), until we clear the word. So a block whose status was read with acquire is memory
//! that nobody writes until [`Ring::give_back`], which no borrow of a block outlives.

use std::{
    io,
    num::NonZeroUsize,
    os::fd::AsFd,
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::{
    RingSize,
    block::{Block, STATUS},
};

/// The receive ring of a socket, mapped.
#[derive(Debug)]
pub(super) struct Ring {
    base: NonNull<u8>,
    blocks: usize,
    block_octets: usize,
    length: NonZeroUsize,
}

// SAFETY: the memory belongs to the socket, not to a thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps the ring of a socket, which has one of this size.
    pub(super) fn map(socket: impl AsFd, size: RingSize) -> io::Result<Self> {
        let too_large = || io::Error::from(io::ErrorKind::InvalidInput);
        let blocks = usize::try_from(size.blocks).map_err(|_| too_large())?;
        let block_octets = usize::try_from(size.block_octets).map_err(|_| too_large())?;
        let length = blocks.checked_mul(block_octets).and_then(NonZeroUsize::new).ok_or_else(too_large)?;
        // The status word must lie in the block and be aligned, whatever the caller asked for.
        if !block_octets.is_multiple_of(align_of::<AtomicU32>()) || block_octets < STATUS + 4 {
            return Err(too_large());
        }
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new shared mapping at an address the kernel chooses touches nothing of ours; the kernel refuses a
        // length that is not the ring's.
        let base = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, socket, 0) }?;
        Ok(Self { base: base.cast(), blocks, block_octets, length })
    }

    /// Number of blocks.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// A block, if the kernel has handed it over.
    #[inline]
    pub(super) fn block(&self, index: usize) -> Option<Block<'_>> {
        // Acquire: what the kernel wrote into the block comes before.
        if self.status(index).load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        let start = self.start(index);
        // SAFETY: the whole block lies inside the mapping, which lives as long as `self`; it is ours (see the module),
        // and stays so while `self` is borrowed.
        Some(Block::new(unsafe { slice::from_raw_parts(start.as_ptr(), self.block_octets) }))
    }

    /// Gives a block back to the kernel, which will write into it.
    pub(super) fn give_back(&mut self, index: usize) {
        // Release: what we read of the block comes before.
        self.status(index).store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }

    #[inline]
    fn start(&self, index: usize) -> NonNull<u8> {
        assert!(index < self.blocks, "block {index} of {}", self.blocks);
        // SAFETY: the index was checked, so the address lies inside the mapping.
        unsafe { self.base.add(index * self.block_octets) }
    }

    #[inline]
    fn status(&self, index: usize) -> &AtomicU32 {
        // SAFETY: the word lies inside the block (checked by `map`), and so inside the mapping.
        let word = unsafe { self.start(index).add(STATUS) };
        // SAFETY: the mapping begins on a page, and blocks and offset are multiples of 4; both sides access the word
        // as a whole, and it lives as long as `self`.
        unsafe { AtomicU32::from_ptr(word.cast().as_ptr()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this address and length, and no reference to it outlives us.
        let result = unsafe { munmap(self.base.cast(), self.length.get()) };
        debug_assert_eq!(result, Ok(()));
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Eight entries of the index, searched without a branch that depends on what is in them.

/// Entries of a bucket.
pub(super) const WAYS: usize = 8;

/// One cache line of the index.
#[repr(C, align(64))]
pub(super) struct Bucket {
    pub(super) tags: [u32; WAYS],
    /// One more than the id; 0 is empty.
    pub(super) ids: [u32; WAYS],
}

const _: () = assert!(size_of::<Bucket>() == 64, "a bucket is one cache line");

impl Bucket {
    /// One bit for each way that holds this tag.
    #[inline(always)]
    pub(super) fn with_tag(&self, tag: u32) -> u32 {
        let mut ways = 0;
        for way in 0..WAYS {
            ways |= u32::from((self.tags[way] == tag) & (self.ids[way] != 0)) << way;
        }
        ways
    }

    /// The first empty way.
    #[inline(always)]
    pub(super) fn empty(&self) -> Option<usize> {
        let mut ways = 0u32;
        for way in 0..WAYS {
            ways |= u32::from(self.ids[way] == 0) << way;
        }
        (ways != 0).then(|| ways.trailing_zeros() as usize)
    }
}

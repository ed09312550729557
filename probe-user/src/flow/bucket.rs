// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Eight entries of the index, searched without a branch that depends on what is in them.

/// Entries of a bucket.
pub(super) const WAYS: usize = 8;

/// The tag of a way without an entry.
pub(super) const EMPTY: u32 = 0;

/// One cache line of the index.
#[repr(C, align(64))]
pub(super) struct Bucket {
    /// [`EMPTY`] where there is no entry.
    pub(super) tags: [u32; WAYS],
    pub(super) ids: [u32; WAYS],
}

const _: () = assert!(size_of::<Bucket>() == 64, "a bucket is one cache line");

impl Bucket {
    /// One bit for each way that holds this tag.
    #[inline(always)]
    pub(super) fn with_tag(&self, tag: u32) -> u32 {
        debug_assert!(tag != EMPTY, "it would find empty ways");
        equal(&self.tags, tag)
    }

    /// The first empty way.
    #[inline(always)]
    pub(super) fn empty(&self) -> Option<usize> {
        let ways = equal(&self.tags, EMPTY);
        (ways != 0).then(|| ways.trailing_zeros() as usize)
    }
}

/// One bit for each word that equals `wanted`. In this form the compiler makes a comparison of vectors of it; with a
/// second condition in the loop it made one of words.
#[inline(always)]
fn equal(words: &[u32; WAYS], wanted: u32) -> u32 {
    let mut ways = 0;
    for (way, word) in words.iter().enumerate() {
        ways |= u32::from(*word == wanted) << way;
    }
    ways
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which places of the map `XSKS` belong to which interface: a block for each, a place for each receive queue.

/// Receive queues of one interface that may have a socket.
pub(super) const QUEUES: u32 = 64;
/// Interfaces that may have sockets at a time.
const BLOCKS: u32 = 64;
/// Places in all.
pub(super) const PLACES: u32 = QUEUES * BLOCKS;

/// See the module.
#[derive(Default)]
pub(super) struct Places {
    taken: u64,
}

impl Places {
    /// A block of [`QUEUES`] places, by its first; nothing when all are taken.
    pub(super) fn take(&mut self) -> Option<u32> {
        let block = self.taken.trailing_ones();
        if block >= BLOCKS {
            return None;
        }
        self.taken |= 1 << block;
        Some(block * QUEUES)
    }

    /// Gives a block back.
    pub(super) fn give(&mut self, first: u32) {
        self.taken &= !(1 << (first / QUEUES % BLOCKS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_taken_once_and_given_back() {
        let mut places = Places::default();
        let all: Vec<u32> = std::iter::from_fn(|| places.take()).collect();
        assert_eq!(all, (0..BLOCKS).map(|block| block * QUEUES).collect::<Vec<_>>());
        places.give(5 * QUEUES);
        assert_eq!((places.take(), places.take()), (Some(5 * QUEUES), None));
    }
}

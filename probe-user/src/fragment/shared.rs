// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One joiner for several workers: a NIC may give a first fragment, of which it sees the ports, to another queue than
//! the later ones.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use super::{Joiner, JoinerCounts, JoinerOptions};

struct Shared<T> {
    joiner: Mutex<Joiner<T>>,
    /// As the joiner says, so that those who have no fragments need not ask it.
    held: AtomicUsize,
}

/// A handle; cloning it gives another to the same joiner. Locked only for batches that have fragments.
pub struct SharedJoiner<T>(Arc<Shared<T>>);

impl<T> Clone for SharedJoiner<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> SharedJoiner<T> {
    /// A new joiner.
    #[must_use]
    pub fn new(options: JoinerOptions) -> Self {
        Self(Arc::new(Shared { joiner: Mutex::new(Joiner::new(options)), held: AtomicUsize::new(0) }))
    }

    /// Octets that the joiner takes, once it has been full.
    #[must_use]
    pub fn memory_octets(options: &JoinerOptions) -> usize {
        Joiner::<T>::memory_octets(options)
    }

    /// Fragments that are held back, as of the last use.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// What became of later fragments since the start.
    #[must_use]
    pub fn counts(&self) -> JoinerCounts {
        self.with(|joiner| joiner.counts())
    }

    /// Uses the joiner, alone.
    pub fn with<R>(&self, r#use: impl FnOnce(&mut Joiner<T>) -> R) -> R {
        // A joiner is whole between any two of its steps, and a worker that panicked has lost its batch anyway.
        let mut joiner = self.0.joiner.lock().unwrap_or_else(PoisonError::into_inner);
        let result = r#use(&mut joiner);
        self.0.held.store(joiner.held(), Ordering::Relaxed);
        result
    }
}

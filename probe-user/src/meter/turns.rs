// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which half of the caches is written now. The swap tells a turn; each worker takes it when it has counted what had
//! come before, and says so: then nobody writes the other half.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::bell::Bell;

/// A number that goes up with every swap; its lowest bit is the epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Turn(pub u64);

impl Turn {
    /// The epoch: 0 or 1.
    #[must_use]
    pub fn epoch(self) -> u32 {
        u32::from(self.0 & 1 == 1)
    }
}

#[derive(Debug)]
struct Shared {
    told: AtomicU64,
    taken: Vec<AtomicU64>,
    /// Of each worker, rung when there is a turn to be taken.
    bells: Vec<Bell>,
    /// Rung when all have taken it.
    all_taken: Bell,
}

/// The turn that all workers are to take, and those that they have taken.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Shared>);

impl Turns {
    /// For so many workers, all in turn 0; `all_taken` is rung whenever the last of them has taken a turn.
    ///
    /// # Errors
    /// When there is no file descriptor left.
    pub fn new(workers: usize, all_taken: Bell) -> io::Result<Self> {
        let taken = (0..workers).map(|_| AtomicU64::new(0)).collect();
        let bells = (0..workers).map(|_| Bell::new()).collect::<io::Result<_>>()?;
        Ok(Self(Arc::new(Shared { told: AtomicU64::new(0), taken, bells, all_taken })))
    }

    /// What wakes this worker.
    #[must_use]
    pub fn bell(&self, worker: usize) -> Bell {
        self.0.bells[worker].clone()
    }

    /// Asks all workers to take this turn.
    pub fn tell(&self, turn: Turn) {
        self.0.told.store(turn.0, Ordering::Release);
        self.0.bells.iter().for_each(Bell::ring);
    }

    /// The turn to be taken.
    #[must_use]
    pub fn told(&self) -> Turn {
        Turn(self.0.told.load(Ordering::Acquire))
    }

    /// Says that this worker has taken a turn: it writes the other half no more.
    pub fn take(&self, worker: usize, turn: Turn) {
        // Release: the slots of the turn before were written before.
        self.0.taken[worker].store(turn.0, Ordering::Release);
        if self.all_taken() {
            self.0.all_taken.ring();
        }
    }

    /// Says that this worker has ended: it writes neither half any more, and nobody waits for it.
    pub fn leave(&self, worker: usize) {
        self.take(worker, Turn(u64::MAX));
    }

    /// Whether all workers have taken the turn that was told.
    #[must_use]
    pub fn all_taken(&self) -> bool {
        let told = self.told().0;
        self.0.taken.iter().all(|taken| taken.load(Ordering::Acquire) >= told)
    }
}

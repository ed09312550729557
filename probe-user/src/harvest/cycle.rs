// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What swapper and harvesters tell each other: which half may be read, and what each harvester has read of it.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::Part;
use crate::{bell::Bell, flow::Moment, meter::Turn};

/// What is known of the half that may be read.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Harvest {
    /// The turn that has begun: the half of the turn before is quiet.
    pub(super) turn: Turn,
    /// When it was flipped: what came before is in the quiet half, the rings or the table.
    pub(super) flipped: Moment,
}

#[derive(Debug)]
struct Shared {
    begun: AtomicU64,
    flipped: Mutex<Moment>,
    /// For each harvester, the turn whose quiet half it has merged.
    done: Vec<AtomicU64>,
    parts: Vec<Mutex<Part>>,
    hurry: AtomicBool,
    /// Rung when the swapper has something to do.
    bell: Bell,
}

/// Shared by the swapper and its harvesters.
#[derive(Clone, Debug)]
pub struct Cycle(Arc<Shared>);

impl Cycle {
    /// For so many harvesters; `bell` wakes the swapper. `start` is now.
    #[must_use]
    pub fn new(harvesters: usize, bell: Bell, start: Moment) -> Self {
        Self(Arc::new(Shared {
            begun: AtomicU64::new(0),
            flipped: Mutex::new(start),
            done: (0..harvesters).map(|_| AtomicU64::new(0)).collect(),
            parts: (0..harvesters).map(|_| Mutex::default()).collect(),
            hurry: AtomicBool::new(false),
            bell,
        }))
    }

    /// What wakes the swapper.
    #[must_use]
    pub fn bell(&self) -> &Bell {
        &self.0.bell
    }

    /// Asks for a swap at once.
    pub fn hurry(&self) {
        self.0.hurry.store(true, Ordering::Relaxed);
        self.0.bell.ring();
    }

    pub(super) fn take_hurry(&self) -> bool {
        self.0.hurry.load(Ordering::Relaxed) && self.0.hurry.swap(false, Ordering::Relaxed)
    }

    /// Lets the harvesters read what is quiet now.
    pub(super) fn begin(&self, harvest: Harvest) {
        *self.0.flipped.lock().unwrap_or_else(PoisonError::into_inner) = harvest.flipped;
        // Release: the writers have left the quiet half.
        self.0.begun.store(harvest.turn.0, Ordering::Release);
    }

    /// What may be read by a harvester that has done everything up to `done`.
    pub(super) fn begun_after(&self, done: Turn) -> Option<Harvest> {
        let turn = Turn(self.0.begun.load(Ordering::Acquire));
        let flipped = || *self.0.flipped.lock().unwrap_or_else(PoisonError::into_inner);
        (turn > done).then(|| Harvest { turn, flipped: flipped() })
    }

    /// Says that a harvester has merged a quiet half, and what it has counted by then. The half is free again.
    pub(super) fn finish(&self, harvester: usize, turn: Turn, part: &Part) {
        self.publish(harvester, part);
        // Release: the half was emptied before.
        self.0.done[harvester].store(turn.0, Ordering::Release);
        if self.is_done(turn) {
            self.0.bell.ring();
        }
    }

    /// What a harvester has counted.
    pub(super) fn publish(&self, harvester: usize, part: &Part) {
        self.0.parts[harvester].lock().unwrap_or_else(PoisonError::into_inner).clone_from(part);
    }

    /// Whether all harvesters have merged what was quiet in this turn.
    pub(super) fn is_done(&self, turn: Turn) -> bool {
        self.0.done.iter().all(|done| done.load(Ordering::Acquire) >= turn.0)
    }

    /// What the harvesters have counted. They agree while no harvest is under way.
    pub(super) fn parts(&self) -> Vec<Part> {
        let part = |part: &Mutex<Part>| part.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.0.parts.iter().map(part).collect()
    }
}

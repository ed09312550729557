// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Do the threads move on?

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::threads::Heartbeat;
use crate::flow::Timestamp;

/// How often heartbeats are compared. The watchdog of the service is longer.
const INTERVAL: Duration = Duration::from_secs(2);

/// Compares the heartbeats of all threads now and then.
pub(super) struct Watch {
    heartbeats: Vec<Heartbeat>,
    seen: Vec<u64>,
    last: Option<Timestamp>,
    healthy: Arc<AtomicBool>,
}

impl Watch {
    pub(super) fn new(heartbeats: impl Into<Vec<Heartbeat>>) -> Self {
        let heartbeats = heartbeats.into();
        let seen = vec![0; heartbeats.len()];
        Self { heartbeats, seen, last: None, healthy: Arc::new(AtomicBool::new(true)) }
    }

    /// Whether all moved on at the last comparison.
    pub(super) fn healthy(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.healthy)
    }

    /// Compares when it is time; returns whether that was done and all have moved on.
    pub(super) fn look(&mut self, now: Timestamp) -> bool {
        if self.last.is_some_and(|last| now.since(last) < INTERVAL) {
            return false;
        }
        self.last = Some(now);
        let beats: Vec<u64> = self.heartbeats.iter().map(|beat| beat.load(Ordering::Relaxed)).collect();
        let moved = beats.iter().zip(&self.seen).all(|(now, before)| now != before);
        self.seen = beats;
        self.healthy.store(moved, Ordering::Relaxed);
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_stands_still_is_noticed() {
        let (moving, stuck) = (Heartbeat::default(), Heartbeat::default());
        let mut watch = Watch::new([Arc::clone(&moving), Arc::clone(&stuck)]);
        moving.store(5, Ordering::Relaxed);
        stuck.store(1, Ordering::Relaxed);
        assert!(watch.look(Timestamp(0)));
        moving.store(6, Ordering::Relaxed);
        assert!(!watch.look(Timestamp(1_000_000_000)), "too early to compare");
        assert!(watch.healthy().load(Ordering::Relaxed));
        assert!(!watch.look(Timestamp(2_000_000_000)));
        assert!(!watch.healthy().load(Ordering::Relaxed));
    }
}

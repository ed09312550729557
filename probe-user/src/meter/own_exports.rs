// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Our own messages, as meters recognise them: what the map `OWN_EXPORT` is to the kernel program.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use hashbrown::HashSet;
use probe_common::{FlowKey, OwnExportKey};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

type Keys = Arc<HashSet<OwnExportKey>>;

#[derive(Default, Debug)]
struct Shared {
    /// Goes up with every change.
    generation: AtomicU64,
    keys: Mutex<Keys>,
}

/// The keys of all export streams; a handle, of which clones lead to the same keys.
#[derive(Clone, Default, Debug)]
pub struct OwnExports(Arc<Shared>);

impl OwnExports {
    /// These are ours from now on, and no others. Meters know at their next batch.
    pub fn replace(&self, keys: impl IntoIterator<Item = OwnExportKey>) {
        let keys = Arc::new(keys.into_iter().collect());
        *self.0.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys;
        // Release: whoever sees the number sees the keys.
        self.0.generation.fetch_add(1, Ordering::Release);
    }
}

/// What one meter knows of them: looking a key up takes no lock.
#[derive(Debug)]
pub(super) struct KnownExports {
    source: OwnExports,
    generation: u64,
    keys: Keys,
}

impl KnownExports {
    pub(super) fn new(source: OwnExports) -> Self {
        let mut known = Self { source, generation: u64::MAX, keys: Keys::default() };
        known.refresh();
        known
    }

    /// Learns what has changed.
    #[inline]
    pub(super) fn refresh(&mut self) {
        let shared = &self.source.0;
        let generation = shared.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.generation = generation;
            self.keys = Arc::clone(&shared.keys.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Whether a packet is one of ours.
    #[inline]
    pub(super) fn contain(&self, key: &FlowKey) -> bool {
        !self.keys.is_empty()
            && matches!(key.protocol(), TCP | UDP | SCTP)
            && self.keys.contains(&OwnExportKey::of(key))
    }
}

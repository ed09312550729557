// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The threads: each is a loop around a step, kept on its CPU, watched by its heartbeat, and ended by a deadline.

mod exporter;
mod harvester;
mod rest;
mod swapper;
mod worker;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use tracing::warn;

use rest::Rest;

use super::cores;
use crate::{bell::Bell, error::ProbeError, flow::Timestamp};

pub(super) use exporter::{ExportCommand, ExporterThread};
pub(super) use harvester::HarvesterThread;
pub(super) use swapper::SwapperThread;
pub(super) use worker::WorkerThread;

/// Counts turns, so that others can see that a thread moves on.
pub(super) type Heartbeat = Arc<AtomicU64>;

/// What a loop is told from outside, and tells.
#[derive(Clone, Default)]
pub(super) struct Running {
    stop: Arc<AtomicBool>,
    deadline: Arc<AtomicU64>,
    heartbeat: Heartbeat,
}

impl Running {
    /// Whether to go on; to be asked once each turn.
    pub(super) fn goes_on(&self) -> bool {
        self.heartbeat.fetch_add(1, Ordering::Relaxed);
        !self.stop.load(Ordering::Acquire)
    }

    /// Until when a stopping thread may go on.
    pub(super) fn deadline(&self) -> Timestamp {
        Timestamp(self.deadline.load(Ordering::Relaxed))
    }
}

/// A running thread.
pub(super) struct Handle<T> {
    name: String,
    thread: JoinHandle<T>,
    running: Running,
    /// Wakes it, where it rests for long.
    bell: Option<Bell>,
}

impl<T: Send + 'static> Handle<T> {
    /// Starts a thread on a CPU, if one is given.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(super) fn start(
        name: impl Into<String>,
        cpu: Option<usize>,
        body: impl FnOnce(&Running) -> T + Send + 'static,
    ) -> Result<Self, ProbeError> {
        let name = name.into();
        let running = Running::default();
        let (label, given) = (name.clone(), running.clone());
        let thread = thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                if !cores::pin(cpu) {
                    warn!(
                        "the thread {label} could not be kept on CPU {cpu:?}; it runs where the scheduler puts it"
                    );
                }
                body(&given)
            })
            .map_err(|error| ProbeError::host(format!("cannot start the thread {name}")).because(error))?;
        Ok(Self { name, thread, running, bell: None })
    }

    /// The same thread, which `bell` wakes when it is to end.
    #[must_use]
    pub(super) fn woken_by(self, bell: Bell) -> Self {
        Self { bell: Some(bell), ..self }
    }

    /// Whether it has not ended by itself.
    pub(super) fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Its turns.
    pub(super) fn heartbeat(&self) -> Heartbeat {
        Arc::clone(&self.running.heartbeat)
    }

    /// Tells it to end, until `deadline`.
    pub(super) fn tell_to_stop(&self, deadline: Timestamp) {
        self.running.deadline.store(deadline.0, Ordering::Relaxed);
        self.running.stop.store(true, Ordering::Release);
        self.bell.iter().for_each(Bell::ring);
    }

    /// Waits for its end, after it was told.
    ///
    /// # Errors
    /// When it panicked.
    pub(super) fn join(self) -> Result<T, ProbeError> {
        let Self { name, thread, .. } = self;
        thread.join().map_err(|_| ProbeError::run(format!("the thread {name} panicked; please report this")))
    }
}

/// Has all of these threads end until `deadline`, and waits for each, also when another one has failed.
///
/// # Errors
/// When one panicked: the first.
pub(super) fn stop_all(
    threads: impl IntoIterator<Item = Handle<()>>,
    deadline: Timestamp,
) -> Result<(), ProbeError> {
    let threads: Vec<_> = threads.into_iter().collect();
    threads.iter().for_each(|thread| thread.tell_to_stop(deadline));
    threads.into_iter().map(Handle::join).fold(Ok(()), Result::and)
}

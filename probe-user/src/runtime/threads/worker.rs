// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The threads that meter packets in user space.

use std::time::Duration;

use super::{Handle, Heartbeat, Running};
use crate::{
    error::ProbeError,
    flow::Timestamp,
    meter::{Activity, Worker, WorkerHandle},
    runtime::clock,
};

/// Longest rest of an idle worker: the swap waits for it.
const REST: Duration = Duration::from_millis(5);

/// One of them.
pub(in super::super) struct WorkerThread {
    thread: Handle<()>,
    handle: WorkerHandle,
}

impl WorkerThread {
    /// Starts it.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(in super::super) fn start(
        name: String,
        worker: Worker,
        handle: WorkerHandle,
        cpu: Option<usize>,
    ) -> Result<Self, ProbeError> {
        let thread = Handle::start(name, cpu, move |running| work(worker, running))?;
        Ok(Self { thread, handle })
    }

    /// Leads to the worker.
    pub(in super::super) fn handle(&self) -> &WorkerHandle {
        &self.handle
    }

    /// Whether it has not ended by itself.
    pub(in super::super) fn is_running(&self) -> bool {
        self.thread.is_running()
    }

    /// Its turns.
    pub(in super::super) fn heartbeat(&self) -> Heartbeat {
        self.thread.heartbeat()
    }

    /// Has it count what still waits, and end.
    pub(in super::super) fn tell_to_stop(&self, deadline: Timestamp) {
        self.thread.tell_to_stop(deadline);
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it panicked.
    pub(in super::super) fn join(self) -> Result<(), ProbeError> {
        self.thread.join()
    }
}

fn work(mut worker: Worker, running: &Running) {
    while running.goes_on() {
        if worker.step(clock::now()) == Activity::Idle {
            worker.rest(REST);
        }
    }
    worker.finish(clock::now());
}

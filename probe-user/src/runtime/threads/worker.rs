// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The threads that meter packets in user space.

use super::{Handle, Running};
use crate::{
    error::ProbeError,
    meter::{Activity, Worker, WorkerHandle},
    runtime::clock,
};

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
        let thread = thread.woken_by(handle.bell().clone());
        Ok(Self { thread, handle })
    }

    /// Leads to the worker.
    pub(in super::super) fn handle(&self) -> &WorkerHandle {
        &self.handle
    }

    /// The thread.
    pub(in super::super) fn thread(&self) -> &Handle<()> {
        &self.thread
    }

    /// The thread, to be stopped: it counts first what still waits.
    pub(in super::super) fn into_thread(self) -> Handle<()> {
        self.thread
    }
}

fn work(mut worker: Worker, running: &Running) {
    while running.goes_on() {
        if worker.step(clock::now()) == Activity::Idle {
            worker.rest();
        }
    }
    worker.finish(clock::now());
}

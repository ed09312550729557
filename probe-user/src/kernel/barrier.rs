// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Waiting for running programs.
//!
//! An update of a map of maps returns only when every program that was running has ended:
//! `maybe_wait_bpf_programs` calls `synchronize_rcu` (kernel/bpf/syscall.c). So after a flip of the epoch
//! and one such update, nobody writes the quiet half any more. The wait takes some 10 ms, and the spill
//! rings must be drained meanwhile: it happens on a thread of its own.

use std::{
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use aya::maps::{Array, ArrayOfMaps, MapData};

use super::KernelError;

/// The map that nobody reads.
pub struct Barrier {
    outer: ArrayOfMaps<MapData, Array<MapData, u32>>,
    inner: Array<MapData, u32>,
}

impl Barrier {
    pub(super) fn new(outer: ArrayOfMaps<MapData, Array<MapData, u32>>, inner: Array<MapData, u32>) -> Self {
        Self { outer, inner }
    }

    /// Returns when every program that runs now has ended.
    ///
    /// # Errors
    /// When the update fails, in which case nothing was waited for.
    pub fn wait(&mut self) -> Result<(), KernelError> {
        self.outer.set(0, &self.inner, 0).map_err(|error| KernelError::Call {
            attempted: "waiting for running XDP programs",
            error: io::Error::other(error),
        })
    }

    /// Gives the waiting to a thread.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(mut self) -> Result<BarrierThread, KernelError> {
        let (request, requests) = channel::<()>();
        let (done, answers) = channel();
        let thread = thread::Builder::new()
            .name("barrier".to_owned())
            .spawn(move || {
                while requests.recv().is_ok() {
                    if done.send(self.wait()).is_err() {
                        break;
                    }
                }
            })
            .map_err(|error| KernelError::Call { attempted: "starting the barrier thread", error })?;
        Ok(BarrierThread { request: Some(request), answers, thread: Some(thread) })
    }
}

/// A barrier that waits elsewhere. Ends its thread on drop.
pub struct BarrierThread {
    request: Option<Sender<()>>,
    answers: Receiver<Result<(), KernelError>>,
    thread: Option<JoinHandle<()>>,
}

impl BarrierThread {
    /// Begins to wait for the programs that run now.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn request(&self) -> Result<(), KernelError> {
        self.request.as_ref().and_then(|request| request.send(()).ok()).ok_or_else(gone)
    }

    /// Whether the wait that was requested is over; never blocks.
    ///
    /// # Errors
    /// When the wait failed, or the thread is gone.
    pub fn is_done(&self) -> Result<bool, KernelError> {
        match self.answers.try_recv() {
            Ok(result) => result.map(|()| true),
            Err(TryRecvError::Empty) => Ok(false),
            Err(TryRecvError::Disconnected) => Err(gone()),
        }
    }

    /// Blocks until the wait that was requested is over.
    ///
    /// # Errors
    /// When the wait failed, took longer than `limit`, or the thread is gone.
    pub fn finish(&self, limit: Duration) -> Result<(), KernelError> {
        match self.answers.recv_timeout(limit) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(KernelError::Call {
                attempted: "waiting for running XDP programs",
                error: io::ErrorKind::TimedOut.into(),
            }),
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
        }
    }
}

fn gone() -> KernelError {
    KernelError::Call {
        attempted: "waiting for running XDP programs",
        error: io::Error::other("the barrier thread has ended"),
    }
}

impl Drop for BarrierThread {
    fn drop(&mut self) {
        self.request = None;
        if let Some(thread) = self.thread.take() {
            // It ends as soon as its last wait does; a panic there was reported when it happened.
            thread.join().ok();
        }
    }
}

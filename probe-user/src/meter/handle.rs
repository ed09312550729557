// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How others reach a worker while it runs: what it is told, and what it tells.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use super::{FrameSource, SourceDrops, SourceError, SourceStatus};
use crate::bell::Bell;

/// Failures kept until somebody takes them.
const FAILURES: usize = 64;

/// What a worker is told.
pub(super) enum Command {
    /// Read this source from now on.
    Add(Box<dyn FrameSource>),
    /// Count what waits in the sources of this interface, and close them.
    Remove { interface: u32, done: Sender<()> },
}

/// What a worker tells.
#[derive(Default)]
pub(super) struct Shared {
    report: Mutex<WorkerReport>,
    failures: Mutex<Vec<SourceFailure>>,
}

impl Shared {
    pub(super) fn tell(&self, report: WorkerReport) {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }

    pub(super) fn fail(&self, failure: SourceFailure) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < FAILURES {
            failures.push(failure);
        }
    }
}

/// One source of a worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceReport {
    /// ifIndex of its interface.
    pub interface: u32,
    /// What there is to tell of it.
    pub status: SourceStatus,
    /// Frames that it has given.
    pub frames: u64,
    /// Frames the kernel could not give to it, as of the last turn.
    pub drops: SourceDrops,
}

/// A worker, as of its last turn or up to 100 ms ago. What became of the packets is in the counters of its row, what
/// became of fragments in those of the joiner.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct WorkerReport {
    /// Its sources.
    pub sources: Vec<SourceReport>,
    /// Frames taken since the start.
    pub frames: u64,
    /// Drops of all its sources since the start, also of those that are gone. Of these, `socket_full` are in the
    /// counters of the row as well.
    pub drops: SourceDrops,
}

/// Why a source is gone.
#[derive(Debug)]
pub struct SourceFailure {
    /// ifIndex of its interface.
    pub interface: u32,
    /// As in its status.
    pub queue: u32,
    /// What happened.
    pub error: SourceError,
}

/// Leads to a worker, from any thread.
#[derive(Clone)]
pub struct WorkerHandle {
    commands: Sender<Command>,
    shared: Arc<Shared>,
    bell: Bell,
}

impl WorkerHandle {
    pub(super) fn new(commands: Sender<Command>, shared: Arc<Shared>, bell: Bell) -> Self {
        Self { commands, shared, bell }
    }

    /// What wakes it.
    #[must_use]
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    fn tell(&self, command: Command) {
        self.commands.send(command).ok();
        self.bell.ring();
    }

    /// Gives it a source, which it reads from its next step on. A worker that has ended closes it unread.
    pub fn add(&self, source: Box<dyn FrameSource>) {
        self.tell(Command::Add(source));
    }

    /// Has it count what waits in the sources of this interface and close them. Whoever wants to open the same queues
    /// again waits for that.
    #[must_use]
    pub fn remove(&self, interface: u32) -> Removal {
        let (done, removed) = channel();
        self.tell(Command::Remove { interface, done });
        Removal(removed)
    }

    /// How it is doing.
    #[must_use]
    pub fn report(&self) -> WorkerReport {
        self.shared.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sources that have failed since the last call.
    #[must_use]
    pub fn take_failures(&self) -> Vec<SourceFailure> {
        std::mem::take(&mut *self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Sources that are to be closed.
pub struct Removal(Receiver<()>);

impl Removal {
    /// Returns when they are, or after `limit`; whether they are. A worker that has ended has none.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> bool {
        use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
        match self.0.recv_timeout(limit) {
            Ok(()) | Err(Disconnected) => true,
            Err(Timeout) => false,
        }
    }
}

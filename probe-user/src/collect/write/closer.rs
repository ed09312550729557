// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A thread that brings complete files to the disk: waiting for it would cost datagrams.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::part_file::PartFile;
use super::{Unwritten, WriteFormat, WriteTotals};

/// Files on their way to the disk, at least those of one interval. Whoever has one more waits.
const QUEUE: usize = 256;

/// A file to which nothing will be added.
pub(super) struct Complete {
    pub(super) part: PartFile,
    pub(super) format: WriteFormat,
    /// Records, or messages of IPFIX.
    pub(super) records: u64,
}

/// Totals that both threads count in.
#[derive(Clone, Default)]
pub(super) struct SharedTotals(Arc<Mutex<WriteTotals>>);

impl SharedTotals {
    pub(super) fn lock(&self) -> MutexGuard<'_, WriteTotals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module. Dropped, it waits until every file is where it belongs.
pub(super) struct Closer {
    queue: Option<SyncSender<Complete>>,
    thread: Option<JoinHandle<()>>,
    totals: SharedTotals,
}

impl Closer {
    pub(super) fn start(totals: SharedTotals) -> io::Result<Self> {
        let (queue, arriving) = sync_channel(QUEUE);
        let counted = totals.clone();
        let thread = thread::Builder::new()
            .name("file-closer".into())
            .spawn(move || close_all(&arriving, &counted))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), totals })
    }

    pub(super) fn close(&self, complete: Complete) {
        let refused = match &self.queue {
            Some(queue) => queue.send(complete).err().map(|refused| refused.0),
            None => Some(complete),
        };
        // The thread has gone, which it does only when it is told to: then it is done here.
        if let Some(complete) = refused {
            close(complete, &self.totals);
        }
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so itself.
            thread.join().ok();
        }
    }
}

fn close_all(arriving: &Receiver<Complete>, totals: &SharedTotals) {
    for complete in arriving {
        close(complete, totals);
    }
}

fn close(complete: Complete, totals: &SharedTotals) {
    let Complete { part, format, records } = complete;
    let path = part.path().to_owned();
    let result = part.publish();
    let mut totals = totals.lock();
    let totals = totals.of_mut(format);
    match result {
        Ok(path) => {
            totals.files += 1;
            totals.written += records;
            tracing::debug!("wrote {} with {records} records", path.display());
        }
        Err(error) => {
            totals.count(Unwritten::WriteError, records);
            tracing::error!(
                "completing {} failed: {error}; its {records} records are lost: check the disk",
                path.display()
            );
        }
    }
}

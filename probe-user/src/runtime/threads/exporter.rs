// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The threads that encode and send.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use super::{Handle, Rest, Running};
use crate::{
    error::ProbeError,
    export::{Endpoint, Exporter},
    runtime::clock,
};

/// Rests of an idle exporter. A queue of the default size lasts 80 ms at one and a half million flows a second.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(20);

/// What others ask of the exporter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum ExportCommand {
    /// The interface with the first index now has the second: the same domain goes on.
    Moved(u32, u32),
    /// The interface belongs to the domain of this number from now on.
    Added(u32, u8),
    /// The interface is not metered any more.
    Removed(u32),
    /// Tell all collectors again what templates and options tell.
    Refresh,
}

/// Our and the collector's end of every export socket, and how often that changed.
type SharedEndpoints = Arc<Mutex<(u64, Vec<Endpoint>)>>;

/// One of them.
pub(in super::super) struct ExporterThread {
    handle: Handle<()>,
    endpoints: SharedEndpoints,
    commands: Sender<ExportCommand>,
    print_closed: Arc<AtomicBool>,
}

impl ExporterThread {
    /// Starts it. `name` tells it from the others.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(in super::super) fn start(
        name: String,
        exporter: Exporter,
        cpu: Option<usize>,
    ) -> Result<Self, ProbeError> {
        let endpoints: SharedEndpoints = Arc::new(Mutex::new((exporter.connects(), exporter.endpoints())));
        let print_closed = Arc::new(AtomicBool::new(false));
        let (commands, receiver) = channel();
        let shared = Shared { endpoints: Arc::clone(&endpoints), print_closed: Arc::clone(&print_closed) };
        let handle = Handle::start(name, cpu, move |running| export(exporter, &receiver, &shared, running))?;
        Ok(Self { handle, endpoints, commands, print_closed })
    }

    /// Does what `command` asks, soon.
    pub(in super::super) fn command(&self, command: ExportCommand) {
        // If the thread has ended there is nothing to do it to; `is_running` tells.
        self.commands.send(command).ok();
    }

    /// The thread.
    pub(in super::super) fn thread(&self) -> &Handle<()> {
        &self.handle
    }

    /// How often an export socket was connected, and both ends of each.
    pub(in super::super) fn endpoints(&self) -> (u64, Vec<Endpoint>) {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether whoever read the printed records has gone.
    pub(in super::super) fn print_closed(&self) -> bool {
        self.print_closed.load(Ordering::Relaxed)
    }

    /// The thread, to be stopped: it sends what is left until the deadline.
    pub(in super::super) fn into_thread(self) -> Handle<()> {
        self.handle
    }
}

struct Shared {
    endpoints: SharedEndpoints,
    print_closed: Arc<AtomicBool>,
}

fn export(mut exporter: Exporter, commands: &Receiver<ExportCommand>, shared: &Shared, running: &Running) {
    let mut connects = exporter.connects();
    let mut rest = Rest::new(SHORTEST, LONGEST);
    while running.goes_on() {
        while let Ok(command) = commands.try_recv() {
            match command {
                ExportCommand::Moved(from, to) => exporter.moved(from, to),
                ExportCommand::Added(index, domain) => exporter.add_interface(index, domain),
                ExportCommand::Removed(index) => exporter.remove_interface(index),
                ExportCommand::Refresh => exporter.refresh(),
            }
        }
        let moment = clock::now();
        let progress = exporter.step(moment.wall.unix_ns(moment.now), moment.now);
        if exporter.connects() != connects {
            connects = exporter.connects();
            *shared.endpoints.lock().unwrap_or_else(PoisonError::into_inner) =
                (connects, exporter.endpoints());
        }
        if exporter.print_closed() {
            shared.print_closed.store(true, Ordering::Relaxed);
        }
        if progress.is_idle() {
            thread::sleep(rest.take());
        } else {
            rest.shorten();
        }
    }
    loop {
        let moment = clock::now();
        let progress = exporter.flush(moment.wall.unix_ns(moment.now), moment.now, running.deadline());
        if progress.done {
            return;
        }
        if progress.is_idle() {
            thread::sleep(SHORTEST);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The two pinned threads: harvester and exporter. Each is a loop around a step.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tracing::warn;

use super::{clock, cores};
use crate::{
    error::ProbeError,
    export::{Endpoint, Exporter},
    flow::Timestamp,
    harvest::{Activity, Command, Harvester},
    kernel::KernelError,
};

/// Rest of an idle harvester. A spill ring of the default size lasts 13 ms at 20 million records a second.
const HARVESTER_REST: Duration = Duration::from_micros(500);
/// Rest of an idle exporter.
const EXPORTER_REST: Duration = Duration::from_millis(1);

/// Counts turns, so that others can see that a thread moves on.
pub(super) type Heartbeat = Arc<AtomicU64>;

/// Until when a stopping thread may go on.
#[derive(Clone, Default)]
struct StopFlag {
    stop: Arc<AtomicBool>,
    deadline: Arc<AtomicU64>,
}

impl StopFlag {
    fn set(&self, deadline: Timestamp) {
        self.deadline.store(deadline.0, Ordering::Relaxed);
        self.stop.store(true, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn deadline(&self) -> Timestamp {
        Timestamp(self.deadline.load(Ordering::Relaxed))
    }
}

/// How a thread ended.
pub(super) type Stopped = Result<(), ProbeError>;

fn spawn<T: Send + 'static>(
    name: &str,
    cpu: Option<usize>,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, ProbeError> {
    let label = name.to_owned();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            if !cores::pin(cpu) {
                warn!("the {label} could not be kept on CPU {cpu:?}; it runs where the scheduler puts it");
            }
            body()
        })
        .map_err(|error| ProbeError::host(format!("cannot start the {name} thread")).because(error))
}

fn joined<T>(name: &str, thread: JoinHandle<T>) -> Result<T, ProbeError> {
    thread.join().map_err(|_| ProbeError::run(format!("the {name} thread panicked; please report this")))
}

/// The thread that drains, merges, expires and enqueues.
pub(super) struct HarvesterThread {
    thread: JoinHandle<Result<(), KernelError>>,
    commands: Sender<Command>,
    stop: StopFlag,
    heartbeat: Heartbeat,
}

impl HarvesterThread {
    /// Starts it.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(super) fn start(harvester: Harvester, cpu: Option<usize>) -> Result<Self, ProbeError> {
        let (commands, receiver) = channel();
        let (stop, heartbeat) = (StopFlag::default(), Heartbeat::default());
        let (flag, beat) = (stop.clone(), Arc::clone(&heartbeat));
        let thread = spawn("harvester", cpu, move || harvest(harvester, &receiver, &flag, &beat))?;
        Ok(Self { thread, commands, stop, heartbeat })
    }

    /// Asks it for something.
    pub(super) fn command(&self, command: Command) {
        // If the thread has ended there is nothing to do it to; `is_running` tells.
        self.commands.send(command).ok();
    }

    /// Whether it has not ended by itself.
    #[must_use]
    pub(super) fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Its turns.
    #[must_use]
    pub(super) fn heartbeat(&self) -> Heartbeat {
        Arc::clone(&self.heartbeat)
    }

    /// Exports all flows and ends; after `deadline`, records that find no room in the queue are lost.
    ///
    /// # Errors
    /// When it failed, now or before.
    pub(super) fn stop(self, deadline: Timestamp) -> Stopped {
        self.stop.set(deadline);
        joined("harvester", self.thread)?.map_err(ProbeError::from)
    }
}

fn harvest(
    mut harvester: Harvester,
    commands: &Receiver<Command>,
    stop: &StopFlag,
    heartbeat: &AtomicU64,
) -> Result<(), KernelError> {
    while !stop.is_set() {
        while let Ok(command) = commands.try_recv() {
            harvester.command(command);
        }
        heartbeat.fetch_add(1, Ordering::Relaxed);
        if harvester.step(clock::now())? == Activity::Idle {
            thread::sleep(HARVESTER_REST);
        }
    }
    harvester.finish(clock::now, || {
        thread::sleep(HARVESTER_REST);
        clock::now().now < stop.deadline()
    })
}

/// What others ask of the exporter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ExportCommand {
    /// The interface with the first index now has the second: the same domain goes on.
    Moved(u32, u32),
    /// Tell all collectors again what templates and options tell.
    Refresh,
}

/// Our and the collector's end of every export socket, and how often that changed.
pub(super) type SharedEndpoints = Arc<Mutex<(u64, Vec<Endpoint>)>>;

/// The thread that encodes and sends.
pub(super) struct ExporterThread {
    thread: JoinHandle<()>,
    stop: StopFlag,
    heartbeat: Heartbeat,
    endpoints: SharedEndpoints,
    commands: Sender<ExportCommand>,
    print_closed: Arc<AtomicBool>,
}

impl ExporterThread {
    /// Starts it.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(super) fn start(exporter: Exporter, cpu: Option<usize>) -> Result<Self, ProbeError> {
        let (stop, heartbeat) = (StopFlag::default(), Heartbeat::default());
        let endpoints: SharedEndpoints = Arc::new(Mutex::new((exporter.connects(), exporter.endpoints())));
        let print_closed = Arc::new(AtomicBool::new(false));
        let (commands, receiver) = channel();
        let thread = {
            let shared = Shared {
                stop: stop.clone(),
                heartbeat: Arc::clone(&heartbeat),
                endpoints: Arc::clone(&endpoints),
                print_closed: Arc::clone(&print_closed),
            };
            spawn("exporter", cpu, move || export(exporter, &receiver, &shared))?
        };
        Ok(Self { thread, stop, heartbeat, endpoints, commands, print_closed })
    }

    /// Does what `command` asks, soon.
    pub(super) fn command(&self, command: ExportCommand) {
        // If the thread has ended there is nothing to do it to; `is_running` tells.
        self.commands.send(command).ok();
    }

    /// Whether it has not ended by itself.
    #[must_use]
    pub(super) fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Its turns.
    #[must_use]
    pub(super) fn heartbeat(&self) -> Heartbeat {
        Arc::clone(&self.heartbeat)
    }

    /// Where the export sockets are connected.
    #[must_use]
    pub(super) fn endpoints(&self) -> SharedEndpoints {
        Arc::clone(&self.endpoints)
    }

    /// Whether whoever read the printed records has gone.
    #[must_use]
    pub(super) fn print_closed(&self) -> bool {
        self.print_closed.load(Ordering::Relaxed)
    }

    /// Sends what is left until `deadline`, and ends.
    ///
    /// # Errors
    /// When it failed.
    pub(super) fn stop(self, deadline: Timestamp) -> Stopped {
        self.stop.set(deadline);
        joined("exporter", self.thread)
    }
}

struct Shared {
    stop: StopFlag,
    heartbeat: Heartbeat,
    endpoints: SharedEndpoints,
    print_closed: Arc<AtomicBool>,
}

fn export(mut exporter: Exporter, commands: &Receiver<ExportCommand>, shared: &Shared) {
    let mut connects = exporter.connects();
    while !shared.stop.is_set() {
        while let Ok(command) = commands.try_recv() {
            match command {
                ExportCommand::Moved(from, to) => exporter.moved(from, to),
                ExportCommand::Refresh => exporter.refresh(),
            }
        }
        shared.heartbeat.fetch_add(1, Ordering::Relaxed);
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
            thread::sleep(EXPORTER_REST);
        }
    }
    loop {
        let moment = clock::now();
        let progress = exporter.flush(moment.wall.unix_ns(moment.now), moment.now, shared.stop.deadline());
        if progress.done {
            return;
        }
        if progress.is_idle() {
            thread::sleep(EXPORTER_REST);
        }
    }
}

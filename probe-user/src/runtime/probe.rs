// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The running probe: watches its parts, and stops them in reverse.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::poll::PollTimeout;
use sd_notify::NotifyState;
use tracing::{error, info, warn};

use super::{
    clock,
    engines::Engines,
    exporters::Exporters,
    interfaces::{Consequence, Interfaces},
    observe::Observer,
    overload::OverloadLog,
    own_export, reload,
    settle::Settle,
    signals::Signals,
    threads::{self, ExportCommand, HarvesterThread, SwapperThread},
    told::SharedFlowOptions,
    watch::Watch,
};
use crate::{
    cli::RunOptions,
    control::{Action, RunningControl},
    error::ProbeError,
    flow::Timestamp,
    harvest::Command,
    telemetry::{Ledger, http::RunningServer},
    throttle::Throttle,
};

/// How often the main thread looks around.
const LOOK: Duration = Duration::from_millis(50);
/// How often the kernel's clocks are compared.
const CLOCK: Duration = Duration::from_secs(10);
/// From the signal to the end: when the workers are done, the swapper, the
/// harvesters, and all. Five seconds are promised.
const WORKERS_END: Duration = Duration::from_millis(1000);
const SWAPPER_END: Duration = Duration::from_millis(1800);
const HARVESTER_END: Duration = Duration::from_millis(2500);
const EXPORTER_END: Duration = Duration::from_millis(4500);

/// A running probe.
pub struct Probe {
    pub(super) options: RunOptions,
    pub(super) engines: Engines,
    pub(super) interfaces: Interfaces,
    pub(super) settle: Settle,
    pub(super) swapper: SwapperThread,
    pub(super) harvesters: Vec<HarvesterThread>,
    pub(super) exporters: Exporters,
    pub(super) observer: Observer,
    pub(super) overload: OverloadLog,
    pub(super) own_exports: Option<u64>,
    pub(super) watch: Watch,
    pub(super) configured: Arc<AtomicU64>,
    pub(super) flow_options: SharedFlowOptions,
    pub(super) ready: Arc<AtomicBool>,
    pub(super) prints_only: bool,
    pub(super) complaint: Throttle,
    pub(super) clock_learned: Timestamp,
    pub(super) _http: Option<RunningServer>,
    pub(super) control: Option<RunningControl>,
}

impl Probe {
    /// Meters until a signal comes or a part fails, then stops.
    ///
    /// # Errors
    /// What failed; all that could be saved was exported.
    pub fn run(mut self, signals: &Signals) -> Result<Ledger, ProbeError> {
        notify(&[NotifyState::Ready]);
        let mut outcome = Ok(());
        while !signals.stop() && outcome.is_ok() {
            if signals.take_reload() {
                self.reload();
            }
            if self.answer() {
                info!("asked to end on the control socket");
                break;
            }
            outcome = self.look();
            if self.prints_only && self.exporters.print_closed() {
                info!("whoever read the printed flows has gone; stopping");
                break;
            }
            if !self.is_whole() {
                break;
            }
            nix::poll::poll(&mut [], PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO)).ok();
        }
        notify(&[NotifyState::Stopping]);
        let ledger = self.stop();
        outcome.and(ledger)
    }

    /// Does what was asked on the control socket; whether that was to end.
    fn answer(&mut self) -> bool {
        while let Some(request) = self.control.as_ref().and_then(RunningControl::next_request) {
            match request.action().clone() {
                Action::AddInterface(name) => {
                    let added = self.interfaces.add(&name, &mut self.engines);
                    request.answer(added.map(|(info, consequences)| self.carry_out_all(consequences, info)));
                }
                Action::RemoveInterface(name) => {
                    let removed = self.interfaces.remove(&name, &mut self.engines, &self.settle);
                    request.answer(removed.map(|consequences| self.carry_out_all(consequences, ())));
                }
                Action::Shutdown => {
                    request.answer(Ok(()));
                    return true;
                }
            }
        }
        false
    }

    fn carry_out_all<T>(&self, consequences: Vec<Consequence>, answer: T) -> T {
        consequences.into_iter().for_each(|consequence| self.carry_out(consequence));
        answer
    }

    /// Whether no thread has ended by itself.
    fn is_whole(&self) -> bool {
        self.swapper.is_running()
            && self.exporters.are_running()
            && self.engines.workers().are_running()
            && self.harvesters.iter().all(|harvester| harvester.thread().is_running())
    }

    fn command_harvesters(&self, command: Command) {
        self.harvesters.iter().for_each(|harvester| harvester.command(command));
    }

    /// One look around: interfaces, export sockets, watchdog.
    fn look(&mut self) -> Result<(), ProbeError> {
        let now = clock::now().now;
        match self.interfaces.follow(&mut self.engines, &self.settle, now) {
            Ok(consequences) => consequences.into_iter().for_each(|consequence| self.carry_out(consequence)),
            // Metering goes on; the next look may succeed.
            Err(error) => {
                if self.complaint.admit(now).is_some() {
                    warn!("changes of interfaces are not seen at present: {}", error.report());
                }
            }
        }
        self.tell_own_exports()?;
        self.engines.show_log();
        self.overload.show();
        if now.since(self.clock_learned) >= CLOCK {
            self.clock_learned = now;
            self.engines.learn_clock()?;
        }
        if self.watch.look(now) {
            notify(&[NotifyState::Watchdog]);
        }
        Ok(())
    }

    fn carry_out(&self, consequence: Consequence) {
        match consequence {
            Consequence::Flush(index) => self.command_harvesters(Command::FlushInterface(index)),
            Consequence::Moved(from, to) => self.exporters.command(ExportCommand::Moved(from, to)),
            Consequence::Added(index, domain) => {
                self.exporters.command(ExportCommand::Added(index, domain));
            }
            Consequence::Removed(index) => self.exporters.command(ExportCommand::Removed(index)),
        }
    }

    /// Keeps the kernel's list of our own datagrams up to date.
    pub(super) fn tell_own_exports(&mut self) -> Result<(), ProbeError> {
        let (changes, endpoints) = self.exporters.endpoints();
        if self.own_exports != Some(changes) {
            self.engines.set_own_exports(&own_export::keys(&endpoints))?;
            self.own_exports = Some(changes);
        }
        Ok(())
    }

    fn reload(&mut self) {
        notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Ready)]);
        match reload::read(&self.options) {
            Ok(changes) => {
                if let Some(expiry) = changes.expiry {
                    self.command_harvesters(Command::SetExpiry(expiry));
                }
                for name in &changes.need_restart {
                    warn!(
                        "configuration read again: {name} has changed, which takes effect at the next start"
                    );
                }
                info!("configuration read again: {}", changes.summary());
                *self.flow_options.lock().unwrap_or_else(PoisonError::into_inner) = changes.flow.clone();
                self.options.flow = changes.flow;
                self.exporters.command(ExportCommand::Refresh);
                let moment = clock::now();
                self.configured.store(moment.wall.unix_ns(moment.now), Ordering::Relaxed);
            }
            Err(error) => error!("configuration not read again, the old one stays: {}", error.report()),
        }
        notify(&[NotifyState::Ready]);
    }

    /// Detaches, exports what there is, and ends all threads.
    fn stop(mut self) -> Result<Ledger, ProbeError> {
        info!("stopping: exporting what is left");
        if let Some(control) = &mut self.control {
            control.refuse_requests();
        }
        self.ready.store(false, Ordering::Relaxed);
        let now = clock::now().now;
        self.interfaces.detach(&mut self.engines, &self.settle);
        let workers = self.engines.into_workers().stop(now + WORKERS_END);
        let swapper = self.swapper.stop(now + SWAPPER_END);
        let harvesters = self.harvesters.into_iter().map(HarvesterThread::into_thread);
        let harvested = threads::stop_all(harvesters, now + HARVESTER_END);
        let swapped = swapper.map(|mut swapper| swapper.conclude());
        let exported = self.exporters.stop(now + EXPORTER_END);
        self.overload.show();
        workers.and(swapped).and(harvested).and(exported)?;
        Ok(self.observer.ledger())
    }
}

/// Tells systemd, if it is there.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("cannot notify systemd: {error}");
    }
}

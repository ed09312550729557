// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The exporters: one thread for each format.

use super::threads::{self, ExportCommand, ExporterThread, Handle, Heartbeat};
use crate::{
    error::ProbeError,
    export::{Endpoint, FormatExporter},
    flow::Timestamp,
};

/// Running exporters.
pub(super) struct Exporters(Vec<ExporterThread>);

impl Exporters {
    /// Starts them, each on its CPU if there is one for it.
    ///
    /// # Errors
    /// When a thread cannot be had.
    pub(super) fn start(exporters: Vec<FormatExporter>, cpus: &[Option<usize>]) -> Result<Self, ProbeError> {
        let name = |format: Option<&str>| format.map_or("exporter".to_owned(), |it| format!("exporter-{it}"));
        let start = |(number, (format, exporter))| {
            ExporterThread::start(name(format), exporter, cpus.get(number).copied().flatten())
        };
        exporters.into_iter().enumerate().map(start).collect::<Result<_, _>>().map(Self)
    }

    /// All of them do what `command` asks, soon.
    pub(super) fn command(&self, command: ExportCommand) {
        self.0.iter().for_each(|exporter| exporter.command(command));
    }

    /// Whether none has ended by itself.
    pub(super) fn are_running(&self) -> bool {
        self.0.iter().all(|exporter| exporter.thread().is_running())
    }

    /// Their turns.
    pub(super) fn heartbeats(&self) -> impl Iterator<Item = Heartbeat> {
        self.0.iter().map(|exporter| exporter.thread().heartbeat())
    }

    /// Both ends of every export socket, and a number that differs when they do.
    pub(super) fn endpoints(&self) -> (u64, Vec<Endpoint>) {
        let each = self.0.iter().map(ExporterThread::endpoints);
        each.fold((0, Vec::new()), |(changes, all), (more, these)| (changes + more, [all, these].concat()))
    }

    /// Whether whoever read the printed records has gone.
    pub(super) fn print_closed(&self) -> bool {
        self.0.iter().any(ExporterThread::print_closed)
    }

    /// Sends what is left until `deadline`, and ends.
    ///
    /// # Errors
    /// When one failed.
    pub(super) fn stop(self, deadline: Timestamp) -> Result<(), ProbeError> {
        let threads: Vec<Handle<()>> = self.0.into_iter().map(ExporterThread::into_thread).collect();
        threads::stop_all(threads, deadline)
    }
}

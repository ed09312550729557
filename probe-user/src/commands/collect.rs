// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `probe collect`.

use std::{
    io::{self, Write},
    time::Duration,
};

use tracing::info;

use crate::{
    cli::{CollectFormat, CollectOptions, FileFormat},
    collect::{
        CollectError, Collector, CollectorOptions, OutputFormat,
        write::{RecordWriter, WriteFormat, WriteOptions},
    },
    error::ProbeError,
    flow::Moment,
    runtime::{self, Signals},
    telemetry::log,
};

/// Longest wait for a datagram, so that a signal is heard soon.
const WAIT: Duration = Duration::from_millis(100);

/// Collects until it is told or has reason to end.
///
/// # Errors
/// When it cannot listen, receive or write.
pub fn collect(options: &CollectOptions) -> Result<(), ProbeError> {
    log::start(&options.log)?;
    let signals =
        Signals::listen().map_err(|error| ProbeError::host("cannot listen to signals").because(error))?;
    let format = match options.format {
        CollectFormat::Text => OutputFormat::Text,
        CollectFormat::Json => OutputFormat::Json,
        CollectFormat::Csv => OutputFormat::Csv,
    };
    let files = options.write.as_ref().map(|directory| WriteOptions {
        directory: directory.clone(),
        rotate: options.rotate,
        formats: options.write_format.iter().copied().map(write_format).collect(),
    });
    let options = CollectorOptions {
        listen: options.listen.0,
        format,
        count: options.count,
        idle_exit: options.idle_exit,
    };
    let mut collector = Collector::bind(options, Box::new(io::stdout())).map_err(failed)?;
    if let Some(files) = &files {
        let writer = RecordWriter::open(files.clone(), unix_ns())
            .map_err(|error| ProbeError::host(error.to_string()))?;
        collector.write_files(writer);
    }
    info!("listening on udp://{}", collector.local_addr());
    let ended = loop {
        if signals.stop() {
            break Ok(());
        }
        collector.turn_files(unix_ns());
        match collector.step(runtime::now().now, WAIT) {
            Ok(progress) if progress.finished => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(failed(error)),
        }
    };
    // Whatever ended it, what was received is in complete files.
    let written = collector.finish_files(unix_ns());
    let mut stderr = io::stderr().lock();
    // With standard error closed, the records on standard output must do.
    collector.summarize(&mut stderr).and_then(|()| stderr.flush()).ok();
    if let (Some(files), Some(written)) = (files, written) {
        written.summarize(&files.formats, &mut stderr).and_then(|()| stderr.flush()).ok();
    }
    ended
}

fn unix_ns() -> u64 {
    let Moment { now, wall } = runtime::now();
    wall.unix_ns(now)
}

fn write_format(format: FileFormat) -> WriteFormat {
    match format {
        FileFormat::Json => WriteFormat::Json,
        FileFormat::Ipfix => WriteFormat::Ipfix,
        FileFormat::Parquet => WriteFormat::Parquet,
    }
}

fn failed(error: CollectError) -> ProbeError {
    match error {
        CollectError::Listen { .. } => ProbeError::host(error.to_string()),
        _ => ProbeError::run(error.to_string()),
    }
}

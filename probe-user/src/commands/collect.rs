// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `probe collect`.

use std::{
    io::{self, Write},
    time::Duration,
};

use tracing::info;

use crate::{
    cli::{CollectFormat, CollectOptions},
    collect::{CollectError, Collector, CollectorOptions, OutputFormat},
    error::ProbeError,
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
    let options = CollectorOptions {
        listen: options.listen.0,
        format,
        count: options.count,
        idle_exit: options.idle_exit,
    };
    let mut collector = Collector::bind(options, Box::new(io::stdout())).map_err(failed)?;
    info!("listening on udp://{}", collector.local_addr());
    while !signals.stop() && !collector.step(runtime::now().now, WAIT).map_err(failed)?.finished {}
    let mut stderr = io::stderr().lock();
    // With standard error closed, the records on standard output must do.
    collector.summarize(&mut stderr).and_then(|()| stderr.flush()).ok();
    Ok(())
}

fn failed(error: CollectError) -> ProbeError {
    match error {
        CollectError::Listen { .. } => ProbeError::host(error.to_string()),
        _ => ProbeError::run(error.to_string()),
    }
}

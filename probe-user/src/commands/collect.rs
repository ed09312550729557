// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `probe collect`.

use std::{
    io::{self, Write},
    time::Duration,
};

use tracing::info;

use crate::{
    cli::{CollectFormat, CollectOptions},
    collect::{CollectError, Collector, CollectorOptions, OutputFormat, TlsFiles, Transport},
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
    let tls = match (&options.tls_cert, &options.tls_key) {
        (Some(certificates), Some(key)) => Some(TlsFiles {
            certificates: certificates.clone(),
            key: key.clone(),
            authorities: options.tls_ca.clone(),
        }),
        _ => None,
    };
    if let Some(url) = options.listen.iter().find(|url| url.transport == Transport::Tls)
        && tls.is_none()
    {
        let message = format!("cannot listen on {url} without a certificate");
        return Err(ProbeError::usage(message).hint("give --tls-cert and --tls-key"));
    }
    let options = CollectorOptions {
        listen: options.listen.clone(),
        tls,
        format,
        show_options: options.options,
        count: options.count,
        idle_exit: options.idle_exit,
    };
    let mut collector = Collector::bind(options, Box::new(io::stdout())).map_err(failed)?;
    for url in collector.listens() {
        info!("listening on {url}");
    }
    while !signals.stop() && !collector.step(runtime::now().now, WAIT).map_err(failed)?.finished {}
    let mut stderr = io::stderr().lock();
    // With standard error closed, the records on standard output must do.
    collector.summarize(&mut stderr).and_then(|()| stderr.flush()).ok();
    Ok(())
}

fn failed(error: CollectError) -> ProbeError {
    match error {
        CollectError::Tls(_) => ProbeError::usage(error.to_string()),
        CollectError::Listen { .. } => ProbeError::host(error.to_string()),
        _ => ProbeError::run(error.to_string()),
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `probe collect`.

use std::{
    error::Error,
    fs::File,
    io::{self, BufReader, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use tracing::info;

use crate::{
    cli::{CollectFormat, CollectOptions, FileFormat},
    collect::{
        CollectError, Collector, CollectorOptions, IpfixFileReader, OutputFormat, TlsFiles, Transport,
        decode::Source,
        write::{RecordWriter, WriteFormat, WriteOptions},
    },
    error::ProbeError,
    flow::Moment,
    runtime::{self, Signals},
    telemetry::log,
};

/// Longest wait for a datagram, so that a signal is heard soon.
const WAIT: Duration = Duration::from_millis(100);
const READ_BUFFER: usize = 256 << 10;

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
        CollectFormat::None => OutputFormat::None,
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
    let read = options.read.clone();
    let files = options.write.as_ref().map(|directory| WriteOptions {
        directory: directory.clone(),
        rotate: options.rotate,
        formats: options.write_format.iter().copied().map(write_format).collect(),
    });
    let options = CollectorOptions {
        listen: if read.is_empty() { options.listen.clone() } else { Vec::new() },
        tls,
        format,
        show_options: options.options,
        count: options.count,
        idle_exit: options.idle_exit,
    };
    let mut collector = Collector::bind(options, Box::new(io::stdout())).map_err(failed)?;
    if let Some(files) = &files {
        let Moment { now, wall } = runtime::now();
        let writer = RecordWriter::open(files.clone(), wall.unix_ns(now))
            .map_err(|error| ProbeError::host(error.to_string()))?;
        collector.write_files(writer);
    }
    for url in collector.listens() {
        info!("listening on {url}");
    }
    let ended = if read.is_empty() {
        listen(&mut collector, &signals)
    } else {
        read_files(&mut collector, &read, &signals)
    };
    // Whatever ended it, what was received is in complete files.
    let written = collector.finish_files();
    let mut stderr = io::stderr().lock();
    // With standard error closed, the records on standard output must do.
    collector.summarize(&mut stderr).and_then(|()| stderr.flush()).ok();
    if let (Some(files), Some(written)) = (files, written) {
        written.summarize(&files.formats, &mut stderr).and_then(|()| stderr.flush()).ok();
        if written.lost() > 0 {
            // A script must not take these files for all there was.
            let lost = format!("{} records or messages could not be written", written.lost());
            return ended.and(Err(
                ProbeError::run(lost).hint("the messages above say why; make room, and collect again")
            ));
        }
    }
    ended
}

fn listen(collector: &mut Collector, signals: &Signals) -> Result<(), ProbeError> {
    while !signals.stop() {
        let Moment { now, wall } = runtime::now();
        collector.turn_files(wall.unix_ns(now));
        if collector.step(now, WAIT).map_err(failed)?.finished {
            break;
        }
    }
    Ok(())
}

/// Why a file was not read to its end.
enum Unread {
    /// The file's fault.
    File(ProbeError),
    /// Nobody takes what is read.
    Output(ProbeError),
}

/// Reads one file after the other. One that cannot be read on keeps nobody from the others; the first error is
/// returned.
fn read_files(collector: &mut Collector, files: &[PathBuf], signals: &Signals) -> Result<(), ProbeError> {
    let mut ended = Ok(());
    for (path, stream) in files.iter().zip(1..) {
        let read = read_file(collector, path, stream, signals);
        collector.forget(stream).map_err(failed)?;
        match read {
            Ok(true) => break,
            Ok(false) => {}
            Err(Unread::File(error)) => {
                if ended.is_err() || files.len() > 1 {
                    tracing::error!("{}", error.report());
                }
                ended = ended.and(Err(error));
            }
            Err(Unread::Output(error)) => return Err(error),
        }
    }
    ended
}

/// Returns whether enough was read.
fn read_file(collector: &mut Collector, path: &Path, stream: u64, signals: &Signals) -> Result<bool, Unread> {
    let unread = |error: Box<dyn Error + Send + Sync>| {
        Unread::File(ProbeError::run(format!("cannot read {}", path.display())).because(error))
    };
    let file = File::open(path).map_err(|error| unread(error.into()))?;
    let mut reader = IpfixFileReader::new(BufReader::with_capacity(READ_BUFFER, file));
    let from = Source { exporter: None, stream };
    let mut latest_ns = 0;
    while let Some(message) = reader.next_message() {
        let message = message.map_err(|error| unread(error.into()))?;
        // Files are written by the time of the messages; a message that was overtaken does not set it back.
        latest_ns = latest_ns.max(exported_ns(message));
        collector.turn_files(latest_ns);
        let full = collector.message(from, message, runtime::now().now);
        if full.map_err(|error| Unread::Output(failed(error)))? || signals.stop() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// When an IPFIX message was exported (RFC 7011 section 3.1).
fn exported_ns(message: &[u8]) -> u64 {
    let seconds = message.get(4..8).and_then(|octets| octets.first_chunk().copied());
    u64::from(seconds.map_or(0, u32::from_be_bytes)) * 1_000_000_000
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
        CollectError::Tls(_) => ProbeError::usage(error.to_string()),
        CollectError::Listen { .. } => ProbeError::host(error.to_string()),
        _ => ProbeError::run(error.to_string()),
    }
}

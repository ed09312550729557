// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where records go, as the options say.

use std::io;

use crate::{
    cli::RecordFormat,
    error::ProbeError,
    export::{CollectorUrl, OpenCollector, PrintFormat, Printer, open},
};

/// As many streams of its own as the kernel program can tell (map `OWN_EXPORT`).
const MAX_COLLECTORS: usize = 256;

/// Collectors of the options, with their sockets.
pub(crate) fn collectors(urls: &[String]) -> Result<Vec<OpenCollector>, ProbeError> {
    if urls.len() > MAX_COLLECTORS {
        return Err(ProbeError::usage(format!(
            "{} collectors are given, and at most {MAX_COLLECTORS} can be served",
            urls.len()
        ))
        .hint("let one collector replicate to the others"));
    }
    let mut collectors: Vec<OpenCollector> = Vec::new();
    for text in urls {
        let url: CollectorUrl = text.parse().map_err(|error| ProbeError::usage(format!("{error}")))?;
        if collectors.iter().any(|(known, _)| known.to_string() == url.to_string()) {
            return Err(ProbeError::usage(format!("collector {url} is given twice"))
                .hint("name each collector once; every one gets every record"));
        }
        let sink = open(&url).map_err(|error| match error.is_usage() {
            true => ProbeError::usage(error.to_string()),
            false => ProbeError::host(error.to_string()),
        })?;
        collectors.push((url, sink));
    }
    Ok(collectors)
}

/// A printer to standard output.
pub(crate) fn printer(format: RecordFormat) -> Printer {
    let format = match format {
        RecordFormat::Text => PrintFormat::Text,
        RecordFormat::Json => PrintFormat::Json,
    };
    Printer::new(format, Box::new(io::stdout()))
}
